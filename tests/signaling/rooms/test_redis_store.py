"""Rooms that several nodes share through a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
import time

import pytest
from redis.asyncio import Redis as Client

from pemus_signaling.rooms.redis_store import RedisStore
from pemus_signaling.rooms.store import Created, Published, Room, close_room
from pemus_signaling.rooms.tokens import REMEMBERED
from tests.patience import until
from tests.signaling.daemons import Redis
from tests.signaling.rooms.test_rooms import serving

HOST = "CSM7NBFRCAYQEV4FR65RX7WE40GX"


def room(slug: str, host: str = HOST, **fields: object) -> Room:
    given = {"password": False, "expires": int(time.time()) + 3600, **fields}
    return Room(slug, host, bytes(32), **given)  # type: ignore[arg-type]


@pytest.fixture
async def stores(redis_server: Redis) -> AsyncGenerator[tuple[RedisStore, RedisStore]]:
    """Have the stores of two nodes."""
    both = RedisStore(redis_server.url), RedisStore(redis_server.url)
    yield both
    for store in both:
        await store.close()


async def test_what_one_node_keeps_every_node_finds(
    stores: tuple[RedisStore, RedisStore],
) -> None:
    here, there = stores
    kept = room(
        "one",
        published=Published("Film.mp4", "video/mp4", 7),
        revoked=(("a token", 1_795_000_000),),
    )
    assert await here.create(kept, 10) is Created.DONE
    assert await there.get("one") == kept
    assert await there.rooms_of(HOST) == [kept]
    assert await there.get("two") is None
    assert await there.rooms_of("nobody") == []
    assert await there.create(room("one", "other"), 10) is Created.TAKEN


async def test_of_two_that_change_a_room_at_once_one_has_to_look_again(
    stores: tuple[RedisStore, RedisStore],
) -> None:
    here, there = stores
    old = room("one")
    await here.create(old, 10)
    changes = [replace(old, password=True), replace(old, expires=old.expires + 1)]
    done = await asyncio.gather(
        here.replace(old, changes[0]), there.replace(old, changes[1])
    )
    assert sorted(done) == [False, True]
    assert await here.get("one") == changes[done.index(True)]


async def test_a_home_has_only_so_many_rooms_however_many_it_opens_at_once(
    stores: tuple[RedisStore, RedisStore],
) -> None:
    created = await asyncio.gather(
        *(stores[number % 2].create(room(f"r{number}"), 5) for number in range(20))
    )
    assert created.count(Created.DONE) == 5
    assert created.count(Created.TOO_MANY) == 15
    # Another home is not concerned, and a closed room makes place for one.
    assert await stores[0].create(room("other", "other"), 5) is Created.DONE
    (first, *_) = await stores[0].rooms_of(HOST)
    assert await stores[0].replace(first, close_room(first, time.time()))
    assert await stores[1].create(room("new"), 5) is Created.DONE


async def test_a_home_that_opens_and_closes_without_end_fills_nothing(
    stores: tuple[RedisStore, RedisStore],
) -> None:
    store = stores[0]
    for number in range(30):
        opened = room(f"r{number}")
        assert await store.create(opened, 3) is Created.DONE
        assert await store.replace(opened, close_room(opened, time.time() - 1))
    assert len(await store.rooms_of(HOST)) <= 4
    assert await store.get("r0") is None
    assert await store.get("r29") is not None


async def test_a_room_is_forgotten_by_itself(
    stores: tuple[RedisStore, RedisStore], redis_server: Redis
) -> None:
    store = stores[0]
    await store.create(room("over", expires=int(time.time() - REMEMBERED)), 10)

    async def forgotten() -> bool:
        return await store.get("over") is None

    await until(forgotten)
    assert await store.rooms_of(HOST) == []
    client = Client.from_url(redis_server.url)
    assert await client.keys("*") == []
    await client.aclose()


async def test_what_somebody_else_wrote_is_no_room(
    stores: tuple[RedisStore, RedisStore], redis_server: Redis
) -> None:
    client = Client.from_url(redis_server.url)
    for name, value in (("a", b"{}"), ("b", b"no json"), ("c", b"[1]")):
        await client.set(f"pemus:room:{name}", value)
    await client.aclose()
    assert await stores[0].get("a") is None
    for name in "abc":
        assert await stores[0].get(name) is None


async def test_a_store_that_is_full_says_so(
    stores: tuple[RedisStore, RedisStore], redis_server: Redis
) -> None:
    client = Client.from_url(redis_server.url)
    await client.config_set("maxmemory", "1")
    assert await stores[0].create(room("one"), 10) is Created.FULL
    await client.config_set("maxmemory", "0")
    await client.aclose()
    assert await stores[0].create(room("one"), 10) is Created.DONE


async def test_while_redis_is_away_no_guest_is_told_that_a_room_is_gone(
    redis_server: Redis,
) -> None:
    async with serving(RedisStore(redis_server.url)) as server:
        home = server.home()
        opened = await server.create(home)
        await redis_server.stop()
        for method, path in (
            ("GET", f"/room/{opened['slug']}"),
            ("GET", "/room"),
            ("POST", "/room"),
            ("DELETE", f"/room/{opened['slug']}"),
        ):
            status, answer = await server.ask(
                method, path, home, json={"expires": int(time.time()) + 60}
            )
            assert (status, answer["error"]) == (503, "unavailable")
        await redis_server.start()
        # It kept nothing, so now that is known.
        status, _ = await server.ask("GET", f"/room/{opened['slug']}")
        assert status == 404


async def test_nothing_is_left_of_a_home_whose_rooms_are_forgotten(
    redis_server: Redis, stores: tuple[RedisStore, RedisStore]
) -> None:
    store, _ = stores
    assert await store.create(room("one"), 10) is Created.DONE
    longer = room("two", expires=int(time.time()) + 7200)
    assert await store.create(longer, 10) is Created.DONE
    client = Client.from_url(redis_server.url)
    assert await client.expiretime(f"pemus:home:{HOST}") == longer.expires + REMEMBERED
    await client.aclose()
