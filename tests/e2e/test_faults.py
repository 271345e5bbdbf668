"""What a household does not notice: a dead engine; and what it must not find: processes that were left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
import signal
import time

from conftest import new_home
import psutil
import pytest
import pytest_asyncio
from screen import Screen

from demo.home import Home, HomeError

BACK_WITHIN = 5
"""Seconds from the death of the engine to the next answer, on a machine that does nothing else."""
GONE_WITHIN = 10
"""Seconds that an engine without a home may live."""


def _engine(home: Home) -> psutil.Process:
    """Return the process of the engine."""
    found = home.engine()
    assert found is not None, home.last_lines()
    return found


async def _wait_for_listing(home: Home, dead: int) -> float:
    """Wait until another engine than the dead one answers; return when it did."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(HomeError):
            listing = await home.browse("all/video/recent")
            engine = home.engine()
            if engine and engine.pid != dead and listing["children"]:
                return time.monotonic()
        await asyncio.sleep(0.1)
    raise AssertionError(home.last_lines())


async def _wait_until_gone(family: list[psutil.Process]) -> None:
    deadline = time.monotonic() + GONE_WITHIN
    while alive := [process for process in family if process.is_running()]:
        assert time.monotonic() < deadline, alive
        await asyncio.sleep(0.1)


@pytest_asyncio.fixture(loop_scope="session")
async def doomed(tmp_path: Path, library: Path) -> AsyncGenerator[Home]:
    """Start a home of which nothing is expected afterwards."""
    async with new_home(tmp_path) as started:
        await started.share(library, "Sample library")
        await started.wait_for_library()
        yield started


async def test_a_film_plays_on_while_the_engine_dies_and_comes_back(
    screen: Screen, home: Home
) -> None:
    await screen.open_node("all/video/recent")
    await screen.enter("Sunset at the pier")
    before = await screen.wait_for_video("video.currentTime > 1")
    source = await screen.video.evaluate("(video) => video.currentSrc")
    engine = _engine(home)
    engine.kill()
    killed = time.monotonic()
    # The browser may have the whole film by now; a player on a slow line has not.
    async with home.session.get(source, headers={"Range": "bytes=-1000"}) as answer:
        assert answer.status == 206
        assert len(await answer.read()) == 1000
    listed = asyncio.create_task(_wait_for_listing(home, engine.pid))
    await screen.video.evaluate("(video) => { video.currentTime = 30; }")
    during = await screen.wait_for_video("!video.seeking && video.currentTime > 31")
    assert during.frames > before.frames
    assert during.line * 40 == pytest.approx(during.time, abs=2)
    took = await listed - killed
    assert took < BACK_WITHIN
    after = await screen.wait_for_video("video.currentTime > 34")
    assert after.frames > during.frames


async def test_a_home_that_stops_leaves_no_process(doomed: Home) -> None:
    family = doomed.family()
    assert _engine(doomed) in family
    await doomed.stop()
    assert [process for process in family if process.is_running()] == []


async def test_an_engine_ends_by_itself_when_its_home_is_killed(doomed: Home) -> None:
    family = doomed.family()
    assert _engine(doomed) in family
    await doomed.stop(signal.SIGKILL)
    await _wait_until_gone(family)
