"""The names of places and items in the media browser: the engine's ids of nodes, word for word."""

from typing import Final

from .const import DOMAIN

MEDIA_SOURCE: Final = f"media-source://{DOMAIN}/"
ITEM_PREFIX: Final = "item/"
HOME_PREFIX: Final = "home/"


def local_item(node_id: str) -> str | None:
    """Return the id of one of this home's items, None if the node is no such item."""
    if node_id.startswith(ITEM_PREFIX):
        return node_id.removeprefix(ITEM_PREFIX)
    return None


def remote_item(node_id: str) -> tuple[str, str] | None:
    """Return owner and id of an item of another home, None if the node is no such item.

    Whether they are ids at all is for the client to check.
    """
    if not node_id.startswith(HOME_PREFIX):
        return None
    owner, slash, item_id = node_id.removeprefix(HOME_PREFIX).partition("/")
    return (owner, item_id) if slash else None


def owner_of(node_id: str) -> str | None:
    """Return the id of the home that a place or an item belongs to, None for this one."""
    if not node_id.startswith(HOME_PREFIX):
        return None
    return node_id.removeprefix(HOME_PREFIX).partition("/")[0]


def item_node(item_id: str, owner: str | None) -> str:
    """Return what names an item of another home, or of this one if `owner` is None."""
    return f"{ITEM_PREFIX}{item_id}" if owner is None else home_node(owner, item_id)


def home_node(owner: str, place: str = "") -> str:
    """Return what names another home, or a place in it."""
    return f"{HOME_PREFIX}{owner}/{place}" if place else f"{HOME_PREFIX}{owner}"
