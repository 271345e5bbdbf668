"""Links between homes of this machine: real connections of aiortc, introduced over the local network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
import re
import secrets
import socket
from typing import Any

from aioice import Candidate, ice as aioice_ice
import pytest

from p2p.core.errors import Busy, EngineError, NotFound, Unavailable
from p2p.core.throttle import Throttle
from p2p.models.codec import encode
from p2p.models.homes import PathKind
from p2p.net.identity import Identity
from p2p.net.lan import Lan, Line
from p2p.net.link import keepalive, link as linking, opening, slot
from p2p.net.link.frames import MAX_PAYLOAD, Ask, FrameType, Note, Reasons, pack
from p2p.net.link.handshake import Handshake, make_offer
from p2p.net.link.link import Link
from p2p.net.link.requests import MAX_REQUESTS, WINDOW
from p2p.net.link.slot import SlotState
from p2p.net.messages import opened, seal
from p2p.net.messenger import Message
from p2p.net.webrtc import connection as rtc
from p2p.net.webrtc.ice import IceServer
from tests.p2p.net.neighbours import PART, Neighbour, befriend, neighbour
from tests.patience import failing_once, until

MIB = 1024 * 1024


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


async def test_a_fault_of_the_loop_that_looks_after_a_link_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        link = await ann.links.get(bob.id)
        looks = failing_once(monkeypatch, link.keepalive, "is_gone")
        await until(lambda: len(looks) > 1)
        assert link.is_ready


async def test_a_link_that_was_replaced_is_left_to_who_does_not_know_that_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2p.net.link.links.TEND_INTERVAL", 0.05)
    monkeypatch.setattr(slot, "REPLACED_TIMEOUT", 1.0)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["song"] = song = secrets.token_bytes(1000)
        former = await ann.links.get(bob.id)
        link = await ann.open_link(bob)
        await until(lambda: bob.links.present(ann.id) and len(bob.replaced(ann)) == 1)
        for home, other in ((ann, bob), (bob, ann)):
            home.links.slot(other.id).tend()
        assert ann.links.all == (link,)
        ask = Ask(do="range", item="song", stop=1000)
        assert await former.ask_whole(ask, 1000) == song
        await until(lambda: former.reason is not None)
        assert former.reason == Reasons.REPLACED
        assert await link.ask_whole(ask, 1000) == song


@pytest.mark.parametrize(
    "paths",
    [
        (PathKind.DIRECT, PathKind.DIRECT),
        (PathKind.DIRECT, PathKind.RELAYED),
        (PathKind.RELAYED, PathKind.DIRECT),
    ],
)
async def test_of_two_links_that_both_ends_opened_both_keep_the_same_one(
    monkeypatch: pytest.MonkeyPatch, paths: tuple[PathKind, PathKind]
) -> None:
    monkeypatch.setattr("p2p.net.link.links.TEND_INTERVAL", 0.05)
    monkeypatch.setattr(slot, "REPLACED_TIMEOUT", 0.5)
    # Neither waits for the other one's offer.
    monkeypatch.setattr(opening, "OFFER_PRIORITY", 0.0)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["song"] = song = secrets.token_bytes(1000)
        seen: dict[str, list[Link]] = {ann.id: [], bob.id: []}
        with monkeypatch.context() as patch:
            for home, other in ((ann, bob), (bob, ann)):
                patch.setattr(home.links.slot(other.id), "ready", seen[home.id].append)
            both = asyncio.gather(
                ann.open_link(bob),
                bob.open_link(ann),
            )
            await until(lambda: len(seen[ann.id]) == len(seen[bob.id]) == 2)
        # Each sees the other one's come last.
        for home, other in ((ann, bob), (bob, ann)):
            for link in seen[home.id]:
                path = paths[link.offering is (home is ann)]
                monkeypatch.setattr(link.connection, "path", lambda path=path: path)
            for link in sorted(seen[home.id], key=lambda link: not link.offering):
                home.links.slot(other.id).ready(link)
        await both
        await until(lambda: not ann.replaced(bob) and not bob.replaced(ann))
        (ours,), (theirs,) = ann.links.all, bob.links.all
        assert ours.offering is not theirs.offering
        assert ours.path is theirs.path is PathKind.DIRECT
        ask = Ask(do="range", item="song", stop=1000)
        assert await ours.ask_whole(ask, 1000) == song


async def test_when_a_link_ends_the_one_that_it_replaced_is_used_again() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        former = await ann.links.get(bob.id)
        link = await ann.open_link(bob)
        await until(lambda: len(bob.replaced(ann)) == 1)
        await link.close(Reasons.LOST)
        assert ann.links.all == (former,)
        await until(lambda: not bob.replaced(ann))
        assert await ann.links.get(bob.id) is former
        # A home that is no friend any more has none of them.
        await ann.open_link(bob)
        await ann.links.close(bob.id, Reasons.NOT_FRIENDS)
        assert not ann.links.all
        await until(lambda: not bob.links.all and not bob.replaced(ann))


async def test_only_so_many_links_to_a_home_finish_what_they_are_doing() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        size = 4 * WINDOW
        bob.contents["film"] = bytes(size)

        async def watch(link: Link) -> None:
            async for _ in link.ask(Ask(do="range", item="film", stop=size), size):
                await asyncio.sleep(1000)

        watching = []
        for _ in range(slot.MAX_REPLACED + 3):
            link = await ann.open_link(bob)
            watching.append(asyncio.create_task(watch(link)))
            await until(lambda: len(bob.asked) == len(watching))
        for home, other in ((ann, bob), (bob, ann)):
            kept = home.links.slot(other.id)
            await until(lambda kept=kept: len(kept.replaced) <= slot.MAX_REPLACED)
            assert all(each.is_ready for each in kept.replaced)
        for each in watching:
            each.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def test_who_wants_a_link_does_not_wait_for_the_look_for_a_better_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        link = await ann.links.get(bob.id)
        lost: list[bytes] = []

        def lose(_home: str, _kind: str, body: bytes, **_options: Any) -> bool:
            lost.append(body)
            return True

        slot = ann.links.slot(bob.id)
        with monkeypatch.context() as patch:
            patch.setattr(ann.messenger, "send", lose)
            patch.setattr(link.connection, "path", lambda: PathKind.RELAYED)
            slot.upgrade()
            slot.tend()
            await until(lambda: lost)
            assert slot.state is SlotState.REPLACING
            await link.close(Reasons.LOST)
        async with asyncio.timeout(opening.LAN_OFFER_TIMEOUT):
            assert (await ann.links.get(bob.id)).is_ready
        await until(lambda: slot.state is SlotState.OPEN)


async def test_of_two_who_want_a_link_the_second_one_tries_again_if_the_first_one_fails() -> (
    None
):
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        ann.lan.show(())
        first = asyncio.create_task(ann.open_link(bob))
        second = asyncio.create_task(ann.open_link(bob))
        with pytest.raises(Unavailable):
            await first
        ann.sees(bob)
        assert (await second).is_ready
        await until(lambda: ann.links.slot(bob.id).state is SlotState.OPEN)


async def test_a_relay_that_answers_too_late_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[asyncio.DatagramTransport] = []
    begun = 0
    late = asyncio.Event()

    async def allocate(*, protocol_factory: Any, **_: object) -> Any:
        nonlocal begun
        begun += 1
        await late.wait()
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            protocol_factory, local_addr=("127.0.0.1", 0)
        )
        made.append(transport)
        host, port = transport.get_extra_info("sockname")
        protocol.local_candidate = Candidate("1", 1, "udp", 1, host, port, "relay")
        return protocol.local_candidate, protocol

    monkeypatch.setattr(aioice_ice, "relayed_candidate", allocate)
    relay = IceServer(urls=("turn:127.0.0.1:9",), username="u", credential="c")
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.servers = (relay,)
        monkeypatch.setattr(Lan, "is_lan", False)
        monkeypatch.setattr(Line, "is_lan", False)
        sdp = await description()
        for number in range(1, 4):
            ann.messenger.send(bob.id, "offer", encode(make_offer(sdp)))
            await until(lambda number=number: begun == number)
        late.set()
        await until(lambda: len(made) == 3)
        await bob.links.close(ann.id, Reasons.LOST)
        await until(lambda: all(each.is_closing() for each in made))


async def description() -> str:
    """Return the description of a connection that nobody waits at."""
    connection = rtc.Connection(
        (), on_message=bytes, on_open=lambda: None, on_close=lambda: None
    )
    try:
        return await connection.offer()
    finally:
        await connection.close()


async def test_the_state_of_a_slot_tells_what_goes_on_with_a_home() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        slot = ann.links.slot(bob.id)
        assert slot.state is SlotState.IDLE
        opening = asyncio.create_task(ann.links.get(bob.id))
        await until(lambda: slot.state is SlotState.OPENING)
        link = await opening
        await until(lambda: slot.state is SlotState.OPEN)
        await ann.open_link(bob)
        assert slot.state is SlotState.REPLACING
        await link.close(Reasons.REPLACED)
        await until(lambda: slot.state is SlotState.OPEN)
        await ann.links.close(bob.id, Reasons.NOT_FRIENDS)
        assert slot.state is SlotState.CLOSED
        with pytest.raises(Unavailable):
            await slot.get()


async def test_whoever_waits_for_a_link_is_told_when_the_home_is_a_friend_no_more() -> (
    None
):
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        await bob.lan.close()
        waiting = asyncio.create_task(ann.links.get(bob.id))
        await until(lambda: ann.links.slot(bob.id).state is SlotState.OPENING)
        await ann.links.close(bob.id, Reasons.NOT_FRIENDS)
        with pytest.raises(Unavailable):
            await waiting


async def test_a_home_that_cannot_have_links_says_so_once_and_quietly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "LAN_OFFER_TIMEOUT", 0.5)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)

        async def fail(*_: object, **__: object) -> Link:
            raise Unavailable("friends cannot be reached: there is no aiortc")

        monkeypatch.setattr(bob.links.factory, "new", fail)
        with pytest.raises(Unavailable):
            await ann.open_link(bob)
        assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_requests_that_are_begun_without_end_end_the_link() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        for payloads in ([b"{"] * (MAX_REQUESTS + 1), [b""]):
            link = await ann.links.get(bob.id)
            for number, payload in enumerate(payloads):
                frame = pack(FrameType.MORE, 1000 + number, payload)
                await link.connection.send_bulk(frame)
            await until(lambda link=link: link.reason is not None)
            assert link.reason == Reasons.INVALID


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
        # Of two, one is closed.
        for home, other in ((ann, bob), (bob, ann)):
            kept = home.links.slot(other.id)
            await until(lambda kept=kept: kept.state is SlotState.OPEN)
        (here,), (there,) = ann.links.all, bob.links.all
        assert here.offering is not there.offering
        # They are the ends of one.
        bob.contents["film"] = b"film"
        assert await here.ask_whole(Ask(do="range", item="film", stop=4), 4) == b"film"
        assert here.is_ready
        assert there.is_ready


async def test_an_offer_that_is_repeated_is_answered_by_one_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "OFFER_INTERVAL", 0.05)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        meddler = Meddler(lambda message: message)
        meddler.between(ann, bob)
        made = 0

        async def slow() -> Sequence[IceServer]:
            nonlocal made
            made += 1
            # An answer takes as long as several repetitions.
            await until(lambda: meddler.count("offer") > 3)
            return ()

        monkeypatch.setattr(bob, "find_servers", slow)
        assert (await ann.links.get(bob.id)).is_ready
        assert made == 1
        assert not bob.endings


async def test_an_answer_that_was_lost_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "OFFER_INTERVAL", 0.05)
    lost: list[dict[str, Any]] = []

    def without_the_first_answer(message: dict[str, Any]) -> dict[str, Any]:
        if message["kind"] == "answer" and not lost:
            lost.append(message)
            return {}
        return message

    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        Meddler(without_the_first_answer).between(ann, bob)
        assert (await ann.links.get(bob.id)).is_ready
        assert lost
        assert not bob.endings


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
        await bob.lan.close()
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


async def test_a_request_may_say_a_lot() -> None:
    have = secrets.token_hex(145_000)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["list"] = b"list"
        link = await ann.links.get(bob.id)
        ask = Ask(do="catalogue", item="list", stop=4, have=have)
        # Their parts do not get mixed up.
        got = await asyncio.gather(*(link.ask_whole(ask, 4) for _ in range(3)))
        assert got == [b"list"] * 3
        assert bob.asked == [ask] * 3


async def test_a_long_request_that_is_given_up_halfway_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["list"] = b"list"
        link = await ann.links.get(bob.id)
        ask = Ask(do="catalogue", item="list", stop=4, have="x" * 290_000)
        send = link.connection.send_bulk
        sent: list[int] = []

        async def held_up(message: bytes) -> None:
            if len(sent) == 2:
                await asyncio.Event().wait()
            await send(message)
            sent.append(len(message))

        # What is left behind by several of them would be more than a request may have.
        for _ in range(5):
            sent.clear()
            with monkeypatch.context() as patch:
                patch.setattr(link.connection, "send_bulk", held_up)
                asking = asyncio.create_task(link.ask_whole(ask, 4))
                await until(lambda: len(sent) == 2)
                asking.cancel()
                await asyncio.wait((asking,))
        assert await link.ask_whole(ask, 4) == b"list"
        assert bob.asked == [ask]


async def test_a_request_without_an_end_ends_the_link() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        link = await ann.links.get(bob.id)
        for number in range(7):
            await link.connection.send_bulk(
                b"\x0c" + bytes([0, 0, 0, number % 3]) + bytes(50_000)
            )
        await until(lambda: ("invalid", True) in ann.endings)


async def test_an_answer_waits_for_whoever_takes_it_slowly() -> None:
    size = 5 * WINDOW
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["list"] = bytes(size)
        bob.contents["song"] = song = bytes(MIB)
        link = await ann.links.get(bob.id)
        parts = link.ask(Ask(do="range", item="list", stop=size), size)
        got = len(await anext(parts))
        await until(lambda: bob.served["list"] >= WINDOW or link.reason)
        for _ in range(10):
            # Others do not wait.
            ask = Ask(do="range", item="song", stop=MIB)
            assert await link.ask_whole(ask, MIB) == song
        assert bob.served["list"] < WINDOW + MAX_PAYLOAD + PART
        async for part in parts:
            got += len(part)
        assert got == size


async def test_a_limit_lets_nobody_wait_long_for_a_part_of_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if it were not in the local network, which has no limits.
    monkeypatch.setattr(rtc.Connection, "path", lambda _: PathKind.DIRECT)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = secrets.token_bytes(MAX_PAYLOAD)
        bob.rates = (Throttle(), Throttle(50_000))
        link = await ann.links.get(bob.id)
        parts = link.ask(Ask(do="range", item="film", stop=MAX_PAYLOAD), MAX_PAYLOAD)
        got = [part async for part in parts]
        assert b"".join(got) == bob.contents["film"]
        assert max(map(len, got)) <= 5000


async def test_a_link_whose_end_does_not_read_what_it_asks_for_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rtc, "MAX_CONTROL_BUFFER", 1000)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        link = await ann.links.get(bob.id)
        theirs = await bob.links.get(ann.id)

        async def nothing_leaves() -> None:
            pass

        sctp: Any = link.connection._pc.sctp
        sctp._data_channel_flush = nothing_leaves
        for number in range(300):
            theirs.connection.send_after_bulk(pack(FrameType.PING, number))
        await until(lambda: link.reason is not None)
        assert link.reason == "lost"


async def test_who_asks_over_a_connection_that_is_just_breaking_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        link = await ann.links.get(bob.id)

        def broken(_message: bytes) -> None:
            raise ConnectionError("broken")

        monkeypatch.setattr(link.connection, "send", broken)
        with pytest.raises(Unavailable):
            await link.ask_whole(Ask(do="range", item="film", stop=1), 1)


# Somebody between two homes, and homes that do not keep to the protocol.


class Meddler:
    """A way between two homes that somebody controls: `change` does what it likes with each message."""

    is_lan = False
    tells_apart = False
    origin = "198.51.100.7"

    def __init__(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.change = change
        self.ends: dict[str, Neighbour] = {}
        self.seen: list[dict[str, Any]] = []

    def send(self, home: str, message: dict[str, Any], *, reply: bool) -> bool:
        self.seen.append(message)
        if (end := self.ends.get(home)) is None:
            return False
        end.messenger.receive(self.change(dict(message)), self)
        return True

    def count(self, kind: str) -> int:
        """Return how many messages of a kind came by."""
        return sum(each["kind"] == kind for each in self.seen)

    def between(self, *homes: Neighbour) -> None:
        for home in homes:
            home.messenger.remove(home.lan)
            home.messenger.add(self)
            self.ends[home.id] = home
            home.friends |= {each.id for each in homes if each is not home}


def swapped(message: dict[str, Any]) -> dict[str, Any]:
    """Put another certificate's fingerprint into an offer or an answer."""
    body = re.sub(
        r"(a=fingerprint:sha-256 )[0-9A-F:]{95}",
        lambda found: found[1] + ":".join(["AA"] * 32),
        message["body"],
    )
    return message | {"body": body}


