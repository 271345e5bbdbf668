"""Lists of items, however long: read along an index of the database, from the nearest place that was seen before.

SQLite can only count and skip by stepping from entry to entry, which is quick (about 50 ns each) but not free. So
places that were reached are remembered with their sort keys, and steps go on from there.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
import sqlite3
from typing import Any

from ...models import PAGE_SIZE, Node
from ..items import Record, Shares, nodes, records
from .series import Series

STRIDE = PAGE_SIZE * PAGE_SIZE
"""Entries between two places that are always remembered on the way: where the larger pages begin."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which items, and in which order."""

    index: str
    """The index of the database that has them in order."""
    where: str
    parameters: tuple[Any, ...]
    order: tuple[str, ...]
    """The columns of the index that follow those fixed by `where`; the row number breaks ties."""


type _Key = tuple[Any, ...]
"""The values of the columns in `Source.order`, then the row number."""


class ItemList(Series):
    """Items in the order of an index."""

    def __init__(
        self,
        db: sqlite3.Connection,
        source: Source,
        shares: Shares,
        title: Callable[[Record], str],
    ) -> None:
        """Prepare a list; nothing is read yet."""
        self._db = db
        self._source = source
        self._shares = shares
        self._title = title
        self._count: int | None = None
        self._places: list[int] = []
        """What was reached so far, in order."""
        self._keys: dict[int, _Key] = {}

    def count(self) -> int:
        """Return how many there are."""
        if self._count is None:
            if not self._places:
                place = 0
                while self._key_at(place) is not None:
                    place += STRIDE
            self._count = 0
            if self._places:
                last = self._places[-1]
                self._count = last + 1 + self._count_after(self._keys[last])
        return self._count

    def part(self, offset: int, limit: int) -> list[Node]:
        """Return those from `offset` on, at most `limit`."""
        first = self._key_at(offset)
        if first is None or limit < 1:
            return []
        keys = [first, *self._following(first, 0, limit - 1)]
        return nodes(self._db, [key[-1] for key in keys], self._shares, self._title)

    def titles(self, places: Sequence[int]) -> list[str | None]:
        """Return the titles at some places."""
        rows = [key[-1] if (key := self._key_at(at)) else None for at in places]
        found = records(self._db, [row for row in rows if row is not None])
        return [
            None if row is None or row not in found else self._title(found[row])
            for row in rows
        ]

    def _key_at(self, place: int) -> _Key | None:
        """Return what stands at a place, None behind the end."""
        if place not in self._keys:
            for offset, key in enumerate(self._reach(place)):
                if place + offset not in self._keys:
                    insort(self._places, place + offset)
                    self._keys[place + offset] = key
        return self._keys.get(place)

    def _reach(self, place: int) -> list[_Key]:
        """Return what stands at a place that was not remembered; mostly with the next one, where another page begins.

        Nothing is returned behind the end, nor where the way to it has made the place known.
        """
        if self._count is not None and place >= self._count - 1:
            return self._before(None) if place < self._count else []
        if place + 1 in self._keys:
            return self._before(self._keys[place + 1])
        if place == 0:
            return self._select("", (), 0, 2)
        if self._key_at(0) is None:
            return []
        near = self._places[bisect_right(self._places, place) - 1]
        while place - near > STRIDE:
            near = (near // STRIDE + 1) * STRIDE
            if self._key_at(near) is None:
                return []
        if place in self._keys:
            return []
        return self._following(self._keys[near], place - near - 1, 2)

    def _following(self, key: _Key, skip: int, limit: int) -> list[_Key]:
        """Return what follows a key, after so many in between."""
        found: list[_Key] = []
        *near, far = self._beyond(key, ">")
        for condition, parameters in near:
            if skip:
                passed = self._count_where(condition, parameters, skip + 1)
                if passed <= skip:
                    skip -= passed
                    continue
            found += self._select(condition, parameters, skip, limit - len(found))
            skip = 0
            if len(found) == limit:
                return found
        return found + self._select(*far, skip, limit - len(found))

    def _before(self, key: _Key | None) -> list[_Key]:
        """Return what stands before a key, or at the end."""
        for condition, parameters in self._beyond(key, "<") if key else [("", ())]:
            found = self._select(condition, parameters, 0, 1, backwards=True)
            if found:
                return found
        return []

    def _count_after(self, key: _Key) -> int:
        return sum(self._count_where(*each) for each in self._beyond(key, ">"))

    def _beyond(self, key: _Key, operator: str) -> Iterator[tuple[str, _Key]]:
        """Yield the conditions for what lies beyond a key, one for each column, from the near to the far.

        Compared as a whole, the columns would be simpler to write, but then SQLite does not go straight to a row among
        thousands with the same sort key, and nothing is ever beyond a NULL.
        """
        columns = (*self._source.order, "row")
        for at in reversed(range(len(columns))):
            same = "".join(f" AND {column} IS ?" for column in columns[:at])
            column, value = columns[at], key[at]
            if value is not None:
                yield f"{same} AND {column} {operator} ?", key[: at + 1]
                if operator == "<":
                    yield f"{same} AND {column} IS NULL", key[:at]
            elif operator == ">":
                yield f"{same} AND {column} IS NOT NULL", key[:at]

    def _count_where(
        self, condition: str, parameters: _Key, limit: int | None = None
    ) -> int:
        """Return how many there are under a condition; no more than `limit`."""
        source = self._source
        these = f"FROM items INDEXED BY {source.index} WHERE {source.where}{condition}"
        count: int
        if limit is None:
            (count,) = self._db.execute(
                f"SELECT count(*) {these}", (*source.parameters, *parameters)
            ).fetchone()
        else:
            (count,) = self._db.execute(
                f"SELECT count(*) FROM (SELECT 1 {these} LIMIT ?)",
                (*source.parameters, *parameters, limit),
            ).fetchone()
        return count

    def _select(
        self,
        condition: str,
        parameters: _Key,
        skip: int,
        limit: int,
        *,
        backwards: bool = False,
    ) -> list[_Key]:
        source = self._source
        columns = [*source.order, "row"]
        order = ", ".join(
            f"{column} DESC" if backwards else column for column in columns
        )
        return self._db.execute(
            f"SELECT {', '.join(columns)} FROM items INDEXED BY {source.index} WHERE {source.where}{condition}"
            f" ORDER BY {order} LIMIT ? OFFSET ?",
            (*source.parameters, *parameters, limit, skip),
        ).fetchall()
