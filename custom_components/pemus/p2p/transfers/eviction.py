"""Makes room for those who fetch: removes what was not read for longest, and parts of what is read that are far from all readers."""

from __future__ import annotations

import asyncio
from typing import Final

from ..core.errors import Unavailable
from .cache import Cache
from .entries import Entries, Entry
from .room import Room

SLACK: Final = 64 * 1024**2
"""Bytes of room that are kept at hand while something is fetched; less in a small cache."""


class Eviction:
    """Decides who goes."""

    def __init__(self, entries: Entries, room: Room, cache: Cache) -> None:
        """Prepare to make room in a cache."""
        self._entries = entries
        self._room = room
        self._cache = cache

    async def make_room(self) -> None:
        """See to it that those who fetch have room, and tell those who cannot get any."""
        room = self._room
        hungry = {
            each
            for each in room.hungry
            if each.is_starved and self._entries.of(each) is not None
        }
        room.hungry = set()
        active = [
            entry.download
            for entry in self._entries
            if entry.download.fetcher.is_active or entry.download in hungry
        ]
        slack = min(SLACK, room.settings.quota // 8) if active else 0
        slack = max([slack, *(each.content.piece_length for each in hungry)])
        wanted = slack + sum(each.wants for each in active)
        if (missing := wanted - room.left) > 0:
            await self._evict(missing)
            if (missing := wanted - room.left) > 0:
                await self._thin_out(missing)
        left = room.left
        # While the disk gave room back, readers moved on, and sources may have filled it again.
        more = self._can_give_back()
        for each in hungry:
            if room.room_for(each) >= each.content.piece_length:
                each.roomier()
            elif more:
                room.starved(each)
            else:
                each.full(room.shortage())
        self._note_disk(bool(hungry) and not more, left)
        # Those who want more than there will ever be are looked at again when something changes.
        room.hungry |= {each for each in hungry if each.is_starved}

    def _note_disk(self, is_hungry: bool, left: int) -> None:
        room = self._room
        before, free = room.is_full, room.free - room.settings.reserve
        if is_hungry and left <= 0 and free <= 0:
            room.is_full = True
        elif free > 0:
            room.is_full = False
        self._entries.has_changed |= room.is_full != before

    def _can_give_back(self) -> bool:
        """Tell whether `_evict` or `_thin_out` would find anything now."""
        return any(
            self._can_evict(entry)
            or (self._can_thin_out(entry) and entry.download.has_spare())
            for entry in self._entries
        )

    def _can_evict(self, entry: Entry) -> bool:
        """Tell whether a download has anything on disk that is neither read nor kept."""
        download = entry.download
        return (
            download.content.stored > 0
            and not download.pinned
            and not download.is_in_use()
        )

    def _can_thin_out(self, entry: Entry) -> bool:
        return (
            self._cache.can_punch
            and not entry.download.pinned
            and entry.inode is not None
            and not entry.unheard
        )

    async def _evict(self, most: int) -> None:
        """Remove the downloads that were not read for the longest time, until `most` bytes are free."""
        going = []
        for entry in sorted(
            filter(self._can_evict, self._entries),
            key=lambda each: (each.download.used, each.key),
        ):
            if most <= 0:
                break
            most -= entry.counted
            reason = Unavailable("its room in the download cache was needed")
            going.append(self._entries.drop(entry.key, reason))
            # The ticket is as good as before.
            self._entries.insert(entry.download.ticket, entry.download.meta)
        if going:
            await asyncio.wait(going)
            await self._room.measure()

    async def _thin_out(self, most: int) -> None:
        """Give back those parts of what is being read that are far from all readers, about `most` bytes."""
        for entry in sorted(self._entries, key=lambda each: each.counted, reverse=True):
            if most <= 0:
                break
            if self._can_thin_out(entry) and (spans := entry.download.leave(most)):
                await self._entries.punch(entry, spans)
                most -= sum(stop - start for start, stop in spans)
        await self._room.measure()
