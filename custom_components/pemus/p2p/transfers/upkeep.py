"""Looks after all downloads in the background: space, readers, tickets, records, and what a crashed engine left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
import logging
import time
from typing import Final

from .collection import Collection
from .eviction import make_room
from .renewal import Renewal

INTERVAL: Final = 1.0
IDLE_INTERVAL: Final = 60.0
"""Seconds between two rounds while something happens, and while nothing does."""
SAVE_INTERVAL: Final = 5.0
"""Seconds between two saves of what arrived."""
_MIN_INTERVAL: Final = 0.1

_LOGGER = logging.getLogger(__name__)


class Upkeep:
    """The loops that look after the downloads."""

    def __init__(
        self, downloads: Collection, renewal: Renewal, on_change: Callable[[], None]
    ) -> None:
        """Prepare the loops. `on_change` is called when there is something new to show."""
        self._downloads = downloads
        self._room = downloads.room
        self._renewal = renewal
        self._on_change = on_change

    async def run(self) -> None:
        """Look after everything at intervals, and whenever `Room.nudged` is set."""
        while True:
            self._room.nudged.clear()
            try:
                await self._round()
            except Exception:
                _LOGGER.exception("Looking after the downloads failed")
            # What exceeds the quota may be in use now, and not in a moment.
            is_busy = self._room.used > self._room.settings.quota or any(
                each.is_starved or each.fetcher.is_active or each.readers.are_waiting
                for each in self._downloads
            )
            await asyncio.sleep(_MIN_INTERVAL)
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL if is_busy else IDLE_INTERVAL):
                    await self._room.nudged.wait()

    async def _round(self) -> None:
        reading = 0
        for download in self._downloads:
            download.tick()
            reading += len(download.readers.active)
            entry = download.entry
            if download.needs_ticket or entry.is_outdated:
                entry.is_outdated = False
                self._renewal.ask(entry)
        self._room.reading = max(1, reading)
        await self._room.measure()
        await make_room(self._downloads)
        if time.monotonic() - self._downloads.saved >= SAVE_INTERVAL:
            await self._downloads.save()
        if self._room.has_changed:
            self._room.has_changed = False
            self._on_change()

    async def check_left(self) -> None:
        """Check what a former engine left, one item after the other, while nothing is being fetched."""
        for download in self._downloads:
            while download.entry.content.unchecked.total:
                if not any(each.fetcher.is_active for each in self._downloads):
                    download.checker.start()
                await asyncio.sleep(INTERVAL)
                if download.entry.is_dropped:
                    break
