"""All remote items: those that this home was given tickets for, and what of them is in the cache."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
import errno
import logging
import sqlite3
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
from .cache import Cache, CacheSettings, Found, Record
from .download import PATIENCE, Download
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
RENEW: Final = 5.0
"""Seconds after which an owner who gave no new ticket is asked again."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the disk to take what was downloaded. What it did not take is checked at the next start."""
MAX_UNUSED: Final = 10_000
"""Tickets without a file that are remembered."""
SLACK: Final = 64 * 1024**2
"""Bytes of room that are kept at hand while something is fetched; less in a small cache."""
PINNED_SHARE: Final = 0.9
"""How much of the quota offline copies may take: without the rest nothing else could be played."""

PRESSED: Final = 2.0
"""Seconds for which offline copies stand back after somebody had to wait for something else."""

_BREATH: Final = 0.1

_LOGGER = logging.getLogger(__name__)

type _Key = tuple[str, str]
type Renew = Callable[[Ticket], Awaitable[Ticket]]
type OtherSources = Callable[[Ticket, Source | None], Source | None]


@dataclass(slots=True, eq=False)
class _Entry:
    """A download and what is known of its file."""

    download: Download
    inode: int | None = None
    """None while there is no file."""
    device: int = 0
    seal: tuple[int, int] | None = None
    counted: int = 0
    dirty: bool = False
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: float = float("-inf")
    """When the owner was asked for a new ticket last, by the monotonic clock."""
    asking: asyncio.Task[None] | None = None
    unheard: bool = False
    """Whether it comes from a former engine, and nobody has read it yet. What that one promised is not known: somebody may
    be sending parts of it at this moment."""

    def is_made(self) -> bool:
        """Tell whether there is a file."""
        return self.inode is not None


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
        self._settings = settings
        self._introducer = introducer
        self._renew = renew
        self._beside = beside
        self._on_change = on_change
        self._entries: dict[_Key, _Entry] = {}
        self._used = 0
        self._free = 0
        self._used_then = 0
        self._reading = 1
        self._hungry: set[Download] = set()
        self._room_then = 0
        self._disk_full = False
        self._changed = False
        self._flushed = 0.0
        self._nudged = asyncio.Event()
        self._pressed_by: Download | None = None
        self._pressed_until = float("-inf")
        self._tasks = tasks.Tasks()
        self._leaving: set[asyncio.Task[None]] = set()
        self._running = False

    # Beginning and end.

    async def start(self) -> None:
        """Open the cache and go on with what a former engine left. Raises CacheError."""
        found = await asyncio.to_thread(self._cache.open)
        for each in found:
            self._restore(each)
        self._running = True
        await self._measure()
        self._tasks.keep(self._keep, "downloads")
        if any(
            entry.download.content.unchecked.total for entry in self._entries.values()
        ):
            self._tasks.spawn(self._check_all(), "check downloads")
        for entry in list(self._entries.values()):
            if entry.download.pinned:
                await self._restore_pin(entry)

    async def close(self) -> None:
        """End all transfers, and note what there is. To be called while the session still runs."""
        self._running = False
        await self._tasks.end()
        reason = Unavailable("the engine is stopping")
        ending = [
            asyncio.create_task(entry.download.close(reason))
            for entry in self._entries.values()
        ]
        ending += self._leaving
        if ending:
            _, late = await asyncio.wait(ending, timeout=CLOSE_TIMEOUT)
            for task in late:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
        await self._flush()
        await asyncio.to_thread(self._cache.close)

    def apply(self, settings: CacheSettings) -> None:
        """Change how much of the disk may be taken."""
        if settings != self._settings:
            self._settings = settings
            self._changed = True
            self._nudged.set()

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
        key = ticket.owner, ticket.item.id
        entry = self._entries.get(key)
        if entry is not None and _is_same(entry.download, ticket, meta):
            entry.download.renew(ticket, meta)
            entry.dirty = True
        else:
            pinned = entry is not None and entry.download.pinned
            if entry is not None:
                self._drop(key, Gone(f"{entry.download.label} is another one by now"))
            entry = self._insert(ticket, meta)
            entry.dirty = True
            if pinned:
                await self.pin(*key)
        self._forget_unused()
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
        facts = await self._prepared(entry)
        if facts is None:
            facts = await asyncio.to_thread(
                self._cache.describe, entry.download.path, entry.download.ticket
            )
        if facts is None or (facts.inode, facts.device) != (entry.inode, entry.device):
            entry, facts = await self._replaced(entry)
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
        if entry.inode is None:
            await self._prepared(entry)
        if not entry.download.content.has(start) and not entry.download.ticket.is_live(
            time.time()
        ):
            await self._renewed(entry, timeout)
            entry = self._entry(owner, item)
        if not entry.download.content.has(start):
            self._press(entry.download)
        if entry.download.awaits_torrent:
            self._ask(entry)
            # From now on it is asked again and again, for as long as somebody waits.
            self._nudged.set()
        if path is not None and path != str(entry.download.path):
            raise Replaced(f"{entry.download.label} was replaced")
        entry.unheard = False
        return await entry.download.wait(reader, start, stop, timeout)

    def release(self, owner: str, item: str, reader: str) -> None:
        """Forget a reader; nothing happens if it is not known."""
        if (entry := self._entries.get((owner, item))) is not None:
            entry.download.release(reader)

    async def pin(self, owner: str, item: str) -> None:
        """Fetch all of an item and keep it until `unpin`.

        Raises:
            NotFound: there was no ticket for it.
            DiskFull: it is too large for the cache, beside the other offline copies.
            Unavailable: the disk does not work.

        """
        entry = self._entry(owner, item)
        if entry.download.pinned:
            return
        if self._pinned() + entry.download.size > self._settings.quota * PINNED_SHARE:
            raise DiskFull(
                f"an offline copy of {entry.download.label} does not fit into the download cache"
            )
        await self._prepared(entry)
        entry.download.used = time.time()
        entry.download.pin(pinned=True)
        await self._flush()

    async def unpin(self, owner: str, item: str) -> None:
        """Keep an item no longer than others. Raises NotFound."""
        self._entry(owner, item).download.pin(pinned=False)
        await self._flush()

    async def remove(self, owner: str, item: str | None = None) -> None:
        """Forget what was fetched from an owner, or one item of it. Who reads it gets `Gone`."""
        for key in list(self._entries):
            if key[0] == owner and item in (None, key[1]):
                label = self._entries[key].download.label
                self._drop(key, Gone(f"{label} is not shared any more"))
        if self._leaving:
            await asyncio.wait(self._leaving)

    def list(self) -> tuple[TransferStatus, ...]:
        """Return the state of all items of which there is, or should be, anything."""
        return tuple(
            _status(entry.download)
            for entry in self._entries.values()
            if entry.download.content.stored
            or entry.download.pinned
            or entry.download.state is not TransferState.IDLE
        )

    @property
    def fetching(self) -> int:
        """How many items are being fetched, or would be if somebody delivered."""
        moving = {TransferState.FETCHING, TransferState.WAITING}
        return sum(entry.download.state in moving for entry in self._entries.values())

    def rates(self) -> Mapping[str, int]:
        """Return how many bytes per second come from each home that sends any."""
        rates: Counter[str] = Counter()
        for entry in self._entries.values():
            rates[entry.download.ticket.owner] += entry.download.status.download_rate
        return +rates

    def status(self, owner: str, item: str) -> TransferStatus:
        """Return the state of one item. Raises NotFound."""
        return _status(self._entry(owner, item).download)

    @property
    def usage(self) -> CacheUsage:
        """Return how much of the disk is taken."""
        return CacheUsage(
            used=self._used,
            pinned=self._pinned(),
            quota=self._settings.quota,
            free=max(0, self._free - (self._used - self._used_then)),
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return the lasting faults that there are."""
        if not self._disk_full:
            return ()
        path = str(self._cache.folder)
        return (Problem(key=ProblemKey.DISK_FULL, placeholders={"path": path}),)

    # What a download asks.

    def room_for(self, download: Download) -> int:
        """Return how many bytes more it may fetch at present."""
        others = sum(
            entry.download.wants
            for entry in self._entries.values()
            if entry.download is not download and entry.download.wants
        )
        return max(0, self._room() - others)

    def window_for(self, download: Download) -> int:
        """Return how many bytes at most may be fetched ahead of each of its readers.

        What was promised, and what is fetched ahead of that, have to fit for all of them.
        """
        share = self._settings.quota // (4 * self._reading)
        return max(download.content.piece_length, share)

    def is_pressed(self, download: Download) -> bool:
        """Tell whether somebody waits for bytes of another download, and an offline copy has to stand back."""
        return (
            self._pressed_by is not download and time.monotonic() < self._pressed_until
        )

    def _press(self, download: Download) -> None:
        """Have offline copies stand back for a moment."""
        pressed = time.monotonic() < self._pressed_until
        changed = self._pressed_by is not download
        self._pressed_by = download
        self._pressed_until = time.monotonic() + PRESSED
        if changed or not pressed:
            for entry in self._entries.values():
                if entry.download.pinned and entry.download.wants:
                    entry.download.replan()

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

    def has(self, owner: str, item: str) -> bool:
        """Tell whether there is a ticket for an item that has not expired."""
        entry = self._entries.get((owner, item))
        return entry is not None and entry.download.ticket.is_live(time.time())

    def etag(self, owner: str, item: str) -> str | None:
        """Return the entity tag of the version of an item that there is a ticket for, or a copy of."""
        entry = self._entries.get((owner, item))
        return None if entry is None else entry.download.ticket.item.etag

    def in_use(self, owner: str) -> tuple[str, ...]:
        """Return the items of an owner that are read, or are to be kept."""
        return tuple(
            item
            for (home, item), entry in self._entries.items()
            if home == owner and (entry.download.readers or entry.download.pinned)
        )

    def is_complete(self, owner: str, item: str) -> bool:
        """Tell whether all of an item is here."""
        entry = self._entries.get((owner, item))
        return entry is not None and entry.download.content.is_complete

    def outdated(self, download: Download) -> None:
        """Have a new ticket, which is for the version that its owner has now."""
        if (entry := self._entry_of(download)) is not None:
            self._ask(entry)

    def starved(self, download: Download) -> None:
        """Make room soon."""
        self._hungry.add(download)
        self._nudged.set()

    async def writing(self, download: Download) -> None:
        """Believe the file's time no more."""
        entry = self._entry_of(download)
        if entry is not None and entry.seal is not None:
            entry.seal = None
            await self._save([entry])
        self._nudged.set()

    async def rested(self, download: Download) -> None:
        """Note what there is, now that the file does not change."""
        entry = self._entry_of(download)
        if entry is None or entry.inode is None or download.content.unchecked.total:
            return
        seal = await asyncio.to_thread(self._cache.seal, download.path)
        if not download.fetcher.is_changing:
            entry.seal = seal
            await self._save([entry])
        self._changed = True

    def noted(self, download: Download) -> None:
        """Count what there is."""
        if (entry := self._entry_of(download)) is not None:
            entry.dirty = True
            self._count(entry)

    # Entries.

    def _entry(self, owner: str, item: str) -> _Entry:
        if not self._running:
            raise Unavailable("the engine is stopping")
        if (entry := self._entries.get((owner, item))) is None:
            raise NotFound("there is no ticket for such an item")
        return entry

    def _entry_of(self, download: Download) -> _Entry | None:
        entry = self._entries.get(_key(download.ticket))
        return entry if entry is not None and entry.download is download else None

    def _insert(self, ticket: Ticket, meta: Metainfo | None) -> _Entry:
        download = Download(self, ticket, meta, self._cache.new_path(ticket))
        entry = self._entries[_key(ticket)] = _Entry(download)
        return entry

    def _restore(self, found: Found) -> None:
        download = Download(self, found.ticket, found.meta, found.path)
        download.content.spans = found.spans
        download.content.unchecked = found.unchecked
        download.used, download.pinned = found.used, found.pinned
        # Where there is no file its name is new, and not noted yet.
        entry = _Entry(
            download, seal=found.seal, dirty=found.file is None, unheard=True
        )
        if found.file is not None:
            entry.inode, entry.device = found.file.inode, found.file.device
        self._entries[_key(found.ticket)] = entry
        self._count(entry)

    async def _restore_pin(self, entry: _Entry) -> None:
        try:
            await self._prepared(entry)
        except EngineError as err:
            _LOGGER.warning("%s is not kept: %s", entry.download.label, err)
        else:
            entry.download.replan()

    def _drop(self, key: _Key, reason: EngineError) -> asyncio.Task[None]:
        """Forget an entry at once, and remove its file as soon as nothing writes to it."""
        entry = self._entries.pop(key)
        self._used -= entry.counted
        self._changed = True
        task = tasks.spawn(self._dispose(entry, reason), f"drop {entry.download.label}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def _dispose(self, entry: _Entry, reason: EngineError) -> None:
        # Its file may be just about to be made.
        async with entry.changing:
            await entry.download.close(reason)
            try:
                await asyncio.to_thread(self._cache.remove, [entry.download.path])
            except (OSError, sqlite3.Error) as err:
                _LOGGER.warning("%s cannot be removed: %s", entry.download.path, err)

    async def _prepared(self, entry: _Entry) -> LocalFile | None:
        """Make the file of an entry if there is none; return its facts if it is new."""
        if entry.is_made():
            return None
        download = entry.download
        async with entry.changing:
            if entry.is_made():
                return None
            if self._entry_of(download) is not entry:
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
            facts = await asyncio.to_thread(
                self._cache.describe, download.path, download.ticket
            )
            if facts is None:
                raise Unavailable(f"{download.label} cannot be stored")
            entry.inode, entry.device = facts.inode, facts.device
            await self._save([entry])
            return facts

    async def _replaced(self, entry: _Entry) -> tuple[_Entry, LocalFile]:
        """Begin anew with an item whose file somebody removed or replaced."""
        download = entry.download
        if self._entry_of(download) is entry:
            _LOGGER.warning("What was fetched of %s is gone", download.label)
            self._drop(_key(download.ticket), Gone(f"{download.label} was replaced"))
            fresh = self._insert(download.ticket, download.meta)
            fresh.download.pinned = download.pinned
        entry = self._entry(*_key(download.ticket))
        facts = await self._prepared(entry)
        if facts is None:
            facts = await asyncio.to_thread(
                self._cache.describe, entry.download.path, entry.download.ticket
            )
        if facts is None:
            raise Unavailable(f"{download.label} cannot be stored")
        return entry, facts

    def _forget_unused(self) -> None:
        """Forget the oldest tickets that nothing was done with, if there are very many."""
        if len(self._entries) <= MAX_UNUSED:
            return
        unused = [
            key
            for key, entry in self._entries.items()
            if entry.inode is None and not entry.changing.locked()
        ]
        for key in unused[: len(self._entries) - MAX_UNUSED]:
            self._drop(key, Gone("too many tickets came meanwhile"))

    def _count(self, entry: _Entry) -> None:
        stored = entry.download.content.stored
        self._used += stored - entry.counted
        entry.counted = stored
        self._changed = True

    def _pinned(self) -> int:
        return sum(
            entry.download.size
            for entry in self._entries.values()
            if entry.download.pinned
        )

    # New tickets.

    async def _renewed(self, entry: _Entry, timeout: float) -> None:
        """Have a new ticket, if the owner gives one in time. Raises Gone."""
        self._ask(entry)
        if (asking := entry.asking) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await asyncio.shield(asking)
        current = self._entry(*_key(entry.download.ticket))
        if not current.download.ticket.is_live(time.time()):
            raise Gone(f"the ticket for {entry.download.label} has expired")

    def _ask(self, entry: _Entry) -> None:
        """Ask the owner for a new ticket, unless that happened just now."""
        now = time.monotonic()
        if (
            self._renew is not None
            and entry.asking is None
            and now - entry.asked >= RENEW
        ):
            entry.asked = now
            entry.asking = self._tasks.spawn(self._ask_now(entry, self._renew), "renew")

    async def _ask_now(self, entry: _Entry, renew: Renew) -> None:
        try:
            ticket = await renew(entry.download.ticket)
            if _key(ticket) == _key(entry.download.ticket):
                await self.accept(ticket)
        except EngineError as err:
            entry.download.message = str(err)
        finally:
            entry.asking = None

    # Keeping house.

    async def _keep(self) -> None:
        while True:
            self._nudged.clear()
            try:
                await self._round()
            except Exception:
                _LOGGER.exception("The downloads could not be looked after")
            busy = (
                self._hungry
                # What is over may be in use just now, and not in a moment.
                or self._used > self._settings.quota
                or any(
                    entry.download.fetcher.is_active or entry.download.is_waited_for
                    for entry in self._entries.values()
                )
            )
            await asyncio.sleep(_BREATH)
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND if busy else SLOW_ROUND):
                    await self._nudged.wait()

    async def _round(self) -> None:
        reading = 0
        for entry in list(self._entries.values()):
            entry.download.tick()
            reading += entry.download.readers
            if entry.download.needs_ticket:
                self._ask(entry)
        self._reading = max(1, reading)
        await self._measure()
        await self._make_room()
        if time.monotonic() - self._flushed >= FLUSH:
            await self._flush()
        if self._changed:
            self._changed = False
            self._on_change()

    async def _check_all(self) -> None:
        """Check what was left by a former engine, one after the other, while nothing else is to be done."""
        for entry in list(self._entries.values()):
            while entry.download.content.unchecked.total:
                if not any(
                    each.download.fetcher.is_active for each in self._entries.values()
                ):
                    entry.download.check()
                await asyncio.sleep(ROUND)
                if self._entry_of(entry.download) is not entry:
                    break

    # Room.

    async def _measure(self) -> None:
        try:
            self._free = await asyncio.to_thread(self._cache.free)
        except OSError as err:
            _LOGGER.warning("The disk of the download cache is gone: %s", err)
            self._free = 0
        self._used_then = self._used

    def _room(self) -> int:
        """Return how many bytes may be added at present."""
        free = self._free - (self._used - self._used_then)
        return min(self._settings.quota - self._used, free - self._settings.reserve)

    async def _make_room(self) -> None:
        """See to it that those who fetch have room, and tell those who cannot get any."""
        hungry = {
            each
            for each in self._hungry
            if each.is_starved and self._entry_of(each) is not None
        }
        self._hungry = set()
        active = [
            entry.download
            for entry in self._entries.values()
            if entry.download.fetcher.is_active or entry.download in hungry
        ]
        slack = min(SLACK, self._settings.quota // 8) if active else 0
        slack = max([slack, *(each.content.piece_length for each in hungry)])
        wanted = sum(each.wants for each in active)
        if (missing := slack + wanted - self._room()) > 0:
            await self._evict(missing)
            if (missing := slack + wanted - self._room()) > 0:
                await self._thin_out(missing)
        room = self._room()
        # While the disk gave room back, readers moved on, and sources may have filled it again.
        more = self._can_give_back()
        for each in hungry:
            if self.room_for(each) >= each.content.piece_length:
                each.roomier()
            elif more:
                self.starved(each)
            else:
                each.full(self._explain())
        self._note_disk(bool(hungry) and not more, room)
        # Those who want more than there will ever be are looked at again when something changes.
        self._hungry |= {each for each in hungry if each.is_starved}

    def _explain(self) -> str:
        free = self._free - (self._used - self._used_then)
        if free - self._settings.reserve < self._settings.quota - self._used:
            return "the disk of the download cache is full"
        return "the download cache is full of what is being read and of offline copies"

    def _note_disk(self, hungry: bool, room: int) -> None:
        free = self._free - (self._used - self._used_then) - self._settings.reserve
        full = self._disk_full
        if hungry and room <= 0 and free <= 0:
            full = True
        elif free > 0:
            full = False
        if full != self._disk_full:
            self._disk_full = full
            self._changed = True

    def _can_give_back(self) -> bool:
        """Tell whether `_evict` or `_thin_out` would find anything now."""
        return any(
            self._can_evict(entry)
            or (self._can_thin_out(entry) and entry.download.has_spare())
            for entry in self._entries.values()
        )

    def _can_evict(self, entry: _Entry) -> bool:
        download = entry.download
        return (
            download.content.stored > 0
            and not download.pinned
            and not download.is_in_use()
        )

    def _can_thin_out(self, entry: _Entry) -> bool:
        return (
            self._cache.can_punch
            and not entry.download.pinned
            and entry.inode is not None
            and not entry.unheard
        )

    async def _evict(self, most: int) -> None:
        """Remove the downloads that were not read for the longest time, none of which is read or kept."""
        victims = sorted(
            (entry.download.used, key)
            for key, entry in self._entries.items()
            if self._can_evict(entry)
        )
        going = []
        for _, key in victims:
            if most <= 0:
                break
            most -= self._entries[key].counted
            download = self._entries[key].download
            reason = Unavailable("its room in the download cache was needed")
            going.append(self._drop(key, reason))
            # The ticket is as good as before.
            self._insert(download.ticket, download.meta).dirty = True
        if going:
            await asyncio.wait(going)
            await self._measure()

    async def _thin_out(self, most: int) -> None:
        """Give back those parts of what is being read that are far from all readers."""
        for entry in sorted(
            self._entries.values(), key=lambda each: each.counted, reverse=True
        ):
            download = entry.download
            if most <= 0:
                break
            if not self._can_thin_out(entry) or not (spans := download.leave(most)):
                continue
            await self.writing(download)
            try:
                await asyncio.to_thread(self._cache.punch, download.path, spans)
            except OSError as err:
                _LOGGER.warning("Room cannot be made in the cache: %s", err)
            finally:
                self._count(entry)
                entry.dirty = True
                download.left(spans)
            most -= sum(stop - start for start, stop in spans)
            if not download.fetcher.is_active:
                await self.rested(download)
        await self._measure()

    # Records.

    async def _flush(self) -> None:
        self._flushed = time.monotonic()
        await self._save([entry for entry in self._entries.values() if entry.dirty])

    async def _save(self, entries: Sequence[_Entry]) -> None:
        if not entries:
            return
        records = []
        for entry in entries:
            entry.dirty = False
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
        except sqlite3.Error as err:
            _LOGGER.warning("What was downloaded cannot be noted: %s", err)
            for entry in entries:
                entry.dirty = True


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


def _key(ticket: Ticket) -> _Key:
    return ticket.owner, ticket.item.id


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
