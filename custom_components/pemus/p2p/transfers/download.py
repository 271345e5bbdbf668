"""One remote item as it arrives: a sparse file, what of it is there, who reads it, and the sources that deliver it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha1
import logging
import os
from pathlib import Path
import time
from typing import Final, Protocol

from ..access.ticket import Ticket
from ..core import tasks
from ..core.errors import BadRequest, DiskFull, EngineError, Unavailable
from ..core.spans import Spans
from ..models.transfers import TransferState
from ..torrent.metainfo import Metainfo
from ..torrent.priority import Priority
from . import readers as reading
from .readers import Reader, play_rate
from .sources.torrent import Source, SourceStatus, Wanted

PATIENCE: Final = 10.0
"""Seconds without any sign of life from a source after which a reader is told that the item is unavailable."""
LIMIT: Final = 4
"""That often `timeout` may pass for one question, while bytes trickle in."""
IDLE: Final = 30.0
"""Seconds for which sources are kept open when nobody wants anything."""
RETRY: Final = (0.5, 2.0, 5.0, 15.0)
"""Seconds after which a source that failed is opened again; the last one from then on."""
PIN_WINDOW: Final = 64 * 1024**2
"""Bytes that are asked for at a time for an offline copy; less while somebody reads the item."""
MAX_READERS: Final = 200
BATCH: Final = 4 * 1024**2
"""Bytes that a reader who goes on is answered with at once, if they come within `BATCH_TIMEOUT`."""
BATCH_TIMEOUT: Final = 0.03
"""Seconds. An answer for each piece costs two processes more than the piece does."""

_CHECKED_AT_ONCE: Final = 8 * 1024**2

_LOGGER = logging.getLogger(__name__)


class Keeper(Protocol):
    """Who keeps the downloads, as one of them sees it."""

    def room_for(self, download: Download) -> int:
        """Return how many bytes more it may fetch at present."""

    def window_for(self, download: Download) -> int:
        """Return how many bytes at most may be fetched ahead of each of its readers."""

    def is_pressed(self, download: Download) -> bool:
        """Tell whether somebody waits for bytes of another download, and an offline copy has to stand back."""

    def can_fetch(self, download: Download) -> bool:
        """Tell whether there is any source for what its ticket allows."""

    def sources_of(self, download: Download) -> Sequence[Source]:
        """Return new sources for what its ticket allows."""

    def outdated(self, download: Download) -> None:
        """Have a new ticket: its owner has another version of the item by now."""

    def starved(self, download: Download) -> None:
        """Make room: it wants more than it may fetch, or could not be written."""

    async def writing(self, download: Download) -> None:
        """Take note, before it happens, that its file will change."""

    async def rested(self, download: Download) -> None:
        """Take note that nothing writes into its file for now."""

    def noted(self, download: Download) -> None:
        """Take note that something about it is worth to be saved or shown."""


class Download:
    """An item of which bytes arrive. Everything happens in the event loop; what blocks is done in threads."""

    def __init__(
        self, keeper: Keeper, ticket: Ticket, meta: Metainfo | None, path: Path
    ) -> None:
        """Prepare a download into the file `path`, for which there need not be anything yet."""
        self.ticket = ticket
        self.meta = meta
        self.path = path
        self.spans = Spans()
        """Verified, on disk, and not about to be taken away."""
        self.unchecked = Spans()
        """On disk, perhaps: left by an engine that did not end cleanly. Whole pieces."""
        self.pinned = False
        self.used = time.time()
        self.message: str | None = None
        self.wants = 0
        """Bytes that are asked of the sources and did not arrive yet."""
        self._keeper = keeper
        self._leaving = Spans()
        self._readers: dict[str, Reader] = {}
        self._waiters: dict[asyncio.Future[None], int] = {}
        self._ending: EngineError | None = None
        self._full: str | None = None
        self._cut = False
        self._progress = 0
        self._sources: list[Source] = []
        self._failed: set[int] = set()
        self._failures = 0
        self._plan: list[Wanted] = []
        self._driver: asyncio.Task[None] | None = None
        self._checker: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._reload = False

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
    def piece_length(self) -> int:
        """Return the bytes that are verified, and taken away, together."""
        return self.meta.piece_length if self.meta is not None else 256 * 1024

    @property
    def complete(self) -> bool:
        """Tell whether all of it is there."""
        return self.spans.total == self.size

    @property
    def stored(self) -> int:
        """Return the bytes that it takes on disk."""
        return self.spans.total + self.unchecked.total

    @property
    def is_active(self) -> bool:
        """Tell whether its sources are open, or about to be."""
        return self._driver is not None

    @property
    def is_changing(self) -> bool:
        """Tell whether something may write into its file."""
        return bool(self._sources) or (self._plan != [] and self.is_active)

    @property
    def is_waited_for(self) -> bool:
        """Tell whether somebody waits for bytes right now."""
        return any(reader.waiting for reader in self._readers.values())

    @property
    def is_starved(self) -> bool:
        """Tell whether it wants more than there is room for."""
        return self._cut or self._full is not None

    @property
    def needs_ticket(self) -> bool:
        """Tell whether it wants more than its ticket is good for."""
        return (self.is_waited_for or (self.pinned and not self.complete)) and (
            self.awaits_torrent or not self.ticket.is_live(time.time())
        )

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
        all_of_them = [source.status for source in self._sources]
        return SourceStatus(
            download_rate=sum(each.download_rate for each in all_of_them),
            upload_rate=sum(each.upload_rate for each in all_of_them),
            received=sum(each.received for each in all_of_them),
            peers=sum(each.peers for each in all_of_them),
        )

    @property
    def state(self) -> TransferState:
        """Return what it is doing."""
        if self.complete:
            return TransferState.COMPLETE
        if self._full is not None:
            return TransferState.FULL
        if self._checker is not None:
            return TransferState.CHECKING
        if not self._plan and not self._cut:
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
            Gone: it is not to be had any more.

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
        end = min(there, start + max(reader.ahead(self._most()), self.piece_length))
        if (reader.start, reader.promised) == (start, start):
            reader.tell(end, time.monotonic())
        else:
            # It asked for something else meanwhile; both promises are kept.
            reader.start = min(reader.start, start)
            reader.promised = max(reader.promised, end)
        self._steer(reader)
        return end

    def release(self, name: str) -> None:
        """Forget a reader."""
        if self._readers.pop(name, None) is not None:
            self.replan()

    def has(self, start: int) -> bool:
        """Tell whether the byte at `start` is there."""
        return self.spans.run_from(start) > start

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
        self._plan_again(reader)
        while not self.has(start):
            self._refuse()
            progress = self._sign_of_life()
            with self._waiter(start) as arrived:
                try:
                    async with asyncio.timeout(timeout):
                        await arrived
                except TimeoutError:
                    late = time.monotonic() - began >= LIMIT * timeout
                    if self.has(start):
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
                    if not self.has(end):
                        # Something else is told to all who wait.
                        return

    def _waiter(self, start: int) -> _Waiter:
        return _Waiter(self._waiters, start)

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
            self._check()
            self.replan()
            self._keeper.noted(self)

    # What sources tell.

    def arrived(self, start: int, stop: int) -> None:
        """Take note of bytes that were verified and can be read from the file."""
        if self._leaving.meets(start, stop):
            # It came again while it was being taken away, and part of it may be gone.
            for source in self._sources:
                source.forget(start, stop)
            return
        added = self.spans.add(start, stop)
        self.unchecked.discard(start, stop)
        self._progress += 1
        self._failures = 0
        self.message = None
        self.wants = max(0, self.wants - added)
        for future, position in self._waiters.items():
            if start <= position < stop and not future.done():
                future.set_result(None)
        if self.complete or (self.pinned and self.wants < PIN_WINDOW // 4):
            self.replan()
        self._keeper.noted(self)

    def source_failed(self, source: Source, message: str) -> None:
        """Take note that a source does nothing any more."""
        _LOGGER.warning("%s: %s", self.label, message)
        self.message = message
        if "no space left" in message.lower():
            self.full(message)
        self._failed.add(id(source))
        self._wake.set()
        # A disk that is full looks like any other error of the file here.
        self._keeper.starved(self)

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
            self.meta = meta
        self.ticket = ticket
        if changed:
            self._reload = True
            self._failures = 0
            self._wake.set()
            self.replan()

    def tick(self) -> None:
        """Forget readers that are not heard of any more."""
        now = time.monotonic()
        for name, reader in list(self._readers.items()):
            if reader.is_forgotten(now):
                del self._readers[name]
        if self.pinned:
            # It may have stood back for others. Who waits for room is told when there is some.
            if not self._plan and not self.complete and self._full is None:
                self.replan()
        elif self._plan and not self.readers:
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
            self._failures = 0
        if self._cut:
            self.replan()

    def leave(self, most: int) -> list[tuple[int, int]]:
        """Choose about `most` bytes that nobody will miss soon, and count them as missing at once.

        They are whole pieces, those that are farthest from all readers. `left` is to be called when their room is free.
        """
        chosen = Spans()
        for _, start, stop in sorted(self._spare(), reverse=True):
            if chosen.total >= most:
                break
            chosen.add(start, stop)
        for start, stop in chosen:
            self.spans.discard(start, stop)
            self._leaving.add(start, stop)
            for source in self._sources:
                source.forget(start, stop)
        return list(chosen)

    def has_spare(self) -> bool:
        """Tell whether `leave` would find anything."""
        return next(self._spare(), None) is not None

    def _spare(self) -> Iterator[tuple[int, int, int]]:
        """Yield the whole pieces that no reader needs: how far they are from all readers, start, and stop."""
        length, kept = self.piece_length, self.kept()
        for index, there in enumerate(self.spans.whole(length, self.size)):
            start, stop = index * length, min(self.size, (index + 1) * length)
            if there and (far := reading.distance(start, stop, kept)):
                yield far, start, stop

    def left(self, spans: Sequence[tuple[int, int]]) -> None:
        """Take note that bytes were taken away; from now on they may be fetched again."""
        for start, stop in spans:
            self._leaving.discard(start, stop)
        self.replan()

    async def close(self, reason: EngineError) -> None:
        """End. Who waits gets `reason`; when this returns, nothing writes to the file any more."""
        self._ending = reason
        self._plan = []
        self.wants = 0
        self._tell_all()
        self._wake.set()
        if (checker := self._checker) is not None:
            checker.cancel()
            await asyncio.gather(checker, return_exceptions=True)
        if (driver := self._driver) is not None:
            await asyncio.gather(driver, return_exceptions=True)

    def _tell_all(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)

    # What to ask of the sources.

    def _most(self) -> int:
        return self._keeper.window_for(self)

    def _steer(self, reader: Reader) -> None:
        if not self.complete and not reader.is_planned(self._most()):
            self.replan()

    def _plan_again(self, reader: Reader) -> None:
        """Ask for what a reader waits for, first of all."""
        self._check()
        reader.planned = (0, 0)
        self.replan()

    def _missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return what may be asked for of a span."""
        missing = list(self.spans.missing(start, stop))
        for others in (self.unchecked, self._leaving):
            if others.total:
                missing = [
                    part for low, high in missing for part in others.missing(low, high)
                ]
        return missing

    def _arriving(self, start: int, stop: int, besides: Spans) -> list[tuple[int, int]]:
        """Return what arrives besides other spans if one is asked for: with the swarm, all of the pieces that it meets."""
        if self.meta is not None:
            length = self.piece_length
            start = start // length * length
            stop = min(self.size, -(-stop // length) * length)
        return [
            part
            for low, high in self._missing(start, stop)
            for part in besides.missing(low, high)
        ]

    def replan(self) -> None:
        """Ask the sources for what is missing: the soonest needed first, and no more than there is room for."""
        if self._ending is not None:
            return
        now, most, length = time.monotonic(), self._most(), self.piece_length
        wishes: list[tuple[float, int, int, Priority]] = []
        readers = [each for each in self._readers.values() if each.is_active(now)]
        for reader in readers:
            reader.planned = start, stop = reader.window(most)
            for low, high in self._missing(start, stop):
                at = low
                while at < high:
                    end = min(high, (at // length + 1) * length)
                    priority = reader.priority(at, end)
                    if len(readers) == 1 and priority is Priority.SOON:
                        # The order of the file is just right for one.
                        priority = Priority.LATER
                    delay = (at - start) / reader.rate
                    if priority is Priority.NOW:
                        delay = -1.0
                    wishes.append((delay, at, end, priority))
                    at = end
        wishes.sort()
        if self.pinned and not self.is_waited_for and not self._keeper.is_pressed(self):
            wishes += self._wishes_of_pin(bool(wishes))
        room = self._keeper.room_for(self)
        self._plan, asked, taken = [], Spans(), Spans()
        self._cut = False
        for _, start, stop, priority in wishes:
            arriving = self._arriving(start, stop, taken)
            if taken.total + sum(high - low for low, high in arriving) > room:
                self._cut = True
                break
            for low, high in arriving:
                taken.add(low, high)
            if asked.add(start, stop) or priority is Priority.NOW:
                self._plan.append(Wanted(start, stop, priority))
        self.wants = taken.total
        if self._cut:
            self._keeper.starved(self)
        for source in self._sources:
            source.want(self._plan)
        if self._plan and self._driver is None and self._keeper.can_fetch(self):
            self._driver = tasks.spawn(self._drive(), f"download {self.label}")
            self._driver.add_done_callback(self._driven)
        self._wake.set()

    def _wishes_of_pin(self, others: bool) -> list[tuple[float, int, int, Priority]]:
        """Return the next part of an offline copy."""
        left = PIN_WINDOW // 8 if others else PIN_WINDOW
        wishes = []
        for low, high in self._missing(0, self.size):
            at = low
            while at < high and left > 0:
                end = min(high, (at // self.piece_length + 1) * self.piece_length)
                wishes.append((0.0, at, end, Priority.LATER))
                left -= end - at
                at = end
            if left <= 0:
                break
        return wishes

    # Keeping sources open while something is wanted.

    async def _drive(self) -> None:
        try:
            while self._ending is None:
                try:
                    if not await self._step():
                        break
                except Exception:
                    _LOGGER.exception("%s: fetching it broke", self.label)
                    await self._fall_back()
        finally:
            await self._close_sources()
            await self._keeper.rested(self)

    async def _step(self) -> bool:
        """Do what is to be done next; return False when nothing has been for long."""
        self._wake.clear()
        if self._reload:
            self._reload = False
            await self._close_sources()
        if self._failed:
            self._failed.clear()
            await self._fall_back()
        elif self._plan and not self._sources:
            await self._open_sources()
        else:
            return await self._woken(None if self._plan else IDLE)
        return True

    async def _fall_back(self) -> None:
        """Let all sources go, and wait before they are opened again."""
        await self._close_sources()
        await self._pause(RETRY[min(self._failures, len(RETRY) - 1)])
        self._failures += 1

    def _driven(self, _driver: asyncio.Task[None]) -> None:
        self._driver = None
        # Something may have been wanted while it ended.
        if self._ending is None and self._plan:
            self.replan()

    async def _open_sources(self) -> None:
        await self._keeper.writing(self)
        for source in self._keeper.sources_of(self):
            self._sources.append(source)
            source.want(self._plan)
            try:
                await source.start(self)
            except Exception as err:  # noqa: BLE001 - whatever it is, another one may do better
                self.source_failed(source, f"it cannot be fetched: {err}")
        if not self._sources:
            await self._woken(RETRY[-1])

    async def _close_sources(self) -> None:
        sources, self._sources = self._sources, []
        for source in sources:
            try:
                await source.close()
            except Exception:
                _LOGGER.exception("%s: a source does not end", self.label)

    async def _woken(self, seconds: float | None) -> bool:
        """Wait until something changed; return False if nothing did for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _pause(self, seconds: float) -> None:
        """Wait before trying again; not longer than until it ends or has another ticket."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._ending is not None or self._reload:
                return
            self._wake.clear()
            await self._woken(left)

    # Checking what a former engine left.

    def _check(self) -> None:
        if self.unchecked.total and self._checker is None and self._ending is None:
            self._checker = asyncio.create_task(
                self._check_all(), name=f"check {self.label}"
            )
            self._checker.add_done_callback(self._checked)

    def check(self) -> None:
        """Begin to compare what was left with its hashes, if there is anything."""
        self._check()

    def _checked(self, checker: asyncio.Task[None]) -> None:
        self._checker = None
        if not checker.cancelled() and (err := checker.exception()) is not None:
            _LOGGER.error("%s: checking it broke", self.label, exc_info=err)
            self.unchecked = Spans()
        self.replan()

    async def _check_all(self) -> None:
        """Check piece after piece, those that somebody waits for first."""
        while self.unchecked.total:
            if (meta := self.meta) is None:
                # Without hashes nothing is known of it.
                self.unchecked = Spans()
                return
            indices = self._next_to_check(meta)
            right = await asyncio.to_thread(check_pieces, self.path, meta, indices)
            found = False
            for index in indices:
                start = index * meta.piece_length
                stop = start + meta.piece_size(index)
                if self.unchecked.discard(start, stop) and index in right:
                    self.arrived(start, stop)
                else:
                    found = True
            if found:
                self.replan()
        if self._driver is None:
            await self._keeper.rested(self)

    def _next_to_check(self, meta: Metainfo) -> Sequence[int]:
        length = meta.piece_length
        for position in self._waiters.values():
            if self.unchecked.meets(position, position + 1):
                return [position // length]
        now, most = time.monotonic(), self._most()
        for reader in self._readers.values():
            if reader.is_active(now):
                for start, _ in self.unchecked.within(*reader.window(most)):
                    return [start // length]
        start, stop = next(iter(self.unchecked))
        last = min(-(-stop // length), start // length + _CHECKED_AT_ONCE // length)
        return range(start // length, last)


class _Waiter:
    """Somebody who waits for a byte."""

    def __init__(self, waiters: dict[asyncio.Future[None], int], start: int) -> None:
        self._waiters = waiters
        self._start = start
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> asyncio.Future[None]:
        self._waiters[self._future] = self._start
        return self._future

    def __exit__(self, *_: object) -> None:
        del self._waiters[self._future]


def check_pieces(path: Path, meta: Metainfo, indices: Sequence[int]) -> set[int]:
    """Return those pieces whose bytes in the file are what their hashes say. Blocks."""
    right = set()
    buffer = bytearray(meta.piece_length)
    try:
        with path.open("rb", buffering=0) as file:
            for index in indices:
                view = memoryview(buffer)[: meta.piece_size(index)]
                if read_fully(file.fileno(), view, index * meta.piece_length):
                    digest = sha1(view, usedforsecurity=False).digest()
                    if digest == meta.digest(index):
                        right.add(index)
    except OSError as err:
        _LOGGER.warning("%s cannot be checked: %s", path, err)
    return right


def read_fully(file: int, view: memoryview, offset: int) -> bool:
    """Fill `view` from an offset of a file, and tell whether there was enough. Raises OSError."""
    done = 0
    while done < len(view):
        count = os.preadv(file, [view[done:]], offset + done)
        if not count:
            return False
        done += count
    return True
