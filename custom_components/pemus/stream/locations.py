"""Caches the locations of files, so that a range request does not have to ask the engine.

A player that seeks sends hundreds of requests for one file. The response checks with fstat that a cached file is
unchanged, and otherwise asks the engine again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, MutableMapping
import logging
import time
from typing import Any, Final, Protocol

from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.p2p.models import LocalFile, WaitQuery
from custom_components.pemus.p2p.models.items import ItemRef, Wanted

MAX_LOCATIONS: Final = 4096
REPORT_INTERVAL: Final = 5.0
"""Minimum time between two reports to the engine that media is being played, in seconds."""

_LOGGER = logging.getLogger(__name__)


class FileSource(Protocol):
    """The part of the engine's client that the range view uses. Benchmarks replace it.

    Every method raises EngineError and EngineUnavailable.
    """

    async def locate(self, wanted: Wanted) -> LocalFile:
        """Return the location and properties of a file."""

    async def wait(self, ref: ItemRef, query: WaitQuery) -> int:
        """Wait until the first bytes of a range are on disk. Return the end of the available bytes."""

    async def release(self, ref: ItemRef, reader: str) -> None:
        """Report that a reader of a friend's item has finished."""

    async def streaming(self) -> None:
        """Report that media is being played."""


class Locations:
    """Caches the most recently located files."""

    def __init__(self, source: Callable[[], FileSource]) -> None:
        """Start with an empty cache. `source` returns the current engine client, or raises EngineUnavailable."""
        self.source = source
        self._known: OrderedDict[Wanted, LocalFile] = OrderedDict()
        self._asking: dict[Wanted, asyncio.Task[LocalFile]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_report = float("-inf")
        self._closed = False

    async def close(self) -> None:
        """Cancel all pending requests."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def get(self, wanted: Wanted) -> LocalFile:
        """Return a file, from the cache if possible. Raises EngineError, EngineUnavailable."""
        if (file := self._known.get(wanted)) is not None:
            self._known.move_to_end(wanted)
            return file
        # Concurrent callers share one request, which continues if the first caller is cancelled.
        if (task := self._asking.get(wanted)) is None:
            task = asyncio.create_task(self._locate(wanted), name="pemus locate")
            self._asking[wanted] = task
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._asked(wanted, done))
        return await asyncio.shield(task)

    async def _locate(self, wanted: Wanted) -> LocalFile:
        return await self.source().locate(wanted)

    async def fresh(self, wanted: Wanted, stale: LocalFile) -> LocalFile:
        """Locate a file again, because `stale` is outdated."""
        if self._known.get(wanted) == stale:
            del self._known[wanted]
        return await self.get(wanted)

    def played(self) -> None:
        """Report at intervals that media is being played, so that the engine pauses its disk access.

        Called for each piece that is sent, so it must be cheap.
        """
        now = time.monotonic()
        if now < self._next_report or self._closed:
            return
        self._next_report = now + REPORT_INTERVAL
        task = asyncio.create_task(self._report(), name="pemus playing")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self) -> None:
        try:
            await self.source().streaming()
        except (EngineError, EngineUnavailable) as err:
            _LOGGER.debug("Failed to report playback to the engine: %s", err)

    def forget(self, items: Iterable[str] | None) -> None:
        """Drop these items from the cache, or all if None."""
        gone = None if items is None else set(items)
        known: MutableMapping[Wanted, Any]
        for known in (self._known, self._asking):
            for wanted in list(known):
                if gone is None or wanted.item.id in gone:
                    del known[wanted]

    def _asked(self, wanted: Wanted, task: asyncio.Task[LocalFile]) -> None:
        self._tasks.discard(task)
        # If the item changed during the request, the answer may be outdated. `forget` has removed its task.
        current = self._asking.get(wanted) is task
        if current:
            del self._asking[wanted]
        if task.cancelled() or task.exception() is not None or not current:
            return
        self._known[wanted] = task.result()
        if len(self._known) > MAX_LOCATIONS:
            self._known.popitem(last=False)
