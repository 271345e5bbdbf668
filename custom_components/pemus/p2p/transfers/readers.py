"""Who reads a remote item, where, and how far ahead of them it should arrive.

Read-ahead is measured in seconds of play: half a minute of a song is little, and of a film much. Who stalls gets more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .planner import Need

AHEAD: Final = 30.0
"""Seconds of play that are fetched ahead of a reader."""
MOST_AHEAD: Final = 240.0
"""Seconds that this grows to when a reader has to wait again and again."""
LEAST_WINDOW: Final = 4 * 1024**2
MOST_WINDOW: Final = 256 * 1024**2
"""Bytes that are fetched ahead at least, where the cache has room for them, and at most, whatever the bit rate."""
BEHIND: Final = 8 * 1024**2
"""Bytes behind a reader that stay in any case, if the cache is not too small for that."""
SOON: Final = 4.0
"""Seconds of play, and at least `LEAST_SOON`, that go before whatever else is fetched ahead."""
LEAST_SOON: Final = 2 * 1024**2
DEFAULT_RATE: Final = 1_000_000
"""Bytes per second of an item of which neither bit rate nor duration is known."""
LEASE: Final = 60.0
"""Seconds after which nothing more is fetched for a reader that is not heard of."""
PROMISE: Final = 12 * 3600.0
"""Seconds for which what a reader was told to be there is left there.

A player that was paused goes on to read, without a question, whatever the system was told to send to it."""

_LEAST_RATE: Final = 4_000
_MOST_RATE: Final = 64_000_000


@dataclass(slots=True)
class Reader:
    """Somebody who reads, mostly from a place onwards."""

    rate: float
    """Bytes per second of play."""
    seen: float
    """When it was last heard of, by the monotonic clock."""
    start: int = 0
    """Where it is."""
    stop: int = 0
    """Up to where it wants to read."""
    promised: int = 0
    """Up to where it was told that all is there."""
    former: int = 0
    """Where it was before: it asks for what comes next while it still sends what it was told of then."""
    seconds: float = AHEAD
    waiting: int = 0
    """How many of its questions are not answered yet."""
    planned: tuple[int, int] = (0, 0)
    """What was asked of the sources for it last."""

    def is_active(self, now: float) -> bool:
        """Tell whether to fetch for it."""
        return self.waiting > 0 or now - self.seen < LEASE

    def is_forgotten(self, now: float) -> bool:
        """Tell whether it is not worth remembering."""
        return self.waiting == 0 and now - self.seen >= PROMISE

    def ask(self, start: int, stop: int, now: float, *, stalled: bool) -> None:
        """Take note of what it wants next, and whether it has to wait for that."""
        if start != self.promised or start == 0:
            self.seconds = AHEAD
        elif stalled and start > self.start:
            # It read all that it was told to be there, and now it waits: it needs more.
            self.seconds = min(MOST_AHEAD, self.seconds * 2)
        if self.start < start <= self.promised:
            self.former = self.start
        elif start != self.start:
            self.former = start
        self.start, self.stop, self.promised = start, stop, start
        self.seen = now

    def tell(self, stop: int, now: float) -> None:
        """Take note of what it was told."""
        self.promised = stop
        self.seen = now

    def ahead(self, most: int) -> int:
        """Return how many bytes should be there ahead of it, if there is room for `most`."""
        wish = max(LEAST_WINDOW, int(self.rate * self.seconds))
        return max(1, min(wish, MOST_WINDOW, most))

    def window(self, most: int) -> tuple[int, int]:
        """Return the bytes that should arrive for it."""
        stop = min(self.stop, self.promised + self.ahead(most))
        return self.start, max(stop, self.start)

    def kept(self, most: int, now: float) -> tuple[int, int]:
        """Return the bytes that must not be taken away from it."""
        stop = self.window(most)[1] if self.is_active(now) else self.promised
        behind = self.start - min(BEHIND, most)
        return max(0, min(self.former, behind)), stop

    def need(self, most: int) -> Need:
        """Return what it needs, if there is room for `most` bytes ahead of it."""
        start, stop = self.window(most)
        return Need(
            start=start,
            stop=stop,
            near=start + max(LEAST_SOON, int(self.rate * SOON)),
            rate=self.rate,
            is_waiting=self.waiting > 0,
        )

    def is_planned(self, most: int) -> bool:
        """Tell whether what was asked of the sources is still about what it needs."""
        start, stop = self.window(most)
        begin, end = self.planned
        if not begin <= start <= end:
            return False
        return stop - end <= (0 if stop == self.stop else self.ahead(most) // 8)


def play_rate(size: int, duration: float | None, bit_rate: int | None) -> float:
    """Return the bytes per second of play of an item."""
    if bit_rate:
        rate = bit_rate / 8
    elif duration:
        rate = size / duration
    else:
        rate = DEFAULT_RATE
    return min(max(rate, _LEAST_RATE), _MOST_RATE)
