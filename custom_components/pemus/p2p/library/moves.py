"""Remembers which files turned up lately, in case they are missed elsewhere afterwards: then they have moved.

A folder's changes may be seen before those of the folder that a file came from; and where a file moves from one disk to
another, it is copied first and removed later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

WINDOW = 600
"""Seconds for which a file is remembered."""
LIMIT = 20_000
"""Files that are remembered. Beyond it, what turns up before it is missed counts as new."""


class File(NamedTuple):
    """A media file as a scan found it."""

    folder: int
    name: str
    size: int
    mtime_ns: int
    inode: int
    kind: int


type _Key = tuple[int | str, int, int]
type _Gone = tuple[int, bytes, str, int, int, int]


class MoveDetection:
    """The new files of a share. For one thread at a time."""

    def __init__(self) -> None:
        """Begin without any."""
        self._rows: dict[_Key, int | None] = {}
        self._latest = 0.0

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._rows)

    def add(self, files: Iterable[tuple[int, File]], now: float) -> None:
        """Remember files with their rows, and forget all when nothing came for long."""
        if now - self._latest > WINDOW:
            self._rows.clear()
        for row, file in files:
            self._latest = now
            if len(self._rows) >= 2 * LIMIT:
                break
            self._add((file.inode, file.size, file.mtime_ns), row)
            # Empty files are too much alike to be known by their name.
            if file.size:
                self._add((file.name, file.size, file.mtime_ns), row)

    def same_as(self, gone: list[_Gone]) -> Iterator[tuple[int, tuple[int, bytes]]]:
        """Return the row of each file that is the same as one that is gone now, with that one's row and nonce.

        The same is what has size, time and inode in common, or else size, time and name. Where several are the same as
        one, or one as several, none counts.
        """
        alike: dict[_Key, int] = {}
        for _, _, name, size, mtime_ns, inode in gone:
            for key in ((inode, size, mtime_ns), (name, size, mtime_ns)):
                alike[key] = alike.get(key, 0) + 1
        for row, nonce, name, size, mtime_ns, inode in gone:
            for key in ((inode, size, mtime_ns), (name, size, mtime_ns)):
                copy = self._rows.get(key)
                if copy is not None and copy != row and alike[key] == 1:
                    yield copy, (row, nonce)
                    break

    def _add(self, key: _Key, row: int) -> None:
        self._rows[key] = None if key in self._rows else row
