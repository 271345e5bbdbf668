"""Keeps the sources of a download open while something is wanted of them, and opens them again when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
import logging
import time
from typing import TYPE_CHECKING, Final

from ..core import tasks
from .sources.torrent import Source, SourceStatus, Wanted

if TYPE_CHECKING:
    from .download import Download, Keeper

IDLE_TIMEOUT: Final = 30.0
"""Seconds for which sources are kept open when nobody wants anything."""
RETRY_DELAYS: Final = (0.5, 2.0, 5.0, 15.0)
"""Seconds after which a source that failed is opened again; the last one from then on."""

_LOGGER = logging.getLogger(__name__)


class Fetcher:
    """The sources of one download."""

    def __init__(self, download: Download, keeper: Keeper) -> None:
        """Prepare to fetch into a download's file. The keeper makes its sources."""
        self.sources: list[Source] = []
        """Those that are open."""
        self._download = download
        self._keeper = keeper
        self._wanted: Sequence[Wanted] = ()
        self._failed = False
        self._failures = 0
        self._reload = False
        self._is_closing = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_active(self) -> bool:
        """Tell whether sources are open, or about to be."""
        return self._task is not None

    @property
    def is_changing(self) -> bool:
        """Tell whether something may write into the file."""
        return bool(self.sources) or (bool(self._wanted) and self.is_active)

    @property
    def status(self) -> SourceStatus:
        """Return what all sources do together."""
        each = [source.status for source in self.sources]
        return SourceStatus(
            download_rate=sum(status.download_rate for status in each),
            upload_rate=sum(status.upload_rate for status in each),
            received=sum(status.received for status in each),
            peers=sum(status.peers for status in each),
        )

    def want(self, wanted: Sequence[Wanted]) -> None:
        """Fetch these bytes, and no longer others. Sources are opened if there are any."""
        self._wanted = wanted
        for source in self.sources:
            source.want(wanted)
        if wanted and self._task is None and self._keeper.can_fetch(self._download):
            self._task = tasks.spawn(self._run(), f"download {self._download.label}")
            self._task.add_done_callback(self._ended)
        self._wake.set()

    def forget(self, start: int, stop: int) -> None:
        """Tell all sources that these bytes are missing again."""
        for source in self.sources:
            source.forget(start, stop)

    def reopen(self) -> None:
        """Open new sources: there is another ticket."""
        self._reload = True
        self._failures = 0
        self._wake.set()

    def delivered(self) -> None:
        """Note that a source works."""
        self._failures = 0

    def failed(self) -> None:
        """Note that a source does nothing any more."""
        self._failed = True
        self._wake.set()

    async def close(self) -> None:
        """Close all sources. When this returns, nothing writes into the file any more."""
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
                    _LOGGER.exception("%s: fetching it broke", self._download.label)
                    await self._fall_back()
        finally:
            await self._close_sources()
            await self._keeper.rested(self._download)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._task = None
        # Something may have been wanted while it ended.
        if self._wanted:
            self._download.replan()

    async def _step(self) -> bool:
        """Do what is to be done next; return False when nothing has been for long."""
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
        """Let all sources go, and wait before they are opened again."""
        await self._close_sources()
        await self._pause(RETRY_DELAYS[min(self._failures, len(RETRY_DELAYS) - 1)])
        self._failures += 1

    async def _open_sources(self) -> None:
        await self._keeper.writing(self._download)
        for source in self._keeper.sources_of(self._download):
            self.sources.append(source)
            source.want(self._wanted)
            try:
                await source.start(self._download)
            except Exception as err:  # noqa: BLE001 - whatever it is, another one may do better
                self._download.source_failed(source, f"it cannot be fetched: {err}")
        if not self.sources:
            await self._woken(RETRY_DELAYS[-1])

    async def _close_sources(self) -> None:
        sources, self.sources = self.sources, []
        for source in sources:
            try:
                await source.close()
            except Exception:
                _LOGGER.exception("%s: a source does not end", self._download.label)

    async def _woken(self, seconds: float | None) -> bool:
        """Wait until something changed; return False if nothing did for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _pause(self, seconds: float) -> None:
        """Wait before trying again; not longer than until it ends or there is another ticket."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._is_closing or self._reload:
                return
            self._wake.clear()
            await self._woken(left)
