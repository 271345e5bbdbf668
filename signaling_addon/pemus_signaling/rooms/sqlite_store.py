"""Rooms in an SQLite database of this process: in a file, so that links survive a restart, or in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import logging
from pathlib import Path
import sqlite3
import time
from typing import Any, Final

from pemus_signaling.cluster.cluster import StoreAwayError

from .store import MAX_ROOMS, Created, Room, decode_room, encode_room

_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
-- A home that was told that its room is closed does not close it again after a power failure.
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS rooms (
  slug TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  network TEXT NOT NULL,
  ended INTEGER NOT NULL,
  forgotten INTEGER NOT NULL,
  body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rooms_host ON rooms (host, ended);
CREATE INDEX IF NOT EXISTS rooms_network ON rooms (network);
CREATE INDEX IF NOT EXISTS rooms_forgotten ON rooms (forgotten);
"""
_COUNT_OPEN: Final = "SELECT count(*) FROM rooms WHERE host = ? AND ended > ?"
_COUNT_NETWORK: Final = "SELECT count(*) FROM rooms WHERE network = ?"
_COUNT_ALL: Final = "SELECT count(*) FROM rooms"
# A home that creates and closes rooms without end must not fill the database.
_DELETE_OLDEST: Final = """
DELETE FROM rooms WHERE slug IN (
  SELECT slug FROM rooms WHERE host = ? AND ended <= ? ORDER BY ended DESC LIMIT -1 OFFSET ?
)
"""

_LOGGER = logging.getLogger(__name__)


class SqliteStore:
    """Keeps rooms in a database. One thread does all work on it, in the order of the calls."""

    def __init__(self, file: Path | None = None, most: int = MAX_ROOMS) -> None:
        """Prepare to keep up to `most` rooms. `file` belongs to this process alone. Without it, rooms are in memory."""
        self._file = file
        self._most = most
        self._thread = ThreadPoolExecutor(1, "rooms")
        self._database: sqlite3.Connection | None = None

    async def start(self) -> list[Room]:
        """Open the database. Return all rooms. Raises OSError."""
        await self._in_thread(self._open)
        return await self.all_rooms()

    async def close(self) -> None:
        """Close the database, after pending writes."""
        if self._database is not None:
            await self._in_thread(self._close)
        self._thread.shutdown()

    async def create(
        self, room: Room, most: int, in_network: int = MAX_ROOMS
    ) -> Created:
        """Add a room, as `RoomStore.create` says."""

        def create(database: sqlite3.Connection) -> Created:
            def count(query: str, *values: Any) -> int:
                return int(database.execute(query, values).fetchone()[0])

            now = time.time()
            database.execute("DELETE FROM rooms WHERE forgotten <= ?", (now,))
            if count("SELECT count(*) FROM rooms WHERE slug = ?", room.slug):
                return Created.TAKEN
            if count(_COUNT_OPEN, room.host, now) >= most:
                return Created.TOO_MANY
            database.execute(_DELETE_OLDEST, (room.host, now, most - 1))
            if count(_COUNT_NETWORK, room.network) >= in_network:
                return Created.CROWDED
            if count(_COUNT_ALL) >= self._most:
                return Created.FULL
            _write(database, room)
            return Created.DONE

        return await self._ask(create)

    async def get(self, slug: str) -> Room | None:
        """Return a room, including one that is gone."""
        found = await self._select("slug = ? AND forgotten > ?", slug, time.time())
        return found[0] if found else None

    async def replace(self, old: Room, new: Room) -> bool:
        """Change a room. Return False if it is not equal to `old`."""

        def change(database: sqlite3.Connection) -> bool:
            query = "SELECT body FROM rooms WHERE slug = ?"
            if database.execute(query, (old.slug,)).fetchone() != (encode_room(old),):
                return False
            _write(database, new)
            return True

        return await self._ask(change)

    async def rooms_of(self, host: str) -> list[Room]:
        """Return the rooms of a home, including those that are gone."""
        return await self._select("host = ?", host)

    async def all_rooms(self) -> list[Room]:
        """Return the rooms of all homes."""
        return await self._select("TRUE")

    async def _select(self, condition: str, *values: Any) -> list[Room]:
        query = f"SELECT body FROM rooms WHERE {condition}"  # noqa: S608 - only this module's own conditions
        rows = await self._ask(
            lambda database: database.execute(query, values).fetchall()
        )
        return [room for (body,) in rows if (room := decode_room(body)) is not None]

    async def _ask[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` as one transaction. Raises StoreAwayError; then nothing has changed."""
        return await self._in_thread(lambda: self._transact(work))

    async def _in_thread[T](self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _transact[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._database is None:
            raise StoreAwayError("the database is closed")
        try:
            with self._database:
                return work(self._database)
        except sqlite3.Error as error:
            # The home is told to try again. Only the operator can solve the problem.
            _LOGGER.error("A room could not be read or written: %s", error)
            raise StoreAwayError(str(error)) from error

    def _open(self) -> None:
        if self._file is None:
            self._connect(":memory:")
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connect(self._file)
        except sqlite3.OperationalError as error:
            # The disk is full, or another process has the file. The file itself is intact.
            self._close()
            raise OSError(f"{self._file.name} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            self._close()
            aside = self._file.with_suffix(".broken")
            _LOGGER.error(
                "The file of rooms cannot be read and is moved to %s: %s",
                aside.name,
                error,
            )
            self._file.replace(aside)
            for left in ("-wal", "-shm"):
                self._file.with_name(self._file.name + left).unlink(missing_ok=True)
            self._connect(self._file)

    def _connect(self, database: Path | str) -> None:
        self._database = sqlite3.connect(database)
        self._database.executescript(_SCHEMA)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _write(database: sqlite3.Connection, room: Room) -> None:
    database.execute(
        "INSERT OR REPLACE INTO rooms VALUES (?, ?, ?, ?, ?, ?)",
        (
            room.slug,
            room.host,
            room.network,
            room.ended,
            room.forgotten,
            encode_room(room),
        ),
    )
