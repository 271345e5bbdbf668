"""How much space there is in the cache, and which download may take it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from ..models.transfers import CacheUsage
from .cache import Cache, CacheSettings
from .entry import Entry

YIELD_TIME: Final = 2.0
"""How long offline copies pause after somebody had to wait for another item, in seconds."""
PINNED_SHARE: Final = 0.9
"""Part of the quota that offline copies may take. The rest keeps other items playable."""

_LOGGER = logging.getLogger(__name__)


class Room:
    """The space of the cache."""

    def __init__(self, cache: Cache, settings: CacheSettings) -> None:
        """Prepare to share out what the settings allow."""
        self.settings = settings
        self.entries: set[Entry] = set()
        """All entries of the cache."""
        self.reading = 1
        """How many readers share the space for read-ahead."""
        self.is_full = False
        """Whether the disk lacks space, and not only the quota."""
        self.nudged = asyncio.Event()
        """Set when there is a reason to look after the downloads."""
        self.has_changed = False
        """Whether there is something new to show. Whoever shows it resets this."""
        self._cache = cache
        self._disk_free = 0
        self._used_before = 0
        """Bytes that were used when `_disk_free` was measured."""
        self._awaited: Entry | None = None
        """The entry that somebody had to wait for last."""
        self._yielding_until = float("-inf")

    async def measure(self) -> None:
        """Measure how much of the disk is free."""
        try:
            self._disk_free = await asyncio.to_thread(self._cache.free)
        except OSError as err:
            _LOGGER.warning("The disk of the download cache is gone: %s", err)
            self._disk_free = 0
        self._used_before = self.used

    @property
    def used(self) -> int:
        """Bytes that all files take on disk."""
        return sum(entry.content.stored for entry in self.entries)

    @property
    def pinned(self) -> int:
        """Bytes of all offline copies when they are complete."""
        return sum(entry.content.size for entry in self.entries if entry.pinned)

    @property
    def free(self) -> int:
        """Free bytes on the disk, approximately."""
        return self._disk_free - (self.used - self._used_before)

    @property
    def left(self) -> int:
        """How many bytes may be added at present."""
        return min(self.settings.quota - self.used, self.free - self.settings.reserve)

    @property
    def usage(self) -> CacheUsage:
        """How much of the disk is taken."""
        return CacheUsage(
            used=self.used,
            pinned=self.pinned,
            quota=self.settings.quota,
            free=max(0, self.free),
        )

    def note_disk(self, *, is_short: bool) -> None:
        """Note whether somebody cannot get any space. The disk is the cause if it has less free than the reserve."""
        before, free = self.is_full, self.free - self.settings.reserve
        self.is_full = free <= 0 and (is_short or before)
        self.has_changed |= self.is_full != before

    def fits_copy(self, size: int) -> bool:
        """Tell whether one more offline copy may be kept."""
        return self.pinned + size <= self.settings.quota * PINNED_SHARE

    def shortage(self) -> str:
        """Return in plain English why no more can be fetched."""
        if self.free - self.settings.reserve < self.settings.quota - self.used:
            return "the disk of the download cache is full"
        return "the download cache is full of what is being read and of offline copies"

    def room_for(self, entry: Entry) -> int:
        """Return how many more bytes of an entry may be fetched at present."""
        others = sum(each.wanted for each in self.entries if each is not entry)
        return max(0, self.left - others)

    def window_for(self, entry: Entry) -> int:
        """Return how many bytes at most may be fetched ahead of each reader of an entry.

        What all readers were promised, and their read-ahead, have to fit into the cache together.
        """
        share = self.settings.quota // (4 * self.reading)
        return max(entry.content.piece_length, share)

    def press(self, entry: Entry) -> bool:
        """Pause offline copies for a moment: somebody waits for this entry. Return whether that is new."""
        now = time.monotonic()
        is_new = self._awaited is not entry or now >= self._yielding_until
        self._awaited = entry
        self._yielding_until = now + YIELD_TIME
        return is_new

    def is_pressed(self, entry: Entry) -> bool:
        """Tell whether an offline copy of this entry has to pause for another item."""
        return self._awaited is not entry and time.monotonic() < self._yielding_until
