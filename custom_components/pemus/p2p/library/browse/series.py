"""Lists that are read in parts: how long one is, a part of it, and the names at some places in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ...models import Node


class Series(ABC):
    """The children of a node, in the order to show. It is read within one transaction, in which nothing changes."""

    @abstractmethod
    def count(self) -> int:
        """Return how many there are."""

    @abstractmethod
    def part(self, offset: int, limit: int) -> list[Node]:
        """Return those from `offset` on, at most `limit`."""

    @abstractmethod
    def titles(self, places: Sequence[int]) -> list[str | None]:
        """Return the titles at some places below `count`, which ascend."""


class Listed[T](Series):
    """A list that is held in memory, as whatever its nodes are made of."""

    def __init__(
        self, entries: Sequence[T], nodes: Callable[[Sequence[T]], list[Node]]
    ) -> None:
        """Make nodes of those entries only that are asked for."""
        self._entries = entries
        self._nodes = nodes

    def count(self) -> int:
        """Return how many there are."""
        return len(self._entries)

    def part(self, offset: int, limit: int) -> list[Node]:
        """Return those from `offset` on, at most `limit`."""
        return self._nodes(self._entries[offset : offset + limit])

    def titles(self, places: Sequence[int]) -> list[str | None]:
        """Return the titles at some places."""
        return [
            node.title for node in self._nodes([self._entries[at] for at in places])
        ]


def fixed(nodes: Sequence[Node]) -> Series:
    """Return a list of nodes that are already made."""
    return Listed(nodes, list)


class Joined(Series):
    """Two lists, one after the other."""

    def __init__(self, first: Series, second: Series) -> None:
        """Put `second` behind `first`."""
        self._first = first
        self._second = second

    def count(self) -> int:
        """Return how many there are."""
        return self._first.count() + self._second.count()

    def part(self, offset: int, limit: int) -> list[Node]:
        """Return those from `offset` on, at most `limit`."""
        border = self._first.count()
        found = self._first.part(offset, limit) if offset < border else []
        if len(found) < limit:
            found += self._second.part(max(0, offset - border), limit - len(found))
        return found

    def titles(self, places: Sequence[int]) -> list[str | None]:
        """Return the titles at some places."""
        border = self._first.count()
        return [
            *self._first.titles([at for at in places if at < border]),
            *self._second.titles([at - border for at in places if at >= border]),
        ]
