"""Names and messages shared by two real Redis servers, also while one of them is down."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
import tempfile
import time

import pytest

from pemus_signaling.cluster.cluster import home_of
from pemus_signaling.cluster.redis import RedisCluster
from tests.patience import until
from tests.signaling.clients import connected
from tests.signaling.daemons import Redis
from tests.signaling.server import running

pytestmark = pytest.mark.usefixtures("quick")

NAMES = [f"name {number}" for number in range(40)]


def names_at(number: int) -> list[str]:
    """Return the names that belong to one of two stores."""
    return [name for name in NAMES if home_of("01", name.encode()) == str(number)]


@pytest.fixture
async def second_redis(redis_program: Path) -> AsyncGenerator[Redis]:
    """Run another Redis than `redis_server`."""
    with tempfile.TemporaryDirectory(prefix="pemus-") as folder:
        redis = Redis(redis_program, Path(folder))
        await redis.start()
        yield redis
        await redis.stop()


@pytest.fixture
async def nodes(
    redis_server: Redis, second_redis: Redis
) -> AsyncGenerator[tuple[RedisCluster, RedisCluster]]:
    """Run two nodes that share two Redis servers."""
    urls = (redis_server.url, second_redis.url)
    here, there = RedisCluster(urls), RedisCluster(urls)
    await here.start()
    await there.start()
    await until(lambda: here.nodes() == there.nodes() == {here.node, there.node})
    yield here, there
    await here.close()
    await there.close()


def listen(cluster: RedisCluster, topic: str) -> list[bytes]:
    """Return a list that fills with the messages of a topic."""
    heard: list[bytes] = []
    cluster.on(topic, lambda _node, message: heard.append(message))
    return heard


async def test_names_are_spread_over_both_and_found(
    nodes: tuple[RedisCluster, RedisCluster],
) -> None:
    here, there = nodes
    superseded = listen(here, "superseded")
    for name in NAMES:
        assert await here.claim(name, take=False)
        assert not await there.claim(name, take=False)
        assert await there.locate(name) == here.node
    for number, shard in here.shards.items():
        kept = await shard.store.redis.keys("pemus:name:*")
        assert {key.decode().rpartition(":")[2] for key in kept} == set(
            names_at(int(number))
        )
        assert len(kept) > len(NAMES) / 4
    for name in NAMES:
        assert await there.claim(name, take=True)
    await until(lambda: len(superseded) == len(NAMES))
    assert {name.decode() for name in superseded} == set(NAMES)


@pytest.mark.parametrize("down", [0, 1])
async def test_with_one_down_names_of_the_other_are_found_and_messages_arrive(
    nodes: tuple[RedisCluster, RedisCluster],
    redis_server: Redis,
    second_redis: Redis,
    down: int,
) -> None:
    here, there = nodes
    heard_here, heard_there = listen(here, "greeting"), listen(there, "greeting")
    for name in NAMES:
        assert await here.claim(name, take=False)
    stopped = (redis_server, second_redis)[down]
    await stopped.stop()
    await until(lambda: here.stores_away == there.stores_away == 1)

    assert here.nodes() == there.nodes() == {here.node, there.node}
    for name in names_at(1 - down):
        assert await there.locate(name) == here.node
        assert not await there.claim(name, take=False)
    for name in names_at(down):
        assert await there.locate(name) is None
    here.send(there.node, "greeting", b"hello")
    there.send(here.node, "greeting", b"hello yourself")
    here.broadcast("greeting", b"to all")
    await until(lambda: len(heard_there) == 2 and heard_here)
    assert (heard_there, heard_here) == ([b"hello", b"to all"], [b"hello yourself"])

    # It comes back empty, and is told everything again.
    await stopped.start()
    await until(lambda: here.stores_away == there.stores_away == 0)
    for name in NAMES:
        assert await there.locate(name) == here.node


async def test_a_node_leaves_all_at_once(
    nodes: tuple[RedisCluster, RedisCluster],
) -> None:
    here, there = nodes
    for name in NAMES:
        assert await here.claim(name, take=False)
    await here.close()
    await until(lambda: there.nodes() == {there.node})
    for name in NAMES:
        assert await there.claim(name, take=False)


async def test_of_two_that_took_a_name_while_its_store_was_down_the_newer_keeps_it(
    nodes: tuple[RedisCluster, RedisCluster], second_redis: Redis
) -> None:
    here, there = nodes
    superseded = listen(here, "superseded")
    name = names_at(1)[0]
    await second_redis.stop()
    await until(lambda: here.stores_away == there.stores_away == 1)
    assert await here.claim(name, take=True)
    # A second later.
    there.shards["1"].store.clock = lambda: time.monotonic() + 1
    assert await there.claim(name, take=True)
    await second_redis.start()
    await until(lambda: superseded)
    assert superseded == [name.encode()]


async def test_a_node_starts_while_one_is_down_and_joins_it_when_it_is_back(
    redis_server: Redis, second_redis: Redis
) -> None:
    urls = (redis_server.url, second_redis.url)
    await second_redis.stop()
    async with (
        running(redis=urls) as here,
        running(redis=urls) as there,
    ):
        here_cluster, there_cluster = here.cluster, there.cluster
        assert isinstance(here_cluster, RedisCluster)
        assert isinstance(there_cluster, RedisCluster)
        anna, bert = names_at(0)[:2]
        carl = names_at(1)[0]
        async with (
            connected(here, anna) as first,
            connected(there, bert) as second,
            connected(there, carl) as third,
        ):
            await first.say("OFFER", dst=bert, payload=1)
            assert (await second.hear())["payload"] == 1
            await second_redis.start()
            await until(
                lambda: (
                    here_cluster.stores_away == there_cluster.stores_away == 0
                    and len(here_cluster.nodes()) == 2
                )
            )
            await first.say("OFFER", dst=carl, payload=2)
            assert (await third.hear())["payload"] == 2
