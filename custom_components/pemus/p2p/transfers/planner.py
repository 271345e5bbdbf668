"""Decides what to ask of the sources next, when somebody reads, seeks or keeps an item. Nothing here has a state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..core.spans import Spans
from ..torrent.priority import Priority
from .content import Content
from .sources.source import Wanted

COPY_WINDOW: Final = 64 * 1024**2
"""Bytes that are asked for at a time for an offline copy; an eighth while somebody reads the item."""

type _Wish = tuple[float, int, int, Priority]
"""Seconds until it is needed, start, stop, and how soon that is."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one reader needs."""

    start: int
    stop: int
    """The bytes that should be there are from `start` to here."""
    near: int
    """Up to here they are needed soon."""
    rate: float
    """Bytes per second of play."""
    is_waiting: bool
    """Whether the reader waits for the byte at `start`."""

    def priority(self, start: int, stop: int) -> Priority:
        """Return how soon the reader needs these bytes, which are within its window."""
        if self.is_waiting and start <= self.start < stop:
            return Priority.NOW
        return Priority.SOON if start < self.near else Priority.LATER


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for, the soonest needed first."""

    wanted: tuple[Wanted, ...] = ()
    size: int = 0
    """Bytes that will arrive."""
    is_cut: bool = False
    """Whether there is no room for all that is needed."""


def make_plan(
    content: Content, needs: Sequence[Need], room: int, *, with_copy: bool
) -> Plan:
    """Return what to ask for, so that no more than `room` bytes arrive.

    What a reader waits for comes first, then what is needed sooner in seconds of play. `with_copy` asks for the next part
    of an offline copy as well.
    """
    wishes = sorted(
        wish for need in needs for wish in _wishes(content, need, len(needs) == 1)
    )
    if with_copy:
        wishes += _wishes_of_copy(content, COPY_WINDOW // 8 if wishes else COPY_WINDOW)
    wanted: list[Wanted] = []
    asked, taken = Spans(), Spans()
    for _, start, stop, priority in wishes:
        arriving = content.arriving(start, stop, taken)
        if taken.total + sum(high - low for low, high in arriving) > room:
            return Plan(tuple(wanted), taken.total, is_cut=True)
        for low, high in arriving:
            taken.add(low, high)
        if asked.add(start, stop) or priority is Priority.NOW:
            wanted.append(Wanted(start, stop, priority))
    return Plan(tuple(wanted), taken.total)


def _wishes(content: Content, need: Need, is_only: bool) -> Iterator[_Wish]:
    """Yield the missing parts of a reader's window, piece by piece."""
    for start, stop in _pieces(content, need.start, need.stop):
        priority = need.priority(start, stop)
        if priority is Priority.NOW:
            yield -1.0, start, stop, priority
            continue
        if is_only:
            # The order of the file is just right for one.
            priority = Priority.LATER
        yield (start - need.start) / need.rate, start, stop, priority


def _wishes_of_copy(content: Content, most: int) -> Iterator[_Wish]:
    """Yield the next missing parts of the item, about `most` bytes."""
    for start, stop in _pieces(content, 0, content.size):
        if most <= 0:
            return
        yield 0.0, start, stop, Priority.LATER
        most -= stop - start


def _pieces(content: Content, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield what is missing of a span, divided where pieces end."""
    length = content.piece_length
    for low, high in content.missing(start, stop):
        at = low
        while at < high:
            end = min(high, (at // length + 1) * length)
            yield at, end
            at = end
