"""The downloads of this home, with their files and their records in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
import errno
import logging
from pathlib import Path
from typing import Final

from ..access.ticket import Ticket
from ..core import tasks
from ..core.errors import DiskFull, EngineError, Gone, Unavailable
from ..core.sqlite import StoreError
from ..models import LocalFile
from ..torrent.metainfo import Metainfo
from .cache import Cache, Found, Record
from .download import Download

MAX_UNUSED: Final = 10_000
"""Tickets without a file that are remembered."""

_LOGGER = logging.getLogger(__name__)

type Key = tuple[str, str]
"""Owner and id of an item."""


@dataclass(slots=True, eq=False)
class Entry:
    """A download and what is known of its file."""

    download: Download
    inode: int | None = None
    """None while there is no file."""
    device: int = 0
    seal: tuple[int, int] | None = None
    counted: int = 0
    """Bytes that are counted in `Entries.used`."""
    is_dirty: bool = False
    """Whether its record has changed."""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    unheard: bool = False
    """Whether it comes from a former engine, and nobody has read it yet. What that one promised is not known: somebody may
    be sending parts of it at this moment."""

    @property
    def key(self) -> Key:
        """Return owner and id of the item."""
        return key_of(self.download.ticket)

    def is_made(self) -> bool:
        """Tell whether there is a file."""
        return self.inode is not None


class Entries:
    """All downloads, by owner and item."""

    def __init__(
        self,
        cache: Cache,
        make: Callable[[Ticket, Metainfo | None, Path], Download],
    ) -> None:
        """Prepare to keep files in a cache. `make` makes a download."""
        self.used = 0
        """Bytes that all files take on disk."""
        self.has_changed = False
        """Whether there is something new to show. Whoever shows it sets it back."""
        self._cache = cache
        self._make = make
        self._entries: dict[Key, Entry] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over a copy: entries may come and go meanwhile."""
        return iter(tuple(self._entries.values()))

    def get(self, key: Key) -> Entry | None:
        """Return the entry of an item."""
        return self._entries.get(key)

    def of(self, download: Download) -> Entry | None:
        """Return the entry of a download, None if another one has taken its place."""
        entry = self._entries.get(key_of(download.ticket))
        return entry if entry is not None and entry.download is download else None

    @property
    def pinned(self) -> int:
        """Return the bytes of all offline copies, once they are whole."""
        return sum(each.download.size for each in self if each.download.pinned)

    # They come and go.

    def insert(self, ticket: Ticket, meta: Metainfo | None) -> Entry:
        """Add a download for which there is nothing yet."""
        download = self._make(ticket, meta, self._cache.new_path(ticket))
        entry = self._entries[key_of(ticket)] = Entry(download, is_dirty=True)
        return entry

    def restore(self, found: Found) -> None:
        """Add what a former engine left."""
        download = self._make(found.ticket, found.meta, found.path)
        download.content.spans = found.spans
        download.content.unchecked = found.unchecked
        download.used, download.pinned = found.used, found.pinned
        # Where there is no file its name is new, and not noted yet.
        entry = Entry(
            download, seal=found.seal, is_dirty=found.file is None, unheard=True
        )
        if found.file is not None:
            entry.inode, entry.device = found.file.inode, found.file.device
        self._entries[key_of(found.ticket)] = entry
        self.count(entry)

    def drop(self, key: Key, reason: EngineError) -> asyncio.Task[None]:
        """Forget an entry at once, and remove its file as soon as nothing writes to it. Whoever reads it gets `reason`."""
        entry = self._entries.pop(key)
        self.used -= entry.counted
        self.has_changed = True
        task = tasks.spawn(self._dispose(entry, reason), f"drop {entry.download.label}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def _dispose(self, entry: Entry, reason: EngineError) -> None:
        # Its file may be just about to be made.
        async with entry.changing:
            await entry.download.close(reason)
            try:
                await asyncio.to_thread(self._cache.remove, [entry.download.path])
            except (OSError, StoreError) as err:
                _LOGGER.warning("%s cannot be removed: %s", entry.download.path, err)

    async def dropped(self) -> None:
        """Wait until the files of all that was dropped are removed."""
        if self._leaving:
            await asyncio.wait(self._leaving)

    def forget_unused(self) -> None:
        """Forget the oldest tickets that nothing was done with, if there are very many."""
        if len(self._entries) <= MAX_UNUSED:
            return
        unused = [
            key
            for key, entry in self._entries.items()
            if entry.inode is None and not entry.changing.locked()
        ]
        for key in unused[: len(self._entries) - MAX_UNUSED]:
            self.drop(key, Gone("too many tickets came meanwhile"))

    async def close(self, reason: EngineError, seconds: float) -> None:
        """End all downloads, and save what there is. The disk has so many seconds to take what is still to be written."""
        ending = [asyncio.create_task(entry.download.close(reason)) for entry in self]
        ending += self._leaving
        if ending:
            _, late = await asyncio.wait(ending, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
        await self.flush()

    # Their files.

    async def file(self, entry: Entry) -> tuple[Entry, LocalFile]:
        """Return the file of an entry as it is on disk, made first if need be. Raises Gone, DiskFull, Unavailable.

        An entry whose file somebody removed or replaced begins anew, so the entry that counts is returned as well.
        """
        facts = await self.prepare(entry) or await self._describe(entry)
        if facts is None or (facts.inode, facts.device) != (entry.inode, entry.device):
            download = entry.download
            if self.of(download) is entry:
                _LOGGER.warning("What was fetched of %s is gone", download.label)
                self.drop(entry.key, Gone(f"{download.label} was replaced"))
                fresh = self.insert(download.ticket, download.meta)
                fresh.download.pinned = download.pinned
            if (current := self.get(entry.key)) is None:
                raise Gone(f"{download.label} was replaced")
            entry = current
            facts = await self.prepare(entry) or await self._describe(entry)
        if facts is None:
            raise Unavailable(f"{entry.download.label} cannot be stored")
        return entry, facts

    async def prepare(self, entry: Entry) -> LocalFile | None:
        """Make the file of an entry if there is none; return its facts if it is new. Raises Gone, DiskFull, Unavailable."""
        if entry.is_made():
            return None
        download = entry.download
        async with entry.changing:
            if entry.is_made():
                return None
            if self.of(download) is not entry:
                raise Gone(f"{download.label} was replaced")
            try:
                await asyncio.to_thread(
                    self._cache.create, download.path, download.size
                )
            except OSError as err:
                if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise DiskFull(
                        f"there is no room for {download.label}: {err.strerror}"
                    ) from err
                raise Unavailable(
                    f"{download.label} cannot be stored: {err.strerror}"
                ) from err
            if (facts := await self._describe(entry)) is None:
                raise Unavailable(f"{download.label} cannot be stored")
            entry.inode, entry.device = facts.inode, facts.device
            await self.save([entry])
            return facts

    async def _describe(self, entry: Entry) -> LocalFile | None:
        download = entry.download
        return await asyncio.to_thread(
            self._cache.describe, download.path, download.ticket
        )

    async def punch(self, entry: Entry, spans: Sequence[tuple[int, int]]) -> None:
        """Give the room of some bytes of a file back to the disk."""
        download = entry.download
        await self.unseal(entry)
        try:
            await asyncio.to_thread(self._cache.punch, download.path, spans)
        except OSError as err:
            _LOGGER.warning("Room cannot be made in the cache: %s", err)
        finally:
            self.count(entry)
            entry.is_dirty = True
            download.left(spans)
        if not download.fetcher.is_active:
            await self.seal(entry)

    async def unseal(self, entry: Entry) -> None:
        """Note, before a file changes, that its time says nothing from now on."""
        if entry.seal is not None:
            entry.seal = None
            await self.save([entry])

    async def seal(self, entry: Entry) -> None:
        """Note what there is and the time of the file, now that it does not change."""
        download = entry.download
        if entry.inode is None or download.content.unchecked.total:
            return
        seal = await asyncio.to_thread(self._cache.seal, download.path)
        if not download.fetcher.is_changing:
            entry.seal = seal
            await self.save([entry])
        self.has_changed = True

    # Their records.

    def count(self, entry: Entry) -> None:
        """Count again what a file takes on disk."""
        stored = entry.download.content.stored
        self.used += stored - entry.counted
        entry.counted = stored
        self.has_changed = True

    async def flush(self) -> None:
        """Save what has changed."""
        await self.save([entry for entry in self if entry.is_dirty])

    async def save(self, entries: Sequence[Entry]) -> None:
        """Save some records. What cannot be saved is tried again with the next `flush`."""
        if not entries:
            return
        records = []
        for entry in entries:
            entry.is_dirty = False
            download = entry.download
            records.append(
                Record(
                    name=download.path.name,
                    ticket=download.ticket,
                    spans=download.spans.encode(),
                    seal=entry.seal,
                    used=download.used,
                    pinned=download.pinned,
                )
            )
        try:
            await asyncio.to_thread(self._cache.save, records)
        except StoreError as err:
            _LOGGER.warning("What was downloaded cannot be noted: %s", err)
            for entry in entries:
                entry.is_dirty = True


def key_of(ticket: Ticket) -> Key:
    """Return owner and id of the item that a ticket is for."""
    return ticket.owner, ticket.item.id
