"""How far a file that is fetched from a friend can be read, for one response.

The engine fetches, verifies and reports what may be sent. From what is waited for it learns where the player is, and
fetches ahead of it.
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
from .facts import FileSource
from .ranges import Span

ENGINE_TIMEOUT: Final = 10.0
"""Seconds that a response waits for an engine that is being restarted, and continues where the former one was."""
_RETRY: Final = 0.5

_LOGGER = logging.getLogger(__name__)


class NeverArrived(Exception):
    """Nobody delivers the bytes that the response sends next."""


class Arrival:
    """One reader of a file that is still being fetched."""

    def __init__(self, source: Callable[[], FileSource], ref: ItemRef) -> None:
        """Prepare to read a friend's item. `source` is as in `Facts`."""
        self._source = source
        self._ref = ref
        self._reader = secrets.token_hex(8)
        self._there = Span(0, 0)
        self._path = ""

    def follow(self, path: str) -> None:
        """Read this file from now on."""
        if path != self._path:
            self._path = path
            # What had arrived was in another file.
            self._there = Span(0, 0)

    def end(self, start: int, stop: int) -> int:
        """Return the end of the bytes from `start` on that are known to be there, at most `stop`."""
        if self._there.start <= start < self._there.stop:
            return min(stop, self._there.stop)
        return start

    async def until(self, start: int, stop: int) -> int:
        """Wait for the bytes from `start` on, and return the end of those that are there, at most `stop`.

        `stop` is where the reader ends: the engine fetches ahead up to there.

        Raises:
            FileChanged: the bytes arrive in another file by now.
            EngineError: the engine refused.
            NeverArrived: it does not answer.

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
                await asyncio.sleep(_RETRY)
        if end <= start:
            raise NeverArrived("the engine has nothing to send")
        self._there = Span(start, end)
        return min(stop, end)

    async def close(self) -> None:
        """Tell the engine that this reader has left."""
        try:
            await self._source().release(self._ref, self._reader)
        except (EngineError, EngineUnavailable) as err:
            # It also forgets readers that do not return.
            _LOGGER.debug("The engine was not told that a reader left: %s", err)
