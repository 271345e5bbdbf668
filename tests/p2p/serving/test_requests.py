"""What a friend is answered, and what not: with a library that holds two shares, of which one is granted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
import os
from pathlib import Path
import threading
import time

import pytest

from p2p.access.audience import Access
from p2p.access.ticket import ItemFacts, Ticket, read
from p2p.core.errors import BadRequest, Busy, Gone, NotFound, Unavailable
from p2p.core.threads import in_daemon
from p2p.models import EngineConfig, Item, Kind, LocalFile, ShareConfig
from p2p.models.homes import FriendConfig
from p2p.net.link.frames import Ask
from p2p.serving import requests as serving
from p2p.serving.requests import HASHED, MAX_RANGE, READERS, SMALL, Serving
from tests.patience import until

FRIEND, STRANGER = "A" * 28, "B" * 28
OPEN, SECRET = "o" * 26, "s" * 26
CONTENT = os.urandom(1_000_000)


class LibraryView:
    """Two items in two shares, as the library describes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size = len(CONTENT)
        """What the index says."""
        for name in (OPEN, SECRET):
            (folder / name).write_bytes(CONTENT)
        (folder / "picture").write_bytes(b"\xff\xd8picture")

    async def item(self, item_id: str) -> Item:
        if item_id not in (OPEN, SECRET):
            raise NotFound("there is no such item")
        return Item(
            id=item_id,
            share="open" if item_id == OPEN else "secret",
            kind=Kind.VIDEO,
            name="film.mp4",
            title="Film",
            folder="",
            content_type="video/mp4",
            size=self.size,
            modified=0,
            added=0,
            available=True,
            etag='"x"',
        )

    async def file(self, item_id: str) -> LocalFile:
        path = self.folder / item_id
        return LocalFile.of(str(path), "film.mp4", "video/mp4", path.stat())

    async def thumbnail(self, item_id: str) -> LocalFile:
        path = self.folder / "picture"
        return LocalFile.of(str(path), "x.jpg", "image/jpeg", path.stat())

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        return await self.thumbnail(item_id)

    async def pages(self, shares: frozenset[str], have: str) -> AsyncIterator[bytes]:
        yield f"{sorted(shares)} {have!r}".encode()


class Home:
    """A home that serves, and grants what `grants` says."""

    def __init__(self, folder: Path) -> None:
        self.library = LibraryView(folder)
        self.grants = {FRIEND: {"open"}}
        self.issued: list[tuple[str, str, float]] = []
        self.revoked: list[tuple[str, str]] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.has_torrents = True
        self.tickets = self
        self.serving = Serving(
            self.library,
            self.library,  # type: ignore[arg-type]
            Access(self.library, self._config),  # type: ignore[arg-type]
            lambda: self if self.has_torrents else None,  # type: ignore[arg-type,return-value]
            owner=STRANGER,
            owner_name=lambda: "Home",
        )

    def _config(self) -> EngineConfig:
        return EngineConfig(
            home_name="Home",
            shares=tuple(
                ShareConfig(id=share, path="/", name=share, kinds=(Kind.VIDEO,))
                for share in ("open", "secret")
            ),
            friends=tuple(
                FriendConfig(id=home, name="Friend", shares=tuple(shares))
                for home, shares in self.grants.items()
            ),
        )

    async def issue(self, item: str, home: str, ttl: float, *, wait: float) -> Ticket:
        self.issued.append((item, home, wait))
        self.meanwhile()
        found = await self.library.item(item)
        return Ticket(
            owner=STRANGER,
            owner_name="",
            receiver=home,
            item=ItemFacts.of(found, size=1, etag='"x"', modified=0),
            torrent=None,
            endpoints=(),
            expires=1,
        )

    async def revoke(self, home: str, item: str) -> None:
        self.revoked.append((item, home))

    async def ask(self, home: str = FRIEND, **ask: object) -> bytes:
        parts = self.serving.answer(home, Ask(**ask))  # type: ignore[arg-type]
        return b"".join([part async for part in parts])

    async def etag(self) -> str:
        return (await self.library.file(OPEN)).etag


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def test_a_range_is_what_is_in_the_file(home: Home) -> None:
    ask = {"do": "range", "item": OPEN, "etag": await home.etag()}
    assert await home.ask(**ask, start=5, stop=700_000) == CONTENT[5:700_000]
    assert await home.ask(**ask, start=0, stop=len(CONTENT)) == CONTENT


