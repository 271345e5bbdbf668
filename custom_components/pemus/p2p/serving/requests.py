"""Answers what friends ask over links. Each request is checked against what the friend may have now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
import os
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..access.audience import Access
from ..access.ticket import ItemFacts, Ticket
from ..catalogue.sender import Catalogue
from ..core.bounded import BoundedTasks
from ..core.errors import BadRequest, Busy, Gone, NotFound, Unavailable
from ..core.opening import OtherFile, open_described
from ..core.threads import in_daemon
from ..models import Item, LocalFile
from ..net.link.frames import Ask

if TYPE_CHECKING:
    # It loads libtorrent, which may be missing.
    from ..access.swarm import Swarm

TTL: Final = 6 * 3600.0
"""Seconds for which a ticket is valid. The other home asks for a new one in time."""
SMALL: Final = 8 * 1000**2
"""Bytes up to which an item gets no torrent: the link is as quick."""
HASHED: Final = 0.5
"""Seconds for which a ticket waits for its torrent. The other home asks again when it needs one."""
MAX_RANGE: Final = 4 * 1024**2
"""Bytes that one request may ask for."""
READ: Final = 240 * 1024
"""Bytes that are read at a time: four frames."""
READERS: Final = 8
"""Threads that read from one share at the same time."""
DISK_TIMEOUT: Final = 8.0
"""Seconds within which a disk must answer. The other home gives up a little later."""
LIST_TIMEOUT: Final = 5.0
"""Seconds within which a friend's previous request for the list must end."""
MAX_PICTURE: Final = 4 * 1024**2
MAX_SUBTITLES: Final = 4 * 1024**2

_OWN: Final = ""
"""Stands for this home's own cache, in place of a share."""


class LibraryView(Protocol):
    """What is served of the library."""

    async def file(self, item_id: str) -> LocalFile:
        """Return an item's file as it is on disk now. Raises NotFound, Unavailable."""

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return an item's picture. Raises NotFound, NoPicture, Unavailable."""

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        """Return an item's subtitles. Raises NotFound, Unavailable."""


