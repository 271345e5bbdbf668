"""One remote item as it arrives: it answers readers, and asks sources for what they need."""

from __future__ import annotations

import asyncio
from dataclasses import replace
import logging
import time
from typing import Final

from ..access.ticket import Ticket
from ..core.errors import BadRequest, DiskFull, EngineError, Unavailable
from ..core.spans import Spans
from ..models.transfers import TransferState, TransferStatus
from ..torrent.metainfo import Metainfo
from . import planner
from .checker import Checker
from .entry import Entry
from .fetcher import Fetcher
from .planner import Plan, make_plan
from .readers import BATCH, Reader, Readers, play_rate
from .room import Room
from .sources.factory import Sources

WAIT_TIMEOUT: Final = 10.0
"""Seconds without a sign of life from any source after which a reader is told that the item is unavailable."""
MAX_TIMEOUTS: Final = 4
"""How many time-outs one request may last while bytes trickle in."""

_LOGGER = logging.getLogger(__name__)


class Download:
    """Fetches one entry of the cache. All methods are called in the event loop, and none blocks it."""

    def __init__(self, entry: Entry, room: Room, sources: Sources) -> None:
        """Prepare to fetch into the entry's file, which must exist before anybody reads."""
        item = entry.ticket.item
        self.entry = entry
        self.room = room
        self.readers = Readers(play_rate(item.size, item.duration, item.bit_rate))
        self.fetcher = Fetcher(self, sources)
        self.checker = Checker(self)
        self._ending: EngineError | None = None
        """Why it ended."""
        self._full: str | None = None
        """Why nothing more can be stored, in plain English."""
        self._plan = Plan()
        self._progress = 0
        """How many times something arrived."""

    @property
    def label(self) -> str:
        """What the log calls it."""
        return self.entry.label

    @property
    def spans(self) -> Spans:
        """The bytes that are there. Only for reading."""
        return self.entry.content.spans

    @property
    def window(self) -> int:
        """How many bytes at most are fetched ahead of each reader."""
        return self.room.window_for(self.entry)

    @property
    def is_starved(self) -> bool:
        """Whether it needs more than there is space for."""
        return self._plan.is_cut or self._full is not None

    @property
    def needs_ticket(self) -> bool:
        """Whether it needs more than its ticket allows."""
        entry = self.entry
        needs_more = self.readers.are_waiting or (
            entry.pinned and not entry.content.is_complete
        )
        return needs_more and (entry.awaits_torrent or not entry.is_live)

    @property
    def state(self) -> TransferState:
        """What it is doing."""
        if self.entry.content.is_complete:
            return TransferState.COMPLETE
        if self._full is not None:
            return TransferState.FULL
        if self.checker.is_running:
            return TransferState.CHECKING
        if not self._plan.wanted and not self._plan.is_cut:
            return TransferState.IDLE
        if not self.entry.is_live:
            return TransferState.EXPIRED
        if self.fetcher.status.peers:
            return TransferState.FETCHING
        return TransferState.WAITING

    def status(self) -> TransferStatus:
        """Return everything that is shown of it."""
        ticket, status = self.entry.ticket, self.fetcher.status
        return TransferStatus(
            owner=ticket.owner,
            owner_name=ticket.owner_name,
            item=ticket.item.id,
            title=ticket.item.title,
            kind=ticket.item.kind,
            size=ticket.item.size,
            done=self.spans.total,
            pinned=self.entry.pinned,
            state=self.state,
            download_rate=status.download_rate,
            peers=status.peers,
            readers=len(self.readers.active),
            used=self.entry.used,
            message=self.entry.message,
        )

    # Reading.

    async def wait(
        self, name: str, start: int, stop: int, timeout: float = WAIT_TIMEOUT
    ) -> int:
        """Wait until the byte at `start` is there. Return up to where the bytes after it are there, at most `stop`.

        `name` identifies the reader. The bytes up to the returned position stay until the reader asks again or is released.

        Raises:
            BadRequest: there is no such range.
            Unavailable: nobody delivers.
            DiskFull: there is no space.
            Gone: the item is not available any more.

        """
        content = self.entry.content
        if not 0 <= start < stop <= content.size:
            raise BadRequest(f"{self.label} has no bytes {start} to {stop}")
        if self._ending is not None:
            raise self._ending
        reader = self.readers.get(name)
        goes_on = 0 < start == reader.promised
        stalled = not content.has(start)
        reader.ask(start, stop, time.monotonic(), stalled=stalled)
        self.entry.used = time.time()
        if stalled:
            reader.waiting += 1
            try:
                await self._arrival(reader, start, timeout)
                if goes_on:
                    await self.readers.batch(content, start, min(stop, start + BATCH))
            finally:
                reader.waiting -= 1
                reader.seen = time.monotonic()
        # A reader that has to come back regularly is known to be alive, and where it is.
        ahead = max(reader.ahead(self.window), content.piece_length)
        end = min(stop, content.spans.run_from(start), start + ahead)
        reader.promise(start, end, time.monotonic())
        if not content.is_complete and not reader.is_planned(self.window):
            self.replan()
        return end

    def release(self, name: str) -> None:
        """Forget a reader."""
        if self.readers.release(name):
            self.replan()

    async def _arrival(self, reader: Reader, start: int, timeout: float) -> None:
        """Wait for the byte at `start`. Raises what `wait` raises."""
        began = time.monotonic()
        content = self.entry.content
        self._full = None
        self.checker.start()
        reader.planned = (0, 0)
        self.replan()
        while not content.has(start):
            self._refuse()
            sign_of_life = self._progress, self.fetcher.status.received
            with self.readers.waiter(start) as arrived:
                try:
                    async with asyncio.timeout(timeout):
                        await arrived
                except TimeoutError:
                    if content.has(start):
                        return
                    self._refuse()
                    late = time.monotonic() - began >= MAX_TIMEOUTS * timeout
                    now = self._progress, self.fetcher.status.received
                    if late or now == sign_of_life:
                        raise Unavailable(self._excuse()) from None

    def _refuse(self) -> None:
        """Raise the reason why what is missing cannot arrive, if there is one."""
        if self._ending is not None:
            raise self._ending
        if self._full is not None:
            raise DiskFull(self._full)

    def _excuse(self) -> str:
        """Return in plain English why nothing arrives."""
        owner = self.entry.ticket.owner_name
        if self.entry.awaits_torrent:
            return f"{owner} has not got {self.label} ready yet"
        if self.entry.message is not None:
            return self.entry.message
        if not self.fetcher.status.peers:
            return f"{owner} cannot be reached"
        return f"{owner} does not deliver"

    # What sources report.

    def arrived(self, start: int, stop: int) -> None:
        """Note that bytes were verified and can be read from the file."""
        entry = self.entry
        if (added := entry.content.add(start, stop)) is None:
            return
        self._progress += 1
        self.fetcher.delivered()
        entry.message = None
        entry.wanted = max(0, entry.wanted - added)
        self.readers.arrived(start, stop)
        if entry.content.is_complete or (
            entry.pinned and entry.wanted < planner.COPY_WINDOW // 4
        ):
            self.replan()
        self.changed()

    def source_failed(self, message: str) -> None:
        """Note that a source has stopped working. All sources are closed and opened again later."""
        _LOGGER.warning("%s: %s", self.label, message)
        self.entry.message = message
        if "no space left" in message.lower():
            self.full(message)
        self.fetcher.failed()
        # A full disk looks like any other fault of the file here.
        self.room.nudged.set()

    def outdated(self) -> None:
        """Note that the owner has another version of the item."""
        self.entry.is_outdated = True
        self.room.nudged.set()

    # What its owner decides.

    def pin(self, *, pinned: bool) -> None:
        """Fetch and keep all of it, or no longer."""
        if pinned != self.entry.pinned:
            self.entry.pinned = pinned
            self._full = None
            self.checker.start()
            self.replan()
            self.changed()

    def renew(self, ticket: Ticket, meta: Metainfo | None) -> None:
        """Continue with another ticket for the same content."""
        entry, content = self.entry, self.entry.content
        changed = (
            meta is not None
            and (
                content.meta is None
                or content.meta.info_hash != meta.info_hash
                or not self.fetcher.status.peers
            )
            and (entry.ticket.endpoints, entry.ticket.torrent)
            != (ticket.endpoints, ticket.torrent)
        )
        if meta is None:
            # The owner is just looking at the file. The content is the same.
            ticket = replace(ticket, torrent=entry.ticket.torrent)
        else:
            content.meta = meta
        entry.ticket = ticket
        entry.is_dirty = True
        if changed:
            self.fetcher.reopen()
            self.replan()

    def tick(self) -> None:
        """Forget silent readers, and continue an offline copy that paused for others."""
        self.readers.forget_silent()
        if self.entry.pinned:
            is_idle = not self._plan.wanted and not self.entry.content.is_complete
            # If it waits for space, `roomier` continues it.
            if is_idle and self._full is None:
                self.replan()
        elif self._plan.wanted and not self.readers.active:
            self.replan()

    def full(self, message: str) -> None:
        """Tell those who wait that there is no space for what they need."""
        self._full = message
        self.readers.wake_all()

    def roomier(self) -> None:
        """Ask for more, because there is space again."""
        if self._full is not None:
            self._full = None
            self.fetcher.delivered()
        if self._plan.is_cut:
            self.replan()

    def leave(self, most: int) -> list[tuple[int, int]]:
        """Choose about `most` bytes to remove, the farthest from all readers first. See `Content.leave`."""
        return self.entry.content.leave(most, self.readers.kept(self.window))

    def replan(self) -> None:
        """Ask the sources for what is missing: the soonest needed first, and no more than there is space for."""
        if self._ending is not None:
            return
        entry, most, readers = self.entry, self.window, self.readers.active
        for reader in readers:
            reader.planned = reader.window(most)
        self._plan = make_plan(
            entry.content,
            [reader.need(most) for reader in readers],
            self.room.room_for(entry),
            with_copy=entry.pinned
            and not self.readers.are_waiting
            and not self.room.is_pressed(entry),
        )
        entry.wanted = self._plan.size
        if self._plan.is_cut:
            self.room.nudged.set()
        self.fetcher.want(self._plan.wanted)

    def changed(self) -> None:
        """Note that there is something to save and to show."""
        self.entry.is_dirty = True
        self.room.has_changed = True

    async def close(self, reason: EngineError) -> None:
        """End. Those who wait get `reason`. When this returns, nothing writes to the file any more."""
        self._ending = reason
        self._plan = Plan()
        self.entry.wanted = 0
        self.readers.wake_all()
        await self.checker.close()
        await self.fetcher.close()
