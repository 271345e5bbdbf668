"""What hostile guests, a hostile server, and half messages can do: nothing but be refused."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
import json
import re
import secrets
from typing import Any

import aiohttp
import pytest

from p2p.core.errors import EngineError
from p2p.net.link.frames import Ask, FrameType, pack, pack_request
from p2p.net.link.handshake import make_offer
from p2p.net.webrtc.connection import Connection
from p2p.rooms.rooms import MAX_PENDING, OFFER_BURST
from p2p.serving.requests import MAX_RANGE
from tests.patience import until

from .conftest import House, Link as RoomLink
from .guests import Guest, Proof, RefusedError, at_server, call, exchange

pytestmark = pytest.mark.asyncio(loop_scope="module")


def connection() -> Connection:
    """Return a connection that nobody listens to."""
    return Connection(
        (), on_message=lambda _: None, on_open=lambda: None, on_close=lambda: None
    )


async def offer_of(link: RoomLink) -> dict[str, Any]:
    """Return a good offer of a guest who is not heard of again."""
    there = connection()
    payload = call(link.slug, make_offer(await there.offer()))
    await there.close()
    return payload


async def test_offers_that_make_no_sense_are_ignored(house: House) -> None:
    link = await house.open("One")
    good = await offer_of(link)
    nonsense: list[Any] = [
        {},
        {"guest": 1},
        good | {"guest": "1"},
        good | {"sdp": None},
        good | {"nonce": "too short"},
        good | {"nonce": "ä" * 22},
        good | {"connection": "x" * 1000},
        good | {"room": ["a", "list"]},
        {"guest": 1, "deep": json.loads("[" * 200 + "]" * 200)},
    ]

    async with at_server(house.server.url) as socket:
        for payload in nonsense:
            message = {"type": "OFFER", "dst": house.home.id, "payload": payload}
            await socket.send_json(message)
        # What comes after all of it is answered, and nothing before.
        last = {**good, "room": "no-such-room", "connection": "last"}
        answer = await exchange(socket, house.home.id, last, "last")

    assert answer == {"connection": "last", "refused": "not_found"}
    async with link.guest() as guest:
        assert guest.file


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: "v=0",
        lambda sdp: sdp.replace("m=application", "m=video"),
        lambda sdp: re.sub(r"a=fingerprint.*\r\n", "", sdp),
        lambda sdp: sdp + "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n" * 100,
        lambda sdp: sdp + "x" * 30_000,
    ],
)
async def test_descriptions_that_cannot_be_used_leave_nothing_behind(
    house: House, forge: Any
) -> None:
    link = await house.open("One")
    payload = await offer_of(link)
    payload["sdp"] = forge(payload["sdp"])

    async with at_server(house.server.url) as socket:
        message = {"type": "OFFER", "dst": house.home.id, "payload": payload}
        await socket.send_json(message)
        async with link.guest() as guest:
            assert guest.file
            assert (await link.state())["guests"] == 1


async def test_a_server_that_sits_between_home_and_guest_is_found_out(
    house: House,
) -> None:
    link = await house.open("One")
    # It answers the guest itself, and would be the guest for the home.
    there = connection()

    class Between(Guest):
        async def enter(
            self, socket: aiohttp.ClientWebSocketResponse, host: str, **_: Any
        ) -> None:
            offer = make_offer(await self.link.connection.offer())
            forged = make_offer(await there.answer(offer.sdp))
            self.proof = guest_proof(self, host, offer, forged)
            await self.link.connection.answered(forged.sdp)
            self.link.bind(self.proof)
            await self.entered

    hello = pack(FrameType.HELLO, 0, json.dumps(HELLO).encode())
    async with at_server(house.server.url) as socket:
        guest = Between(b"s" * 16, link.slug)
        entering = asyncio.create_task(guest.enter(socket, house.home.id))
        await until_open(there)
        there.send(hello)
        with pytest.raises(RefusedError, match="unsigned"):
            await entering
    await there.close()


@pytest.mark.parametrize("field", ["nonce", "connection"])
async def test_what_a_server_changes_is_found_out(house: House, field: str) -> None:
    link = await house.open("One")
    forged = {"nonce": "A" * 22} if field == "nonce" else {}

    if forged:
        with pytest.raises(RefusedError, match=r"unsigned|lost"):
            async with link.guest(password=None, **forged):
                pass
    else:
        # An answer to another attempt is not looked at.
        async with at_server(house.server.url) as socket:
            payload = await offer_of(link)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await exchange(socket, house.home.id, payload, "another")


async def test_a_link_to_one_room_opens_no_other(house: House) -> None:
    first = await house.open("One")
    second = await house.open("Two")

    with pytest.raises(RefusedError):
        async with RoomLink(house, first.room, first.slug, second.secret).guest():
            pass


async def test_nothing_is_told_before_the_guest_has_proven_itself(
    house: House,
) -> None:
    link = await house.open("One")
    heard: list[bytes] = []
    opened = asyncio.Event()
    there = Connection(
        (), on_message=heard.append, on_open=opened.set, on_close=lambda: None
    )
    async with at_server(house.server.url) as socket:
        offer = make_offer(await there.offer())
        answer = await exchange(
            socket, house.home.id, call(link.slug, offer), offer.connection
        )
        await there.answered(answer["sdp"])
        await opened.wait()
        for frame in pack_request(1, Ask(do="room")):
            there.send(frame)
        await until(lambda: len(heard) > 1)
    await there.close()

    # The hello has neither the home's name nor its release; then the link ends.
    hello, bye = (json.loads(each[5:]) for each in heard[:2])
    assert (hello["name"], hello["release"], hello["instance"]) == ("", "", "")
    assert bye == {"reason": "invalid"}


async def test_a_flood_of_offers_leaves_room_for_others(house: House) -> None:
    flooded = await house.open("One")
    quiet = await house.open("Two")
    payload = await offer_of(flooded)
    async with at_server(house.server.url) as socket, quiet.guest() as guest:
        for number in range(int(OFFER_BURST) * 3):
            message = payload | {"connection": f"{number:032}"}
            await socket.send_json(
                {"type": "OFFER", "dst": house.home.id, "payload": message}
            )
        refused = 0
        while refused < 10:
            message = await socket.receive_json()
            refused += message.get("payload", {}).get("refused") == "busy"

        # Whoever is there is served all the while.
        async with guest.lease():
            assert len(await guest.part(guest.file, 0, 1000)) == 1000
        assert (await flooded.state())["guests"] == 0
        assert MAX_PENDING < OFFER_BURST


@pytest.mark.parametrize(
    ("start", "stop", "etag"),
    [
        (-1, 10, None),
        (10, 10, None),
        (20, 10, None),
        (0, 2**62, None),
        (0, MAX_RANGE + 1, None),
        (0, 10, '"another"'),
        (0, 10, ""),
    ],
)
async def test_ranges_that_there_are_not_are_refused(
    house: House, start: int, stop: int, etag: str | None
) -> None:
    link = await house.open(folders=[{"share": "films", "path": ""}])
    async with link.guest() as guest, guest.lease():
        (film,) = (each for each in guest.room["files"] if each["title"] == "One")
        film = film if etag is None else film | {"etag": etag}
        with pytest.raises(EngineError):
            await guest.part(film, start, stop)
        assert guest.reason is None


@pytest.mark.parametrize(
    "item", ["", "../../etc/passwd", "a" * 26, "A" * 28, "x" * 100_000, "\0", "%2e%2e"]
)
async def test_items_that_there_are_not_are_refused(house: House, item: str) -> None:
    link = await house.open("One")
    async with link.guest() as guest, guest.lease():
        for do in ("range", "thumbnail", "subtitles"):
            with pytest.raises(EngineError):
                await guest.ask(do, item=item, etag=guest.file["etag"], stop=10)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x05",
        pack(FrameType.ASK, 1, b"{"),
        pack(FrameType.ASK, 1, b"[]"),
        pack(FrameType.ASK, 1, b'{"do": 5}'),
        pack(FrameType.HELLO, 0, b"{}"),
        pack(FrameType.TAKEN, 1, b"123"),
        pack(FrameType.NOTE, 0, b"x" * 20_000),
        pack(FrameType.DATA, 9, b"unasked") * 1,
        pack(FrameType.ASK, 1, b"[" * 50_000),
    ],
)
async def test_malformed_frames_end_at_most_their_own_link(
    house: House, message: bytes
) -> None:
    link = await house.open("One")
    async with link.guest() as other, link.guest() as guest:
        guest.link.connection.send(message)
        with pytest.raises(EngineError):
            # Either the link ends, or this is refused in its turn.
            await guest.ask("nonsense")
        await other.look()
        assert other.file


async def test_requests_without_end_are_bounded(house: House) -> None:
    link = await house.open("One")
    async with link.guest() as guest:
        with suppress(ConnectionError):
            for number in range(1000):
                guest.link.connection.send(pack(FrameType.MORE, number, b"x" * 1000))
        async with asyncio.timeout(10):
            await guest.left.wait()
        assert guest.reason in {"invalid", "lost"}


async def test_a_guest_has_one_lease_for_each_purpose(house: House) -> None:
    link = await house.open("One", guests=50)
    async with link.guest() as guest, guest.lease():
        with pytest.raises(EngineError):
            async with guest.lease():
                pass
        with pytest.raises(EngineError):
            async with guest.lease("something else"):
                pass


async def test_guests_who_do_not_read_hold_back_nothing_but_themselves(
    house: House,
) -> None:
    link = await house.open("One")
    async with link.guest() as lazy, link.guest() as guest, AsyncExitStack() as stack:
        await stack.enter_async_context(lazy.lease())
        await stack.enter_async_context(guest.lease())
        ask = Ask(
            do="range",
            item=lazy.file["item"],
            etag=lazy.file["etag"],
            start=0,
            stop=lazy.file["size"],
        )
        unread = [lazy.link.ask(ask, lazy.file["size"]) for _ in range(20)]
        for each in unread:
            await anext(each)
        assert len(await guest.download(guest.file)) == guest.file["size"]
        for each in unread:
            await each.aclose()


async def test_names_of_guests_need_not_be_names(house: House) -> None:
    link = await house.open("One")
    for name in ("x" * 10_000, "\u202egnp.exe", "../..", "\0"):
        async with link.guest(name=name) as guest, guest.lease():
            assert len(await guest.part(guest.file, 0, 10)) == 10


async def test_a_damaged_file_of_rooms_costs_links_and_nothing_else(
    house: House,
) -> None:
    link = await house.open("One")
    await house.home.stop()
    (house.home.folder / "data" / "rooms.json").write_bytes(secrets.token_bytes(5000))
    await house.home.start()

    fresh = await house.link(link.room)
    await house.home.until(lambda: is_open(house, link.room), "the room to be open")
    async with fresh.guest() as guest:
        assert guest.file


async def test_a_killed_engine_comes_back_with_its_links(house: House) -> None:
    link = await house.open("One")
    async with link.guest() as guest, guest.lease():
        await house.home.kill()
        with pytest.raises(EngineError):
            await guest.part(guest.file, 0, 10)
    await house.home.start()

    assert await house.link(link.room) == link
    await house.home.until(lambda: is_open(house, link.room), "the room to be open")
    async with link.guest() as guest:
        assert guest.file


async def is_open(house: House, room: str) -> bool:
    return bool((await house.room(room))["state"] == "open")


HELLO = {"versions": [1], "release": "", "name": "", "instance": "", "signature": "AA"}


def guest_proof(guest: Guest, host: str, offer: Any, answer: Any) -> Any:
    """Return a guest's proof about a connection that somebody forged."""
    told = {"nonce": answer.nonce, "sdp": answer.sdp}
    return Proof(guest.secret, guest.slug, host, offer, told)


async def until_open(there: Connection) -> None:
    """Wait until a connection is open."""
    await until(lambda: there.is_open)
