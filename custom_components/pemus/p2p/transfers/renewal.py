"""Asks owners for new tickets when the present ones end or have no torrent yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from ..access.ticket import Ticket
from ..core.errors import EngineError
from ..core.tasks import Tasks
from ..core.throttle import TokenBuckets
from .entry import Entry, Key, key_of

RENEWAL_INTERVAL: Final = 5.0
"""Seconds between two requests for the same item."""
MAX_ITEMS: Final = 1000
"""Items for which the time of the last request is remembered."""

type Renew = Callable[[Ticket], Awaitable[Ticket]]
"""Asks the owner of an item for a new ticket. Raises EngineError."""


class Renewal:
    """Asks about each item once at a time, and not too often."""

    def __init__(
        self,
        renew: Renew | None,
        accept: Callable[[Ticket], Awaitable[None]],
        tasks: Tasks,
    ) -> None:
        """Prepare to ask with `renew`, if there is a way to ask. New tickets go to `accept`."""
        self._renew = renew
        self._accept = accept
        self._tasks = tasks
        self._may_ask = TokenBuckets(1 / RENEWAL_INTERVAL, 1, max_keys=MAX_ITEMS)
        self._asking: dict[Key, asyncio.Task[None]] = {}

    def ask(self, entry: Entry) -> None:
        """Ask for a new ticket, unless that was done within `RENEWAL_INTERVAL`."""
        key = entry.key
        if self._renew is None or key in self._asking or not self._may_ask.take(key):
            return
        task = self._asking[key] = self._tasks.spawn(
            self._ask(entry, self._renew), "renew"
        )
        task.add_done_callback(lambda _: self._asking.pop(key, None))

    async def answered(self, entry: Entry, timeout: float) -> None:
        """Ask, and wait for the answer, at most `timeout` seconds."""
        self.ask(entry)
        if (asking := self._asking.get(entry.key)) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await asyncio.shield(asking)

    async def _ask(self, entry: Entry, renew: Renew) -> None:
        try:
            ticket = await renew(entry.ticket)
            if key_of(ticket) == entry.key:
                await self._accept(ticket)
        except EngineError as err:
            entry.message = str(err)
