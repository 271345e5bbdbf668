"""Nodes that a real Redis holds together: who lives, who has a name, and what happens while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
import time
from typing import Any

from hypothesis import given, strategies as st
import pytest

from pemus_signaling.cluster import redis as redis_cluster, scripts, shard, store
from pemus_signaling.cluster.cluster import StoreAwayError
from pemus_signaling.cluster.names import TAKEN
from pemus_signaling.cluster.publications import head, messages, publications
from pemus_signaling.cluster.redis import RedisCluster
from pemus_signaling.cluster.scripts import EPOCH_LENGTH, NODE_LENGTH
from pemus_signaling.cluster.store import channel_of
from tests.patience import until
from tests.signaling.daemons import Redis
from tests.signaling.held import holding_heartbeats

pytestmark = pytest.mark.usefixtures("quick")


class Heard:
    """What a node was told."""

    def __init__(self, cluster: RedisCluster, *topics: str) -> None:
        self.messages: list[tuple[str, str, bytes]] = []
        self.changes = 0
        for topic in ("greeting", "superseded", *topics):
            cluster.on(topic, self._listen(topic))
        cluster.on_nodes(self._changed)

    def _listen(self, topic: str) -> Callable[[str, bytes], None]:
        def hear(node: str, message: bytes) -> None:
            self.messages.append((topic, node, message))

        return hear

    def _changed(self) -> None:
        self.changes += 1


async def die(cluster: RedisCluster) -> None:
    """End a node without a word, as a power cut would."""
    for each in cluster.shards.values():
        await each.stop()


def pass_a_second(nodes: Iterable[tuple[RedisCluster, Heard]]) -> None:
    """Let a second pass by the clocks of some nodes."""
    for cluster, _ in nodes:
        for each in cluster.shards.values():
            each.store.clock = partial(add, each.store.clock)


def add(clock: Callable[[], float]) -> float:
    return clock() + 1


def store_of(cluster: RedisCluster) -> Any:
    """Return a client of the first store."""
    return cluster.shards["0"].store.redis


async def epoch_of(cluster: RedisCluster, name: str) -> bytes:
    """Return the epoch that the store knows of a name."""
    value: bytes = await store_of(cluster).get(f"pemus:name:{name}")
    return value[NODE_LENGTH : NODE_LENGTH + EPOCH_LENGTH]


@asynccontextmanager
async def joined(
    *redis: Redis, number: int = 2
) -> AsyncIterator[list[tuple[RedisCluster, Heard]]]:
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(number):
            cluster = RedisCluster([each.url for each in redis])
            nodes.append((cluster, Heard(cluster)))
            await cluster.start()
            stack.push_async_callback(cluster.close)
        names = frozenset(cluster.node for cluster, _ in nodes)
        await until(lambda: all(cluster.nodes() == names for cluster, _ in nodes))
        yield nodes


async def test_nodes_know_each_other_and_notice_who_leaves(redis_server: Redis) -> None:
    async with joined(redis_server, number=3) as nodes:
        (first, heard), (second, _), (third, _) = nodes
        changes = heard.changes
        await third.close()
        left = frozenset((first.node, second.node))
        await until(lambda: first.nodes() == second.nodes() == left)
        assert heard.changes > changes


async def test_a_message_reaches_the_one_node_it_is_for(redis_server: Redis) -> None:
    async with joined(redis_server, number=3) as nodes:
        (first, own), (second, heard), (_, other) = nodes
        first.send(second.node, "greeting", b"hello")
        first.broadcast("greeting", b"\0 all \xff")
        await until(lambda: len(heard.messages) == 2 and other.messages)
        assert heard.messages == [
            ("greeting", first.node, b"hello"),
            ("greeting", first.node, b"\0 all \xff"),
        ]
        assert other.messages == [("greeting", first.node, b"\0 all \xff")]
        assert own.messages == []
        # Of what nobody listens for, and for whom nobody is, nothing comes and nothing breaks.
        first.send(second.node, "unheard", b"")
        first.send("0" * 12, "greeting", b"")
        first.send(second.node, "greeting", b"still there")
        await until(lambda: len(heard.messages) == 3)


async def test_a_node_that_joined_a_moment_ago_can_be_told(
    redis_server: Redis,
) -> None:
    async with joined(redis_server, number=1) as nodes:
        ((here, _),) = nodes
        with holding_heartbeats(here):
            there = RedisCluster([redis_server.url])
            heard = Heard(there)
            await there.start()
            try:
                assert await there.claim("bert", take=False)
                assert there.node not in here.nodes()

                assert await here.locate("bert") == there.node
                here.send(there.node, "greeting", b"hello")

                await until(lambda: heard.messages)
                assert heard.messages == [("greeting", here.node, b"hello")]
            finally:
                await there.close()


async def test_a_node_that_speaks_is_known(redis_server: Redis) -> None:
    async with joined(redis_server, number=1) as nodes:
        ((here, heard),) = nodes
        with holding_heartbeats(here):
            there = RedisCluster([redis_server.url])
            answered = Heard(there)
            await there.start()
            try:
                changes = heard.changes
                there.send(here.node, "greeting", b"hello")
                await until(lambda: heard.messages)
                assert here.nodes() == {here.node, there.node}
                assert heard.changes == changes + 1
                here.send(there.node, "greeting", b"hello yourself")
                await until(lambda: answered.messages)
            finally:
                await there.close()


async def test_messages_keep_their_order_and_none_is_lost(redis_server: Redis) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, heard) = nodes
        for number in range(5000):
            first.send(second.node, "greeting", b"%d" % number + bytes(300))
            if number % 500 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(heard.messages) == 5000)
        assert [int(message.rstrip(b"\0")) for _, _, message in heard.messages] == list(
            range(5000)
        )


async def test_a_handler_that_fails_does_not_silence_the_rest(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, heard) = nodes

        def fail(node: str, message: bytes) -> None:
            raise ValueError

        second.on("broken", fail)
        first.send(second.node, "broken", b"")
        first.send(second.node, "greeting", b"hello")
        await until(lambda: heard.messages)


async def test_a_handler_that_fails_does_not_make_a_node_look_dead(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes

        def fail() -> None:
            raise ValueError

        first.on_nodes(fail)
        told: list[int] = []
        first.on_nodes(partial(told.append, 1))
        third = RedisCluster([redis_server.url])
        await third.start()
        await until(lambda: third.node in first.nodes())
        await third.close()
        await until(lambda: first.nodes() == {first.node, second.node})
        told.clear()
        await redis_server.stop()
        await until(lambda: first.stores_away and told)
        await redis_server.start()
        await until(
            lambda: first.nodes() == second.nodes() == {first.node, second.node}
        )


async def test_what_is_no_message_does_not_silence_the_rest(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, heard) = nodes
        for nonsense in (
            b"",
            b"\xff" * 12,
            b"0" * 12 + b"\x07",
            b"0" * 12 + b"\xff" * 9,
        ):
            await store_of(first).publish("pemus:all", nonsense)
        first.send(second.node, "greeting", b"hello")
        await until(lambda: heard.messages)


async def test_a_name_belongs_to_one_node(redis_server: Redis) -> None:
    async with joined(redis_server) as nodes:
        (first, heard), (second, _) = nodes
        assert await first.locate("name") is None
        assert await first.claim("name", take=False)
        assert await first.claim("name", take=False)
        assert not await second.claim("name", take=False)
        assert await second.locate("name") == first.node
        assert await second.claim("name", take=True)
        await until(lambda: heard.messages)
        assert heard.messages == [("superseded", second.node, b"name")]
        # What one's own node had was never looked up.
        assert await first.locate("name") == second.node
        # It is not the first one's to give back any more.
        first.release("name")
        assert not await first.claim("name", take=False)
        second.release("name")
        await until(lambda: first.claim("name", take=False))


async def test_a_crowd_that_comes_at_once_is_served(redis_server: Redis) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes
        names = [f"name {number}" for number in range(2000)]
        assert all(
            await asyncio.gather(*(first.claim(name, take=False) for name in names))
        )
        found = await asyncio.gather(*(second.locate(name) for name in names))
        assert set(found) == {first.node}
        assert not any(
            await asyncio.gather(*(second.claim(name, take=False) for name in names))
        )


async def test_a_name_that_is_given_back_and_claimed_at_once_stays(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes
        for _ in range(50):
            assert await first.claim("name", take=False)
            first.release("name")
        assert await first.claim("name", take=False)
        first.release("other")
        first.send(second.node, "greeting", b"")
        await until(lambda: nodes[1][1].messages)
        assert await second.locate("name") == first.node


async def test_what_a_dead_node_had_is_free_within_seconds(redis_server: Redis) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes
        assert await first.claim("name", take=False)
        await die(first)
        assert not await second.claim("name", take=False)
        await until(lambda: second.nodes() == {second.node})
        assert await second.locate("name") is None
        assert await second.claim("name", take=False)


async def test_each_node_goes_on_alone_while_redis_is_away(redis_server: Redis) -> None:
    async with joined(redis_server) as nodes:
        (first, heard), (second, _) = nodes
        assert await first.claim("mine", take=False)
        await redis_server.stop()
        await until(lambda: first.stores_away and second.stores_away)
        assert first.nodes() == {first.node}
        assert await first.claim("new", take=False)
        assert await second.claim("yours", take=False)
        assert await first.locate("yours") is None
        first.send(second.node, "greeting", b"lost")
        first.broadcast("greeting", b"lost")
        changes = heard.changes
        # It comes back with nothing in it.
        await redis_server.start()
        both = {first.node, second.node}
        await until(lambda: first.nodes() == second.nodes() == both)
        assert heard.changes > changes
        assert await second.locate("mine") == first.node
        assert await second.locate("new") == first.node
        assert await first.locate("yours") == second.node

        def greeted_again() -> object:
            first.send(second.node, "greeting", b"again")
            return nodes[1][1].messages

        await until(greeted_again)
        assert {message for _, _, message in nodes[1][1].messages} == {b"again"}


@pytest.mark.parametrize(("owners", "kept"), [(("a", "a"), 1), (("a", "b"), 0)])
async def test_of_two_that_took_a_name_meanwhile_one_is_told(
    redis_server: Redis, owners: tuple[str, str], kept: int
) -> None:
    """Of one owner's connections the newer one stays, of two owners the one that was first."""
    async with joined(redis_server, number=3) as nodes:
        *two, (third, _) = nodes
        await redis_server.stop()
        await until(lambda: all(cluster.stores_away for cluster, _ in nodes))
        for (cluster, _), owner in zip(two, owners, strict=True):
            pass_a_second(two)
            assert await cluster.claim("name", take=False, owner=owner)
        await redis_server.start()
        await until(lambda: all(len(cluster.nodes()) == 3 for cluster, _ in nodes))
        (stays, heard_nothing), (goes, heard) = two[kept], two[1 - kept]
        await until(lambda: heard.messages)
        assert [(topic, name) for topic, _, name in heard.messages] == [
            ("superseded", b"name")
        ]
        assert await third.locate("name") == stays.node
        # Whatever the loser brought about is heard before what it says now, and it does not claim the name any more.
        await until(lambda: greeted(goes, stays, heard_nothing))
        assert {topic for topic, _, _ in heard_nothing.messages} == {"greeting"}


