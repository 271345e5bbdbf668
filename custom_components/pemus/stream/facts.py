"""Caches where the files are that are being played, so that a range request need not ask the engine.

A player that seeks sends hundreds of requests for one file. Whoever opens a cached file checks with fstat that it is still
the same one; if it is not, the engine is asked again.
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

MAX_FACTS: Final = 4096
REPORT_INTERVAL: Final = 5.0
"""Seconds between two reports to the engine that something is played. The engine takes each of them to hold for a while."""

_LOGGER = logging.getLogger(__name__)


class FileSource(Protocol):
    """Knows the files, and how far those that arrive can be read: the engine's client.

    Every method raises EngineError and EngineUnavailable.
    """

    async def locate(self, wanted: Wanted) -> LocalFile:
        """Return a file: as it is on disk now, or where it arrives."""

    async def wait(self, ref: ItemRef, query: WaitQuery) -> int:
        """Wait until the first of these bytes of a friend's item are there; return the end of those that are."""

    async def release(self, ref: ItemRef, reader: str) -> None:
        """Take note that somebody does not read a friend's item any more."""

    async def streaming(self) -> None:
        """Take note that bytes of something that is played have just left."""


class Facts:
    """Caches the files that were located last."""

    def __init__(self, source: Callable[[], FileSource]) -> None:
        """Remember nothing yet. `source` returns the source that there is at the moment, or raises EngineUnavailable."""
        self.source = source
        self._known: OrderedDict[Wanted, LocalFile] = OrderedDict()
        self._asking: dict[Wanted, asyncio.Task[LocalFile]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_report = float("-inf")
        self._closed = False

    async def close(self) -> None:
        """Cancel every question that is under way."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def get(self, wanted: Wanted) -> LocalFile:
        """Return the file, from the cache if it is there. Raises what the source raises."""
        if (file := self._known.get(wanted)) is not None:
            self._known.move_to_end(wanted)
            return file
        # Concurrent requests share one question, which goes on if the first of them is cancelled.
        if (task := self._asking.get(wanted)) is None:
            task = asyncio.create_task(self._locate(wanted), name="pemus facts")
            self._asking[wanted] = task
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._asked(wanted, done))
        return await asyncio.shield(task)

    async def _locate(self, wanted: Wanted) -> LocalFile:
        return await self.source().locate(wanted)

    async def fresh(self, wanted: Wanted, stale: LocalFile) -> LocalFile:
        """Locate the file again, because `stale` is not true any more."""
        if self._known.get(wanted) == stale:
            del self._known[wanted]
        return await self.get(wanted)

    def played(self) -> None:
        """Take note that bytes of media have just left, and report it now and then, so that the engine leaves the disk to them.

        Cheap: called for each piece that is sent. An engine that was started in the middle of a film hears of it, too.
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
            _LOGGER.debug("The engine does not know what is played: %s", err)

    def forget(self, items: Iterable[str] | None) -> None:
        """Drop these items from the cache, or all of them."""
        gone = None if items is None else set(items)
        known: MutableMapping[Wanted, Any]
        for known in (self._known, self._asking):
            for wanted in list(known):
                if gone is None or wanted.item.id in gone:
                    del known[wanted]

    def _asked(self, wanted: Wanted, task: asyncio.Task[LocalFile]) -> None:
        self._tasks.discard(task)
        # The answer to a question that was under way when its item changed may be old. It is no longer in the list.
        current = self._asking.get(wanted) is task
        if current:
            del self._asking[wanted]
        if task.cancelled() or task.exception() is not None or not current:
            return
        self._known[wanted] = task.result()
        if len(self._known) > MAX_FACTS:
            self._known.popitem(last=False)
