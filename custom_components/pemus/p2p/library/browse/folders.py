"""Folders: of each only what holds media of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from ...core.errors import NotFound
from ...models import Node, NodeKind
from ..items import covers
from .itemlist import ItemList, Source
from .scope import KindScope
from .series import Joined, Listed, Series
from .tree_node import TreeNode

_DIGITS = 15
"""Of the largest folder number that the index is asked for."""


class Folders(TreeNode):
    """Where the folders of a kind begin: the roots of several shares, or at once what lies in the only one."""

    def __init__(self, scope: KindScope) -> None:
        """Show the folders of a scope."""
        self._scope = scope

    @cached_property
    def _roots(self) -> list[int]:
        view, scope = self._scope.view, self._scope
        order = {share.id: at for at, share in enumerate(view.configured)}
        found = dict(
            view.db.execute(
                "SELECT share, number FROM folders WHERE path = ''"
                f" AND share IN {scope.listed}"
            ).fetchall()
        )
        return [
            found[share]
            for share in sorted(found, key=lambda each: order[view.shares.ids[each]])
        ]

    @property
    def shows_roots(self) -> bool:
        """Whether the roots of shares are listed, and not what is in the only one."""
        return len(self._scope.shares) > 1

    def node(self) -> Node:
        """Return the node itself."""
        return Node(
            id=f"{self._scope.id}/folders",
            kind=NodeKind.FOLDERS,
            media=self._scope.kind,
            available=self._scope.is_available,
        )

    def contents(self) -> Series:
        """Return the roots of the shares, or what is in the only one."""
        if self.shows_roots or not self._roots:
            return _listed(self._scope, self._roots)
        return Folder(self._scope, self, self._roots[0]).contents()

    def below(self, segment: str) -> Folder:
        """Return a folder, however deep it lies."""
        if not segment.isdecimal() or len(segment) > _DIGITS:
            raise NotFound("there is no such folder")
        return Folder(self._scope, self, int(segment))


class Folder(TreeNode):
    """A folder."""

    def __init__(self, scope: KindScope, top: Folders, number: int) -> None:
        """Show a folder. Raises NotFound if it is none of the scope."""
        self._scope = scope
        self._top = top
        self._number = number
        # From the root down to this folder.
        chain = scope.view.db.execute(
            """
            WITH RECURSIVE up (number, parent, share, gone, depth) AS (
                SELECT number, parent, share, gone, 0 FROM folders WHERE number = ?
                UNION ALL
                SELECT folders.number, folders.parent, folders.share, folders.gone, depth + 1
                FROM folders JOIN up ON folders.number = up.parent
            )
            SELECT number, share, gone FROM up ORDER BY depth DESC
            """,
            (number,),
        ).fetchall()
        if not chain or chain[-1][2] or chain[-1][1] not in scope.shares:
            raise NotFound("there is no such folder")
        self._path = [folder for folder, *_ in chain]
        """From the share's root down to this folder."""
        if not top.shows_roots:
            # The only root is not a place of its own: what is in it lies in FOLDERS.
            self._path = self._path[1:]

    @property
    def path(self) -> list[Node]:
        """The nodes on the way from FOLDERS to this folder, with the folder itself."""
        return _nodes(self._scope, self._path)

    def node(self) -> Node:
        """Return the node itself."""
        (node,) = _nodes(self._scope, [self._number])
        return node

    def between(self) -> Sequence[Node]:
        """Return the folders that this one lies in."""
        return self.path[:-1]

    def contents(self) -> Series:
        """Return the folders in this one that hold media of the kind, then its files."""
        scope = self._scope
        numbers = [
            number
            for (number,) in scope.view.db.execute(
                """
                SELECT number FROM folders WHERE parent = ? AND NOT gone
                    AND EXISTS (SELECT 1 FROM folder_kinds WHERE folder = number AND kind = ?)
                ORDER BY sort, number
                """,
                (self._number, scope.number),
            )
        ]
        files = Source(
            index="items_by_folder",
            where="folder = ? AND shown = ?",
            parameters=(self._number, scope.number),
            order=("name_sort",),
        )
        return Joined(
            _listed(scope, numbers),
            # In a folder, files are called what they are called there, and that is how they are sorted.
            ItemList(scope.view.db, files, scope.view.shares, lambda file: file.stem),
        )


def _listed(scope: KindScope, numbers: list[int]) -> Series:
    return Listed(numbers, lambda part: _nodes(scope, part))


def _nodes(scope: KindScope, numbers: Sequence[int]) -> list[Node]:
    view = scope.view
    names = {share.id: share.name for share in view.configured}
    found = {
        number: values
        for number, *values in view.db.execute(
            f"""
            SELECT number, share, folders.name, parent IS NULL, count, cover
            FROM folders LEFT JOIN folder_kinds ON folder = number AND kind = ?
            WHERE number IN ({",".join(map(str, numbers))})
            """,
            (scope.number,),
        )
    }
    pictures = covers(view.db, [cover for *_, cover in found.values()])
    nodes = []
    for each in numbers:
        share, name, is_root, count, cover = found[each]
        nodes.append(
            Node(
                id=f"{scope.id}/folders/{each}",
                kind=NodeKind.FOLDER,
                title=names[view.shares.ids[share]] if is_root else name,
                media=scope.kind,
                thumbnail=pictures.get(cover),
                count=count or 0,
                available=view.shares.is_available(share),
            )
        )
    return nodes
