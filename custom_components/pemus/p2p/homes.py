"""Own and friends' media by the same questions, and friends' homes as parts of this home's tree."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from .components import Components
from .core.errors import Unavailable
from .library import Library
from .models import Item, Listing, LocalFile, Node, NodeKind, SearchQuery, SearchResult
from .models.items import HOME_PREFIX, ITEM_PREFIX, home_node, is_item, owner_of

if TYPE_CHECKING:
    # Importing it loads what links are made of, which may be missing.
    from .friends.friend import Friend


def media_of(components: Components, owner: str | None) -> Library | FriendMedia:
    """Return where to ask about the media of a friend, or of this home (None)."""
    return components.library if owner is None else FriendMedia(components, owner)


class FriendMedia:
    """A friend's media. The methods are those of `Library`."""

    def __init__(self, components: Components, owner: str) -> None:
        """Ask about the media of `owner`. Every method raises NotFound if that is no friend."""
        self._components = components
        self._owner = owner

    @property
    def _friend(self) -> Friend:
        return self._components.friends.friend(self._owner)

    async def item(self, item_id: str) -> Item:
        """Return an item of the friend's list. Raises NotFound."""
        item = await self._friend.list.library.item(item_id, self._friend.is_online)
        return dataclasses.replace(item, owner=self._owner)

    async def file(self, item_id: str) -> LocalFile:
        """Return the file in the cache that an item arrives in. Raises NotFound, Gone, DiskFull, Unavailable."""
        await self._friend.items.prepare(item_id)
        return await self._components.downloads.file(self._owner, item_id)

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return an item's picture, fetched first if need be. Raises EngineError."""
        item = await self.item(item_id)
        path = await self._friend.items.thumbnail(item)
        return _cached(path, f"{item.title}.jpg", "image/jpeg")

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        """Return one of an item's subtitles as WebVTT, fetched first if need be. Raises EngineError."""
        item = await self.item(item_id)
        path = await self._friend.items.subtitles(item, index)
        return _cached(path, f"{item.title}.vtt", "text/vtt; charset=utf-8")

    async def browse(self, node: str) -> Listing:
        """Return what lies in a node, given the id that it has in this home's tree. Raises NotFound, BadRequest."""
        listing = await self._friend.list.library.browse(
            _node_there(node, self._owner), self._friend.is_online
        )
        return _as_part(listing, _home(self._friend), self._owner)

    async def search(self, query: SearchQuery) -> SearchResult:
        """Return what matches below a node, given the id that it has in this home's tree. Raises NotFound, BadRequest."""
        below = _node_there(query.below, self._owner)
        found = await self._friend.list.library.search(
            dataclasses.replace(query, below=below), self._friend.is_online
        )
        return SearchResult(
            items=tuple(
                dataclasses.replace(item, owner=self._owner) for item in found.items
            ),
            nodes=tuple(_moved(node, self._owner) for node in found.nodes),
        )


async def browse(components: Components, node: str) -> Listing:
    """Return what lies in a node. Friends' homes lie in the root. Raises NotFound, BadRequest, Unavailable."""
    listing = await media_of(components, owner_of(node)).browse(node)
    if node or components.active_friends is None:
        return listing
    homes = tuple(map(_home, components.active_friends.all))
    return dataclasses.replace(listing, children=(*listing.children, *homes))


def _as_part(listing: Listing, home: Node, owner: str) -> Listing:
    """Return a listing of a friend's library as a part of this home's tree, in which the friend is the node `home`."""
    root = Node(id="", kind=NodeKind.ROOT)
    if listing.node.kind is NodeKind.ROOT:
        node: Node = home
        parents: tuple[Node, ...] = (root,)
    else:
        node = _moved(listing.node, owner)
        # The first one is the root there, which is the home here.
        parents = (
            root,
            home,
            *(_moved(each, owner) for each in listing.parents[1:]),
        )
    return dataclasses.replace(
        listing,
        node=node,
        parents=parents,
        children=tuple(_moved(each, owner) for each in listing.children),
    )


def _home(friend: Friend) -> Node:
    return Node(
        id=home_node(friend.id),
        kind=NodeKind.HOME,
        title=friend.name,
        count=friend.list.count,
        available=friend.is_online,
    )


def _node_there(node: str, owner: str) -> str:
    """Return the id that a node of a friend has in the friend's own tree."""
    there = node.removeprefix(f"{HOME_PREFIX}{owner}").removeprefix("/")
    return f"{ITEM_PREFIX}{there}" if is_item(there) else there


def _moved(node: Node, owner: str) -> Node:
    """Return a node of a friend's tree as one of this home's."""
    return dataclasses.replace(
        node, id=home_node(owner, node.id.removeprefix(ITEM_PREFIX))
    )


def _cached(path: Path, name: str, content_type: str) -> LocalFile:
    """Return a file of the cache as the view sends it. Raises Unavailable."""
    try:
        return LocalFile.of(str(path), name, content_type, path.stat())
    except OSError as err:
        raise Unavailable(f"it is gone: {err.strerror}") from None
