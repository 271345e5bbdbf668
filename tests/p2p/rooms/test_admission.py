"""Who is served at a time, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from p2p.core.errors import BadRequest, Busy
from p2p.rooms import admission as module
from p2p.rooms.admission import IDLE_TIMEOUT, Admission, Place, Purpose


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Guest:
    """Somebody who wants to be served."""

    def __init__(
        self, admission: Admission, name: str, purpose: Purpose = Purpose.DOWNLOAD
    ) -> None:
        self.name = name
        self._places: AsyncGenerator[Place] = admission.lease(name, purpose)

    async def next(self) -> Place:
        async with asyncio.timeout(10):
            return await anext(self._places)

    async def leave(self) -> None:
        await self._places.aclose()


async def served(admission: Admission, *names: str) -> list[Guest]:
    guests = [Guest(admission, name) for name in names]
    for guest in guests:
        await guest.next()
    return guests


async def test_first_come_first_served(clock: Clock) -> None:
    admission = Admission(2, clock)
    ann, ben, cleo, dan = await served(admission, "ann", "ben", "cleo", "dan")
    assert [admission.is_served(each.name) for each in (ann, ben, cleo, dan)] == [
        *(True, True, False, False)
    ]
    clock.now += 10
    await ann.leave()
    assert (await cleo.next()).position == 0
    told = await dan.next()
    assert (told.position, told.waiting, told.seconds) == (1, 1, 5.0)
    for guest in (ben, cleo, dan):
        await guest.leave()
    assert (admission.served, admission.waiting) == (0, 0)


async def test_who_gives_up_waiting_moves_the_others_up(clock: Clock) -> None:
    admission = Admission(1, clock)
    ann, ben, cleo = await served(admission, "ann", "ben", "cleo")
    await ben.leave()
    assert (await cleo.next()).position == 1
    await ann.leave()
    assert (await cleo.next()).position == 0
    await cleo.leave()


async def test_a_stream_has_a_place_beside_downloads(clock: Clock) -> None:
    admission = Admission(1, clock)
    (ann,) = await served(admission, "ann")
    ben = Guest(admission, "ben", Purpose.STREAM)
    cleo = Guest(admission, "cleo", Purpose.STREAM)
    assert (await ben.next()).position == 0
    assert (await cleo.next()).position == 1
    for guest in (ann, ben, cleo):
        await guest.leave()


async def test_a_lease_ends_when_nothing_is_sent_for_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPORT_INTERVAL", 0.01)
    admission = Admission(1, clock)
    ann, ben = await served(admission, "ann", "ben")
    clock.now += IDLE_TIMEOUT
    admission.used("ann")
    clock.now += IDLE_TIMEOUT
    assert (await ann.next()).position == 0
    clock.now += 1
    with pytest.raises(StopAsyncIteration):
        await ann.next()
    while (await ben.next()).position:
        pass
    await ben.leave()


async def test_nothing_is_sent_without_a_lease(clock: Clock) -> None:
    admission = Admission(1, clock)
    _ann, ben = await served(admission, "ann", "ben")
    admission.used("ann")
    with pytest.raises(Busy):
        admission.used("ben")
    with pytest.raises(Busy):
        admission.used("nobody")
    await ben.leave()


async def test_one_lease_for_each_purpose(clock: Clock) -> None:
    admission = Admission(5, clock)
    await served(admission, "ann")
    with pytest.raises(BadRequest):
        await Guest(admission, "ann").next()
    assert (await Guest(admission, "ann", Purpose.STREAM).next()).position == 0


async def test_the_queue_is_bounded(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_QUEUE", 2)
    admission = Admission(1, clock)
    guests = await served(admission, "ann", "ben", "cleo")
    with pytest.raises(Busy):
        await Guest(admission, "dan").next()
    for guest in guests:
        await guest.leave()


async def test_more_places_are_filled_at_once_and_fewer_send_nobody_away(
    clock: Clock,
) -> None:
    admission = Admission(1, clock)
    ann, ben, cleo = await served(admission, "ann", "ben", "cleo")
    admission.resize(2)
    assert (await ben.next()).position == 0
    admission.resize(1)
    assert admission.served == 2
    await ann.leave()
    assert not admission.is_served("cleo")
    await ben.leave()
    while (await cleo.next()).position:
        pass
    await cleo.leave()
