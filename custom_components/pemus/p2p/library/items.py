"""Rows of the index as items, and as the nodes that stand for items in lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
import sqlite3
from typing import Any

import orjson

from ..core.errors import NotFound
from ..media.types import kind_of
from ..models import Item, Kind, Node, NodeKind, ShareConfig, Subtitle, entity_tag
from ..models.rooms import RoomFolder
from .aggregates import PICTURED
from .ids import item_id, parse_item_id
from .migrations import KINDS, VIDEO
from .names import stem_of

ITEM = "item"
"""The first segment of an item's node id."""
UNKNOWN_TYPE = "application/octet-stream"

_CHUNK = 500
"""Rows that are asked for in one statement."""
_BELOW = """
    WITH RECURSIVE below (number, path) AS (
        SELECT number, path FROM folders WHERE share = ? AND path = ? AND NOT gone
        UNION ALL
        SELECT folders.number, folders.path
        FROM folders JOIN below ON folders.parent = below.number WHERE NOT folders.gone
    )
    SELECT items.row FROM items JOIN below ON items.folder = below.number
    WHERE items.shown IS NOT NULL AND items.gone IS NULL
    ORDER BY below.path, items.name_sort LIMIT ?
"""
"""Rows of the items in a folder of a share, and in all folders below it."""
_COLUMNS = f"items.row, items.nonce, items.share, items.name, items.shown, items.facts, {PICTURED}"


@dataclass(frozen=True, slots=True)
class Shares:
    """Which shares there are, by their numbers in the index, and which of them can be reached now."""

    ids: Mapping[int, str]
    available: Collection[str]
    others: bool = False
    """Whether the index still has shares that are configured no more."""

    @classmethod
    def of(
        cls,
        db: sqlite3.Connection,
        configured: Sequence[ShareConfig],
        available: Collection[str],
    ) -> Shares:
        """Return the configured shares as far as the index knows them."""
        wanted = {share.id for share in configured}
        known = db.execute("SELECT number, id FROM shares").fetchall()
        ids = {number: name for number, name in known if name in wanted}
        return cls(ids, available, others=len(ids) < len(known))

    def is_available(self, number: int) -> bool:
        """Tell whether the files of a share can be reached now."""
        return self.ids[number] in self.available


@dataclass(frozen=True, slots=True)
class Record:
    """What a list shows of an item."""

    row: int
    nonce: bytes
    share: int
    name: str
    shown: int
    facts: dict[str, Any]
    pictured: int | None

    @property
    def id(self) -> str:
        """The item's id."""
        return item_id(self.row, self.nonce)

    @property
    def stem(self) -> str:
        """The file's name without its extension."""
        return stem_of(self.name)

    @property
    def title(self) -> str:
        """The tagged title, or the file's name without its extension."""
        title: str = self.facts.get("title") or self.stem
        return title

    @property
    def content_type(self) -> str:
        """What the content is, or else what the name says."""
        found: str | None = self.facts.get("content_type")
        if found:
            return found
        named = kind_of(self.name)
        return named[1] if named else UNKNOWN_TYPE


def item(
    db: sqlite3.Connection,
    item_id: str,
    shares: Sequence[ShareConfig],
    available: Collection[str],
) -> Item:
    """Return an item. Raises NotFound, also for one that is hidden or lies in no configured share."""
    row = row_of(db, item_id)
    found = load(db, [row], Shares.of(db, shares, available))
    if not found:
        raise NotFound("there is no such item")
    return found[0]


def shares_of(
    db: sqlite3.Connection, item_ids: Iterable[str], configured: Sequence[ShareConfig]
) -> dict[str, str]:
    """Return in which configured share each item lies; those that there are not, or that are hidden, are missing."""
    rows = {
        parsed[0]: name
        for name in item_ids
        if (parsed := parse_item_id(name)) is not None
    }
    ids = Shares.of(db, configured, ()).ids
    return {
        rows[row]: ids[share]
        for row, nonce, share in _select(
            db,
            "SELECT row, nonce, share FROM items WHERE shown IS NOT NULL AND row",
            list(rows),
        )
        if item_id(row, nonce) == rows[row] and share in ids
    }


def chosen(
    db: sqlite3.Connection,
    item_ids: Iterable[str],
    folders: Iterable[RoomFolder],
    configured: Sequence[ShareConfig],
    available: Collection[str],
    limit: int,
) -> list[Item]:
    """Return single items, and those of whole folders with what lies below them, at most `limit`."""
    shares = Shares.of(db, configured, available)
    numbers = {name: number for number, name in shares.ids.items()}
    rows: list[int] = []
    for name in item_ids:
        with suppress(NotFound):
            rows.append(row_of(db, name))
    for folder in folders:
        if (number := numbers.get(folder.share)) is not None:
            found = db.execute(_BELOW, (number, folder.path, limit))
            rows += [row for (row,) in found]
    return load(db, list(dict.fromkeys(rows))[:limit], shares)


