"""The copy of a friend's list, whatever that friend does. What is right with it is in test_peers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
import secrets

import pytest

from p2p.catalogue.wire import BEFORE_ALL, FORMAT, MAX_ROW, pack
from p2p.core.errors import Unavailable
from p2p.friends import catalogue_sync as lists
from p2p.friends.catalogue_sync import FriendList
from p2p.net.identity import Identity
from tests.patience import until


class Time:
    """A clock that goes on only when somebody waits for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, future))
        await future

    @property
    def is_slept_through(self) -> bool:
        """Tell whether somebody waits."""
        return any(not future.done() for _, future in self._sleepers)

    def go_on(self) -> None:
        """Go to the next moment for which somebody waits."""
        self._sleepers = [each for each in self._sleepers if not each[1].done()]
        moment, future = min(self._sleepers, key=lambda each: each[0])
        self.now = max(self.now, moment)
        future.set_result(None)


class Kept:
    """The copy of the list of a friend, who refuses it or answers with what the test says."""

    def __init__(self, folder: Path, time: Time | None = None) -> None:
        self.answer: list[bytes] = []
        self.asked = 0
        self.given = 0
        """Pages that were taken."""
        self.time = time
        clock = {} if time is None else {"clock": time, "sleep": time.sleep}
        self.list = FriendList(
            folder,
            Identity.of(secrets.token_bytes(32)).id,
            fetch=self._fetch,
            is_online=lambda: True,
            on_change=lambda: None,
            on_items=lambda _items: None,
            on_news=lambda _count, _titles: None,
            **clock,  # type: ignore[arg-type]
        )

    async def _fetch(self, have: str) -> AsyncIterator[bytes]:
        self.asked += 1
        if not self.answer:
            raise Unavailable("not now")
        for part in self.answer:
            self.given += 1
            yield part

    async def insists(self, seconds: float, items: int = -1) -> None:
        """Say again and again that it is another one, for so long, or until there are so many items."""
        assert self.time is not None
        end = self.time.now + seconds
        while self.time.now < end and self.list.count != items:
            self.list.doubt()
            await until(lambda: self.time and self.time.is_slept_through)
            self.time.go_on()


def entry(row: int, version: int) -> dict[str, object]:
    return {
        "row": row,
        "nonce": f"{row:020x}",
        "folder": 2,
        "kind": "video",
        "name": f"A film {row}.mp4",
        "size": 1000 + version,
        "mtime_ns": 0,
        "inode": row,
        "added": 0.0,
        "facts": {"title": f"The title of the film {row}"},
    }


BLOCK = 256
"""Rows of a block."""


def page(
    *blocks: int, version: int = 0, first: bool = True, last: bool = True
) -> bytes:
    """Return a page with all rows of these blocks, which follow on each other, as it comes over the link."""
    share = {
        "number": 1,
        "id": "films",
        "name": "Films",
        "kinds": ["video"],
        "available": True,
    }
    said: dict[str, object] = {
        "format": FORMAT,
        "checkpoint": {"sequence": 1, "id": version},
        "folders": [
            {"number": 1, "share": 1},
            {"number": 2, "parent": 1, "name": "All"},
        ],
        "last": last,
    }
    if blocks:
        rows = range(blocks[0] * BLOCK, (blocks[-1] + 1) * BLOCK)
        part = {
            "share": 1,
            "whole": True,
            "after": BEFORE_ALL if first else rows[0] - 1,
            "until": MAX_ROW if last else rows[-1],
            "items": [entry(row, version) for row in rows],
        }
        said |= {"parts": [part]}
    if first:
        said |= {"shares": [share]}
    packed = pack(said)
    assert packed is not None
    return len(packed).to_bytes(4) + packed


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    async with keeping_list(Kept(tmp_path)) as made:
        yield made


@pytest.fixture
async def timed(tmp_path: Path) -> AsyncIterator[Kept]:
    """The copy of a list, in a time of its own."""
    async with keeping_list(Kept(tmp_path, Time())) as made:
        yield made


@asynccontextmanager
async def keeping_list(made: Kept) -> AsyncIterator[Kept]:
    await made.list.open()
    keeping = asyncio.create_task(made.list.keep())
    yield made
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    await made.list.library.close()


async def test_who_says_all_the_time_that_it_changed_and_refuses_it_is_asked_now_and_then(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "GAP", 0.5)
    for _ in range(100):
        kept.list.doubt()
        await asyncio.sleep(0.01)
    assert 1 <= kept.asked <= 4
    assert kept.list.message == "not now"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([b"\xff\xff\xff\xff"], "a page is too long"),
        ([b"\0\0\0\x09[]"], "the list ended too early"),
        ([b"\0\0\0"], "the list ended too early"),
    ],
)
async def test_what_is_no_list_is_not_taken(
    kept: Kept, answer: list[bytes], message: str
) -> None:
    kept.answer = answer
    kept.list.begin()
    await until(lambda: kept.list.message)
    assert kept.list.message == message
    assert not kept.list.is_current
    assert kept.list.count == 0


HOUR = 3600.0


async def test_a_page_that_is_repeated_is_no_list(timed: Kept) -> None:
    timed.answer = [page(0, last=False)] * 1000
    await timed.insists(HOUR)
    assert timed.list.message == "a part of the list was sent already, or is missing"
    # Each time it is found out with the second page, and it is tried more and more rarely.
    assert timed.given == 2 * timed.asked
    assert timed.asked <= 16
    # Whoever tells a list after that is listened to.
    timed.answer = [page(0, 1, last=False), page(2, 3, first=False)]
    await timed.insists(2 * HOUR, 4 * 256)
    assert timed.list.count == 4 * 256


async def test_pages_without_anything_in_them_have_an_end(
    timed: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MAX_WORK", 100 * lists.PAGE_WORK)
    timed.answer = [page(last=False)] * 1000
    await timed.insists(1)
    assert timed.list.message == "the list is too long"
    assert timed.given <= 101


async def test_a_list_that_is_another_one_each_time_is_fetched_ever_more_slowly(
    timed: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cost of a list is what it unpacks to; what costs more than the friend has left waits until it is earned."""
    monkeypatch.setattr(lists, "WORK_AT_ONCE", 100_000)
    monkeypatch.setattr(lists, "WORK_RATE", 100)
    timed.list.may_work = lists.work_of_friend(timed.time)
    # Less than what the pages unpack to.
    size = 256 * 150
    timed.answer = [page(0)]
    await timed.insists(HOUR)
    asked = timed.asked
    for version in range(1, 9):
        timed.answer = [page(0, version=version)]
        await timed.insists(HOUR / 4)
    assert timed.list.count == 256
    assert 0 < (timed.asked - asked) * size / (2 * HOUR) <= lists.WORK_RATE
