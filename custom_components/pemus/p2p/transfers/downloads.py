"""All remote items: those that this home was given tickets for, and what of them is in the cache."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
import logging
from pathlib import Path
import time
from typing import TYPE_CHECKING, Final

from ..access import ticket as tickets
from ..access.ticket import BadTicket, Ticket
from ..core import tasks
from ..core.errors import (
    BadRequest,
    DiskFull,
    EngineError,
    Gone,
    NotFound,
    Replaced,
    Unavailable,
)
from ..models import LocalFile, Problem, ProblemKey
from ..models.transfers import CacheUsage, TransferState, TransferStatus
from ..torrent.metainfo import Metainfo
from .cache import Cache, CacheSettings
from .download import PATIENCE, Download
from .entries import Entries, Entry, key_of
from .eviction import Eviction
from .renewal import Renew, Renewal
from .room import Room
from .sources.torrent import Introducer, Source, SwarmSource

if TYPE_CHECKING:
    # It loads libtorrent, which may be missing.
    from ..torrent.session import Session

ROUND: Final = 1.0
"""Seconds between two looks at room, readers and records while something happens."""
SLOW_ROUND: Final = 60.0
"""Seconds between two of them while nothing does."""
FLUSH: Final = 5.0
"""Seconds after which what arrived is noted in the database."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the disk to take what was downloaded. What it did not take is checked at the next start."""
_BREATH: Final = 0.1

_LOGGER = logging.getLogger(__name__)

type OtherSources = Callable[[Ticket, Source | None], Source | None]


