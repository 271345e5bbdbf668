"""Hashes the whole library in the background, so that most files are ready when a friend asks for them.

The library's index lists the files without touching the disk, and a database lists what is hashed. Only new and changed files
are opened, one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
import contextlib
from dataclasses import dataclass, replace
import logging
import time
from typing import Final, Protocol

from ..core import tasks
from ..core.errors import EngineError
from ..core.sqlite import StoreError
from ..models import Listed, LocalFile
from .hashing import Hasher, HashingError
from .priority import Priority
from .store import SwarmStore, Version

PAGE: Final = 500
"""Files in one request to the library."""
PAUSE: Final = 30.0
"""Minimum seconds between two passes through the library. Large libraries get fewer passes."""
SETTLED: Final = 60.0
"""Seconds since its last change after which a file is probably complete."""
AGAIN: Final = 3600.0
"""Seconds until files that could not be hashed are retried."""
FULL: Final = 300.0
"""Seconds to wait when the disk is too full to store hashes."""

_PAUSE_FACTOR: Final = 20
"""The pause after a pass, as a multiple of the time that listing the library took."""
_LOGGER = logging.getLogger(__name__)


class Source(Protocol):
    """The library, as far as hashing needs it."""

    async def listed(
        self, after: int, limit: int
    ) -> tuple[Sequence[Listed], int | None]:
        """Return files of available shares in a fixed order, and where the next page begins; None at the end.

        The first page begins at 0. Raises EngineError if the library cannot be read now.
        """

    async def file(self, item_id: str) -> LocalFile:
        """Return an item's file as it is on disk now. Raises EngineError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryProgress:
    """How much of the library is hashed."""

    files: int = 0
    size: int = 0
    """Bytes of all files."""
    hashed_files: int = 0
    hashed_size: int = 0
    working: bool = False
    """Whether files remain to be hashed."""


class Background:
    """Hashes files that are not hashed yet."""

    def __init__(self, store: SwarmStore, hasher: Hasher, library: Source) -> None:
        """Prepare to hash the files of `library`."""
        self.progress = LibraryProgress()
        self._store = store
        self._hasher = hasher
        self._library = library
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._later = False

    def start(self) -> None:
        """Start hashing."""
        self._news.set()
        self._task = tasks.keep(self._run, "background hashing")

    async def stop(self) -> None:
        """End all work."""
        await tasks.end(self._task)
        self._task = None

    def items_changed(self) -> None:
        """Go through the library again soon: it has new files, or a disk is back."""
        self._news.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN):
                    await self._news.wait()
            self._news.clear()
            began = time.monotonic()
            looked = 0.0
            try:
                await self._count()
                looked = time.monotonic() - began
                if self.progress.working:
                    await self._work()
            except (EngineError, StoreError) as err:
                _LOGGER.info("Hashing the library is postponed: %s", err)
                self._later = True
            except Exception:
                _LOGGER.exception("Hashing the library failed")
            self.progress = replace(self.progress, working=False)
            await asyncio.sleep(max(PAUSE, looked * _PAUSE_FACTOR))
            if self._later:
                self._later = False
                self._news.set()

    async def _count(self) -> None:
        """Count what is hashed, without reading files."""
        files = size = hashed_files = hashed_size = 0
        after: int | None = 0
        while after is not None:
            page, after = await self._library.listed(after, PAGE)
            known = await self._known(page)
            files += len(page)
            size += sum(each.size for each in page)
            done = [each for each in page if _is_done(each, known)]
            hashed_files += len(done)
            hashed_size += sum(each.size for each in done)
        self.progress = LibraryProgress(
            files=files,
            size=size,
            hashed_files=hashed_files,
            hashed_size=hashed_size,
            working=hashed_files < files,
        )
        if files:
            await self._store.run(self._store.forget_unseen, time.time())

    async def _work(self) -> None:
        """Hash the files that are not hashed."""
        after: int | None = 0
        while after is not None:
            page, after = await self._library.listed(after, PAGE)
            known = await self._known(page)
            for each in page:
                if not _is_done(each, known):
                    await self._hash(each)

    async def _hash(self, listed: Listed) -> None:
        try:
            file = await self._library.file(listed.item)
            if abs(time.time() - file.mtime_ns / 1e9) < SETTLED:
                # It may still be being copied. Waiting avoids reading it several times.
                self._later = True
                return
            await self._hasher.hashes(file, Priority.LATER)
            while self._store.full:
                # Otherwise the whole library would be read again and again for nothing.
                await asyncio.sleep(FULL)
                await self._hasher.hashes(file, Priority.LATER)
        except (EngineError, HashingError) as err:
            # It is retried when something changes, or after AGAIN.
            _LOGGER.debug("%s is not hashed: %s", listed.item, err)
            return
        progress = self.progress
        self.progress = replace(
            progress,
            hashed_files=min(progress.hashed_files + 1, progress.files),
            hashed_size=min(progress.hashed_size + file.size, progress.size),
        )

    async def _known(self, page: Sequence[Listed]) -> set[Version]:
        versions = [_version(each) for each in page]
        return await self._store.run(self._store.known, versions, time.time())


def _is_done(listed: Listed, known: set[Version]) -> bool:
    return listed.size == 0 or _version(listed) in known


def _version(listed: Listed) -> Version:
    return Version(listed.inode, listed.size, listed.mtime_ns)
