"""The copy of what a friend shares: fetched anew when it may have changed, and what is new in it told."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import islice
import logging
from pathlib import Path
from typing import Final

from ..errors import EngineError
from ..library.foreign import Applied, BadCatalogue, ForeignLibrary
from ..library.store import StoreError
from .backoff import Rarely

GAP: Final = 3.0
"""Seconds between two transfers, however often it changes."""
LIFE: Final = 3600.0
"""Seconds that one may take. What arrived before counts."""
PAUSE: Final = 20.0
"""Seconds after which one that failed is tried again."""
NEWS_PAUSE: Final = 60.0
"""Seconds between two pieces of news of a friend."""
MAX_TITLES: Final = 5
MAX_PAGE: Final = 1024 * 1024
MAX_STATE: Final = 128

_LOGGER = logging.getLogger(__name__)


class FriendList:
    """The copy of one friend's list."""

    def __init__(
        self,
        cache: Path,
        home: str,
        *,
        fetch: Callable[[str], AsyncIterator[bytes]],
        is_online: Callable[[], bool],
        on_change: Callable[[], None],
        on_items: Callable[[tuple[str, ...] | None], None],
        on_news: Callable[[int, tuple[str, ...]], None],
    ) -> None:
        """Prepare to keep a copy in `cache`.

        `fetch` asks the friend for what differs from what is here already, and `is_online` tells whether that makes sense.
        `on_change` is called when there is more of it or something to say about it, `on_items` with items that changed, None
        for many, and `on_news` with the number of new items and some of their titles.
        """
        self.library = ForeignLibrary(cache, home)
        self.message: str | None = None
        """Why it could not be fetched, for users."""
        self.was_listed = False
        """Whether there is one, be it old."""
        self._home = home
        self._fetch = fetch
        self._is_online = is_online
        self._on_change = on_change
        self._on_items = on_items
        self._on_news = on_news
        self._is_open = False
        self._state = ""
        """Of what was fetched last."""
        self._wanted_state = ""
        """Of what there is to fetch."""
        self._stale = asyncio.Event()
        self._count_new = 0
        """How many items are new that nobody was told of."""
        self._titles: list[str] = []
        """The first of them."""
        self.may_announce = Rarely(NEWS_PAUSE)

    async def open(self) -> None:
        """Open what is here. Raises StoreError, OSError."""
        await self.library.open()
        self._is_open = True
        self.was_listed = self.count > 0

    @property
    def count(self) -> int:
        """How many items are known."""
        counts = self.library.counts
        return counts.video + counts.music + counts.photo

    @property
    def is_current(self) -> bool:
        """Whether all of it was fetched since this engine began."""
        return bool(self._state)

    def compare(self, state: str) -> None:
        """Fetch it if it is another one by now: a friend's list has a state, which changes with it."""
        self._wanted_state = state[:MAX_STATE]
        if self._wanted_state != self._state:
            self._stale.set()

    def doubt(self) -> None:
        """Fetch it: it changed, and nobody said how."""
        self._state = self._wanted_state = ""
        self._stale.set()

    def begin(self) -> None:
        """Fetch it unless that was done: its owner can be asked now."""
        if not self.is_current:
            self._stale.set()

    async def keep(self) -> None:
        """Keep it up to date for ever."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            state = self._wanted_state
            try:
                async with asyncio.timeout(LIFE):
                    await self._transfer()
            except (EngineError, StoreError, OSError) as err:
                _LOGGER.debug("The list of %s: %s", self._home, err)
                self.message = str(err) or "the list takes too long to come"
                self._on_change()
                # Whatever its owner says meanwhile.
                await asyncio.sleep(GAP)
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE):
                        await self._stale.wait()
                if self._is_online():
                    self._stale.set()
                continue
            self._state = state or "listed"
            self.announce()
            self.was_listed = True
            self._on_change()
            await asyncio.sleep(GAP)

    def announce(self) -> None:
        """Say what is new, or leave it for later if something was said a moment ago."""
        if not self._count_new or not self.may_announce.now():
            return
        self._on_news(self._count_new, tuple(self._titles))
        self._count_new, self._titles = 0, []

    async def _transfer(self) -> None:
        """Fetch what differs. Raises EngineError, StoreError, OSError."""
        if not self._is_open:
            await self.open()
        have = b64encode(await self.library.have()).decode()
        pages, done = 0, False
        buffer = bytearray()
        async for part in self._fetch(have):
            buffer += part
            while (page := _page(buffer)) is not None:
                applied = await self.library.apply(page)
                pages, done = pages + 1, applied.done
                if self.was_listed:
                    # The first time everything is.
                    self._add_news(applied)
                self._on_items(applied.changed_ids)
                if pages % 16 == 0:
                    self._on_change()
        if buffer or not done:
            raise BadCatalogue("the list ended too early")

    def _add_news(self, applied: Applied) -> None:
        self._count_new += applied.count_new
        titles = (title for _, title in applied.new)
        self._titles += islice(titles, MAX_TITLES - len(self._titles))


def _page(buffer: bytearray) -> bytes | None:
    """Take the next page out of what has come so far: each has its length in four bytes before it. Raises BadCatalogue."""
    if len(buffer) < 4:
        return None
    length = int.from_bytes(buffer[:4])
    if length > MAX_PAGE:
        raise BadCatalogue("a page is too long")
    if len(buffer) < 4 + length:
        return None
    page = bytes(buffer[4 : 4 + length])
    del buffer[: 4 + length]
    return page
