"""What a friend gets over the link: this home's side of each request. Whether the friend may have it is asked every time."""

from __future__ import annotations

import asyncio
from base64 import b64decode
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
import os
from pathlib import Path
from typing import Final, Protocol

from ..errors import BadRequest, Gone, NotFound, Unavailable
from ..library.catalogue import Catalogue
from ..models import Item, LocalFile, ShareStatus
from ..swarm.ticket import Ticket
from .link import Ask

TTL: Final = 6 * 3600.0
"""Seconds that a ticket is good for. The other home asks for another one in time."""
SMALL: Final = 8 * 1000**2
"""Bytes up to which an item is not worth a torrent: it comes over the link as quickly."""
HASHED: Final = 0.5
"""Seconds that a ticket waits for its torrent; the other home asks again when it needs one."""
MAX_RANGE: Final = 4 * 1024**2
"""Bytes of one request."""
READ: Final = 240 * 1024
"""Bytes that are read at a time: four frames."""
MAX_PICTURE: Final = 4 * 1024**2
MAX_SUBTITLES: Final = 4 * 1024**2


class Shelves(Protocol):
    """The library, as far as it is served."""

    async def item(self, item_id: str) -> Item:
        """Return an item. Raises NotFound."""

    async def file(self, item_id: str) -> LocalFile:
        """Return an item's file as it is on disk now. Raises NotFound, Unavailable."""

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return an item's picture. Raises NotFound, NoPicture, Unavailable."""

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        """Return an item's subtitles. Raises NotFound, Unavailable."""

    @property
    def shares(self) -> tuple[ShareStatus, ...]:
        """The shared folders, as they are."""

    @property
    def catalogue(self) -> Catalogue:
        """The list of its items, as friends are told it."""


type Issue = Callable[[str, str, float, float], Awaitable[Ticket]]
"""Makes a ticket: item, receiver, seconds that it is good for, seconds to wait for its torrent."""


class Serving:
    """Answers friends."""

    def __init__(
        self, shelves: Shelves, shares: Callable[[str], Collection[str]], issue: Issue
    ) -> None:
        """Serve a library. `shares` tells which shares a home may see, at this moment."""
        self._shelves = shelves
        self._shares = shares
        self._issue = issue

    async def may_have(self, home: str, item_id: str) -> bool:
        """Tell whether a home may have an item."""
        try:
            await self._granted(home, item_id)
        except NotFound:
            return False
        return True

    async def answer(self, home: str, ask: Ask) -> AsyncIterator[bytes]:
        """Return the answer to a request of a friend, in parts. Raises EngineError."""
        match ask.do:
            case "catalogue":
                have = _read(ask.have)
                async for page in self._shelves.catalogue.pages(
                    self._shares(home), have
                ):
                    yield len(page).to_bytes(4) + page
            case "ticket":
                yield await self._ticket(home, ask.item)
            case "range":
                async for part in self._range(home, ask):
                    yield part
            case "thumbnail":
                await self._granted(home, ask.item)
                picture = await self._shelves.thumbnail(ask.item)
                yield await asyncio.to_thread(_whole, picture, MAX_PICTURE)
            case "subtitles":
                await self._granted(home, ask.item)
                text = await self._shelves.subtitles(ask.item, ask.index)
                yield await asyncio.to_thread(_whole, text, MAX_SUBTITLES)
            case _:
                raise BadRequest("this home does not know such a request")

    async def _granted(self, home: str, item_id: str) -> Item:
        """Return an item that a home may have. Raises NotFound, whether there is no such item or it may not."""
        item = await self._shelves.item(item_id)
        if item.share not in self._shares(home):
            raise NotFound("there is no such item")
        return item

    async def _ticket(self, home: str, item_id: str) -> bytes:
        item = await self._granted(home, item_id)
        wait = 0.0 if item.size <= SMALL else HASHED
        ticket = await self._issue(item.id, home, TTL, wait)
        return ticket.encode()

    async def _range(self, home: str, ask: Ask) -> AsyncIterator[bytes]:
        await self._granted(home, ask.item)
        file = await self._shelves.file(ask.item)
        if ask.etag != file.etag:
            raise Gone("the item is another one by now")
        if not 0 <= ask.start < ask.stop <= file.size:
            raise BadRequest("there is no such range")
        if ask.stop - ask.start > MAX_RANGE:
            raise BadRequest("that is too much at a time")
        descriptor = await asyncio.to_thread(_opened, file)
        try:
            at = ask.start
            while at < ask.stop:
                part = await asyncio.to_thread(
                    _part, descriptor, file, at, min(READ, ask.stop - at)
                )
                at += len(part)
                yield part
                # It may have been taken back meanwhile.
                await self._granted(home, ask.item)
        finally:
            await asyncio.shield(asyncio.to_thread(os.close, descriptor))


def _opened(file: LocalFile) -> int:
    """Open a file if it is still the one that was described. Raises Gone, Unavailable."""
    try:
        descriptor = os.open(
            file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        )
    except OSError as err:
        raise Unavailable(f"the file cannot be opened: {err.strerror}") from None
    if not file.is_still(os.fstat(descriptor)):
        os.close(descriptor)
        raise Gone("the item is another one by now")
    return descriptor


def _part(descriptor: int, file: LocalFile, offset: int, size: int) -> bytes:
    """Read a part of a file that did not change. Raises Gone, Unavailable."""
    try:
        part = os.pread(descriptor, size, offset)
    except OSError as err:
        raise Unavailable(f"the file cannot be read: {err.strerror}") from None
    if not part or not file.is_still(os.fstat(descriptor)):
        raise Gone("the item is another one by now")
    return part


def _whole(file: LocalFile, limit: int) -> bytes:
    """Return what is in a file that is not large. Raises NotFound, Unavailable."""
    try:
        with Path(file.path).open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as err:
        raise Unavailable(f"the file cannot be read: {err.strerror}") from None
    if len(content) > limit:
        raise NotFound("it is too large")
    return content


def _read(have: str) -> bytes:
    try:
        return b64decode(have, validate=True)
    except binascii.Error:
        raise BadRequest("what the other home has cannot be read") from None
