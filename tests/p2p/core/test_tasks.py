"""Loops survive their faults, and everything ends when it is told to."""

from __future__ import annotations

import asyncio
import logging

import pytest

from p2p.core import tasks
from p2p.core.tasks import Tasks, end, keep, spawn
from tests.patience import until


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(tasks, "LONGEST_PAUSE", 0.04)


class Loop:
    """A loop that fails as often as a test wants, and then goes on for ever."""

    def __init__(self, *faults: BaseException) -> None:
        self.faults = list(faults)
        self.begun: list[float] = []
        self.over = False

    async def run(self) -> None:
        self.begun.append(asyncio.get_running_loop().time())
        if self.faults:
            raise self.faults.pop(0)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.over = True


def faults_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        str(record.exc_info[1])
        for record in caplog.records
        if record.levelno >= logging.ERROR and record.exc_info
    ]


async def test_a_loop_goes_on_after_faults_and_ends_when_it_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = Loop(ValueError("one"), OSError("two"))
    task = keep(loop.run, "a loop")
    await until(lambda: len(loop.begun) == 3)
    assert faults_in(caplog) == ["one", "two"]
    assert not task.done()
    await end(task)
    assert task.cancelled()
    assert loop.over


async def test_the_same_fault_is_told_once_and_tried_ever_more_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = Loop(*(ValueError("again") for _ in range(4)))
    task = keep(loop.run, "a loop")
    await until(lambda: len(loop.begun) == 5)
    await end(task)
    assert faults_in(caplog) == ["again"]
    gaps = [
        later - former
        for former, later in zip(loop.begun, loop.begun[1:], strict=False)
    ]
    for gap, least in zip(gaps, (0.01, 0.02, 0.04, 0.04), strict=True):
        assert gap >= 0.9 * least


async def test_a_fault_after_long_work_is_a_new_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "LASTING", -1.0)
    loop = Loop(ValueError("again"), ValueError("again"))
    task = keep(loop.run, "a loop")
    await until(lambda: len(loop.begun) == 3)
    await end(task)
    assert faults_in(caplog) == ["again", "again"]


async def test_a_loop_survives_that_something_it_waits_for_is_cancelled() -> None:
    loop = Loop(asyncio.CancelledError())
    task = keep(loop.run, "a loop")
    await until(lambda: len(loop.begun) == 2)
    await end(task)
    assert task.cancelled()


async def test_a_loop_that_is_cancelled_between_two_tries_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "FIRST_PAUSE", 3600.0)
    loop = Loop(ValueError("one"))
    task = keep(loop.run, "a loop")
    await until(lambda: loop.begun)
    await end(task)
    assert len(loop.begun) == 1


async def test_work_that_is_done_is_not_begun_again() -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1

    await keep(work, "work")
    assert begun == 1


async def test_what_runs_once_says_how_it_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = Loop(ValueError("one"))
    task = spawn(loop.run(), "something")
    await until(task.done)
    assert faults_in(caplog) == ["one"]
    assert "something failed" in caplog.text


async def test_all_tasks_of_a_component_end_with_it() -> None:
    before = asyncio.all_tasks()
    loops = [Loop(), Loop(), Loop(ValueError("one"))]
    component = Tasks()
    component.keep(loops[0].run, "one")
    component.spawn(loops[1].run(), "two")
    component.keep(loops[2].run, "three")
    await until(lambda: all(loop.begun for loop in loops))
    await component.end()
    assert asyncio.all_tasks() == before
    await component.end()


async def test_a_task_may_say_that_all_others_end() -> None:
    component, loop, done = Tasks(), Loop(), asyncio.Event()
    component.keep(loop.run, "loop")

    async def last() -> None:
        component.cancel()
        await until(lambda: loop.over)
        done.set()

    component.spawn(last(), "last")
    await done.wait()