@pytest.mark.parametrize("do", ["range", "ticket", "thumbnail", "subtitles"])
@pytest.mark.parametrize(
    ("who", "item"),
    [
        (FRIEND, SECRET),
        (STRANGER, OPEN),
        (FRIEND, "../../etc/passwd"),
        (FRIEND, ""),
        (FRIEND, "x" * 100_000),
    ],
)
async def test_what_was_not_granted_does_not_exist(
    home: Home, do: str, who: str, item: str
) -> None:
    with pytest.raises(NotFound, match="there is no such item"):
        await home.ask(who, do=do, item=item, etag=await home.etag(), stop=1)
    assert not home.issued


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 0), (-1, 5), (5, 4), (0, 10**18), (len(CONTENT), len(CONTENT) + 1)],
)
async def test_a_range_that_there_is_not_is_refused(
    home: Home, start: int, stop: int
) -> None:
    with pytest.raises(BadRequest):
        await home.ask(
            do="range", item=OPEN, etag=await home.etag(), start=start, stop=stop
        )


async def test_a_range_is_not_longer_than_it_may_be(home: Home) -> None:
    path = home.library.folder / OPEN
    os.truncate(path, MAX_RANGE * 2)
    with pytest.raises(BadRequest, match="too much"):
        await home.ask(
            do="range", item=OPEN, etag=await home.etag(), stop=MAX_RANGE + 1
        )


async def test_a_range_of_another_version_is_gone(home: Home) -> None:
    with pytest.raises(Gone):
        await home.ask(do="range", item=OPEN, etag='"other"', stop=1)


async def test_a_file_that_changes_while_it_is_sent_is_gone(home: Home) -> None:
    ask = Ask(do="range", item=OPEN, etag=await home.etag(), stop=len(CONTENT))
    parts = home.serving.answer(FRIEND, ask)
    assert await anext(parts)
    (home.library.folder / OPEN).write_bytes(b"another film")
    with pytest.raises(Gone):
        async for _ in parts:
            pass


async def test_what_is_taken_back_is_not_sent_any_further(home: Home) -> None:
    ask = Ask(do="range", item=OPEN, etag=await home.etag(), stop=len(CONTENT))
    parts = home.serving.answer(FRIEND, ask)
    assert await anext(parts)
    home.grants.clear()
    with pytest.raises(NotFound):
        async for _ in parts:
            pass


async def test_a_link_in_the_place_of_the_file_is_not_followed(home: Home) -> None:
    file = await home.library.file(OPEN)
    path = home.library.folder / OPEN
    path.rename(home.library.folder / "moved")
    path.symlink_to(home.library.folder / "moved")
    with pytest.raises((Gone, Unavailable)):
        await home.ask(do="range", item=OPEN, etag=file.etag, stop=1)


async def test_small_items_have_no_torrent(home: Home) -> None:
    ticket = read(await home.ask(do="ticket", item=OPEN))
    assert not home.issued
    assert (ticket.owner, ticket.receiver) == (STRANGER, FRIEND)
    assert (ticket.torrent, ticket.link_only, ticket.endpoints) == (None, True, ())
    assert (ticket.item.etag, ticket.item.size) == (await home.etag(), len(CONTENT))
    assert ticket.is_live(time.time())


@pytest.mark.parametrize("has_torrents", [True, False])
async def test_large_items_have_one_if_this_home_has_any(
    home: Home, has_torrents: bool
) -> None:
    home.library.size = SMALL + 1
    home.has_torrents = has_torrents
    ticket = read(await home.ask(do="ticket", item=OPEN))
    assert home.issued == ([(OPEN, FRIEND, HASHED)] if has_torrents else [])
    assert ticket.link_only != has_torrents


