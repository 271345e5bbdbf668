"""What is known of rooms, and where it is kept.

A room that was closed or has expired is remembered (`REMEMBERED`) for as long as a token of it may live: its link answers that it is gone,
and its tokens stay revoked through a restart of the server.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
import logging
from pathlib import Path
import sqlite3
import time
from typing import Any, Final, Protocol

import orjson

from pemus_signaling.cluster.cluster import StoreAwayError

from .tokens import REMEMBERED

MAX_ROOMS: Final = 50_000
"""Rooms that one process keeps, with those that are remembered."""
SWEEP_INTERVAL: Final = 60.0
"""Seconds between two looks for rooms to forget."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What a home tells of a room's file to everyone who has the link."""

    name: str | None = None
    type: str | None = None
    """The media type (RFC 6838)."""
    size: int | None = None
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Room:
    """A link of a home's for guests."""

    slug: str
    host: str
    """The home's PeMuS ID."""
    key: bytes
    """The home's public key, with which it signs tokens for this room."""
    password: bool
    """Whether to ask guests for a password. The home alone knows it."""
    expires: int
    """The time of its end, in seconds since 1970."""
    published: Published | None = None
    closed: int | None = None
    """When its home closed it, if it did."""
    revoked: tuple[tuple[str, int], ...] = ()
    """The ids of tokens that its home revoked, and when these may be forgotten."""
    network: str = ""
    """The network that made it, for the total of that."""
    renew_by: int | None = None
    """When it ends if its home does not say before that it still wants it, in seconds since 1970."""

    def is_gone(self, now: float) -> bool:
        """Tell whether it was closed or has expired."""
        return self.closed is not None or self.ends <= now

    def is_forgotten(self, now: float) -> bool:
        """Tell whether nobody can have a token for it any more."""
        return self.is_gone(now) and self.ended + REMEMBERED <= now

    @property
    def ended(self) -> int:
        """When it was closed, or else when it ends by itself."""
        return self.ends if self.closed is None else min(self.closed, self.ends)

    @property
    def ends(self) -> int:
        """When it ends by itself, as far as is known now."""
        return (
            self.expires if self.renew_by is None else min(self.expires, self.renew_by)
        )


class Created(Enum):
    """How an attempt to create a room ended."""

    DONE = auto()
    TAKEN = auto()
    """There is one with this slug."""
    TOO_MANY = auto()
    """Its home has as many as it may have."""
    CROWDED = auto()
    """Its network has as many as it may have."""
    FULL = auto()
    """The server has as many as it can keep."""


class RoomStore(Protocol):
    """Keeps rooms. Each of its methods happens at once or not at all, or raises StoreAwayError."""

    async def start(self) -> list[Room]:
        """Get ready. Return the rooms of which nothing else remembers what was revoked."""

    async def close(self) -> None:
        """End, when everything is written."""

    async def create(
        self, room: Room, most: int, in_network: int = MAX_ROOMS
    ) -> Created:
        """Keep a new room, if its home has less than `most` open ones.

        Its network must have less than `in_network`, with those that are gone but remembered: homes cost nothing.
        """

    async def get(self, slug: str) -> Room | None:
        """Return a room, also one that is gone but not forgotten."""

    async def replace(self, old: Room, new: Room) -> bool:
        """Change a room. Return False if it is not `old` any more, because somebody else changed it meanwhile."""

    async def rooms_of(self, host: str) -> list[Room]:
        """Return the rooms of a home, also those that are gone."""


def encode_room(room: Room) -> bytes:
    """Return a room in the form in which it is kept outside of this process."""
    return orjson.dumps({**asdict(room), "key": urlsafe_b64encode(room.key).decode()})


def decode_room(data: bytes) -> Room:
    """Return the room that `encode_room` wrote. Raises ValueError, KeyError or TypeError if it did not."""
    values: dict[str, Any] = orjson.loads(data)
    published = values.pop("published")
    return Room(
        **{
            **values,
            "key": urlsafe_b64decode(values["key"]),
            "published": None if published is None else Published(**published),
            "revoked": tuple(
                (str(token), int(until)) for token, until in values["revoked"]
            ),
        }
    )


