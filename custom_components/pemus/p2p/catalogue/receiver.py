"""Writes pages of another home's catalogue into the index of its library.

The index has the schema of this home's own, so browsing and searching work with it. Counts are updated later (see
`RemoteLibrary`). Everything here runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
import sqlite3
from typing import Any, Final

import orjson

from ..library.aggregates import remove_share
from ..library.changes import Row, forget
from ..library.migrations import MUSIC, NUMBERS, PHOTO
from ..library.names import sort_key, stem_of
from ..library.search_index import renew_words
from ..models import Kind
from .checks import FACTS, MAX_ROW, Entry
from .wire import (
    BEFORE_ALL,
    BadCatalogue,
    Checkpoint,
    Folder,
    Have,
    Known,
    Page,
    Part,
    Place,
    Share,
    places,
)

REMOVAL: Final = 128
"""Work of removing an item or a folder, in bytes of a page that cost as much."""
TABLES: Final = (
    # Two folders may have the same path for a while, because a new one may arrive before the former one's removal.
    "DROP INDEX folders_by_path",
    "CREATE INDEX folders_by_path ON folders (share, path)",
    "CREATE INDEX items_by_share ON items (share)",
    """
    CREATE TABLE remote_shares (
        share INTEGER PRIMARY KEY,
        position INTEGER NOT NULL, -- among the shares, in the owner's order
        name TEXT NOT NULL,
        available INTEGER NOT NULL,
        stale INTEGER NOT NULL DEFAULT 1, -- whether counts and lists must be updated
        -- How far it is known (`wire.Known`). Without a checkpoint, it is requested as a whole.
        checkpoint INTEGER,
        checkpoint_id INTEGER,
        sequence INTEGER,
        row INTEGER
    )
    """,
)
"""Additions to the schema of an own index."""

_FOLDER: Final = 64
"""Work of adding a folder, apart from its path."""
_PATHS: Final = 2
"""How often a folder's path is written: in its row and in an index."""
_ALL_WORDED: Final = 2**62
"""A mark after all rows, because each item is added to the search index at once."""

_COLUMNS: Final = (
    "row", "nonce", "folder", "share", "name", "size", "mtime_ns", "inode", "kind", "shown", "added", "name_sort",
    "title_sort", "month", "moment", "has_picture", "facts", "artist_key", "artist_name", "album_key", "album_name",
    "album_by", "album_position",
)  # fmt: skip
_INSERT: Final = f"INSERT INTO items ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM items WHERE row IN (SELECT value FROM json_each(?))"

type _Values = tuple[Any, ...]
"""The values of _COLUMNS."""
type _Subtitles = list[tuple[str, int, int, str | None]]


@dataclass(slots=True)
class CatalogueReceiver:
    """What a page changed."""

    added: list[tuple[Row, str]] = field(default_factory=list)
    """New items, with their titles."""
    changed: list[Row] = field(default_factory=list)
    """Items that were changed or removed."""
    shares_changed: bool = False
    stale: set[int] = field(default_factory=set)
    """Shares in which something changed."""
    folders: set[int] = field(default_factory=set)
    """Folders in which items changed, and new folders."""
    folders_lost: bool = False
    """Whether folders were removed."""
    growth: int = 0
    """The growth of the number of items."""
    written: int = 0
    """Work of the folders that changed, in bytes of a page that cost as much. A page has their names, the index their paths."""

    def __bool__(self) -> bool:
        """Tell whether anything changed."""
        return bool(self.stale or self.changed or self.shares_changed)


def take(db: sqlite3.Connection, page: Page, begun: set[int]) -> CatalogueReceiver:
    """Write a page. `begun` are the shares that this transfer has sent from the beginning; the page's are added.

    Raises:
        BadCatalogue: the page contradicts itself or earlier pages. The transaction must not be committed.

    """
    intake = CatalogueReceiver()
    if page.head.shares is not None:
        _take_shares(db, page.head.shares, intake)
    folders = _take_folders(db, page.head.folders, intake)
    for part in page.parts:
        _follow(db, part, page.head.checkpoint, begun)
        _take_part(db, part, folders, intake)
    db.executemany(
        "UPDATE remote_shares SET stale = 1 WHERE share = ?",
        ((each,) for each in intake.stale),
    )
    return intake


