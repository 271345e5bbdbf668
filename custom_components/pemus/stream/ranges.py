"""Range requests (RFC 9110 section 14), as pure functions.

Where the RFC leaves a choice:

- A header that is malformed, or has a unit other than bytes, is ignored: the response is the whole file (14.2).
- A header with more than MAX_SPECS ranges, or more than MAX_PARTS after merging, is ignored as well. 14.2 allows this,
  and 17.15 recommends a limit.
- Overlapping and adjacent ranges are merged. The parts are sent in the requested order (15.3.7.2).
- An empty file satisfies no range, not even a suffix range, because no Content-Range could describe the part.
"""

from __future__ import annotations

from dataclasses import dataclass
import re

MAX_SPECS = 100
"""Maximum number of ranges in a header."""
MAX_PARTS = 16
"""Maximum number of parts in a response."""

_UNIT = re.compile(r"[ \t]*bytes=", re.IGNORECASE)
_SPEC = re.compile(r"(?P<first>[0-9]*)-(?P<last>[0-9]*)")
_BLANK = " \t"
_MANY_DIGITS = 18
"""Numbers with more digits are larger than any file, and are not converted."""
_BEYOND = 10**_MANY_DIGITS


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The bytes from `start` up to, but not including, `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Return the value of Content-Range for this part of a file of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


class Unsatisfiable(Exception):
    """All ranges are valid, but none overlaps the file: the response is 416."""


def select(header: str | None, size: int) -> tuple[Span, ...] | None:
    """Return the requested parts of a file of `size` bytes, in the order to send them.

    None means that there is no valid Range header, and the whole file is sent. Raises Unsatisfiable.
    """
    if header is None or (specs := _parse(header)) is None:
        return None
    spans = [span for first, last in specs if (span := _resolve(first, last, size))]
    if not spans:
        raise Unsatisfiable
    parts = _merge(spans)
    return parts if len(parts) <= MAX_PARTS else None


def _parse(header: str) -> list[tuple[int | None, int | None]] | None:
    """Return each range as (first, last), where one can be None. Return None if the header is ignored."""
    if (unit := _UNIT.match(header)) is None or header.count(",") >= MAX_SPECS:
        return None
    specs: list[tuple[int | None, int | None]] = []
    for element in header[unit.end() :].split(","):
        if not (element := element.strip(_BLANK)):
            continue  # Lists can contain empty elements (5.6.1.2).
        if (match := _SPEC.fullmatch(element)) is None:
            return None
        first, last = _number(match["first"]), _number(match["last"])
        if first is None and last is None:
            return None
        if first is not None and last is not None and last < first:
            return None
        specs.append((first, last))
    return specs or None


def _number(digits: str) -> int | None:
    if not digits:
        return None
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MANY_DIGITS else _BEYOND


def _resolve(first: int | None, last: int | None, size: int) -> Span | None:
    """Return the bytes of a range, or None if it is outside the file."""
    if first is None:
        assert last is not None
        span = Span(max(0, size - last), size)
    else:
        span = Span(first, size if last is None else min(last + 1, size))
    return span if span.start < span.stop else None


def _merge(spans: list[Span]) -> tuple[Span, ...]:
    """Merge overlapping and adjacent spans. Each result takes the position of its first member."""
    merged: list[tuple[int, Span]] = []
    for position, span in sorted(enumerate(spans), key=lambda entry: entry[1]):
        if merged and span.start <= merged[-1][1].stop:
            earliest, before = merged.pop()
            span = Span(before.start, max(before.stop, span.stop))
            position = min(earliest, position)
        merged.append((position, span))
    return tuple(span for _, span in sorted(merged))
