"""The link as a source: fetches ranges of an item over the link to its owner.

It starts immediately, works on every path, and needs no hashes, because a link is authenticated. The swarm is several
times faster and costs less, so this source pauses while the swarm delivers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
import logging
import os
import time
from typing import TYPE_CHECKING, Final

from ...access.ticket import Ticket
from ...core import tasks
from ...core.errors import BadRequest, EngineError, Gone, NotFound
from ...core.spans import Spans
from ...net.link.frames import Ask
from ...torrent.priority import Priority
from .source import SourceStatus, Wanted
from .torrent import SwarmSource

if TYPE_CHECKING:
    from ..download import Download

BLOCK: Final = 128 * 1024
"""Bytes of one request."""
FIRST_BLOCK: Final = 64 * 1024
"""Bytes of the first request, and of those that somebody waits for."""
PIPELINE: Final = 4
"""Requests that run at the same time, so that the line is never idle."""
SWARM_LEAD: Final = 1.0
"""Seconds for which this source pauses after the swarm has delivered something."""
POLL_INTERVAL: Final = 0.2
"""Seconds between two checks whether the swarm still delivers."""
RETRY_DELAYS: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds until the next request after a failed one; the last one from then on."""
_RATE_WINDOW: Final = 1.0
"""Seconds over which the rate is measured."""

_LOGGER = logging.getLogger(__name__)


type AskItsOwner = Callable[[Ask, int], AsyncIterator[bytes]]
"""Sends a request to the owner of an item. Yields at most so many bytes. Raises EngineError."""


class LinkSource:
    """Fetches one item over the link to its owner."""

    def __init__(
        self, ticket: Ticket, ask: AskItsOwner, swarm: SwarmSource | None
    ) -> None:
        """Prepare to fetch the item of a ticket. `swarm` is the source to which this one gives way, if there is one."""
        self._ticket = ticket
        self._ask = ask
        self._swarm = swarm
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
        """What it does at present."""
        now = time.monotonic()
        then, received = self._counted
        if now - then >= _RATE_WINDOW:
            self._rate = int((self._received - received) / (now - then))
            self._counted = now, self._received
        return SourceStatus(
            download_rate=self._rate,
            received=self._received,
            peers=int(self._is_answered and self._failures == 0),
        )

    async def start(self, download: Download) -> None:
        """Start to deliver into a download's file. Raises OSError."""
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = await asyncio.to_thread(os.open, download.entry.path, flags)
        self._workers = [
            tasks.keep(partial(self._work, download), f"fetch {download.label}")
            for _ in range(PIPELINE)
        ]

    def want(self, spans: Sequence[Wanted]) -> None:
        """Deliver these bytes, in this order."""
        self._wanted = spans
        self._news.set()

    async def close(self) -> None:
        """Stop. When this returns, nothing writes to the file any more."""
        await tasks.end(*self._workers)
        self._workers = []
        if self._file >= 0:
            file, self._file = self._file, -1
            await asyncio.to_thread(os.close, file)

    async def _work(self, download: Download) -> None:
        """Fetch one block after the other. Wait while nothing is wanted or the swarm delivers."""
        while True:
            self._news.clear()
            block = None if self._swarm_delivers() else self._next(download)
            if block is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_INTERVAL if self._wanted else None):
                        await self._news.wait()
                continue
            self._asked.add(*block)
            try:
                await self._fetch(download, *block)
                self._failures = 0
                if self._swarm is not None:
                    self._swarm.owner_delivered()
            except (BadRequest, Gone, NotFound) as err:
                if isinstance(err, Gone):
                    download.outdated()
                download.source_failed(f"its owner refuses it: {err}")
                return
            except OSError as err:
                download.source_failed(f"it cannot be written: {err.strerror}")
                return
            except EngineError as err:
                _LOGGER.debug("%s: %s", download.label, err)
                pause = RETRY_DELAYS[min(self._failures, len(RETRY_DELAYS) - 1)]
                self._failures += 1
                await asyncio.sleep(pause)
            finally:
                self._asked.discard(*block)

    def _next(self, download: Download) -> tuple[int, int] | None:
        """Return the block to request next."""
        for wish in self._wanted:
            for start, stop in download.spans.missing(wish.start, wish.stop):
                for low, high in self._asked.missing(start, stop):
                    first = not self._received or wish.priority is Priority.NOW
                    size = FIRST_BLOCK if first else BLOCK
                    return low, min(high, low + size)
        return None

    def _swarm_delivers(self) -> bool:
        """Tell whether the swarm has delivered something within `SWARM_LEAD`."""
        if self._swarm is None:
            return False
        now, status = time.monotonic(), self._swarm.status
        if status.received != self._swarm_received:
            self._swarm_received, self._swarm_then = status.received, now
        return status.peers > 0 and now - self._swarm_then < SWARM_LEAD

    async def _fetch(self, download: Download, start: int, stop: int) -> None:
        """Fetch a block. Raises EngineError, OSError."""
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
            download.arrived(at, at + len(part))
            at += len(part)
        if at < stop:
            raise Gone("there is less of it than there should be")


async def _written(file: int, part: bytes, offset: int) -> None:
    """Write to a file. When this is cancelled, it still waits for the write, so that nobody else writes there meanwhile."""
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
