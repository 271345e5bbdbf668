"""Several servers that a real Redis makes one: what clients of different ones have of each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
import os
from pathlib import Path
import re
import secrets
import signal
import socket
import sys
import time
from typing import Any

import aiohttp
import psutil
import pytest

from pemus_signaling.cluster import redis as redis_cluster, shard
from pemus_signaling.cluster.cluster import StoreAwayError
from pemus_signaling.cluster.redis import RedisCluster
from pemus_signaling.net.sockets import Close
from pemus_signaling.rooms import tokens
from pemus_signaling.server import Server
from tests.patience import PATIENCE, until
from tests.signaling.clients import Client, Identity, connected, connecting, proven
from tests.signaling.daemons import Redis
from tests.signaling.guests import FILM, Home, Peer, named
from tests.signaling.held import holding_heartbeats
from tests.signaling.server import ADDRESS, http, running, ws


@dataclass
class Process:
    """A server in a process of its own, as far as clients need to know."""

    port: int
    process: asyncio.subprocess.Process


def cluster(server: Server) -> RedisCluster:
    assert isinstance(server.cluster, RedisCluster)
    return server.cluster


@asynccontextmanager
async def two(redis: Redis, **settings: Any) -> AsyncIterator[tuple[Server, Server]]:
    async with (
        running(redis=(redis.url,), **settings) as here,
        running(redis=(redis.url,), **settings) as there,
    ):
        await until(lambda: len(here.cluster.nodes() & there.cluster.nodes()) == 2)
        yield here, there


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def started(*arguments: object) -> AsyncIterator[Process]:
    """Run the program as an operator does."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pemus_signaling", "--host", ADDRESS),
        *("--port", str(port), "--retry-after", "0", *map(str, arguments)),
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        cwd=Path(__file__).parents[3],
    )
    try:
        await ready(port)
        yield Process(port, process)
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(PATIENCE):
                await process.wait()


async def ready(port: int) -> None:
    async with aiohttp.ClientSession() as session:

        async def answers() -> bool:
            try:
                async with session.get(f"http://{ADDRESS}:{port}/readyz") as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        await until(answers)


