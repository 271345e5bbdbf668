"""How much one client may have of the server: how often it may ask, and how many places it may take."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
import time
from typing import Final

MAX_KEYS: Final = 20_000
"""Keys that are remembered. Who makes more addresses than that gets no more out of it than a full bucket each."""


class Rates:
    """A token bucket for each key, of which the ones that were used last are remembered."""

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Allow `burst` at once and `per_second` in the long run, for each key."""
        self._per_second = per_second
        self._burst = burst
        self._keys = keys
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, key: str, cost: float = 1) -> float:
        """Take from a key's bucket. Return 0, or the seconds after which to try again; then nothing was taken."""
        now = self._clock()
        level, then = self._buckets.get(key, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._per_second)
        wait = (cost - level) / self._per_second
        self._buckets[key] = (level - cost if wait <= 0 else level, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return max(0.0, wait)


class Places:
    """How many things each key has at present. Bounded by what they are: a key without any is forgotten."""

    def __init__(self, most: int) -> None:
        """Let each key have this many."""
        self._most = most
        self._taken: dict[str, int] = {}

    def take(self, key: str) -> bool:
        """Take a place, if one is left."""
        taken = self._taken.get(key, 0)
        if taken >= self._most:
            return False
        self._taken[key] = taken + 1
        return True

    def leave(self, key: str) -> None:
        """Give a place back that was taken."""
        taken = self._taken[key] - 1
        if taken:
            self._taken[key] = taken
        else:
            del self._taken[key]
