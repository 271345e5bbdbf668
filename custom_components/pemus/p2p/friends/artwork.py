"""Caches pictures and subtitles of friends' items. They are fetched when they are first shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
import logging
import os
from pathlib import Path
import shutil
from typing import Final

from ..core.errors import DiskFull
from ..models.homes import is_home

MAX_SIZE: Final = 4 * 1024**2
MAX_FILES: Final = 5000
"""Files of one home. The oldest are removed first."""
MAX_BYTES: Final = 512 * 1024**2
"""Bytes of one home. Most pictures have about 30 KiB."""
SWEEP: Final = 64 * 1024**2
"""Bytes fetched from one home after which the limits are checked."""
AT_ONCE: Final = 4
"""Files that are fetched from one home at the same time: a folder full of pictures must not hold up a film."""

_BLOCK: Final = 64 * 1024
_LOGGER = logging.getLogger(__name__)


class Pictures:
    """Keeps a folder of pictures and subtitles for each home."""

    def __init__(self, folder: Path) -> None:
        """Prepare to keep them in folders below `folder`."""
        self._folder = folder
        self._fetching: dict[Path, asyncio.Task[Path]] = {}
        self._at_once: dict[str, asyncio.Semaphore] = {}
        self._made: dict[str, int] = {}
        """Bytes fetched from each home since the limits were checked."""

    async def get(
        self,
        home: str,
        etag: str,
        fetch: Callable[[int], Awaitable[bytes]],
        name: str,
    ) -> Path:
        """Return the file for a name and a version, fetched first if need be.

        `fetch` is called with the most bytes that it may return. Raises what it raises, and DiskFull if the file cannot be
        written.
        """
        version = sha256(f"{name} {etag}".encode()).hexdigest()[:32]
        path = self._folder / home / version
        if await asyncio.to_thread(path.exists):
            return path
        task = self._fetching.get(path)
        if task is None:
            task = asyncio.create_task(self._fetch(home, path, fetch), name="picture")
            self._fetching[path] = task
            task.add_done_callback(lambda done: self._fetched(path, done))
        return await asyncio.shield(task)

    def homes(self) -> set[str]:
        """Return the homes that have files here. Blocks."""
        try:
            return {each.name for each in self._folder.iterdir() if is_home(each.name)}
        except OSError:
            return set()

    async def remove(self, home: str) -> None:
        """Remove all files of a home."""
        self._made.pop(home, None)
        self._at_once.pop(home, None)
        await asyncio.to_thread(shutil.rmtree, self._folder / home, ignore_errors=True)

    async def _fetch(
        self, home: str, path: Path, fetch: Callable[[int], Awaitable[bytes]]
    ) -> Path:
        gate = self._at_once.setdefault(home, asyncio.Semaphore(AT_ONCE))
        async with gate:
            content = await fetch(MAX_SIZE)
        try:
            await asyncio.to_thread(_keep, path, content)
        except OSError as err:
            raise DiskFull(f"a picture cannot be saved: {err.strerror}") from None
        # A file takes at least one block of the disk, so many small ones count, too.
        made = self._made.get(home, SWEEP) + max(len(content), _BLOCK)
        self._made[home] = made if made < SWEEP else 0
        if made >= SWEEP:
            await asyncio.to_thread(_sweep, path.parent)
        return path

    def _fetched(self, path: Path, task: asyncio.Task[Path]) -> None:
        del self._fetching[path]
        if not task.cancelled():
            # Those who waited got the exception.
            task.exception()


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)


def _sweep(folder: Path) -> None:
    """Remove the oldest files if there are too many, or if they are too large together."""
    with suppress(OSError):
        files = [(each.stat(), each.path) for each in os.scandir(folder)]
        files.sort(key=lambda each: each[0].st_mtime, reverse=True)
        size = 0
        for number, (facts, path) in enumerate(files):
            size += facts.st_size
            if number >= MAX_FILES or size > MAX_BYTES:
                with suppress(OSError):
                    Path(path).unlink()
