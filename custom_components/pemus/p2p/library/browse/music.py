"""Music by artists, albums and titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...core.errors import NotFound
from ...models import Node, NodeKind
from ..items import covers
from ..names import NO_KEY
from .itemlist import ItemList, Source
from .scope import KindScope
from .series import Joined, Listed, Series
from .tree_node import TreeNode


class Artists(TreeNode):
    """All artists."""

    def __init__(self, scope: KindScope) -> None:
        """Show the artists of a scope."""
        self._scope = scope

    def node(self) -> Node:
        """Return the node itself."""
        return _list_node(self._scope, NodeKind.ARTISTS)

    def contents(self) -> Series:
        """Return the artists in the order of their names."""
        return _groups(self._scope, "artists", artist_nodes)

    def below(self, segment: str) -> TreeNode:
        """Return an artist."""
        return Artist(self._scope, segment)


class Albums(TreeNode):
    """All albums."""

    def __init__(self, scope: KindScope) -> None:
        """Show the albums of a scope."""
        self._scope = scope

    def node(self) -> Node:
        """Return the node itself."""
        return _list_node(self._scope, NodeKind.ALBUMS)

    def contents(self) -> Series:
        """Return the albums in the order of their names."""
        return _groups(self._scope, "albums", album_nodes)

    def below(self, segment: str) -> TreeNode:
        """Return an album."""
        return Album(self._scope, segment)


class Songs(TreeNode):
    """All songs."""

    def __init__(self, scope: KindScope) -> None:
        """Show the songs of a scope."""
        self._scope = scope

    def node(self) -> Node:
        """Return the node itself."""
        return _list_node(self._scope, NodeKind.SONGS)

    def contents(self) -> Series:
        """Return the songs in the order of their titles."""
        return _songs(
            self._scope,
            Source(
                index="items_songs",
                where=f"shown = 1 AND title_sort IS NOT NULL AND {self._scope.within}",
                parameters=(),
                order=("title_sort", "share"),
            ),
        )


class Artist(TreeNode):
    """An artist, or the songs of no known one."""

    def __init__(self, scope: KindScope, key: str) -> None:
        """Show an artist. Raises NotFound if there is none in the scope."""
        self._scope = scope
        self._key = key
        self._node = _only(artist_nodes(scope, [key]))

    def node(self) -> Node:
        """Return the node itself."""
        return self._node

    def contents(self) -> Series:
        """Return the artist's albums, then the songs that are on none."""
        scope = self._scope
        keys = [
            key
            for (key,) in scope.view.db.execute(
                f"""
                -- From album to album, instead of from song to song.
                WITH RECURSIVE on_albums (key) AS (
                    SELECT min(album_key) FROM items WHERE artist_key = ?1 AND album_key IS NOT NULL AND shown = 1
                    UNION ALL
                    SELECT (
                        SELECT min(album_key) FROM items WHERE artist_key = ?1 AND album_key > on_albums.key AND shown = 1
                    )
                    FROM on_albums WHERE on_albums.key IS NOT NULL
                )
                SELECT key FROM on_albums JOIN albums USING (key)
                WHERE key != ?2 AND {scope.within} AND EXISTS (
                    SELECT 1 FROM items WHERE artist_key = ?1 AND album_key = albums.key AND share = albums.share AND shown = 1
                )
                GROUP BY key ORDER BY min(sort), key
                """,
                (self._key, NO_KEY),
            )
        ]
        loose = Source(
            index="items_by_artist",
            where=f"artist_key = ? AND album_key = ? AND shown = 1 AND {scope.within}",
            parameters=(self._key, NO_KEY),
            order=("title_sort", "share"),
        )
        return Joined(
            Listed(keys, lambda part: album_nodes(scope, part)), _songs(scope, loose)
        )


class Album(TreeNode):
    """An album, or the songs of no known one."""

    def __init__(self, scope: KindScope, key: str) -> None:
        """Show an album. Raises NotFound if there is none in the scope."""
        self._scope = scope
        self._key = key
        self._node = _only(album_nodes(scope, [key]))

    def node(self) -> Node:
        """Return the node itself."""
        return self._node

    def contents(self) -> Series:
        """Return the songs in the order of discs and tracks."""
        return _songs(
            self._scope,
            Source(
                index="items_by_album",
                where=f"album_key = ? AND shown = 1 AND {self._scope.within}",
                parameters=(self._key,),
                order=("album_position", "title_sort", "share"),
            ),
        )


def artist_nodes(scope: KindScope, keys: Sequence[str]) -> list[Node]:
    """Return the nodes of those artists that are in the scope."""
    return _group_nodes(scope, NodeKind.ARTIST, "artists", "NULL", keys)


def album_nodes(scope: KindScope, keys: Sequence[str]) -> list[Node]:
    """Return the nodes of those albums that are in the scope."""
    return _group_nodes(scope, NodeKind.ALBUM, "albums", "max(artist)", keys)


def _group_nodes(
    scope: KindScope, kind: NodeKind, table: str, detail: str, keys: Sequence[str]
) -> list[Node]:
    found = {
        key: values
        for key, *values in scope.view.db.execute(
            f"""
            SELECT key, max(title), {detail}, sum(count), min(cover), max({scope.reachable}) FROM {table}
            WHERE {scope.within} AND key IN ({",".join("?" * len(keys))}) GROUP BY key
            """,
            list(keys),
        )
    }
    pictures = covers(scope.view.db, [cover for *_, cover, _ in found.values()])
    nodes = []
    for key in keys:
        if key in found:
            title, artist, count, cover, available = found[key]
            nodes.append(
                Node(
                    id=f"{scope.id}/{table}/{key}",
                    kind=kind,
                    title=title,
                    detail=artist,
                    media=scope.kind,
                    thumbnail=pictures.get(cover),
                    count=count,
                    available=bool(available),
                )
            )
    return nodes


def _groups(
    scope: KindScope,
    table: str,
    nodes: Callable[[KindScope, Sequence[str]], list[Node]],
) -> Series:
    found = scope.view.db.execute(
        f"SELECT key FROM {table} WHERE {scope.within} ORDER BY sort, key"
    )
    # The same one may be in several shares.
    keys = list(dict.fromkeys(key for (key,) in found))
    return Listed(keys, lambda part: nodes(scope, part))


def _songs(scope: KindScope, source: Source) -> Series:
    return ItemList(scope.view.db, source, scope.view.shares, lambda song: song.title)


def _list_node(scope: KindScope, kind: NodeKind) -> Node:
    return Node(
        id=f"{scope.id}/{kind}",
        kind=kind,
        media=scope.kind,
        available=scope.is_available,
    )


def _only(nodes: list[Node]) -> Node:
    if not nodes:
        raise NotFound("there is no such artist or album")
    return nodes[0]
