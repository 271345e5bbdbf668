"""Files that are either whole or as they were before, also after a power cut."""

from __future__ import annotations

from contextlib import suppress
import errno
import os
from pathlib import Path
from typing import Final

MODE: Final = 0o600
"""Only the owner reads what is written here."""


def write(path: Path, content: bytes) -> None:
    """Put `content` in the place of a file. Raises OSError, with the former file as it was."""
    fresh = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        # What a crash left, or a link to somewhere else.
        fresh.unlink()
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    try:
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder reach the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as err:
        # Not every file system of a network knows how.
        if err.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
