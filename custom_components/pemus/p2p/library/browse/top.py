"""The top of the tree: the root, the shares, and the kinds of media in each."""

from __future__ import annotations

from collections.abc import Callable

from ...models import Kind, Node, NodeKind, ShareConfig
from ..items import ITEM
from .folders import Folders
from .music import Albums, Artists, Songs
from .photos import Years
from .recent import Recent
from .scope import ALL, KindScope, Scope, View
from .series import Series, fixed
from .single import SingleItem
from .tree_node import TreeNode

_NODE_KINDS = {
    Kind.VIDEO: NodeKind.VIDEOS,
    Kind.MUSIC: NodeKind.MUSIC,
    Kind.PHOTO: NodeKind.PHOTOS,
}
_PLACES: dict[Kind, dict[str, Callable[[KindScope], TreeNode]]] = {
    Kind.VIDEO: {"recent": Recent, "folders": Folders},
    Kind.MUSIC: {
        "artists": Artists,
        "albums": Albums,
        "songs": Songs,
        "folders": Folders,
    },
    Kind.PHOTO: {"years": Years, "folders": Folders},
}
"""What lies in the node of a kind, by the segment of its id."""


class Root(TreeNode):
    """The root: the kinds of all shares together, then the shares if there are several."""

    def __init__(self, view: View) -> None:
        """Show all that can be seen."""
        self._view = view
        self._scope = Scope(view, ALL, view.configured)

    def node(self) -> Node:
        """Return the node itself."""
        return Node(id="", kind=NodeKind.ROOT)

    def contents(self) -> Series:
        """Return the kinds, then the shares."""
        nodes = _kinds_of(self._scope)
        if len(self._view.configured) > 1:
            nodes += [Share(self._view, each).node() for each in self._view.configured]
        return fixed(nodes)

    def below(self, segment: str) -> TreeNode:
        """Return a kind of all shares, a share, or an item."""
        head, _, rest = segment.partition("/")
        if head == ALL:
            return _kind_of(self._scope, rest) or super().below(segment)
        if head == ITEM and rest:
            return SingleItem(self._view, rest, self._top_of)
        for share in self._view.configured:
            if share.id == segment:
                return Share(self._view, share)
        return super().below(segment)

    def _top_of(self, kind: Kind) -> tuple[TreeNode, KindScope]:
        scope = self._scope.of(kind)
        return KindTop(scope), scope


class Share(TreeNode):
    """One share."""

    def __init__(self, view: View, share: ShareConfig) -> None:
        """Show a share."""
        self._view = view
        self._share = share
        self._scope = Scope(view, share.id, (share,))

    def node(self) -> Node:
        """Return the node itself."""
        share = self._share
        return Node(
            id=share.id,
            kind=NodeKind.SHARE,
            title=share.name,
            media=share.kinds[0] if len(share.kinds) == 1 else None,
            available=share.id in self._view.shares.available,
        )

    def contents(self) -> Series:
        """Return the kinds of the share."""
        return fixed(_kinds_of(self._scope))

    def below(self, segment: str) -> TreeNode:
        """Return a kind of the share."""
        return _kind_of(self._scope, segment) or super().below(segment)


class KindTop(TreeNode):
    """Where one kind of media begins, in one share or all of them."""

    def __init__(self, scope: KindScope) -> None:
        """Show a kind."""
        self._scope = scope
        self._places = _PLACES[scope.kind]

    def node(self) -> Node:
        """Return the node itself."""
        return Node(
            id=self._scope.id,
            kind=_NODE_KINDS[self._scope.kind],
            media=self._scope.kind,
            count=self._scope.count,
            available=self._scope.is_available,
        )

    def contents(self) -> Series:
        """Return the ways to look at this kind of media."""
        return fixed([place(self._scope).node() for place in self._places.values()])

    def below(self, segment: str) -> TreeNode:
        """Return one of these ways."""
        place = self._places.get(segment)
        return place(self._scope) if place else super().below(segment)


def _kinds_of(scope: Scope) -> list[Node]:
    return [KindTop(scope.of(kind)).node() for kind in scope.kinds]


def _kind_of(scope: Scope, name: str) -> KindTop | None:
    for kind in scope.kinds:
        if kind == name:
            return KindTop(scope.of(kind))
    return None