def known(db: sqlite3.Connection) -> Have:
    """Return how far each share is known."""
    return Have(
        shares=tuple(
            Known(
                share=share,
                sequence=sequence,
                checkpoint=Checkpoint(sequence=checkpoint, id=id_),
                row=row,
            )
            for share, sequence, checkpoint, id_, row in db.execute(
                "SELECT share, sequence, checkpoint, checkpoint_id, row FROM remote_shares"
                " WHERE checkpoint IS NOT NULL"
            )
        )
    )


def distrust(db: sqlite3.Connection) -> None:
    """Request all shares as a whole again. What is known of them stays until then."""
    db.execute("UPDATE remote_shares SET checkpoint = NULL")


def _take_shares(
    db: sqlite3.Connection, shares: Sequence[Share], intake: CatalogueReceiver
) -> None:
    """Write the list of shares. Shares that are gone are removed with their items."""
    known = dict(db.execute("SELECT number, id FROM shares").fetchall())
    before = db.execute(
        "SELECT number, name, available, kinds FROM shares JOIN remote_shares ON share = number ORDER BY position"
    ).fetchall()
    now = [
        (
            share.number,
            share.name,
            int(share.available),
            sum(1 << NUMBERS[kind] for kind in share.kinds),
        )
        for share in shares
    ]
    told = {share.number: share.id for share in shares}
    lost = [number for number, id_ in known.items() if told.get(number) != id_]
    for number in lost:
        _forget(db, "share = ?", (number,), intake)
        db.execute("DELETE FROM remote_shares WHERE share = ?", (number,))
        remove_share(db, number)
        intake.stale.discard(number)
    if not lost and before == now:
        return
    intake.shares_changed = True
    for position, (share, (number, name, available, kinds)) in enumerate(
        zip(shares, now, strict=True)
    ):
        db.execute(
            "INSERT INTO shares (number, id, path, kinds, worded) VALUES (?, ?, '', ?, ?)"
            " ON CONFLICT (number) DO UPDATE SET kinds = excluded.kinds",
            (number, share.id, kinds, _ALL_WORDED),
        )
        db.execute(
            "INSERT INTO remote_shares (share, position, name, available) VALUES (?, ?, ?, ?) ON CONFLICT (share)"
            " DO UPDATE SET position = excluded.position, name = excluded.name, available = excluded.available",
            (number, position, name, available),
        )


def _take_folders(
    db: sqlite3.Connection, folders: Iterable[Folder], intake: CatalogueReceiver
) -> dict[int, int]:
    """Write folders. Return the share of each."""
    shares = {number for (number,) in db.execute("SELECT number FROM shares")}
    told: dict[int, int] = {}
    for place in places(folders):
        if place.share not in shares:
            raise BadCatalogue("one of its folders lies in no share")
        told[place.number] = place.share
        _take_folder(db, place, intake)
    return told


def _take_folder(
    db: sqlite3.Connection, place: Place, intake: CatalogueReceiver
) -> None:
    before = db.execute(
        "SELECT share, parent, name FROM folders WHERE number = ?", (place.number,)
    ).fetchone()
    if before == (place.share, place.parent, place.name):
        return
    if before is not None:
        # The owner's index was rebuilt. It must send the items of this folder again.
        _remove_folder(db, place.number, intake)
    if place.parent is None:
        for (other,) in db.execute(
            "SELECT number FROM folders WHERE share = ? AND path = ''", (place.share,)
        ).fetchall():
            _remove_folder(db, other, intake)
    db.execute(
        "INSERT INTO folders (number, share, parent, name, path, sort) VALUES (?, ?, ?, ?, ?, ?)",
        (
            place.number,
            place.share,
            place.parent,
            place.name,
            place.path,
            sort_key(place.name),
        ),
    )
    intake.stale.add(place.share)
    intake.folders.add(place.number)
    intake.written += _FOLDER + _PATHS * len(place.path.encode())