class Serving:
    """Answers the requests of friends."""

    def __init__(
        self,
        library: LibraryView,
        catalogue: Catalogue,
        access: Access,
        swarm: Callable[[], Swarm | None],
        *,
        owner: str,
        owner_name: Callable[[], str],
    ) -> None:
        """Serve a library, and its list of items, the `catalogue`.

        `access` decides who may have what. `swarm` returns the swarm if it runs. `owner` is the PeMuS ID of this
        home, `owner_name` returns its name.
        """
        self._library = library
        self._catalogue = catalogue
        self._access = access
        self._swarm = swarm
        self._owner = owner
        self._owner_name = owner_name
        self._lists: dict[str, asyncio.Lock] = {}
        self._disks: dict[str, BoundedTasks] = {}

    async def answer(self, who: str, ask: Ask) -> AsyncGenerator[bytes]:
        """Return the answer to a request of a friend, or of the guests of a room, in parts. Raises EngineError."""
        match ask.do:
            case "catalogue":
                async with aclosing(self._list(who, ask.have)) as pages:
                    async for page in pages:
                        yield len(page).to_bytes(4) + page
            case "ticket":
                yield await self._ticket(who, ask.item)
            case "range":
                async with aclosing(self._range(who, ask)) as parts:
                    async for part in parts:
                        yield part
            case "thumbnail":
                await self._access.item(who, ask.item)
                picture = await self._library.thumbnail(ask.item)
                yield await self._read(_OWN, _whole, picture, MAX_PICTURE)
            case "subtitles":
                await self._access.item(who, ask.item)
                text = await self._library.subtitles(ask.item, ask.index)
                yield await self._read(_OWN, _whole, text, MAX_SUBTITLES)
            case _:
                raise BadRequest("this home does not know such a request")

    async def _list(self, home: str, have: str) -> AsyncGenerator[bytes]:
        """Yield the pages of a list. Each friend gets one list at a time."""
        turn = self._lists.setdefault(home, asyncio.Lock())
        try:
            async with asyncio.timeout(LIST_TIMEOUT):
                await turn.acquire()
        except TimeoutError:
            raise Busy("the list is being sent already") from None
        making: asyncio.Task[bytes | None] | None = None
        try:
            audience = self._access.audience(home)
            pages = self._catalogue.pages(audience.shares, have)
            while True:
                making = asyncio.ensure_future(_next(pages))
                await asyncio.wait((making,))
                if (page := making.result()) is None:
                    return
                if audience != self._access.audience(home):
                    raise Unavailable("what this home may see has changed")
                yield page
        finally:
            if making is None or making.done():
                turn.release()
            else:
                # Nothing waits for it any more, but its thread cannot be stopped.
                making.add_done_callback(lambda _: turn.release())

    async def _on_disk[T](
        self, share: str, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Run what reads from a share. A disk that hangs holds up its own share only. Raises Unavailable."""
        slots = self._disks.setdefault(share, BoundedTasks(READERS))
        try:
            async with asyncio.timeout(DISK_TIMEOUT):
                return await slots.run(work)
        except TimeoutError:
            raise Unavailable("the disk does not answer") from None

    async def _read[**P, T](
        self, share: str, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._on_disk(share, partial(in_daemon, read, *args, **kwargs))

    async def _ticket(self, home: str, item_id: str) -> bytes:
        item = await self._access.item(home, item_id)
        swarm = self._swarm()
        if item.size > SMALL and swarm is not None:
            ticket = await swarm.issue(item.id, home, TTL, wait=HASHED)
        else:
            ticket = await self._without_torrent(home, item)
        try:
            await self._access.item(home, item_id)
        except NotFound:
            # The grant ended meanwhile, perhaps before there was a ticket to revoke.
            if swarm is not None:
                await swarm.tickets.revoke(home, item.id)
            raise
        return ticket.encode()

    async def _without_torrent(self, home: str, item: Item) -> Ticket:
        """Return a ticket for the link alone. It grants nothing by itself: each range is checked again."""
        file = await self._on_disk(item.share, partial(self._library.file, item.id))
        return Ticket(
            owner=self._owner,
            owner_name=self._owner_name(),
            receiver=home,
            item=ItemFacts.of(
                item, size=file.size, etag=file.etag, modified=file.mtime_ns / 1e9
            ),
            torrent=None,
            endpoints=(),
            expires=time.time() + TTL,
            link_only=True,
        )

    async def _range(self, home: str, ask: Ask) -> AsyncGenerator[bytes]:
        item = await self._access.item(home, ask.item)
        file = await self._on_disk(item.share, partial(self._library.file, ask.item))
        if ask.etag != file.etag:
            raise Gone("the item has changed")
        if not 0 <= ask.start < ask.stop <= file.size:
            raise BadRequest("there is no such range")
        if ask.stop - ask.start > MAX_RANGE:
            raise BadRequest("that is too much at a time")
        at = ask.start
        while at < ask.stop:
            size = min(READ, ask.stop - at)
            part = await self._read(item.share, _part, file, at, size)
            at += len(part)
            yield part
            # The grant may have ended meanwhile.
            await self._access.item(home, ask.item)


def _part(file: LocalFile, offset: int, size: int) -> bytes:
    """Read a part of a file. Raises Gone if it is not the file that was described, and Unavailable.

    The file is opened each time: if the disk hung, nothing could close a file that was left open.
    """
    try:
        descriptor = open_described(file)
        try:
            part = os.pread(descriptor, size, offset)
            is_still = file.is_still(os.fstat(descriptor))
        finally:
            os.close(descriptor)
    except OtherFile:
        raise Gone("the item has changed") from None
    except OSError as err:
        raise Unavailable(f"the file cannot be read: {err.strerror}") from None
    if not part or not is_still:
        raise Gone("the item has changed")
    return part


def _whole(file: LocalFile, limit: int) -> bytes:
    """Return the content of a file of at most `limit` bytes. Raises NotFound, Unavailable."""
    try:
        with os.fdopen(open_described(file), "rb") as stream:
            content = stream.read(limit + 1)
    except OSError as err:
        raise Unavailable(f"the file cannot be read: {err.strerror}") from None
    if len(content) > limit:
        raise NotFound("it is too large")
    return content


async def _next(pages: AsyncIterator[bytes]) -> bytes | None:
    """Return the next page, None after the last one."""
    return await anext(pages, None)