async def test_a_server_that_swaps_fingerprints_gets_no_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "OFFER_TIMEOUT", 1.0)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        meddler = Meddler(swapped)
        meddler.between(ann, bob)
        with pytest.raises(Unavailable):
            await ann.links.get(bob.id)
        assert any("fingerprint" in each["body"] for each in meddler.seen)
        assert not bob.endings
        assert not bob.links.all


async def test_a_server_that_signs_for_itself_gets_no_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "OFFER_TIMEOUT", 1.0)
    eve = Identity.of(bytes([5] * 32))

    def forged(message: dict[str, Any]) -> dict[str, Any]:
        own = seal(eve, message["receiver"], message["kind"], message["body"].encode())
        return own | {"sender": message["sender"]}

    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        Meddler(forged).between(ann, bob)
        with pytest.raises(Unavailable):
            await ann.links.get(bob.id)
        assert not bob.links.all


async def test_a_link_whose_ends_saw_different_descriptions_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        make = bob.links.factory.handshake

        def other(*arguments: Any, **options: Any) -> Handshake:
            right = make(*arguments, **options)
            *parts, last = right.transcript
            return replace(right, transcript=(*parts, sha256(last).digest()))

        monkeypatch.setattr(bob.links.factory, "handshake", other)
        with pytest.raises(Unavailable):
            await ann.links.get(bob.id)
        assert ("unsigned", False) in ann.endings + bob.endings
        assert not ann.links.all
        assert not bob.links.all


