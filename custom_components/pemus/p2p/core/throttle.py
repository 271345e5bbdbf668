"""Token buckets: how much may happen per second, on average and at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
import time
from typing import Final

_BURST: Final = 0.25
"""How much of a second's limit a throttle lets out at once after a pause, in seconds."""
_PORTION: Final = 0.1
"""How much of a second's limit is best sent together, in seconds: many can take turns, and nobody waits for long."""
_MIN_PORTION: Final = 1024
"""The least that is worth a message, in bytes."""

type Clock = Callable[[], float]
"""Returns seconds, and never goes back."""


class TokenBucket:
    """Allows `rate` tokens per second on average, and up to `burst` at once after a pause."""

    def __init__(
        self, rate: float, burst: float, clock: Clock = time.monotonic
    ) -> None:
        """Begin with a full bucket."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._filled_at = clock()

    @classmethod
    def every(cls, seconds: float, clock: Clock = time.monotonic) -> TokenBucket:
        """Return a bucket that allows one token every so many seconds."""
        return cls(1 / seconds, 1, clock)

    def take(self) -> bool:
        """Take one token if there is one; return whether there was."""
        # A refill is a sum of floats, which may miss a whole token by a hair.
        if self._refill() < 1 - 1e-9:
            return False
        self._level -= 1
        return True

    def spend(self, tokens: float) -> float:
        """Take tokens even if they are not there yet; return the seconds until they are."""
        self._level = self._refill() - tokens
        return max(0.0, -self._level / self._rate)

    def _refill(self) -> float:
        now = self._clock()
        gained = (now - self._filled_at) * self._rate
        self._level = min(self._burst, self._level + gained)
        self._filled_at = now
        return self._level


class TokenBuckets:
    """A bucket for each key, all with the same rate and burst."""

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        max_keys: int,
        clock: Clock = time.monotonic,
    ) -> None:
        """Begin with full buckets. The one that was used least recently is forgotten when there are more than `max_keys`."""
        self._rate = rate
        self._burst = burst
        self._max_keys = max_keys
        self._clock = clock
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable) -> bool:
        """Take one token of a key if there is one; return whether there was."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, self._clock)
            self._buckets[key] = bucket
            if len(self._buckets) > self._max_keys:
                # It is full again, most likely.
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take()


class Throttle:
    """Keeps all that share it within a number of bytes per second; 0 is no limit."""

    def __init__(self, limit: int = 0) -> None:
        """Begin with a limit in bytes per second. `limit` may be set at any time."""
        self.limit = limit
        self.is_lan_exempt = True
        """Whether what stays in the local network is exempt. May be set at any time."""
        self._free_at = 0.0
        self._turn = asyncio.Lock()

    def portion(self, most: int) -> int:
        """Return how many of `most` bytes are best sent together."""
        if not self.limit:
            return most
        return min(most, max(_MIN_PORTION, int(self.limit * _PORTION)))

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may be sent, first come, first served. A wait that is cancelled takes nothing."""
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