async def numbers_of(server: Server) -> dict[str, float]:
    """Return what a server shows to monitoring, without what has labels."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(http(server, "/metrics")) as answer,
    ):
        found = re.findall(r"^(pemus_\w+) (\S+)$", await answer.text(), re.MULTILINE)
    return {name: float(number) for name, number in found}


@pytest.mark.usefixtures("quick")
async def test_monitoring_sees_the_nodes_and_whether_redis_answers(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(redis_server) as (here, there):
        numbers = await numbers_of(here)
        assert numbers["pemus_nodes"] == 2
        assert numbers["pemus_redis_away"] == 0
        assert numbers["pemus_node_messages_dropped_total"] == 0
        monkeypatch.setattr(shard, "MAX_OUTBOX", 0)
        cluster(here).send(there.cluster.node, "peers", b"too much")
        assert (await numbers_of(here))["pemus_node_messages_dropped_total"] == 1
        await redis_server.stop()
        await until(lambda: cluster(here).stores_away)
        numbers = await numbers_of(here)
        assert (numbers["pemus_nodes"], numbers["pemus_redis_away"]) == (1, 1)


@pytest.mark.usefixtures("quick")
async def test_clients_of_different_nodes_reach_each_other(redis_server: Redis) -> None:
    async with (
        two(redis_server) as (here, there),
        connected(here, "anna") as anna,
        connected(there, "bert") as bert,
        connected(there, "carl") as carl,
    ):
        await anna.say("OFFER", dst="bert", payload={"sdp": "ü"})
        assert await bert.hear() == {
            "type": "OFFER",
            "src": "anna",
            "dst": "bert",
            "payload": {"sdp": "ü"},
        }
        await bert.say("ANSWER", dst="anna", src="carl", payload=1)
        assert (await anna.hear())["src"] == "bert"
        for number in range(200):
            await anna.say("CANDIDATE", dst="bert", payload=number)
        assert [(await bert.hear())["payload"] for _ in range(200)] == list(range(200))
        await carl.says_nothing_before(anna, "carl")


@pytest.mark.usefixtures("quick")
async def test_a_message_waits_for_who_comes_to_another_node(
    redis_server: Redis,
) -> None:
    async with two(redis_server) as (here, there), connected(here, "anna") as anna:
        # Some of these names belong to one node, some to the other.
        names = [f"late {number}" for number in range(8)]
        for name in names:
            await anna.say("OFFER", dst=name, payload=name)
        for name in names:
            async with connected(there, name) as late:
                heard = await late.hear()
                assert (heard["src"], heard["payload"]) == ("anna", name)


@pytest.mark.usefixtures("quick")
async def test_what_was_said_before_a_node_heard_of_the_others_arrives(
    redis_server: Redis,
) -> None:
    async with running(redis=(redis_server.url,)) as here, AsyncExitStack() as stack:
        with holding_heartbeats(cluster(here)):
            there = await stack.enter_async_context(running(redis=(redis_server.url,)))
            anna = await stack.enter_async_context(connected(here, "anna"))
            bert = await stack.enter_async_context(connected(there, "bert"))
            await anna.say("OFFER", dst="bert", payload=1)
        assert (await bert.hear())["payload"] == 1


async def test_what_nobody_fetches_expires_wherever_it_waits(
    redis_server: Redis,
) -> None:
    async with (
        two(redis_server, expire_timeout=0.2) as (here, _),
        connected(here, "anna") as anna,
    ):
        names = {f"nobody {number}" for number in range(8)}
        for name in names:
            await anna.say("OFFER", dst=name, payload=1)
            await anna.say("CANDIDATE", dst=name, payload=2)
        expired = [await anna.hear() for _ in names]
        assert {each["src"] for each in expired} == names
        assert {each["type"] for each in expired} == {"EXPIRE"}


@pytest.mark.usefixtures("quick")
async def test_an_id_is_taken_everywhere_until_its_client_goes(
    redis_server: Redis,
) -> None:
    async with two(redis_server) as (here, there):
        async with connected(here, "anna") as anna:
            async with connecting(there, "anna", "another token") as other:
                assert (await other.hear())["type"] == "ID-TAKEN"
            # With its token it may come back at another node before the first notices.
            async with connected(there, "anna"):
                assert await anna.end() == Close.SUPERSEDED
        async with asyncio.timeout(PATIENCE):
            while True:
                async with connecting(here, "anna", "another token") as other:
                    if (await other.hear())["type"] == "OPEN":
                        break


@pytest.mark.usefixtures("quick")
async def test_an_identity_takes_over_at_another_node(redis_server: Redis) -> None:
    identity = Identity()
    async with (
        two(redis_server) as (here, there),
        proven(here, identity) as (first, opened),
        proven(there, identity) as (second, _),
        connected(here, "guest") as guest,
    ):
        assert await first.end() == Close.SUPERSEDED
        await guest.say("OFFER", dst=identity.id, payload="hello")
        assert (await second.hear())["payload"] == "hello"
        # What one node let in, all do.
        headers = {"Authorization": f"Bearer {opened['session']}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(http(there, "/room")) as answer,
        ):
            assert answer.status == 200


@pytest.mark.usefixtures("quick")
async def test_who_moved_to_another_node_is_found_there_at_once(
    redis_server: Redis,
) -> None:
    identity = Identity()
    async with (
        two(redis_server) as (here, there),
        running(redis=(redis_server.url,)) as third,
        connected(here, "guest") as guest,
    ):
        await until(lambda: len(here.cluster.nodes() & third.cluster.nodes()) == 3)
        for place, node in enumerate((there, third, here, third, there)):
            async with proven(node, identity) as (home, _):
                await guest.say("OFFER", dst=identity.id, payload=place)
                assert (await home.hear())["payload"] == place


@pytest.mark.usefixtures("quick")
async def test_a_room_is_known_everywhere_and_closes_everywhere(
    redis_server: Redis,
) -> None:
    identity = Identity()
    home = Home()
    home.private_key, home.key = identity.private, identity.key
    async with (
        two(redis_server) as (here, there),
        proven(here, identity) as (_, opened),
        aiohttp.ClientSession() as session,
    ):
        headers = {"Authorization": f"Bearer {opened['session']}"}
        made = {"expires": int(time.time()) + 600}
        async with session.post(
            http(here, "/room"), json=made, headers=headers
        ) as answer:
            assert answer.status == 201
            slug = (await answer.json())["slug"]
        async with session.get(http(there, f"/room/{slug}")) as answer:
            assert (await answer.json())["host"] == identity.id
        url = ws(there, f"/announce?token={home.token(room=slug)}")
        async with session.ws_connect(url) as guest:
            await Peer(guest).enter("guest")
            async with session.delete(
                http(here, f"/room/{slug}"), headers=headers
            ) as answer:
                assert answer.status == 204
            message = await guest.receive(timeout=PATIENCE)
            assert (message.type, message.data) == (
                aiohttp.WSMsgType.CLOSE,
                Close.REVOKED,
            )
        async with session.get(http(there, f"/room/{slug}")) as answer:
            assert answer.status == 410


@pytest.mark.usefixtures("quick")
async def test_a_node_that_comes_later_knows_what_was_revoked_and_nobody_says_it_again(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = Identity()
    home = Home()
    home.private_key, home.key = identity.private, identity.key
    async with (
        two(redis_server) as (here, there),
        proven(here, identity) as (_, opened),
        aiohttp.ClientSession() as session,
    ):
        headers = {"Authorization": f"Bearer {opened['session']}"}
        made = {"expires": int(time.time()) + 600}
        async with session.post(
            http(here, "/room"), json=made, headers=headers
        ) as answer:
            slug = (await answer.json())["slug"]
        url = http(here, f"/room/{slug}/token/guest")
        async with session.delete(url, headers=headers) as answer:
            assert answer.status == 204
        await until(lambda: len(there.revocations) == 1)
        said: list[str] = []
        for node in (here, there):
            monkeypatch.setattr(
                cluster(node), "broadcast", lambda topic, message: said.append(topic)
            )
        async with running(redis=(redis_server.url,)) as late:
            await until(lambda: len(here.cluster.nodes() & late.cluster.nodes()) == 3)
            for name, status in (("guest", 403), ("another", 101)):
                token = home.token(name, room=slug)
                async with session.get(
                    http(late, f"/announce?token={token}"), headers=UPGRADE
                ) as answer:
                    assert answer.status == status
        assert "revocations" not in said


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.usefixtures("quick")
async def test_what_is_taken_back_while_redis_is_away_is_said_and_asked_for_again(
    redis_server: Redis,
) -> None:
    home = Home()
    async with two(redis_server) as (here, there):
        await redis_server.stop()
        await until(lambda: cluster(here).stores_away and cluster(there).stores_away)
        here.revocations.revoke_token(home.key, "one")
        there.revocations.revoke_token(home.key, "two")
        for node in (here, there):
            with pytest.raises(StoreAwayError):
                await node.revocations.save()
        await redis_server.start()
        await until(lambda: len(here.revocations) == len(there.revocations) == 2)
        # It came back empty, and has both for those to come.
        await until(lambda: remembered(here))


async def remembered(server: Server) -> bool:
    return len(await server.cluster.recall("revocations")) == 2


@pytest.mark.usefixtures("quick")
async def test_peers_of_different_nodes_are_introduced(redis_server: Redis) -> None:
    home = Home()
    async with (
        two(redis_server) as nodes,
        aiohttp.ClientSession() as session,
    ):
        # Some of these torrents belong to one node, some to the other.
        for number in range(6):
            film = named(f"film {number}")
            sockets = [
                await session.ws_connect(
                    ws(node, f"/announce?token={home.token(f'{number}{place}')}")
                )
                for place, node in enumerate(nodes)
            ]
            seed, guest = map(Peer, sockets)
            await seed.enter("seed", film, left=0)
            reply = await guest.enter("guest", film, offers=1)
            assert (reply["complete"], reply["incomplete"]) == (1, 1)
            offer = await seed.hear()
            assert (offer["offer"]["type"], offer["info_hash"]) == ("offer", film)
            for each in sockets:
                await each.close()
    assert len(FILM) == 20


async def test_a_node_that_is_killed_loses_only_its_own_clients(
    redis_server: Redis,
) -> None:
    redis = ("--redis", redis_server.url)
    async with (
        started(*redis) as here,
        started(*redis) as there,
        connected(here, "anna") as anna,  # type: ignore[arg-type]
        connected(there, "bert") as bert,  # type: ignore[arg-type]
        connected(there, "carl") as carl,  # type: ignore[arg-type]
    ):
        await anna.say("OFFER", dst="bert", payload=1)
        assert (await bert.hear())["payload"] == 1
        here.process.kill()
        await anna.end()
        await bert.say("OFFER", dst="carl", payload=2)
        assert (await carl.hear())["payload"] == 2

        async def let_in() -> bool:
            async with connecting(there, "anna", "new") as again:  # type: ignore[arg-type]
                return (await again.hear())["type"] == "OPEN"

        await until(let_in)


async def test_what_is_sent_to_a_node_that_is_killed_expires(
    redis_server: Redis,
) -> None:
    redis = ("--redis", redis_server.url)
    async with (
        started(*redis) as here,
        started(*redis) as there,
        connected(here, "anna") as anna,  # type: ignore[arg-type]
        AsyncExitStack() as stack,
    ):
        names = [f"bert {number}" for number in range(20)]
        for name in names:
            bert = await stack.enter_async_context(connected(there, name))  # type: ignore[arg-type]
            await anna.say("OFFER", dst=name, payload=1)
            assert (await bert.hear())["payload"] == 1
        there.process.kill()
        for name in names:
            await anna.say("CANDIDATE", dst=name, payload=2)
        # Some of these would wait at the node that is gone.
        nobody = [f"nobody {number}" for number in range(20)]
        for name in nobody:
            await anna.say("OFFER", dst=name, payload=3)
        expired = [await anna.hear() for _ in (*names, *nobody)]
        assert {each["type"] for each in expired} == {"EXPIRE"}
        assert {each["src"] for each in expired} == {*names, *nobody}


@pytest.mark.usefixtures("quick")
async def test_while_redis_is_away_local_clients_go_on_and_then_all_is_well_again(
    redis_server: Redis,
) -> None:
    async with (
        two(redis_server) as (here, there),
        connected(here, "anna") as anna,
        connected(here, "bert") as bert,
        connected(there, "carl") as carl,
    ):
        await redis_server.stop()
        await anna.say("OFFER", dst="bert", payload=1)
        assert (await bert.hear())["payload"] == 1
        await until(lambda: cluster(here).stores_away and cluster(there).stores_away)
        async with connected(here, "dora") as dora:
            await dora.say("OFFER", dst="anna", payload=2)
            assert (await anna.hear())["payload"] == 2
            await redis_server.start()
            await until(lambda: len(here.cluster.nodes() & there.cluster.nodes()) == 2)
            # Nobody had to connect anew.
            await carl.say("OFFER", dst="dora", payload=3)
            assert (await dora.hear())["payload"] == 3
            await anna.say("OFFER", dst="carl", payload=4)
            assert (await carl.hear())["payload"] == 4


@asynccontextmanager
async def coming_back_in_turn(
    redis: Redis, first: Server, second: Server
) -> AsyncIterator[None]:
    """Have one node notice before the other that Redis is back."""
    later = cluster(second)
    await redis.stop()
    await until(lambda: cluster(first).stores_away and later.stores_away)
    yield
    with holding_heartbeats(later):
        await redis.start()
        await until(lambda: not cluster(first).stores_away)
    await until(lambda: not later.stores_away)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("first_back", ["the old node", "the new node"])
async def test_a_home_that_moved_while_redis_was_away_stays_where_it_is(
    redis_server: Redis, first_back: str
) -> None:
    identity = Identity()
    async with (
        two(redis_server) as (here, there),
        proven(here, identity) as (old, _),
        connected(here, "guest") as guest,
        AsyncExitStack() as stack,
    ):
        order = (here, there) if first_back == "the old node" else (there, here)
        async with coming_back_in_turn(redis_server, *order):
            # Nothing tells the first node that this connection is dead.
            home, _ = await stack.enter_async_context(proven(there, identity))
        assert await old.end() == Close.SUPERSEDED
        await guest.say("OFFER", dst=identity.id, payload="hello")
        assert (await home.hear())["payload"] == "hello"


@pytest.mark.usefixtures("quick")
async def test_a_home_that_moved_there_and_back_stays_where_it_is(
    redis_server: Redis,
) -> None:
    identity = Identity()
    async with (
        two(redis_server) as (here, there),
        proven(here, identity) as (old, _),
        connected(there, "guest") as guest,
        AsyncExitStack() as stack,
    ):
        async with coming_back_in_turn(redis_server, there, here):
            between, _ = await stack.enter_async_context(proven(there, identity))
            for server in (here, there):
                # A second later.
                store = cluster(server).shards["0"].store
                store.clock = lambda: time.monotonic() + 1
            home, _ = await stack.enter_async_context(proven(here, identity))
            assert await old.end() == Close.SUPERSEDED
        assert await between.end() == Close.SUPERSEDED
        await guest.say("OFFER", dst=identity.id, payload="hello")
        assert (await home.hear())["payload"] == "hello"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("first_back", ["the first", "the second"])
async def test_nobody_takes_an_ordinary_id_while_redis_is_away(
    redis_server: Redis, first_back: str
) -> None:
    async with (
        two(redis_server) as (here, there),
        connected(here, "anna", "her token") as anna,
        connected(there, "bert") as bert,
        AsyncExitStack() as stack,
    ):
        order = (here, there) if first_back == "the first" else (there, here)
        async with coming_back_in_turn(redis_server, *order):
            other = await stack.enter_async_context(
                connected(there, "anna", "another token")
            )
        assert await other.end() == Close.SUPERSEDED
        await bert.say("OFFER", dst="anna", payload="hello")
        assert (await anna.hear())["payload"] == "hello"


async def test_a_node_that_joins_knows_what_a_home_revoked_before_others_revoked_without_end(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_cluster, "MAX_REMEMBERED", 30)
    monkeypatch.setattr(tokens, "MAX_REVOCATIONS", 20)
    monkeypatch.setattr(tokens, "MAX_PER_KEY", 5)
    home = Home()
    async with running(redis=(redis_server.url,)) as here:
        here.revocations.revoke_token(home.key, "guest")
        await here.revocations.save()
        for _ in range(12):
            greedy = Home()
            for number in range(5):
                with suppress(tokens.TooManyRevocationsError):
                    here.revocations.revoke_token(greedy.key, f"{number}")
            await here.revocations.save()
        token = tokens.read(home.token("guest"), time.time())
        assert here.revocations.is_revoked(token)
        async with running(redis=(redis_server.url,)) as there:
            assert there.revocations.is_revoked(token)
        assert len(await here.cluster.recall("revocations")) == 20


@pytest.mark.usefixtures("quick")
async def test_a_redis_that_comes_back_empty_is_given_what_was_revoked(
    redis_server: Redis,
) -> None:
    async with two(redis_server) as (here, _):
        here.revocations.revoke_token(Home().key, "one")
        await here.revocations.save()
        assert await revoked(here) == 1
        await redis_server.stop()
        await until(lambda: cluster(here).stores_away)
        await redis_server.start()
        await until(lambda: not cluster(here).stores_away)

        async def is_there() -> bool:
            return await revoked(here) == 1

        await until(is_there, 10)


async def revoked(server: Server) -> int:
    """Return how much of what was revoked Redis knows."""
    return len(await server.cluster.recall("revocations"))


async def test_workers_share_a_port_and_end_together(redis_server: Redis) -> None:
    async with started("--redis", redis_server.url, "--workers", 2) as server:
        parent = psutil.Process(server.process.pid)
        await until(lambda: len(parent.children()) == 2)
        workers = parent.children()
        async with AsyncExitStack() as stack:
            # The system deals connections out as it likes, so there are as many as it takes.
            clients: dict[psutil.Process, tuple[str, Client]] = {}
            async with asyncio.timeout(PATIENCE):
                while len(clients) < 2:
                    name = f"anna {len(clients)} {secrets.token_hex(4)}"
                    client = await stack.enter_async_context(connected(server, name))  # type: ignore[arg-type]
                    clients.setdefault(worker_of(client, workers), (name, client))
            (here, anna), (there, bert) = clients.values()
            await anna.say("OFFER", dst=there, payload=1)
            heard = await bert.hear()
            assert (heard["src"], heard["payload"]) == (here, 1)
            await bert.say("ANSWER", dst=here, payload=2)
            assert (await anna.hear())["payload"] == 2
        server.process.terminate()
        async with asyncio.timeout(PATIENCE):
            assert await server.process.wait() == 0
        assert not any(worker.is_running() for worker in workers)


def worker_of(client: Client, workers: list[psutil.Process]) -> psutil.Process:
    """Return the process at the other end of a connection."""
    port = client.socket.get_extra_info("sockname")[1]
    (worker,) = (
        worker
        for worker in workers
        if any(
            each.raddr and each.raddr[1] == port for each in worker.net_connections()
        )
    )
    return worker


async def test_a_worker_that_dies_is_replaced_and_none_outlives_the_first_process(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started("--redis", redis_server.url, "--workers", 2) as server:
        parent = psutil.Process(server.process.pid)
        await until(lambda: len(parent.children()) == 2)
        first = parent.children()[0]
        first.send_signal(signal.SIGKILL)
        await until(lambda: not first.is_running() and len(parent.children()) == 2)
        await ready(server.port)
        workers = parent.children()
        os.kill(server.process.pid, signal.SIGKILL)
        await server.process.wait()
        await until(
            lambda: (
                not any(
                    worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE
                    for worker in workers
                )
            )
        )


async def test_workers_that_cannot_serve_end_the_program(redis_server: Redis) -> None:
    with socket.socket() as other:
        other.bind((ADDRESS, 0))
        other.listen()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pemus_signaling", "--host", ADDRESS),
            *("--port", str(other.getsockname()[1]), "--redis", redis_server.url),
            *("--workers", "2"),
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )
        async with asyncio.timeout(PATIENCE):
            _, said = await process.communicate()
    assert process.returncode == 1
    assert b"in use" in said
