"""The engine's databases: each is one SQLite file, which one thread at a time writes and any number read.

What can go wrong with one is told apart here, once: it is full, busy, or broken. A broken one is set aside when it is
opened; what was in it is then made again, as the folders are scanned afresh for the index of the library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
import logging
import os
from pathlib import Path
import sqlite3
import tempfile
import threading
import time
from typing import ClassVar

from .errors import EngineError

BUSY_TIMEOUT = 15
"""Seconds to wait for somebody else who holds the database locked."""
CHECKPOINT_PAGES = 4000
"""Pages in the write-ahead log after which it is worked into the database."""
FULL_FOR = 600
"""Seconds without another such failure, after which a full disk is forgotten."""
ROOM = 8 * 1024 * 1024
"""Bytes that have to fit onto a disk for it to be full no more."""

_WRITER_CACHE_KIB = 24 * 1024
_READER_CACHE_KIB = 4 * 1024
_MAX_IDLE = 4
"""Connections for reading that are kept open."""
_SETTINGS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    f"cache_size = {-_READER_CACHE_KIB}",
    "temp_store = MEMORY",
    "secure_delete = OFF",
)
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_LOGGER = logging.getLogger(__name__)


class StoreError(Exception):
    """The database cannot be used at present."""


class StoreFull(StoreError):
    """There is no room left to write."""


class StoreBroken(StoreError):
    """The file is damaged; it has to be opened again, which sets it aside."""


class TooNew(EngineError):
    """The database was written by a newer release of PeMuS, and this one does not know how to read it."""


class Database:
    """A database. All methods block: call them outside the event loop."""

    what: ClassVar[str]
    """What it holds, for messages: "the index of the library"."""

    def __init__(self, path: Path) -> None:
        """Prepare a database in the file `path`, whose folder exists."""
        self.path = path
        self.broken = False
        """Whether damage was seen since the database was opened."""
        self.full = False
        """Whether something could not be written for want of room, and nothing since then shows that there is some."""
        self._full_since = 0.0
        self._pages = 0
        self._writing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        """None while the database is closed."""
        self._pooling = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        """Connections for reading that nobody uses at present."""

    def open(self) -> None:
        """Open the database, make it or bring it up to date; set it aside and begin anew if it is damaged or too new.

        Raises StoreError.
        """
        try:
            # Somebody who gives up meanwhile closes it, and SQLite dies if a connection is closed while it is used.
            try:
                with self._writing, _told_apart():
                    self._open()
            except (StoreBroken, TooNew) as err:
                self.close()
                self._set_aside(str(err), newer=isinstance(err, TooNew))
                with self._writing, _told_apart():
                    self._open()
        except BaseException:
            self.close()
            raise

    def replace(self) -> None:
        """Set the database aside, which was found to be damaged, and begin anew. Raises StoreError."""
        self.close()
        self._set_aside("it was found when it was used")
        self.open()

    def close(self) -> None:
        """Close the database. Work that goes on in other threads fails."""
        with self._writing, self._pooling:
            writer, self._writer = self._writer, None
            idle, self._idle = self._idle, []
            for connection in (*idle, writer):
                if connection is not None:
                    _close(connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction for writing, and commit it unless an exception leaves the block. Raises StoreError."""
        with self._writing, self._noticing(), _told_apart():
            if (connection := self._writer) is None:
                raise StoreError(f"{self.what} is closed")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
                if self.full:
                    self._look_for_room(connection)
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.rollback()
                    self._pages = _page_count(connection)
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction for reading: everything in it is of one moment. Raises StoreError."""
        with self.watch() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                with suppress(sqlite3.Error):
                    connection.rollback()

    @contextmanager
    def watch(self) -> Iterator[sqlite3.Connection]:
        """Give a connection for reading what is there at each moment, for as long as it takes. Raises StoreError."""
        with self._noticing(), _told_apart():
            with self._pooling:
                if (writer := self._writer) is None:
                    raise StoreError(f"{self.what} is closed")
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self._connect()
            try:
                yield connection
            finally:
                with self._pooling:
                    # It may have been closed meanwhile, and even opened again.
                    is_kept = self._writer is writer and len(self._idle) < _MAX_IDLE
                    if is_kept:
                        self._idle.append(connection)
                if not is_kept:
                    _close(connection)

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Bring a database that was just opened up to date. Raises TooNew and sqlite3.Error."""
        raise NotImplementedError

    def set_up(self, connection: sqlite3.Connection) -> None:
        """Prepare a new connection: what every statement may use."""

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for setting in _SETTINGS:
                connection.execute(f"PRAGMA {setting}")
            self.set_up(connection)
        except BaseException:
            _close(connection)
            raise
        return connection

    def _open(self) -> None:
        # A log that was left behind means that the last process was killed: look closely.
        left_behind = self.path.with_name(f"{self.path.name}-wal")
        killed = left_behind.exists() and left_behind.stat().st_size > 0
        _close_to_others(self.path)
        self._writer = connection = self._connect()
        connection.execute(f"PRAGMA cache_size = {-_WRITER_CACHE_KIB}")
        if killed:
            (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise StoreBroken(state)
        self.prepare(connection)
        self.broken = False

    def _set_aside(self, reason: str, *, newer: bool = False) -> None:
        kind = "newer" if newer else "broken"
        aside = self.path.with_name(f"{self.path.name}.{kind}-{int(time.time())}")
        if newer:
            _LOGGER.warning(
                "%s. It is made again; this one is kept as %s", reason, aside
            )
        else:
            _LOGGER.error(
                "A file is damaged: %s (%s). It is made again; the old one is kept as %s",
                self.what,
                reason,
                aside,
            )
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        # One is enough to find out what happened.
        for older in self.path.parent.glob(f"{self.path.name}.{kind}-*"):
            older.unlink(missing_ok=True)
        self.path.rename(aside)

    def _look_for_room(self, connection: sqlite3.Connection) -> None:
        """Find out whether the disk is full no more: small changes fit into what the file has already."""
        grown = _page_count(connection) > self._pages
        if grown or time.monotonic() > self._full_since + FULL_FOR:
            self.full = False

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except StoreBroken:
            self.broken = True
            raise
        except StoreFull:
            self.full = True
            self._full_since = time.monotonic()
            raise


def migrate(
    connection: sqlite3.Connection,
    steps: Sequence[str],
    what: str,
) -> None:
    """Bring a database up to date, step by step; each one happens as a whole or not at all.

    Raises:
        TooNew: it is from a newer release. Nothing was changed.
        sqlite3.Error: it cannot be read or written.

    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise TooNew(
            f"{what} has version {version}, and this release of PeMuS knows {len(steps)}: "
            "it was written by a newer release"
        )
    for number in range(version, len(steps)):
        # `executescript` ends what is open before it begins, so the transaction is part of the script.
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{steps[number]}\nPRAGMA user_version = {number + 1};\nCOMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.rollback()
            raise


def fit(number: int) -> int:
    """Return a number of the file system as one that a database holds: the same for the same, that is all it must be."""
    return number if number < 2**63 else number - 2**64


def _close_to_others(path: Path) -> None:
    """Let only the owner read a database, made first if need be; SQLite makes its logs alike. Raises StoreError."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_mode & 0o077:
                os.fchmod(file, 0o600)
        finally:
            os.close(file)
    except OSError as err:
        raise StoreError(f"{path} cannot be opened: {err.strerror}") from err


def has_room(folder: Path) -> bool:
    """Tell whether a folder takes a file that is not small: what is free says nothing of quotas."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True


def _page_count(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    return int(count)


def _close(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.close()


@contextmanager
def _told_apart() -> Iterator[None]:
    """Turn the database's errors into ours."""
    try:
        yield
    except sqlite3.Error as err:
        code = getattr(err, "sqlite_errorcode", None)
        if code in _FULL:
            raise StoreFull(str(err)) from err
        if code is not None and code & 0xFF in _BROKEN:
            raise StoreBroken(str(err)) from err
        raise StoreError(str(err)) from err
