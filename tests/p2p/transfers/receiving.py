"""An owner who seeds real files, and a home that fetches them, for the tests of the receiver's side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha1
import os
from pathlib import Path
import random
import time
from typing import Any

from p2p.access.ticket import ItemFacts, Ticket, armored, endpoint
from p2p.models import Kind
from p2p.torrent import metainfo
from p2p.torrent.metainfo import Metainfo
from p2p.torrent.session import Session, SessionSettings, Torrent
from p2p.transfers.cache import Cache, CacheSettings
from p2p.transfers.downloads import Downloads

LOCAL = SessionSettings(addresses=("127.0.0.1",))
OWNER = "0" * 28
RECEIVER = "R" * 28
PIECE = 256 * 1024
ROOMY = CacheSettings(quota=2 * 1024**3, reserve=0)


def describe(content: bytes, salt: bytes | None = None) -> Metainfo:
    length = metainfo.piece_length_for(len(content))
    pieces = b"".join(
        sha1(content[at : at + length]).digest()
        for at in range(0, len(content), length)
    )
    return metainfo.make(len(content), pieces, salt or os.urandom(16))


class Silent:
    """A listener that wants to know nothing."""

    def piece_finished(self, index: int) -> None: ...
    def peer_connected(self) -> None: ...
    def peer_lost(self) -> None: ...
    def failed(self, message: str) -> None: ...


class Owner:
    """A home whose engine seeds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = OWNER
        self.session: Session | None = None
        self.port = 0
        self.contents: dict[str, bytes] = {}
        self.seeds: dict[str, Torrent] = {}
        self.settings = LOCAL

    async def start(self) -> None:
        """Start, or start again at the same port and with the same seeds."""
        self.session = await Session.open(replace(self.settings, port=self.port))
        assert self.port in (0, self.session.port)
        self.port = self.session.port
        for item, torrent in list(self.seeds.items()):
            await self.seed(item, torrent.meta)

    async def stop(self) -> None:
        """End, as suddenly as libtorrent can."""
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    async def seed(self, item: str, meta: Metainfo) -> None:
        assert self.session is not None
        opened = os.open(self.folder / item, os.O_RDONLY)
        self.seeds[item] = await self.session.seed(meta, opened, item, Silent())

    async def unseed(self, item: str) -> None:
        await self.seeds.pop(item).remove()

    async def share(
        self, content: bytes, item: str = "i" * 26, *, seed: bool = True, **facts: Any
    ) -> Ticket:
        """Write a file, seed it, and return a ticket for it."""
        (self.folder / item).write_bytes(content)
        self.contents[item] = content
        meta = describe(content) if content else None
        if seed and meta is not None:
            await self.seed(item, meta)
        return self.ticket(item, meta, **facts)

    def ticket(
        self,
        item: str,
        meta: Metainfo | None,
        *,
        ttl: float = 3600,
        endpoints: tuple[str, ...] | None = None,
        **facts: Any,
    ) -> Ticket:
        known = {
            "id": item,
            "kind": Kind.VIDEO,
            "name": f"{item}.mp4",
            "title": "A film",
            "content_type": "video/mp4",
            "size": len(self.contents[item]),
            "etag": '"1"',
            "modified": 1_600_000_000.0,
        }
        return Ticket(
            owner=self.id,
            owner_name="Anna",
            receiver=RECEIVER,
            item=ItemFacts(**(known | facts)),
            torrent=armored(meta) if meta is not None else None,
            endpoints=(endpoint("127.0.0.1", self.port),)
            if endpoints is None
            else endpoints,
            expires=time.time() + ttl,
        )


class Home:
    """A home that fetches."""

    def __init__(
        self,
        folder: Path,
        settings: CacheSettings = ROOMY,
        session_settings: SessionSettings = LOCAL,
        **options: Any,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.session_settings = session_settings
        self.options = options
        self.session: Session | None = None
        self.cache = Cache(folder)
        self.running: Downloads | None = None

    @property
    def downloads(self) -> Downloads:
        assert self.running is not None
        return self.running

    async def start(self) -> Downloads:
        self.session = await Session.open(self.session_settings)
        self.cache = Cache(self.folder)
        self.running = Downloads(
            self.session, self.cache, self.settings, **self.options
        )
        await self.running.start()
        return self.running

    async def stop(self) -> None:
        """End cleanly."""
        running, self.running = self.running, None
        session, self.session = self.session, None
        if running is not None:
            await running.close()
        if session is not None:
            await session.close()

    async def crash(self) -> None:
        """End without noting anything, as if killed."""
        running, self.running = self.running, None
        session, self.session = self.session, None
        assert running is not None
        assert session is not None
        # From here on, nothing is written to the database any more.
        await asyncio.to_thread(self.cache.close)
        await running.close()
        await session.close()


@asynccontextmanager
async def pair(
    folder: Path, settings: CacheSettings = ROOMY, **options: Any
) -> AsyncGenerator[tuple[Owner, Home]]:
    """Run an owner and a home that fetches."""
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    owner, home = Owner(shared), Home(folder / "cache", settings, **options)
    try:
        await owner.start()
        await home.start()
        yield owner, home
    finally:
        await home.stop()
        await owner.stop()


def content_of(size: int, seed: int = 0) -> bytes:
    numbers, part = random.Random(seed), 64 * 1024**2
    return b"".join(
        numbers.randbytes(min(part, size - at)) for at in range(0, size, part)
    )


async def read(
    downloads: Downloads,
    ticket: Ticket,
    start: int,
    stop: int,
    reader: str = "reader",
    *,
    timeout: float = 20,
) -> bytes:
    """Read a range as the view does: open the file once, and take only what was promised."""
    owner, item = ticket.owner, ticket.item.id
    facts = await downloads.file(owner, item)
    got = bytearray()
    file = os.open(facts.path, os.O_RDONLY)
    try:
        assert facts.is_still(os.fstat(file))
        while start < stop:
            end = await downloads.wait(
                owner, item, reader, start, stop, timeout, path=facts.path
            )
            assert start < end <= stop
            part = os.pread(file, end - start, start)
            assert len(part) == end - start
            got += part
            start = end
    finally:
        os.close(file)
        downloads.release(owner, item, reader)
    return bytes(got)
