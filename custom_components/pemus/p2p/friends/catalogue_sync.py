"""Keeps a copy of a friend's list up to date, and reports what is new in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
import logging
from pathlib import Path
import time
from typing import Final

from ..catalogue.remote_library import Applied, BadCatalogue, RemoteLibrary
from ..catalogue.wire import MAX_UNPACKED
from ..core.backoff import Backoff
from ..core.errors import EngineError
from ..core.sqlite import StoreError
from ..core.throttle import TokenBucket

GAP: Final = 3.0
"""Seconds between two transfers, however often the list changes."""
LIFE: Final = 3600.0
"""Seconds that a transfer may take. What arrived by then is kept."""
PAUSE: Final = 20.0
"""Seconds after which a transfer that failed is repeated."""
MAX_PAUSE: Final = 3600.0
"""The longest pause for a friend whose lists are malformed again and again, in seconds."""
MAX_WORK: Final = 1024**3
"""Work of one transfer, in bytes of unpacked pages; other work is converted (`Applied.work`)."""
PAGE_WORK: Final = 16 * 1024
"""Work of the smallest page."""
WORK_RATE: Final = 64 * 1024
"""Work per second that one friend may cause on average: about a hundredth of a processor."""
WORK_AT_ONCE: Final = 512 * 1024**2
"""Work that one friend may cause at once: more than a million items take."""
NEWS_PAUSE: Final = 60.0
"""Seconds between two reports about one friend."""
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
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare to keep a copy in the folder `cache`.

        `fetch` asks the friend for what differs from a state of the copy, and `is_online` tells whether the friend can be
        reached. `on_change` is called when `count` or `message` changes, `on_items` with items that changed, None for many,
        and `on_news` with the number of new items and some of their titles. `clock` is monotonic, in seconds; `sleep` waits
        by it.
        """
        self.library = RemoteLibrary(cache, home)
        self.message: str | None = None
        """Why the list could not be fetched, for users."""
        self.was_listed = False
        """Whether there is a list, even an old one."""
        self._home = home
        self._fetch = fetch
        self._is_online = is_online
        self._on_change = on_change
        self._on_items = on_items
        self._on_news = on_news
        self._is_open = False
        self._state = ""
        """State of the list that was last fetched."""
        self._wanted_state = ""
        """State of the friend's list now, as far as it is known."""
        self._stale = asyncio.Event()
        self._count_new = 0
        """How many new items were not reported yet."""
        self._titles: list[str] = []
        """The first of them."""
        self.may_announce = TokenBucket.every(NEWS_PAUSE)
        self._sleep = sleep
        self.may_work = work_of_friend(clock)
        self._may_fail = Backoff(PAUSE, MAX_PAUSE)
        self._work = 0
        """Work of the present transfer so far."""

    async def open(self) -> None:
        """Open the copy. Raises StoreError, OSError."""
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
        """Whether the whole list was fetched since this engine started."""
        return bool(self._state)

    def compare(self, state: str) -> None:
        """Fetch the list if its owner names another state than that of the copy."""
        self._wanted_state = state[:MAX_STATE]
        if self._wanted_state != self._state:
            self._stale.set()

    def doubt(self) -> None:
        """Fetch the list: it has changed."""
        self._state = self._wanted_state = ""
        self._stale.set()

    def begin(self) -> None:
        """Fetch the list if that was not done yet: its owner can be asked now."""
        if not self.is_current:
            self._stale.set()

    async def keep(self) -> None:
        """Keep the copy up to date until cancelled."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            state = self._wanted_state
            try:
                async with asyncio.timeout(LIFE):
                    await self._transfer()
            except (EngineError, StoreError, OSError) as err:
                _LOGGER.debug("The list of %s: %s", self._home, err)
                self.message = str(err) or "the list takes too long to arrive"
                self._on_change()
                is_bad = isinstance(err, BadCatalogue)
                # A malformed list is not fetched earlier, whatever its owner sends.
                await self._rest(self._may_fail.failed() if is_bad else 0.0)
                if not is_bad:
                    await self._until_stale(PAUSE)
                if self._is_online():
                    self._stale.set()
                continue
            self._may_fail.succeeded()
            self._state = state or "listed"
            self.announce()
            self.was_listed = True
            self._on_change()
            await self._rest()

    async def _rest(self, seconds: float = 0.0) -> None:
        """Wait after a transfer: at least `seconds`, and until its owner may cause work again."""
        await self._sleep(max(GAP, seconds, self.may_work.spend(self._work)))

    async def _until_stale(self, seconds: float) -> None:
        """Wait until the list has changed, at most `seconds`."""
        stale = asyncio.ensure_future(self._stale.wait())
        passed = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait((stale, passed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stale.cancel()
            passed.cancel()

    def announce(self) -> None:
        """Report what is new, or leave it for later if there was a report a moment ago."""
        if not self._count_new or not self.may_announce.take():
            return
        self._on_news(self._count_new, tuple(self._titles))
        self._count_new, self._titles = 0, []

    async def _transfer(self) -> None:
        """Fetch what differs from the copy. Raises EngineError, StoreError, OSError."""
        self._work = PAGE_WORK
        if not self._is_open:
            await self.open()
        have = await self.library.have()
        pages, done = 0, False
        buffer = bytearray()
        async for part in self._fetch(have):
            buffer += part
            while (page := _page(buffer)) is not None:
                if done:
                    raise BadCatalogue("the list goes on after its end")
                # Counts as the largest page until its work is known, and if it is malformed.
                self._work += MAX_UNPACKED
                try:
                    applied = await self.library.apply(page)
                except BadCatalogue:
                    await self.library.distrust()
                    raise
                self._work += max(applied.work, PAGE_WORK) - MAX_UNPACKED
                if self._work > MAX_WORK:
                    raise BadCatalogue("the list is too long")
                pages, done = pages + 1, applied.done
                if self.was_listed:
                    # In the first list, everything is.
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


def work_of_friend(clock: Callable[[], float]) -> TokenBucket:
    """Return the limit on the work that a friend's lists may cause."""
    return TokenBucket(WORK_RATE, WORK_AT_ONCE, clock)


def _page(buffer: bytearray) -> bytes | None:
    """Remove the next page from the buffer, and return it. Its length precedes it in four bytes. Raises BadCatalogue."""
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
