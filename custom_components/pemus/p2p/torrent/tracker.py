"""A WebTorrent tracker on this machine's loopback address, which introduces libtorrent to peers of other homes.

libtorrent finds WebRTC peers through a tracker that speaks JSON over a WebSocket: offers and answers go in and come out
(https://github.com/webtorrent/bittorrent-tracker, `server.js`). Here both homes run such a tracker for their own
libtorrent alone, and what one hands in comes out at the other over a channel that both trust already:

    libtorrent <-> LoopbackTracker <-> channel <-> LoopbackTracker <-> libtorrent

So no tracker in the network learns an info-hash, and none has to be up. The channel authenticates the other home, and
with it the DTLS fingerprints that travel in the session descriptions (SDP). What arrives on it is not trusted any
further: it is checked, bounded, and only taken for torrents that were added for this very channel.

The channel's messages are JSON: {"type": "offer" | "answer", "torrent": HEX, "offer": HEX, "sdp": TEXT}, and for a peer
that lost its connection {"type": "lost", "torrent": HEX}.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
import contextlib
from dataclasses import dataclass, field
import logging
import re
import secrets
import time
from typing import Any, Final, Literal

from aiohttp import WSMsgType, web
import orjson

from ..core import tasks
from ..models.codec import DecodeError, decode, encode

MAX_MESSAGE: Final = 16 * 1024
"""Bytes of a message on the channel. A session description of a host with many addresses takes 2 KB."""
MAX_TORRENTS: Final = 256
"""Torrents of one channel at a time."""
OFFERS_AT_ONCE: Final = 1
"""Offers of one announce that are passed on: there is one peer at the other end."""
MAX_WAITING: Final = 4
"""Offers of one torrent that wait for an answer. A newer one pushes out the oldest."""
OFFER_LIFE: Final = 30.0
"""Seconds after which an offer is not answered any more. libtorrent keeps one for longer."""
ANSWER_PATIENCE: Final = 2.0
"""Seconds until libtorrent is made to announce once more, when it leaves an offer unanswered: it answers a limited number
of them after each announce, and none before the first."""
ANSWERS_PER_ANNOUNCE: Final = 5
"""Answers after which it is made to announce before it falls silent, which it does after ten."""
RETRY_FIRST: Final = 5.0
RETRY_MOST: Final = 60.0
"""Seconds until an offer that nobody answered is followed by a new one; twice as long each time."""
INTERVAL: Final = 300
"""Seconds between announces that libtorrent makes of its own accord."""

_MAX_ANNOUNCE = 1024 * 1024
"""Bytes of a message of libtorrent's. It sends ten offers or more in one."""
_MAX_CLIENTS = 8
_MAX_CANDIDATES = 64
_MAX_OUTGOING = 64
"""Messages that wait for the channel."""
_SEND_TIMEOUT = 20
_BURST = 100
_PER_SECOND = 10.0
"""Messages that are taken from a channel at once, and in the long run."""
_PREFIX = b"-PM0000-"
"""Of the peer ids (BEP 20) under which libtorrent hears of others here. They say who is meant, and only in here."""

_HEX = re.compile(r"[0-9a-f]{40}")
_SDP = re.compile(r"v=0\r?\n[\x20-\x7e\r\n]*")

_LOGGER = logging.getLogger(__name__)

Send = Callable[[bytes], Awaitable[None]]
"""Sends one message to the other home, whole and in order. May raise OSError or TimeoutError."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What goes over the channel: an offer, the answer to one, or that a connection is gone."""

    type: Literal["offer", "answer", "lost"]
    torrent: str
    """The info-hash, in hexadecimal digits."""
    offer: str = ""
    """The offer's id, in hexadecimal digits; chosen by who offers."""
    sdp: str = ""


@dataclass(slots=True)
class _Offer:
    """An offer that has not been answered yet."""

    sdp: str
    made: float = field(default_factory=time.monotonic)
    timer: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> bool:
        return time.monotonic() < self.made + OFFER_LIFE


