"""Other homes in the library's tree: one node for each home whose items this one holds tickets for."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Final

from .errors import NotFound
from .library.browse import paging
from .library.browse.address import parse
from .library.browse.series import fixed
from .models import Listing, Node, NodeKind
from .swarm.remote import RemoteItem

PREFIX: Final = "home/"


def add_to(root: Listing, items: Sequence[RemoteItem]) -> Listing:
    """Return the root with the homes after what it holds itself."""
    return dataclasses.replace(
        root,
        children=(*root.children, *(_home(items, each) for each in _owners(items))),
    )


def listing(node_id: str, items: Sequence[RemoteItem], revision: int) -> Listing:
    """Return a home with its items, or a part of them.

    Raises:
        BadRequest: that is no node id.
        NotFound: there is no such home or item, or no longer.

    """
    address = parse(node_id)
    _, owner, item = (*address.segments, "", "")[:3]
    its = [each for each in items if each.owner == owner and item in ("", each.id)]
    if not its or len(address.segments) > 3:
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
