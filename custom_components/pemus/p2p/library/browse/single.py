"""An item as a place of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...core.errors import NotFound
from ...models import Kind, Node
from ..items import node, records, row_of
from ..migrations import KINDS
from .folders import Folders
from .scope import KindScope, View
from .series import Series, fixed
from .tree_node import TreeNode


class SingleItem(TreeNode):
    """An item. Nothing lies in it; it lies in its folder."""

    def __init__(
        self,
        view: View,
        item_id: str,
        top: Callable[[Kind], tuple[TreeNode, KindScope]],
    ) -> None:
        """Show an item, which lies below the `top` of its kind. Raises NotFound."""
        row = row_of(view.db, item_id)
        self._view = view
        self._record = records(view.db, [row])[row]
        if self._record.share not in view.shares.ids:
            raise NotFound("there is no such item")
        self._top, self._scope = top(KINDS[self._record.shown])

    def node(self) -> Node:
        """Return the node itself."""
        return node(self._record, self._view.shares, lambda item: item.title)

    def between(self) -> Sequence[Node]:
        """Return the way to the item's folder."""
        (folder,) = self._view.db.execute(
            "SELECT folder FROM items WHERE row = ?", (self._record.row,)
        ).fetchone()
        folders = Folders(self._scope)
        return [self._top.node(), folders.node(), *folders.below(str(folder)).path]

    def contents(self) -> Series:
        """Return nothing."""
        return fixed([])
