"""Photos by the years and months in which they were taken."""

from __future__ import annotations

import re

from ...models import Node, NodeKind
from ..items import covers
from ..photo_dates import UNKNOWN_MONTH
from .itemlist import ItemList, Source
from .scope import KindScope
from .series import Series, fixed
from .tree_node import TreeNode

UNKNOWN = "unknown"
"""The segment for the photos of which nobody knows when they were taken."""

type _Month = tuple[int, int, int | None, bool]
"""Year and month as one number, how many photos, one of them, whether any can be reached."""


class Years(TreeNode):
    """All years."""

    def __init__(self, scope: KindScope) -> None:
        """Show the years of a scope."""
        self._scope = scope

    def node(self) -> Node:
        """Return the node itself."""
        return Node(
            id=f"{self._scope.id}/years",
            kind=NodeKind.YEARS,
            media=self._scope.kind,
            available=self._scope.is_available,
        )

    def contents(self) -> Series:
        """Return the years, the last first, and the unknown one behind them."""
        years: dict[int, list[_Month]] = {}
        for month in _months(self._scope, 0, 9999):
            years.setdefault(month[0] // 100, []).append(month)
        return fixed(
            [
                Year(self._scope, year, years[year]).node()
                for year in sorted(years)[::-1]
            ]
        )

    def below(self, segment: str) -> TreeNode:
        """Return a year."""
        if segment == UNKNOWN:
            year = UNKNOWN_MONTH // 100
        elif re.fullmatch("(?!0000)[0-9]{4}", segment):
            year = int(segment)
        else:
            return super().below(segment)
        months = _months(self._scope, year, year)
        return Year(self._scope, year, months) if months else super().below(segment)


class Year(TreeNode):
    """A year, or the photos of no known time."""

    def __init__(self, scope: KindScope, year: int, months: list[_Month]) -> None:
        """Show a year of which the months with photos are known."""
        self._scope = scope
        self._year = year
        self._months = months

    @property
    def _id(self) -> str:
        segment = f"{self._year:04d}" if self._year else UNKNOWN
        return f"{self._scope.id}/years/{segment}"

    def node(self) -> Node:
        """Return the node itself."""
        cover = self._months[-1][2]
        return Node(
            id=self._id,
            kind=NodeKind.YEAR,
            title=str(self._year) if self._year else None,
            media=self._scope.kind,
            thumbnail=covers(self._scope.view.db, [cover]).get(cover),
            count=sum(count for _, count, *_ in self._months),
            available=any(available for *_, available in self._months),
        )

    def contents(self) -> Series:
        """Return the months, the first first; without a year, the photos themselves."""
        if not self._year:
            return _photos(self._scope, UNKNOWN_MONTH)
        return fixed(
            [Month(self._scope, self._id, each).node() for each in self._months]
        )

    def below(self, segment: str) -> TreeNode:
        """Return a month."""
        for each in self._months:
            if self._year and segment == f"{each[0] % 100:02d}":
                return Month(self._scope, self._id, each)
        return super().below(segment)


class Month(TreeNode):
    """A month of a year."""

    def __init__(self, scope: KindScope, year: str, month: _Month) -> None:
        """Show a month."""
        self._scope = scope
        self._year = year
        self._month = month

    def node(self) -> Node:
        """Return the node itself."""
        number, count, cover, available = self._month
        return Node(
            id=f"{self._year}/{number % 100:02d}",
            kind=NodeKind.MONTH,
            title=str(number % 100),
            media=self._scope.kind,
            thumbnail=covers(self._scope.view.db, [cover]).get(cover),
            count=count,
            available=available,
        )

    def contents(self) -> Series:
        """Return the photos in the order in which they were taken."""
        return _photos(self._scope, self._month[0])


def _months(scope: KindScope, first: int, last: int) -> list[_Month]:
    """Return the months with photos from one year to another."""
    return [
        (month, count, cover, bool(available))
        for month, count, cover, available in scope.view.db.execute(
            f"""
            SELECT month, sum(count), max(cover), max({scope.reachable}) FROM months
            WHERE {scope.within} AND month BETWEEN ? AND ? GROUP BY month ORDER BY month
            """,
            (first * 100, last * 100 + 99),
        )
    ]


def _photos(scope: KindScope, month: int) -> Series:
    photos = Source(
        index="items_months",
        where=f"shown = 2 AND month = ? AND {scope.within}",
        parameters=(month,),
        order=("moment", "share"),
    )
    return ItemList(scope.view.db, photos, scope.view.shares, lambda photo: photo.title)
