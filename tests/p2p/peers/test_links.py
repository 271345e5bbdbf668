"""Links between homes of this machine: real connections of aiortc, introduced over the local network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import secrets

import pytest

from p2p.errors import EngineError, NotFound, Unavailable
from p2p.peers.facts import PathKind
from p2p.peers.link import Ask, Note

from .neighbours import befriend, neighbour

MIB = 1024 * 1024


async def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_link_carries_questions_and_answers_both_ways() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = film = secrets.token_bytes(3 * MIB)
        ann.contents["song"] = song = secrets.token_bytes(1000)
        link = await ann.links.get(bob.id)
        assert (link.name, link.path) == ("Bob", PathKind.LAN)
        got = await link.ask_whole(Ask(do="range", item="film", stop=3 * MIB), 3 * MIB)
        assert got == film
        back = await bob.links.get(ann.id)
        assert back.name == "Ann"
        assert (
            await back.ask_whole(Ask(do="range", item="song", stop=1000), 1000) == song
        )
        with pytest.raises(NotFound, match="no such item"):
            await link.ask_whole(Ask(do="range", item="nothing", stop=1), 1)


async def test_notes_and_introductions_arrive() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        link = await ann.links.get(bob.id)
        link.note(Note(about="catalogue"))
        await link.introduce(b"offer")
        await until(lambda: bob.notes and bob.introductions)
        assert (bob.notes, bob.introductions) == (["catalogue"], [b"offer"])


async def test_two_homes_that_call_each_other_at_the_same_time_share_one_link() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        await asyncio.gather(ann.links.get(bob.id), bob.links.get(ann.id))
        await asyncio.sleep(0.5)
        assert len(ann.links.all) == len(bob.links.all) == 1
        assert ann.links.all[0].offering is not bob.links.all[0].offering


async def test_strangers_get_no_link() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.friends.clear()
        with pytest.raises(EngineError, match="does not count this one as its friend"):
            await ann.links.get(bob.id)
        assert ("not_friends", True) in ann.endings
        assert not bob.links.all


async def test_a_home_that_is_away_is_unavailable() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        await bob.lan.stop()
        with pytest.raises(Unavailable):
            await ann.links.get(bob.id)


async def test_a_link_that_is_closed_can_be_opened_again() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = b"film"
        await ann.links.get(bob.id)
        await ann.links.close(bob.id, "idle")
        await until(lambda: ("idle", True) in bob.endings)
        link = await ann.links.get(bob.id)
        assert await link.ask_whole(Ask(do="range", item="film", stop=4), 4) == b"film"


async def test_whoever_waits_for_an_answer_is_told_when_the_link_ends() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = bytes(300 * MIB)
        link = await ann.links.get(bob.id)
        asking = asyncio.create_task(
            link.ask_whole(Ask(do="range", item="film", stop=300 * MIB), 300 * MIB)
        )
        await until(lambda: bob.links.all and bob.links.all[0].is_busy)
        await bob.links.close(ann.id, "stopping")
        with pytest.raises(Unavailable):
            await asking


async def test_an_answer_that_is_longer_than_it_may_be_ends_the_link() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = bytes(MIB)
        link = await ann.links.get(bob.id)
        with pytest.raises(Unavailable):
            await link.ask_whole(Ask(do="range", item="film", stop=MIB), 1000)
        assert link.reason == "invalid"


async def test_a_request_that_is_given_up_is_not_answered_any_further() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = bytes(300 * MIB)
        link = await ann.links.get(bob.id)
        parts = link.ask(Ask(do="range", item="film", stop=300 * MIB), 300 * MIB)
        assert await anext(parts)
        await parts.aclose()
        await until(lambda: not bob.links.all[0].is_busy)
        assert link.is_ready
