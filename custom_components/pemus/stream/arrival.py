"""How far a file that is fetched from another home can be read, as one response sees it.

The engine fetches; what it says is there was verified, and may be sent. It also learns from what is waited for where the
player is, and fetches ahead of it.
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
"""Seconds that a response outlives the engine: one that was restarted goes on where the other was."""
_RETRY: Final = 0.5

_LOGGER = logging.getLogger(__name__)


class NeverArrived(Exception):
    """Nobody delivers the bytes that are to be sent next."""


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
            # What was there was in another file.
            self._there = Span(0, 0)

    def end(self, start: int, stop: int) -> int:
        """Return up to where, between `start` and `stop`, bytes are known to be there."""
        if self._there.start <= start < self._there.stop:
            return min(stop, self._there.stop)
        return start

    async def until(self, start: int, stop: int) -> int:
        """Wait for the bytes from `start` on, and return the end of those that are there, at most `stop`.

        `stop` is where the reader will end: the engine fetches ahead of it up to there.

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
        """Let the engine know that nobody reads any more."""
        try:
            await self._source().release(self._ref, self._reader)
        except (EngineError, EngineUnavailable) as err:
            # It forgets readers that do not come back, too.
            _LOGGER.debug("The engine was not told that a reader left: %s", err)
