"""Asks owners for new tickets, in the place of those that ended or have no torrent yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
import time
from typing import Final

from ..access.ticket import Ticket
from ..core.errors import EngineError
from ..core.tasks import Tasks
from .entries import Entry, Key, key_of

RENEW_INTERVAL: Final = 5.0
"""Seconds after which an owner who gave no new ticket is asked again."""

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
        self.asked: dict[Key, float] = {}
        """When each owner was asked last about an item, by the monotonic clock."""
        self._asking: dict[Key, asyncio.Task[None]] = {}

    def ask(self, entry: Entry) -> None:
        """Ask for a new ticket, unless that happened just now."""
        now, key = time.monotonic(), entry.key
        if self._renew is None or key in self._asking:
            return
        if now - self.asked.get(key, float("-inf")) < RENEW_INTERVAL:
            return
        self.asked = {
            each: when
            for each, when in self.asked.items()
            if now - when < RENEW_INTERVAL
        }
        self.asked[key] = now
        task = self._asking[key] = self._tasks.spawn(
            self._ask(entry, self._renew), "renew"
        )
        task.add_done_callback(lambda _: self._asking.pop(key, None))

    async def answered(self, entry: Entry, seconds: float) -> None:
        """Ask, and wait for the answer for so many seconds."""
        self.ask(entry)
        if (asking := self._asking.get(entry.key)) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await asyncio.shield(asking)

    async def _ask(self, entry: Entry, renew: Renew) -> None:
        try:
            ticket = await renew(entry.download.ticket)
            if key_of(ticket) == entry.key:
                await self._accept(ticket)
        except EngineError as err:
            entry.download.message = str(err)
