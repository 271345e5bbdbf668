"""The database of a library: its schema, and what its statements use."""

from __future__ import annotations

from itertools import count
from pathlib import Path
import sqlite3

from ..core.sqlite import Database, migrate
from .migrations import STEPS
from .names import LAST, sort_key


class Store(Database):
    """The index of the library."""

    what = "the index of the library"

    def __init__(self, path: Path) -> None:
        """Prepare an index in the file `path`, whose folder exists."""
        super().__init__(path)
        self._folders = count(1)

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Bring the index up to date. Raises TooNew and sqlite3.Error."""
        migrate(connection, STEPS, self.what)
        row = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'folders'"
        ).fetchone()
        self._folders = count(row[0] + 1 if row else 1)

    def set_up(self, connection: sqlite3.Connection) -> None:
        """Let statements sort titles as people do."""
        connection.create_function("sort_key", 1, _sort_key, deterministic=True)

    def new_folder_number(self) -> int:
        """Return a number that no folder has had."""
        return next(self._folders)


def raise_revision(db: sqlite3.Connection) -> None:
    """Note that the library changed."""
    db.execute("UPDATE state SET value = value + 1 WHERE key = 'revision'")


def _sort_key(title: str | None) -> str:
    return LAST if title is None else sort_key(title)
