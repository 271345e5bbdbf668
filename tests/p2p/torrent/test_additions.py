"""Adding torrents: libtorrent's answers come when the test says so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from p2p.torrent.faults import SessionError
from p2p.torrent.session.additions import Additions

KEY = "ab" * 20


class FakeSession:
    """Takes what libtorrent is asked to do."""

    def __init__(self) -> None:
        self.added: list[Any] = []
        self.removed: list[Any] = []
        self.async_add_torrent = self.added.append
        self.remove_torrent = self.removed.append


class Adder:
    """Adds torrents, and answers like libtorrent."""

    def __init__(self) -> None:
        self.session = FakeSession()
        self.torrents: set[str] = set()
        self.additions = Additions(self.session, self.torrents)  # type: ignore[arg-type]

    async def begin(self, name: str) -> asyncio.Task[Any]:
        """Add a torrent, and return once libtorrent was asked to, or something else is waited for."""
        adding: asyncio.Task[Any] = asyncio.create_task(
            self.additions.add(KEY, name, None),  # type: ignore[arg-type]
            name=name,
        )
        await settle()
        return adding

    def answer(self, name: str, error: str = "") -> None:
        """Answer like libtorrent."""
        self.additions.answered(
            SimpleNamespace(  # type: ignore[arg-type]
                params=SimpleNamespace(ti=None, info_hashes=SimpleNamespace(v1=KEY)),
                error=SimpleNamespace(value=lambda: bool(error), message=lambda: error),
                handle=name,
            )
        )


async def settle() -> None:
    """Let all tasks run until they wait for something else than each other."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def adder() -> Adder:
    return Adder()


async def give_up(adding: asyncio.Task[Any]) -> None:
    adding.cancel()
    await asyncio.wait([adding])
    assert adding.cancelled()


async def test_what_is_given_up_is_removed_when_it_is_there(adder: Adder) -> None:
    await give_up(await adder.begin("first"))
    assert adder.session.removed == []
    adder.answer("first")
    assert adder.session.removed == ["first"]


async def test_what_is_given_up_after_the_answer_is_removed_too(adder: Adder) -> None:
    first = await adder.begin("first")
    adder.answer("first")
    await give_up(first)
    assert adder.session.removed == ["first"]


async def test_the_next_waits_until_the_one_given_up_is_there(adder: Adder) -> None:
    await give_up(await adder.begin("first"))
    second, third = await adder.begin("second"), await adder.begin("third")
    assert adder.session.added == ["first"]
    await give_up(second)
    adder.answer("first")
    await settle()
    assert adder.session.added == ["first", "third"]
    adder.answer("third")
    assert await third == "third"
    assert adder.session.removed == ["first"]


async def test_one_that_comes_after_two_that_were_given_up_is_added(
    adder: Adder,
) -> None:
    await give_up(await adder.begin("first"))
    second = await adder.begin("second")
    adder.answer("first")
    await settle()
    await give_up(second)
    third = await adder.begin("third")
    adder.answer("second")
    await settle()
    adder.answer("third")
    assert await third == "third"
    assert adder.session.removed == ["first", "second"]


async def test_what_libtorrent_refuses_can_be_added_again(adder: Adder) -> None:
    first = await adder.begin("first")
    adder.answer("first", "no room")
    with pytest.raises(SessionError, match="no room"):
        await first
    await give_up(await adder.begin("second"))
    adder.answer("second", "no room")
    assert adder.session.removed == []
    third = await adder.begin("third")
    adder.answer("third")
    assert await third == "third"


async def test_two_at_a_time_are_refused(adder: Adder) -> None:
    first = await adder.begin("first")
    with pytest.raises(SessionError, match="already"):
        await (await adder.begin("second"))
    adder.answer("first")
    assert await first == "first"


async def test_nothing_is_added_after_the_end(adder: Adder) -> None:
    await give_up(await adder.begin("first"))
    second = await adder.begin("second")
    adder.additions.close()
    with pytest.raises(SessionError, match="ended"):
        await second
