"""The download cache: a folder of sparse files, and a small database with what is in each.

A record is trusted only if the file's size, time and inode are those that were recorded when nothing wrote to it any more.
Otherwise the file's contents are compared with their hashes before they are used. Everything can be fetched again, so a
database that is damaged or too new is removed together with the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
import ctypes
from dataclasses import dataclass
import errno
import logging
import os
from pathlib import Path
import secrets
import sqlite3
import stat
import time
from typing import Final

from ..access.ticket import BadTicket, Ticket, read
from ..core.spans import Spans
from ..core.sqlite import Database, StoreBroken, StoreError, migrate
from ..models import LocalFile
from ..torrent.metainfo import Metainfo

DATABASE: Final = "downloads.db"

_SCHEMA: Final = """
CREATE TABLE downloads (
    name TEXT PRIMARY KEY, -- of the file
    ticket BLOB NOT NULL, -- JSON
    spans TEXT NOT NULL, -- verified bytes
    inode INTEGER, -- of the file when nothing wrote to it any more; like mtime_ns, NULL while something may write
    mtime_ns INTEGER,
    used REAL NOT NULL, -- seconds since the epoch
    pinned INTEGER NOT NULL
) WITHOUT ROWID;
"""
# The latest comes first: if there are two versions of an item, the older one is removed.
_SELECT: Final = "SELECT name, ticket, spans, inode, mtime_ns, used, pinned FROM downloads ORDER BY used DESC"
_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02
_NO_HOLES: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

_LOGGER = logging.getLogger(__name__)


class CacheError(Exception):
    """The cache cannot be used. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """How much of the disk the cache may take."""

    quota: int = 20 * 1024**3
    """Bytes of all items together."""
    reserve: int = 2 * 1024**3
    """Bytes of the disk that stay free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the database keeps of an item."""

    name: str
    """Name of the file."""
    ticket: Ticket
    spans: str
    """Verified bytes, encoded so that they do not change any more."""
    seal: tuple[int, int] | None
    """Inode and modification time of the file; None while something may write to it."""
    used: float
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An item that a former engine left."""

    path: Path
    ticket: Ticket
    meta: Metainfo | None
    spans: Spans
    unchecked: Spans
    file: LocalFile | None
    """None if only the ticket, or the wish to keep the item, was left."""
    seal: tuple[int, int] | None
    used: float
    pinned: bool


class _Records(Database):
    """The list of downloads."""

    what = "the list of downloads"

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Bring the database up to date. Raises StoreBroken, TooNew and sqlite3.Error."""
        migrate(connection, (_SCHEMA,), self.what)
        try:
            connection.execute(_SELECT).close()
        except sqlite3.OperationalError as err:
            raise StoreBroken(str(err)) from err


