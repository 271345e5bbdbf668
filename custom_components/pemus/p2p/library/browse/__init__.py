"""The library as a tree: what lies where, out of the index. One module for each kind of place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
import sqlite3

from ...core.errors import NotFound
from ...models import Listing, ShareConfig
from ...models.rooms import RoomFolder
from ..items import Shares
from . import paging
from .address import BadNode, parse
from .scope import View
from .top import Root
from .tree_node import TreeNode

__all__ = ["BadNode", "folder", "listing"]


def listing(
    db: sqlite3.Connection,
    node_id: str,
    shares: Sequence[ShareConfig],
    available: Collection[str],
) -> Listing:
    """Return a node with what lies in it.

    `shares` are the configured ones in the order to show, `available` the ids of those that can be reached now. All of
    it is read in one transaction, which is the caller's.

    Raises:
        BadNode: that is no node id.
        NotFound: there is no such node, or no longer.

    """
    address = parse(node_id)
    place: TreeNode = Root(View.of(db, shares, available))
    parents = []
    for segment in address.segments:
        parents.append(place.node())
        place = place.below(segment)
        parents += place.between()
    node, contents = place.node(), place.contents()
    if address.page is None:
        children = paging.children(node, contents)
    else:
        parents.append(node)
        around, node, children = paging.turned_to(node, contents, address.page)
        parents += around
    (revision,) = db.execute(
        "SELECT value FROM state WHERE key = 'revision'"
    ).fetchone()
    return Listing(
        node=node,
        parents=tuple(parents),
        children=tuple(children),
        revision=revision,
    )


def folder(
    db: sqlite3.Connection, node_id: str, configured: Sequence[ShareConfig]
) -> RoomFolder:
    """Return the folder that a node shows, or the root of the share that it shows.

    Raises:
        BadNode: the node shows neither.
        NotFound: there is no such folder.

    """
    *before, last = parse(node_id).segments or ("",)
    if not before and last in {share.id for share in configured}:
        return RoomFolder(share=last, path="")
    if not last.isdecimal() or before[-1:] != ["folders"]:
        raise BadNode("only folders and single items can be shared with guests")
    found = db.execute(
        "SELECT share, path FROM folders WHERE number = ? AND NOT gone", (last,)
    ).fetchone()
    shares = Shares.of(db, configured, ())
    if found is None or found[0] not in shares.ids:
        raise NotFound("there is no such folder")
    return RoomFolder(share=shares.ids[found[0]], path=found[1])
