"""Opening a file for reading, where only a regular file will do, and writing one that is never seen half-written."""

from __future__ import annotations

import os
from pathlib import Path
import stat
from typing import BinaryIO


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading.

    A pipe, a device or a socket would block or answer forever, and a symbolic link may have been swapped in after the
    scan: all are refused without waiting for anything.

    Raises:
        OSError: it cannot be opened, or is not a regular file.

    """
    descriptor = os.open(
        path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is not a regular file")
    return os.fdopen(descriptor, "rb")


def write_whole(content: bytes, partial: Path, target: Path) -> None:
    """Write `content` to `target`, whose name is `partial` until it is complete. Raises OSError."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
