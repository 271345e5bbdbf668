"""The owner's database: the hashes of files, and which home may fetch which item.

Times are seconds since the Unix epoch. A file is identified by inode, size and modification time, but not by its device: on some
systems a device has another number after each mount, and files that agree in all three are copies of each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import sqlite3
import threading
from typing import Final

from ..core.sqlite import Database, StoreBroken, fit, migrate
from ..models import LocalFile

DATABASE: Final = "swarm.db"
SEEN_AGAIN: Final = 7 * 86400.0
"""Seconds after which it is recorded again that a file still exists."""
KEPT: Final = 60 * 86400.0
"""Seconds for which the hashes of a missing file are kept: its disk may be unplugged for a while."""

STEPS: Final = (
    """
    CREATE TABLE files (
        number INTEGER PRIMARY KEY,
        inode INTEGER NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        seen REAL NOT NULL -- when it was last known to be there, within a week
    );
    CREATE UNIQUE INDEX files_by_version ON files (inode, mtime_ns, size);
    -- Apart from the files, so that looking through those does not read these.
    CREATE TABLE hashes (number INTEGER PRIMARY KEY, piece_length INTEGER NOT NULL, pieces BLOB NOT NULL);
    CREATE TRIGGER files_removed AFTER DELETE ON files
    BEGIN
        DELETE FROM hashes WHERE number = old.number;
    END;

    CREATE TABLE grants (
        receiver TEXT NOT NULL,
        item TEXT NOT NULL,
        salt BLOB NOT NULL,
        expires REAL NOT NULL,
        PRIMARY KEY (receiver, item)
    ) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a file. As long as these values stay the same, so does the content."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: LocalFile) -> Version:
        """Return the version of a file."""
        return cls(file.inode, file.size, file.mtime_ns)

    @property
    def key(self) -> tuple[int, int, int]:
        """Return it as the database has it: inode, time, size."""
        return fit(self.inode), fit(self.mtime_ns), self.size


@dataclass(frozen=True, slots=True)
class Grant:
    """The right of one home to fetch one item."""

    receiver: str
    item: str
    salt: bytes
    """Makes the torrent this receiver's own."""
    expires: float


class SwarmStore(Database):
    """The owner's database. All methods except `run` block."""

    what = "the list of hashes and tickets"

    def __init__(self, path: Path) -> None:
        """Prepare a database in the file `path`, whose folder exists."""
        super().__init__(path)
        self._mending = threading.Lock()

    async def run[**P, T](
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method in a thread. If the database is damaged, it is made anew and the call repeated. Raises StoreError."""
        return await asyncio.to_thread(
            lambda: self._attempt(lambda: function(*args, **kwargs))
        )

    def _attempt[T](self, work: Callable[[], T]) -> T:
        try:
            return work()
        except StoreBroken:
            with self._mending:
                # Another thread may have repaired it meanwhile.
                if self.broken:
                    self.replace()
            return work()

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Bring the database up to date. Raises TooNew and sqlite3.Error."""
        migrate(connection, STEPS, self.what)

    # Hashes.

    def hashes(self, version: Version, piece_length: int) -> bytes | None:
        """Return the hashes of a file's pieces, None if they are not known."""
        return self.hashes_of({version: piece_length}).get(version)

    def hashes_of(self, wanted: Mapping[Version, int]) -> dict[Version, bytes]:
        """Return the known hashes of files, for pieces of the given lengths."""
        found: dict[Version, bytes] = {}
        with self.read() as db:
            for version, piece_length in wanted.items():
                row = db.execute(
                    """
                    SELECT pieces FROM files JOIN hashes USING (number)
                    WHERE inode = ? AND mtime_ns = ? AND size = ? AND piece_length = ?
                    """,
                    (*version.key, piece_length),
                ).fetchone()
                if row is not None:
                    found[version] = bytes(row[0])
        return found

    def keep_hashes(
        self, version: Version, piece_length: int, pieces: bytes, now: float
    ) -> None:
        """Store the hashes of a file's pieces."""
        with self.write() as db:
            (number,) = db.execute(
                """
                INSERT INTO files (inode, mtime_ns, size, seen) VALUES (?, ?, ?, ?)
                ON CONFLICT (inode, mtime_ns, size) DO UPDATE SET seen = excluded.seen RETURNING number
                """,
                (*version.key, now),
            ).fetchone()
            db.execute(
                "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)",
                (number, piece_length, pieces),
            )

    def forget_hashes(self, version: Version) -> None:
        """Forget the hashes of a file, because they are wrong."""
        with self.write() as db:
            db.execute(
                "DELETE FROM files WHERE inode = ? AND mtime_ns = ? AND size = ?",
                version.key,
            )

    def known(self, versions: Collection[Version], now: float) -> set[Version]:
        """Return the versions whose hashes are known, and record that these files still exist."""
        found: dict[Version, tuple[int, float]] = {}
        with self.read() as db:
            for version in versions:
                row = db.execute(
                    "SELECT number, seen FROM files WHERE inode = ? AND mtime_ns = ? AND size = ?",
                    version.key,
                ).fetchone()
                if row is not None:
                    found[version] = row
        stale = [number for number, seen in found.values() if seen < now - SEEN_AGAIN]
        if stale:
            with self.write() as db:
                db.executemany(
                    "UPDATE files SET seen = ? WHERE number = ?",
                    ((now, number) for number in stale),
                )
        return set(found)

    def forget_unseen(self, now: float) -> int:
        """Forget the hashes of files that are missing for long. Return how many there were."""
        with self.write() as db:
            return db.execute(
                "DELETE FROM files WHERE seen < ?", (now - KEPT,)
            ).rowcount

    # Grants.

    def grant(self, grant: Grant) -> None:
        """Store a grant. It replaces an older one for the same receiver and item."""
        with self.write() as db:
            db.execute(
                """
                INSERT OR REPLACE INTO grants (receiver, item, salt, expires)
                VALUES (?, ?, ?, ?)
                """,
                (
                    grant.receiver,
                    grant.item,
                    grant.salt,
                    grant.expires,
                ),
            )

    def revoke(self, grants: Iterable[Grant]) -> None:
        """Forget grants, except those that were renewed with another salt meanwhile."""
        with self.write() as db:
            db.executemany(
                "DELETE FROM grants WHERE receiver = ? AND item = ? AND salt = ?",
                ((each.receiver, each.item, each.salt) for each in grants),
            )

    def grants(self) -> Sequence[Grant]:
        """Return all grants, those that expire last first."""
        with self.read() as db:
            return [
                Grant(receiver, item, salt, expires)
                for receiver, item, salt, expires in db.execute(
                    "SELECT receiver, item, salt, expires FROM grants ORDER BY expires DESC"
                )
            ]
