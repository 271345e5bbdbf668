"""What is known of the files that are being played, so that a range request need not ask the engine.

A player that seeks sends hundreds of requests for one file. What the engine said of it is remembered, and whoever opens
the file checks with fstat that it is still the same one; if it is not, the engine is asked again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
import logging
import time
from typing import Any, Final, Protocol

from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.p2p.models import LocalFile, WaitQuery

MAX_FACTS: Final = 4096
TELL: Final = 5.0
"""Seconds between two times that the engine is told that something is played; it believes that for a while."""

_LOGGER = logging.getLogger(__name__)


class FileSource(Protocol):
    """Knows the files: the engine's client, in the end. Raises EngineError and EngineUnavailable."""

    async def file(self, item_id: str) -> LocalFile:
        """Return the item's file as it is on disk now."""

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return the item's picture."""

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        """Return one of the item's subtitles as WebVTT."""

    async def streaming(self) -> None:
        """Take note that bytes of something that is played have just left."""

    async def remote_file(self, owner: str, item_id: str) -> LocalFile:
        """Return the file into which another home's item is fetched."""

    async def remote_thumbnail(self, owner: str, item_id: str) -> LocalFile:
        """Return the picture of another home's item."""

    async def remote_subtitles(self, owner: str, item_id: str, index: int) -> LocalFile:
        """Return one of the subtitles of another home's item as WebVTT."""

    async def wait(self, owner: str, item_id: str, query: WaitQuery) -> int:
        """Wait until the first of these bytes are there; return the end of those that are."""

    async def release(self, owner: str, item_id: str, reader: str) -> None:
        """Take note that somebody does not read any more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Names one file of an item: the item itself, its picture, or one of its subtitles."""

    item: str
    owner: str | None = None
    """The home whose item it is; None for this one."""
    picture: bool = False
    subtitles: int | None = None

    @property
    def is_media(self) -> bool:
        """Tell whether it is what is played, and not something that goes with it."""
        return not self.picture and self.subtitles is None

    async def ask(self, source: FileSource) -> LocalFile:
        """Ask for the file."""
        owner, item = self.owner, self.item
        if self.picture:
            if owner is None:
                return await source.thumbnail(item)
            return await source.remote_thumbnail(owner, item)
        if self.subtitles is not None:
            if owner is None:
                return await source.subtitles(item, self.subtitles)
            return await source.remote_subtitles(owner, item, self.subtitles)
        if owner is None:
            return await source.file(item)
        return await source.remote_file(owner, item)


class Facts:
    """Remembers the files that were asked for last."""

    def __init__(self, source: FileSource) -> None:
        """Remember nothing yet."""
        self.source = source
        self._known: OrderedDict[Wanted, LocalFile] = OrderedDict()
        self._asking: dict[Wanted, asyncio.Task[LocalFile]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tell_again = float("-inf")
        self._closed = False

    async def close(self) -> None:
        """Give up every question that is under way."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def get(self, wanted: Wanted) -> LocalFile:
        """Return the file, from memory if it is there. Raises what the source raises."""
        if (file := self._known.get(wanted)) is not None:
            self._known.move_to_end(wanted)
            return file
        # Requests that come together share one question. It goes on when the first of them is given up: the others
        # wait for its answer.
        if (task := self._asking.get(wanted)) is None:
            task = asyncio.create_task(wanted.ask(self.source), name="pemus facts")
            self._asking[wanted] = task
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._asked(wanted, done))
        return await asyncio.shield(task)

    async def fresh(self, wanted: Wanted, stale: LocalFile) -> LocalFile:
        """Return the file again, not as it was said to be in `stale`."""
        if self._known.get(wanted) == stale:
            del self._known[wanted]
        return await self.get(wanted)

    def played(self) -> None:
        """Take note that bytes of media have just left, and tell the source now and then, so that it leaves the disk to them.

        Cheap: called for each piece that is sent. A source that was started in the middle of a film hears of it, too.
        """
        now = time.monotonic()
        if now < self._tell_again or self._closed:
            return
        self._tell_again = now + TELL
        task = asyncio.create_task(self._tell(), name="pemus playing")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        try:
            await self.source.streaming()
        except (EngineError, EngineUnavailable) as err:
            _LOGGER.debug("The engine was not told what is played: %s", err)

    def forget(self, items: Iterable[str] | None) -> None:
        """Forget what is known of these items, or of all of them."""
        gone = None if items is None else set(items)
        known: MutableMapping[Wanted, Any]
        for known in (self._known, self._asking):
            for wanted in list(known):
                if gone is None or wanted.item in gone:
                    del known[wanted]

    def _asked(self, wanted: Wanted, task: asyncio.Task[LocalFile]) -> None:
        self._tasks.discard(task)
        # A question that was under way when its item changed is no longer in the list: its answer may be old.
        current = self._asking.get(wanted) is task
        if current:
            del self._asking[wanted]
        if task.cancelled() or task.exception() is not None or not current:
            return
        self._known[wanted] = task.result()
        if len(self._known) > MAX_FACTS:
            self._known.popitem(last=False)