async def test_an_old_offer_that_is_played_again_leads_to_nobody() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        meddler = Meddler(lambda message: message)
        meddler.between(ann, bob)
        await ann.links.get(bob.id)
        offers = [each for each in meddler.seen if each["kind"] == "offer"]
        before = bob.links.all
        for offer in offers * 5:
            bob.messenger.receive(offer, meddler)
        assert bob.links.slot(ann.id).state is SlotState.OPEN
        assert bob.links.all == before


async def test_a_home_that_takes_its_time_to_answer_gets_its_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linking, "HELLO_TIMEOUT", 3.0)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        Meddler(lambda message: message).between(ann, bob)

        async def slow() -> Sequence[IceServer]:
            await asyncio.sleep(1.2 * linking.HELLO_TIMEOUT)
            return ()

        monkeypatch.setattr(bob, "find_servers", slow)
        assert (await ann.links.get(bob.id)).is_ready
        assert not ann.endings


async def test_servers_that_do_not_answer_do_not_keep_homes_apart() -> None:
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    port = silent.getsockname()[1]

    servers = (
        IceServer(urls=(f"stun:127.0.0.1:{port}",)),
        IceServer(
            urls=(f"turn:127.0.0.1:{port}",), username="ann", credential="secret"
        ),
    )

    with silent:
        async with neighbour("Ann") as ann, neighbour("Bob") as bob:
            Meddler(lambda message: message).between(ann, bob)
            ann.servers = bob.servers = servers
            # Less than aioice would wait for them at both ends.
            async with asyncio.timeout(9.0):
                assert (await ann.links.get(bob.id)).is_ready


