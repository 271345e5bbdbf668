"""Frees space for those who fetch: removes items that were unused for longest, then parts that are far from all readers."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from ..core.errors import Unavailable
from . import readers as reading
from .collection import Collection
from .download import Download

SLACK: Final = 64 * 1024**2
"""Bytes that are kept free while something is fetched; less in a small cache."""


async def make_room(downloads: Collection) -> None:
    """Free space for those who fetch, and tell those who cannot get any."""
    room = downloads.room
    starved = [each for each in downloads if each.is_starved]
    active = [each for each in downloads if each.fetcher.is_active or each.is_starved]
    slack = min(SLACK, room.settings.quota // 8) if active else 0
    slack = max([slack, *(each.entry.content.piece_length for each in starved)])
    wanted = slack + sum(each.entry.wanted for each in active)
    if (missing := wanted - room.left) > 0:
        await _evict(downloads, missing)
        if (missing := wanted - room.left) > 0:
            await _thin_out(downloads, missing)
    left = room.left
    # Meanwhile readers moved on, and sources may have filled the space again.
    can_free = any(
        _can_evict(each) or (_can_thin_out(each, downloads) and _has_spare(each))
        for each in downloads
    )
    for each in starved:
        if room.room_for(each.entry) >= each.entry.content.piece_length:
            each.roomier()
        elif can_free:
            room.nudged.set()
        else:
            each.full(room.shortage())
    room.note_disk(is_short=bool(starved) and not can_free and left <= 0)


async def _evict(downloads: Collection, most: int) -> None:
    """Remove the downloads that were unused for longest, until `most` bytes are free."""
    going = []
    for download in sorted(
        filter(_can_evict, downloads),
        key=lambda each: (each.entry.used, each.entry.key),
    ):
        if most <= 0:
            break
        entry = download.entry
        most -= entry.content.stored
        reason = Unavailable("its room in the download cache was needed")
        going.append(downloads.drop(download, reason))
        # The ticket is still valid.
        downloads.insert(entry.ticket, entry.content.meta)
    if going:
        await asyncio.wait(going)
        await downloads.room.measure()


async def _thin_out(downloads: Collection, most: int) -> None:
    """Free about `most` bytes of items that are being read, far from all readers. The largest items go first."""
    for download in sorted(
        downloads, key=lambda each: each.entry.content.stored, reverse=True
    ):
        if most <= 0:
            break
        if _can_thin_out(download, downloads) and (spans := download.leave(most)):
            await download.entry.punch(spans)
            download.changed()
            download.replan()
            if not download.fetcher.is_active:
                await download.entry.seal()
            most -= sum(stop - start for start, stop in spans)
    await downloads.room.measure()


def _can_evict(download: Download) -> bool:
    """Tell whether a download has anything on disk that is neither read nor kept."""
    entry = download.entry
    # A reader that was silent for a while may still send what it was promised.
    is_in_use = len(download.readers) or time.time() - entry.used < reading.LEASE
    return entry.content.stored > 0 and not entry.pinned and not is_in_use


def _can_thin_out(download: Download, downloads: Collection) -> bool:
    """Tell whether parts of a download may be removed."""
    entry = download.entry
    return (
        downloads.cache.can_punch
        and entry.has_file
        and not entry.pinned
        and not entry.is_unread
    )


def _has_spare(download: Download) -> bool:
    """Tell whether `Download.leave` would find anything."""
    kept = download.readers.kept(download.window)
    return next(download.entry.content.spare(kept), None) is not None