class MemoryStore:
    """Keeps rooms in memory and, with a file, also in that, for when this process starts again."""

    def __init__(self, file: Path | None = None, most: int = MAX_ROOMS) -> None:
        """Prepare. `file` is an SQLite database of this process alone, made if it is not there; `most` bounds all rooms."""
        self._file = _File(file) if file is not None else None
        self._most = most
        self._rooms: dict[str, Room] = {}
        self._homes: dict[str, set[str]] = {}
        self._networks: dict[str, set[str]] = {}
        self._swept = float("-inf")
        self._changing = asyncio.Lock()

    async def start(self) -> list[Room]:
        """Read the file, if there is one, and return the rooms. Raises OSError."""
        if self._file is not None:
            for room in await self._file.open():
                self._put(room)
        return await self.all_rooms()

    async def close(self) -> None:
        """End, when everything is written."""
        if self._file is not None:
            await self._file.close()

    async def create(
        self, room: Room, most: int, in_network: int = MAX_ROOMS
    ) -> Created:
        """Keep a new room. Raises StoreAwayError if it cannot be written; then nothing has changed."""
        async with self._changing:
            now = time.time()
            forgotten = self._to_forget(now)
            created = self._place_for(room, most, in_network, now, forgotten)
            await self._apply(room if created is Created.DONE else None, forgotten)
            return created

    async def get(self, slug: str) -> Room | None:
        """Return a room."""
        room = self._rooms.get(slug)
        return None if room is None or room.is_forgotten(time.time()) else room

    async def replace(self, old: Room, new: Room) -> bool:
        """Change a room, unless somebody did meanwhile. Raises StoreAwayError if that cannot be written; then nothing has changed."""
        async with self._changing:
            if self._rooms.get(old.slug) != old:
                return False
            await self._apply(new, set())
            return True

    async def rooms_of(self, host: str) -> list[Room]:
        """Return the rooms of a home."""
        return [self._rooms[slug] for slug in self._homes.get(host, ())]

    async def all_rooms(self) -> list[Room]:
        """Return the rooms of all homes."""
        return list(self._rooms.values())

    def _place_for(
        self,
        room: Room,
        most: int,
        in_network: int,
        now: float,
        forgotten: set[str],
    ) -> Created:
        """Tell whether there is a place for a room. What has to go for it is added to `forgotten`."""
        if room.slug in self._rooms:
            return Created.TAKEN
        own = [
            self._rooms[slug]
            for slug in self._homes.get(room.host, ())
            if slug not in forgotten
        ]
        gone = sorted(
            (other for other in own if other.is_gone(now)),
            key=lambda other: other.ended,
        )
        if len(own) - len(gone) >= most:
            return Created.TOO_MANY
        # A home that creates and closes without end must not fill the memory with what is remembered of that.
        forgotten.update(other.slug for other in gone[: max(0, len(gone) - most + 1)])
        if len(self._networks.get(room.network, set()) - forgotten) >= in_network:
            return Created.CROWDED
        if len(self._rooms) - len(forgotten) >= self._most:
            return Created.FULL
        return Created.DONE

    def _to_forget(self, now: float) -> set[str]:
        if now < self._swept + SWEEP_INTERVAL and len(self._rooms) < self._most:
            return set()
        self._swept = now
        return {room.slug for room in self._rooms.values() if room.is_forgotten(now)}

    async def _apply(self, room: Room | None, forgotten: set[str]) -> None:
        """Change the file first: what is said to have happened has to be so after a restart, too."""
        if self._file is not None and (room is not None or forgotten):
            await self._file.write(room, forgotten)
        for slug in forgotten:
            self._drop(self._rooms[slug])
        if room is not None:
            self._put(room)

    def _put(self, room: Room) -> None:
        self._rooms[room.slug] = room
        self._homes.setdefault(room.host, set()).add(room.slug)
        self._networks.setdefault(room.network, set()).add(room.slug)

    def _drop(self, room: Room) -> None:
        del self._rooms[room.slug]
        for sets, key in ((self._homes, room.host), (self._networks, room.network)):
            sets[key].discard(room.slug)
            if not sets[key]:
                del sets[key]


class _File:
    """The file of a store. All work on it is done in one thread, in the order in which it was asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "rooms")
        self._database: sqlite3.Connection | None = None

    async def open(self) -> list[Room]:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._open
        )

    async def write(self, room: Room | None, forgotten: set[str]) -> None:
        """Change both at once. Raises StoreAwayError; then nothing has changed."""
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._write, room, forgotten
        )

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _open(self) -> list[Room]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._read()
        except sqlite3.OperationalError as error:
            # The disk is full, or somebody else has it: nothing is wrong with the file.
            self._close()
            raise OSError(f"{self._path.name} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            self._close()
            aside = self._path.with_suffix(".broken")
            _LOGGER.error(
                "The file of rooms cannot be read and is put aside as %s: %s",
                aside.name,
                error,
            )
            self._path.replace(aside)
            for left in ("-wal", "-shm"):
                self._path.with_name(self._path.name + left).unlink(missing_ok=True)
            return self._read()

    def _read(self) -> list[Room]:
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        # A home that was told that its room is closed does not close it again after a power cut.
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS room (slug TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"
        )
        rooms = []
        for slug, body in self._database.execute(
            "SELECT slug, body FROM room"
        ).fetchall():
            try:
                rooms.append(decode_room(body))
            except (ValueError, KeyError, TypeError) as error:
                _LOGGER.warning(
                    "A room cannot be read and is forgotten: %s", type(error).__name__
                )
                self._database.execute("DELETE FROM room WHERE slug = ?", (slug,))
        return rooms

    def _write(self, room: Room | None, forgotten: set[str]) -> None:
        if self._database is None:
            raise StoreAwayError("the file is closed")
        try:
            self._database.execute("BEGIN")
            self._database.executemany(
                "DELETE FROM room WHERE slug = ?", ((slug,) for slug in forgotten)
            )
            if room is not None:
                self._database.execute(
                    "INSERT OR REPLACE INTO room VALUES (?, ?)",
                    (room.slug, encode_room(room)),
                )
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            # A home is told to try again. Only who runs the server can do something about it.
            _LOGGER.error("A room could not be written: %s", error)
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise StoreAwayError(str(error)) from error

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def without_old(
    revoked: tuple[tuple[str, int], ...], now: float
) -> tuple[tuple[str, int], ...]:
    """Return those of the revoked tokens that have not expired yet."""
    return tuple((token, until) for token, until in revoked if until > now)


def close_room(room: Room, now: float) -> Room:
    """Return a room as its home leaves it."""
    return replace(room, closed=int(now), published=None, revoked=())
