"""What a request may see: the database at one moment, and the shares that it is about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
import sqlite3

from ...core.errors import NotFound
from ...models import Kind, ShareConfig
from ..items import Shares
from ..migrations import NUMBERS

ALL = "all"
"""The scope of all shares together."""


@dataclass(frozen=True, slots=True)
class View:
    """What a request sees."""

    db: sqlite3.Connection
    configured: tuple[ShareConfig, ...]
    shares: Shares

    @classmethod
    def of(
        cls,
        db: sqlite3.Connection,
        configured: Sequence[ShareConfig],
        available: Collection[str],
    ) -> View:
        """Return what can be seen of these shares."""
        return cls(db, tuple(configured), Shares.of(db, configured, available))

    def around(self, segments: Sequence[str]) -> tuple[Scope, tuple[Kind, ...]]:
        """Return the scope in which a place lies, and the kinds of media that can lie there. Raises NotFound."""
        head, _, kind = segments[0].partition("/") if segments else (ALL, "", "")
        kind = kind or next(iter(segments[1:]), "")
        if head == ALL:
            scope = Scope(self, ALL, self.configured)
        else:
            only = tuple(share for share in self.configured if share.id == head)
            scope = Scope(self, head, only)
        kinds = tuple(each for each in scope.kinds if kind in ("", each))
        # The root is always there, if empty.
        if segments and not (scope.configured and kinds):
            raise NotFound("there is no such place in the library")
        return scope, kinds


@dataclass(frozen=True, slots=True)
class Scope:
    """One share, or all of them."""

    view: View
    name: str
    configured: tuple[ShareConfig, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that some share of the scope has."""
        return tuple(
            kind
            for kind in Kind
            if any(kind in share.kinds for share in self.configured)
        )

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the scope's shares in the index. A share that was just added may have none yet."""
        ids = {share.id for share in self.configured}
        known = self.view.shares.ids
        return tuple(number for number, name in known.items() if name in ids)

    def of(self, kind: Kind) -> KindScope:
        """Return the scope narrowed to the shares that have a kind."""
        narrowed = Scope(
            self.view,
            self.name,
            tuple(share for share in self.configured if kind in share.kinds),
        )
        return KindScope(
            self.view,
            self.name,
            kind,
            narrowed.numbers,
            is_available=any(
                share.id in self.view.shares.available for share in narrowed.configured
            ),
        )


@dataclass(frozen=True, slots=True)
class KindScope:
    """One kind of media in a scope."""

    view: View
    scope: str
    kind: Kind
    shares: tuple[int, ...]
    """Numbers in the index of the shares that have this kind. A share that was just added may have none yet."""
    is_available: bool
    """Whether any of these shares can be reached now."""

    @property
    def id(self) -> str:
        """The id of the kind's node."""
        return f"{self.scope}/{self.kind}"

    @property
    def number(self) -> int:
        """The kind's number in the index."""
        return NUMBERS[self.kind]

    @property
    def listed(self) -> str:
        """The shares as SQL has them after IN, where nothing at all would forbid the use of an index. None has the number 0."""
        return f"({','.join(map(str, self.shares or (0,)))})"

    @property
    def within(self) -> str:
        """A condition on `share`. The plus keeps SQLite from looking for shares instead of reading an index in order."""
        return f"+share IN {self.listed}"

    @property
    def count(self) -> int:
        """How many items of the kind there are."""
        count: int
        (count,) = self.view.db.execute(
            f"""
            SELECT coalesce(sum(count), 0) FROM folders JOIN folder_kinds ON folder = number AND kind = ?
            WHERE share IN {self.listed} AND path = ''
            """,
            (self.number,),
        ).fetchone()
        return count

    @property
    def reachable(self) -> str:
        """An expression that is 1 where the share in `share` can be reached."""
        numbers = filter(self.view.shares.is_available, self.shares)
        return f"(share IN ({','.join(map(str, numbers))}))"
