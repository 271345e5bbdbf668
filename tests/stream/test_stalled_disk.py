"""A disk that hangs, for real: a FUSE file system that stops answering. The home must not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
import threading
import time

from homeassistant.core import HomeAssistant
import pytest

from custom_components.pemus.stream import disk
from custom_components.pemus.stream.workers import THREADS_PER_LANE
from tests.patience import Stopwatch

from . import stalled_disk
from .conftest import (
    FILM,
    SONG,
    Site,
    StalledDisk,
    all_closed,
    open_files,
    pages,
    serve,
)

pytestmark = pytest.mark.filterwarnings(
    "error::pytest.PytestUnhandledThreadExceptionWarning"
)

PATIENCE = 2.0
"""Seconds that the disk is waited for in these tests."""
MAX_LAG = PATIENCE / 2
"""Well below what a single wait for the disk would take; more than other work on the machine causes."""
FUSE = 0x65735546


@pytest.fixture
def stalled(tmp_path: Path) -> Generator[StalledDisk]:
    mount = tmp_path / "share"
    mount.mkdir()
    running = StalledDisk(mount)
    yield running
    running.end()


@pytest.fixture(params=["as it is", "as if it were local"])
async def home(
    request: pytest.FixtureRequest,
    hass: HomeAssistant,
    socket_enabled: None,
    stalled: StalledDisk,
    patience: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncGenerator[Site]:
    """Serve the film from the disk that will hang, and a song from one that will not.

    Once the disk is what it is, and files are read; and once it is taken for a local one, and files are sent by sendfile
    from windows that were made resident: what a dying local disk is like.
    """
    patience(PATIENCE)
    if request.param == "as if it were local":
        monkeypatch.setattr(
            disk, "LOCAL_FILE_SYSTEMS", disk.LOCAL_FILE_SYSTEMS | {FUSE}
        )
        # Its attributes are asked of it each time, unlike those of a local disk: leave them alone.
        monkeypatch.setattr(disk.OpenFile, "check", lambda _: None)
    async with serve(hass) as running:
        running.folder.files[FILM] = (stalled.path, "video/mp4")
        facts = running.folder._look(stalled.path, "video/mp4")
        look = running.folder._look
        # The engine has looked at the file before; it is another process, and its threads are not what is tested here.
        running.folder._look = lambda path, kind: (
            facts if path == stalled.path else look(path, kind)
        )  # type: ignore[method-assign]
        running.folder.put(SONG, tmp_path / "song.mp3", pages(0, 256), "audio/mpeg")
        yield running
        stalled.end()
    assert await all_closed(), open_files()


@asynccontextmanager
async def prompt() -> AsyncGenerator[None]:
    """Check that the event loop was never late."""
    lags: list[float] = []

    async def tick(watch: Stopwatch) -> None:
        while True:
            asleep = watch.seconds
            await asyncio.sleep(0.005)
            lags.append(watch.seconds - asleep - 0.005)

    with Stopwatch() as watch:
        task = asyncio.create_task(tick(watch))
        try:
            yield
        finally:
            task.cancel()
    assert max(lags) < MAX_LAG


def disk_threads() -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("pemus disk")
    ]


async def test_as_long_as_it_answers_every_byte_comes(
    home: Site, stalled: StalledDisk
) -> None:
    answer = await home.ask(home.path())
    assert answer.body == stalled_disk.content(0, stalled_disk.SIZE)
    answer = await home.ask(home.path(), {"Range": "bytes=10000000-10000099"})
    assert answer.body == stalled_disk.content(10_000_000, 100)


async def test_before_the_first_byte_the_answer_is_503_in_time(
    home: Site, stalled: StalledDisk
) -> None:
    stalled.tell("stall")
    async with prompt():
        begin = time.monotonic()
        with Stopwatch() as watch:
            answer = await home.ask(home.path())
        assert time.monotonic() - begin > PATIENCE * 0.8
        assert watch.seconds < PATIENCE * 3
    assert (answer.status, answer.body, answer["Retry-After"]) == (503, b"", "5")


async def test_a_disk_that_opens_but_does_not_read_is_503_too(
    home: Site, stalled: StalledDisk
) -> None:
    stalled.tell("stall-from 0")
    async with prompt():
        answer = await home.ask(home.path())
    assert (answer.status, answer.body) == (503, b"")


async def test_after_the_first_byte_the_connection_ends_in_time(
    home: Site, stalled: StalledDisk
) -> None:
    stalled.tell(f"stall-from {20 * 1024 * 1024}")
    async with prompt():
        with Stopwatch() as watch:
            answer = await home.ask(home.path())
        assert watch.seconds < PATIENCE + 5
    assert answer.status == 200
    assert not answer.complete
    assert answer.body == stalled_disk.content(0, len(answer.body))


async def test_meanwhile_another_file_plays_and_the_home_is_prompt(
    home: Site, stalled: StalledDisk
) -> None:
    stalled.tell("stall")
    song = pages(0, 256)
    async with prompt():
        stuck = []
        for _ in range(30):
            stuck.append(asyncio.create_task(home.ask(home.path())))
            await asyncio.sleep(0.01)  # The clients live in the same loop.
        for _ in range(20):
            with Stopwatch() as watch:
                assert (await home.ask(home.path(SONG))).body == song
            assert watch.seconds < PATIENCE
            await asyncio.sleep(0.02)
        for answer in await asyncio.gather(*stuck):
            assert answer.status == 503
    assert len(disk_threads()) <= 2 * THREADS_PER_LANE, (
        "30 requests hang in 4 threads; the other disk has its own"
    )


async def test_once_it_is_known_to_hang_nobody_waits_for_it(
    home: Site, stalled: StalledDisk
) -> None:
    stalled.tell("stall")
    await asyncio.gather(*(home.ask(home.path()) for _ in range(THREADS_PER_LANE)))
    with Stopwatch() as watch:
        answers = await asyncio.gather(*(home.ask(home.path()) for _ in range(20)))
    assert watch.seconds < PATIENCE
    assert {answer.status for answer in answers} == {503}


async def test_when_it_answers_again_it_is_served_again(
    home: Site, stalled: StalledDisk
) -> None:
    stalled.tell("stall")
    await asyncio.gather(*(home.ask(home.path()) for _ in range(THREADS_PER_LANE)))
    stalled.tell("go")
    await asyncio.sleep(0.2)
    answer = await home.ask(home.path(), {"Range": "bytes=5000000-5999999"})
    assert answer.body == stalled_disk.content(5_000_000, 1_000_000)
    assert await all_closed(), "also what was opened too late"


async def test_a_client_that_leaves_while_it_hangs_leaves_nothing_behind(
    home: Site, stalled: StalledDisk
) -> None:
    tasks = len(asyncio.all_tasks())
    stalled.tell("stall")
    for _ in range(10):
        async with home.connection() as connection:
            await connection.send(home.path())
            await asyncio.sleep(0.01)
    stalled.tell("go")
    assert await all_closed(), open_files()
    await asyncio.sleep(0.1)
    assert len(asyncio.all_tasks()) <= tasks


async def test_home_assistant_stops_while_it_hangs(
    hass: HomeAssistant, home: Site, stalled: StalledDisk
) -> None:
    stalled.tell("stall")
    assert (await home.ask(home.path())).status == 503
    with Stopwatch() as watch:
        await hass.async_stop(force=True)
    assert watch.seconds < 5
    stalled.tell("go")
    assert await all_closed()
    await asyncio.sleep(0.1)
    assert not disk_threads(), "what was left behind ends when the disk is back"


async def test_a_disk_that_dies_for_good_is_503(
    home: Site, stalled: StalledDisk
) -> None:
    assert (await home.ask(home.path(), {"Range": "bytes=0-0"})).status == 206
    stalled.end()
    answer = await home.ask(home.path())
    assert (answer.status, answer.body) == (503, b"")