class Offers:
    """Offers of one home to another, as many as a test wants, and the links that were made for them."""

    def __init__(
        self, one: Neighbour, other: Neighbour, patch: pytest.MonkeyPatch
    ) -> None:
        self._one, self._other = one, other
        self.made: list[Link] = []
        make = other.links.factory.new

        async def new(*args: Any, **kwargs: Any) -> Link:
            self.made.append(link := await make(*args, **kwargs))
            return link

        patch.setattr(other.links.factory, "new", new)

    async def come(self, number: int) -> None:
        sdp = await description()
        for _ in range(number):
            offer = make_offer(sdp)
            sealed = seal(self._one.identity, self._other.id, "offer", encode(offer))
            message = Message(opened(sealed, self._other.id), self._other.lan)  # type: ignore[arg-type]
            self._other.links.receive(message)
            await asyncio.sleep(0)

    @property
    def open(self) -> list[Link]:
        return [link for link in self.made if link.reason is None]


async def test_each_offer_of_a_home_takes_the_place_of_its_former_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        offers = Offers(ann, bob, monkeypatch)
        await offers.come(int(opening.OFFER_BURST))
        await until(lambda: offers.made and offers.open == offers.made[-1:])


async def test_offers_without_end_make_only_so_many_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        offers = Offers(ann, bob, monkeypatch)
        await offers.come(200)
        # When that is over, it gets its link.
        monkeypatch.setattr(opening, "OFFER_INTERVAL", 0.1)
        assert (await ann.links.get(bob.id)).is_ready
        assert len(offers.made) <= 2 * opening.OFFER_BURST


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x05",
        b"\x05\0\0\0\x01{",
        b"\x05\0\0\0\x01[]",
        b'\x05\0\0\0\x01{"do": 5}',
        b'\x05\0\0\0\x01{"do": "range", "start": "x"}',
        b"\x05\0\0\0\x01" + b"[" * 10_000,
        b"\x05\0\0\0\x01" + b" " * 60_000,
        b"\x0a\0\0\0\0\xff\xff",
        b"\x0b\0\0\0\0" + bytes(40_000),
        b'\x01\0\0\0\0{"versions": [1]}',
        b"\x02\0\0\0\0{}",
        b"\x0d\0\0\0\x01123",
    ],
)
async def test_a_malformed_frame_ends_the_link_and_nothing_else(frame: bytes) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = b"film"
        link = await ann.links.get(bob.id)
        link.connection.send(frame)
        await until(lambda: ("invalid", True) in ann.endings)
        assert ("invalid", False) in bob.endings
        link = await ann.links.get(bob.id)
        assert await link.ask_whole(Ask(do="range", item="film", stop=4), 4) == b"film"


