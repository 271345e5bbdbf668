"""The change log of the library: the items of each share in the order of their last change.

Triggers of the database note which items change, whatever part of the engine writes to them. An item gets its sequence
here, when the log is read. So a thousand changes of one item make one entry, and a home without friends pays nothing. An
item that was listed and no longer is keeps an entry as a tombstone.

Whenever entries are added, a checkpoint with a random id marks the last sequence. A home that names a checkpoint of this
log has seen this history up to there. A restored backup, a copy of the database and a rebuilt database have other
checkpoints, even where they have the same sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import sqlite3
from typing import Final

import orjson

from ..library.store import Store
from .checks import MAX_SIZE
from .wire import MAX_ITEMS, Checkpoint, Known

BATCH: Final = 5000
"""Items that get their sequences in one transaction. Writers of the index wait meanwhile."""
MAX_TOMBSTONES: Final = 100_000
"""Tombstones that are kept. If there are more, the older half is removed."""
MAX_CHECKPOINTS: Final = 50_000

LISTED: Final = f"shown IS NOT NULL AND size <= {MAX_SIZE}"
"""SQL: whether an item is listed for friends who may see its share."""

_LOGGER = logging.getLogger(__name__)


@contextmanager
def up_to_date(store: Store) -> Iterator[sqlite3.Connection]:
    """Begin a transaction in which the log has every change. Raises StoreError."""
    while True:
        with store.write() as db:
            if _number(db):
                continue
            yield db
            return


def latest(db: sqlite3.Connection) -> Checkpoint:
    """Return the checkpoint at the end of the log."""
    sequence, id_ = db.execute(
        "SELECT sequence, id FROM checkpoints ORDER BY sequence DESC LIMIT 1"
    ).fetchone()
    return Checkpoint(sequence=sequence, id=id_)


def has(db: sqlite3.Connection, checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint is in this log."""
    found = db.execute(
        "SELECT 1 FROM checkpoints WHERE sequence = ? AND id = ?",
        (checkpoint.sequence, checkpoint.id),
    ).fetchone()
    return found is not None


def is_usable(db: sqlite3.Connection, known: Known) -> bool:
    """Tell whether the log has everything that changed since a home knew so much."""
    (oldest,) = db.execute("SELECT min(sequence) FROM checkpoints").fetchone()
    return has(db, known.checkpoint) and (
        oldest <= known.sequence <= known.checkpoint.sequence
    )


def _number(db: sqlite3.Connection) -> bool:
    """Add some of the changes to the log. Return whether there are more."""
    changed = db.execute("SELECT share, row FROM changed LIMIT ?", (BATCH,)).fetchall()
    new = _new_rows(db)
    if not changed and not new:
        return False
    rows = orjson.dumps(sorted({row for _, row in changed} | set(new))).decode()
    listed = db.execute(
        "SELECT share, row FROM items WHERE row IN (SELECT value FROM json_each(?))"
        f" AND {LISTED} ORDER BY row",
        (rows,),
    ).fetchall()
    tombstones = [
        pair
        for pair in sorted(set(changed) - set(listed))
        if db.execute(
            "SELECT 1 FROM changes WHERE share = ? AND row = ? AND NOT gone", pair
        ).fetchone()
    ]
    last = latest(db).sequence
    entries = [(*pair, 0) for pair in listed] + [(*pair, 1) for pair in tombstones]
    db.executemany(
        "INSERT OR REPLACE INTO changes (sequence, share, row, gone) VALUES (?, ?, ?, ?)",
        ((sequence, *entry) for sequence, entry in enumerate(entries, last + 1)),
    )
    db.executemany("DELETE FROM changed WHERE share = ? AND row = ?", changed)
    if entries:
        db.execute(
            "INSERT INTO checkpoints VALUES (?, random())", (last + len(entries),)
        )
        _prune(db)
    return len(changed) == BATCH or len(new) == BATCH


def _new_rows(db: sqlite3.Connection) -> list[int]:
    """Return the next items that were never in the log, and move the mark after them."""
    (mark,) = db.execute("SELECT value FROM state WHERE key = 'numbered'").fetchone()
    rows = [
        row
        for (row,) in db.execute(
            "SELECT row FROM items WHERE row > ? ORDER BY row LIMIT ?", (mark, BATCH)
        )
    ]
    if rows and rows[-1] > MAX_ITEMS:
        (known,) = db.execute("SELECT count(*) FROM changes WHERE NOT gone").fetchone()
        if known + len(rows) > MAX_ITEMS:
            _LOGGER.warning("Friends are told of the first %s items only", MAX_ITEMS)
            del rows[max(0, MAX_ITEMS - known) :]
    # If the last item was removed, a new one gets its row.
    (last,) = db.execute("SELECT coalesce(max(row), 0) FROM items").fetchone()
    now = rows[-1] if rows else min(mark, last)
    if now != mark:
        db.execute("UPDATE state SET value = ? WHERE key = 'numbered'", (now,))
    return rows


def _prune(db: sqlite3.Connection) -> None:
    """Remove the oldest tombstones and checkpoints if there are too many. A home that knows no newer checkpoint gets everything."""
    for found, most in (
        ("changes WHERE gone", MAX_TOMBSTONES),
        ("checkpoints", MAX_CHECKPOINTS),
    ):
        (count,) = db.execute(f"SELECT count(*) FROM {found}").fetchone()
        if count > most:
            (floor,) = db.execute(
                f"SELECT sequence FROM {found} ORDER BY sequence LIMIT 1 OFFSET ?",
                (count - most // 2,),
            ).fetchone()
            db.execute("DELETE FROM changes WHERE gone AND sequence < ?", (floor,))
            db.execute(
                "DELETE FROM checkpoints WHERE sequence < ? AND sequence < (SELECT max(sequence) FROM checkpoints)",
                (floor,),
            )
