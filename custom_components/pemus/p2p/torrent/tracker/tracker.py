"""A WebTorrent tracker on this machine's loopback address, which introduces libtorrent to peers of other homes.

libtorrent finds WebRTC peers through a tracker that speaks JSON over a WebSocket: offers and answers go in and come out
(https://github.com/webtorrent/bittorrent-tracker, `server.js`). Each home runs such a tracker for its own libtorrent alone.
What goes into one tracker comes out of the other, over a channel that both homes trust:

    libtorrent <-> LoopbackTracker <-> channel <-> LoopbackTracker <-> libtorrent

So no tracker in the network learns an info-hash, and none has to be online. The channel authenticates the other home, and
with it the DTLS fingerprints in the session descriptions (SDP). Nothing else that arrives on it is trusted: it is checked,
limited, and accepted only for torrents that were added for this channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import logging
import secrets
from typing import Any, Final

from aiohttp import WSMsgType, web
import orjson

from ...core import tasks
from ...core.throttle import TokenBucket
from ...models.codec import DecodeError
from .introductions import Introduction, id_in, is_id, read
from .meeting import Client, Meeting
from .outbox import Outbox, Send

MAX_TORRENTS: Final = 256
"""Torrents of one channel at a time."""
MAX_CLIENTS: Final = 8
"""Connections of libtorrent at a time."""
MAX_ANNOUNCE: Final = 1024 * 1024
"""Bytes of a message of libtorrent. It sends ten offers or more in one."""
MESSAGE_BURST: Final = 100
"""Messages that are accepted from a channel at once."""
MESSAGE_RATE: Final = 10.0
"""Messages per second that are accepted from a channel on average."""

_LOGGER = logging.getLogger(__name__)


class LoopbackTracker:
    """Serves this machine's libtorrent. There is one in each engine."""

    def __init__(self) -> None:
        """Prepare a tracker that nobody can reach yet."""
        self.url = ""
        """Where torrents announce, known once started. It contains a secret, and only clients that know it are served."""
        self._secret = secrets.token_urlsafe(24)
        self._meetings: dict[str, Meeting] = {}
        self._channels: set[SignalingRelay] = set()
        self._clients: set[Client] = set()
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

        Must be called before the libtorrent session ends: its destructor waits for these connections while it holds the
        interpreter's lock, and would wait forever.
        """
        for channel in tuple(self._channels):
            await channel.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def join(self, send: Send) -> SignalingRelay:
        """Open a channel to another home. Messages from there go to `receive` of the result."""
        channel = SignalingRelay(self, send)
        self._channels.add(channel)
        return channel

    # For channels.

    def add(self, meeting: Meeting) -> None:
        """Serve a torrent. If another channel of the same home had it, that one is about to be closed."""
        if (former := self._meetings.get(meeting.info_hash)) is not None:
            meeting.client = former.client
            former.close()
        self._meetings[meeting.info_hash] = meeting

    def remove(self, meeting: Meeting) -> None:
        """Serve a torrent no longer."""
        meeting.close()
        if self.has(meeting):
            del self._meetings[meeting.info_hash]

    def has(self, meeting: Meeting) -> bool:
        """Tell whether a torrent is served for this channel, and not for a newer one."""
        return self._meetings.get(meeting.info_hash) is meeting

    def leave(self, channel: SignalingRelay) -> None:
        """Forget a channel."""
        self._channels.discard(channel)

    # For libtorrent.

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        # A browser sends its page's origin; libtorrent sends none.
        if "Origin" in request.headers or len(self._clients) >= MAX_CLIENTS:
            raise web.HTTPForbidden
        socket = web.WebSocketResponse(
            max_msg_size=MAX_ANNOUNCE, compress=False, heartbeat=60
        )
        await socket.prepare(request)
        client = Client(socket)
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
            await tasks.end(writer)
        return socket

    async def _hang_up(self, _app: web.Application) -> None:
        for client in tuple(self._clients):
            await client.socket.close(code=1001)

    def _take(self, client: Client, text: str) -> None:
        """Handle a message of libtorrent. A malformed one is ignored."""
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            return
        if not isinstance(message, dict):
            return
        if message.get("action") == "scrape":
            self._scrape(client, message.get("info_hash"))
            return
        info_hash = id_in(message.get("info_hash"))
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
            meeting.answered(message)
        elif message.get("event") != "stopped":
            meeting.announced(client, message)
        elif meeting.client is client:
            meeting.client = None

    def _scrape(self, client: Client, asked: object) -> None:
        """Count the peers of torrents: the local one, and the one at the other end of the channel."""
        names: list[Any] = asked if isinstance(asked, list) else [asked]
        files = {
            name: {"complete": 1, "incomplete": 1, "downloaded": 0}
            for name in names[:MAX_TORRENTS]
            if id_in(name) in self._meetings
        }
        client.put({"action": "scrape", "files": files})


class SignalingRelay:
    """The tracker's end of one channel. Made by `LoopbackTracker.join`."""

    def __init__(self, tracker: LoopbackTracker, send: Send) -> None:
        """Open a channel that sends with `send`."""
        self._tracker = tracker
        self._outbox = Outbox(send)
        self._meetings: dict[str, Meeting] = {}
        self._allowance = TokenBucket(MESSAGE_RATE, MESSAGE_BURST)

    def add(
        self,
        info_hash: str,
        reannounce: Callable[[], None],
        hang_up: Callable[[], None] = lambda: None,
        *,
        offers: bool,
    ) -> None:
        """Introduce the peers of a torrent to each other from now on.

        Both homes add a torrent here before they add the tracker to it. Only the home that fetches `offers`, so that two
        peers do not connect twice. `reannounce` makes libtorrent announce the torrent at once, and `hang_up` makes it close
        the torrent's connections; both are called when needed.

        Raises:
            ValueError: too many torrents, a malformed info-hash, or the channel is closed.

        """
        if self._outbox.is_closed or not is_id(info_hash):
            raise ValueError("the channel is closed or the info-hash malformed")
        if info_hash not in self._meetings and len(self._meetings) >= MAX_TORRENTS:
            raise ValueError("too many torrents")
        self.remove(info_hash)
        meeting = Meeting(info_hash, self._outbox, reannounce, hang_up, offers=offers)
        self._meetings[info_hash] = meeting
        self._tracker.add(meeting)
        if meeting.client is not None:
            reannounce()

    def remove(self, info_hash: str) -> None:
        """Introduce nobody to this torrent any more. Connected peers stay connected."""
        if (meeting := self._meetings.pop(info_hash, None)) is not None:
            self._tracker.remove(meeting)

    async def close(self) -> None:
        """Remove all torrents, and send nothing any more. May be called at any time."""
        for info_hash in tuple(self._meetings):
            self.remove(info_hash)
        self._tracker.leave(self)
        await self._outbox.close()

    def receive(self, message: bytes) -> None:
        """Handle a message from the other home. A malformed one has no effect."""
        if self._outbox.is_closed or not self._allowance.take():
            return
        try:
            got = read(message)
        except DecodeError as err:
            _LOGGER.debug("Not an introduction: %s", err)
            return
        meeting = self._meetings.get(got.torrent)
        # A former channel of a torrent has no say once another one has it.
        if meeting is None or not self._tracker.has(meeting):
            _LOGGER.debug("An introduction for a torrent that is not shared here")
        else:
            meeting.receive(got)

    def lost(self, info_hash: str) -> None:
        """Make the other home close what it still considers a connection of a torrent.

        libtorrent identifies peers by address and listening port, and refuses a second connection of the same peer, for up to
        half a minute, until it notices that the former one is dead.
        """
        self._outbox.post(Introduction("lost", info_hash))
