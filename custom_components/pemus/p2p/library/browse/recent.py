"""The videos that came last."""

from __future__ import annotations

from ...models import PAGE_SIZE, Node, NodeKind
from ..items import nodes
from .scope import KindScope
from .series import Series, fixed
from .tree_node import TreeNode


class Recent(TreeNode):
    """The newest videos, as many as fit a page."""

    def __init__(self, scope: KindScope) -> None:
        """Show the newest videos of a scope."""
        self._scope = scope

    def node(self) -> Node:
        """Return the node itself."""
        return Node(
            id=f"{self._scope.id}/recent",
            kind=NodeKind.RECENT,
            media=self._scope.kind,
            available=self._scope.is_available,
        )

    def contents(self) -> Series:
        """Return the newest videos, the newest first."""
        view = self._scope.view
        rows = [
            row
            for (row,) in view.db.execute(
                "SELECT row FROM items INDEXED BY items_recent"
                f" WHERE shown = 0 AND {self._scope.within}"
                " ORDER BY added DESC, share DESC, row DESC LIMIT ?",
                (PAGE_SIZE,),
            )
        ]
        return fixed(nodes(view.db, rows, view.shares, lambda video: video.title))
