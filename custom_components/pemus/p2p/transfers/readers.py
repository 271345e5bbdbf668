"""Who reads a remote item, where, and how far ahead of them it should arrive.

Read-ahead is measured in seconds of play: half a minute is little of a song, and much of a film. Readers that stall get more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import time
from typing import Final

from ..core.errors import Unavailable
from .content import Content
from .planner import Need

READ_AHEAD: Final = 30.0
"""Seconds of play that are fetched ahead of a reader."""
MAX_READ_AHEAD: Final = 240.0
"""Seconds that read-ahead grows to when a reader stalls again and again."""
MIN_WINDOW: Final = 4 * 1024**2
"""Bytes that are fetched ahead at least, if the cache has space for them."""
MAX_WINDOW: Final = 256 * 1024**2
"""Bytes that are fetched ahead at most, whatever the bit rate."""
BEHIND: Final = 8 * 1024**2
"""Bytes behind a reader that are kept, unless the cache is too small."""
NEAR: Final = 4.0
"""Seconds of play, at least `MIN_NEAR` bytes, that are fetched before the rest of the read-ahead."""
MIN_NEAR: Final = 2 * 1024**2
DEFAULT_RATE: Final = 1_000_000
"""Bytes per second of an item whose bit rate and duration are unknown."""
LEASE: Final = 60.0
"""Nothing more is fetched for a reader that has been silent for so many seconds."""
PROMISE_TIMEOUT: Final = 12 * 3600.0
"""Seconds for which bytes stay that a reader was promised.

