"""A shared folder on a real disk, and a real index of it, for the tests of the library's parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import sqlite3
import threading
import time

import pytest

from p2p.library.aggregates import refresh
from p2p.library.changes import Row
from p2p.library.ids import item_id
from p2p.library.moves import MoveDetection
from p2p.library.scan import Ground, Outcome, Scan
from p2p.library.search_index import make_findable
from p2p.library.store import Store
from p2p.models import Kind

LONG_AGO = 1_600_000_000
"""A time of change of files that have settled."""


class Share:
    """A folder, the index of it, and what a test wants to know and do about them."""

    def __init__(self, root: Path, store: Store, name: str = "share") -> None:
        self.root = root
        self.store = store
        self.name = name
        self.kinds = tuple(Kind)
        self.faults: set[str] = set()
        self.arrivals = MoveDetection()
        self.touched: list[str] = []
        self.purged: list[Row] = []
        with store.write() as db:
            self.number: int = db.execute(
                "INSERT INTO shares (id, path, kinds) VALUES (?, ?, 7) RETURNING number",
                (name, str(root)),
            ).fetchone()[0]

    def put(
        self, path: str, content: bytes | str = b"content", at: float = LONG_AGO
    ) -> Path:
        """Write a file that has settled."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(target, (at, at))
        return target

    def scan(
        self,
        *folders: str,
        stop: threading.Event | None = None,
        progress: Callable[[int], None] = lambda seen: None,
    ) -> Outcome:
        """Scan some folders, or everything."""
        scan = Scan(
            self.store,
            Ground(number=self.number, path=str(self.root), kinds=self.kinds),
            faults=self.faults,
            arrivals=self.arrivals,
            stop=stop,
            progress=progress,
            touched=lambda rows: self.touched.extend(item_id(*each) for each in rows),
        )
        outcome = scan.folders(folders) if folders else scan.everything()
        self.purged += outcome.purged
        while make_findable(self.store, self.number):
            pass
        refresh(self.store, self.number)
        return outcome

    def rows(self, columns: str, where: str = "shown IS NOT NULL") -> list[tuple]:
        """Return columns of items of this share."""
        with self.store.read() as db:
            return db.execute(
                f"""
                SELECT {columns} FROM (SELECT items.*, path FROM items JOIN folders ON number = folder)
                WHERE share = ? AND {where} ORDER BY path, name
                """,
                (self.number,),
            ).fetchall()

    def ids(self) -> dict[str, str]:
        """Return the ids of the listed items by their paths."""
        return {
            f"{folder}/{name}" if folder else name: item_id(row, nonce)
            for folder, name, row, nonce in self.rows("path, name, row, nonce")
        }

    @property
    def paths(self) -> list[str]:
        """The paths of the listed items."""
        return list(self.ids())

    def found(self, words: str) -> list[str]:
        """Return the names of items that the search index finds."""
        with self.store.read() as db:
            return sorted(
                name
                for (name,) in db.execute(
                    "SELECT name FROM words JOIN items ON items.row = words.rowid WHERE words MATCH ?",
                    (words,),
                )
            )

    def counts(self, folder: str = "") -> dict[int, tuple[int, int]]:
        """Return how many items of which kind, and of what size, lie in a folder and below it."""
        with self.store.read() as db:
            return {
                kind: (count, size)
                for kind, count, size in db.execute(
                    "SELECT kind, count, folder_kinds.size FROM folder_kinds JOIN folders ON number = folder"
                    " WHERE share = ? AND path = ?",
                    (self.number, folder),
                )
            }


def settle(path: Path) -> None:
    """Make a file look as if it had been left alone for long."""
    os.utime(path, (LONG_AGO, LONG_AGO))


def check(db: sqlite3.Connection) -> None:
    """Fail if parts of the index contradict each other."""
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    assert not db.execute(
        "SELECT folder, name, count(*) FROM items WHERE gone IS NULL GROUP BY folder, name HAVING count(*) > 1"
    ).fetchall()
    listed = set(db.execute("SELECT row FROM items WHERE shown IS NOT NULL"))
    assert set(db.execute("SELECT rowid FROM words")) == listed
    assert not db.execute(
        "SELECT row FROM items WHERE folder NOT IN (SELECT number FROM folders)"
    ).fetchall()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An open index that must be sound at the end."""
    (tmp_path / "data").mkdir()
    opened = Store(tmp_path / "data" / "library.db")
    opened.open()
    try:
        yield opened
        with opened.write() as db:
            check(db)
    finally:
        opened.close()


@pytest.fixture
def share(tmp_path: Path, store: Store) -> Share:
    """An empty shared folder."""
    root = tmp_path / "share"
    root.mkdir()
    return Share(root, store)


def later(seconds: float) -> float:
    """Return a time in the future."""
    return time.time() + seconds
