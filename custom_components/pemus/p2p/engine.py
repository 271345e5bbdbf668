"""The engine: builds the components, starts them in one order, and stops them in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
import fcntl
import logging
import os
from pathlib import Path

from .api import ApiServer
from .components import Components
from .core.news import News
from .home import Home
from .media.reader import MediaReader
from .models import EngineConfig
from .models.version import VERSION

LOCK_TIMEOUT = 7
"""Seconds to wait for a former engine, which may be stopping, to let go of the data folder."""

_LOCK_RETRY = 0.1
_LOGGER = logging.getLogger(__name__)


class FolderInUseError(Exception):
    """Another engine works with this data folder."""


class Engine:
    """Everything that runs in the engine's process."""

    def __init__(
        self, *, data: Path, cache: Path, socket: Path, awaits_config: bool = False
    ) -> None:
        """Prepare an engine that keeps its index in `data`, what can be made again in `cache`, and listens at `socket`.

        `awaits_config` is as in `Home`.
        """
        self._data = data
        self._cache = cache
        self._media = MediaReader()
        news = News()
        self.components = Components(
            data=data, cache=cache, media=self._media, news=news
        )
        self.home = Home(self.components, data=data, awaits_config=awaits_config)
        self._api = ApiServer(self.home, socket)

    @asynccontextmanager
    async def running(self, config: EngineConfig | None = None) -> AsyncGenerator[None]:
        """Run everything; stop it in reverse order in the end, whatever happened.

        Raises OSError for folders that cannot be used, FolderInUseError, SocketError.
        """
        for folder in (self._data, self._cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with AsyncExitStack() as parts:
            await parts.enter_async_context(_sole_use_of(self._data))
            parts.push_async_callback(self._media.stop)
            await self._media.start()
            self.components.capabilities |= self._media.capabilities
            await parts.enter_async_context(self.home.running(config))
            # Last, so that a client which connects finds everything ready.
            parts.push_async_callback(self._api.stop)
            await self._api.start()
            _LOGGER.info("PeMuS engine %s is ready", VERSION)
            yield
            _LOGGER.debug("The engine is stopping")


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
