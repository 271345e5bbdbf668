"""How long to wait: before something is tried once more, and so that not too much is done at a time."""

from __future__ import annotations

from collections.abc import Callable
import random
import time


class Backoff:
    """Pauses before attempts at something that failed: hardly one before the first, then each twice as long as the last.

    All of them are random within limits: what failed for many must not be tried by all of them at the same moment.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        """Begin with pauses of about `shortest` seconds, and get to `longest`."""
        self._shortest = shortest
        self._longest = longest
        self._failures = 0

    def failed(self) -> float:
        """Return for how many seconds to wait before the next attempt."""
        failures, self._failures = self._failures, self._failures + 1
        if not failures:
            return random.uniform(0, self._shortest)
        # More doublings than these make numbers that are of no use.
        pause = min(self._shortest * 2 ** min(failures, 32), self._longest)
        return random.uniform(max(self._shortest, pause / 2), pause)

    def succeeded(self) -> None:
        """Begin anew: what is tried works."""
        self._failures = 0


class Pace:
    """An amount of work per second in the long run, and more of it at once after a quiet time."""

    def __init__(
        self,
        per_second: float,
        at_once: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin after a quiet time. The clock tells seconds and never goes back."""
        self._per_second = per_second
        self._at_once = at_once
        self._clock = clock
        self._left = at_once
        self._then = clock()

    def spend(self, work: float) -> float:
        """Take note that so much was done, and return for how many seconds nothing more should be."""
        now = self._clock()
        gained = (now - self._then) * self._per_second
        self._left = min(self._at_once, self._left + gained) - work
        self._then = now
        return max(0.0, -self._left / self._per_second)


class Rarely:
    """Something that is done only so often, whatever others do to bring it about."""

    def __init__(
        self, pause: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Do it once in `pause` seconds. The clock tells seconds and never goes back."""
        self._pause = pause
        self._clock = clock
        self._next = float("-inf")

    def now(self) -> bool:
        """Tell whether it is to be done now, and take note that it is."""
        if (now := self._clock()) < self._next:
            return False
        self._next = now + self._pause
        return True
