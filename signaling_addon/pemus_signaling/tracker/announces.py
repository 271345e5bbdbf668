"""What WebTorrent peers say to a tracker, and what it says to them.

The messages are those of npm's `bittorrent-tracker` (https://github.com/webtorrent/bittorrent-tracker, `server.js` and
`lib/server/parse-websocket.js`): JSON in which 20 bytes are a text of 20 characters, each of them a byte's value.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Any, Final, TypeGuard

import orjson

MAX_SDP: Final = 16 * 1024
"""Characters of a session description (RFC 8866). That of a host with many addresses takes 4,000."""
MAX_OFFER_ID: Final = 64
MAX_SCRAPED: Final = 64
"""Torrents that can be asked about at once."""

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
"""BEP 3, and `paused` of BEP 21."""


class MalformedError(ValueError):
    """A message can be read, but not done. `reply` tells its sender."""

    def __init__(self, reason: str, message: dict[str, Any]) -> None:
        """Tell what is wrong with a message."""
        super().__init__(reason)
        info_hash = message.get("info_hash")
        self.reply = failure(
            reason,
            info_hash if is_binary(info_hash) else None,
            "scrape" if message.get("action") == "scrape" else "announce",
        )


@dataclass(slots=True)
class Announce:
    """A peer says that it is in a swarm, or leaves it."""

    info_hash: str
    peer_id: str
    event: str
    """`started`, `completed`, `stopped` or `update`."""
    left: float
    """Bytes that it lacks; infinite if it does not know yet, because it has no more than a magnet link."""
    offers: list[tuple[str, str]]
    """Ids and session descriptions. At most as many as it wants peers."""


@dataclass(slots=True)
class Answer:
    """A peer answers another one's offer."""

    info_hash: str
    peer_id: str
    to_peer_id: str
    offer_id: str
    sdp: str


@dataclass(slots=True)
class Scrape:
    """Somebody asks how many peers swarms have."""

    info_hashes: list[str]
    """Empty: those that he announced."""


def read(message: bytes) -> Announce | Answer | Scrape:
    """Return what a message says.

    Raises:
        MalformedError: it is not what it should be.
        ValueError: it is no JSON object at all.

    """
    said = orjson.loads(message)
    if not isinstance(said, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - of a peer's, not of the caller's
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
    """Tell whether a value stands for 20 bytes."""
    return (
        isinstance(value, str)
        and len(value) == 20
        and (value.isascii() or max(value) <= "\xff")
    )


def failure(reason: str, info_hash: str | None, action: str = "announce") -> bytes:
    """Return what somebody gets whose message cannot be done."""
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
    """Return ids and descriptions. An offer that is none is left out."""
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
    """Return a number that is not negative; infinite if it is not told."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return math.inf
    return float(value)
