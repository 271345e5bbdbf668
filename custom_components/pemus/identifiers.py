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
