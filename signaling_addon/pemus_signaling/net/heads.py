"""The heads of HTTP requests for a WebSocket (RFC 9112, RFC 6455)."""

from __future__ import annotations

from dataclasses import dataclass
import re
from typing import Final
from urllib.parse import unquote, unquote_plus

END: Final = b"\r\n\r\n"
MAX_FIELDS: Final = 100
"""Maximum number of fields in a head, or in a query."""

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64."""
_FIELDS: Final = frozenset(
    (
        "connection",
        "content-length",
        "host",
        "sec-websocket-key",
        "sec-websocket-version",
        "transfer-encoding",
        "upgrade",
    )
)


class HeadError(ValueError):
    """A head violates RFC 9112 or RFC 6455. The message is sent to the client."""


@dataclass(slots=True)
class Handshake:
    """A request for a WebSocket (RFC 6455, section 4.2.1)."""

    path: str
    query: dict[str, str]
    """The first value of each name."""
    key: str
    """Sec-WebSocket-Key."""
    host: str
    forwarded_for: list[str]


def wants_websocket(head: bytes) -> bool:
    """Return whether a head may be a request for a WebSocket, without parsing it."""
    return head.startswith(b"GET ") and (
        b"\nUpgrade:" in head or b"\nupgrade:" in head.lower()
    )


def read_handshake(head: bytes) -> Handshake | None:
    """Return the handshake in a head, or None if it is not for a WebSocket. Raises HeadError."""
    try:
        request, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = request.split(" ")
    except ValueError:
        raise HeadError("the request line is invalid") from None
    if len(lines) > MAX_FIELDS:
        raise HeadError("there are too many header fields")
    fields: dict[str, str] = {}
    forwarded_for = []
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        if name in _FIELDS:
            value = value.strip(" \t")
            # Repeated fields mean the same as one field with a list (RFC 9110, section 5.3).
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        elif name == "x-forwarded-for":
            forwarded_for.append(value.strip(" \t"))
    if not _has(fields, "upgrade", "websocket") or not _has(
        fields, "connection", "upgrade"
    ):
        return None
    if method != "GET" or version != "HTTP/1.1":
        raise HeadError("a WebSocket needs GET and HTTP/1.1")
    if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
        raise HeadError("a request for a WebSocket must not have a body")
    if fields.get("sec-websocket-version") != "13":
        raise HeadError("the server supports version 13 of WebSocket")
    key = fields.get("sec-websocket-key", "")
    if not _KEY.fullmatch(key):
        raise HeadError("Sec-WebSocket-Key is invalid")
    path, _, query = target.partition("?")
    return Handshake(
        path=unquote(path),
        query=read_query(query),
        key=key,
        host=fields.get("host", ""),
        forwarded_for=forwarded_for,
    )


def read_query(text: str) -> dict[str, str]:
    """Return the first value of each name in a query. Raises HeadError."""
    query: dict[str, str] = {}
    if text:
        pairs = text.split("&", MAX_FIELDS)
        if len(pairs) > MAX_FIELDS:
            raise HeadError("the query has too many parts")
        for pair in pairs:
            name, _, value = pair.partition("=")
            query.setdefault(_unquote(name), _unquote(value))
    return query


def _unquote(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text


def _has(fields: dict[str, str], name: str, word: str) -> bool:
    """Return whether the list in a field contains a word."""
    value = fields.get(name, "").lower()
    return value == word or word in [each.strip() for each in value.split(",")]
