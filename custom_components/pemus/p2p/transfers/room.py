"""How much room there is for downloads, and who may take it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from ..models.transfers import CacheUsage
from .cache import Cache, CacheSettings
from .entries import Entries

if TYPE_CHECKING:
    from .download import Download

PRESSED_TIME: Final = 2.0
"""Seconds for which offline copies stand back after somebody had to wait for something else."""
PINNED_SHARE: Final = 0.9
"""How much of the quota offline copies may take: without the rest nothing else could be played."""

_LOGGER = logging.getLogger(__name__)


class Room:
    """The disk of the cache."""

    def __init__(self, entries: Entries, cache: Cache, settings: CacheSettings) -> None:
        """Prepare to share out what the settings allow."""
        self.settings = settings
        self.reading = 1
        """How many readers share the room for what is fetched ahead."""
        self.hungry: set[Download] = set()
        """Downloads that want more than they may fetch."""
        self.is_full = False
        """Whether the disk lacks room, and not only the quota."""
        self.nudged = asyncio.Event()
        """Set when there is a reason to make room."""
        self._entries = entries
        self._cache = cache
        self._free = 0
        self._used_then = 0
        self._pressed_by: Download | None = None
        self._pressed_until = float("-inf")

    async def measure(self) -> None:
        """Look at how much of the disk is free."""
        try:
            self._free = await asyncio.to_thread(self._cache.free)
        except OSError as err:
            _LOGGER.warning("The disk of the download cache is gone: %s", err)
            self._free = 0
        self._used_then = self._entries.used

    @property
    def free(self) -> int:
        """Return the free bytes of the disk, about."""
        return self._free - (self._entries.used - self._used_then)

    @property
    def left(self) -> int:
        """Return how many bytes may be added at present."""
        return min(
            self.settings.quota - self._entries.used,
            self.free - self.settings.reserve,
        )

    @property
    def usage(self) -> CacheUsage:
        """Return how much of the disk is taken."""
        return CacheUsage(
            used=self._entries.used,
            pinned=self._entries.pinned,
            quota=self.settings.quota,
            free=max(0, self.free),
        )

    def fits_copy(self, size: int) -> bool:
        """Tell whether one more offline copy may be kept."""
        return self._entries.pinned + size <= self.settings.quota * PINNED_SHARE

    def shortage(self) -> str:
        """Return in plain English what keeps more from being fetched."""
        if self.free - self.settings.reserve < self.settings.quota - self._entries.used:
            return "the disk of the download cache is full"
        return "the download cache is full of what is being read and of offline copies"

    # What downloads ask.

    def room_for(self, download: Download) -> int:
        """Return how many bytes more a download may fetch at present."""
        others = sum(
            entry.download.wants
            for entry in self._entries
            if entry.download is not download
        )
        return max(0, self.left - others)

    def window_for(self, download: Download) -> int:
        """Return how many bytes at most may be fetched ahead of each of a download's readers.

        What was promised, and what is fetched ahead of that, have to fit for all of them.
        """
        share = self.settings.quota // (4 * self.reading)
        return max(download.content.piece_length, share)

    def is_pressed(self, download: Download) -> bool:
        """Tell whether somebody waits for bytes of another download, and an offline copy has to stand back."""
        return (
            self._pressed_by is not download and time.monotonic() < self._pressed_until
        )

    def press(self, download: Download) -> None:
        """Have offline copies stand back for a moment: somebody waits for this download."""
        pressed = time.monotonic() < self._pressed_until
        changed = self._pressed_by is not download
        self._pressed_by = download
        self._pressed_until = time.monotonic() + PRESSED_TIME
        if changed or not pressed:
            for entry in self._entries:
                if entry.download.pinned and entry.download.wants:
                    entry.download.replan()

    def starved(self, download: Download) -> None:
        """Note that a download wants more than it may fetch, or could not be written."""
        self.hungry.add(download)
        self.nudged.set()
