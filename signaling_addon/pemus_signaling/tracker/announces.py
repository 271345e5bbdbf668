"""The messages between WebTorrent clients and a tracker.

They are those of npm's `bittorrent-tracker` (https://github.com/webtorrent/bittorrent-tracker, `server.js` and
`lib/server/parse-websocket.js`): JSON, in which a value of 20 bytes is a string of 20 characters, one per byte.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Any, Final, TypeGuard

import orjson

MAX_SDP: Final = 16 * 1024
"""Maximum length of a session description (RFC 8866), in characters. That of a host with many addresses has 4,000."""
MAX_OFFER_ID: Final = 64
MAX_SCRAPED: Final = 64
"""Torrents in one scrape."""

_EVENTS: Final = {
    None: "update",
    "": "update",
    "empty": "update",
    "update": "update",
    "paused": "update",
    "started": "started",
    "completed": "completed",
    "stopped": "stopped",
}
"""The events of BEP 3, and `paused` of BEP 21."""


class MalformedError(ValueError):
    """A message is invalid. `reply` is the answer to its sender."""

    def __init__(self, reason: str, message: dict[str, Any]) -> None:
        """Give the reason, and the message."""
        super().__init__(reason)
        info_hash = message.get("info_hash")
        self.reply = failure(
            reason,
            info_hash if is_binary(info_hash) else None,
            "scrape" if message.get("action") == "scrape" else "announce",
        )


@dataclass(slots=True)
class Announce:
    """A peer joins, stays in or leaves a swarm."""

    info_hash: str
    peer_id: str
    event: str
    """`started`, `completed`, `stopped` or `update`."""
    left: float
    """Bytes that the peer lacks. Infinite if unknown, as with a magnet link."""
    offers: list[tuple[str, str]]
    """IDs and session descriptions, at most as many as the peer wants connections."""


@dataclass(slots=True)
class Answer:
    """A peer answers the offer of another one."""

    info_hash: str
    peer_id: str
    to_peer_id: str
    offer_id: str
    sdp: str


@dataclass(slots=True)
class Scrape:
    """A client asks for the numbers of peers."""

    info_hashes: list[str]
    """Empty for those that the client announced."""


def read(message: bytes) -> Announce | Answer | Scrape:
    """Return the content of a message.

    Raises:
        MalformedError: The message is invalid.
        ValueError: It is not even a JSON object.

    """
    said = orjson.loads(message)
    if not isinstance(said, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the peer made the mistake, not the caller
    action = said.get("action")
    if action == "scrape":
        return _read_scrape(said)
    if action != "announce":
        raise MalformedError("invalid action", said)
    info_hash, peer_id = said.get("info_hash"), said.get("peer_id")
    if not is_binary(info_hash):
        raise MalformedError("invalid info_hash", said)
    if not is_binary(peer_id):
        raise MalformedError("invalid peer_id", said)
    if said.get("answer"):
        return _read_answer(said, info_hash, peer_id)
    event = said.get("event")
    if (event is not None and not isinstance(event, str)) or event not in _EVENTS:
        raise MalformedError("invalid event", said)
    event = _EVENTS[event]
    left = 0.0 if event == "completed" else _number(said.get("left"))
    offers = said.get("offers")
    if not isinstance(offers, list) or event == "stopped":
        return Announce(info_hash, peer_id, event, left, [])
    wanted = _number(said.get("numwant"))
    if wanted < len(offers):
        del offers[int(wanted) :]
    return Announce(info_hash, peer_id, event, left, _read_offers(offers))


def is_binary(value: object) -> TypeGuard[str]:
    """Return whether a value represents 20 bytes."""
    return (
        isinstance(value, str)
        and len(value) == 20
        and (value.isascii() or max(value) <= "\xff")
    )


def failure(reason: str, info_hash: str | None, action: str = "announce") -> bytes:
    """Return the answer to a message that fails."""
    said = {"action": action, "failure reason": reason}
    if info_hash is not None:
        said["info_hash"] = info_hash
    return orjson.dumps(said)


def _read_answer(said: dict[str, Any], info_hash: str, peer_id: str) -> Answer:
    to_peer_id, offer_id = said.get("to_peer_id"), said.get("offer_id")
    if not is_binary(to_peer_id):
        raise MalformedError("invalid to_peer_id", said)
    sdp = _description(said["answer"], "answer")
    if sdp is None or not _is_offer_id(offer_id):
        raise MalformedError("invalid answer", said)
    return Answer(info_hash, peer_id, to_peer_id, offer_id, sdp)


def _read_offers(offers: list[Any]) -> list[tuple[str, str]]:
    """Return IDs and descriptions. Invalid offers are left out."""
    return [
        (offer_id, sdp)
        for each in offers
        if isinstance(each, dict)
        and _is_offer_id(offer_id := each.get("offer_id"))
        and (sdp := _description(each.get("offer"), "offer")) is not None
    ]


def _read_scrape(said: dict[str, Any]) -> Scrape:
    asked = said.get("info_hash")
    if asked is None:
        return Scrape([])
    if isinstance(asked, str):
        asked = [asked]
    if not isinstance(asked, list) or not all(map(is_binary, asked)):
        raise MalformedError("invalid info_hash", said)
    if len(asked) > MAX_SCRAPED:
        raise MalformedError("too many info_hashes", said)
    return Scrape(list(dict.fromkeys(asked)))


def _is_offer_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_OFFER_ID


def _description(value: object, kind: str) -> str | None:
    if not isinstance(value, dict) or value.get("type") != kind:
        return None
    sdp = value.get("sdp")
    return sdp if isinstance(sdp, str) and len(sdp) <= MAX_SDP else None


def _number(value: object) -> float:
    """Return a number, infinite if it is missing or negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return math.inf
    return float(value)