async def test_a_ticket_of_what_is_taken_back_at_that_moment_is_worth_nothing(
    home: Home,
) -> None:
    home.library.size = SMALL + 1
    home.meanwhile = home.grants.clear
    with pytest.raises(NotFound, match="there is no such item"):
        await home.ask(do="ticket", item=OPEN)
    assert home.issued
    assert home.revoked == [(OPEN, FRIEND)]


class Stuck:
    """Something that blocks the threads that come to it, until it is released."""

    def __init__(self) -> None:
        self.threads = 0
        self._free = threading.Event()

    def block(self) -> None:
        self.threads += 1
        self._free.wait()

    def release(self) -> None:
        self._free.set()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    made = Stuck()
    yield made
    made.release()


async def test_a_disk_that_hangs_holds_up_no_other_one(
    home: Home, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "DISK_TIMEOUT", 1.0)
    read = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if offset == 1:
            stuck.block()
        return read(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    home.grants[FRIEND] = {"open", "secret"}
    etag = await home.etag()
    hanging = [
        asyncio.create_task(
            home.ask(do="range", item=OPEN, etag=etag, start=1, stop=50)
        )
        for _ in range(40)
    ]
    await until(lambda: stuck.threads >= READERS)
    other = (await home.library.file(SECRET)).etag
    async with asyncio.timeout(10):
        got = await home.ask(do="range", item=SECRET, etag=other, start=2, stop=50)
        assert got == CONTENT[2:50]
        # Names are looked up, and much else is done, in the threads that all share.
        assert await asyncio.to_thread(lambda: "free") == "free"
        results = await asyncio.gather(*hanging, return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in results)
    assert stuck.threads == READERS
    stuck.release()
    got = await home.ask(do="range", item=OPEN, etag=etag, start=1, stop=50)
    assert got == CONTENT[1:50]


async def test_a_friend_is_told_one_list_at_a_time_whatever_it_gives_up(
    home: Home, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "LIST_TIMEOUT", 0.1)

    async def pages(shares: frozenset[str], have: str) -> AsyncIterator[bytes]:
        await in_daemon(stuck.block)
        yield b"page"

    monkeypatch.setattr(home.library, "pages", pages)
    first = asyncio.create_task(home.ask(do="catalogue"))
    await until(lambda: stuck.threads)
    first.cancel()
    for _ in range(5):
        with pytest.raises(Busy):
            await home.ask(do="catalogue")
    assert stuck.threads == 1
    stuck.release()
    monkeypatch.setattr(serving, "LIST_TIMEOUT", 10.0)
    assert await home.ask(do="catalogue") == b"\0\0\0\x04page"


async def test_a_list_that_is_given_up_halfway_is_not_in_the_way_of_the_next(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pages(shares: frozenset[str], have: str) -> AsyncIterator[bytes]:
        yield b"page"
        yield b"page"

    monkeypatch.setattr(home.library, "pages", pages)
    parts = home.serving.answer(FRIEND, Ask(do="catalogue"))
    assert await anext(parts)
    await parts.aclose()  # type: ignore[attr-defined]
    assert await home.ask(do="catalogue")
    assert await home.ask(do="catalogue")


async def test_a_list_is_of_what_was_granted(home: Home) -> None:
    assert await home.ask(do="catalogue", have="nothing") == (
        len(said := b"['open'] 'nothing'").to_bytes(4) + said
    )


async def test_a_list_ends_when_something_else_is_granted(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pages(shares: frozenset[str], have: str) -> AsyncIterator[bytes]:
        yield b"page"
        yield b"page"

    monkeypatch.setattr(home.library, "pages", pages)
    parts = home.serving.answer(FRIEND, Ask(do="catalogue"))
    assert await anext(parts)
    home.grants[FRIEND] = set()
    with pytest.raises(Unavailable):
        await anext(parts)


async def test_a_request_that_this_release_does_not_know_is_refused(home: Home) -> None:
    with pytest.raises(BadRequest, match="does not know"):
        await home.ask(do="delete", item=OPEN)
