"""Waits for the bytes of a friend's file, for one response.

The engine fetches and verifies the bytes, and reports which can be sent. The requested range tells the engine where
the player is, so that it can read ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import logging
import secrets
import time
from typing import Final

from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.p2p.models import ErrorKey, WaitQuery
from custom_components.pemus.p2p.models.items import ItemRef

from .disk import FileChanged
from .locations import FileSource
from .ranges import Span

ENGINE_TIMEOUT: Final = 10.0
"""How long a response waits for an engine that is restarting, in seconds."""
_RETRY_DELAY: Final = 0.5

_LOGGER = logging.getLogger(__name__)


class NeverArrived(Exception):
    """The next bytes of the response cannot be fetched."""


class Arrival:
    """One reader of a file that is being fetched."""

    def __init__(self, source: Callable[[], FileSource], ref: ItemRef) -> None:
        """Create a reader of a friend's item. `source` returns the current engine client."""
        self._source = source
        self._ref = ref
        self._reader = secrets.token_hex(8)
        self._there = Span(0, 0)
        self._path = ""

    def follow(self, path: str) -> None:
        """Read from this file from now on."""
        if path != self._path:
            self._path = path
            # The known bytes belong to the previous file.
            self._there = Span(0, 0)

    def end(self, start: int, stop: int) -> int:
        """Return the end of the bytes from `start` that are known to be on disk, at most `stop`."""
        if self._there.start <= start < self._there.stop:
            return min(stop, self._there.stop)
        return start

    async def until(self, start: int, stop: int) -> int:
        """Wait for the bytes from `start`. Return the end of the available bytes, at most `stop`.

        The engine reads ahead up to `stop`.

        Raises:
            FileChanged: The bytes now arrive in a different file.
            EngineError: The engine refused the request.
            NeverArrived: The engine does not answer or has no bytes.

        """
        if (end := self.end(start, stop)) > start:
            return end
        query = WaitQuery(reader=self._reader, path=self._path, start=start, stop=stop)
        give_up = time.monotonic() + ENGINE_TIMEOUT
        while True:
            try:
                end = await self._source().wait(self._ref, query)
                break
            except EngineError as err:
                if err.key is ErrorKey.REPLACED:
                    raise FileChanged from err
                raise
            except EngineUnavailable as err:
                if time.monotonic() > give_up:
                    raise NeverArrived("the engine does not answer") from err
                await asyncio.sleep(_RETRY_DELAY)
        if end <= start:
            raise NeverArrived("the engine has nothing to send")
        self._there = Span(start, end)
        return min(stop, end)

    async def close(self) -> None:
        """Report to the engine that this reader has finished."""
        try:
            await self._source().release(self._ref, self._reader)
        except (EngineError, EngineUnavailable) as err:
            # The engine also drops readers that stay silent.
            _LOGGER.debug("Failed to release a reader: %s", err)
