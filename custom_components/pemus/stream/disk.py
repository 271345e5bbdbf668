"""A media file while it is being sent: opened, recognised, made resident, read and watched.

All of it may wait for the disk, and so runs in a worker (see `workers`), except where a method says otherwise.

*Resident* means that the bytes are in the page cache, so that sendfile in the event loop does not wait for the disk. The
bytes are brought there by sendfile itself, to /dev/null: it waits for each page as the real one would, but copies
nothing, needs no memory, and holds no lock of the process (populating a mapping would, and could stop every thread).

That is enough for disks of this machine. Not so for network and FUSE file systems: their sendfile may ask the server
whether its cache is still valid before it takes a resident page. Files there are never given to sendfile; they are read
in the worker.
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
"""No symbolic link is followed, and a pipe that was put in the file's place does not make opening wait."""
_GONE: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENXIO,
        errno.ESTALE,
    }
)
"""What opening fails with when there is no such file any more, or something else in its place."""
_NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""What sendfile fails with where the file system or a sandbox does not let it."""

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
"""File systems (f_type of statfs(2)) that take a page from the cache without asking anybody."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_CACHESTAT: Final = 451
"""Number of cachestat(2) on every architecture. Linux before 6.5 has none, and some sandboxes refuse it."""
_STRETCH: Final = 512 * 1024
_PAGE: Final = mmap.PAGESIZE


class _Window(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Cached(ctypes.Structure):
    _fields_ = (("pages", ctypes.c_uint64), ("others", ctypes.c_uint64 * 4))


# Only ever used in the event loop, and made once: this is called for every few megabytes that are sent.
_window: Final = _Window()
_cached: Final = _Cached()
_window_pointer: Final = ctypes.byref(_window)
_cached_pointer: Final = ctypes.byref(_cached)
_one_byte: Final = [bytearray(1)]

_STATFS_SIZE: Final = 256
"""More than struct statfs has anywhere; f_type is its first word."""


class FileChanged(Exception):
    """The file is not, or no longer, the one that was described."""


class OpenFile:
    """An open file that is what `facts` says."""

    __slots__ = ("_closing", "_lock", "_users", "facts", "fd", "is_local")

    def __init__(self, fd: int, facts: LocalFile, *, is_local: bool) -> None:
        """Take over an open descriptor."""
        self.fd = fd
        self.facts = facts
        self.is_local = is_local
        """Whether sendfile and fstat may be called in the event loop."""
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    @classmethod
    def open(cls, facts: LocalFile, resident: Span | None = None) -> Self:
        """Open the file, and make these bytes of it resident if it lies on a local disk.

        Raises FileChanged when it is not the file that was described, and OSError.
        """
        try:
            fd = os.open(facts.path, _FLAGS)
        except OSError as err:
            if err.errno in _GONE:
                raise FileChanged from err
            raise
        file = cls(fd, facts, is_local=False)
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
        """Raise FileChanged unless the file is still what it was. On a local disk this does not wait."""
        status = os.fstat(self.fd)
        if not (
            stat.S_ISREG(status.st_mode)
            and status.st_nlink
            and self.facts.is_still(status)
        ):
            raise FileChanged

    def is_resident(self, span: Span) -> bool:
        """Tell whether these bytes are in the page cache. May be called in the event loop: it never waits for the disk.

        A page counts as cached from the moment it is asked of the disk. One byte is therefore looked at in every
        stretch of the length that disks are asked for at once; where it has not arrived yet, that is noticed.
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
        """Wait until these bytes are in the page cache, and check the file."""
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
        """Return these bytes, of which it is sure that they all belong to the version described."""
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
        """Close the file, or have the worker that still hangs on it close it when it comes back."""
        with self._lock:
            self._closing = True
            if self._users or self.fd < 0:
                return
            fd, self.fd = self.fd, -1
        with suppress(
            OSError
        ):  # A dead share says so once more; nothing was written that could be lost.
            os.close(fd)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the descriptor open: its number could stand for another file by the time a hanging call goes on."""
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
    """Tell whether the file lies on a disk of this machine. When in doubt, it does not."""
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    if _libc.fstatfs(fd, buffer):
        return False
    word = buffer.raw[: ctypes.sizeof(ctypes.c_long)]
    return int.from_bytes(word, sys.byteorder) & 0xFFFFFFFF in LOCAL_FILE_SYSTEMS
