"""The download cache: a folder of sparse files, and a small database that tells what of them is there.

What the database says of a file is believed only if the file was left in peace: its size, time and inode are those that
were noted when nothing wrote to it any more. Otherwise whatever is in it is compared with its hashes before it is used.
All of it can be fetched again, so a database that is damaged or too new is thrown away, with the files.
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
    spans TEXT NOT NULL, -- what was verified
    inode INTEGER, -- of the file when nothing wrote to it any more; NULL while something may, as is mtime_ns
    mtime_ns INTEGER,
    used REAL NOT NULL, -- seconds since the epoch
    pinned INTEGER NOT NULL
) WITHOUT ROWID;
"""
# The latest first: if an item is there twice, the older version goes.
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
    """Bytes of all downloads together."""
    reserve: int = 2 * 1024**3
    """Bytes of the disk that are left free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is noted of a download."""

    name: str
    ticket: Ticket
    spans: str
    """Encoded, so that it stays as it is now."""
    seal: tuple[int, int] | None
    """Inode and time of the file that nothing writes to."""
    used: float
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A download that a former engine left."""

    path: Path
    ticket: Ticket
    meta: Metainfo | None
    spans: Spans
    unchecked: Spans
    file: LocalFile | None
    """None if only the ticket, or the wish to keep it, was left."""
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
        """Prepare a cache in `folder`, in which nothing else may be."""
        self.folder = folder
        self.can_punch = True
        """Whether parts of files can be given back to the disk, as far as is known."""
        self._records = _Records(folder / DATABASE)

    def open(self) -> list[Found]:
        """Open the cache, remove what does not belong there, and return what there is. Raises CacheError."""
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
        """Return where a new download goes. Does not block. No two downloads have one name, not even one after the other."""
        return self.folder / f"{ticket.owner}-{ticket.item.id}-{secrets.token_hex(6)}"

    def create(self, path: Path, size: int) -> None:
        """Make an empty file of full size. Raises OSError."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(file, size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    def describe(self, path: Path, ticket: Ticket) -> LocalFile | None:
        """Return the facts of a download's file, None if it is not there as it should be."""
        try:
            status = path.lstat()
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size != ticket.item.size:
            return None
        item = ticket.item
        return LocalFile.of(str(path), item.name, item.content_type, status)

    def punch(self, path: Path, spans: Iterable[tuple[int, int]]) -> None:
        """Give parts of a file back to the disk. Raises OSError."""
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for start, stop in spans:
                _punch(file, start, stop - start)
        except OSError as err:
            if err.errno in _NO_HOLES:
                self.can_punch = False
            raise
        finally:
            os.close(file)

    def seal(self, path: Path) -> tuple[int, int] | None:
        """Have all of a file written to the disk, and return what tells that it was not changed since."""
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fdatasync(file)
                status = os.fstat(file)
            finally:
                os.close(file)
        except OSError as err:
            _LOGGER.warning("%s cannot be written to the disk: %s", path, err)
            return None
        return status.st_ino, status.st_mtime_ns

    def free(self) -> int:
        """Return the bytes that are free on the disk. Raises OSError."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    # Records.

    def save(self, records: Sequence[Record]) -> None:
        """Note what there is of downloads. Raises StoreError."""
        with self._records.write() as database:
            database.executemany(
                "INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        each.name,
                        each.ticket.encode(),
                        each.spans,
                        each.seal[0] if each.seal else None,
                        each.seal[1] if each.seal else None,
                        each.used,
                        each.pinned,
                    )
                    for each in records
                ],
            )

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove downloads with their files. Raises OSError and StoreError."""
        for path in paths:
            path.unlink(missing_ok=True)
        with self._records.write() as database:
            database.executemany(
                "DELETE FROM downloads WHERE name = ?", [(each.name,) for each in paths]
            )

    def _rows(self) -> list[tuple[object, ...]]:
        with self._records.read() as database:
            return database.execute(_SELECT).fetchall()

    def _found(self, rows: Iterable[tuple[object, ...]]) -> list[Found]:
        """Return what can be used of the rows, and remove the others."""
        found: dict[tuple[str, str], Found] = {}
        useless = []
        for row in rows:
            each = self._look(row)
            if each is None or each.path.name != row[0]:
                useless.append((row[0],))
            if each is None:
                continue
            key = each.ticket.owner, each.ticket.item.id
            if key in found:
                useless.append((row[0],))
            else:
                found[key] = each
        if useless:
            with self._records.write() as database:
                database.executemany("DELETE FROM downloads WHERE name = ?", useless)
        return list(found.values())

    def _look(self, row: tuple[object, ...]) -> Found | None:
        name, payload, text, inode, mtime_ns, used, pinned = row
        if not (
            isinstance(name, str)
            and Path(name).name == name
            and isinstance(payload, bytes)
            and isinstance(text, str)
            and isinstance(used, float)
        ):
            _LOGGER.warning("A download is dropped: its record is damaged")
            return None
        try:
            ticket = read(payload, kept=True)
            meta = ticket.metainfo()
            spans = Spans.decode(text, ticket.item.size)
        except (BadTicket, ValueError, RecursionError) as err:
            _LOGGER.warning("A download is dropped: %s", err)
            return None
        path = self.folder / name
        facts = self.describe(path, ticket)
        if facts is None and not pinned and not ticket.is_live(time.time()):
            return None
        seal = (facts.inode, facts.mtime_ns) if facts is not None else None
        unchecked = Spans()
        if seal is None or seal != (inode, mtime_ns):
            seal, spans = None, Spans()
            if facts is not None and meta is not None:
                try:
                    unchecked = _data(path, meta)
                except OSError as err:
                    _LOGGER.warning("A download is dropped: %s", err)
                    return None
        return Found(
            # No two files have one name, not even one after the other.
            path=path if facts is not None else self.new_path(ticket),
            ticket=ticket,
            meta=meta,
            spans=spans,
            unchecked=unchecked,
            file=facts,
            seal=seal,
            used=used,
            pinned=bool(pinned),
        )

    def _sweep(self, names: set[str]) -> None:
        """Remove files that belong to no download."""
        keep = names | {DATABASE + suffix for suffix in ("", "-wal", "-shm")}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name not in keep and not entry.is_dir(follow_symlinks=False):
                    with suppress(OSError):
                        Path(entry.path).unlink()


def _data(path: Path, meta: Metainfo) -> Spans:
    """Return the pieces of a file in which there is anything but holes. Raises OSError."""
    spans, at, length = Spans(), 0, meta.piece_length
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while at < meta.size:
            try:
                start = os.lseek(file, at, os.SEEK_DATA)
                at = os.lseek(file, start, os.SEEK_HOLE)
            except OSError as err:
                if err.errno == errno.ENXIO:
                    break
                raise
            first, last = start // length, -(-at // length)
            spans.add(first * length, min(last * length, meta.size))
    finally:
        os.close(file)
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
