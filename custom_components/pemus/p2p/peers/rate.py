"""Keeps what is sent within a rate."""

from __future__ import annotations

import asyncio
import time
from typing import Final

_BURST: Final = 0.25
"""Seconds of the rate that may go out at once after a pause."""


class Rate:
    """A number of bytes per second that all who share it send together; 0 for any number."""

    def __init__(self, limit: int = 0) -> None:
        """Begin with this limit; `limit` may be set at any time."""
        self.limit = limit
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Return when this many bytes may be sent."""
        if not self.limit:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - _BURST) + size / self.limit
        if (pause := self._free_at - now) > 0:
            await asyncio.sleep(pause)
