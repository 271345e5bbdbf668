"""Makes items findable: puts their words into the search index, and new ones into the lists by title and by month.

A scan writes names, sizes and times only, in order to be quick. What is done here follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import sqlite3

import orjson

from . import photo_dates
from .migrations import FACTS, MUSIC, PHOTO
from .names import spaced
from .store import Store

BATCH = 2000
"""Items per transaction, so that others who want to write wait a moment only."""
_CHUNK = 500

_SELECT = """
    SELECT items.row, items.facts, items.name, folders.path, items.shown, items.share
    FROM items JOIN folders ON folders.number = items.folder JOIN shares ON shares.number = items.share
    WHERE {which} AND items.shown IS NOT NULL
"""


def remove_words(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Take items out of the search index."""
    db.executemany("DELETE FROM words WHERE rowid = ?", ((row,) for row in rows))


def renew_words(db: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Put items into the search index as they are now; hidden ones are not in it, and new ones get there in their turn."""
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        remove_words(db, chunk)
        places = ",".join("?" * len(chunk))
        _insert(
            db,
            f"items.row IN ({places}) AND items.row <= shares.worded",
            chunk,
        )


def make_findable(store: Store, share: int) -> bool:
    """Make some new items of a share findable, after which they wait to be read; return whether there were any."""
    with store.read() as db:
        if not _new(db, share)[1]:
            return False
    with store.write() as db:
        mark, rows = _new(db, share)
        if not rows:
            return False
        bounds = (mark, rows[-1][0], share)
        _insert(db, "items.row > ? AND items.row <= ? AND items.share = ?", bounds)
        db.executemany(
            f"UPDATE items SET todo = {FACTS}, title_sort = ?, month = ?, moment = ? WHERE row = ?",
            [_sorted(*each) for each in rows],
        )
        db.execute("UPDATE shares SET worded = ? WHERE number = ?", bounds[1:])
    return True


def _new(
    db: sqlite3.Connection, share: int
) -> tuple[int, list[tuple[int, int, str, int]]]:
    """Return the mark of a share, and what is to be sorted of the next items behind it."""
    found = db.execute(
        "SELECT worded FROM shares WHERE number = ?", (share,)
    ).fetchone()
    if found is None:
        return 0, []
    rows = db.execute(
        "SELECT row, kind, name_sort, mtime_ns FROM items WHERE row > ? AND share = ? ORDER BY row LIMIT ?",
        (found[0], share, BATCH),
    ).fetchall()
    return found[0], rows


def _sorted(
    row: int, kind: int, name_sort: str, mtime_ns: int
) -> tuple[str | None, int | None, float | None, int]:
    if kind == PHOTO:
        return (None, *photo_dates.of_file(mtime_ns), row)
    return (name_sort if kind == MUSIC else None, None, None, row)


def lower_marks(db: sqlite3.Connection) -> None:
    """Let the marks of the shares follow after items were removed: a new item may get the number of the last one."""
    db.execute(
        "UPDATE shares SET worded = min(worded, (SELECT coalesce(max(row), 0) FROM items))"
    )


def _insert(db: sqlite3.Connection, which: str, values: Sequence[int]) -> None:
    found = db.execute(_SELECT.format(which=which), values).fetchall()
    db.executemany(
        "INSERT INTO words (rowid, title, people, album, place, tags) VALUES (?, ?, ?, ?, ?, ?)",
        [_words(*each) for each in found],
    )


def _words(
    row: int, facts: str | None, name: str, path: str, shown: int, share: int
) -> tuple[int, str, str | None, str | None, str, str]:
    titles, people, album = name, None, None
    if facts is not None:
        known = orjson.loads(facts)
        album = known.get("album")
        people = " ".join(
            known[each] for each in ("artist", "album_artist") if each in known
        )
        if "title" in known:
            # The file name stays findable.
            titles = f"{known['title']} {name}"
    return (
        row,
        spaced(titles),
        spaced(people) if people else None,
        spaced(album) if album else None,
        spaced(path),
        f"k{shown} s{share}",
    )
