"""How much one client may have of the server: how often it may ask, and how many places it may take."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
import time
from typing import Final, Self

MAX_KEYS: Final = 20_000
"""Keys that are remembered. Whoever has more addresses than that gains no more than a full bucket for each."""

SHARE: Final = 0.5
"""Of the free places, what the clients with identities of one address may have taken."""


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

    @classmethod
    def per_minute(cls, number: float) -> Self:
        """Allow `number` a minute, at once or over the minute, for each key."""
        return cls(number / 60, number)

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
    """The sockets that each address has, so that no address crowds out others.

    Thousands of homes may share one address behind the translation of a carrier (CGNAT, RFC 6888), and anybody can make
    thousands of identities. So an address may always have `most` sockets. Clients that prove an identity no longer count
    among those: they may be more as long as they are fewer than `SHARE` of the places that are free. That is the dynamic
    threshold by which switches share a buffer (A. Choudhury, E. Hahne, 1998): on an empty server one address gets a third
    of all places, and the more addresses take many, the fewer each gets, with some always left for others.
    """

    def __init__(self, most: int, capacity: int = 0) -> None:
        """Let each address have `most` sockets, and that many proven ones or its share of `capacity`."""
        self._most = most
        self._free = capacity
        self._taken: dict[str, int] = {}
        self._proven: dict[str, int] = {}

    def take(self, address: str) -> bool:
        """Take a place, if one is left."""
        return _add(self._taken, address, self._most)

    def prove(self, address: str) -> bool:
        """Count a socket of an address as one with an identity from now on, if it may have another one."""
        if not _add(self._proven, address, max(self._most, SHARE * self._free)):
            return False
        self._free -= 1
        _remove(self._taken, address)
        return True

    def leave(self, address: str, *, proven: bool = False) -> None:
        """Give a place back."""
        if proven:
            self._free += 1
        _remove(self._proven if proven else self._taken, address)

    def __len__(self) -> int:
        """Return how many places are taken."""
        return sum(self._taken.values()) + sum(self._proven.values())


def _add(counts: dict[str, int], key: str, most: float) -> bool:
    count = counts.get(key, 0)
    if count >= most:
        return False
    counts[key] = count + 1
    return True


def _remove(counts: dict[str, int], key: str) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1
