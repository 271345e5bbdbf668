"""What the engine tells on its own: one WebSocket with the state and the changes.

A listener gets a Hello, then StatusChanged and ItemsChanged. There is no queue: what a listener has not been told yet
is kept as one state per listener, newer news taking the place of older, so that a listener that is slow, or does not
read at all, costs next to nothing and still gets the newest state.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
import logging

from aiohttp import WSCloseCode, web

from ..models import Event, Hello, ItemsChanged, NewMedia, Status, StatusChanged
from ..models.codec import encode

PACE = 0.25
"""Seconds between two rounds of news. What happens meanwhile is told together."""
MAX_MEDIA = 50
"""News of friends' media that wait for one listener."""
MAX_NAMED_ITEMS = 500
"""More changed items than these are told as "many"."""
HEARTBEAT = 10
"""Seconds between pings; a listener that does not answer within half of it is gone."""
SEND_TIMEOUT = 10
"""Seconds for a listener to take one message before it is given up."""
CLOSE_TIMEOUT = 1
MAX_INCOMING = 1024
"""Bytes of a message from a listener. There is nothing that it could say."""

_LOGGER = logging.getLogger(__name__)


class _Listener:
    """What one listener has still to be told."""

    def __init__(self) -> None:
        self.status = False
        # None: too many changed to name them.
        self.items: set[str] | None = set()
        self.media: deque[NewMedia] = deque(maxlen=MAX_MEDIA)
        self.news = asyncio.Event()

    def add_status(self) -> None:
        self.status = True
        self.news.set()

    def add_items(self, items: tuple[str, ...] | None) -> None:
        if items is None or self.items is None:
            self.items = None
        else:
            self.items.update(items)
            if len(self.items) > MAX_NAMED_ITEMS:
                self.items = None
        self.news.set()

    def add_media(self, news: NewMedia) -> None:
        self.media.append(news)
        self.news.set()

    def take(self, status: Callable[[], Status]) -> list[Event]:
        """Return what is new, as the state is now, and begin to collect anew. `status` is asked only if it is needed."""
        events: list[Event] = []
        if self.items is None or self.items:
            items = None if self.items is None else tuple(sorted(self.items))
            events.append(ItemsChanged(revision=status().revision, items=items))
        if self.status:
            events.append(StatusChanged(status=status()))
        events += self.media
        self.media.clear()
        self.status = False
        self.items = set()
        self.news.clear()
        return events


class EventHub:
    """Tells all listeners what happens."""

    def __init__(self, status: Callable[[], Status]) -> None:
        """Take the state from `status` whenever it is told."""
        self._status = status
        self._present: Status | None = None
        """The state since something changed, for all who are told of that."""
        self._listeners: dict[_Listener, web.WebSocketResponse] = {}

    def status_changed(self) -> None:
        """Note that something of the status changed. Cheap: may be called thousands of times a second."""
        self._present = None
        for listener in self._listeners:
            listener.add_status()

    def items_changed(self, items: tuple[str, ...] | None) -> None:
        """Note that these items changed, or too many to name them (None)."""
        self._present = None
        for listener in self._listeners:
            listener.add_items(items)

    def new_media(self, news: NewMedia) -> None:
        """Note that a friend has something new. What a slow listener was not told yet is told later, as far as it is kept."""
        for listener in self._listeners:
            listener.add_media(news)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one listener until it leaves."""
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT, timeout=CLOSE_TIMEOUT, max_msg_size=MAX_INCOMING
        )
        await socket.prepare(request)
        listener = _Listener()
        self._listeners[listener] = socket
        teller = asyncio.create_task(
            self._tell(listener, socket, request), name="event stream"
        )
        try:
            # Nothing is expected; reading is what notices that the listener left.
            async for _message in socket:
                pass
        finally:
            del self._listeners[listener]
            teller.cancel()
            await asyncio.wait((teller,))
        return socket

    async def close(self) -> None:
        """Send every listener away."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.gather(
                    *(
                        socket.close(code=WSCloseCode.GOING_AWAY)
                        for socket in self._listeners.values()
                    ),
                    return_exceptions=True,
                )

    def _state(self) -> Status:
        if self._present is None:
            self._present = self._status()
        return self._present

    async def _tell(
        self,
        listener: _Listener,
        socket: web.WebSocketResponse,
        request: web.Request,
    ) -> None:
        try:
            await _send(socket, Hello(status=self._status()))
            while True:
                await asyncio.sleep(PACE)
                await listener.news.wait()
                for event in listener.take(self._state):
                    await _send(socket, event)
        except (TimeoutError, ConnectionError):
            _LOGGER.debug("A listener left, or does not read")
        except Exception:
            _LOGGER.exception("The events could not be told")
        # Not a polite close, which would wait behind what this listener does not read. This ends `handle`.
        if request.transport is not None:
            request.transport.abort()


async def _send(socket: web.WebSocketResponse, event: Event) -> None:
    async with asyncio.timeout(SEND_TIMEOUT):
        await socket.send_str(encode(event).decode())
