"""A source of bytes besides the swarm: ranges that are asked for over the link to their owner.

It begins at once, works on every path, and needs no hashes: what comes over a link is as its owner sent it. The swarm is
several times faster and costs less; so as long as that delivers, this one stands back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
import logging
import os
import time
from typing import Final, Protocol

from ...access.ticket import Ticket
from ...core import tasks
from ...core.errors import BadRequest, EngineError, Gone, NotFound
from ...core.spans import Spans
from ...net.link.frames import Ask
from ...torrent.priority import Priority
from .torrent import Source, SourceStatus, Target, Wanted

BLOCK: Final = 128 * 1024
"""Bytes that are asked for at a time."""
FIRST_BLOCK: Final = 64 * 1024
"""Bytes of the first questions, whose answers somebody waits for most."""
PIPELINE: Final = 4
"""Questions that are under way at a time, so that the line is never empty."""
STAND_BACK: Final = 1.0
"""Seconds for which the swarm is left alone after it has delivered something."""
PAUSE: Final = 0.2
RETRY: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds to the next question after one that failed; the last one from then on."""
_WINDOW: Final = 1.0
"""Seconds over which the rate is measured."""

_LOGGER = logging.getLogger(__name__)


class Asker(Protocol):
    """Asks the owner of an item, over a link that is opened if need be."""

    def __call__(self, ask: Ask, limit: int) -> AsyncIterator[bytes]:
        """Return the answer in parts. Raises EngineError."""


class LinkSource:
    """Delivers an item's bytes over the link to its owner."""

    def __init__(self, ticket: Ticket, ask: Asker, swarm: Source | None) -> None:
        """Prepare to fetch what a ticket is for, beside the swarm if that has it."""
        self._ticket = ticket
        self._ask = ask
        self._swarm = swarm
        self._target: Target | None = None
        self._file = -1
        self._wanted: Sequence[Wanted] = ()
        self._asked = Spans()
        self._news = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._received = 0
        self._rate = 0
        self._counted = (time.monotonic(), 0)
        self._swarm_received = 0
        self._swarm_then = float("-inf")
        self._failures = 0
        self._is_answered = False

    @property
    def status(self) -> SourceStatus:
        """Return what it does at present."""
        now = time.monotonic()
        then, received = self._counted
        if now - then >= _WINDOW:
            self._rate = int((self._received - received) / (now - then))
            self._counted = now, self._received
        return SourceStatus(
            download_rate=self._rate,
            received=self._received,
            peers=int(self._is_answered and self._failures == 0),
        )

    async def start(self, target: Target) -> None:
        """Get ready to deliver into a download's file. Raises OSError."""
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = await asyncio.to_thread(os.open, target.path, flags)
        self._target = target
        self._workers = [
            tasks.keep(partial(self._work, target), f"fetch {target.label}")
            for _ in range(PIPELINE)
        ]

    def want(self, spans: Sequence[Wanted]) -> None:
        """Deliver these bytes, the sooner wanted ones first."""
        self._wanted = spans
        self._news.set()

    def forget(self, start: int, stop: int) -> None:
        """Take note that bytes are not in the file any more: the download's own list says so when they are wanted."""

    def owner_delivered(self) -> None:
        """Take note that the owner can be reached: this source finds out by itself."""

    async def close(self) -> None:
        """End. When this returns, nothing writes to the file any more."""
        await tasks.end(*self._workers)
        self._workers = []
        if self._file >= 0:
            file, self._file = self._file, -1
            await asyncio.to_thread(os.close, file)

    async def _work(self, target: Target) -> None:
        """Fetch one block after the other for as long as anything is wanted."""
        while True:
            self._news.clear()
            block = None if self._stands_back() else self._next(target)
            if block is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE if self._wanted else None):
                        await self._news.wait()
                continue
            self._asked.add(*block)
            try:
                await self._fetch(target, *block)
                self._failures = 0
                if self._swarm is not None:
                    self._swarm.owner_delivered()
            except (BadRequest, Gone, NotFound) as err:
                if isinstance(err, Gone):
                    target.outdated()
                target.source_failed(self, f"its owner refuses it: {err}")
                return
            except OSError as err:
                target.source_failed(self, f"it cannot be written: {err.strerror}")
                return
            except EngineError as err:
                _LOGGER.debug("%s: %s", target.label, err)
                pause = RETRY[min(self._failures, len(RETRY) - 1)]
                self._failures += 1
                await asyncio.sleep(pause)
            finally:
                self._asked.discard(*block)

    def _next(self, target: Target) -> tuple[int, int] | None:
        """Return the block to ask for next."""
        for wish in self._wanted:
            for start, stop in target.spans.missing(wish.start, wish.stop):
                for low, high in self._asked.missing(start, stop):
                    first = not self._received or wish.priority is Priority.NOW
                    size = FIRST_BLOCK if first else BLOCK
                    return low, min(high, low + size)
        return None

    def _stands_back(self) -> bool:
        """Tell whether the swarm delivers."""
        if self._swarm is None:
            return False
        now, status = time.monotonic(), self._swarm.status
        if status.received != self._swarm_received:
            self._swarm_received, self._swarm_then = status.received, now
        return status.peers > 0 and now - self._swarm_then < STAND_BACK

    async def _fetch(self, target: Target, start: int, stop: int) -> None:
        ask = Ask(
            do="range",
            item=self._ticket.item.id,
            etag=self._ticket.item.etag,
            start=start,
            stop=stop,
        )
        at = start
        async for part in self._ask(ask, stop - start):
            self._is_answered = True
            self._received += len(part)
            await _written(self._file, part, at)
            target.arrived(at, at + len(part))
            at += len(part)
        if at < stop:
            raise Gone("there is less of it than there should be")


async def _written(file: int, part: bytes, offset: int) -> None:
    """Write into a file, and return when that is over also if it is cancelled: nobody else may write there before."""
    writing = asyncio.ensure_future(asyncio.to_thread(_write, file, part, offset))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait((writing,))
        raise


def _write(file: int, part: bytes, offset: int) -> None:
    view = memoryview(part)
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count
