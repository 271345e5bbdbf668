"""Threads that may hang, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
import logging
import threading
import time
from typing import Any

import pytest

from custom_components.pemus.stream import workers as module
from custom_components.pemus.stream.workers import (
    THREADS_PER_LANE,
    DiskStalled,
    DiskWorkers,
)
from tests.patience import until

pytestmark = pytest.mark.filterwarnings(
    "error::pytest.PytestUnhandledThreadExceptionWarning"
)

HEALTHY, DEAD = 1, 2


@pytest.fixture
async def workers() -> AsyncGenerator[DiskWorkers]:
    """Workers that wait for a disk longer than a test runs."""
    workers = DiskWorkers(timeout=60)
    yield workers
    await workers.close()


@pytest.fixture
async def impatient() -> AsyncGenerator[DiskWorkers]:
    """Workers that soon give a disk up."""
    workers = DiskWorkers(timeout=0.3)
    yield workers
    await workers.close()


@pytest.fixture
def dead_disk() -> Generator[threading.Event]:
    """Calls wait for this event, as they would for a disk that is gone; in the end it comes back."""
    back = threading.Event()
    yield back
    back.set()


def threads() -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("pemus disk")
    ]


async def hang(
    workers: DiskWorkers, disk: threading.Event, count: int = THREADS_PER_LANE
) -> None:
    """Have `count` calls run into their time-out."""
    calls = [workers.start(DEAD, disk.wait) for _ in range(count)]
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(answer, DiskStalled)


async def test_a_call_runs_in_another_thread_and_its_result_comes_back(
    workers: DiskWorkers,
) -> None:
    assert await workers.start(HEALTHY, threading.get_ident) != threading.get_ident()


async def test_an_error_comes_back_as_it_was(workers: DiskWorkers) -> None:
    with pytest.raises(FileNotFoundError):
        await workers.start(HEALTHY, lambda: open("/nowhere"))  # noqa: PTH123


async def test_a_call_that_hangs_is_given_up(
    impatient: DiskWorkers, dead_disk: threading.Event
) -> None:
    begin = time.monotonic()
    with pytest.raises(DiskStalled):
        await impatient.start(DEAD, dead_disk.wait)
    assert time.monotonic() - begin > 0.25


async def test_when_all_threads_of_a_disk_hang_calls_are_refused_at_once(
    impatient: DiskWorkers, dead_disk: threading.Event
) -> None:
    await hang(impatient, dead_disk)
    refused = impatient.start(DEAD, dead_disk.wait)
    assert refused.done()
    with pytest.raises(DiskStalled):
        await refused
    assert len(threads()) == THREADS_PER_LANE


async def test_a_dead_disk_holds_no_other_disk(
    workers: DiskWorkers, dead_disk: threading.Event
) -> None:
    stuck = [workers.start(DEAD, dead_disk.wait) for _ in range(100)]
    calls = (workers.start(HEALTHY, lambda: 1) for _ in range(100))
    assert await asyncio.gather(*calls) == [1] * 100
    assert not any(call.done() for call in stuck)
    dead_disk.set()
    assert all(await asyncio.gather(*stuck))


async def test_a_disk_that_comes_back_is_used_again(
    impatient: DiskWorkers, dead_disk: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [
            record.levelname
            for record in caplog.records
            if record.name == module.__name__
        ]

    caplog.set_level(logging.INFO)
    await hang(impatient, dead_disk)
    dead_disk.set()
    await until(lambda: "INFO" in told())
    assert await impatient.start(DEAD, lambda: "back") == "back"
    assert told() == ["WARNING", "INFO"], (
        "one line when it fails, and one when it is back"
    )


async def test_a_result_that_comes_too_late_is_thrown_away_properly(
    impatient: DiskWorkers, dead_disk: threading.Event
) -> None:
    thrown: list[tuple[str, bool]] = []
    main = threading.get_ident()

    def late() -> str:
        dead_disk.wait()
        return "a file"

    with pytest.raises(DiskStalled):
        await impatient.start(
            DEAD,
            late,
            lambda result: thrown.append((result, threading.get_ident() == main)),
        )
    dead_disk.set()
    await until(lambda: thrown)
    await impatient.start(DEAD, lambda: None)
    assert thrown == [("a file", False)], "thrown away once, and not in the event loop"


async def test_a_call_whose_caller_is_gone_is_thrown_away_too(
    workers: DiskWorkers, dead_disk: threading.Event
) -> None:
    thrown: list[bool] = []
    began = threading.Event()

    def late() -> bool:
        began.set()
        return dead_disk.wait()

    call = workers.start(DEAD, late, thrown.append)
    await asyncio.to_thread(began.wait)
    call.cancel()
    dead_disk.set()
    await until(lambda: thrown)
    assert thrown == [True]


async def test_a_result_that_comes_when_its_caller_leaves_is_thrown_away() -> None:
    """The result has come, but the caller is cancelled before it can take it."""

    class Leaving(DiskWorkers):
        def start(self, *arguments: Any) -> asyncio.Future[Any]:
            future: asyncio.Future[Any] = super().start(*arguments)
            future.add_done_callback(lambda _: caller.cancel())
            return future

    workers = Leaving()
    thrown: list[str] = []
    caller = asyncio.create_task(workers.run(HEALTHY, lambda: "a file", thrown.append))
    with pytest.raises(asyncio.CancelledError):
        await caller
    await until(lambda: thrown)
    assert thrown == ["a file"]
    await workers.close()


async def test_a_caller_that_stays_gets_the_result(workers: DiskWorkers) -> None:
    thrown: list[str] = []
    assert await workers.run(HEALTHY, lambda: "a file", thrown.append) == "a file"
    with pytest.raises(ZeroDivisionError):
        await workers.run(HEALTHY, lambda: 1 // 0, thrown.append)
    await workers.close()
    assert thrown == []


async def test_who_leaves_early_does_not_make_a_disk_look_dead(
    workers: DiskWorkers, dead_disk: threading.Event
) -> None:
    busy = threading.Barrier(THREADS_PER_LANE + 1)

    def occupy() -> None:
        busy.wait()
        dead_disk.wait()

    calls = [workers.start(DEAD, occupy) for _ in range(THREADS_PER_LANE)]
    await asyncio.to_thread(busy.wait)
    for call in calls:
        call.cancel()
    waiting = workers.start(DEAD, lambda: "served")
    dead_disk.set()
    assert await waiting == "served"


async def test_what_was_given_up_before_it_began_is_never_run(
    workers: DiskWorkers, dead_disk: threading.Event
) -> None:
    ran: list[int] = []
    busy = [workers.start(DEAD, dead_disk.wait) for _ in range(THREADS_PER_LANE)]
    waiting = workers.start(DEAD, lambda: ran.append(1))
    waiting.cancel()
    dead_disk.set()
    await asyncio.gather(*busy)
    await workers.close()
    assert ran == []


async def test_what_nobody_waits_for_is_done_when_the_disk_is_back(
    impatient: DiskWorkers, dead_disk: threading.Event
) -> None:
    done = threading.Event()
    await hang(impatient, dead_disk)
    impatient.submit(DEAD, done.set)
    assert not done.is_set()
    dead_disk.set()
    assert await asyncio.to_thread(done.wait, 10)


async def test_too_many_calls_are_refused(
    workers: DiskWorkers, dead_disk: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    calls = [workers.start(DEAD, dead_disk.wait) for _ in range(11)]
    with pytest.raises(DiskStalled):
        await calls.pop()
    dead_disk.set()
    assert all(await asyncio.gather(*calls))


async def test_threads_go_when_there_is_nothing_to_do(
    workers: DiskWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_TIMEOUT", 0.05)
    await asyncio.gather(
        *(workers.start(HEALTHY, lambda: time.sleep(0.02)) for _ in range(8))
    )
    await until(lambda: not threads())
    assert await workers.start(HEALTHY, lambda: "again") == "again"


async def test_closing_does_not_wait_for_a_dead_disk(
    dead_disk: threading.Event,
) -> None:
    workers = DiskWorkers(timeout=0.1)
    await hang(workers, dead_disk, 2)
    assert await workers.start(HEALTHY, lambda: 1) == 1
    await asyncio.wait_for(workers.close(), 10)
    assert all(thread.daemon for thread in threads()), (
        "nothing keeps the interpreter from ending"
    )
    with pytest.raises(DiskStalled):
        workers.start(HEALTHY, lambda: 1)
    dead_disk.set()
    await until(lambda: not threads())


async def test_files_are_closed_even_after_the_end(workers: DiskWorkers) -> None:
    await workers.close()
    done = threading.Event()
    workers.submit(HEALTHY, done.set)
    assert await asyncio.to_thread(done.wait, 1)