def greeted(sender: RedisCluster, receiver: RedisCluster, heard: Heard) -> bool:
    """Say something, which may be lost just after Redis came back, and tell whether it arrived."""
    sender.send(receiver.node, "greeting", b"")
    return bool(heard.messages)


async def test_a_name_is_not_lost_for_what_was_said_of_a_former_connection(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, heard), (second, other) = nodes
        for _ in range(20):
            assert await first.claim("name", take=True)
            assert await second.claim("name", take=True)
            # It comes back before its node hears that it went.
            assert await first.claim("name", take=True)
        await until(lambda: len(other.messages) == 20)
        second.send(first.node, "greeting", b"")
        await until(lambda: any(topic == "greeting" for topic, _, _ in heard.messages))
        assert await second.locate("name") == first.node
        first.release("name")
        await until(lambda: claimed(second))


async def test_what_is_said_late_of_a_former_connection_ends_no_newer_one(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, heard), (second, _) = nodes
        assert await first.claim("name", take=True)
        former = await epoch_of(first, "name")
        assert await second.claim("name", take=True)
        assert await first.claim("name", take=True)
        await until(lambda: heard.messages)
        heard.messages.clear()
        said = former + b"name"
        await store_of(second).publish(
            channel_of(first.node),
            second.node.encode() + head(TAKEN, len(said)) + said,
        )
        second.send(first.node, "greeting", b"")
        await until(lambda: heard.messages)
        assert [topic for topic, _, _ in heard.messages] == ["greeting"]
        first.release("name")
        await until(lambda: claimed(second), 10)


