"""Frees space for those who fetch: removes items that were unused for longest, then parts that are far from all readers."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from ..core.errors import Unavailable
from . import readers as reading
from .cache import Cache
from .collection import Collection
from .download import Download
from .room import Room

SLACK: Final = 64 * 1024**2
"""Bytes that are kept free while something is fetched; less in a small cache."""


class Eviction:
    """Decides what goes."""

    def __init__(self, downloads: Collection, room: Room, cache: Cache) -> None:
        """Prepare to free space in a cache."""
        self._downloads = downloads
        self._room = room
        self._cache = cache

    async def make_room(self) -> None:
        """Free space for those who fetch, and tell those who cannot get any."""
        room = self._room
        starved = [each for each in self._downloads if each.is_starved]
        active = [
            each
            for each in self._downloads
            if each.fetcher.is_active or each.is_starved
        ]
        slack = min(SLACK, room.settings.quota // 8) if active else 0
        slack = max([slack, *(each.entry.content.piece_length for each in starved)])
        wanted = slack + sum(each.entry.wanted for each in active)
        if (missing := wanted - room.left) > 0:
            await self._evict(missing)
            if (missing := wanted - room.left) > 0:
                await self._thin_out(missing)
        left = room.left
        # Meanwhile readers moved on, and sources may have filled the space again.
        more = self._can_free()
        for each in starved:
            if room.room_for(each.entry) >= each.entry.content.piece_length:
                each.roomier()
            elif more:
                room.nudged.set()
            else:
                each.full(room.shortage())
        self._note_disk(bool(starved) and not more, left)

    def _note_disk(self, is_starved: bool, left: int) -> None:
        """Note whether the disk itself is full."""
        room = self._room
        before, free = room.is_full, room.free - room.settings.reserve
        if is_starved and left <= 0 and free <= 0:
            room.is_full = True
        elif free > 0:
            room.is_full = False
        room.has_changed |= room.is_full != before

    def _can_free(self) -> bool:
        """Tell whether `_evict` or `_thin_out` would find anything now."""
        return any(
            _can_evict(each) or (self._can_thin_out(each) and _has_spare(each))
            for each in self._downloads
        )

    def _can_thin_out(self, download: Download) -> bool:
        entry = download.entry
        return (
            self._cache.can_punch
            and entry.has_file
            and not entry.pinned
            and not entry.is_unread
        )

    async def _evict(self, most: int) -> None:
        """Remove the downloads that were unused for longest, until `most` bytes are free."""
        going = []
        for download in sorted(
            filter(_can_evict, self._downloads),
            key=lambda each: (each.entry.used, each.entry.key),
        ):
            if most <= 0:
                break
            entry = download.entry
            most -= entry.content.stored
            reason = Unavailable("its room in the download cache was needed")
            going.append(self._downloads.drop(download, reason))
            # The ticket is still valid.
            self._downloads.insert(entry.ticket, entry.content.meta)
        if going:
            await asyncio.wait(going)
            await self._room.measure()

    async def _thin_out(self, most: int) -> None:
        """Free about `most` bytes of items that are being read, far from all readers. The largest items go first."""
        for download in sorted(
            self._downloads, key=lambda each: each.entry.content.stored, reverse=True
        ):
            if most <= 0:
                break
            if self._can_thin_out(download) and (spans := download.leave(most)):
                await download.entry.punch(spans)
                download.changed()
                download.replan()
                if not download.fetcher.is_active:
                    await download.entry.seal()
                most -= sum(stop - start for start, stop in spans)
        await self._room.measure()


def _can_evict(download: Download) -> bool:
    """Tell whether a download has anything on disk that is neither read nor kept."""
    entry = download.entry
    # A reader that was silent for a while may still send what it was promised.
    is_in_use = len(download.readers) or time.time() - entry.used < reading.LEASE
    return entry.content.stored > 0 and not entry.pinned and not is_in_use


def _has_spare(download: Download) -> bool:
    """Tell whether `Download.leave` would find anything."""
    kept = download.readers.kept(download.window)
    return next(download.entry.content.spare(kept), None) is not None
