"""Decides what to request from the sources next, when somebody reads, seeks or keeps an item. Nothing here has state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..core.spans import Spans
from ..torrent.priority import Priority
from .content import Content
from .sources.source import Wanted

COPY_WINDOW: Final = 64 * 1024**2
"""Bytes that are requested at a time for an offline copy; an eighth of it while somebody reads the item."""

type _Wish = tuple[float, int, int, Priority]
"""Seconds until the bytes are needed, start, stop, priority."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one reader needs."""

    start: int
    stop: int
    """The bytes from `start` to here should be there."""
    near: int
    """The bytes up to here are needed soon."""
    rate: float
    """Bytes per second of play."""
    is_waiting: bool
    """Whether it waits for the byte at `start`."""

    def priority(self, start: int, stop: int) -> Priority:
        """Return how soon these bytes between `start` and `stop` are needed."""
        if self.is_waiting and start <= self.start < stop:
            return Priority.NOW
        return Priority.SOON if start < self.near else Priority.LATER


@dataclass(frozen=True, slots=True)
class Plan:
    """What to request, the soonest needed first."""

    wanted: tuple[Wanted, ...] = ()
    size: int = 0
    """Bytes that will arrive."""
    is_cut: bool = False
    """Whether there is not enough space for all that is needed."""


def make_plan(
    content: Content, needs: Sequence[Need], room: int, *, with_copy: bool
) -> Plan:
    """Return what to request, so that at most `room` bytes arrive.

    What readers wait for comes first, then everything else in the order in which it is played. With `with_copy`, the next
    part of an offline copy comes last.
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
            # One reader needs the order of the file, which LATER keeps.
            priority = Priority.LATER
        yield (start - need.start) / need.rate, start, stop, priority


def _wishes_of_copy(content: Content, most: int) -> Iterator[_Wish]:
    """Yield the next missing parts of the item, piece by piece, about `most` bytes."""
    for start, stop in _pieces(content, 0, content.size):
        if most <= 0:
            return
        yield 0.0, start, stop, Priority.LATER
        most -= stop - start


def _pieces(content: Content, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the missing parts of a span, divided at the ends of pieces."""
    length = content.piece_length
    for low, high in content.missing(start, stop):
        at = low
        while at < high:
            end = min(high, (at // length + 1) * length)
            yield at, end
            at = end