@dataclass(slots=True, eq=False)
class _Meeting:
    """A torrent that this home and another one hold."""

    info_hash: bytes
    introductions: SignalingRelay
    reannounce: Callable[[], None]
    hang_up: Callable[[], None]
    offers: bool
    stranger: bytes = field(default_factory=lambda: _PREFIX + secrets.token_bytes(12))
    """The peer id that stands for the other home."""
    client: _Client | None = None
    """The connection on which libtorrent announced the torrent."""
    sent: dict[str, _Offer] = field(default_factory=dict)
    """Our libtorrent's offers that the other home may answer."""
    received: dict[str, _Offer] = field(default_factory=dict)
    """The other home's offers that our libtorrent may answer."""
    retry: asyncio.TimerHandle | None = None
    retry_after: float = field(default_factory=lambda: RETRY_FIRST)
    offered: float = float("-inf")
    answers: int = 0
    """Since libtorrent announced."""

    def close(self) -> None:
        """Forget all offers."""
        for offer in (*self.sent.values(), *self.received.values()):
            if offer.timer is not None:
                offer.timer.cancel()
        self.sent.clear()
        self.received.clear()
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None


@dataclass(slots=True, eq=False)
class _Client:
    """A connection of libtorrent's."""

    socket: web.WebSocketResponse
    outgoing: asyncio.Queue[dict[str, Any]] = field(
        default_factory=lambda: asyncio.Queue(_MAX_OUTGOING)
    )

    def put(self, message: dict[str, Any]) -> None:
        """Send a message, unless far too many wait already."""
        with contextlib.suppress(asyncio.QueueFull):
            self.outgoing.put_nowait(message)

    async def write(self) -> None:
        """Send what was put until cancelled or disconnected."""
        with contextlib.suppress(OSError, RuntimeError):
            while True:
                message = await self.outgoing.get()
                await self.socket.send_str(orjson.dumps(message).decode())