def _remove_folder(
    db: sqlite3.Connection, number: int, intake: CatalogueReceiver
) -> None:
    """Remove a folder with everything in it."""
    found = db.execute(
        """
        WITH RECURSIVE below (number) AS (
            SELECT ? UNION SELECT folders.number FROM below JOIN folders ON folders.parent = below.number
        )
        SELECT number FROM below
        """,
        (number,),
    ).fetchall()
    intake.written += REMOVAL * len(found)
    intake.folders_lost = True
    numbers = ",".join(str(below) for (below,) in found)
    lost = _forget(db, f"folder IN ({numbers})", (), intake)
    # The owner assumes that these items are known, and must send them again.
    db.executemany(
        "UPDATE remote_shares SET checkpoint = NULL WHERE share = ? AND (row IS NULL OR row >= ?)",
        ((share, row) for row, share in lost),
    )
    db.execute(f"DELETE FROM folder_kinds WHERE folder IN ({numbers})")
    db.execute(f"DELETE FROM folders WHERE number IN ({numbers})")


def _forget(
    db: sqlite3.Connection,
    which: str,
    parameters: tuple[int | str, ...],
    intake: CatalogueReceiver,
) -> list[tuple[int, int]]:
    """Remove items. Return row and share of each."""
    found = db.execute(
        f"SELECT row, nonce, share, folder FROM items WHERE {which}", parameters
    ).fetchall()
    rows: list[Row] = [(row, nonce) for row, nonce, *_ in found]
    forget(db, rows)
    intake.changed += rows
    intake.stale |= {share for *_, share, _ in found}
    intake.folders |= {folder for *_, folder in found}
    intake.growth -= len(rows)
    return [(row, share) for row, _, share, _ in found]


def _follow(
    db: sqlite3.Connection, part: Part, checkpoint: Checkpoint, begun: set[int]
) -> None:
    """Check that a part continues what is known of its share, and note how far the share is known now.

    Raises BadCatalogue.
    """
    sequence, row, is_known = db.execute(
        "SELECT sequence, row, checkpoint IS NOT NULL FROM remote_shares WHERE share = ?",
        (part.share,),
    ).fetchone() or (None, None, False)
    if part.whole and part.after == BEFORE_ALL:
        is_next = part.share not in begun
        begun.add(part.share)
        sequence = checkpoint.sequence
    elif part.whole:
        is_next = is_known and row == part.after
    else:
        is_next = is_known and row is None and sequence == part.after
        sequence = part.until
    if not is_next:
        raise BadCatalogue("a part of the list was sent already, or is missing")
    row = part.until if part.whole and part.until < MAX_ROW else None
    changed = db.execute(
        "UPDATE remote_shares SET checkpoint = ?, checkpoint_id = ?, sequence = ?, row = ? WHERE share = ?",
        (checkpoint.sequence, checkpoint.id, sequence, row, part.share),
    ).rowcount
    if not changed:
        raise BadCatalogue("a part of it belongs to no share")


