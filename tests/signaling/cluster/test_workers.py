"""Processes that share a port, as far as the one that starts them is concerned."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import psutil
import pytest

from pemus_signaling.cluster import workers
from pemus_signaling.cluster.workers import Workers
from pemus_signaling.settings import Settings
from tests.patience import PATIENCE, until

SAY_READY = "import os\nfrom pemus_signaling.cluster.workers import say_ready\nsay_ready(os.environ)\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds by itself takes less."""
    monkeypatch.setattr(workers, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(workers, "LAST_PAUSE", 0.01)


def running(program: str) -> Workers:
    """Return two that run a program of the test's own."""
    made = Workers(Settings(port=49997, workers=2, redis=("unix:///none",)), [])
    made.command = (sys.executable, "-c", program)
    return made


def count(
    monkeypatch: pytest.MonkeyPatch, failing: frozenset[int] = frozenset()
) -> list[str]:
    """Note each start of a process, and have some of them fail."""
    start, starts = asyncio.create_subprocess_exec, []

    async def counted(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        starts.append(command[0])
        if len(starts) in failing:
            raise BlockingIOError("no more processes")
        return await start(*command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", counted)
    return starts


async def test_a_worker_that_served_is_started_anew_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts = count(monkeypatch)
    before = psutil.Process().num_fds()
    stopped = asyncio.Event()
    run = asyncio.create_task(running(SAY_READY).run(stopped))
    await until(lambda: len(starts) >= 12 or run.done())
    assert not run.done()
    stopped.set()
    assert await run
    # What watches over processes keeps some.
    assert psutil.Process().num_fds() <= before + 4


async def test_a_worker_that_cannot_be_started_is_started_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts = count(monkeypatch, failing=frozenset({3, 5}))
    stopped = asyncio.Event()
    run = asyncio.create_task(running(SAY_READY).run(stopped))
    await until(lambda: len(starts) >= 8 or run.done())
    assert not run.done()
    stopped.set()
    assert await run


async def test_workers_that_never_served_end() -> None:
    async with asyncio.timeout(PATIENCE):
        assert not await running("pass").run(asyncio.Event())


async def test_what_a_worker_leaves_behind_ends_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts = count(monkeypatch)
    stopped = asyncio.Event()
    # It keeps the pipe open through which its parent said that it serves.
    child = "import os, time\nif not os.fork():\n  time.sleep(3)\n  os._exit(0)\n"
    run = asyncio.create_task(running(child + SAY_READY).run(stopped))
    await until(lambda: len(starts) >= 6 or run.done())
    assert not run.done()
    stopped.set()
    assert await run
