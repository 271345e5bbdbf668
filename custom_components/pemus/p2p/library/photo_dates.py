"""When a photo was taken, in the local time of where it was taken: by its EXIF date, or else by its file's time."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
import time

_QUARTER = 900
"""Seconds for which the offset of local time is looked up once: offsets and their changes fall on quarters of an hour."""
_LATEST = 253402300799
"""The last second of the year 9999."""

UNKNOWN_MONTH = 0


def of_file(mtime_ns: int) -> tuple[int, float]:
    """Return the month (year * 100 + month) and the moment of a file's time; UNKNOWN_MONTH for a time that was never set."""
    seconds = mtime_ns / 1e9
    if not 86400 < seconds < _LATEST:
        return UNKNOWN_MONTH, seconds
    month, offset = _local(int(seconds) // _QUARTER)
    return month, seconds + offset


def of_taken(taken: str) -> tuple[int, float] | None:
    """Return month and moment of a local time as ISO 8601, None if it is no such time."""
    try:
        parsed = datetime.fromisoformat(taken).replace(tzinfo=UTC)
    except ValueError:
        return None
    return parsed.year * 100 + parsed.month, parsed.timestamp()


@lru_cache(maxsize=4096)
def _local(quarter: int) -> tuple[int, int]:
    local = time.localtime(quarter * _QUARTER)
    return local.tm_year * 100 + local.tm_mon, local.tm_gmtoff
