"""One remote item as it arrives: a sparse file, what of it is there, who reads it, and the sources that deliver it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
import logging
from pathlib import Path
import time
from typing import TYPE_CHECKING, Final, Protocol

from ..access.ticket import Ticket
from ..core.errors import BadRequest, DiskFull, EngineError, Unavailable
from ..core.spans import Spans
from ..models.transfers import TransferState
from ..torrent.metainfo import Metainfo
from . import planner, readers as reading
from .checker import Checker
from .content import Content
from .fetcher import Fetcher
from .planner import Plan, make_plan
from .readers import Reader, play_rate
from .sources.torrent import Source, SourceStatus

if TYPE_CHECKING:
    from .room import Room

PATIENCE: Final = 10.0
"""Seconds without any sign of life from a source after which a reader is told that the item is unavailable."""
LIMIT: Final = 4
"""That often `timeout` may pass for one question, while bytes trickle in."""
MAX_READERS: Final = 200
BATCH: Final = 4 * 1024**2
"""Bytes that a reader who goes on is answered with at once, if they come within `BATCH_TIMEOUT`."""
BATCH_TIMEOUT: Final = 0.03
"""Seconds. An answer for each piece costs two processes more than the piece does."""

_LOGGER = logging.getLogger(__name__)


class Keeper(Protocol):
    """Who keeps the downloads, as one of them sees it."""

    def can_fetch(self, download: Download) -> bool:
        """Tell whether there is any source for what its ticket allows."""

    def sources_of(self, download: Download) -> Sequence[Source]:
        """Return new sources for what its ticket allows."""

    def outdated(self, download: Download) -> None:
        """Have a new ticket: its owner has another version of the item by now."""

    async def writing(self, download: Download) -> None:
        """Take note, before it happens, that its file will change."""

    async def rested(self, download: Download) -> None:
        """Take note that nothing writes into its file for now."""

    def noted(self, download: Download) -> None:
        """Take note that something about it is worth to be saved or shown."""


class Download:
    """An item of which bytes arrive. Everything happens in the event loop; what blocks is done in threads."""

    def __init__(
        self,
        keeper: Keeper,
        room: Room,
        ticket: Ticket,
        meta: Metainfo | None,
        path: Path,
    ) -> None:
        """Prepare a download into the file `path`, for which there need not be anything yet."""
        self.ticket = ticket
        self.path = path
        self.content = Content(ticket.item.size, meta)
        self.pinned = False
        self.used = time.time()
        self.message: str | None = None
        self.wants = 0
        """Bytes that are asked of the sources and did not arrive yet."""
        self.fetcher = Fetcher(self, keeper)
        self._keeper = keeper
        self._room = room
        self._checker = Checker(self)
        self._readers: dict[str, Reader] = {}
        self._waiters: dict[asyncio.Future[None], int] = {}
        self._ending: EngineError | None = None
        self._full: str | None = None
        self._plan = Plan()
        self._progress = 0

    # What it is.

    @property
    def size(self) -> int:
        """Return the item's bytes."""
        return self.ticket.item.size

    @property
    def label(self) -> str:
        """Return what the log calls it."""
        return self.ticket.item.name

    @property
    def meta(self) -> Metainfo | None:
        """Return the description of its torrent, None as long as there is none."""
        return self.content.meta

    @property
    def spans(self) -> Spans:
        """Return what is there."""
        return self.content.spans

    @property
    def is_waited_for(self) -> bool:
        """Tell whether somebody waits for bytes right now."""
        return any(reader.waiting for reader in self._readers.values())

    @property
    def is_starved(self) -> bool:
        """Tell whether it wants more than there is room for."""
        return self._plan.is_cut or self._full is not None

    @property
    def needs_ticket(self) -> bool:
        """Tell whether it wants more than its ticket is good for."""
        return (
            self.is_waited_for or (self.pinned and not self.content.is_complete)
        ) and (self.awaits_torrent or not self.ticket.is_live(time.time()))

    @property
    def awaits_torrent(self) -> bool:
        """Tell whether a later ticket may have a torrent, which this one has not."""
        return self.meta is None and not self.ticket.link_only

    @property
    def readers(self) -> int:
        """Return how many readers there are."""
        now = time.monotonic()
        return sum(reader.is_active(now) for reader in self._readers.values())

    @property
    def status(self) -> SourceStatus:
        """Return what all sources do together."""
        return self.fetcher.status

    @property
    def state(self) -> TransferState:
        """Return what it is doing."""
        if self.content.is_complete:
            return TransferState.COMPLETE
        if self._full is not None:
            return TransferState.FULL
        if self._checker.is_running:
            return TransferState.CHECKING
        if not self._plan.wanted and not self._plan.is_cut:
            return TransferState.IDLE
        if not self.ticket.is_live(time.time()):
            return TransferState.EXPIRED
        if self.status.peers:
            return TransferState.FETCHING
        return TransferState.WAITING

    # Reading.

    async def wait(
        self, name: str, start: int, stop: int, timeout: float = PATIENCE
    ) -> int:
        """Wait until bytes from `start` on are there, and return up to where they are, at most `stop`.

        `name` tells readers apart. What was returned stays there until the reader asks again, or is released.

        Raises:
            BadRequest: there is no such range.
            Unavailable: nobody delivers.
            DiskFull: there is no room.
            Gone: the item is not available any more.

        """
        if not 0 <= start < stop <= self.size:
            raise BadRequest(f"{self.label} has no bytes {start} to {stop}")
        if self._ending is not None:
            raise self._ending
        reader = self._reader(name)
        goes_on = 0 < start == reader.promised
        stalled = self.spans.run_from(start) == start
        reader.ask(start, stop, time.monotonic(), stalled=stalled)
        self.used = time.time()
        if stalled:
            reader.waiting += 1
            try:
                await self._arrival(reader, start, timeout)
                if goes_on:
                    await self._batch(start, min(stop, start + BATCH))
            finally:
                reader.waiting -= 1
                reader.seen = time.monotonic()
        there = min(stop, self.spans.run_from(start))
        # A reader that comes back now and then is known to be alive, and where it is.
        ahead = max(reader.ahead(self._most()), self.content.piece_length)
        end = min(there, start + ahead)
        if (reader.start, reader.promised) == (start, start):
            reader.tell(end, time.monotonic())
        else:
            # It asked for something else meanwhile; both promises are kept.
            reader.start = min(reader.start, start)
            reader.promised = max(reader.promised, end)
        if not self.content.is_complete and not reader.is_planned(self._most()):
            self.replan()
        return end

    def release(self, name: str) -> None:
        """Forget a reader."""
        if self._readers.pop(name, None) is not None:
            self.replan()

    def kept(self) -> list[tuple[int, int]]:
        """Return what readers were told to be there, or should soon find there."""
        now, most = time.monotonic(), self._most()
        return [reader.kept(most, now) for reader in self._readers.values()]

    def _reader(self, name: str) -> Reader:
        if (reader := self._readers.get(name)) is not None:
            return reader
        now = time.monotonic()
        if len(self._readers) >= MAX_READERS:
            oldest = min(self._readers, key=lambda each: self._readers[each].seen)
            if self._readers[oldest].is_active(now):
                raise Unavailable(f"too many read {self.label} at once")
            del self._readers[oldest]
        item = self.ticket.item
        reader = self._readers[name] = Reader(
            rate=play_rate(item.size, item.duration, item.bit_rate), seen=now
        )
        return reader

    async def _arrival(self, reader: Reader, start: int, timeout: float) -> None:
        """Wait for the byte at `start`."""
        began = time.monotonic()
        self._full = None
        self.check()
        reader.planned = (0, 0)
        self.replan()
        while not self.content.has(start):
            self._refuse()
            progress = self._sign_of_life()
            with self._waiter(start) as arrived:
                try:
                    async with asyncio.timeout(timeout):
                        await arrived
                except TimeoutError:
                    late = time.monotonic() - began >= LIMIT * timeout
                    if self.content.has(start):
                        return
                    self._refuse()
                    if late or progress == self._sign_of_life():
                        raise Unavailable(self._excuse()) from None

    async def _batch(self, start: int, stop: int) -> None:
        """Wait a moment for the bytes after those that have arrived."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BATCH_TIMEOUT):
                while start < (end := self.spans.run_from(start)) < stop:
                    with self._waiter(end) as arrived:
                        await arrived
                    if not self.content.has(end):
                        # Something else is told to all who wait.
                        return

    @contextmanager
    def _waiter(self, start: int) -> Iterator[asyncio.Future[None]]:
        """Return a future that is done when the byte at `start` arrives, or when all who wait are told something."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[future] = start
        try:
            yield future
        finally:
            del self._waiters[future]

    def _sign_of_life(self) -> tuple[int, int]:
        return self._progress, self.status.received

    def _refuse(self) -> None:
        """Raise what keeps the missing from coming, if anything does."""
        if self._ending is not None:
            raise self._ending
        if self._full is not None:
            raise DiskFull(self._full)

    def _excuse(self) -> str:
        owner = self.ticket.owner_name
        if self.awaits_torrent:
            return f"{owner} has not got {self.label} ready yet"
        if self.message is not None:
            return self.message
        if not self.status.peers:
            return f"{owner} cannot be reached"
        return f"{owner} does not deliver"

    # Keeping whole.

    def pin(self, *, pinned: bool) -> None:
        """Begin or end to fetch all of it and keep it."""
        if pinned != self.pinned:
            self.pinned = pinned
            self._full = None
            self.check()
            self.replan()
            self._keeper.noted(self)

    # What sources tell.

    def arrived(self, start: int, stop: int) -> None:
        """Take note of bytes that were verified and can be read from the file."""
        if (added := self.content.add(start, stop)) is None:
            self.fetcher.forget(start, stop)
            return
        self._progress += 1
        self.fetcher.delivered()
        self.message = None
        self.wants = max(0, self.wants - added)
        for future, position in self._waiters.items():
            if start <= position < stop and not future.done():
                future.set_result(None)
        if self.content.is_complete or (
            self.pinned and self.wants < planner.COPY_WINDOW // 4
        ):
            self.replan()
        self._keeper.noted(self)

    def source_failed(self, source: Source, message: str) -> None:
        """Take note that a source does nothing any more."""
        _LOGGER.warning("%s: %s", self.label, message)
        self.message = message
        if "no space left" in message.lower():
            self.full(message)
        self.fetcher.failed()
        # A disk that is full looks like any other error of the file here.
        self._room.starved(self)

    def outdated(self) -> None:
        """Take note that its owner has another version of it by now."""
        self._keeper.outdated(self)

    # What its keeper tells.

    def renew(self, ticket: Ticket, meta: Metainfo | None) -> None:
        """Go on with another ticket for the same content."""
        changed = (
            meta is not None
            and (
                self.meta is None
                or self.meta.info_hash != meta.info_hash
                or not self.status.peers
            )
            and (self.ticket.endpoints, self.ticket.torrent)
            != (ticket.endpoints, ticket.torrent)
        )
        if meta is None:
            # The owner is just about to look at the file; the content is the same.
            ticket = replace(ticket, torrent=self.ticket.torrent)
        else:
            self.content.meta = meta
        self.ticket = ticket
        if changed:
            self.fetcher.reopen()
            self.replan()

    def tick(self) -> None:
        """Forget readers that are not heard of any more."""
        now = time.monotonic()
        for name, reader in list(self._readers.items()):
            if reader.is_forgotten(now):
                del self._readers[name]
        if self.pinned:
            # It may have stood back for others. Who waits for room is told when there is some.
            is_idle = not self._plan.wanted and not self.content.is_complete
            if is_idle and self._full is None:
                self.replan()
        elif self._plan.wanted and not self.readers:
            self.replan()

    def is_in_use(self) -> bool:
        """Tell whether somebody reads it, or did a moment ago."""
        # Also when it was not heard of for a while: it may still send what it was told to be there.
        return bool(self._readers) or time.time() - self.used < reading.LEASE

    def full(self, message: str) -> None:
        """Tell those who wait that there is no room for what they want."""
        self._full = message
        self._tell_all()

    def roomier(self) -> None:
        """Ask for more, now that there is room again."""
        if self._full is not None:
            self._full = None
            self.fetcher.delivered()
        if self._plan.is_cut:
            self.replan()

    def leave(self, most: int) -> list[tuple[int, int]]:
        """Choose about `most` bytes that nobody will miss soon, and count them as missing at once.

        They are whole pieces, those that are farthest from all readers. `left` is to be called when their room is free.
        """
        chosen = self.content.leave(most, self.kept())
        for start, stop in chosen:
            self.fetcher.forget(start, stop)
        return chosen

    def has_spare(self) -> bool:
        """Tell whether `leave` would find anything."""
        return next(self.content.spare(self.kept()), None) is not None

    def left(self, spans: Sequence[tuple[int, int]]) -> None:
        """Take note that bytes were taken away; from now on they may be fetched again."""
        self.content.left(spans)
        self.replan()

    async def close(self, reason: EngineError) -> None:
        """End. Who waits gets `reason`; when this returns, nothing writes to the file any more."""
        self._ending = reason
        self._plan = Plan()
        self.wants = 0
        self._tell_all()
        await self._checker.close()
        await self.fetcher.close()

    def _tell_all(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)

    # What to ask of the sources.

    def _most(self) -> int:
        return self._room.window_for(self)

    def replan(self) -> None:
        """Ask the sources for what is missing: the soonest needed first, and no more than there is room for."""
        if self._ending is not None:
            return
        now, most = time.monotonic(), self._most()
        readers = [each for each in self._readers.values() if each.is_active(now)]
        for reader in readers:
            reader.planned = reader.window(most)
        self._plan = make_plan(
            self.content,
            [reader.need(most) for reader in readers],
            self._room.room_for(self),
            with_copy=self.pinned
            and not self.is_waited_for
            and not self._room.is_pressed(self),
        )
        self.wants = self._plan.size
        if self._plan.is_cut:
            self._room.starved(self)
        self.fetcher.want(self._plan.wanted)

    # Checking what a former engine left.

    def check(self) -> None:
        """Begin to compare what was left with its hashes, if there is anything."""
        if self._ending is None:
            self._checker.start()

    def needed_first(self) -> Iterator[tuple[int, int]]:
        """Yield the spans that somebody waits for, then those that readers need next."""
        for position in self._waiters.values():
            yield position, position + 1
        now, most = time.monotonic(), self._most()
        for reader in self._readers.values():
            if reader.is_active(now):
                yield reader.window(most)

    async def was_checked(self) -> None:
        """Take note that there is nothing left to check."""
        if not self.fetcher.is_active:
            await self._keeper.rested(self)
