"""The frames of a link: a pure codec.

A frame is a byte for its type, four bytes for the number of the request that it belongs to, and a payload. Frames of
unknown types are ignored, so that a later release may send more of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
import struct
from typing import Final

from ...models.codec import DecodeError, decode, encode

MAX_PAYLOAD: Final = 60 * 1024
"""Bytes of a request or an answer in one frame."""
MAX_REQUEST: Final = 320 * 1024
"""Bytes of a request: it may name the parts that somebody has of a long list."""
MAX_MESSAGE: Final = 16 * 1024
"""Bytes of a payload that is part of neither a request nor an answer."""

_HEAD: Final = struct.Struct(">BI")
_COUNT: Final = struct.Struct(">Q")


class FrameType(IntEnum):
    """The type of a frame."""

    HELLO = 1
    BYE = 2
    PING = 3
    PONG = 4
    ASK = 5
    """A request as JSON, or the last part of one whose other parts came as MORE."""
    DATA = 6
    """A part of an answer."""
    END = 7
    """The answer is complete."""
    REFUSE = 8
    """There is no answer, or no more of it: a `Refusal`."""
    CANCEL = 9
    """The answer is not wanted any more."""
    NOTE = 10
    """JSON that needs no answer."""
    INTRODUCE = 11
    """WebRTC signalling of a torrent (WebTorrent's offers and answers)."""
    MORE = 12
    """A part of a request that is too long for one frame, except for the last part."""
    TAKEN = 13
    """The number of bytes of an answer that the asking end has processed, in eight bytes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it arrived."""

    type: int
    number: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first frame of both ends."""

    versions: tuple[int, ...]
    release: str
    name: str
    instance: str
    """Random for each start of the engine: tells a copy of a home from the home itself."""
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """Why a link ends."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request. All kinds share one class; each uses the fields that it needs."""

    do: str
    item: str = ""
    etag: str = ""
    start: int = 0
    stop: int = 0
    index: int = 0
    have: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not answered. The error is a text because a later release may have more of them."""

    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that the other end should know."""

    about: str


class Reasons:
    """The reasons for the end of a link that the other end acts on."""

    GONE: Final = "gone"
    """The room is closed, or has expired."""
    USED_UP: Final = "used_up"
    DISCONNECTED: Final = "disconnected"
    """The owner of the room sent the guest away."""
    NOT_FRIENDS: Final = "not_friends"
    SUPERSEDED: Final = "superseded"
    REPLACED: Final = "replaced"
    IDLE: Final = "idle"
    STOPPING: Final = "stopping"
    VERSION: Final = "version"
    INVALID: Final = "invalid"
    UNSIGNED: Final = "unsigned"
    SILENT: Final = "silent"
    LOST: Final = "lost"


def pack(type_: FrameType, number: int = 0, payload: bytes = b"") -> bytes:
    """Return a frame as bytes."""
    return _HEAD.pack(type_, number) + payload


def unpack(message: bytes) -> Frame:
    """Return the frame in a message. Raises DecodeError."""
    if len(message) < _HEAD.size:
        raise DecodeError("a frame is too short")
    type_, number = _HEAD.unpack_from(message)
    return Frame(type_, number, message[_HEAD.size :])


def pack_request(number: int, ask: Ask) -> list[bytes]:
    """Return a request as one frame, or as several if it is too long for one."""
    request = encode(ask)
    parts = [
        request[start : start + MAX_PAYLOAD]
        for start in range(0, len(request), MAX_PAYLOAD)
    ]
    more = [pack(FrameType.MORE, number, each) for each in parts[:-1]]
    return [*more, pack(FrameType.ASK, number, parts[-1])]


def pack_count(number: int, count: int) -> bytes:
    """Return a frame that acknowledges so many bytes of an answer."""
    return pack(FrameType.TAKEN, number, _COUNT.pack(count))


def unpack_count(payload: bytes) -> int:
    """Return the number of acknowledged bytes. Raises DecodeError."""
    if len(payload) != _COUNT.size:
        raise DecodeError("a count does not have eight bytes")
    return int(_COUNT.unpack(payload)[0])


def unpack_json[T](kind: type[T], payload: bytes, limit: int = MAX_MESSAGE) -> T:
    """Return the JSON in a payload. Raises DecodeError, also for a payload that is longer than `limit`."""
    return decode(kind, bounded(payload, limit))


def bounded(payload: bytes, limit: int = MAX_MESSAGE) -> bytes:
    """Return a payload unless it is too long. Raises DecodeError."""
    if len(payload) > limit:
        raise DecodeError("a frame is too long")
    return payload
