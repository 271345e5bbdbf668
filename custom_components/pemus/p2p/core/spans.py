"""Sets of bytes of a file, kept as the spans that they form.

A span is `start` and `stop`, and holds the bytes from `start` up to but not including `stop`. Spans of a set never touch
each other, so a file of which one half is there in two pieces takes two numbers per piece, whatever its size.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
import json


class Spans:
    """A set of bytes."""

    __slots__ = ("_starts", "_stops", "total")

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        """Make a set of the bytes in `spans`, which may overlap."""
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.total = 0
        """How many bytes there are."""
        for start, stop in spans:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over the spans from the first to the last."""
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        """Tell whether two sets hold the same bytes."""
        return isinstance(other, Spans) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the spans for a person to read."""
        return f"Spans({list(self)})"

    def add(self, start: int, stop: int) -> int:
        """Add a span, and return how many of its bytes were not there before."""
        if start >= stop:
            return 0
        # All that it touches, from the first that ends at its start to the last that begins at its end, become one.
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        before = 0
        if first < last:
            before = sum(self._stops[first:last]) - sum(self._starts[first:last])
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        added = stop - start - before
        self.total += added
        return added

    def discard(self, start: int, stop: int) -> int:
        """Take a span out, and return how many of its bytes were there."""
        if start >= stop:
            return 0
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if first >= last:
            return 0
        before = sum(self._stops[first:last]) - sum(self._starts[first:last])
        left, right = self._starts[first], self._stops[last - 1]
        rest = [
            (low, high) for low, high in ((left, start), (stop, right)) if low < high
        ]
        self._starts[first:last] = [low for low, _ in rest]
        self._stops[first:last] = [high for _, high in rest]
        removed = before - sum(high - low for low, high in rest)
        self.total -= removed
        return removed

    def run_from(self, start: int) -> int:
        """Return up to where all bytes from `start` on are there; `start` itself if the first one is missing."""
        at = bisect_right(self._starts, start) - 1
        return max(start, self._stops[at]) if at >= 0 else start

    def covers(self, start: int, stop: int) -> bool:
        """Tell whether all bytes of a span are there."""
        return start >= stop or self.run_from(start) >= stop

    def meets(self, start: int, stop: int) -> bool:
        """Tell whether any byte of a span is there."""
        at = bisect_right(self._stops, start)
        return start < stop and at < len(self._starts) and self._starts[at] < stop

    def missing(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Iterate over the parts of a span that are not there, from the first to the last."""
        at = bisect_right(self._stops, start)
        while start < stop:
            if at == len(self._starts) or self._starts[at] >= stop:
                yield start, stop
                return
            if start < self._starts[at]:
                yield start, self._starts[at]
            start = self._stops[at]
            at += 1

    def within(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Iterate over the parts of a span that are there, from the first to the last."""
        at = bisect_right(self._stops, start)
        while start < stop and at < len(self._starts) and self._starts[at] < stop:
            yield max(start, self._starts[at]), min(stop, self._stops[at])
            at += 1

    def whole(self, length: int, size: int) -> list[bool]:
        """Tell of each piece of `length` bytes of a file of `size` bytes, whose last piece may be shorter, if it is there."""
        there = [False] * -(-size // length)
        for start, stop in self:
            last = len(there) if stop >= size else stop // length
            for index in range(-(-start // length), last):
                there[index] = True
        return there

    def encode(self) -> str:
        """Return the set as a text that `decode` reads."""
        return json.dumps(list(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str, size: int) -> Spans:
        """Return the set in a text, of a file of `size` bytes. Raises ValueError."""
        spans = cls()
        match json.loads(text):
            case [*plain]:
                pass
            case other:
                raise ValueError(f"{other!r} is no list of spans")
        for each in plain:
            match each:
                case [int(start), int(stop)] if 0 <= start < stop <= size:
                    spans.add(start, stop)
                case _:
                    raise ValueError(f"{each} is no span of {size} bytes")
        return spans
