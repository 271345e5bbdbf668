"""Covers of songs: how large one may be, and the one that people put beside the songs of an album."""

from __future__ import annotations

from functools import lru_cache
import os
from pathlib import Path

MAX_COVER = 32 * 1024 * 1024
"""Bytes of an embedded cover that are looked at."""

_STEMS = ("cover", "folder", "front", "albumart", "album")
"""Names in the order of preference."""
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")


def folder_cover(path: str) -> Path | None:
    """Return the cover in the folder of the file at `path`, if there is one."""
    folder = Path(path).parent
    try:
        return _cover_in(folder, folder.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=4)
def _cover_in(folder: Path, _changed: int) -> Path | None:
    """Look once for all the songs of a folder, and again when the folder changed."""
    found: dict[tuple[int, int], Path] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = Path(entry.name.lower())
            if (
                name.stem in _STEMS
                and name.suffix in _EXTENSIONS
                and entry.is_file(follow_symlinks=False)
            ):
                rank = _STEMS.index(name.stem), _EXTENSIONS.index(name.suffix)
                found[rank] = folder / entry.name
    return found[min(found)] if found else None
