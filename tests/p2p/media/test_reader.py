"""The child that reads: it may be killed, hang or bloat, and nobody but the file that did it is the worse for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
import contextlib
import json
import os
from pathlib import Path
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib

import pytest
import pytest_asyncio

from p2p.core.errors import Unavailable
from p2p.media import reader as module
from p2p.media.facts import MediaError
from p2p.media.reader import MediaReader
from p2p.media.source import Opened
from p2p.models import Kind
from tests.p2p.media import handed, make
from tests.p2p.media.conftest import children
from tests.patience import PATIENCE, Stopwatch, until


@pytest.fixture
def song(tmp_path: Path) -> handed.File:
    return handed.File(str(make.tag(make.song(tmp_path / "a.mp3", seconds=0.3))))


def tasks_of_readers() -> set[str]:
    names = {each.get_name() for each in asyncio.all_tasks()}
    return {each for each in names if each.startswith("media reader")}


@pytest.fixture
def others() -> set[int]:
    """The children that there are before the reader of a test starts."""
    return children()


@pytest_asyncio.fixture
async def reader(others: set[int]) -> AsyncIterator[MediaReader]:
    """A reader of its own for each test, which must leave neither process nor task behind."""
    reader = MediaReader()
    await reader.start()
    assert tasks_of_readers()
    yield reader
    await reader.stop()
    assert children() == others
    assert not tasks_of_readers()


@pytest.fixture
def child(reader: MediaReader, others: set[int]) -> int:
    """The process id of the reader's child."""
    (pid,) = children() - others
    return pid


@contextlib.asynccontextmanager
async def killing_children() -> AsyncIterator[None]:
    """Kill each worker as soon as it appears."""

    async def kill() -> None:
        spared = children()
        while True:
            for pid in children() - spared:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(kill())
    await asyncio.sleep(0.01)
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_it_knows_what_it_can_do(reader: MediaReader) -> None:
    libraries = {"av", "mutagen", "PIL", "pillow_heif", "pysubs2"}
    assert set(reader.capabilities) == libraries
    assert all(reader.capabilities.values())
    assert reader.level == "1:av+mutagen+PIL+pillow_heif"


async def test_the_child_is_poor_and_humble(reader: MediaReader, child: int) -> None:
    assert os.getpriority(os.PRIO_PROCESS, child) == 19
    limits = {
        each: resource.prlimit(child, each)
        for each in (resource.RLIMIT_DATA, resource.RLIMIT_CORE)
    }
    assert list(limits.values()) == [(1 << 30, 1 << 30), (0, 0)]
    command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
    assert b"-I" in command


async def test_a_child_killed_while_idle_is_not_missed(
    reader: MediaReader, child: int, song: handed.File
) -> None:
    os.kill(child, signal.SIGKILL)
    assert (await reader.read(song, Kind.MUSIC)).fault is None


async def test_a_child_killed_in_the_middle_of_a_file_gets_a_second_chance(
    reader: MediaReader, child: int, song: handed.File
) -> None:
    os.kill(child, signal.SIGSTOP)
    reading = asyncio.create_task(reader.read(song, Kind.MUSIC))
    await asyncio.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    assert (await reading).fault is None


async def test_a_file_that_kills_its_reader_has_a_fault_and_the_next_is_read(
    reader: MediaReader, child: int, song: handed.File, tmp_path: Path
) -> None:
    os.kill(child, signal.SIGKILL)
    async with killing_children():
        facts = await reader.read(song, Kind.MUSIC)
        assert facts.fault
        assert "was ended by SIGKILL" in facts.fault
        assert not await reader.picture(song, Kind.MUSIC, tmp_path / "a.jpg")
        with pytest.raises(MediaError, match="SIGKILL"):
            await reader.subtitles(song, tmp_path / "a.vtt")
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob(".*"))
    assert (await reader.read(song, Kind.MUSIC)).fault is None