class LoopbackTracker:
    """Serves this machine's libtorrent. One for each engine."""

    def __init__(self) -> None:
        """Prepare a tracker that nobody can reach yet."""
        self.url = ""
        """What torrents announce to; known once started. It holds a secret: only who knows it is served."""
        self._secret = secrets.token_urlsafe(24)
        self._meetings: dict[bytes, _Meeting] = {}
        self._channels: set[SignalingRelay] = set()
        self._clients: set[_Client] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port. Raises OSError."""
        app = web.Application()
        app.router.add_get(f"/announce/{self._secret}", self._serve)
        app.on_shutdown.append(self._hang_up)
        http_log = logging.getLogger(f"{__name__}.http")
        http_log.setLevel(logging.CRITICAL)
        runner = web.AppRunner(
            app, access_log=None, logger=http_log, shutdown_timeout=1
        )
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        port = runner.addresses[0][1]
        self.url = f"ws://127.0.0.1:{port}/announce/{self._secret}"

    async def stop(self) -> None:
        """End all channels and connections. May be called at any time.

        It must be called before the libtorrent session ends: its destructor waits for these very connections while it
        holds the interpreter's lock, and would wait forever.
        """
        for channel in tuple(self._channels):
            await channel.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def join(self, send: Send) -> SignalingRelay:
        """Begin to speak with another home; what comes from there must be given to `receive` of the result."""
        channel = SignalingRelay(self, send)
        self._channels.add(channel)
        return channel

    # What channels ask for.

    def _add(self, meeting: _Meeting) -> None:
        former = self._meetings.pop(meeting.info_hash, None)
        if former is not None:
            # The same home over a new channel: the old one is about to be closed.
            meeting.client = former.client
            former.close()
        self._meetings[meeting.info_hash] = meeting

    def _remove(self, meeting: _Meeting) -> None:
        meeting.close()
        if self._meetings.get(meeting.info_hash) is meeting:
            del self._meetings[meeting.info_hash]

    def _left(self, channel: SignalingRelay) -> None:
        self._channels.discard(channel)

    # What libtorrent asks for.

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        # A browser sends its page's origin; libtorrent has none.
        if "Origin" in request.headers or len(self._clients) >= _MAX_CLIENTS:
            raise web.HTTPForbidden
        socket = web.WebSocketResponse(
            max_msg_size=_MAX_ANNOUNCE, compress=False, heartbeat=60
        )
        await socket.prepare(request)
        client = _Client(socket)
        self._clients.add(client)
        writer = asyncio.create_task(client.write(), name="tracker connection")
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                self._take(client, message.data)
        finally:
            self._clients.discard(client)
            for meeting in self._meetings.values():
                if meeting.client is client:
                    meeting.client = None
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
        return socket

    async def _hang_up(self, _app: web.Application) -> None:
        for client in tuple(self._clients):
            await client.socket.close(code=1001)

    def _take(self, client: _Client, text: str) -> None:
        """Do what a message of libtorrent's says. One that makes no sense is left alone."""
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            return
        if not isinstance(message, dict):
            return
        if message.get("action") == "scrape":
            self._scrape(client, message.get("info_hash"))
            return
        info_hash = _binary(message.get("info_hash"))
        if message.get("action") != "announce" or info_hash is None:
            return
        meeting = self._meetings.get(info_hash)
        if meeting is None:
            client.put(
                {
                    "action": "announce",
                    "info_hash": message["info_hash"],
                    "failure reason": "this torrent is not shared at present",
                }
            )
        elif "answer" in message:
            self._answered(meeting, message)
        elif message.get("event") == "stopped":
            if meeting.client is client:
                meeting.client = None
        else:
            self._announced(meeting, client, message)

    def _scrape(self, client: _Client, asked: object) -> None:
        """Count the peers of torrents: the local one, and the one that the channel leads to."""
        names = asked if isinstance(asked, list) else [asked]
        files = {}
        for name in names[:MAX_TORRENTS]:
            info_hash = _binary(name)
            if info_hash is not None and info_hash in self._meetings:
                files[name] = {"complete": 1, "incomplete": 1, "downloaded": 0}
        client.put({"action": "scrape", "files": files})

    def _announced(
        self, meeting: _Meeting, client: _Client, message: dict[str, Any]
    ) -> None:
        meeting.client = client
        meeting.answers = 0
        client.put(
            {
                "action": "announce",
                "info_hash": message["info_hash"],
                "interval": INTERVAL,
                "complete": 1,
                "incomplete": 1,
            }
        )
        for offer_id, offer in meeting.received.items():
            if offer.alive:
                _deliver(meeting, offer_id, offer)
        # An announce for each address that the session listens on comes at the same time: one offer is enough. And what
        # is complete needs no peers; libtorrent announces that too.
        now = time.monotonic()
        if meeting.offers and message.get("left") != 0 and now > meeting.offered + 1:
            for offer_id, sdp in _offers_in(message):
                meeting.offered = now
                meeting.introductions.offer(meeting, offer_id, sdp)

    def _answered(self, meeting: _Meeting, message: dict[str, Any]) -> None:
        offer_id = _binary(message.get("offer_id"))
        sdp = _description(message.get("answer"), "answer")
        if offer_id is None or sdp is None:
            return
        offer = meeting.received.pop(offer_id.hex(), None)
        if offer is None:
            return
        if offer.timer is not None:
            offer.timer.cancel()
        meeting.introductions.post(
            Introduction("answer", meeting.info_hash.hex(), offer_id.hex(), sdp)
        )
        meeting.answers += 1
        if meeting.answers == ANSWERS_PER_ANNOUNCE:
            meeting.reannounce()


