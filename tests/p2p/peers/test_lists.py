"""The copy of a friend's list, whatever that friend does. What is right with it is in test_peers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
import secrets

import pytest

from p2p.errors import Unavailable
from p2p.peers import lists
from p2p.peers.identity import Identity
from p2p.peers.lists import FriendList
from tests.patience import until


class Kept:
    """The copy of the list of a friend, who refuses it or answers with what the test says."""

    def __init__(self, folder: Path) -> None:
        self.answer: list[bytes] = []
        self.asked = 0
        self.list = FriendList(
            folder,
            Identity.of(secrets.token_bytes(32)).id,
            fetch=self._fetch,
            is_online=lambda: True,
            on_change=lambda: None,
            on_items=lambda _items: None,
            on_news=lambda _count, _titles: None,
        )

    async def _fetch(self, have: str) -> AsyncIterator[bytes]:
        self.asked += 1
        if not self.answer:
            raise Unavailable("not now")
        for part in self.answer:
            yield part


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    made = Kept(tmp_path)
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