async def test_a_file_that_hangs_its_reader_costs_no_more_than_its_time(
    reader: MediaReader, child: int, song: handed.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT", 1)
    os.kill(child, signal.SIGSTOP)
    begin = time.monotonic()
    with Stopwatch() as watch:
        facts = await reader.read(song, Kind.MUSIC)
    assert facts.fault == "Reading the file took longer than 1 seconds."
    assert time.monotonic() - begin >= 1
    assert watch.seconds < 3
    monkeypatch.setattr(module, "READ_TIMEOUT", 20)
    assert (await reader.read(song, Kind.MUSIC)).fault is None


def endless_subtitles(path: Path) -> Path:
    """Write a file that pysubs2 spends minutes on: its work grows with the square of the tags in a line."""
    line = "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,," + "{\\i1}x" * 300
    path.write_text("[V4+ Styles]\n" + f"{line}\n" * 5000)
    return path


async def test_a_file_that_takes_too_long_is_given_up(
    reader: MediaReader,
    tmp_path: Path,
    song: handed.File,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PICTURE_TIMEOUT", 1)
    path = endless_subtitles(tmp_path / "a.ass")
    (tmp_path / "cache").mkdir()
    with pytest.raises(MediaError, match="longer than 1 seconds"):
        await reader.subtitles(handed.File(str(path)), tmp_path / "cache" / "a.vtt")
    assert not list((tmp_path / "cache").iterdir())
    assert (await reader.read(song, Kind.MUSIC)).fault is None


async def test_a_busy_child_ends_itself_when_nobody_does(tmp_path: Path) -> None:
    path = endless_subtitles(tmp_path / "a.ass")
    program = str(Path(module.__file__).with_name("worker_main.py"))
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with requests, theirs, path.open("rb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", program),
            stdin=theirs,
            stdout=asyncio.subprocess.PIPE,
        )
        request = {"id": 1, "job": "subtitles", "limit": 1, "files": ["file"]}
        socket.send_fds(requests, [json.dumps(request).encode()], [file.fileno()])
        async with asyncio.timeout(PATIENCE):
            answer, _ = await process.communicate()
    assert (process.returncode, answer) == (-signal.SIGALRM, b"")


async def test_a_file_that_unfolds_in_memory_is_given_up_but_the_child_lives(
    reader: MediaReader, child: int, tmp_path: Path, song: handed.File
) -> None:
    # A compressed ID3 frame of 3 GiB of zeros, in a file of 3 MiB.
    size = 3 << 30
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = block.compress(bytes(1 << 20)) + block.flush(zlib.Z_FULL_FLUSH)
    check = ((size % 65521) << 16 | 1).to_bytes(4, "big")
    packed = b"\x78\xda" + part * 3072 + b"\x03\x00" + check
    data = size.to_bytes(4, "big") + packed
    frame = b"TIT2" + _synchsafe(len(data)) + b"\0\x09" + data
    sound = Path(song.path).read_bytes()
    path = tmp_path / "bomb.mp3"
    path.write_bytes(b"ID3\4\0\0" + _synchsafe(len(frame)) + frame + sound)
    facts = await reader.read(handed.File(str(path)), Kind.MUSIC)
    assert facts.fault == "Reading it takes too much memory."
    assert (await reader.read(song, Kind.MUSIC)).fault is None
    assert Path(f"/proc/{child}").exists()


def _synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


async def test_who_waits_comes_before_the_background(
    reader: MediaReader, child: int, song: handed.File, tmp_path: Path
) -> None:
    order: list[str] = []

    async def note(name: str, work: asyncio.Future[object]) -> None:
        await work
        order.append(name)

    os.kill(child, signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            read = asyncio.ensure_future(reader.read(song, Kind.MUSIC))
            group.create_task(note(f"background {number}", read))
        await asyncio.sleep(0.05)
        for number in range(2):
            target = tmp_path / f"{number}.jpg"
            made = reader.picture(song, Kind.MUSIC, target, priority=True)
            group.create_task(note(f"waiting {number}", asyncio.ensure_future(made)))
        await asyncio.sleep(0.05)
        os.kill(child, signal.SIGCONT)
    assert order[:4] == ["background 0", "waiting 0", "waiting 1", "background 1"]
    assert order[4:] == [f"background {number}" for number in range(2, 50)]


async def test_nothing_is_done_for_who_gave_up(
    reader: MediaReader, child: int, tmp_path: Path, song: handed.File
) -> None:
    photo = handed.File(str(make.photo(tmp_path / "a.jpg")))
    os.kill(child, signal.SIGSTOP)
    first = asyncio.create_task(reader.read(song, Kind.MUSIC))
    unwanted = asyncio.create_task(
        reader.picture(photo, Kind.PHOTO, tmp_path / "out.jpg")
    )
    await asyncio.sleep(0.05)
    first.cancel()
    unwanted.cancel()
    os.kill(child, signal.SIGCONT)
    assert (await reader.read(song, Kind.MUSIC)).fault is None
    assert not (tmp_path / "out.jpg").exists()


class Awaited(handed.File):
    """A file on a disk that takes its time."""

    begun = threading.Event()
    answers = threading.Event()

    def open(self) -> Opened:
        self.begun.set()
        assert self.answers.wait(PATIENCE)
        return super().open()


async def test_who_gives_up_while_the_disk_takes_its_time_leaves_no_file(
    reader: MediaReader, tmp_path: Path, song: handed.File
) -> None:
    (tmp_path / "out").mkdir()
    photo = Awaited(str(make.photo(tmp_path / "a.jpg")))
    unwanted = asyncio.create_task(
        reader.picture(photo, Kind.PHOTO, tmp_path / "out" / "out.jpg")
    )
    await until(photo.begun.is_set)
    unwanted.cancel()
    await asyncio.gather(unwanted, return_exceptions=True)
    photo.answers.set()
    assert (await reader.read(song, Kind.MUSIC)).fault is None
    assert not list((tmp_path / "out").iterdir())


async def test_an_idle_child_ends_and_comes_back_when_needed(
    reader: MediaReader, child: int, song: handed.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_TIMEOUT", 0.1)
    assert (await reader.read(song, Kind.MUSIC)).fault is None
    await until(lambda: not Path(f"/proc/{child}").exists())
    assert (await reader.read(song, Kind.MUSIC)).fault is None


async def test_a_child_is_replaced_before_it_grows_old(
    reader: MediaReader,
    others: set[int],
    song: handed.File,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "JOBS_PER_CHILD", 3)
    seen = set()
    for _ in range(7):
        assert (await reader.read(song, Kind.MUSIC)).fault is None
        seen |= children() - others
    assert len(seen) == 3


async def test_stopping_ends_everything_at_once(
    song: handed.File, tmp_path: Path
) -> None:
    before = children()
    reader = MediaReader()
    await reader.start()
    (child,) = children() - before
    os.kill(child, signal.SIGSTOP)
    waiting = [
        asyncio.create_task(reader.picture(song, Kind.MUSIC, tmp_path / f"{each}.jpg"))
        for each in range(5)
    ]
    await asyncio.sleep(0.05)
    with Stopwatch() as watch:
        await reader.stop()
    assert watch.seconds < 1
    for each in waiting:
        with pytest.raises(Unavailable):
            await each
    assert children() == before
    assert not tasks_of_readers()
    assert [each.name for each in tmp_path.iterdir()] == ["a.mp3"]
    with pytest.raises(Unavailable):
        await reader.read(song, Kind.MUSIC)
    await reader.stop()


async def test_it_can_be_started_again(song: handed.File) -> None:
    reader = MediaReader()
    for _ in range(2):
        await reader.start()
        assert (await reader.read(song, Kind.MUSIC)).fault is None
        await reader.stop()


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/true", "/bin/cat"])
async def test_without_a_working_interpreter_files_have_a_fault(
    python: str, song: handed.File, tmp_path: Path, no_child_left: None
) -> None:
    reader = MediaReader(python=python)
    await reader.start()
    assert set(reader.capabilities.values()) == {None}
    assert (await reader.read(song, Kind.MUSIC)).fault
    assert not await reader.picture(song, Kind.MUSIC, tmp_path / "a.jpg")
    await reader.stop()


def test_the_child_ends_with_an_engine_that_is_killed(song: handed.File) -> None:
    program = (
        "import asyncio, sys\n"
        f"sys.path.insert(0, {str(Path(module.__file__).parents[2])!r})\n"
        "from p2p.media.reader import MediaReader\n"
        "async def main():\n"
        "    reader = MediaReader()\n"
        "    await reader.start()\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE
    ) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == b"ready\n"
        tasks = Path(f"/proc/{engine.pid}/task").glob("*/children")
        (child,) = [int(pid) for each in tasks for pid in each.read_text().split()]
        engine.kill()
        engine.wait()
    deadline = time.monotonic() + PATIENCE
    while _is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    """Tell whether a process is there and not just waiting to be collected by somebody."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
