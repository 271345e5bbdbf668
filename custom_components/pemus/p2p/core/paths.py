"""Opening what lies in a share, and nothing else.

Each component of a path is opened relative to the folder before it and never followed if it is a symbolic link, so no
link leads out of a share, also not one that takes the place of a folder in the middle of it all. Links inside a share
are not followed either: what they point to is found at its own place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import errno
import os
import stat

_O_PATH: int = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
"""Look at a file without opening it: a pipe does not block, a device does nothing."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP = _O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""A pipe that was put in a file's place does not make opening wait."""

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""A link in the place of a folder makes what was in it absent."""

MAX_PATH = 4095
"""Bytes of a path that the system opens in one go."""


class NotRegular(OSError):
    """There is something of that name, but it is no regular file."""


def join(root: str, *parts: str) -> str:
    """Return the path of what lies at `parts` below the root; empty parts count for nothing."""
    below = "/".join(part for part in parts if part)
    return f"{root.rstrip('/')}/{below}" if below else root


@contextmanager
def opened_root(root: str) -> Iterator[int]:
    """Open the root folder of a share, by its real path. Raises OSError, also where a link is on the way or in its place."""
    with opened_own("/") as top:
        descriptor = _descend(top, [name for name in root.split("/") if name] or ["."])
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened_own(folder: str) -> Iterator[int]:
    """Open a folder of the engine's own, whose path may lead through links. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened_folder(root: int, folder: str) -> Iterator[int]:
    """Open a folder below an open root for reading. Raises OSError, also where a link is on the way."""
    descriptor = _descend(root, folder.split("/") if folder else ["."])
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(root: int, folder: str, name: str) -> int:
    """Open a regular file below an open root for reading, and return its descriptor.

    Raises:
        NotRegular: it is a folder, a pipe, ...
        OSError: it cannot be reached, also where a link is on the way or in its place.

    """
    with opened_folder(root, folder) as parent:
        return open_in(parent, name)


def open_in(folder: int, name: str) -> int:
    """Open a regular file in an open folder. Raises as `open_file` does."""
    descriptor = os.open(name, _READ, dir_fd=folder)
    with closed_on_error(descriptor):
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegular(f"{name} is not a regular file")
    return descriptor


@contextmanager
def closed_on_error(descriptor: int) -> Iterator[None]:
    """Close a descriptor if something fails."""
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


def stat_file(root: int, folder: str, name: str) -> os.stat_result:
    """Return the facts of a regular file below an open root.

    Raises:
        NotRegular: it is a link, a folder, a pipe, ...
        OSError: it cannot be reached.

    """
    with opened_folder(root, folder) as parent:
        descriptor = os.open(name, _FILE, dir_fd=parent)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise NotRegular(f"{name} is not a regular file")
    return found


def is_absence(error: OSError) -> bool:
    """Tell whether an error says that a thing is not there, rather than that it cannot be seen."""
    return isinstance(error, NotRegular) or error.errno in _ABSENT


def is_absent(root: int, folder: str, name: str) -> bool:
    """Tell whether it is certain that there is no regular file of that name."""
    try:
        stat_file(root, folder, name)
    except OSError as err:
        return is_absence(err)
    return False


def _descend(start: int, names: list[str]) -> int:
    current = start
    for position, name in enumerate(names):
        flags = _FOLDER if position == len(names) - 1 else _STEP
        try:
            following = os.open(name, flags, dir_fd=current)
        finally:
            if current != start:
                os.close(current)
        current = following
    return current