async def test_what_is_given_back_late_for_a_former_connection_stays(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes
        assert await first.claim("name", take=True)
        former = await epoch_of(first, "name")
        assert await first.claim("name", take=True)
        await store_of(first).eval(
            scripts.RELEASE, 1, "pemus:name:name", first.node, former
        )
        assert await second.locate("name") == first.node


async def claimed(cluster: RedisCluster) -> bool:
    return await cluster.claim("name", take=False)


async def test_a_connection_that_is_new_at_the_same_node_counts(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, heard), (second, other) = nodes
        assert await first.claim("name", take=True)
        await redis_server.stop()
        await until(lambda: first.stores_away and second.stores_away)
        assert await second.claim("name", take=True)
        pass_a_second(nodes)
        first.again("name")
        await redis_server.start()
        await until(lambda: other.messages and not second.stores_away)
        assert [(topic, name) for topic, _, name in other.messages] == [
            ("superseded", b"name")
        ]
        assert await second.locate("name") == first.node
        assert heard.messages == []


async def test_the_newest_connection_keeps_a_name_that_was_asked_for_in_vain(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "STORE_TIMEOUT", 0.5)
    async with joined(redis_server) as nodes:
        (first, heard), (second, other) = nodes
        # The store knows what is asked.
        assert await second.claim("another", take=True)
        with redis_server.stuck():
            # The store takes it up when it goes on, and nobody waits for the answer any more.
            assert await second.claim("name", take=True)
            await until(lambda: first.stores_away and second.stores_away)
            assert await first.claim("name", take=True)
        await until(lambda: not first.stores_away and not second.stores_away)
        await until(lambda: other.messages, 10)
        assert [(topic, name) for topic, _, name in other.messages] == [
            ("superseded", b"name")
        ]
        assert await second.locate("name") == first.node
        assert heard.messages == []


async def test_there_is_no_start_without_redis(redis_server: Redis) -> None:
    await redis_server.stop()
    cluster = RedisCluster([redis_server.url])
    with pytest.raises(OSError, match="Redis cannot be reached"):
        await cluster.start()
    await cluster.close()


async def test_what_waits_for_redis_is_bounded(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "MAX_OUTBOX", 10_000)
    async with joined(redis_server) as nodes:
        (first, _), (second, heard) = nodes
        for _ in range(100):
            first.send(second.node, "greeting", bytes(1000))
        assert first.dropped == 91
        await until(lambda: len(heard.messages) == 9)
        first.send(second.node, "greeting", b"and on")
        await until(lambda: len(heard.messages) == 10)


async def test_what_is_remembered_is_so_until_its_time_and_bounded(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_cluster, "MAX_REMEMBERED", 2500)
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes
        now = time.time()
        await first.remember("thing", {b"over": now - 1, b"soon": now + 60.5})
        await second.remember("thing", {b"soon": now + 30})
        assert await second.recall("thing") == {b"soon": pytest.approx(now + 60.5)}
        many = {b"%d" % number: now + 100 + number for number in range(3000)}
        await first.remember("thing", many)
        recalled = await second.recall("thing")
        assert recalled.keys() == {b"%d" % number for number in range(500, 3000)}
        left = await store_of(first).ttl("pemus:thing")
        assert 3000 < left <= 3101
        await redis_server.stop()
        for asked in (first.recall("thing"), first.remember("thing", many)):
            with pytest.raises(StoreAwayError):
                await asked


async def test_all_nodes_have_one_secret(redis_server: Redis) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes
        secret = await first.secret.get()
        assert len(secret) == 32
        assert await second.secret.get() == secret


async def test_a_node_takes_the_secret_that_another_made_in_an_empty_redis(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        ((first, _), _) = nodes
        told: list[bytes] = []
        first.secret.on_change(told.append)
        await first.secret.get()
        await store_of(first).set("pemus:secret", b"s" * 32)
        await store_of(first).zrem("pemus:nodes", first.node)
        await until(lambda: told, 10)
        assert told == [b"s" * 32]
        await redis_server.stop()
        await until(lambda: first.stores_away)
        await redis_server.start()
        await until(lambda: not first.stores_away)
        assert await first.secret.get() == b"s" * 32
        assert len(told) == 1


async def test_a_redis_that_is_emptied_meanwhile_is_told_everything_anew(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes
        missed: list[str] = []
        for cluster, _ in nodes:
            cluster.on_missed(partial(missed.append, cluster.node))
        secret = await first.secret.get()
        assert await first.claim("name", take=True)
        await store_of(first).flushall()
        await until(lambda: set(missed) == {first.node, second.node}, 10)
        assert await second.locate("name") == first.node
        assert await store_of(first).get("pemus:secret") == secret


async def test_a_dead_node_is_gone_though_the_clock_of_redis_was_put_back(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        ((first, _), (second, _)) = nodes
        dead, until_then = "0" * 12, int((time.time() + 3600) * 1000)
        await store_of(first).zadd("pemus:nodes", {dead: until_then})
        await until(lambda: alive(first, 2), 10)
        assert await second.claim("name", take=False)
        await until(lambda: first.nodes() == {first.node, second.node}, 10)


async def alive(cluster: RedisCluster, number: int) -> bool:
    """Tell whether Redis knows of so many nodes."""
    count: int = await store_of(cluster).zcard("pemus:nodes")
    return count == number


async def test_a_redis_that_comes_back_empty_has_the_same_secret(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes
        secret = await first.secret.get()
        await redis_server.stop()
        await until(lambda: first.stores_away and second.stores_away)
        await redis_server.start()
        await until(lambda: not first.stores_away and not second.stores_away)
        third = RedisCluster([redis_server.url])
        await third.start()
        assert await third.secret.get() == secret
        await third.close()


async def test_a_name_that_was_given_back_while_redis_was_away_is_free(
    redis_server: Redis,
) -> None:
    async with joined(redis_server) as nodes:
        (first, _), (second, _) = nodes
        assert await first.claim("name", take=False)
        with redis_server.stuck():
            first.release("name")
            await until(lambda: first.stores_away and second.stores_away)
        await until(lambda: not first.stores_away and not second.stores_away)
        await until(lambda: second.claim("name", take=False))


@given(
    said=st.lists(
        st.tuples(st.text("abc", min_size=1, max_size=9), st.binary(max_size=300)),
        max_size=30,
    ),
    at_once=st.integers(1, 5_000),
)
def test_messages_that_are_put_together_come_apart_again(
    said: list[tuple[str, bytes]], at_once: int
) -> None:
    parts = [
        part for topic, message in said for part in (head(topic, len(message)), message)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pemus_signaling.cluster.publications.AT_ONCE", at_once)
        published = list(publications(b"n" * NODE_LENGTH, parts))
    heard = [each for publication in published for each in messages(publication)]
    assert heard == [(topic.encode(), message) for topic, message in said]
