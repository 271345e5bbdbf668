"""What every place in the library's tree can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ...core.errors import NotFound
from ...models import Node
from .series import Series


class TreeNode(ABC):
    """A node of the tree, which knows what lies in it, and finds what lies below by the next segment of the id."""

    @abstractmethod
    def node(self) -> Node:
        """Return the node itself."""

    @abstractmethod
    def contents(self) -> Series:
        """Return the node's children."""

    def between(self) -> Sequence[Node]:
        """Return the nodes between this one and the place that its id was found in."""
        return ()

    def below(self, segment: str) -> TreeNode:
        """Return the place that a further segment of the id names. Raises NotFound."""
        raise NotFound("there is no such place in the library")