def row_of(db: sqlite3.Connection, item_id: str) -> int:
    """Return the row of a listed item. Raises NotFound."""
    parsed = parse_item_id(item_id)
    if parsed is not None:
        row, nonce = parsed
        found = db.execute(
            "SELECT row FROM items WHERE row = ? AND nonce = ? AND shown IS NOT NULL",
            (row, nonce),
        ).fetchone()
        if found is not None:
            return row
    raise NotFound("there is no such item")


def records(db: sqlite3.Connection, rows: Sequence[int]) -> dict[int, Record]:
    """Return by row what lists show of items; those that are hidden by now are missing."""
    return {
        row: Record(row, nonce, share, name, shown, _parsed(facts), pictured)
        for row, nonce, share, name, shown, facts, pictured in _select(
            db, f"SELECT {_COLUMNS} FROM items WHERE shown IS NOT NULL AND row", rows
        )
    }


def covers(db: sqlite3.Connection, rows: Iterable[int | None]) -> dict[int | None, str]:
    """Return by row the ids of the items whose pictures stand for something."""
    wanted = [row for row in set(rows) if row is not None]
    return {
        row: item_id(row, nonce)
        for row, nonce in _select(
            db, "SELECT row, nonce FROM items WHERE shown IS NOT NULL AND row", wanted
        )
    }


def nodes(
    db: sqlite3.Connection,
    rows: Sequence[int],
    shares: Shares,
    title: Callable[[Record], str],
) -> list[Node]:
    """Return the nodes of items, in the order of their rows."""
    found = records(db, rows)
    return [node(found[row], shares, title) for row in rows if row in found]


def node(record: Record, shares: Shares, title: Callable[[Record], str]) -> Node:
    """Return the node of an item."""
    id_ = record.id
    return Node(
        id=f"{ITEM}/{id_}",
        kind=NodeKind.ITEM,
        title=title(record),
        media=KINDS[record.shown],
        content_type=record.content_type,
        thumbnail=None if record.pictured is None else id_,
        available=shares.is_available(record.share),
    )


def load(db: sqlite3.Connection, rows: Sequence[int], shares: Shares) -> list[Item]:
    """Return items in the order of their rows, without those that are hidden or lie in no configured share."""
    shown = {
        row: record
        for row, record in records(db, rows).items()
        if record.share in shares.ids
    }
    files = {
        row: (folder, size, mtime_ns, inode, added)
        for row, folder, size, mtime_ns, inode, added in _select(
            db,
            """
            SELECT items.row, folders.path, items.size, items.mtime_ns, items.inode, items.added
            FROM items JOIN folders ON folders.number = items.folder WHERE items.row
            """,
            list(shown),
        )
    }
    videos = [row for row, record in shown.items() if record.shown == VIDEO]
    subtitles: dict[int, list[Subtitle]] = {}
    for row, position, name, language in _select(
        db, "SELECT item, position, name, language FROM subtitles WHERE item", videos
    ):
        subtitles.setdefault(row, []).append(
            Subtitle(index=position, name=name, language=language)
        )
    return [
        _item(shown[row], *files[row], subtitles.get(row, []), shares)
        for row in rows
        if row in files
    ]


def _item(
    record: Record,
    folder: str,
    size: int,
    mtime_ns: int,
    inode: int,
    added: float,
    subtitles: list[Subtitle],
    shares: Shares,
) -> Item:
    facts = record.facts
    return Item(
        id=record.id,
        share=shares.ids[record.share],
        kind=Kind(KINDS[record.shown]),
        name=record.name,
        title=record.title,
        folder=folder,
        content_type=record.content_type,
        size=size,
        modified=mtime_ns / 1e9,
        added=added,
        available=shares.is_available(record.share),
        # The index keeps inodes as signed numbers.
        etag=entity_tag(size, mtime_ns, inode % 2**64),
        has_thumbnail=record.pictured is not None,
        subtitles=tuple(sorted(subtitles, key=lambda each: each.index)),
        **{name: facts.get(name) for name in _FACTS},
    )


_FACTS = (
    "duration", "width", "height", "video_codec", "audio_codec", "bit_rate", "artist", "album", "album_artist", "genre",
    "track", "disc", "year", "taken", "fault",
)  # fmt: skip
"""What an item has in common with MediaFacts."""


def _parsed(facts: str | None) -> dict[str, Any]:
    known: dict[str, Any] = {} if facts is None else orjson.loads(facts)
    return known


def _select(
    db: sqlite3.Connection, statement: str, rows: Sequence[int]
) -> Iterable[tuple[Any, ...]]:
    """Run a statement that ends with a column for all rows in which that column has one of these values."""
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        yield from db.execute(
            f"{statement} IN ({','.join('?' * len(chunk))})", list(chunk)
        )
