"""An open media file: opening, verification, page cache residency, and reading.

All methods can block and must run in a worker (see `workers`), unless they say otherwise.

*Resident* means that the bytes are in the page cache, so that sendfile in the event loop does not wait for the disk.
Another sendfile, to /dev/null, brings them there. It waits for each page, but copies nothing, needs no memory, and holds
no lock of the process. Populating a mapping would hold one, and could block every thread.

This works for local disks only. On network and FUSE file systems, sendfile may ask the server whether a resident page is
still valid. Files there are read in the worker instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import ctypes
import errno
import mmap
import os
import stat
import sys
import threading
from typing import Final, Self

from custom_components.pemus.p2p.models import LocalFile

from .ranges import Span

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK
"""O_NOFOLLOW refuses a symbolic link. O_NONBLOCK keeps a FIFO from blocking the open."""
_GONE: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENXIO,
        errno.ESTALE,
    }
)
"""Errors of open(2) if the file no longer exists, or something else took its place."""
_NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""Errors of sendfile(2) if the file system or a sandbox does not support it."""

LOCAL_FILE_SYSTEMS: frozenset[int] = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xF2F52010,  # f2fs
        0xCA451A4E,  # bcachefs
        0x01021994,  # tmpfs
        0x2011BAB0,  # exfat
        0x4D44,  # vfat
        0x7366746E,  # ntfs3
        0x482B,  # hfsplus
        0x9660,  # iso9660
        0x15013346,  # udf
        0x73717368,  # squashfs
        0xE0F5E1E2,  # erofs
    }
)
"""File systems (f_type of statfs(2)) that serve a cached page without a request to a server."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_CACHESTAT: Final = 451
"""Number of cachestat(2) on every architecture. It requires Linux 6.5, and some sandboxes refuse it."""
_STRETCH: Final = 512 * 1024
_PAGE: Final = mmap.PAGESIZE


class _Window(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Cached(ctypes.Structure):
    _fields_ = (("pages", ctypes.c_uint64), ("others", ctypes.c_uint64 * 4))


# Allocated once and used only in the event loop: `is_resident` runs for every few megabytes that are sent.
_window: Final = _Window()
_cached: Final = _Cached()
_window_pointer: Final = ctypes.byref(_window)
_cached_pointer: Final = ctypes.byref(_cached)
_one_byte: Final = [bytearray(1)]

_STATFS_SIZE: Final = 256
"""Larger than struct statfs on any architecture. f_type is its first word."""


class FileChanged(Exception):
    """The file differs from its description."""


class OpenFile:
    """An open file that matches its description `location`."""

    __slots__ = ("_closing", "_lock", "_users", "fd", "is_local", "location")

    def __init__(self, fd: int, location: LocalFile, *, is_local: bool) -> None:
        """Take ownership of an open descriptor."""
        self.fd = fd
        self.location = location
        self.is_local = is_local
        """Whether sendfile and fstat may be called in the event loop."""
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    @classmethod
    def open(cls, location: LocalFile, resident: Span | None = None) -> Self:
        """Open the file, and make these bytes resident if it is on a local disk.

        Raises FileChanged if the file differs from its description, and OSError.
        """
        try:
            fd = os.open(location.path, _FLAGS)
        except OSError as err:
            if err.errno in _GONE:
                raise FileChanged from err
            raise
        file = cls(fd, location, is_local=False)
        try:
            file.check()
            file.is_local = _is_local(fd)
            if resident is not None and file.is_local:
                try:
                    file.make_resident(resident)
                except OSError as err:
                    if err.errno not in _NO_SENDFILE:
                        raise
                    file.is_local = False
        except BaseException:
            file.close()
            raise
        return file

    def check(self) -> None:
        """Raise FileChanged if the file has changed. Does not block on a local disk."""
        status = os.fstat(self.fd)
        if not (
            stat.S_ISREG(status.st_mode)
            and status.st_nlink
            and self.location.is_still(status)
        ):
            raise FileChanged

    def is_resident(self, span: Span) -> bool:
        """Return whether these bytes are in the page cache. Never blocks, so the event loop can call it.

        cachestat also counts pages whose read is in progress. So this also reads one byte of each read-ahead stretch
        without waiting, which fails if the page has not arrived.
        """
        _window.offset, _window.length = span.start, len(span)
        if _libc.syscall(_CACHESTAT, self.fd, _window_pointer, _cached_pointer, 0):
            return False
        first, last = span.start // _PAGE, (span.stop - 1) // _PAGE
        if _cached.pages <= last - first:
            return False
        try:
            for offset in range(span.start, span.stop, _STRETCH):
                os.preadv(self.fd, _one_byte, offset, os.RWF_NOWAIT)
        except OSError:
            return False
        return True

    def make_resident(self, span: Span) -> None:
        """Wait until these bytes are in the page cache, and check that the file has not changed."""
        with self._in_use():
            sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            try:
                offset = span.start
                while offset < span.stop:
                    if not (
                        count := os.sendfile(sink, self.fd, offset, span.stop - offset)
                    ):
                        raise FileChanged
                    offset += count
            finally:
                os.close(sink)
            self.check()

    def read(self, span: Span) -> bytes:
        """Return these bytes. All of them belong to the described version of the file."""
        with self._in_use():
            data = os.pread(self.fd, len(span), span.start)
            while len(data) < len(span):
                start = span.start + len(data)
                if not (more := os.pread(self.fd, span.stop - start, start)):
                    raise FileChanged
                data += more
            self.check()
            return data

    def close(self) -> None:
        """Close the file now, or as soon as a hanging worker has finished with it."""
        with self._lock:
            self._closing = True
            if self._users or self.fd < 0:
                return
            fd, self.fd = self.fd, -1
        with suppress(
            OSError
        ):  # Closing can fail on a dead share. Nothing was written, so nothing is lost.
            os.close(fd)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the descriptor open, so that its number is not reused while a call hangs."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            if self._closing:
                raise FileChanged
            self._users += 1

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            closing = self._closing
        if closing:
            self.close()


def _is_local(fd: int) -> bool:
    """Return whether the file is on a local disk. False if in doubt."""
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    if _libc.fstatfs(fd, buffer):
        return False
    word = buffer.raw[: ctypes.sizeof(ctypes.c_long)]
    return int.from_bytes(word, sys.byteorder) & 0xFFFFFFFF in LOCAL_FILE_SYSTEMS
