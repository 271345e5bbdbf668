"""What is counted beforehand, so that browsing a large library is quick: folders, months, artists and albums."""

from __future__ import annotations

from collections.abc import Collection, Iterable
import sqlite3

from ..models import Counts
from .migrations import KINDS, MUSIC, PHOTO
from .store import Store, raise_revision

PICTURED = f"""
    CASE WHEN picture IS NOT 0 AND coalesce(has_picture, coalesce(content_kind, kind) != {MUSIC}) THEN row END
"""
"""The row of an item that has a picture, or is likely to."""

type _Kinds = dict[int, tuple[int, int, int | None]]
"""Count, size and cover by kind."""


def counts(db: sqlite3.Connection) -> dict[int, Counts]:
    """Return what lies in each share, by its number, as it was last counted."""
    numbers: dict[int, dict[str, int]] = {}
    for share, kind, count, size in db.execute(
        """
        SELECT share, kind, count, size
        FROM folders JOIN folder_kinds ON folder = number WHERE path = ''
        """
    ):
        counted = numbers.setdefault(share, {"size": 0})
        counted[KINDS[kind].value] = count
        counted["size"] += size
    return {share: Counts(**counted) for share, counted in numbers.items()}


def refresh(store: Store, share: int, folders: Collection[int] | None = None) -> None:
    """Count everything again that a share has a part in, and raise the library's revision if anything is different.

    `folders`: no items of other folders have changed.
    """
    with store.write() as db:
        if count_share(db, share, folders) | count_groups(db):
            raise_revision(db)


def count_share(
    db: sqlite3.Connection, share: int, folders: Collection[int] | None = None
) -> bool:
    """Count what lies in each month and in each folder of a share, or in some folders and those around them.

    Return whether anything is not as it was.
    """
    return _count_folders(db, share, folders) | _count_months(db, share)


def count_groups(db: sqlite3.Connection) -> bool:
    """Count the artists and albums again whose songs changed; return whether there were any."""
    changed = False
    for table, key, title, artist in (
        ("artists", "artist_key", "artist_name", ""),
        ("albums", "album_key", "album_name", "max(album_by),"),
    ):
        if not db.execute(f"SELECT 1 FROM stale_{table} LIMIT 1").fetchone():
            continue
        changed = True
        db.execute(f"DELETE FROM {table} WHERE key IN (SELECT key FROM stale_{table})")
        db.execute(
            f"""
            INSERT INTO {table} (key, share, title, {"artist," if artist else ""} sort, count, cover)
            SELECT {key}, share, max({title}), {artist} sort_key(max({title})), count(*), min({PICTURED})
            FROM items WHERE {key} IN (SELECT key FROM stale_{table}) AND shown = {MUSIC}
            GROUP BY {key}, share
            """
        )
        db.execute(f"DELETE FROM stale_{table}")
    return changed


def remove_share(db: sqlite3.Connection, share: int) -> None:
    """Remove a share that has no items any more."""
    db.execute(
        "DELETE FROM folder_kinds WHERE folder IN (SELECT number FROM folders WHERE share = ?)",
        (share,),
    )
    for table in ("months", "artists", "albums"):
        db.execute(f"DELETE FROM {table} WHERE share = ?", (share,))
    db.execute("DELETE FROM folders WHERE share = ?", (share,))
    db.execute("DELETE FROM shares WHERE number = ?", (share,))


def _count_folders(
    db: sqlite3.Connection, share: int, folders: Collection[int] | None
) -> bool:
    which: tuple[str, int | str] = "SELECT number FROM folders WHERE share = ?", share
    around: set[int] = set()
    if folders is not None:
        around = _with_parents(db, share, folders)
        which = "SELECT value FROM json_each(?)", f"[{','.join(map(str, around))}]"
    numbers, value = which
    counted: dict[int, _Kinds] = {}
    for folder, kind, count, size, cover in db.execute(
        f"""
        SELECT folder, shown, count(*), sum(size), min({PICTURED}) FROM items
        WHERE folder IN ({numbers}) AND shown IS NOT NULL
        GROUP BY folder, shown
        """,
        (value,),
    ):
        counted.setdefault(folder, {})[kind] = (count, size, cover)
    # A folder has a longer path than its parent, so each one is complete before it is added to its parent.
    for folder, parent in db.execute(
        f"SELECT number, parent FROM folders WHERE parent IN ({numbers}) ORDER BY length(path) DESC, number",
        (value,),
    ).fetchall():
        is_counted = folders is None or folder in around
        part = counted.get(folder) if is_counted else _kinds(db, folder)
        if part:
            _add(counted.setdefault(parent, {}), part)
    before: dict[int, _Kinds] = {}
    for folder, kind, count, size, cover in db.execute(
        f"SELECT folder, kind, count, size, cover FROM folder_kinds WHERE folder IN ({numbers})",
        (value,),
    ):
        before.setdefault(folder, {})[kind] = (count, size, cover)
    changed = [
        folder
        for folder in counted.keys() | before.keys()
        if counted.get(folder) != before.get(folder)
    ]
    db.executemany(
        "DELETE FROM folder_kinds WHERE folder = ?", ((folder,) for folder in changed)
    )
    db.executemany(
        "INSERT INTO folder_kinds (folder, kind, count, size, cover) VALUES (?, ?, ?, ?, ?)",
        (
            (folder, kind, *values)
            for folder in changed
            for kind, values in counted.get(folder, {}).items()
        ),
    )
    return bool(changed)


def _with_parents(
    db: sqlite3.Connection, share: int, folders: Collection[int]
) -> set[int]:
    """Return those of the folders that lie in a share, and all folders that they lie in."""
    found = db.execute(
        f"""
        WITH RECURSIVE up (number, parent) AS (
            SELECT number, parent FROM folders WHERE share = ? AND number IN ({",".join(map(str, folders))})
            UNION
            SELECT folders.number, folders.parent FROM up JOIN folders ON folders.number = up.parent
        )
        SELECT number FROM up
        """,
        (share,),
    )
    return {number for (number,) in found}


def _kinds(db: sqlite3.Connection, folder: int) -> _Kinds:
    """Return what was last counted in a folder."""
    found = db.execute(
        "SELECT kind, count, size, cover FROM folder_kinds WHERE folder = ?", (folder,)
    )
    return {kind: (count, size, cover) for kind, count, size, cover in found}


def _add(total: _Kinds, part: _Kinds) -> None:
    for kind, (count, size, cover) in part.items():
        more, larger, own = total.get(kind, (0, 0, None))
        total[kind] = (
            more + count,
            larger + size,
            own if own is not None else cover,
        )


def _count_months(db: sqlite3.Connection, share: int) -> bool:
    now = set(
        db.execute(
            f"""
            SELECT month, count(*), max(row) FROM items INDEXED BY items_months
            WHERE shown = {PHOTO} AND month IS NOT NULL AND share = ? GROUP BY month
            """,
            (share,),
        )
    )
    before = set(
        db.execute("SELECT month, count, cover FROM months WHERE share = ?", (share,))
    )
    _replace(db, share, {month for month, *_ in now ^ before}, now)
    return now != before


def _replace(
    db: sqlite3.Connection,
    share: int,
    months: Iterable[int],
    rows: set[tuple[int, int, int]],
) -> None:
    changed = set(months)
    db.executemany(
        "DELETE FROM months WHERE share = ? AND month = ?",
        ((share, month) for month in changed),
    )
    db.executemany(
        "INSERT INTO months (share, month, count, cover) VALUES (?, ?, ?, ?)",
        ((share, *row) for row in rows if row[0] in changed),
    )
