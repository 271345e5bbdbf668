"""Many homes behind the address of a carrier, and one client that pretends to be many homes."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp
import pytest

from pemus_signaling.net.sockets import Close
from pemus_signaling.server import Server
from tests.signaling.clients import Identity, connected, connecting, proven
from tests.signaling.server import http, running

CARRIER = "127.0.0.2"
ELSEWHERE = "127.0.0.3"


async def test_more_homes_than_an_address_has_sockets_connect_and_talk() -> None:
    async with (
        running(sockets_per_address=3, concurrent_limit=100) as server,
        AsyncExitStack() as stack,
    ):
        identities = [Identity() for _ in range(20)]
        homes = [
            (await stack.enter_async_context(proven(server, identity, CARRIER)))[0]
            for identity in identities
        ]
        await homes[0].say("OFFER", dst=identities[-1].id, payload="hello")
        assert (await homes[-1].hear())["payload"] == "hello"
        # There are still places for those who need no identity.
        for number in range(3):
            await stack.enter_async_context(
                connecting(server, f"guest {number}", address=CARRIER)
            )
        with pytest.raises(aiohttp.ClientError):
            await stack.enter_async_context(
                connecting(server, "guest 3", address=CARRIER)
            )


async def be_many(server: Server, stack: AsyncExitStack, address: str) -> int:
    """Make identities at an address until the server refuses one. Return how many it took."""
    taken = 0
    while True:
        identity = Identity()
        client = await stack.enter_async_context(
            connecting(server, identity.id, address=address)
        )
        challenge = await client.hear()
        await client.say(
            "PROVE", payload=identity.sign(f"http://127.0.0.1:{server.port}", challenge)
        )
        message = await client.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            assert client.socket.close_code == Close.TRY_LATER
            return taken
        taken += 1


async def test_made_up_homes_of_some_addresses_leave_room_for_everybody_else() -> None:
    async with (
        running(sockets_per_address=2, concurrent_limit=30) as server,
        AsyncExitStack() as stack,
    ):
        taken = [
            await be_many(server, stack, f"127.0.1.{number}") for number in (1, 2, 3)
        ]
        assert taken[0] == 10
        assert sum(taken) < 24
        assert server.peers.counts.crowded == 3
        for _ in range(2):
            await stack.enter_async_context(proven(server, Identity(), ELSEWHERE))
        await stack.enter_async_context(connected(server, "guest"))


async def test_a_place_is_free_again_when_a_home_goes() -> None:
    async with running(sockets_per_address=1, concurrent_limit=3) as server:
        for _ in range(5):
            async with proven(server, Identity(), CARRIER):
                pass
        async with AsyncExitStack() as stack:
            assert await be_many(server, stack, CARRIER) == 1


async def ask_for_rooms(server: Server, session: str) -> int:
    async with (
        aiohttp.ClientSession() as client,
        client.get(
            http(server, "/room"), headers={"Authorization": f"Bearer {session}"}
        ) as answer,
    ):
        return answer.status


async def test_homes_of_one_address_may_each_ask_and_a_stranger_cannot_stop_them() -> (
    None
):
    async with running(lookups_per_minute=4.0) as server:
        sessions = [server.sessions.issue(Identity().key)[0] for _ in range(10)]
        for session in sessions:
            assert [await ask_for_rooms(server, session) for _ in range(3)] == [200] * 3
        assert await ask_for_rooms(server, "no session") == 401


async def test_many_made_up_homes_of_one_address_may_not_ask_without_end() -> None:
    async with running(lookups_per_minute=2.0) as server:
        statuses = [
            await ask_for_rooms(server, server.sessions.issue(Identity().key)[0])
            for _ in range(45)
        ]
        assert statuses[:40] == [200] * 40
        assert 429 in statuses[40:]
