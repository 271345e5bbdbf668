"""Looks after all downloads in the background: space, readers, tickets, records, and what a crashed engine left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
import logging
import time
from typing import Final

from .collection import Collection
from .download import Download
from .eviction import make_room
from .renewal import Renewal

INTERVAL: Final = 1.0
IDLE_INTERVAL: Final = 60.0
"""Seconds between two rounds while something happens, and while nothing does."""
SAVE_INTERVAL: Final = 5.0
"""Seconds between two saves of what arrived."""
_MIN_INTERVAL: Final = 0.1

_LOGGER = logging.getLogger(__name__)


async def keep(
    downloads: Collection, renewal: Renewal, on_change: Callable[[], None]
) -> None:
    """Look after the downloads for ever: at intervals, and whenever `Room.nudged` is set.

    `on_change` is called when there is something new to show.
    """
    room = downloads.room
    while True:
        room.nudged.clear()
        try:
            await _look_after(downloads, renewal)
            if room.has_changed:
                room.has_changed = False
                on_change()
        except Exception:
            _LOGGER.exception("Looking after the downloads failed")
        # What exceeds the quota may be in use now, and not in a moment.
        is_busy = room.used > room.settings.quota or any(
            _is_busy(each) or each.is_starved for each in downloads
        )
        await asyncio.sleep(_MIN_INTERVAL)
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL if is_busy else IDLE_INTERVAL):
                await room.nudged.wait()


async def _look_after(downloads: Collection, renewal: Renewal) -> None:
    room = downloads.room
    reading = 0
    for download in downloads:
        download.tick()
        reading += len(download.readers.active)
        entry = download.entry
        if download.needs_ticket or entry.is_outdated:
            entry.is_outdated = False
            renewal.ask(entry)
    room.reading = max(1, reading)
    await room.measure()
    await make_room(downloads)
    if time.monotonic() - downloads.saved >= SAVE_INTERVAL:
        await downloads.save()
    if not any(map(_is_busy, downloads)):
        # What a former engine left is checked while nothing else happens, one item after the other.
        for download in downloads:
            if download.entry.content.unchecked.total:
                download.checker.start()
                break


def _is_busy(download: Download) -> bool:
    """Tell whether sources are open, somebody waits, or a check is in progress."""
    return (
        download.fetcher.is_active
        or download.readers.are_waiting
        or download.checker.is_running
    )
