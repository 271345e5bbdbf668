"""Keeps what is sent within a rate."""

from __future__ import annotations

import asyncio
import time
from typing import Final

_BURST: Final = 0.25
"""Seconds of the rate that may go out at once after a pause."""
_PORTION: Final = 0.1
"""Seconds of the rate that go out together: many may wait for their turn, and none for too long."""
_LEAST: Final = 1024
"""Bytes that are always worth a message."""


class Throttle:
    """A number of bytes per second that all who share it send together; 0 for any number."""

    def __init__(self, limit: int = 0) -> None:
        """Begin with this limit; `limit` may be set at any time."""
        self.limit = limit
        self._free_at = 0.0
        self._turn = asyncio.Lock()

    def portion(self, most: int) -> int:
        """Return how many bytes are best sent together, of so many at most."""
        if not self.limit:
            return most
        return min(most, max(_LEAST, int(self.limit * _PORTION)))

    async def take(self, size: int) -> None:
        """Return when this many bytes may be sent, in the order of who asks. Nothing is taken if that is cancelled."""
        if not self.limit:
            return
        async with self._turn:
            if not self.limit:
                return
            now = time.monotonic()
            free_at = max(self._free_at, now - _BURST) + size / self.limit
            if (pause := free_at - now) > 0:
                await asyncio.sleep(pause)
            self._free_at = free_at
