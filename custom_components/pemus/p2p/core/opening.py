"""Opens files that were described before: the very file, or none.

A path says little: anybody who may write to a share can put a link, or another folder, in the place of anything between two
looks. So every file is opened component by component below its share's root, and what was opened is compared with the
description. From then on only the descriptor is used, which nothing can redirect.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
import errno
import os

from ..models import LocalFile
from . import paths


class OtherFile(OSError):
    """What the path leads to is not, or no longer, the file that was described."""

    def __init__(self) -> None:
        """Make one."""
        super().__init__(errno.ESTALE, "the file has changed")


def open_described(file: LocalFile) -> int:
    """Open the file that was described for reading, and return its descriptor.

    Raises:
        OtherFile: there is another one in its place, or it has changed.
        OSError: it cannot be reached.

    """
    folder, name = _divided(file)
    with _opened_root(file) as opened:
        descriptor = paths.open_file(opened, folder, name)
    with paths.closed_on_error(descriptor):
        if not file.is_still(os.fstat(descriptor)):
            raise OtherFile
    return descriptor


def is_still_there(file: LocalFile) -> bool:
    """Tell whether a file's path leads to it, unchanged, without following a link."""
    folder, name = _divided(file)
    try:
        with _opened_root(file) as opened:
            return file.is_still(paths.stat_file(opened, folder, name))
    except OSError:
        return False


def _opened_root(file: LocalFile) -> AbstractContextManager[int]:
    """Open what lies above a file: its share's root, or the folder of the engine's own that it is in."""
    if file.root:
        return paths.opened_root(file.root)
    return paths.opened_own(file.path.rpartition("/")[0] or "/")


def _divided(file: LocalFile) -> tuple[str, str]:
    """Return the folder below what `_opened_root` opens, and the name."""
    above, _, name = file.path.rpartition("/")
    if not file.root:
        return "", name
    root = file.root.rstrip("/")
    if not f"{above}/".startswith(f"{root}/"):
        raise ValueError("a file outside of its share")
    return above[len(root) + 1 :], name
