"""Covers of songs: how large one may be, and the one that people put beside the songs of an album."""

from __future__ import annotations

from collections import deque
import os
from pathlib import Path

MAX_COVER = 32 * 1024 * 1024
"""Bytes of an embedded cover that are looked at."""

_STEMS = ("cover", "folder", "front", "albumart", "album")
"""Names in the order of preference."""
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")

type _Folder = tuple[int, int, int]
_looked: deque[tuple[_Folder, str | None]] = deque(maxlen=8)
"""What was found lately: songs of one folder are read one after the other."""


def folder_cover(folder: int) -> str | None:
    """Return the name of the cover in an open folder, if there is one. Raises OSError."""
    status = os.fstat(folder)
    key = status.st_dev, status.st_ino, status.st_mtime_ns
    for known, name in tuple(_looked):
        if known == key:
            return name
    name = _cover_in(folder)
    _looked.append((key, name))
    return name


def _cover_in(folder: int) -> str | None:
    found: dict[tuple[int, int], str] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = Path(entry.name.lower())
            if (
                name.stem in _STEMS
                and name.suffix in _EXTENSIONS
                and entry.is_file(follow_symlinks=False)
            ):
                rank = _STEMS.index(name.stem), _EXTENSIONS.index(name.suffix)
                found[rank] = entry.name
    return found[min(found)] if found else None
