"""Pictures and subtitles of friends' items: fetched when they are first shown, and kept for a while."""

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

from ..errors import DiskFull

MAX_SIZE: Final = 4 * 1024**2
MAX_FILES: Final = 5000
"""Of one home; the oldest ones go first."""
SWEEP: Final = 200
"""Files after which it is looked whether there are too many."""
AT_ONCE: Final = 4
"""That are fetched from one home at a time: a folder full of pictures must not hold up a film."""

_LOGGER = logging.getLogger(__name__)


class Pictures:
    """A folder of them for each home."""

    def __init__(self, folder: Path) -> None:
        """Keep them below `folder`."""
        self._folder = folder
        self._fetching: dict[Path, asyncio.Task[Path]] = {}
        self._at_once: dict[str, asyncio.Semaphore] = {}
        self._made = 0

    async def get(
        self,
        home: str,
        etag: str,
        fetch: Callable[[int], Awaitable[bytes]],
        name: str,
    ) -> Path:
        """Return the file for a name and a version, fetched first if need be. `fetch` gets the most bytes it may return.

        Raises what `fetch` raises, and DiskFull or Unavailable if the disk does not take it.
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

    async def remove(self, home: str) -> None:
        """Remove all of a home's."""
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
            raise DiskFull(f"a picture cannot be kept: {err.strerror}") from None
        self._made += 1
        if self._made % SWEEP == 0:
            await asyncio.to_thread(_sweep, path.parent)
        return path

    def _fetched(self, path: Path, task: asyncio.Task[Path]) -> None:
        del self._fetching[path]
        if not task.cancelled():
            # Whoever waited was told.
            task.exception()


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)


def _sweep(folder: Path) -> None:
    """Remove the oldest files if there are too many."""
    with suppress(OSError):
        files = sorted(os.scandir(folder), key=lambda each: each.stat().st_mtime)
        for file in files[: max(0, len(files) - MAX_FILES)]:
            with suppress(OSError):
                Path(file).unlink()
