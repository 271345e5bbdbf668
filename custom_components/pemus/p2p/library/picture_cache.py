"""Pictures and converted subtitles, kept in the cache until their files change.

A file's name in the cache tells the item and the version of what it was made of, so an old one is never taken for a new
one. What is left over is swept out when the engine starts, and what an item leaves behind when it goes, at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import contextlib
from hashlib import blake2s
from pathlib import Path
import threading

from ..media.reader import PARTIAL

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
        self._lock = threading.Lock()
        """Held while a file is counted or removed."""
        self._fresh: set[Path] = set()
        """What was made, or is being made, since the start. A sweep knows nothing of it and leaves it alone."""
        self._swept = False

    def picture(self, item_id: str, etag: str) -> Path:
        """Return where the picture of an item's present version is, or goes."""
        return self._pictures / item_id[:2] / f"{item_id}-{_short(etag)}.jpg"

    def subtitle(self, item_id: str, name: str, size: int, mtime_ns: int) -> Path:
        """Return where a converted subtitle file of an item is, or goes."""
        version = _short(f"{name}/{size}/{mtime_ns}")
        return self._subtitles / item_id[:2] / f"{item_id}-{version}.vtt"

    def prepare(self, target: Path) -> None:
        """Make the folder that `target` goes to, which is about to be made. Raises OSError."""
        with self._lock:
            if not self._swept:
                self._fresh.add(target)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def added(self, target: Path) -> None:
        """Count a new picture, remove those of older versions, and the oldest of all where there are too many."""
        with self._lock:
            for path in target.parent.glob(f"{_item_of(target)}-*"):
                if path != target:
                    self._unlink(path)
            with contextlib.suppress(OSError):
                self.size += target.stat().st_size
            if self.size > MAX_SIZE:
                self._shrink()

    def remove(self, item_ids: Iterable[str]) -> None:
        """Remove all that was made of items."""
        for item_id in item_ids:
            for folder in (self._pictures, self._subtitles):
                with self._lock, contextlib.suppress(OSError):
                    for path in (folder / item_id[:2]).glob(f"{item_id}-*"):
                        self._unlink(path)

    def sweep(self, current: Callable[[list[str]], dict[str, str]]) -> None:
        """Remove what no item needs, once after the start. `current` returns the entity tag of those of the given items that exist.

        What is made meanwhile may be of versions that are newer than what `current` said.
        """
        for folder in (self._pictures, self._subtitles):
            for below in _entries(folder):
                files = [each for each in _entries(below) if not each.is_dir()]
                tags = current(list({_item_of(each) for each in files}))
                for path in files:
                    tag = tags.get(_item_of(path))
                    if tag is None or (
                        folder == self._pictures
                        and path != self.picture(_item_of(path), tag)
                    ):
                        with self._lock:
                            if _target_of(path) not in self._fresh:
                                self._unlink(path)
        with self._lock:
            self._swept = True
            self._fresh.clear()
            self._measure()

    def _measure(self) -> list[tuple[int, int, Path]]:
        """Find out how large all is; return age, size and place of each picture."""
        found = []
        for folder in _entries(self._pictures):
            for path in _entries(folder):
                # What is being written is counted when it is complete.
                if path.name.startswith("."):
                    continue
                with contextlib.suppress(OSError):
                    status = path.stat()
                    found.append((status.st_mtime_ns, status.st_size, path))
        self.size = sum(size for _, size, _ in found)
        return found

    def _shrink(self) -> None:
        for _, _, path in sorted(self._measure()):
            if self.size <= _SHRINK_TO:
                break
            self._unlink(path)

    def _unlink(self, path: Path) -> None:
        """Remove a file, which others may have removed before."""
        try:
            size = path.stat().st_size
            path.unlink()
        except OSError:
            return
        if path.parent.parent == self._pictures:
            self.size = max(0, self.size - size)


def _short(version: str) -> str:
    return blake2s(version.encode(), digest_size=8).hexdigest()


def _target_of(path: Path) -> Path:
    """Return the name that a file has, or is to have when it is complete."""
    if path.name.startswith(".") and path.name.endswith(PARTIAL):
        # A number tells those apart that are written at the same time.
        return path.with_name(path.name[1:].removesuffix(PARTIAL).rpartition(".")[0])
    return path


def _item_of(path: Path) -> str:
    return path.name.partition("-")[0]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