async def test_frames_of_unknown_types_and_late_ones_are_ignored() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = b"film"
        link = await ann.links.get(bob.id)
        for frame in (
            b"\x63\0\0\0\0whatever",
            b"\xff\0\0\0\0",
            b"\x06\0\0\0\x09late",
            b"\x07\0\0\0\x09",
            b'\x08\0\0\0\x09{"error": "new", "message": ""}',
            b"\x09\0\0\0\x09",
            b'\x0a\0\0\0\0{"about": "news", "of": "a newer release"}',
        ):
            link.connection.send(frame)
        assert await link.ask_whole(Ask(do="range", item="film", stop=4), 4) == b"film"
        assert bob.notes == ["news"]


async def test_only_so_many_requests_are_answered_at_a_time() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = bytes(300 * MIB)
        link = await ann.links.get(bob.id)
        ask = Ask(do="range", item="film", stop=300 * MIB)
        tasks = [
            asyncio.create_task(link.ask_whole(ask, 300 * MIB))
            for _ in range(MAX_REQUESTS + 5)
        ]
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(each.exception(), Busy) for each in done)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def test_a_copy_of_a_home_takes_the_link_over_and_the_first_one_is_told() -> None:
    seed = bytes([7] * 32)
    async with (
        neighbour("Ann", seed=seed) as ann,
        neighbour("Ann", seed=seed) as copy,
        neighbour("Bob") as bob,
    ):
        befriend(ann, bob)
        await ann.links.get(bob.id)
        copy.friends.add(bob.id)
        copy.sees(bob)
        await copy.links.get(bob.id)
        await until(lambda: ("superseded", True) in ann.endings)
        assert len(bob.links.all) == 1


