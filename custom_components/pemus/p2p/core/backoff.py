"""How long to wait before the next attempt at what failed."""

from __future__ import annotations

import random


class Backoff:
    """Pauses that double with each failure, with jitter: peers that failed together do not retry together."""

    def __init__(self, shortest: float, longest: float) -> None:
        """Begin with a pause of at most `shortest` seconds; none is longer than `longest`."""
        self._shortest = shortest
        self._longest = longest
        self._failures = 0

    def failed(self) -> float:
        """Return the seconds to wait before the next attempt."""
        failures, self._failures = self._failures, self._failures + 1
        if not failures:
            return random.uniform(0, self._shortest)
        # The exponent is bounded, so that the power stays a number of reasonable size.
        pause = min(self._shortest * 2 ** min(failures, 32), self._longest)
        return random.uniform(max(self._shortest, pause / 2), pause)

    def succeeded(self) -> None:
        """Begin anew with the shortest pause."""
        self._failures = 0