class Downloads:
    """The receiver's side of the swarm. All methods are called in the event loop, and none blocks it."""

    def __init__(
        self,
        session: Session | None,
        cache: Cache,
        settings: CacheSettings,
        *,
        introducer: Introducer | None = None,
        renew: Renew | None = None,
        beside: OtherSources | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to fetch through a session into a cache. Without a session, all comes from what `beside` returns.

        `renew` asks an owner for a new ticket in the place of one that ended, or that is without a torrent yet; it raises
        an EngineError if there is none. `beside` returns another source for what a ticket is for, which races the swarm if
        the ticket has a torrent; None if there is none. `on_change` is called when `list`, `usage` or `problems` may have changed.
        """
        self._session = session
        self._cache = cache
        self._introducer = introducer
        self._beside = beside
        self._on_change = on_change
        self._tasks = tasks.Tasks()
        self._entries = Entries(cache, self._made)
        self._room = Room(self._entries, cache, settings)
        self._eviction = Eviction(self._entries, self._room, cache)
        self._renewal = Renewal(renew, self.accept, self._tasks)
        self._flushed = 0.0
        self._running = False

    def _made(self, ticket: Ticket, meta: Metainfo | None, path: Path) -> Download:
        return Download(self, self._room, ticket, meta, path)

    # Beginning and end.

    async def start(self) -> None:
        """Open the cache and go on with what a former engine left. Raises CacheError."""
        found = await asyncio.to_thread(self._cache.open)
        for each in found:
            self._entries.restore(each)
        self._running = True
        await self._room.measure()
        self._tasks.keep(self._keep, "downloads")
        if any(entry.download.content.unchecked.total for entry in self._entries):
            self._tasks.spawn(self._check_all(), "check downloads")
        for entry in self._entries:
            if entry.download.pinned:
                await self._restore_pin(entry)

    async def _restore_pin(self, entry: Entry) -> None:
        try:
            await self._entries.prepare(entry)
        except EngineError as err:
            _LOGGER.warning("%s is not kept: %s", entry.download.label, err)
        else:
            entry.download.replan()

    async def close(self) -> None:
        """End all transfers, and note what there is. To be called while the session still runs."""
        self._running = False
        await self._tasks.end()
        await self._entries.close(Unavailable("the engine is stopping"), CLOSE_TIMEOUT)
        await asyncio.to_thread(self._cache.close)

    def apply(self, settings: CacheSettings) -> None:
        """Change how much of the disk may be taken."""
        if settings != self._room.settings:
            self._room.settings = settings
            self._entries.has_changed = True
            self._room.nudged.set()

    # What the engine asks.

    async def accept(self, ticket: Ticket) -> None:
        """Take a ticket, in the place of a former one for the same item.

        If it is for another version of the item, what was fetched of the former one is dropped, and those who read it
        get `Gone`.

        Raises:
            BadRequest: it is not one that an engine makes.
            Gone: it has expired.

        """
        try:
            ticket, meta = await asyncio.to_thread(_checked, ticket)
        except BadTicket as err:
            raise BadRequest(f"the ticket cannot be used: {err}") from None
        if self._session is None and meta is None and not ticket.link_only:
            # There is no use for asking for a torrent. One that it has is for a session that starts later.
            ticket = replace(ticket, link_only=True)
        if not self._running:
            raise Unavailable("the engine is stopping")
        if not ticket.is_live(time.time()):
            raise Gone("the ticket has expired")
        key = key_of(ticket)
        entry = self._entries.get(key)
        if entry is not None and _is_same(entry.download, ticket, meta):
            entry.download.renew(ticket, meta)
            entry.is_dirty = True
        else:
            pinned = entry is not None and entry.download.pinned
            if entry is not None:
                reason = Gone(f"{entry.download.label} is another one by now")
                self._entries.drop(key, reason)
            self._entries.insert(ticket, meta)
            if pinned:
                await self.pin(*key)
        self._entries.forget_unused()
        await self._flush()

    async def file(self, owner: str, item: str) -> LocalFile:
        """Return the file that an item arrives in, made first if need be. What is in it is for `wait` to say.

        Raises:
            NotFound: there was no ticket for it.
            DiskFull: there is no room for it.
            Unavailable: the disk does not work.

        """
        entry = self._entry(owner, item)
        entry.download.used = time.time()
        entry, facts = await self._entries.file(entry)
        ticket = entry.download.ticket
        return LocalFile(
            path=facts.path,
            name=facts.name,
            content_type=facts.content_type,
            size=facts.size,
            mtime_ns=int(ticket.item.modified * 1e9),
            inode=facts.inode,
            device=facts.device,
            etag=ticket.item.etag,
            # Also when all of it is there: it may be removed to make room, unless somebody waits for it.
            arriving=True,
        )

    async def wait(
        self,
        owner: str,
        item: str,
        reader: str,
        start: int,
        stop: int,
        timeout: float = PATIENCE,
        *,
        path: str | None = None,
    ) -> int:
        """Wait for bytes of an item from `start` on, and return up to where they are in the file, at most `stop`.

        What was promised stays there until `reader` asks again, or is released. `path` is that of the file which the
        reader has opened: if another one has taken its place, it must not go on.

        Raises:
            BadRequest: there is no such range.
            NotFound: there was no ticket for the item.
            Unavailable: nothing arrived within `timeout` seconds.
            DiskFull: there is no room.
            Gone: the ticket ended, or the item is another one.
            Replaced: its file is another one.

        """
        entry = self._entry(owner, item)
        await self._entries.prepare(entry)
        has_ended = not entry.download.ticket.is_live(time.time())
        if has_ended and not entry.download.content.has(start):
            await self._renewal.answered(entry, timeout)
            entry = self._entry(owner, item)
            if not entry.download.ticket.is_live(time.time()):
                raise Gone(f"the ticket for {entry.download.label} has expired")
        if not entry.download.content.has(start):
            self._room.press(entry.download)
        if entry.download.awaits_torrent:
            self._renewal.ask(entry)
            # From now on it is asked again and again, for as long as somebody waits.
            self._room.nudged.set()
        if path is not None and path != str(entry.download.path):
            raise Replaced(f"{entry.download.label} was replaced")
        entry.unheard = False
        return await entry.download.wait(reader, start, stop, timeout)

    def release(self, owner: str, item: str, reader: str) -> None:
        """Forget a reader; nothing happens if it is not known."""
        if (entry := self._entries.get((owner, item))) is not None:
            entry.download.release(reader)

    async def pin(self, owner: str, item: str) -> TransferStatus:
        """Fetch all of an item and keep it until `unpin`; return its state.

        Raises:
            NotFound: there was no ticket for it.
            DiskFull: it is too large for the cache, beside the other offline copies.
            Unavailable: the disk does not work.

        """
        entry = self._entry(owner, item)
        if not entry.download.pinned:
            if not self._room.fits_copy(entry.download.size):
                raise DiskFull(
                    f"an offline copy of {entry.download.label} does not fit into the download cache"
                )
            await self._entries.prepare(entry)
            entry.download.used = time.time()
            entry.download.pin(pinned=True)
            await self._flush()
        return _status(entry.download)

    async def unpin(self, owner: str, item: str) -> TransferStatus:
        """Keep an item no longer than others; return its state. Raises NotFound."""
        download = self._entry(owner, item).download
        download.pin(pinned=False)
        await self._flush()
        return _status(download)

    async def remove(self, owner: str, item: str | None = None) -> None:
        """Forget what was fetched from an owner, or one item of it. Who reads it gets `Gone`."""
        for entry in self._entries:
            if entry.key[0] == owner and item in (None, entry.key[1]):
                reason = Gone(f"{entry.download.label} is not shared any more")
                self._entries.drop(entry.key, reason)
        await self._entries.dropped()

    def list(self) -> tuple[TransferStatus, ...]:
        """Return the state of all items of which there is, or should be, anything."""
        return tuple(
            _status(entry.download)
            for entry in self._entries
            if entry.download.content.stored
            or entry.download.pinned
            or entry.download.state is not TransferState.IDLE
        )

    @property
    def fetching(self) -> int:
        """How many items are being fetched, or would be if somebody delivered."""
        moving = {TransferState.FETCHING, TransferState.WAITING}
        return sum(entry.download.state in moving for entry in self._entries)

    def rates(self) -> Mapping[str, int]:
        """Return how many bytes per second come from each home that sends any."""
        rates: Counter[str] = Counter()
        for entry in self._entries:
            rates[entry.download.ticket.owner] += entry.download.status.download_rate
        return +rates

    @property
    def usage(self) -> CacheUsage:
        """Return how much of the disk is taken."""
        return self._room.usage

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return the lasting faults that there are."""
        if not self._room.is_full:
            return ()
        path = str(self._cache.folder)
        return (Problem(key=ProblemKey.DISK_FULL, placeholders={"path": path}),)

    # What a download asks.

    def can_fetch(self, download: Download) -> bool:
        """Tell whether there is any source for what its ticket allows."""
        if download.meta is not None and self._session is not None:
            return True
        return self._beside is not None and (
            self._beside(download.ticket, None) is not None
        )

    def sources_of(self, download: Download) -> Sequence[Source]:
        """Return new sources for what its ticket allows."""
        ticket, meta = download.ticket, download.meta
        sources: list[Source] = []
        if meta is not None and self._session is not None:
            sources.append(
                SwarmSource(
                    self._session,
                    meta,
                    ticket.owner,
                    ticket.addresses(),
                    self._introducer,
                )
            )
        if self._beside is not None:
            swarm = sources[0] if sources else None
            if (other := self._beside(ticket, swarm)) is not None:
                sources.append(other)
        return sources

    def has_ticket(self, owner: str, item: str) -> bool:
        """Tell whether there is a valid ticket for an item."""
        entry = self._entries.get((owner, item))
        return entry is not None and entry.download.ticket.is_live(time.time())

    def etag(self, owner: str, item: str) -> str | None:
        """Return the entity tag of the version of an item that there is a ticket for, or a copy of."""
        entry = self._entries.get((owner, item))
        return None if entry is None else entry.download.ticket.item.etag

    def in_use(self, owner: str) -> tuple[str, ...]:
        """Return the items of an owner that are read, or are to be kept."""
        return tuple(
            entry.key[1]
            for entry in self._entries
            if entry.key[0] == owner
            and (entry.download.readers or entry.download.pinned)
        )

    def is_complete(self, owner: str, item: str) -> bool:
        """Tell whether all of an item is here."""
        entry = self._entries.get((owner, item))
        return entry is not None and entry.download.content.is_complete

    def outdated(self, download: Download) -> None:
        """Have a new ticket, which is for the version that its owner has now."""
        if (entry := self._entries.of(download)) is not None:
            self._renewal.ask(entry)

    async def writing(self, download: Download) -> None:
        """Believe the file's time no more."""
        if (entry := self._entries.of(download)) is not None:
            await self._entries.unseal(entry)
        self._room.nudged.set()

    async def rested(self, download: Download) -> None:
        """Note what there is, now that the file does not change."""
        if (entry := self._entries.of(download)) is not None:
            await self._entries.seal(entry)

    def noted(self, download: Download) -> None:
        """Count what there is."""
        if (entry := self._entries.of(download)) is not None:
            entry.is_dirty = True
            self._entries.count(entry)

    def _entry(self, owner: str, item: str) -> Entry:
        if not self._running:
            raise Unavailable("the engine is stopping")
        if (entry := self._entries.get((owner, item))) is None:
            raise NotFound("there is no ticket for such an item")
        return entry

    # Keeping house.

    async def _keep(self) -> None:
        while True:
            self._room.nudged.clear()
            try:
                await self._round()
            except Exception:
                _LOGGER.exception("The downloads could not be looked after")
            is_busy = (
                self._room.hungry
                # What is over may be in use just now, and not in a moment.
                or self._entries.used > self._room.settings.quota
                or any(
                    entry.download.fetcher.is_active or entry.download.is_waited_for
                    for entry in self._entries
                )
            )
            await asyncio.sleep(_BREATH)
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND if is_busy else SLOW_ROUND):
                    await self._room.nudged.wait()

    async def _round(self) -> None:
        reading = 0
        for entry in self._entries:
            entry.download.tick()
            reading += entry.download.readers
            if entry.download.needs_ticket:
                self._renewal.ask(entry)
        self._room.reading = max(1, reading)
        await self._room.measure()
        await self._eviction.make_room()
        if time.monotonic() - self._flushed >= FLUSH:
            await self._flush()
        if self._entries.has_changed:
            self._entries.has_changed = False
            self._on_change()

    async def _flush(self) -> None:
        self._flushed = time.monotonic()
        await self._entries.flush()

    async def _check_all(self) -> None:
        """Check what was left by a former engine, one after the other, while nothing else is to be done."""
        for entry in self._entries:
            while entry.download.content.unchecked.total:
                if not any(each.download.fetcher.is_active for each in self._entries):
                    entry.download.check()
                await asyncio.sleep(ROUND)
                if self._entries.of(entry.download) is not entry:
                    break


