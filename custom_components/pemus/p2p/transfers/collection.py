"""The downloads of this home, one for each item that it has or had a ticket for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
import logging
import time
from typing import Final

from ..access.ticket import Ticket
from ..core import tasks
from ..core.errors import EngineError, Gone, Unavailable
from ..models import LocalFile
from ..torrent.metainfo import Metainfo
from .cache import Cache, Found
from .download import Download
from .entry import Entry, Key, save
from .room import Room
from .sources.factory import Sources

MAX_UNUSED: Final = 10_000
"""Tickets without a file that are remembered."""

_LOGGER = logging.getLogger(__name__)


class Collection:
    """All downloads by owner and item id."""

    def __init__(self, cache: Cache, room: Room, sources: Sources) -> None:
        """Begin with none."""
        self.saved = float("-inf")
        """When records were last saved, by the monotonic clock."""
        self.cache = cache
        self.room = room
        self._sources = sources
        self._downloads: dict[Key, Download] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Download]:
        """Iterate over a copy, because downloads may come and go meanwhile."""
        return iter(tuple(self._downloads.values()))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._downloads)

    def get(self, key: Key) -> Download | None:
        """Return the download of an item."""
        return self._downloads.get(key)

    def insert(self, ticket: Ticket, meta: Metainfo | None) -> Download:
        """Add a download without a file."""
        path = self.cache.new_path(ticket)
        return self._add(Entry(self.cache, ticket, meta, path))

    def restore(self, found: Found) -> None:
        """Add what a former engine left."""
        self._add(Entry.restored(self.cache, found))

    def _add(self, entry: Entry) -> Download:
        self.room.entries.add(entry)
        download = Download(entry, self.room, self._sources)
        self._downloads[entry.key] = download
        return download

    def drop(self, download: Download, reason: EngineError) -> asyncio.Task[None]:
        """Remove a download at once, and its file as soon as nothing writes to it. Its readers get `reason`."""
        entry = download.entry
        del self._downloads[entry.key]
        self.room.entries.discard(entry)
        self.room.has_changed = True
        entry.is_dropped = True
        task = tasks.spawn(self._dispose(download, reason), f"drop {entry.label}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def _dispose(self, download: Download, reason: EngineError) -> None:
        await download.close(reason)
        await download.entry.remove()

    async def dropped(self) -> None:
        """Wait until the files of all dropped downloads are removed."""
        if self._leaving:
            await asyncio.wait(self._leaving)

    def forget_unused(self) -> None:
        """Drop the oldest tickets without a file if there are very many."""
        if len(self) <= MAX_UNUSED:
            return
        unused = [each for each in self if each.entry.is_unused]
        for download in unused[: len(self) - MAX_UNUSED]:
            self.drop(download, Gone("too many tickets came meanwhile"))

    async def file(self, download: Download) -> LocalFile:
        """Return the file of a download, created first if necessary. Raises Gone, DiskFull, Unavailable.

        If somebody removed or replaced the file, another download takes the place of this one.
        """
        entry = download.entry
        if (file := await entry.file()) is not None:
            return file
        if not entry.is_dropped:
            _LOGGER.warning("The file of %s is gone", entry.label)
            self.drop(download, Gone(f"{entry.label} was replaced"))
            fresh = self.insert(entry.ticket, entry.content.meta)
            fresh.entry.pinned = entry.pinned
        if (current := self.get(entry.key)) is None:
            raise Gone(f"{entry.label} was replaced")
        if (file := await current.entry.file()) is None:
            raise Unavailable(f"{entry.label} cannot be stored")
        return file

    async def save(self) -> None:
        """Save the records that have changed."""
        self.saved = time.monotonic()
        entries = [download.entry for download in self]
        await save(self.cache, [each for each in entries if each.is_dirty])

    async def close(self, reason: EngineError, seconds: float) -> None:
        """End all downloads and save their records. Gives the disk so many seconds to write what was fetched."""
        ending = [asyncio.create_task(each.close(reason)) for each in self]
        ending += self._leaving
        if ending:
            _, late = await asyncio.wait(ending, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
        await self.save()
