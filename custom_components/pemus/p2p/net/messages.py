"""Small signed messages, which homes exchange while there is no link between them.

They travel through a signalling server or the local network, neither of which is trusted: a message names its sender and
its receiver, carries the sender's key, which matches the sender's ID, and is signed. It is not encrypted.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
import binascii
from dataclasses import dataclass
import secrets
import time
from typing import Any, Final

import orjson

from ..models.codec import DecodeError, from_plain
from ..models.homes import is_home
from ..models.pemus_id import pemus_id
from .identity import Identity, is_signed

VERSION: Final = 1
"""The version of the protocol between homes. Messages of other versions are rejected."""
MAX_BODY: Final = 32 * 1024
"""Characters of a body."""
MAX_ENVELOPE: Final = 40 * 1024
"""Bytes of a message as JSON. An offer has 1 to 3 KiB."""
MAX_AGE: Final = 8 * 86400.0
"""Seconds for which a message is valid: longer than anything waits to be delivered."""
MAX_AHEAD: Final = 2 * 86400.0
"""Seconds that the sender's clock may be ahead: enough for a date that is wrong by a day."""

_DOMAIN: Final = b"pemus peers 1"
_MAX_KIND: Final = 32
_ID_BYTES: Final = 12


class BadEnvelope(ValueError):
    """The message was not signed by a home for this home. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sealed:
    v: int
    id: str
    sender: str
    receiver: str
    key: str
    at: float
    kind: str
    body: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message whose sender is proven."""

    id: str
    """Random. The same message may arrive over several transports."""
    sender: str
    key: bytes
    """The sender's public key."""
    kind: str
    body: bytes
    """A dataclass of the kind as JSON."""


def seal(identity: Identity, receiver: str, kind: str, body: bytes) -> dict[str, Any]:
    """Return a signed message to another home, as plain data."""
    id_, at = secrets.token_hex(_ID_BYTES), round(time.time(), 3)
    text = body.decode()
    signature = identity.sign(*_signed(id_, identity.id, receiver, at, kind, text))
    return {
        "v": VERSION,
        "id": id_,
        "sender": identity.id,
        "receiver": receiver,
        "key": to_base64url(identity.key),
        "at": at,
        "kind": kind,
        "body": text,
        "signature": to_base64url(signature),
    }


def opened(message: object, receiver: str) -> Envelope:
    """Return a message to the home `receiver` after all checks. Raises BadEnvelope."""
    try:
        parts = from_plain(_Sealed, message)
    except DecodeError as err:
        raise BadEnvelope(str(err)) from None
    if parts.v != VERSION:
        raise BadEnvelope("it is of another version of the protocol")
    if parts.receiver != receiver:
        raise BadEnvelope("it is for another home")
    if not is_home(parts.sender) or parts.sender == receiver:
        raise BadEnvelope("its sender is not another home")
    if len(parts.kind) > _MAX_KIND or len(parts.body) > MAX_BODY:
        raise BadEnvelope("it is too long")
    if len(parts.id) != 2 * _ID_BYTES or not parts.id.isalnum():
        raise BadEnvelope("it has no id")
    if not -MAX_AHEAD < time.time() - parts.at < MAX_AGE:
        raise BadEnvelope("its time is too far from now")
    key = from_base64url(parts.key)
    if pemus_id(key) != parts.sender:
        raise BadEnvelope("its key is not its sender's")
    signed = _signed(
        parts.id, parts.sender, parts.receiver, parts.at, parts.kind, parts.body
    )
    if not is_signed(key, from_base64url(parts.signature), *signed):
        raise BadEnvelope("its signature is wrong")
    return Envelope(
        id=parts.id,
        sender=parts.sender,
        key=key,
        kind=parts.kind,
        body=parts.body.encode(errors="replace"),
    )


def parse(payload: bytes | str) -> object:
    """Return the plain data in a message's JSON. Raises BadEnvelope."""
    if len(payload) > MAX_ENVELOPE:
        raise BadEnvelope("it is too long")
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise BadEnvelope("it is not JSON") from None


def to_base64url(data: bytes) -> str:
    """Return bytes as base64url without padding (RFC 4648 section 5)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return the bytes in a base64url text without padding. Raises BadEnvelope."""
    try:
        return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise BadEnvelope("something in it is not base64url") from None


def _signed(
    id_: str, sender: str, receiver: str, at: float, kind: str, body: str
) -> tuple[bytes, ...]:
    texts = (id_, sender, receiver, f"{at:.3f}", kind, body)
    return (_DOMAIN, *(text.encode(errors="replace") for text in texts))
