"""Messages that wait to be sent to another home."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
import logging
from typing import Final

from ...core import tasks
from ...models.codec import encode
from .introductions import Introduction

MAX_OUTGOING: Final = 64
"""Messages that wait for the channel."""
SEND_TIMEOUT: Final = 20.0
"""Seconds for one message to be sent."""

Send = Callable[[bytes], Awaitable[None]]
"""Sends one message to the other home, whole and in order. May raise OSError or TimeoutError."""

_LOGGER = logging.getLogger(__name__)


class Outbox:
    """Sends messages one after the other."""

    def __init__(self, send: Send) -> None:
        """Prepare to send through a channel."""
        self.is_closed = False
        self._send = send
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(MAX_OUTGOING)
        self._sender: asyncio.Task[None] | None = None

    def post(self, message: Introduction) -> None:
        """Send a message when the channel takes it. Too many waiting messages are dropped."""
        if self.is_closed:
            return
        if self._sender is None:
            self._sender = tasks.keep(self._run, "introductions")
        try:
            self._waiting.put_nowait(encode(message))
        except asyncio.QueueFull:
            _LOGGER.debug("The channel is stuck; an introduction is dropped")

    async def close(self) -> None:
        """Send nothing any more. May be called at any time."""
        self.is_closed = True
        sender, self._sender = self._sender, None
        await tasks.end(sender)

    async def _run(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await self._send(message)
            except (OSError, TimeoutError) as err:
                _LOGGER.debug("An introduction could not be sent: %s", err)
