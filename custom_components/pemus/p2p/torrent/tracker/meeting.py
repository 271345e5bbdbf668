"""One torrent that two homes share: its offers and answers on their way between libtorrent and the other home."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
import secrets
import time
from typing import Any, Final

from aiohttp import web
import orjson

from ...core.timer import Timer
from .introductions import Introduction, description_in, id_for, id_in, offers_in
from .outbox import MAX_OUTGOING, Outbox

MAX_WAITING: Final = 4
"""Offers of one torrent that wait for an answer. A newer one replaces the oldest."""
OFFER_TIMEOUT: Final = 30.0
"""Seconds after which an offer is not answered any more. libtorrent keeps one for longer."""
OFFER_INTERVAL: Final = 1.0
"""Seconds between two offers. libtorrent announces at the same time for each address that it listens on."""
ANSWER_TIMEOUT: Final = 2.0
"""Seconds until libtorrent is made to announce again, when it leaves an offer unanswered: it answers a limited number of offers
after each announce, and none before the first."""
ANSWERS_PER_ANNOUNCE: Final = 5
"""Answers after which libtorrent is made to announce again. It answers no more than ten offers after an announce."""
MIN_RETRY: Final = 5.0
MAX_RETRY: Final = 60.0
"""Seconds until an unanswered offer is followed by a new one; twice as long each time."""
ANNOUNCE_INTERVAL: Final = 300
"""Seconds between announces that libtorrent makes by itself."""

_PREFIX: Final = b"-PM0000-"
"""Of the peer ids (BEP 20) that stand for other homes at this home's libtorrent."""


class Client:
    """A connection of libtorrent."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        """Prepare to send messages over a WebSocket."""
        self.socket = socket
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_OUTGOING)

    def put(self, message: dict[str, Any]) -> None:
        """Send a message, unless far too many wait already."""
        with suppress(asyncio.QueueFull):
            self._outgoing.put_nowait(message)

    async def write(self) -> None:
        """Send waiting messages until cancelled or disconnected."""
        with suppress(OSError, RuntimeError):
            while True:
                message = await self._outgoing.get()
                await self.socket.send_str(orjson.dumps(message).decode())


class _Offers:
    """The latest offers of one side, by id."""

    def __init__(self) -> None:
        self._offers: dict[str, tuple[str, float]] = {}

    def put(self, offer_id: str, sdp: str) -> None:
        while len(self._offers) >= MAX_WAITING:
            del self._offers[next(iter(self._offers))]
        self._offers[offer_id] = sdp, time.monotonic() + OFFER_TIMEOUT

    def take(self, offer_id: str) -> bool:
        """Remove an offer, and return whether there was one that can be answered."""
        _, until = self._offers.pop(offer_id, ("", 0.0))
        return time.monotonic() < until

    def alive(self) -> dict[str, str]:
        """Return the session descriptions of offers that can be answered, and forget all others."""
        now = time.monotonic()
        self._offers = {
            offer_id: offer
            for offer_id, offer in self._offers.items()
            if now < offer[1]
        }
        return {offer_id: sdp for offer_id, (sdp, _) in self._offers.items()}

    def clear(self) -> None:
        self._offers.clear()


class Meeting:
    """A torrent that this home and another one share."""

    def __init__(
        self,
        info_hash: str,
        outbox: Outbox,
        reannounce: Callable[[], None],
        hang_up: Callable[[], None],
        *,
        offers: bool,
    ) -> None:
        """Begin without offers. See `SignalingRelay.add`."""
        self.info_hash = info_hash
        self.client: Client | None = None
        """The connection on which libtorrent announced the torrent."""
        self.reannounce = reannounce
        self._outbox = outbox
        self._hang_up = hang_up
        self._is_offering = offers
        self._peer_id = (_PREFIX + secrets.token_bytes(12)).decode("latin-1")
        """Stands for the other home."""
        self._sent, self._received = _Offers(), _Offers()
        self._offered_at = float("-inf")
        self._retry_delay = MIN_RETRY
        self._retrying = Timer(self._retry)
        self._reminding = Timer(self._remind)
        self._answers = 0
        """How many libtorrent gave since its last announce."""

    def close(self) -> None:
        """Forget all offers."""
        self._sent.clear()
        self._received.clear()
        self._retrying.cancel()
        self._reminding.cancel()

    # From libtorrent.

    def announced(self, client: Client, message: dict[str, Any]) -> None:
        """Answer an announce with the offers of the other home, and pass an offer on to it."""
        self.client = client
        self._answers = 0
        client.put(
            {
                "action": "announce",
                "info_hash": message["info_hash"],
                "interval": ANNOUNCE_INTERVAL,
                "complete": 1,
                "incomplete": 1,
            }
        )
        for offer_id, sdp in self._received.alive().items():
            self._deliver("offer", offer_id, sdp)
        # A complete torrent needs no peers; libtorrent announces that too.
        now = time.monotonic()
        if (
            self._is_offering
            and message.get("left") != 0
            and now > self._offered_at + OFFER_INTERVAL
        ):
            for offer_id, sdp in offers_in(message):
                self._offered_at = now
                self._sent.put(offer_id, sdp)
                self._post("offer", offer_id, sdp)
                self._retrying.start(self._retry_delay)

    def answered(self, message: dict[str, Any]) -> None:
        """Pass on libtorrent's answer to an offer of the other home."""
        offer_id = id_in(message.get("offer_id"))
        sdp = description_in(message.get("answer"), "answer")
        if offer_id is None or sdp is None or not self._received.take(offer_id):
            return
        self._post("answer", offer_id, sdp)
        self._answers += 1
        if self._answers == ANSWERS_PER_ANNOUNCE:
            self.reannounce()

    # From the other home.

    def receive(self, got: Introduction) -> None:
        """Handle a message of the other home."""
        if got.type == "lost":
            # Only the home that offers connects again.
            if not self._is_offering:
                self._hang_up()
        elif got.type == "offer":
            if got.offer not in self._received.alive():
                self._received.put(got.offer, got.sdp)
                self._deliver("offer", got.offer, got.sdp)
                if self.client is None:
                    self._reminding.start(0)
                elif not self._reminding.is_running:
                    self._reminding.start(ANSWER_TIMEOUT)
        elif self._sent.take(got.offer) and self.client is not None:
            self._retrying.cancel()
            self._retry_delay = MIN_RETRY
            self._deliver("answer", got.offer, got.sdp)

    def _retry(self) -> None:
        """Offer again, because nobody answered."""
        self._retry_delay = min(MAX_RETRY, self._retry_delay * 2)
        self.reannounce()

    def _remind(self) -> None:
        """Make libtorrent announce until it has answered: an announce returns the offers to it once more."""
        if self._received.alive():
            self._reminding.start(ANSWER_TIMEOUT)
            self.reannounce()

    def _post(self, kind: str, offer_id: str, sdp: str) -> None:
        type_: Any = kind
        self._outbox.post(Introduction(type_, self.info_hash, offer_id, sdp))

    def _deliver(self, kind: str, offer_id: str, sdp: str) -> None:
        """Give libtorrent an offer or answer of the other home, if it is connected."""
        if self.client is not None:
            self.client.put(
                {
                    "action": "announce",
                    "info_hash": id_for(self.info_hash),
                    "peer_id": self._peer_id,
                    "offer_id": id_for(offer_id),
                    kind: {"type": kind, "sdp": sdp},
                }
            )
