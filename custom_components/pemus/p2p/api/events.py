"""The event stream: a WebSocket that sends a Hello first, then StatusChanged, ItemsChanged and NewMedia as things happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
import logging

from aiohttp import WSCloseCode, web

from ..core.news import Listener, News
from ..models import Event, Hello, Status
from ..models.codec import encode

EVENT_INTERVAL = 0.25
"""Seconds between two rounds of events. What happens meanwhile is sent together."""
HEARTBEAT = 10
"""Seconds between pings. A listener that does not answer within half of it is gone."""
SEND_TIMEOUT = 10
"""Seconds for a listener to take one message before it is given up."""
CLOSE_TIMEOUT = 1
MAX_INCOMING = 1024
"""Bytes of a message from a listener, which has nothing to say."""

_LOGGER = logging.getLogger(__name__)


class EventStream:
    """Serves the news to every client that connects."""

    def __init__(self, news: News, status: Callable[[], Status]) -> None:
        """Serve `news`, with the state that `status` returns."""
        self._news = news
        self._status = status
        self._latest: tuple[int, Status] | None = None
        """The state and the version of the news that it belongs to: put together once for all clients."""
        self._sockets: set[web.WebSocketResponse] = set()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one client until it leaves."""
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT, timeout=CLOSE_TIMEOUT, max_msg_size=MAX_INCOMING
        )
        await socket.prepare(request)
        self._sockets.add(socket)
        with self._news.listening() as listener:
            sending = asyncio.create_task(
                self._send_events(listener, socket, request), name="event stream"
            )
            try:
                # Nothing is expected. Reading is what notices that the client left.
                async for _message in socket:
                    pass
            finally:
                self._sockets.discard(socket)
                sending.cancel()
                await asyncio.wait((sending,))
        return socket

    async def close(self) -> None:
        """Close every client's connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.gather(
                    *(
                        socket.close(code=WSCloseCode.GOING_AWAY)
                        for socket in self._sockets
                    ),
                    return_exceptions=True,
                )

    def _latest_status(self) -> Status:
        version = self._news.version
        if self._latest is None or self._latest[0] != version:
            self._latest = version, self._status()
        return self._latest[1]

    async def _send_events(
        self,
        listener: Listener,
        socket: web.WebSocketResponse,
        request: web.Request,
    ) -> None:
        try:
            await _send(socket, Hello(status=self._status()))
            while True:
                await asyncio.sleep(EVENT_INTERVAL)
                await listener.pending.wait()
                for event in listener.take(self._latest_status):
                    await _send(socket, event)
        except (TimeoutError, ConnectionError):
            _LOGGER.debug("A listener left, or does not read")
        except Exception:
            _LOGGER.exception("The events cannot be sent")
        # Not a polite close, which would wait behind what this client does not read. This ends `handle`.
        if request.transport is not None:
            request.transport.abort()


async def _send(socket: web.WebSocketResponse, event: Event) -> None:
    async with asyncio.timeout(SEND_TIMEOUT):
        await socket.send_str(encode(event).decode())