When a paused player resumes, the system sends what it was given to send, and nobody asks the engine."""
MAX_READERS: Final = 200
"""Readers of one item."""
BATCH: Final = 4 * 1024**2
"""Bytes that a reader who reads on gets in one answer, if they arrive within `BATCH_TIMEOUT`."""
BATCH_TIMEOUT: Final = 0.03
"""Seconds. Answering for each piece costs two processes more than the piece itself."""

_MIN_RATE: Final = 4_000
_MAX_RATE: Final = 64_000_000


@dataclass(slots=True)
class Reader:
    """Somebody who reads, mostly forward."""

    rate: float
    """Bytes per second of play."""
    seen: float
    """When it last asked for something, by the monotonic clock."""
    start: int = 0
    """Where it is."""
    stop: int = 0
    """Up to where it wants to read."""
    promised: int = 0
    """Up to where it was told that the bytes are there."""
    former: int = 0
    """Where it was before. It asks for the next bytes while it still sends the previous ones."""
    seconds: float = READ_AHEAD
    waiting: int = 0
    """How many of its requests are unanswered."""
    planned: tuple[int, int] = (0, 0)
    """What was last requested from the sources for it."""

    def is_active(self, now: float) -> bool:
        """Tell whether to fetch for it."""
        return self.waiting > 0 or now - self.seen < LEASE

    def is_forgotten(self, now: float) -> bool:
        """Tell whether its promise has ended."""
        return self.waiting == 0 and now - self.seen >= PROMISE_TIMEOUT

    def ask(self, start: int, stop: int, now: float, *, stalled: bool) -> None:
        """Note what it wants next, and whether it has to wait for that."""
        if start != self.promised or start == 0:
            self.seconds = READ_AHEAD
        elif stalled and start > self.start:
            # It read everything it was promised, and now it waits: it needs more.
            self.seconds = min(MAX_READ_AHEAD, self.seconds * 2)
        if self.start < start <= self.promised:
            self.former = self.start
        elif start != self.start:
            self.former = start
        self.start, self.stop, self.promised = start, stop, start
        self.seen = now

    def promise(self, start: int, stop: int, now: float) -> None:
        """Note that it was told that the bytes from `start` to `stop` are there."""
        if (self.start, self.promised) == (start, start):
            self.promised = stop
            self.seen = now
        else:
            # It asked for something else meanwhile. Both promises are kept.
            self.start = min(self.start, start)
            self.promised = max(self.promised, stop)

    def ahead(self, most: int) -> int:
        """Return how many bytes should be there ahead of it, at most `most`."""
        wish = max(MIN_WINDOW, int(self.rate * self.seconds))
        return max(1, min(wish, MAX_WINDOW, most))

    def window(self, most: int) -> tuple[int, int]:
        """Return the span that should arrive for it, with at most `most` bytes ahead."""
        stop = min(self.stop, self.promised + self.ahead(most))
        return self.start, max(stop, self.start)

    def kept(self, most: int, now: float) -> tuple[int, int]:
        """Return the span that must not be removed."""
        stop = self.window(most)[1] if self.is_active(now) else self.promised
        behind = self.start - min(BEHIND, most)
        return max(0, min(self.former, behind)), stop

    def need(self, most: int) -> Need:
        """Return what it needs, with at most `most` bytes ahead."""
        start, stop = self.window(most)
        return Need(
            start=start,
            stop=stop,
            near=start + max(MIN_NEAR, int(self.rate * NEAR)),
            rate=self.rate,
            is_waiting=self.waiting > 0,
        )

    def is_planned(self, most: int) -> bool:
        """Tell whether what was requested for it still matches what it needs."""
        start, stop = self.window(most)
        begin, end = self.planned
        if not begin <= start <= end:
            return False
        return stop - end <= (0 if stop == self.stop else self.ahead(most) // 8)


class Readers:
    """All readers of one item, and those of their requests that wait for bytes."""

    def __init__(self, rate: float) -> None:
        """Begin with none. `rate` is the item's bytes per second of play."""
        self._rate = rate
        self._readers: dict[str, Reader] = {}
        self._waiters: dict[asyncio.Future[None], int] = {}

    def __len__(self) -> int:
        """Return how many are known, active or not."""
        return len(self._readers)

    def get(self, name: str) -> Reader:
        """Return the reader with this name, made if it is new. Raises Unavailable if there are too many."""
        if (reader := self._readers.get(name)) is not None:
            return reader
        now = time.monotonic()
        if len(self._readers) >= MAX_READERS:
            oldest = min(self._readers, key=lambda each: self._readers[each].seen)
            if self._readers[oldest].is_active(now):
                raise Unavailable("too many read this item at the same time")
            del self._readers[oldest]
        reader = self._readers[name] = Reader(rate=self._rate, seen=now)
        return reader

    def release(self, name: str) -> bool:
        """Forget a reader, and tell whether it was known."""
        return self._readers.pop(name, None) is not None

    def forget_silent(self) -> None:
        """Forget readers whose promises have ended."""
        now = time.monotonic()
        for name, reader in list(self._readers.items()):
            if reader.is_forgotten(now):
                del self._readers[name]

    @property
    def active(self) -> list[Reader]:
        """Those for whom something is fetched."""
        now = time.monotonic()
        return [each for each in self._readers.values() if each.is_active(now)]

    @property
    def are_waiting(self) -> bool:
        """Whether somebody waits for bytes right now."""
        return any(reader.waiting for reader in self._readers.values())

    def kept(self, most: int) -> list[tuple[int, int]]:
        """Return the spans that readers were promised, or should soon get."""
        now = time.monotonic()
        return [reader.kept(most, now) for reader in self._readers.values()]

    def needed(self, most: int) -> Iterator[tuple[int, int]]:
        """Yield the spans that somebody waits for, then those that readers need next."""
        for position in self._waiters.values():
            yield position, position + 1
        for reader in self.active:
            yield reader.window(most)

    @contextmanager
    def waiter(self, start: int) -> Iterator[asyncio.Future[None]]:
        """Return a future that is done when the byte at `start` arrives, or when all who wait are woken."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[future] = start
        try:
            yield future
        finally:
            del self._waiters[future]

    async def batch(self, content: Content, start: int, stop: int) -> None:
        """Wait a moment for the bytes after those that have arrived."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BATCH_TIMEOUT):
                while start < (end := content.spans.run_from(start)) < stop:
                    with self.waiter(end) as arrived:
                        await arrived
                    if not content.has(end):
                        # All who wait were woken for another reason.
                        return

    def arrived(self, start: int, stop: int) -> None:
        """Wake those who wait for one of these bytes."""
        for future, position in self._waiters.items():
            if start <= position < stop and not future.done():
                future.set_result(None)

    def wake_all(self) -> None:
        """Wake all who wait, whatever they wait for."""
        for future in self._waiters:
            if not future.done():
                future.set_result(None)


def play_rate(size: int, duration: float | None, bit_rate: int | None) -> float:
    """Return the bytes per second of play of an item, within reasonable bounds."""
    if bit_rate:
        rate = bit_rate / 8
    elif duration:
        rate = size / duration
    else:
        rate = DEFAULT_RATE
    return min(max(rate, _MIN_RATE), _MAX_RATE)
