"""Pictures and converted subtitles, kept in the cache until their files change.

A file's name in the cache tells the item and the version of what it was made of, so an old one is never taken for a new
one. What is left over is swept out when the engine starts, and what an item leaves behind when it goes, at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import contextlib
from hashlib import blake2s
from pathlib import Path

MAX_SIZE = 2 * 1024**3
"""Bytes of all pictures together. Beyond it the oldest ones are removed."""
BACKGROUND_SIZE = MAX_SIZE * 9 // 10
"""Bytes beyond which pictures are made on demand only: in the background they would push each other out."""

_SHRINK_TO = MAX_SIZE * 8 // 10


class PictureCache:
    """The folder of what was made of files. All methods but the paths block."""

    def __init__(self, folder: Path) -> None:
        """Keep things below this folder."""
        self._pictures = folder / "thumbnails"
        self._subtitles = folder / "subtitles"
        self.size = 0
        """Bytes of all pictures, known after `sweep`."""

    def picture(self, item_id: str, etag: str) -> Path:
        """Return where the picture of an item's present version is, or goes."""
        return self._pictures / item_id[:2] / f"{item_id}-{_short(etag)}.jpg"

    def subtitle(self, item_id: str, name: str, size: int, mtime_ns: int) -> Path:
        """Return where a converted subtitle file of an item is, or goes."""
        version = _short(f"{name}/{size}/{mtime_ns}")
        return self._subtitles / item_id[:2] / f"{item_id}-{version}.vtt"

    def prepare(self, target: Path) -> None:
        """Make the folder that `target` goes to. Raises OSError."""
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def added(self, target: Path) -> None:
        """Count a new picture, remove those of older versions, and the oldest of all where there are too many."""
        for path in target.parent.glob(f"{_item_of(target)}-*"):
            if path != target:
                with contextlib.suppress(OSError):
                    self._unlink(path)
        with contextlib.suppress(OSError):
            self.size += target.stat().st_size
        if self.size > MAX_SIZE:
            self._shrink()

    def remove(self, item_ids: Iterable[str]) -> None:
        """Remove all that was made of items."""
        for item_id in item_ids:
            for folder in (self._pictures, self._subtitles):
                with contextlib.suppress(OSError):
                    for path in (folder / item_id[:2]).glob(f"{item_id}-*"):
                        self._unlink(path)

    def sweep(self, current: Callable[[list[str]], dict[str, str]]) -> None:
        """Remove what no item needs. `current` returns the entity tag of those of the given items that exist."""
        self.size = 0
        for folder in (self._pictures, self._subtitles):
            for below in _entries(folder):
                files = [each for each in _entries(below) if each.is_file()]
                tags = current(list({_item_of(each) for each in files}))
                for path in files:
                    tag = tags.get(_item_of(path))
                    if tag is None or (
                        folder == self._pictures
                        and path != self.picture(_item_of(path), tag)
                    ):
                        path.unlink(missing_ok=True)
                    elif folder == self._pictures:
                        self.size += path.stat().st_size

    def _shrink(self) -> None:
        found = []
        for folder in _entries(self._pictures):
            for path in _entries(folder):
                with contextlib.suppress(OSError):
                    status = path.stat()
                    found.append((status.st_mtime_ns, status.st_size, path))
        self.size = sum(size for _, size, _ in found)
        for _, _, path in sorted(found):
            if self.size <= _SHRINK_TO:
                break
            self._unlink(path)

    def _unlink(self, path: Path) -> None:
        size = path.stat().st_size
        path.unlink(missing_ok=True)
        if path.parent.parent == self._pictures:
            self.size = max(0, self.size - size)


def _short(version: str) -> str:
    return blake2s(version.encode(), digest_size=8).hexdigest()


def _item_of(path: Path) -> str:
    return path.name.partition("-")[0]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
