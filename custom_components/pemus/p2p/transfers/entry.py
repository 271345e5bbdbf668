"""An entry of the download cache: an item's ticket, its file, which bytes are there, and the record of all this."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
import errno
import logging
from pathlib import Path
import time

from ..access.ticket import Ticket
from ..core.errors import DiskFull, Gone, Unavailable
from ..core.sqlite import StoreError
from ..models import LocalFile
from ..torrent.metainfo import Metainfo
from .cache import Cache, Found, Record
from .content import Content

_LOGGER = logging.getLogger(__name__)

type Key = tuple[str, str]
"""Owner and id of an item."""


class Entry:
    """What the cache has of one item, or is to have. Everything that blocks runs in threads."""

    def __init__(
        self, cache: Cache, ticket: Ticket, meta: Metainfo | None, path: Path
    ) -> None:
        """Begin without a file. `path` is where it will be."""
        self.ticket = ticket
        self.path = path
        self.content = Content(ticket.item.size, meta)
        self.wanted = 0
        """Bytes that were requested from sources and have not arrived."""
        self.pinned = False
        """Whether all of the item is fetched and kept."""
        self.used = time.time()
        """When it was last read, in seconds since the epoch."""
        self.message: str | None = None
        """The last failure in plain English, as long as it matters."""
        self.is_dirty = True
        """Whether the record differs from what the database has."""
        self.is_dropped = False
        """Whether it was removed from the cache. Another entry may be there for the same item."""
        self.is_outdated = False
        """Whether the owner has reported another version, and no new ticket was asked for yet."""
        self.is_unread = False
        """Whether a former engine left it and nobody has read it yet. What that engine promised to readers is not known:
        Home Assistant may be sending parts of it at this moment."""
        self._cache = cache
        self._identity: tuple[int, int] | None = None
        """Inode and device of the file; None while there is no file."""
        self._seal: tuple[int, int] | None = None
        """As in `Record`."""
        self._changes = 0
        """How often something began to write to the file."""
        self._creating = asyncio.Lock()

    @classmethod
    def restored(cls, cache: Cache, found: Found) -> Entry:
        """Return what a former engine left."""
        entry = cls(cache, found.ticket, found.meta, found.path)
        entry.content.spans = found.spans
        entry.content.unchecked = found.unchecked
        entry.used, entry.pinned = found.used, found.pinned
        entry.is_unread = True
        entry._seal = found.seal
        if found.file is not None:
            entry._identity = found.file.inode, found.file.device
            # Without a file the entry has a new name, which the database does not know.
            entry.is_dirty = False
        return entry

    @property
    def key(self) -> Key:
        """Owner and id of the item."""
        return key_of(self.ticket)

    @property
    def label(self) -> str:
        """What the log calls the item."""
        return self.ticket.item.name

    @property
    def is_live(self) -> bool:
        """Whether the ticket is still valid."""
        return self.ticket.is_live(time.time())

    @property
    def awaits_torrent(self) -> bool:
        """Whether a later ticket may have a torrent, which the present one lacks."""
        return self.content.meta is None and not self.ticket.link_only

    @property
    def has_file(self) -> bool:
        """Whether the file was created."""
        return self._identity is not None

    @property
    def is_unused(self) -> bool:
        """Whether there is no file, and nobody is creating one."""
        return not self.has_file and not self._creating.locked()

    async def prepare(self) -> LocalFile | None:
        """Create the file if there is none, and return it if it is new. Raises Gone, DiskFull, Unavailable."""
        async with self._creating:
            if self.has_file:
                return None
            if self.is_dropped:
                raise Gone(f"{self.label} was replaced")
            try:
                await asyncio.to_thread(
                    self._cache.create, self.path, self.ticket.item.size
                )
            except OSError as err:
                if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise DiskFull(
                        f"there is no room for {self.label}: {err.strerror}"
                    ) from err
                raise Unavailable(
                    f"{self.label} cannot be stored: {err.strerror}"
                ) from err
            file = await self._describe()
            if file is None:
                raise Unavailable(f"{self.label} cannot be stored")
            self._identity = file.inode, file.device
            await save(self._cache, [self])
            return file

    async def file(self) -> LocalFile | None:
        """Return the file, created first if necessary; None if somebody removed or replaced it.

        It has the item's time and entity tag, and counts as arriving even when it is complete: it may be removed to free
        space unless somebody waits for it. Raises Gone, DiskFull, Unavailable.
        """
        file = await self.prepare() or await self._describe()
        if file is None or (file.inode, file.device) != self._identity:
            return None
        item = self.ticket.item
        return replace(
            file, mtime_ns=int(item.modified * 1e9), etag=item.etag, arriving=True
        )

    async def _describe(self) -> LocalFile | None:
        return await asyncio.to_thread(self._cache.describe, self.path, self.ticket)

    async def remove(self) -> None:
        """Remove the file and the record. Nothing may write to the file any more."""
        # The file may be in creation at this moment.
        async with self._creating:
            try:
                await asyncio.to_thread(self._cache.remove, [self.path])
            except (OSError, StoreError) as err:
                _LOGGER.warning("Cannot remove %s: %s", self.path, err)

    async def punch(self, spans: Sequence[tuple[int, int]]) -> None:
        """Free the disk space of bytes that `content` has chosen to leave."""
        await self.unseal()
        try:
            await asyncio.to_thread(self._cache.punch, self.path, spans)
        except OSError as err:
            _LOGGER.warning("Cannot free space in the cache: %s", err)
        finally:
            self.content.left(spans)
            self.is_dirty = True

    async def unseal(self) -> None:
        """Record that the file is about to change. Call this before anything writes to it."""
        self._changes += 1
        if self._seal is not None:
            self._seal = None
            await save(self._cache, [self])

    async def seal(self) -> None:
        """Record the file's time and what is there. Call this when nothing writes to it any more."""
        if not self.has_file or self.content.unchecked.total:
            return
        changes = self._changes
        seal = await asyncio.to_thread(self._cache.seal, self.path)
        if changes == self._changes:
            self._seal = seal
            await save(self._cache, [self])

    def record(self) -> Record:
        """Return what the database keeps of it."""
        return Record(
            name=self.path.name,
            ticket=self.ticket,
            spans=self.content.spans.encode(),
            seal=self._seal,
            used=self.used,
            pinned=self.pinned,
        )


async def save(cache: Cache, entries: Sequence[Entry]) -> None:
    """Save the records of entries. Those that cannot be saved stay dirty."""
    if not entries:
        return
    records = [entry.record() for entry in entries]
    for entry in entries:
        entry.is_dirty = False
    try:
        await asyncio.to_thread(cache.save, records)
    except StoreError as err:
        _LOGGER.warning("Cannot record what was downloaded: %s", err)
        for entry in entries:
            entry.is_dirty = True


def key_of(ticket: Ticket) -> Key:
    """Return owner and id of the item that a ticket is for."""
    return ticket.owner, ticket.item.id
