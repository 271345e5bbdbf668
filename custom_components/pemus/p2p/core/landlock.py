"""Lets this process write, or also read, below a few folders only, with Landlock (landlock(7)), where the kernel has it.

It is the second lock: no part of the engine means to write to a shared folder, and from here on none can, whatever
libtorrent, a decoder or a hostile file make it do. The rules hold for the calling thread, for the threads and processes
that it starts later, and for ever, so this is called before there is any other thread. What is open already stays usable.

The few calls are made here because the package of that name is an untyped pre-release.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
import ctypes
from dataclasses import dataclass
from enum import StrEnum
import os
from pathlib import Path
import stat
from typing import Final

# The numbers are the same on all architectures (include/uapi/asm-generic/unistd.h).
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38

# include/uapi/linux/landlock.h: what changes files and folders, and with which version of Landlock it came.
_WRITE_FILE: Final = 1 << 1
_REMOVE_DIR: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE: Final = 0b1111111 << 6
"""Devices, folders, files, sockets, pipes and links."""
_REFER: Final = 1 << 13
"""Moving something to another folder; without this it is forbidden everywhere."""
_TRUNCATE: Final = 1 << 14
_RIGHTS: Final = (
    (1, _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE),
    (2, _REFER),
    (3, _TRUNCATE),
)
_EXECUTE: Final = 1 << 0
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES: Final = _WRITE_FILE | _TRUNCATE | _EXECUTE | _READ_FILE
_TCP: Final = 0b11
"""Listening and connecting."""
_TCP_SINCE: Final = 4
_OTHERS: Final = 0b11
"""Abstract sockets of other processes, and signals to them."""
_OTHERS_SINCE: Final = 6
_COMPLETE: Final = 3
"""The version from which on nothing can change the content of a file that may not be written."""

_ALWAYS: Final = (Path("/dev/null"),)


class State(StrEnum):
    """How much is forbidden."""

    ON = "on"
    PARTLY = "partly"
    """Files cannot be written, removed or made, but an old kernel lets them be cut short; or there were other threads
    already, which are free to write."""
    OFF = "off"
    """The kernel has no Landlock, or a container does not let it be used."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What came of the attempt."""

    state: State
    version: int = 0
    """Of the kernel's Landlock; 0 without one."""
    reason: str | None = None
    """Why it is not fully on."""
    writable: tuple[str, ...] = ()
    """Real paths of what may be written."""

    def covers(self, folder: str) -> bool:
        """Tell whether a folder cannot be written to because of this."""
        real = os.path.realpath(folder)
        return self.state is not State.OFF and not any(
            os.path.commonpath((real, each)) == each for each in self.writable
        )


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def restrict(
    writable: Iterable[Path], *, readable: Iterable[Path] | None = None
) -> Protection:
    """Allow this process to write below these folders, which exist, and nowhere else.

    With `readable`, it may read only what is there of these files and folders as well, connect to nobody by TCP, and reach
    no other process by a signal or an abstract socket.

    Where the kernel does not know how, nothing happens, and the answer says so. Raises OSError for a folder that cannot be
    opened; nothing is restricted then.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = landlock_version()
    if version < 1:
        return Protection(State.OFF, reason=_reason())
    rights = 0
    for since, right in _RIGHTS:
        if since <= version:
            rights |= right
    ruleset = _Ruleset(rights)
    size = 8
    if readable is not None:
        ruleset.handled_access_fs = rights = rights | _READ
        if version >= _TCP_SINCE:
            ruleset.handled_access_net, size = _TCP, 16
        if version >= _OTHERS_SINCE:
            ruleset.scoped, size = _OTHERS, 24
    descriptor = int(libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), size, 0))
    if descriptor < 0:
        return Protection(State.OFF, version, _reason())
    try:
        allowed = [os.path.realpath(path) for path in writable]
        for path in allowed:
            _allow(libc, descriptor, path, rights)
        for device in _ALWAYS:
            with suppress(OSError):
                _allow(libc, descriptor, str(device), rights)
        for each in readable or ():
            with suppress(FileNotFoundError, NotADirectoryError):
                _allow(libc, descriptor, str(each), _READ)
        # Programs with more rights than this process could be made to write for it.
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
            _RESTRICT_SELF, descriptor, 0
        ):
            return Protection(State.OFF, version, _reason())
    finally:
        os.close(descriptor)
    reason = None
    if _threads() > 1:
        reason = "there are other threads already"
    elif version < _COMPLETE:
        reason = "the kernel lets files be cut short"
    state = State.ON if reason is None else State.PARTLY
    return Protection(state, version, reason, tuple(allowed))


def landlock_version() -> int:
    """Return the version of the kernel's Landlock; less than 1 if there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(_CREATE_RULESET, None, 0, _VERSION))


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """Allow something below a folder, or with a file. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneath(rights, descriptor)
        if libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0):
            raise OSError(ctypes.get_errno(), _reason(), path)
    finally:
        os.close(descriptor)


def _threads() -> int:
    """Return how many threads there are, native ones too."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - only their number
    except OSError:
        return 1


def _reason() -> str:
    return os.strerror(ctypes.get_errno())