def _checked(ticket: Ticket) -> tuple[Ticket, Metainfo | None]:
    """Return a ticket as if it had just come in. Raises BadTicket."""
    checked = tickets.read(ticket.encode(), kept=True)
    return checked, checked.metainfo()


def _is_same(download: Download, ticket: Ticket, meta: Metainfo | None) -> bool:
    """Tell whether a ticket is for what a download has already begun with."""
    former, item = download.ticket.item, ticket.item
    if (former.etag, former.size) != (item.etag, item.size):
        return False
    if meta is None or download.meta is None:
        return True
    # Other hashes mean another content, whatever the entity tag says.
    return (meta.piece_length, meta.pieces) == (
        download.meta.piece_length,
        download.meta.pieces,
    )


def _status(download: Download) -> TransferStatus:
    ticket, status = download.ticket, download.status
    return TransferStatus(
        owner=ticket.owner,
        owner_name=ticket.owner_name,
        item=ticket.item.id,
        title=ticket.item.title,
        kind=ticket.item.kind,
        size=download.size,
        done=download.spans.total,
        pinned=download.pinned,
        state=download.state,
        download_rate=status.download_rate,
        upload_rate=status.upload_rate,
        peers=status.peers,
        readers=download.readers,
        used=download.used,
        message=download.message,
    )
