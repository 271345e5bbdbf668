"""Limits per client: how often it may ask, and how many sockets it may open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
import time
from typing import Final, Self

MAX_KEYS: Final = 20_000
"""Buckets that are kept. A client with more addresses gains only a full bucket for each."""

SHARE: Final = 0.5
"""The part of the free places that clients with identities of one address may have."""


class Rates:
    """A token bucket for each key. The least recently used ones are dropped."""

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Allow `burst` at once, and `per_second` on average, for each key."""
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
        """Take from the bucket of a key, and return 0. If it has not enough, take nothing and return the seconds to wait."""
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
    """The number of sockets of each address.

    Thousands of homes may share the address of a carrier (CGNAT, RFC 6888), and anyone can create thousands of identities. So
    an address may always have `most` sockets without an identity. Clients with a proven identity do not count among these.
    An address may have more of them while they are fewer than `SHARE` of the free places. This is the dynamic threshold by
    which switches share a buffer (A. Choudhury, E. Hahne, 1998): one address can get a third of an empty server. The more
    addresses have many sockets, the fewer each can get, and some places always remain for others.
    """

    def __init__(self, most: int, capacity: int = 0) -> None:
        """Allow each address `most` sockets, and as many proven ones or its share of `capacity`."""
        self._most = most
        self._free = capacity
        self._taken: dict[str, int] = {}
        self._proven: dict[str, int] = {}

    def take(self, address: str) -> bool:
        """Count a socket, and return True, unless its address has too many."""
        return _add(self._taken, address, self._most)

    def prove(self, address: str) -> bool:
        """Count a socket as proven, and return True, unless its address has too many."""
        if not _add(self._proven, address, max(self._most, SHARE * self._free)):
            return False
        self._free -= 1
        _remove(self._taken, address)
        return True

    def leave(self, address: str, *, proven: bool = False) -> None:
        """Stop counting a socket."""
        if proven:
            self._free += 1
        _remove(self._proven if proven else self._taken, address)

    def __len__(self) -> int:
        """Return the number of sockets."""
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
