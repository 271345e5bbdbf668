"""Keeps a download's sources open while something is wanted of them, and opens them again when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
import logging
from typing import TYPE_CHECKING, Final

from ..core import tasks
from .sources.factory import Sources
from .sources.source import Source, SourceStatus, Wanted

if TYPE_CHECKING:
    from .download import Download

IDLE_TIMEOUT: Final = 30.0
"""Seconds for which sources stay open when nothing is wanted."""
RETRY_DELAYS: Final = (0.5, 2.0, 5.0, 15.0)
"""Seconds until failed sources are opened again; the last one from then on."""

_LOGGER = logging.getLogger(__name__)


class Fetcher:
    """The open sources of one download."""

    def __init__(self, download: Download, sources: Sources) -> None:
        """Prepare to fetch into a download's file, from what `sources` makes."""
        self.sources: list[Source] = []
        """Those that are open."""
        self._download = download
        self._factory = sources
        self._wanted: Sequence[Wanted] = ()
        self._failed = False
        self._failures = 0
        self._reload = False
        self._is_closing = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_active(self) -> bool:
        """Whether sources are open, or are about to be."""
        return self._task is not None

    @property
    def status(self) -> SourceStatus:
        """What all sources do together."""
        each = [source.status for source in self.sources]
        return SourceStatus(
            download_rate=sum(status.download_rate for status in each),
            received=sum(status.received for status in each),
            peers=sum(status.peers for status in each),
        )

    def want(self, wanted: Sequence[Wanted]) -> None:
        """Fetch these bytes and no others. Opens sources if there are any."""
        self._wanted = wanted
        for source in self.sources:
            source.want(wanted)
        entry = self._download.entry
        if (
            wanted
            and self._task is None
            and self._factory.can_fetch(entry.ticket, entry.content.meta)
        ):
            self._task = tasks.spawn(self._run(), f"download {entry.label}")
            self._task.add_done_callback(self._ended)
        self._wake.set()

    def reopen(self) -> None:
        """Open new sources, because there is another ticket."""
        self._reload = True
        self._failures = 0
        self._wake.set()

    def delivered(self) -> None:
        """Note that a source works."""
        self._failures = 0

    def failed(self) -> None:
        """Close all sources, and open them again later."""
        self._failed = True
        self._wake.set()

    async def close(self) -> None:
        """Close all sources. When this returns, nothing writes to the file any more."""
        self._is_closing = True
        self._wanted = ()
        self._wake.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while not self._is_closing:
                try:
                    if not await self._step():
                        break
                except Exception:
                    _LOGGER.exception("%s: fetching failed", self._download.label)
                    await self._fall_back()
        finally:
            await self._close_sources()
            self._download.changed()
            await self._download.entry.seal()

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._task = None
        # Something may have been wanted while it ended.
        if self._wanted:
            self._download.replan()

    async def _step(self) -> bool:
        """Do the next thing. Return False if nothing was wanted for `IDLE_TIMEOUT`."""
        self._wake.clear()
        if self._reload:
            self._reload = False
            await self._close_sources()
        if self._failed:
            self._failed = False
            await self._fall_back()
        elif self._wanted and not self.sources:
            await self._open_sources()
        else:
            return await self._woken(None if self._wanted else IDLE_TIMEOUT)
        return True

    async def _fall_back(self) -> None:
        """Close all sources, and wait before they are opened again."""
        await self._close_sources()
        delay = RETRY_DELAYS[min(self._failures, len(RETRY_DELAYS) - 1)]
        self._failures += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                while not (self._is_closing or self._reload):
                    self._wake.clear()
                    await self._wake.wait()

    async def _open_sources(self) -> None:
        entry = self._download.entry
        await entry.unseal()
        self._download.room.nudged.set()
        for source in self._factory.of(entry.ticket, entry.content.meta):
            self.sources.append(source)
            source.want(self._wanted)
            try:
                await source.start(self._download)
            except Exception as err:  # noqa: BLE001 - whatever it is, another source may work
                self._download.source_failed(f"it cannot be fetched: {err}")
        if not self.sources:
            await self._woken(RETRY_DELAYS[-1])

    async def _close_sources(self) -> None:
        sources, self.sources = self.sources, []
        for source in sources:
            try:
                await source.close()
            except Exception:
                _LOGGER.exception("%s: a source does not close", self._download.label)

    async def _woken(self, seconds: float | None) -> bool:
        """Wait until something changes. Return False if nothing does within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True
