"""The engine as a whole: puts library, media reader and API together, and ends them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
import fcntl
import logging
import os
from pathlib import Path
import time

from .api import ApiServer
from .capabilities import installed
from .library import Library
from .media.reader import MediaReader
from .models import (
    API_VERSION,
    EngineConfig,
    Item,
    Listing,
    LocalFile,
    SearchQuery,
    SearchResult,
    Status,
)
from .version import VERSION

LOCK_TIMEOUT = 7
"""Seconds to wait for the engine before this one, which may be stopping, to let go of the data folder."""

_LOCK_RETRY = 0.1
_LOGGER = logging.getLogger(__name__)


class FolderInUseError(Exception):
    """Another engine works with this data folder."""


class Engine:
    """Everything that runs in the engine's process. The API's backend."""

    def __init__(self, *, data: Path, cache: Path, socket: Path) -> None:
        """Prepare an engine that keeps its index in `data`, what can be made anew in `cache`, and listens at `socket`."""
        self._data = data
        self._cache = cache
        self._started = time.time()
        self._media = MediaReader()
        self._api = ApiServer(self, socket)
        self._library = Library(
            data=data,
            cache=cache,
            media=self._media,
            on_change=self._api.events.status_changed,
            on_items=self._api.events.items_changed,
        )
        self._capabilities: dict[str, str | None] = installed()

    @asynccontextmanager
    async def running(self, config: EngineConfig | None = None) -> AsyncGenerator[None]:
        """Run all parts; in the end they are stopped in reverse order, whatever happened.

        Raises OSError for folders that cannot be used, FolderInUseError, SocketError.
        """
        for folder in (self._data, self._cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with AsyncExitStack() as parts:
            await parts.enter_async_context(_sole_use_of(self._data))
            parts.push_async_callback(self._media.stop)
            await self._media.start()
            self._capabilities |= self._media.capabilities
            parts.push_async_callback(self._library.stop)
            await self._library.start()
            if config is not None:
                await self._library.apply(config)
            # Last, so that who connects finds everything ready.
            parts.push_async_callback(self._api.stop)
            await self._api.start()
            _LOGGER.info("PeMuS engine %s is ready", VERSION)
            yield
            _LOGGER.debug("The engine is stopping")

    def status(self) -> Status:
        """Return the present state."""
        library = self._library
        return Status(
            api_version=API_VERSION,
            version=VERSION,
            pid=os.getpid(),
            started=self._started,
            rss=resident_memory(),
            scan_state=library.scan_state,
            progress=library.progress,
            revision=library.revision,
            counts=library.counts,
            shares=library.shares,
            problems=library.problems,
            capabilities=self._capabilities,
        )

    async def configure(self, config: EngineConfig) -> None:
        """Apply the differences between `config` and what runs."""
        await self._library.apply(config)

    def rescan(self, share: str | None) -> None:
        """Begin to scan a share, or all of them."""
        self._library.rescan(share)

    async def item(self, item_id: str) -> Item:
        """Return an item."""
        return await self._library.item(item_id)

    async def file(self, item_id: str) -> LocalFile:
        """Return an item's file as it is on disk now."""
        return await self._library.file(item_id)

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return an item's picture, made first if need be."""
        return await self._library.thumbnail(item_id)

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        """Return one of an item's subtitles as WebVTT, converted first if need be."""
        return await self._library.subtitles(item_id, index)

    async def browse(self, node: str) -> Listing:
        """Return what lies in a node."""
        return await self._library.browse(node)

    async def search(self, query: SearchQuery) -> SearchResult:
        """Return what matches."""
        return await self._library.search(query)


def resident_memory() -> int:
    """Return the bytes of memory that this process has in use; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def _sole_use_of(data: Path) -> AsyncGenerator[None]:
    """Hold the data folder's lock. The system frees it when the process ends, however it ends."""
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            async with asyncio.timeout(LOCK_TIMEOUT):
                while True:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        await asyncio.sleep(_LOCK_RETRY)
        except TimeoutError:
            raise FolderInUseError(f"another engine uses {data}") from None
        yield
    finally:
        os.close(lock)
