"""Plans the response to a request for a file: a pure function of the request headers and the file.

The order is that of RFC 9110 section 13.2.2: first the conditions, then If-Range, then Range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
import secrets
from typing import Final

from custom_components.pemus.p2p.models import LocalFile

from . import dlna
from .conditions import Validators, Verdict, evaluate, range_applies
from .naming import content_disposition, is_passive, safe_content_type
from .ranges import Span, Unsatisfiable, select

type Piece = bytes | Span
"""A part of the body: literal bytes, or a range of the file."""

_INERT: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""A sandboxed document without scripts and without Home Assistant's origin (Content Security Policy)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The response: status, headers, and body."""

    status: HTTPStatus
    headers: dict[str, str]
    body: tuple[Piece, ...] = ()

    @property
    def first(self) -> Span | None:
        """The first range of the file in the body."""
        return next((piece for piece in self.body if isinstance(piece, Span)), None)


def make_plan(
    method: str,
    request: Mapping[str, str],
    file: LocalFile,
    *,
    now: float,
    cache_control: str,
    for_renderers: bool = False,
) -> Plan:
    """Return the response to a GET or HEAD request for a file at the time `now` (Unix time)."""
    content_type = safe_content_type(file.content_type)
    extras: dict[str, str] = {}
    if for_renderers:
        try:
            extras = dlna.answer(request, content_type)
        except dlna.Refused as refused:
            return Plan(refused.status, _empty())

    validators = Validators.of(file.etag, file.mtime_ns, now)
    headers = {"ETag": file.etag, "Cache-Control": cache_control}
    if (last_modified := validators.last_modified) is not None:
        headers["Last-Modified"] = last_modified
    match evaluate(request, validators):
        case Verdict.FAILED:
            return Plan(HTTPStatus.PRECONDITION_FAILED, _empty())
        case Verdict.NOT_MODIFIED:
            return Plan(HTTPStatus.NOT_MODIFIED, headers)

    headers["Accept-Ranges"] = "bytes"
    asked = None
    if method == "GET" and range_applies(request.get("If-Range"), validators):
        asked = request.get("Range")
    try:
        spans = select(asked, file.size)
    except Unsatisfiable:
        headers |= _empty() | {"Content-Range": f"bytes */{file.size}"}
        return Plan(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)

    passive = is_passive(content_type)
    headers |= extras
    headers["Content-Type"] = content_type
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Disposition"] = content_disposition(
        file.name, attachment=not passive
    )
    if not passive:
        headers["Content-Security-Policy"] = _INERT

    body: tuple[Piece, ...]
    if spans is None:
        body = (Span(0, file.size),) if file.size else ()
    elif len(spans) == 1:
        body = spans
        headers["Content-Range"] = spans[0].content_range(file.size)
    else:
        boundary = secrets.token_hex(16)
        body = _multipart(spans, boundary, content_type, file.size)
        headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
    headers["Content-Length"] = str(sum(map(len, body)))
    status = HTTPStatus.OK if spans is None else HTTPStatus.PARTIAL_CONTENT
    return Plan(status, headers, body if method == "GET" else ())


def _empty() -> dict[str, str]:
    return {"Content-Length": "0"}


def _multipart(
    spans: tuple[Span, ...], boundary: str, content_type: str, size: int
) -> tuple[Piece, ...]:
    """Return the parts of a multipart/byteranges body (RFC 9110 section 14.6)."""
    pieces: list[Piece] = []
    for span in spans:
        head = (
            f"{'\r\n' if pieces else ''}--{boundary}\r\n"
            f"Content-Type: {content_type}\r\n"
            f"Content-Range: {span.content_range(size)}\r\n\r\n"
        )
        pieces += [head.encode("ascii"), span]
    return (*pieces, f"\r\n--{boundary}--\r\n".encode("ascii"))
