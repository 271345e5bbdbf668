"""A rate that several share: who waits, for what, and what becomes of it when somebody gives up."""

from __future__ import annotations

import asyncio

from p2p.core.throttle import Throttle

KIB = 1024


async def take(rate: Throttle, size: int, name: int, done: list[int]) -> None:
    await rate.take(size)
    done.append(name)


async def test_there_may_be_no_limit() -> None:
    rate = Throttle()
    await asyncio.gather(*(rate.take(2**40) for _ in range(100)))


async def test_who_asks_first_goes_first() -> None:
    rate, done = Throttle(100 * KIB), list[int]()
    sizes = (9000, 1, 5000, 1, 1)
    await asyncio.gather(
        *(take(rate, size, name, done) for name, size in enumerate(sizes))
    )
    assert done == [0, 1, 2, 3, 4]


async def test_what_is_given_up_is_given_back() -> None:
    rate, done = Throttle(KIB), list[int]()
    given_up = [
        asyncio.create_task(take(rate, 100 * KIB, name, done)) for name in range(10)
    ]
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()
    await asyncio.wait(given_up)
    # Else it would be its turn in a quarter of an hour.
    async with asyncio.timeout(10):
        await rate.take(KIB)
    assert not done


async def test_a_limit_that_is_lifted_holds_up_nobody_who_comes_later() -> None:
    rate, done = Throttle(KIB), list[int]()
    waiting = asyncio.create_task(take(rate, 100 * KIB, 1, done))
    await asyncio.sleep(0)
    rate.limit = 0
    async with asyncio.timeout(10):
        await rate.take(100 * KIB)
    waiting.cancel()


def test_little_is_sent_together_where_little_is_allowed() -> None:
    assert Throttle().portion(60 * KIB) == 60 * KIB
    assert Throttle(100 * 1000**2).portion(60 * KIB) == 60 * KIB
    assert Throttle(100 * KIB).portion(60 * KIB) == 10 * KIB
    assert 0 < Throttle(1).portion(60 * KIB) <= KIB
