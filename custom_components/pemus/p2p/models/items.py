"""How an item is named, whoever owns it."""

from __future__ import annotations

from dataclasses import dataclass
import re
from typing import Final

from .homes import is_home

SELF: Final = "self"
"""Stands for this home where a path of the API names an owner."""
ITEM_PREFIX: Final = "item/"
HOME_PREFIX: Final = "home/"
_ITEM: Final = re.compile(r"[a-z2-7]{26}")


def is_item(text: str) -> bool:
    """Tell whether a text looks like an item's id."""
    return _ITEM.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ItemRef:
    """Names an item of this home or of a friend."""

    owner: str | None
    """PeMuS ID of the friend that owns it, None for this home."""
    id: str

    @classmethod
    def of_node(cls, node: str) -> ItemRef | None:
        """Return what the id of an ITEM node names, None if the node is no item. The ids in it are not checked."""
        if node.startswith(ITEM_PREFIX):
            return cls(None, node.removeprefix(ITEM_PREFIX))
        if not node.startswith(HOME_PREFIX):
            return None
        owner, slash, item = node.removeprefix(HOME_PREFIX).partition("/")
        return cls(owner, item) if slash else None

    @classmethod
    def of_path(cls, owner: str, item: str) -> ItemRef:
        """Return what two parts of a path of the API name. They are not checked."""
        return cls(None if owner == SELF else owner, item)

    @property
    def is_valid(self) -> bool:
        """Whether the owner and the item may exist: both come from anywhere, and must not turn into another path."""
        return is_item(self.id) and (self.owner is None or is_home(self.owner))

    @property
    def node(self) -> str:
        """Id of the item's node in the tree."""
        if self.owner is None:
            return f"{ITEM_PREFIX}{self.id}"
        return f"{HOME_PREFIX}{self.owner}/{self.id}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Names one file of an item: the media themselves, the picture, or one of the subtitles."""

    item: ItemRef
    picture: bool = False
    subtitles: int | None = None

    @property
    def is_media(self) -> bool:
        """Whether it is what is played, and not something that goes with it."""
        return not self.picture and self.subtitles is None

    @property
    def part(self) -> tuple[str, ...]:
        """The file below the item in a path of the API."""
        if self.picture:
            return ("thumbnail",)
        if self.subtitles is not None:
            return "subtitles", str(self.subtitles)
        return ("file",)


def owner_of(node: str) -> str | None:
    """Return the PeMuS ID of the friend that a node belongs to, None for this home."""
    if not node.startswith(HOME_PREFIX):
        return None
    return node.removeprefix(HOME_PREFIX).partition("/")[0]


def home_node(owner: str, place: str = "") -> str:
    """Return the id of a friend's home, or of a place in it, given the id that the place has there."""
    return f"{HOME_PREFIX}{owner}/{place}" if place else f"{HOME_PREFIX}{owner}"
