"""Remote items: those for which this home has or had tickets, and what is in the cache of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
import logging
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
from .collection import Collection
from .download import WAIT_TIMEOUT, Download
from .entry import Entry, key_of
from .renewal import Renew, Renewal
from .room import Room
from .sources.factory import AskOwner, Sources
from .upkeep import keep

if TYPE_CHECKING:
    # They load libtorrent, which may be missing.
    from ..torrent.session import Session
    from ..torrent.signaling_relay import SignalingRelays

CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the disk to write what was fetched. What it did not write is checked at the next start."""

_LOGGER = logging.getLogger(__name__)


class Downloads:
    """All remote items. All methods are called in the event loop, and none blocks it."""

    def __init__(
        self,
        session: Session | None,
        cache: Cache,
        settings: CacheSettings,
        *,
        introducer: SignalingRelays | None = None,
        ask: AskOwner | None = None,
        renew: Renew | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to fetch items into a cache: by torrents if there is a `session`, over links if there is a way to `ask` owners.

        `introducer` finds WebRTC peers. `renew` asks an owner for a new ticket when one has ended or has no torrent yet.
        `on_change` is called when `list`, `usage` or `problems` may have changed.
        """
        self._cache = cache
        self._has_torrents = session is not None
        self._tasks = tasks.Tasks()
        self._room = Room(cache, settings)
        self._downloads = Collection(
            cache, self._room, Sources(session, introducer, ask)
        )
        self._renewal = Renewal(renew, self.accept, self._tasks)
        self._on_change = on_change
        self._running = False

    async def start(self) -> None:
        """Open the cache, and continue with what a former engine left. Raises CacheError."""
        for found in await asyncio.to_thread(self._cache.open):
            self._downloads.restore(found)
        self._running = True
        await self._room.measure()
        look_after = partial(keep, self._downloads, self._renewal, self._on_change)
        self._tasks.keep(look_after, "downloads")
        for download in self._downloads:
            if download.entry.pinned:
                try:
                    await download.entry.prepare()
                except EngineError as err:
                    _LOGGER.warning("%s is not kept: %s", download.label, err)
                else:
                    download.replan()

    async def close(self) -> None:
        """End all transfers and record what is there. Call this while the session still runs."""
        self._running = False
        await self._tasks.end()
        reason = Unavailable("the engine is stopping")
        await self._downloads.close(reason, CLOSE_TIMEOUT)
        await asyncio.to_thread(self._cache.close)

    def apply(self, settings: CacheSettings) -> None:
        """Change how much of the disk may be taken."""
        if settings != self._room.settings:
            self._room.settings = settings
            self._room.has_changed = True
            self._room.nudged.set()

    # Tickets.

    async def accept(self, ticket: Ticket) -> None:
        """Take a ticket. It replaces a former one for the same item.

        If it is for another version of the item, what was fetched of the former version is removed, and its readers get
        `Gone`.

        Raises:
            BadRequest: no engine makes such a ticket.
            Gone: it has expired.

        """
        try:
            ticket, meta = await asyncio.to_thread(_checked, ticket)
        except BadTicket as err:
            raise BadRequest(f"the ticket cannot be used: {err}") from None
        if not self._has_torrents and meta is None and not ticket.link_only:
            # It is no use to ask for a torrent. If the ticket has one, a session that starts later uses it.
            ticket = replace(ticket, link_only=True)
        if not self._running:
            raise Unavailable("the engine is stopping")
        if not ticket.is_live(time.time()):
            raise Gone("the ticket has expired")
        key = key_of(ticket)
        download = self._downloads.get(key)
        if download is not None and _is_same(download.entry, ticket, meta):
            download.renew(ticket, meta)
        else:
            if download is not None:
                reason = Gone(f"{download.label} was replaced by another version")
                self._downloads.drop(download, reason)
            self._downloads.insert(ticket, meta)
            if download is not None and download.entry.pinned:
                await self.pin(*key)
        self._downloads.forget_unused()
        await self._downloads.save()

    def etag(self, owner: str, item: str) -> str | None:
        """Return the entity tag of an item that can be read: all of it is here, or its ticket is valid. None if it cannot."""
        if (download := self._downloads.get((owner, item))) is None:
            return None
        entry = download.entry
        can_read = entry.content.is_complete or entry.is_live
        return entry.ticket.item.etag if can_read else None

    # Reading.

    async def file(self, owner: str, item: str) -> LocalFile:
        """Return the file that an item arrives in, created first if necessary. `wait` tells what is in it.

        Raises:
            NotFound: there was no ticket for it.
            DiskFull: there is no space for it.
            Unavailable: the disk does not work.

        """
        download = self._find(owner, item)
        download.entry.used = time.time()
        return await self._downloads.file(download)

    async def wait(
        self,
        owner: str,
        item: str,
        reader: str,
        start: int,
        stop: int,
        timeout: float = WAIT_TIMEOUT,
        *,
        path: str | None = None,
    ) -> int:
        """Wait until the byte at `start` of an item is there. Return up to where the bytes after it are there, at most `stop`.

        Those bytes stay until `reader` asks again or is released. `path` is the file that the reader has opened. If another
        file has taken its place, the reader must not continue.

        Raises:
            BadRequest: there is no such range.
            NotFound: there was no ticket for the item.
            Unavailable: nothing arrived within `timeout` seconds.
            DiskFull: there is no space.
            Gone: the ticket ended, or the item is another version.
            Replaced: the file is another one.

        """
        download = self._find(owner, item)
        await download.entry.prepare()
        if not download.entry.is_live and not download.entry.content.has(start):
            await self._renewal.answered(download.entry, timeout)
            download = self._find(owner, item)
            if not download.entry.is_live:
                raise Gone(f"the ticket for {download.label} has expired")
        entry = download.entry
        if not entry.content.has(start) and self._room.press(entry):
            for each in self._downloads:
                if each.entry.pinned and each.entry.wanted:
                    each.replan()
        if entry.awaits_torrent:
            self._renewal.ask(entry)
            # From now on it is asked again and again, as long as somebody waits.
            self._room.nudged.set()
        if path is not None and path != str(entry.path):
            raise Replaced(f"{download.label} was replaced")
        entry.is_unread = False
        return await download.wait(reader, start, stop, timeout)

    def release(self, owner: str, item: str, reader: str) -> None:
        """Forget a reader. Nothing happens if it is not known."""
        if (download := self._downloads.get((owner, item))) is not None:
            download.release(reader)

    # Keeping.

    async def pin(self, owner: str, item: str) -> TransferStatus:
        """Fetch all of an item and keep it until `unpin`. Return its state.

        Raises:
            NotFound: there was no ticket for it.
            DiskFull: it does not fit into the cache beside the other offline copies.
            Unavailable: the disk does not work.

        """
        download = self._find(owner, item)
        entry = download.entry
        if not entry.pinned:
            if not self._room.fits_copy(entry.content.size):
                raise DiskFull(
                    f"an offline copy of {entry.label} does not fit into the download cache"
                )
            await entry.prepare()
            entry.used = time.time()
            download.pin(pinned=True)
            await self._downloads.save()
        return download.status()

    async def unpin(self, owner: str, item: str) -> TransferStatus:
        """Keep an item no longer than others. Return its state. Raises NotFound."""
        download = self._find(owner, item)
        download.pin(pinned=False)
        await self._downloads.save()
        return download.status()

    async def remove(self, owner: str, item: str | None = None) -> None:
        """Remove everything of an owner, or one item. Readers get `Gone`."""
        for download in self._downloads:
            if (owner, item or download.entry.key[1]) == download.entry.key:
                reason = Gone(f"{download.label} is not shared any more")
                self._downloads.drop(download, reason)
        await self._downloads.dropped()

    # State.

    def list(self) -> tuple[TransferStatus, ...]:
        """Return the state of all items of which there is, or should be, anything."""
        return tuple(
            each.status()
            for each in self._downloads
            if each.entry.content.stored
            or each.entry.pinned
            or each.state is not TransferState.IDLE
        )

    def in_use(self, owner: str) -> tuple[str, ...]:
        """Return the items of an owner that are being read, or kept."""
        return tuple(
            each.entry.key[1]
            for each in self._downloads
            if each.entry.key[0] == owner and (each.readers.active or each.entry.pinned)
        )

    def rates(self) -> Mapping[str, int]:
        """Return how many bytes per second come from each home that sends any."""
        rates: Counter[str] = Counter()
        for each in self._downloads:
            rates[each.entry.key[0]] += each.fetcher.status.download_rate
        return +rates

    @property
    def fetching(self) -> int:
        """How many items are being fetched, or would be if somebody delivered."""
        moving = {TransferState.FETCHING, TransferState.WAITING}
        return sum(each.state in moving for each in self._downloads)

    @property
    def usage(self) -> CacheUsage:
        """How much of the disk is taken."""
        return self._room.usage

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The lasting faults."""
        if not self._room.is_full:
            return ()
        path = str(self._cache.folder)
        return (Problem(key=ProblemKey.DISK_FULL, placeholders={"path": path}),)

    def _find(self, owner: str, item: str) -> Download:
        """Return the download of an item. Raises NotFound, Unavailable."""
        if not self._running:
            raise Unavailable("the engine is stopping")
        if (download := self._downloads.get((owner, item))) is None:
            raise NotFound("there is no ticket for such an item")
        return download


def _checked(ticket: Ticket) -> tuple[Ticket, Metainfo | None]:
    """Return a ticket and its torrent, checked as if it had just come in. Raises BadTicket."""
    checked = tickets.read(ticket.encode(), kept=True)
    return checked, checked.metainfo()


def _is_same(entry: Entry, ticket: Ticket, meta: Metainfo | None) -> bool:
    """Tell whether a ticket is for the version that an entry has."""
    former, item = entry.ticket.item, ticket.item
    if (former.etag, former.size) != (item.etag, item.size):
        return False
    known = entry.content.meta
    if meta is None or known is None:
        return True
    # Other hashes mean other content, whatever the entity tag says.
    return (meta.piece_length, meta.pieces) == (known.piece_length, known.pieces)
