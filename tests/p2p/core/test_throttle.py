"""Token buckets, and the limit that several senders share."""

from __future__ import annotations

import asyncio

from hypothesis import given, strategies as st
import pytest

from p2p.core.throttle import Throttle, TokenBucket, TokenBuckets

KIB = 1024


async def take(rate: Throttle, size: int, name: int, done: list[int]) -> None:
    await rate.take(size)
    done.append(name)


async def test_zero_is_no_limit() -> None:
    rate = Throttle()
    await asyncio.gather(*(rate.take(2**40) for _ in range(100)))


async def test_first_come_first_served() -> None:
    rate, done = Throttle(100 * KIB), list[int]()
    sizes = (9000, 1, 5000, 1, 1)
    await asyncio.gather(
        *(take(rate, size, name, done) for name, size in enumerate(sizes))
    )
    assert done == [0, 1, 2, 3, 4]


async def test_a_cancelled_wait_takes_nothing() -> None:
    rate, done = Throttle(KIB), list[int]()
    given_up = [
        asyncio.create_task(take(rate, 100 * KIB, name, done)) for name in range(10)
    ]
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()
    await asyncio.wait(given_up)
    # Otherwise this would wait for a quarter of an hour.
    async with asyncio.timeout(10):
        await rate.take(KIB)
    assert not done


async def test_a_lifted_limit_holds_up_nobody() -> None:
    rate, done = Throttle(KIB), list[int]()
    waiting = asyncio.create_task(take(rate, 100 * KIB, 1, done))
    await asyncio.sleep(0)
    rate.limit = 0
    async with asyncio.timeout(10):
        await rate.take(100 * KIB)
    waiting.cancel()


def test_a_low_limit_makes_small_portions() -> None:
    assert Throttle().portion(60 * KIB) == 60 * KIB
    assert Throttle(100 * 1000**2).portion(60 * KIB) == 60 * KIB
    assert Throttle(100 * KIB).portion(60 * KIB) == 10 * KIB
    assert 0 < Throttle(1).portion(60 * KIB) <= KIB


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_free_and_the_rest_waits() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 5, clock)

    assert [bucket.spend(1) for _ in range(5)] == [0] * 5
    assert bucket.spend(1) == pytest.approx(0.1)
    clock.now += 0.1
    assert bucket.spend(1) == pytest.approx(0.1)


def test_a_long_pause_saves_up_one_burst_only() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 5, clock)
    bucket.spend(5)

    clock.now += 3600

    assert bucket.spend(6) == pytest.approx(0.1)


@given(st.lists(st.floats(0.5, 20), min_size=1, max_size=60))
def test_who_waits_as_told_keeps_the_rate(costs: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(10, 5, clock)
    for cost in costs:
        clock.now += bucket.spend(cost)

    assert sum(costs) <= 5 + 10 * (clock.now - 1000) + 1e-6


def test_a_token_that_is_not_there_is_not_taken() -> None:
    clock = Clock()
    bucket = TokenBucket(1, 2, clock)

    assert [bucket.take() for _ in range(4)] == [True, True, False, False]
    clock.now += 1
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_one_token_in_a_minute_is_given_once_a_minute() -> None:
    clock = Clock()
    bucket = TokenBucket.every(60, clock)
    assert [bucket.take() for _ in range(3)] == [True, False, False]

    clock.now += 59
    assert not bucket.take()
    clock.now += 1
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_each_key_has_a_bucket_of_its_own() -> None:
    buckets = TokenBuckets(1, 2, max_keys=10, clock=Clock())

    assert [buckets.take("a") for _ in range(3)] == [True, True, False]
    assert buckets.take("b")


def test_the_key_that_was_used_least_recently_is_forgotten() -> None:
    buckets = TokenBuckets(1, 1, max_keys=2, clock=Clock())
    assert buckets.take("a")
    assert buckets.take("b")
    assert not buckets.take("a")

    assert buckets.take("c")

    assert not buckets.take("a")
    assert buckets.take("b")