def _take_part(
    db: sqlite3.Connection,
    part: Part,
    folders: dict[int, int],
    intake: CatalogueReceiver,
) -> None:
    """Write a part of a share."""
    share = part.share
    rows = orjson.dumps([item["row"] for item in part.items]).decode()
    before = {each[0]: each for each in db.execute(_SELECT, (rows,))}
    beside = _subtitles(db, rows)
    obsolete: list[Row] = []
    fresh: list[_Values] = []
    subtitles: dict[int, _Subtitles] = {}
    for item in part.items:
        if folders.get(item["folder"]) != share:
            raise BadCatalogue("an item of it lies nowhere")
        values = _values(item, share)
        row = values[0]
        told = [
            (each["name"], each["size"], each["mtime_ns"], each.get("language"))
            for each in item.get("subtitles", ())
        ]
        was = before.get(row)
        if was == values and told == beside.get(row, []):
            continue
        if was is None or was[1] != values[1]:
            intake.added.append((values[:2], _title(item)))
        if was is not None:
            obsolete.append(was[:2])
            intake.folders.add(was[2])
            intake.stale.add(was[3])
        fresh.append(values)
        intake.folders.add(values[2])
        subtitles[row] = told
    if part.whole:
        _forget(
            db,
            "share = ? AND row > ? AND row <= ? AND row NOT IN (SELECT value FROM json_each(?))",
            (share, part.after, part.until, rows),
            intake,
        )
    elif part.gone:
        gone = orjson.dumps(part.gone).decode()
        _forget(
            db,
            "share = ? AND row IN (SELECT value FROM json_each(?))",
            (share, gone),
            intake,
        )
    forget(db, obsolete)
    _insert(db, fresh, subtitles)
    intake.changed += obsolete
    if fresh:
        intake.stale.add(share)
    intake.growth += len(fresh) - len(obsolete)


def _subtitles(db: sqlite3.Connection, rows: str) -> dict[int, _Subtitles]:
    found: dict[int, _Subtitles] = {}
    for row, *values in db.execute(
        "SELECT item, name, size, mtime_ns, language FROM subtitles"
        " WHERE item IN (SELECT value FROM json_each(?)) ORDER BY item, position",
        (rows,),
    ):
        name, size, mtime_ns, language = values
        found.setdefault(row, []).append((name, size, mtime_ns, language))
    return found


def _insert(
    db: sqlite3.Connection,
    items: Sequence[_Values],
    subtitles: dict[int, _Subtitles],
) -> None:
    db.executemany(_INSERT, items)
    db.executemany(
        "INSERT INTO subtitles (item, position, name, size, mtime_ns, language) VALUES (?, ?, ?, ?, ?, ?)",
        (
            (row, position, *each)
            for row, listed in subtitles.items()
            for position, each in enumerate(listed)
        ),
    )
    # The database notes artists and albums whose songs change or disappear, but not those of new songs.
    artists, albums = _COLUMNS.index("artist_key"), _COLUMNS.index("album_key")
    for table, column in (("stale_artists", artists), ("stale_albums", albums)):
        db.executemany(
            f"INSERT OR IGNORE INTO {table} VALUES (?)",
            ((key,) for key in {item[column] for item in items} if key is not None),
        )
    db.execute("UPDATE shares SET worded = ?", (_ALL_WORDED,))
    renew_words(db, [item[0] for item in items])


def _values(entry: Entry, share: int) -> _Values:
    """Return an item's row in the index, with what this engine derives by itself."""
    kind = NUMBERS[Kind(entry["kind"])]
    facts = {
        name: value for name, value in entry.get("facts", {}).items() if name in FACTS
    }
    name_sort = sort_key(stem_of(entry["name"]))
    title_sort = month = moment = None
    group: _Values = (None,) * 6
    if kind == MUSIC:
        title = facts.get("title")
        title_sort = sort_key(title) if title else name_sort
        if (its := entry.get("group")) is not None:
            group = (
                *(its["artist_key"], its["artist_name"]),
                *(its["album_key"], its["album_name"], its["album_by"]),
                its["position"],
            )
    if kind == PHOTO:
        month, moment = entry.get("month"), entry.get("moment")
    return (
        *(entry["row"], bytes.fromhex(entry["nonce"]), entry["folder"], share),
        *(entry["name"], entry["size"], entry["mtime_ns"], entry["inode"]),
        *(kind, kind, entry["added"], name_sort, title_sort, month, moment),
        int(entry.get("pictured", False)),
        orjson.dumps(facts).decode() if facts else None,
        *group,
    )


def _title(entry: Entry) -> str:
    title: str = entry.get("facts", {}).get("title") or stem_of(entry["name"])
    return title