class SignalingRelay:
    """One channel's share of the tracker. Made by `LoopbackTracker.join`."""

    def __init__(self, tracker: LoopbackTracker, send: Send) -> None:
        """Prepare what `send` leads to."""
        self._tracker = tracker
        self._send = send
        self._meetings: dict[str, _Meeting] = {}
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(_MAX_OUTGOING)
        self._sender: asyncio.Task[None] | None = None
        self._closed = False
        self._allowance = float(_BURST)
        self._counted = time.monotonic()

    def add(
        self,
        info_hash: str,
        reannounce: Callable[[], None],
        hang_up: Callable[[], None] = lambda: None,
        *,
        offers: bool,
    ) -> None:
        """Introduce the peers of a torrent to each other, from now on.

        Both homes add it before they give it the tracker. One of them `offers`: who fetches, so that two peers do not
        meet twice. `reannounce` makes libtorrent announce the torrent at once, and `hang_up` makes it end the torrent's
        connections; they are called when that is needed.

        Raises:
            ValueError: too many torrents, a malformed info-hash, or the channel is closed.

        """
        if self._closed or _HEX.fullmatch(info_hash) is None:
            raise ValueError("the channel is closed or the info-hash malformed")
        if info_hash not in self._meetings and len(self._meetings) >= MAX_TORRENTS:
            raise ValueError("too many torrents")
        self.remove(info_hash)
        meeting = _Meeting(bytes.fromhex(info_hash), self, reannounce, hang_up, offers)
        self._meetings[info_hash] = meeting
        self._tracker._add(meeting)  # noqa: SLF001 - the other half of one thing
        if meeting.client is not None:
            reannounce()

    def remove(self, info_hash: str) -> None:
        """Introduce nobody to this torrent any more. Peers that are connected stay so."""
        meeting = self._meetings.pop(info_hash, None)
        if meeting is not None:
            self._tracker._remove(meeting)  # noqa: SLF001 - the other half of one thing

    async def close(self) -> None:
        """Remove all torrents, and send nothing any more. May be called at any time."""
        self._closed = True
        for info_hash in tuple(self._meetings):
            self.remove(info_hash)
        self._tracker._left(self)  # noqa: SLF001 - the other half of one thing
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender

    def receive(self, message: bytes) -> None:
        """Take a message from the other home. One that is not in order has no effect at all."""
        if self._closed or not self._allowed():
            return
        try:
            got = _read(message)
        except DecodeError as err:
            _LOGGER.debug("Not an introduction: %s", err)
            return
        meeting = self._meetings.get(got.torrent)
        # The former channel of a torrent that another one carries now says nothing any more.
        if meeting is None or not self._tracker_knows(meeting):
            _LOGGER.debug("An introduction for a torrent that is not shared here")
        elif got.type == "offer":
            self._offered(meeting, got)
        elif got.type == "lost":
            # Only who offers calls again.
            if not meeting.offers:
                meeting.hang_up()
        else:
            _answered_by_other(meeting, got)

    def lost(self, info_hash: str) -> None:
        """Have the other home forget what it still takes for a connection of a torrent.

        libtorrent tells peers apart by address and listening port, and refuses whoever calls again as a double: for up to
        half a minute, until it notices that the former connection is dead.
        """
        self.post(Introduction("lost", info_hash))

    def offer(self, meeting: _Meeting, offer_id: str, sdp: str) -> None:
        """Pass an offer of our libtorrent on, and see to it that another one follows if nobody answers."""
        _put(meeting.sent, offer_id, _Offer(sdp))
        self.post(Introduction("offer", meeting.info_hash.hex(), offer_id, sdp))
        if meeting.retry is not None:
            meeting.retry.cancel()
        meeting.retry = asyncio.get_running_loop().call_later(
            meeting.retry_after, _retry, meeting
        )

    def post(self, message: Introduction) -> None:
        """Send a message to the other home when the channel takes it."""
        if self._closed:
            return
        if self._sender is None:
            self._sender = tasks.keep(self._run, "introductions")
        try:
            self._outgoing.put_nowait(encode(message))
        except asyncio.QueueFull:
            _LOGGER.debug("The channel is stuck; an introduction is dropped")

    async def _run(self) -> None:
        """Send message after message until cancelled."""
        while True:
            message = await self._outgoing.get()
            try:
                async with asyncio.timeout(_SEND_TIMEOUT):
                    await self._send(message)
            except (OSError, TimeoutError) as err:
                _LOGGER.debug("An introduction could not be sent: %s", err)

    def _offered(self, meeting: _Meeting, got: Introduction) -> None:
        if got.offer in meeting.received:
            return
        offer = _Offer(got.sdp)
        _put(meeting.received, got.offer, offer)
        _deliver(meeting, got.offer, offer)
        offer.timer = asyncio.get_running_loop().call_later(
            # Not announced yet: the sooner, the better.
            ANSWER_PATIENCE if meeting.client is not None else 0,
            _kick,
            meeting,
            got.offer,
        )

    def _tracker_knows(self, meeting: _Meeting) -> bool:
        return self._tracker._meetings.get(meeting.info_hash) is meeting  # noqa: SLF001 - the other half of one thing

    def _allowed(self) -> bool:
        """Count a message, and return whether it is one too many."""
        now = time.monotonic()
        self._allowance = min(
            _BURST, self._allowance + (now - self._counted) * _PER_SECOND
        )
        self._counted = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


