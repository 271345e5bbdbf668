"""Other homes in the library's tree: one node for each home whose items this one holds tickets for."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import re
from typing import Final

from .core.errors import NotFound
from .library.browse import paging
from .library.browse.address import parse
from .library.browse.series import fixed
from .library.items import ITEM
from .models import Item, Listing, Node, NodeKind
from .models.homes import FriendStatus
from .models.transfers import RemoteItem

PREFIX: Final = "home/"
_ITEM: Final = re.compile(r"[a-z2-7]{26}")


def add_to(
    root: Listing, friends: Sequence[FriendStatus], items: Sequence[RemoteItem]
) -> Listing:
    """Return the root with the homes after what it holds itself: friends, and others that tickets came from."""
    known = {friend.id for friend in friends}
    others = [each for each in _owners(items) if each not in known]
    return dataclasses.replace(
        root,
        children=(
            *root.children,
            *(friend_node(each) for each in friends),
            *(_home(items, each) for each in others),
        ),
    )


def friend_node(friend: FriendStatus) -> Node:
    """Return the node of a friend's home."""
    return Node(
        id=f"{PREFIX}{friend.id}",
        kind=NodeKind.HOME,
        title=friend.name,
        count=friend.items,
        available=friend.online,
    )


def divided(node_id: str) -> tuple[str, str]:
    """Return the home of a node, and the id that the node has there."""
    home, _, rest = node_id.removeprefix(PREFIX).partition("/")
    return home, f"{ITEM}/{rest}" if _ITEM.fullmatch(rest) else rest


def of_friend(listing: Listing, friend: FriendStatus) -> Listing:
    """Return a listing of a friend's library as a part of this home's tree."""
    home = friend_node(friend)
    root = Node(id="", kind=NodeKind.ROOT)
    if listing.node.kind is NodeKind.ROOT:
        node: Node = home
        parents: tuple[Node, ...] = (root,)
    else:
        node = moved(listing.node, friend.id)
        # The first one is the root there, which is the home here.
        parents = (
            root,
            home,
            *(moved(each, friend.id) for each in listing.parents[1:]),
        )
    return dataclasses.replace(
        listing,
        node=node,
        parents=parents,
        children=tuple(moved(each, friend.id) for each in listing.children),
    )


def moved(node: Node, home: str) -> Node:
    """Return a node of a friend's library as one of this home's tree."""
    return dataclasses.replace(
        node, id=f"{PREFIX}{home}/{node.id.removeprefix(f'{ITEM}/')}"
    )


def listing(node_id: str, items: Sequence[RemoteItem], revision: int) -> Listing:
    """Return a home with its items, or a part of them.

    Raises:
        BadRequest: that is no node id.
        NotFound: there is no such home or item, or no longer.

    """
    owner, _, rest = node_id.removeprefix(PREFIX).partition("/")
    # The parts of an id that are of this home's making are as those of any other.
    address = parse("/".join((PREFIX[:-1], *([rest] if rest else []))))
    _, item = (*address.segments, "")[:2]
    its = [each for each in items if each.owner == owner and item in ("", each.id)]
    if not its or len(address.segments) > 2:
        raise NotFound("there is no such home")
    root, home = Node(id="", kind=NodeKind.ROOT), _home(items, owner)
    if item:
        return Listing(
            node=_item(its[0]), parents=(root, home), children=(), revision=revision
        )
    its.sort(key=lambda each: (each.title.casefold(), each.id))
    contents = fixed([_item(each) for each in its])
    if address.page is None:
        return Listing(
            node=home,
            parents=(root,),
            children=tuple(paging.children(home, contents)),
            revision=revision,
        )
    around, page, children = paging.turned_to(home, contents, address.page)
    return Listing(
        node=page,
        parents=(root, home, *around),
        children=tuple(children),
        revision=revision,
    )


def item_of(items: Sequence[RemoteItem], owner: str, item_id: str) -> Item:
    """Return what a ticket tells of an item. Raises NotFound."""
    for each in items:
        if (each.owner, each.id) == (owner, item_id):
            return Item(
                id=each.id,
                share="",
                kind=each.kind,
                name=each.name,
                title=each.title,
                folder="",
                content_type=each.content_type,
                size=each.size,
                modified=each.modified,
                added=each.modified,
                available=True,
                etag=each.etag,
                duration=each.duration,
                bit_rate=each.bit_rate,
            )
    raise NotFound("there is no such item")


def _owners(items: Sequence[RemoteItem]) -> list[str]:
    names = {each.owner: each.owner_name.casefold() for each in items}
    return sorted(names, key=lambda owner: (names[owner], owner))


def _home(items: Sequence[RemoteItem], owner: str) -> Node:
    its = [each for each in items if each.owner == owner]
    return Node(
        id=f"{PREFIX}{owner}",
        kind=NodeKind.HOME,
        title=its[0].owner_name,
        count=len(its),
    )


def _item(item: RemoteItem) -> Node:
    return Node(
        id=f"{PREFIX}{item.owner}/{item.id}",
        kind=NodeKind.ITEM,
        title=item.title,
        media=item.kind,
        content_type=item.content_type,
    )
