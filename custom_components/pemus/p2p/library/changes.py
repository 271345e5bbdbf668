"""What a scan found to be different, and how it is written into the index.

Differences are collected and written in batches, each in one transaction: a scan may be ended at any moment, also by
`kill -9`, and what it has written so far is right. An item that is missing is only marked as gone. It is forgotten when
a later complete scan misses it too, so whatever turned up elsewhere meanwhile can be told to be the same file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, count
import sqlite3
from typing import NamedTuple

from . import photo_dates
from .ids import new_nonces
from .migrations import FACTS, MUSIC, PHOTO, VIDEO
from .moves import File, MoveDetection
from .names import sort_key, stem_of
from .search_index import lower_marks, remove_words, renew_words
from .sidecars import Sidecar, matches, signature
from .store import raise_revision

type Row = tuple[int, bytes]
"""Row number and nonce: what an item's id is made of."""

SHOWN_AS = """
    CASE WHEN gone IS NULL
        AND (SELECT kinds FROM shares WHERE shares.number = items.share) >> coalesce(content_kind, kind) & 1
        THEN coalesce(content_kind, kind) END
"""
"""Whether and as what an item is listed."""
SHOWN = f"shown = {SHOWN_AS}"

_INSERT = """
    INSERT INTO items (row, folder, name, size, mtime_ns, inode, kind, shown, share, nonce, added, name_sort)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_TOGETHER = 100
"""Rows that are inserted by one statement, which is quicker than as many statements."""
_INSERT_TOGETHER = _INSERT + ", (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" * (_TOGETHER - 1)


class Folder(NamedTuple):
    """A folder that was not known yet."""

    number: int
    parent: int | None
    name: str
    path: str
    device: int | None
    inode: int | None


@dataclass(slots=True)
class ScanChanges:
    """Collects the differences of one scan of one share. For one thread."""

    share: int
    now: float
    """When the scan began; items that it misses are marked with this time."""
    first: bool
    """Whether the share was never scanned to its end: then files count as added when they were last changed."""
    known: bool
    """Whether the share had items before: if not, nothing can have moved."""
    arrivals: MoveDetection
    """Kept from scan to scan."""

    folders: list[Folder] = field(default_factory=list)
    identities: list[tuple[int, int, int]] = field(default_factory=list)
    """Device, inode and number of folders that are another one than before, or back again."""
    lost_folders: list[str] = field(default_factory=list)
    """Paths of folders that are no longer there, with all that lay in them."""
    new: list[File] = field(default_factory=list)
    returning: list[tuple[int, File]] = field(default_factory=list)
    """Files at the places of items that are gone, but not the same files. They get these items' ids, unless they are
    known ones that moved."""
    unsettled: list[tuple[int | None, File]] = field(default_factory=list)
    """New files that may still grow, with the gone item at their place. They count only if they are known ones that
    moved."""
    changed: list[tuple[int, File]] = field(default_factory=list)
    revived: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    sidecars: dict[int, list[Sidecar]] = field(default_factory=dict)
    """All subtitle files of folders whose videos or subtitle files changed."""
    listings: list[tuple[bytes, int]] = field(default_factory=list)
    """Signature and number of folders that are in the index as they are on disk, once the above is written."""

    touched: list[Row] = field(default_factory=list)
    """Items whose facts changed or that went away, since the last `take_touched`."""
    differs: bool = False
    """Whether anything was written since the scan began."""
    _inserted: list[tuple[int, File]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many differences wait to be written."""
        return (
            len(self.new)
            + len(self.returning)
            + len(self.unsettled)
            + len(self.changed)
            + len(self.revived)
            + len(self.missing)
            + len(self.folders)
            + len(self.identities)
            + len(self.lost_folders)
            + len(self.sidecars)
            + len(self.listings)
        )

    def write(self, db: sqlite3.Connection) -> None:
        """Write what was collected, in an open transaction. `clear` it once that is safe."""
        before = len(self.touched)
        self._write_folders(db)
        self._write_missing(db)
        self._write_revived(db)
        self._write_changed(db)
        new = self.new
        if self.known:
            new = [file for file in new if not self._is_move(db, file)]
            for row, file in self.unsettled:
                self._is_move(db, file, row)
        self._insert(db, new)
        for folder, found in self.sidecars.items():
            self._write_sidecars(db, folder, found)
        db.executemany("UPDATE folders SET listing = ? WHERE number = ?", self.listings)
        unseen = len(self.unsettled) + len(self.listings)
        if self.size > unseen or len(self.touched) > before:
            raise_revision(db)
            self.differs = True

    def clear(self) -> None:
        """Forget what was written."""
        self.arrivals.add(self._inserted, self.now)
        for collected in (
            self.folders,
            self.identities,
            self.lost_folders,
            self.new,
            self.returning,
            self.unsettled,
            self.changed,
            self.revived,
            self.missing,
            self.listings,
        ):
            collected.clear()
        self.sidecars.clear()

    def take_touched(self) -> list[Row]:
        """Return `touched` and begin a new list."""
        taken, self.touched = self.touched, []
        return taken

    def reconcile(self, db: sqlite3.Connection) -> None:
        """Recognise files that turned up in a new place before they were missed in the old one.

        This is the last thing of a scan, as only then is known what is gone. The item that was made for the new place
        gives way to the old one.
        """
        if not self.arrivals:
            return
        gone = db.execute(
            "SELECT row, nonce, name, size, mtime_ns, inode FROM items WHERE share = ? AND gone = ?",
            (self.share, self.now),
        ).fetchall()
        for copy, (row, nonce) in self.arrivals.same_as(gone):
            found = db.execute(
                "SELECT row, nonce, folder, name, size, mtime_ns, inode, kind FROM items WHERE row = ? AND gone IS NULL",
                (copy,),
            ).fetchone()
            if found is not None:
                forget(db, [found[:2]])
                self.touched.append(found[:2])
                self._move(db, (row, nonce), File(*found[2:]))
                raise_revision(db)
                self.differs = True

    def _write_folders(self, db: sqlite3.Connection) -> None:
        db.executemany(
            "INSERT INTO folders (number, share, parent, name, path, sort, device, inode) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    folder.number,
                    self.share,
                    folder.parent,
                    folder.name,
                    folder.path,
                    sort_key(folder.name),
                    folder.device,
                    folder.inode,
                )
                for folder in self.folders
            ),
        )
        db.executemany(
            "UPDATE folders SET device = ?, inode = ?, gone = 0 WHERE number = ?",
            self.identities,
        )

    def _write_missing(self, db: sqlite3.Connection) -> None:
        gone = list(self._mark_gone(db, "row = ?", [(row,) for row in self.missing]))
        for path in self.lost_folders:
            below = "share = ? AND (path = ? OR path > ? AND path < ?)"
            # "0" is the character after "/": everything between begins with the path and a slash.
            bounds = (self.share, path, f"{path}/", f"{path}0")
            gone += self._mark_gone(
                db, f"folder IN (SELECT number FROM folders WHERE {below})", [bounds]
            )
            db.execute(
                f"UPDATE folders SET gone = 1, sidecars = '' WHERE {below}", bounds
            )
        remove_words(db, (row for row, _ in gone))
        self.touched += gone

    def _mark_gone(
        self,
        db: sqlite3.Connection,
        which: str,
        parameters: list[tuple[int | str, ...]],
    ) -> Iterator[Row]:
        statement = f"UPDATE items SET gone = ?, shown = NULL WHERE {which} AND gone IS NULL RETURNING row, nonce"
        for values in parameters:
            yield from db.execute(statement, (self.now, *values)).fetchall()

    def _write_revived(self, db: sqlite3.Connection) -> None:
        db.executemany(
            f"UPDATE items SET gone = NULL, {_as_shown('NULL')} WHERE row = ?",
            ((row,) for row in self.revived),
        )
        renew_words(db, self.revived)

    def _write_changed(self, db: sqlite3.Connection) -> None:
        returning = [
            (row, file)
            for row, file in self.returning
            if not self._is_move(db, file, row)
        ]
        changed = self.changed + returning
        for row, file in changed:
            found = change(db, row, file)
            if found is not None:
                self.touched.append(found)
        renew_words(db, [row for row, _ in changed])

    def _insert(self, db: sqlite3.Connection, files: list[File]) -> None:
        share, now, first = self.share, self.now, self.first
        (last,) = db.execute("SELECT coalesce(max(row), 0) FROM items").fetchone()
        # In the order of the index by folder, which is quicker than none.
        ordered = sorted(
            (file.folder, file.kind, sort_key(stem_of(file.name)), file)
            for file in files
        )
        inserted = []
        rows = []
        for row, (_, kind, key, file), nonce in zip(
            count(last + 1), ordered, new_nonces(len(files)), strict=False
        ):
            added = min(file.mtime_ns / 1e9, now) if first else now
            inserted.append((row, file))
            rows.append((row, *file, kind, share, nonce, added, key))
        whole = len(rows) - len(rows) % _TOGETHER
        for start in range(0, whole, _TOGETHER):
            values = chain.from_iterable(rows[start : start + _TOGETHER])
            db.execute(_INSERT_TOGETHER, tuple(values))
        db.executemany(_INSERT, rows[whole:])
        self._inserted = inserted if self.known else []

    def _is_move(
        self, db: sqlite3.Connection, file: File, instead: int | None = None
    ) -> bool:
        """Tell whether a new file is one that is gone from elsewhere, and move the item if so.

        The gone item `instead`, which had the place before, is then forgotten for good.
        """
        found = db.execute(
            """
            SELECT row, nonce FROM items
            WHERE inode = ? AND share = ? AND size = ? AND mtime_ns = ? AND gone IS NOT NULL
            ORDER BY gone DESC, row
            """,
            (file.inode, self.share, file.size, file.mtime_ns),
        ).fetchone()
        if found is None:
            return False
        if instead is not None:
            forget(db, [(instead, b"")])
        self._move(db, found, file)
        return True

    def _move(self, db: sqlite3.Connection, item: Row, file: File) -> None:
        row, _ = item
        key = sort_key(stem_of(file.name))
        month, moment = photo_dates.of_file(file.mtime_ns)
        # With the name, the kind may change, and with it by what the item is sorted.
        db.execute(
            f"""
            UPDATE items SET folder = ?1, name = ?2, inode = ?3, kind = ?4, gone = NULL, name_sort = ?5,
                title_sort = CASE WHEN coalesce(content_kind, ?4) = {MUSIC}
                    THEN iif(json_extract(facts, '$.title') IS NULL, ?5, coalesce(title_sort, ?5)) END,
                month = CASE WHEN coalesce(content_kind, ?4) = {PHOTO} THEN coalesce(month, ?6) END,
                moment = CASE WHEN coalesce(content_kind, ?4) = {PHOTO} THEN coalesce(moment, ?7) END
            WHERE row = ?8
            """,
            (
                *(file.folder, file.name, file.inode, file.kind, key),
                *(month, moment, row),
            ),
        )
        db.execute(f"UPDATE items SET {SHOWN} WHERE row = ?", (row,))
        db.execute("DELETE FROM subtitles WHERE item = ?", (row,))
        renew_words(db, [row])
        self.touched.append(item)

    def _write_sidecars(
        self, db: sqlite3.Connection, folder: int, found: list[Sidecar]
    ) -> None:
        videos: dict[str, int] = {}
        nonces: dict[int, bytes] = {}
        before: dict[int, list[tuple[str, int, int]]] = {}
        for row, nonce, name in db.execute(
            "SELECT row, nonce, name FROM items WHERE folder = ? AND kind = ? AND gone IS NULL",
            (folder, VIDEO),
        ):
            videos[name] = row
            nonces[row] = nonce
        for row, name, size, mtime_ns in db.execute(
            """
            SELECT item, name, size, mtime_ns FROM subtitles
            WHERE item IN (SELECT row FROM items WHERE folder = ?) ORDER BY item, position
            """,
            (folder,),
        ):
            before.setdefault(row, []).append((name, size, mtime_ns))
        belonging = matches(videos, found)
        for row in before.keys() | belonging.keys():
            now = belonging.get(row, [])
            described = [(it.name, it.size, it.mtime_ns) for it, _ in now]
            if described == before.get(row, []):
                continue
            db.execute("DELETE FROM subtitles WHERE item = ?", (row,))
            db.executemany(
                "INSERT INTO subtitles (item, position, name, size, mtime_ns, language) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (row, position, it.name, it.size, it.mtime_ns, language)
                    for position, (it, language) in enumerate(now)
                ),
            )
            if row in nonces:
                self.touched.append((row, nonces[row]))
        db.execute(
            "UPDATE folders SET sidecars = ? WHERE number = ?",
            (signature(found), folder),
        )


def change(db: sqlite3.Connection, row: int, file: File) -> Row | None:
    """Write that the file of an item has other content now; return the item if it exists."""
    found: Row | None = db.execute(
        f"""
        UPDATE items SET size = ?, mtime_ns = ?, inode = ?, kind = ?, gone = NULL, level = NULL, has_picture = NULL,
            picture = NULL,
            todo = iif(row <= (SELECT worded FROM shares WHERE shares.number = items.share), {FACTS}, NULL),
            {_as_shown("NULL")}
        WHERE row = ? RETURNING row, nonce
        """,
        (file.size, file.mtime_ns, file.inode, file.kind, row),
    ).fetchone()
    return found


def forget(db: sqlite3.Connection, items: list[Row]) -> None:
    """Remove items for good."""
    rows = [(row,) for row, _ in items]
    remove_words(db, (row for (row,) in rows))
    db.executemany("DELETE FROM subtitles WHERE item = ?", rows)
    db.executemany("DELETE FROM items WHERE row = ?", rows)
    lower_marks(db)


def _as_shown(gone: str) -> str:
    """Return the assignment SHOWN for a statement that sets `gone` as well: an assignment sees the values from before."""
    return SHOWN.replace("gone IS NULL", f"{gone} IS NULL")