class Cache:
    """The folder and its database. All methods block: call them outside the event loop."""

    def __init__(self, folder: Path) -> None:
        """Prepare a cache in `folder`, which it shares with nothing else."""
        self.folder = folder
        self.can_punch = True
        """Whether the file system can free parts of files, as far as is known."""
        self._records = _Records(folder / DATABASE)

    def open(self) -> list[Found]:
        """Open the cache, remove what does not belong to it, and return its items. Raises CacheError."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._records.open()
            try:
                rows = self._rows()
            except StoreBroken:
                self._records.replace()
                rows = []
            found = self._found(rows)
            self._sweep({each.path.name for each in found if each.file is not None})
        except (OSError, StoreError) as err:
            self.close()
            raise CacheError(f"the download cache cannot be opened: {err}") from err
        return found

    def close(self) -> None:
        """Close the database."""
        self._records.close()

    # Files.

    def new_path(self, ticket: Ticket) -> Path:
        """Return where a new file goes. Does not block. No name is used twice, not even one after the other."""
        return self.folder / f"{ticket.owner}-{ticket.item.id}-{secrets.token_hex(6)}"

    def create(self, path: Path, size: int) -> None:
        """Create a sparse file of full size. Raises OSError."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(file, size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    def describe(self, path: Path, ticket: Ticket) -> LocalFile | None:
        """Return the file of an item; None if it is missing or has another size."""
        try:
            status = path.lstat()
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size != ticket.item.size:
            return None
        item = ticket.item
        return LocalFile.of(str(path), item.name, item.content_type, status)

    def punch(self, path: Path, spans: Iterable[tuple[int, int]]) -> None:
        """Free parts of a file. Raises OSError."""
        with path.open("r+b", buffering=0) as file:
            try:
                for start, stop in spans:
                    _punch(file.fileno(), start, stop - start)
            except OSError as err:
                if err.errno in _NO_HOLES:
                    self.can_punch = False
                raise

    def seal(self, path: Path) -> tuple[int, int] | None:
        """Write all of a file to the disk. Return its inode and time, by which later changes are recognised; None if it fails."""
        try:
            with path.open("r+b", buffering=0) as file:
                os.fdatasync(file)
                status = os.fstat(file.fileno())
        except OSError as err:
            _LOGGER.warning("Cannot write %s to the disk: %s", path, err)
            return None
        return status.st_ino, status.st_mtime_ns

    def free(self) -> int:
        """Return how many bytes of the disk are free. Raises OSError."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    # Records.

    def save(self, records: Sequence[Record]) -> None:
        """Save records. Raises StoreError."""
        with self._records.write() as database:
            database.executemany(
                "INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        each.name,
                        each.ticket.encode(),
                        each.spans,
                        *(each.seal or (None, None)),
                        each.used,
                        each.pinned,
                    )
                    for each in records
                ],
            )

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove files and their records. Raises OSError, StoreError."""
        for path in paths:
            path.unlink(missing_ok=True)
        self._forget([path.name for path in paths])

    def _forget(self, names: Sequence[object]) -> None:
        with self._records.write() as database:
            database.executemany(
                "DELETE FROM downloads WHERE name = ?", [(name,) for name in names]
            )

    def _rows(self) -> list[tuple[object, ...]]:
        with self._records.read() as database:
            return database.execute(_SELECT).fetchall()

    def _found(self, rows: Iterable[tuple[object, ...]]) -> list[Found]:
        """Return the usable rows, and remove the others."""
        found: dict[tuple[str, str], Found] = {}
        useless = []
        for row in rows:
            each = self._look(row)
            if each is None or each.path.name != row[0]:
                useless.append(row[0])
            if each is not None:
                key = each.ticket.owner, each.ticket.item.id
                if found.setdefault(key, each) is not each:
                    useless.append(row[0])
        if useless:
            self._forget(useless)
        return list(found.values())

    def _look(self, row: tuple[object, ...]) -> Found | None:
        """Return what a row and its file have; None if that is of no use."""
        name, payload, text, inode, mtime_ns, used, pinned = row
        if not (
            isinstance(name, str)
            and Path(name).name == name
            and isinstance(payload, bytes)
            and isinstance(text, str)
            and isinstance(used, float)
        ):
            _LOGGER.warning("Dropped an item from the cache: its record is damaged")
            return None
        path = self.folder / name
        unchecked = Spans()
        try:
            ticket = read(payload, kept=True)
            meta = ticket.metainfo()
            spans = Spans.decode(text, ticket.item.size)
            file = self.describe(path, ticket)
            seal = (file.inode, file.mtime_ns) if file is not None else None
            if seal is None or seal != (inode, mtime_ns):
                seal, spans = None, Spans()
                if file is not None and meta is not None:
                    unchecked = _data(path, meta)
        except (BadTicket, ValueError, RecursionError, OSError) as err:
            _LOGGER.warning("Dropped an item from the cache: %s", err)
            return None
        if file is None and not pinned and not ticket.is_live(time.time()):
            return None
        return Found(
            path=path if file is not None else self.new_path(ticket),
            ticket=ticket,
            meta=meta,
            spans=spans,
            unchecked=unchecked,
            file=file,
            seal=seal,
            used=used,
            pinned=bool(pinned),
        )

    def _sweep(self, names: set[str]) -> None:
        """Remove files that belong to no item."""
        keep = names | {DATABASE + suffix for suffix in ("", "-wal", "-shm")}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name not in keep and not entry.is_dir(follow_symlinks=False):
                    with suppress(OSError):
                        Path(entry.path).unlink()


def _data(path: Path, meta: Metainfo) -> Spans:
    """Return the pieces of a file that are not completely holes. Raises OSError."""
    spans, at, length = Spans(), 0, meta.piece_length
    with path.open("rb", buffering=0) as file:
        while at < meta.size:
            try:
                start = file.seek(at, os.SEEK_DATA)
                at = file.seek(start, os.SEEK_HOLE)
            except OSError as err:
                if err.errno == errno.ENXIO:
                    break
                raise
            first, last = start // length, -(-at // length)
            spans.add(first * length, min(last * length, meta.size))
    return spans


def _punch(file: int, start: int, length: int) -> None:
    """Make a hole in a file (fallocate(2)). Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    try:
        fallocate = library.fallocate64
    except AttributeError:
        # musl, where off_t always has 64 bits.
        fallocate = library.fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    fallocate.restype = ctypes.c_int
    while fallocate(file, _KEEP_SIZE | _PUNCH_HOLE, start, length) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