def _read(message: bytes) -> Introduction:
    """Return what a message of the other home says. Raises DecodeError."""
    if len(message) > MAX_MESSAGE:
        raise DecodeError("the message is too long")
    got = decode(Introduction, message)
    if got.type != "lost" and (
        _HEX.fullmatch(got.offer) is None or not _is_sdp(got.sdp)
    ):
        raise DecodeError("the offer or its description is malformed")
    return got


def _retry(meeting: _Meeting) -> None:
    """Offer anew: nobody answered."""
    meeting.retry = None
    meeting.retry_after = min(RETRY_MOST, meeting.retry_after * 2)
    meeting.reannounce()


def _kick(meeting: _Meeting, offer_id: str) -> None:
    """Make libtorrent announce, after which it is given the offer once more, until it answers."""
    offer = meeting.received.get(offer_id)
    if offer is None:
        return
    if not offer.alive:
        del meeting.received[offer_id]
        return
    offer.timer = asyncio.get_running_loop().call_later(
        ANSWER_PATIENCE, _kick, meeting, offer_id
    )
    meeting.reannounce()


def _put(offers: dict[str, _Offer], offer_id: str, offer: _Offer) -> None:
    """Add an offer in the place of the oldest one, if there are many."""
    while len(offers) >= MAX_WAITING:
        oldest = offers.pop(next(iter(offers)))
        if oldest.timer is not None:
            oldest.timer.cancel()
    offers[offer_id] = offer


def _deliver(meeting: _Meeting, offer_id: str, offer: _Offer) -> None:
    """Give the other home's offer to our libtorrent, if it is there."""
    if meeting.client is not None:
        _introduce(meeting, meeting.client, offer_id, "offer", offer.sdp)


def _answered_by_other(meeting: _Meeting, got: Introduction) -> None:
    """Give our libtorrent the answer to one of its offers."""
    offer = meeting.sent.pop(got.offer, None)
    if offer is None or not offer.alive or meeting.client is None:
        return
    if meeting.retry is not None:
        meeting.retry.cancel()
        meeting.retry = None
    meeting.retry_after = RETRY_FIRST
    _introduce(meeting, meeting.client, got.offer, "answer", got.sdp)


def _introduce(
    meeting: _Meeting, client: _Client, offer_id: str, kind: str, sdp: str
) -> None:
    client.put(
        {
            "action": "announce",
            "info_hash": meeting.info_hash.decode("latin-1"),
            "peer_id": meeting.stranger.decode("latin-1"),
            "offer_id": bytes.fromhex(offer_id).decode("latin-1"),
            kind: {"type": kind, "sdp": sdp},
        }
    )


def _offers_in(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield id and description of the first offers of an announce."""
    offers = message.get("offers")
    for each in offers[:OFFERS_AT_ONCE] if isinstance(offers, list) else ():
        if isinstance(each, dict):
            offer_id = _binary(each.get("offer_id"))
            sdp = _description(each.get("offer"), "offer")
            if offer_id is not None and sdp is not None:
                yield offer_id.hex(), sdp


def _binary(value: object) -> bytes | None:
    """Return the 20 bytes that WebTorrent writes as a text of 20 characters, or None if it is anything else."""
    if not isinstance(value, str) or len(value) != 20:
        return None
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _description(value: object, kind: str) -> str | None:
    if not isinstance(value, dict) or value.get("type") != kind:
        return None
    sdp = value.get("sdp")
    return sdp if isinstance(sdp, str) and _is_sdp(sdp) else None


def _is_sdp(text: str) -> bool:
    """Whether a text may be a session description (RFC 8866) of one data channel with not too many addresses."""
    return (
        len(text) <= MAX_MESSAGE
        and _SDP.fullmatch(text) is not None
        and text.count("a=candidate:") <= _MAX_CANDIDATES
        and text.count("\nm=") == 1
    )