def leave(link: Link) -> None:
    """Let one end of a link send nothing any more, as if its machine were gone."""

    async def nothing(_message: bytes) -> None:
        pass

    link.connection.send = lambda _message: None
    link.connection.send_bulk = nothing


@pytest.fixture
def doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a link doubt for a moment only, and always when something begins."""
    monkeypatch.setattr(keepalive, "PROBE_TIMEOUT", 0.5)
    monkeypatch.setattr(keepalive, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(keepalive, "BUSY_PING_INTERVAL", 0.0)


@pytest.mark.usefixtures("doubtful")
async def test_an_end_that_is_gone_is_noticed_when_something_is_asked() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        link = await ann.links.get(bob.id)
        leave(bob.links.all[0])
        async with asyncio.timeout(keepalive.BUSY_TIMEOUT / 2):
            with pytest.raises(Unavailable):
                await link.ask_whole(Ask(do="range", item="film", stop=1), 1)
        assert ann.endings == [(Reasons.SILENT, False)]


@pytest.mark.usefixtures("doubtful")
async def test_an_end_that_is_gone_is_noticed_when_the_network_changed() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        await ann.links.get(bob.id)
        leave(bob.links.all[0])
        ann.links.probe(bob.id)
        await until(lambda: ann.endings)
        assert ann.endings == [(Reasons.SILENT, False)]


@pytest.mark.usefixtures("doubtful")
async def test_a_link_that_was_doubted_without_a_reason_stays() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        bob.contents["film"] = film = secrets.token_bytes(MIB)
        link = await ann.links.get(bob.id)
        ann.links.probe()
        ask = Ask(do="range", item="film", stop=MIB)
        assert await link.ask_whole(ask, MIB) == film
        assert link.is_ready


async def test_a_link_that_nobody_uses_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slot, "IDLE_TIMEOUT", 0.1)
    monkeypatch.setattr("p2p.net.link.links.TEND_INTERVAL", 0.1)
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        await ann.links.get(bob.id)
        await until(lambda: not ann.links.all and not bob.links.all)
        assert {reason for reason, _ in ann.endings} == {"idle"}


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        befriend(ann, bob)
        await ann.links.get(bob.id)
    await until(lambda: not asyncio.all_tasks() - before)
