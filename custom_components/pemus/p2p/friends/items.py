"""Fetches what belongs to an item of a friend: its ticket, its picture, its subtitles."""

from __future__ import annotations

import asyncio
from dataclasses import replace
import logging
from pathlib import Path
import time
from typing import Final

from ..access import ticket as tickets
from ..access.ticket import MAX_TICKET, BadTicket, Ticket
from ..core.errors import EngineError, Unavailable
from ..core.tasks import Tasks
from ..models import Item
from ..net.link.frames import Ask
from ..serving.requests import TTL
from .catalogue_sync import FriendList
from .context import Context

MAX_DIFFERING: Final = 1000
"""Items of one friend for which it is remembered that list and ticket differ."""

_LOGGER = logging.getLogger(__name__)


class Items:
    """The items of one friend."""

    def __init__(
        self, context: Context, home: str, list_: FriendList, tasks: Tasks
    ) -> None:
        """Prepare to fetch from a home what its list has."""
        self._context = context
        self._home = home
        self._list = list_
        self._tasks = tasks
        self._differing: dict[str, tuple[str, str]] = {}
        """Items whose ticket is newer than the list: entity tags in the list and in the ticket."""

    async def prepare(self, item_id: str) -> None:
        """Make sure that an item can be fetched in the version that the list has. Raises NotFound, Unavailable, and what the friend refuses with."""
        listed = None
        if self._list.was_listed or self._list.is_current:
            listed = (await self._list.library.item(item_id, online=True)).etag
        downloads = self._context.downloads()
        if downloads is None:
            raise Unavailable(
                "nothing can be fetched: the download cache does not work"
            )
        here = downloads.etag(self._home, item_id)
        if here is not None and (
            listed in (None, here) or self._differing.get(item_id) == (listed, here)
        ):
            return
        ticket = await self.ticket(item_id)
        await downloads.accept(ticket)
        self._differing.pop(item_id, None)
        if listed is not None and listed != ticket.item.etag:
            # The friend has looked at the file since; its list follows.
            while len(self._differing) >= MAX_DIFFERING:
                del self._differing[next(iter(self._differing))]
            self._differing[item_id] = listed, ticket.item.etag

    async def ticket(self, item_id: str) -> Ticket:
        """Return a new ticket. Raises EngineError."""
        ask = Ask(do="ticket", item=item_id)
        body = await self._context.connections.ask_whole(self._home, ask, MAX_TICKET)
        try:
            ticket = await asyncio.to_thread(tickets.read, body)
        except BadTicket as err:
            raise Unavailable(f"the other home gave no ticket: {err}") from None
        named = ticket.owner, ticket.receiver, ticket.item.id
        if named != (
            self._home,
            self._context.connections.messenger.identity.id,
            item_id,
        ):
            raise Unavailable("the other home gave a ticket for something else")
        # The ticket is fresh, so its life is counted by this home's clock: the clocks need not agree.
        return replace(ticket, expires=time.time() + TTL)

    async def thumbnail(self, item: Item) -> Path:
        """Return the file with an item's picture, fetched first if need be. Raises EngineError."""
        return await self._blob(item, Ask(do="thumbnail", item=item.id), item.id)

    async def subtitles(self, item: Item, index: int) -> Path:
        """Return the file with an item's subtitles as WebVTT, fetched first if need be. Raises EngineError."""
        ask = Ask(do="subtitles", item=item.id, index=index)
        return await self._blob(item, ask, f"{item.id}.{index}")

    async def _blob(self, item: Item, ask: Ask, name: str) -> Path:
        async def fetch(limit: int) -> bytes:
            return await self._context.connections.ask_whole(self._home, ask, limit)

        return await self._context.pictures.get(self._home, item.etag, fetch, name)

    def changed(self, items: tuple[str, ...] | None) -> None:
        """Fetch the new version of changed items that are being read, or kept; None for many."""
        if (downloads := self._context.downloads()) is None:
            return
        for item in downloads.in_use(self._home):
            if items is None or item in items:
                self._tasks.spawn(self._follow(item), "follow a changed item")

    async def _follow(self, item: str) -> None:
        try:
            await self.prepare(item)
        except EngineError as err:
            # The next reader is told.
            _LOGGER.debug("Cannot follow %s of %s: %s", item, self._home, err)
