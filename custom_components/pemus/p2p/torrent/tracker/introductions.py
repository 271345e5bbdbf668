"""Offers and answers, as they go over the channel between two homes and as libtorrent writes them.

The channel's messages are JSON: {"type": "offer" | "answer", "torrent": HEX, "offer": HEX, "sdp": TEXT}, and for a peer
that lost its connection {"type": "lost", "torrent": HEX}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import re
from typing import Any, Final, Literal

from ...models.codec import DecodeError, decode

MAX_MESSAGE: Final = 16 * 1024
"""Bytes of a message on the channel. The session description of a host with many addresses takes 2 KB."""
OFFERS_AT_ONCE: Final = 1
"""Offers of one announce that are passed on: there is one peer at the other end."""

_MAX_CANDIDATES: Final = 64
_HEX: Final = re.compile(r"[0-9a-f]{40}")
_SDP: Final = re.compile(r"v=0\r?\n[\x20-\x7e\r\n]*")


@dataclass(frozen=True, slots=True)
class Introduction:
    """A message on the channel: an offer, an answer, or that a connection is lost."""

    type: Literal["offer", "answer", "lost"]
    torrent: str
    """The info-hash, in hexadecimal digits."""
    offer: str = ""
    """The offer's id, in hexadecimal digits, chosen by the home that offers."""
    sdp: str = ""


def read(message: bytes) -> Introduction:
    """Return a message of the other home. Raises DecodeError."""
    if len(message) > MAX_MESSAGE:
        raise DecodeError("the message is too long")
    got = decode(Introduction, message)
    if got.type != "lost" and not (is_id(got.offer) and _is_sdp(got.sdp)):
        raise DecodeError("the offer or its description is malformed")
    return got


def is_id(text: str) -> bool:
    """Tell whether a text is an info-hash or an offer's id: 40 hexadecimal digits."""
    return _HEX.fullmatch(text) is not None


def id_in(value: object) -> str | None:
    """Return an id that libtorrent sent, None if it is malformed. WebTorrent writes 20 bytes as 20 characters."""
    if not isinstance(value, str) or len(value) != 20:
        return None
    try:
        return value.encode("latin-1").hex()
    except UnicodeEncodeError:
        return None


def id_for(digits: str) -> str:
    """Return an id as libtorrent reads it."""
    return bytes.fromhex(digits).decode("latin-1")


def offers_in(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield id and session description of the first offers of an announce."""
    offers = message.get("offers")
    for each in offers[:OFFERS_AT_ONCE] if isinstance(offers, list) else ():
        if isinstance(each, dict):
            offer_id = id_in(each.get("offer_id"))
            sdp = description_in(each.get("offer"), "offer")
            if offer_id is not None and sdp is not None:
                yield offer_id, sdp


def description_in(value: object, kind: str) -> str | None:
    """Return the session description in an offer or answer of libtorrent, None if it is malformed."""
    if not isinstance(value, dict) or value.get("type") != kind:
        return None
    sdp = value.get("sdp")
    return sdp if isinstance(sdp, str) and _is_sdp(sdp) else None


def _is_sdp(text: str) -> bool:
    """Whether a text can be a session description (RFC 8866) of one data channel, without too many addresses."""
    return (
        len(text) <= MAX_MESSAGE
        and _SDP.fullmatch(text) is not None
        and text.count("a=candidate:") <= _MAX_CANDIDATES
        and text.count("\nm=") == 1
    )
