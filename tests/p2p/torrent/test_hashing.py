"""Hashes are right, computed once, in the right order, and never of a file that changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha1
import os
from pathlib import Path
import subprocess
import sys
import threading
import time

import pytest

from p2p.models import LocalFile
from p2p.torrent import hash_queue
from p2p.torrent.hashing import FileChanged, Hasher, HashingError
from p2p.torrent.metainfo import piece_length_for
from p2p.torrent.priority import Priority
from p2p.torrent.store import SwarmStore, Version
from tests.patience import until

PIECE = 256 * 1024
LONG_AGO = 1_600_000_000
STALLED_DISK = Path(__file__).parents[2] / "stream" / "stalled_disk.py"


def local(path: Path) -> LocalFile:
    return LocalFile.of(str(path), path.name, "video/mp4", path.stat())


def put(path: Path, size: int, at: float = LONG_AGO) -> LocalFile:
    """Write a file that has settled."""
    path.write_bytes(os.urandom(min(size, 1 << 20)))
    os.truncate(path, size)
    os.utime(path, (at, at))
    return local(path)


def expected(path: Path) -> bytes:
    """Hash a file's pieces as simply as possible."""
    content = path.read_bytes()
    length = piece_length_for(len(content))
    return b"".join(
        sha1(content[start : start + length], usedforsecurity=False).digest()
        for start in range(0, len(content), length)
    )


def threads() -> int:
    return sum(thread.name == "hash" for thread in threading.enumerate())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SwarmStore]:
    (tmp_path / "data").mkdir()
    opened = SwarmStore(tmp_path / "data" / "swarm.db")
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
async def hasher(store: SwarmStore) -> AsyncIterator[Hasher]:
    made = Hasher(store)
    yield made
    await made.stop()
    await until(lambda: threads() == 0)
    assert made.progress.files == 0


@pytest.mark.parametrize("priority", [Priority.NOW, Priority.LATER])
@pytest.mark.parametrize(
    "size", [1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7, 300 * 1024**2 + 1]
)
async def test_the_hashes_are_those_of_the_pieces(
    hasher: Hasher, tmp_path: Path, size: int, priority: Priority
) -> None:
    file = put(tmp_path / "f", size)
    assert await hasher.hashes(file, priority) == expected(tmp_path / "f")


async def test_an_empty_file_has_no_pieces(hasher: Hasher, tmp_path: Path) -> None:
    assert await hasher.hashes(put(tmp_path / "f", 0), Priority.NOW) == b""


async def test_after_a_restart_nothing_is_read_again(
    store: SwarmStore, tmp_path: Path
) -> None:
    first = Hasher(store)
    file = put(tmp_path / "f", 3 * PIECE)
    pieces = await first.hashes(file, Priority.LATER)
    await first.stop()
    store.close()
    again = SwarmStore(store.path)
    again.open()
    second = Hasher(again)
    # There is nothing left that could be read.
    (tmp_path / "f").unlink()
    assert await second.hashes(file, Priority.LATER) == pieces
    await second.forget(file)
    with pytest.raises(HashingError, match="No such file"):
        await second.hashes(file, Priority.LATER)
    await second.stop()
    again.close()


async def test_a_renamed_file_is_not_read_again(
    hasher: Hasher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = await hasher.hashes(put(tmp_path / "f", 3 * PIECE), Priority.NOW)
    (tmp_path / "f").rename(tmp_path / "g")
    monkeypatch.setattr(hash_queue, "open_described", None)
    assert await hasher.hashes(local(tmp_path / "g"), Priority.NOW) == pieces


async def test_several_who_ask_share_the_work(hasher: Hasher, tmp_path: Path) -> None:
    file = put(tmp_path / "f", 100 * PIECE)
    hasher.pause()
    asking = [
        asyncio.create_task(hasher.hashes(file, Priority.LATER)) for _ in range(5)
    ]
    await until(lambda: hasher.progress.files == 1)
    asking[0].cancel()
    hasher.resume()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert set(answers[1:]) == {expected(tmp_path / "f")}


async def test_the_background_waits_while_something_streams(
    hasher: Hasher, tmp_path: Path
) -> None:
    slow = put(tmp_path / "slow", 40 * PIECE)
    fast = put(tmp_path / "fast", 20 * PIECE)
    hasher.pause()
    background = asyncio.create_task(hasher.hashes(slow, Priority.LATER))
    await until(lambda: hasher.progress.files > 0)
    assert await hasher.hashes(fast, Priority.NOW) == expected(tmp_path / "fast")
    assert not background.done()
    progress = hasher.progress
    assert (progress.done_bytes, progress.total_bytes) == (0, slow.size)
    hasher.resume()
    assert await background == expected(tmp_path / "slow")


async def test_what_is_asked_for_leaves_the_background(
    hasher: Hasher, tmp_path: Path
) -> None:
    file = put(tmp_path / "f", 40 * PIECE)
    hasher.pause()
    background = asyncio.create_task(hasher.hashes(file, Priority.LATER))
    await until(lambda: hasher.progress.files > 0)
    # Still paused: only as urgent work it can end.
    assert await hasher.hashes(file, Priority.NOW) == expected(tmp_path / "f")
    assert await background == expected(tmp_path / "f")


async def test_one_that_queues_in_the_background_can_become_urgent(
    hasher: Hasher, tmp_path: Path
) -> None:
    hasher.pause()
    files = [put(tmp_path / f"f{number}", 3 * PIECE) for number in range(5)]
    background = [
        asyncio.create_task(hasher.hashes(file, Priority.LATER)) for file in files
    ]
    await until(lambda: hasher.progress.files > 0)
    assert await hasher.hashes(files[4], Priority.NOW) == expected(tmp_path / "f4")
    assert [task.done() for task in background[:4]] == [False] * 4
    hasher.resume()
    assert await asyncio.gather(*background) == [
        expected(tmp_path / f"f{number}") for number in range(5)
    ]


async def test_a_short_file_does_not_wait_for_a_long_one(
    hasher: Hasher, tmp_path: Path
) -> None:
    # It takes half a minute.
    long = put(tmp_path / "long", 64 * 1024**3)
    first = asyncio.create_task(hasher.hashes(long, Priority.NOW))
    await until(lambda: hasher.progress.done_bytes > 0)
    files = [put(tmp_path / f"s{number}", PIECE) for number in range(20)]
    await asyncio.gather(*(hasher.hashes(file, Priority.NOW) for file in files))
    assert not first.done()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_files_are_hashed_by_priority_and_the_shortest_first(
    hasher: Hasher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_queue, "WORKERS", 1)
    read = os.preadv
    busy, begun = threading.Event(), []

    def preadv(descriptor: int, buffers: list[memoryview], offset: int, *flags: int) -> int:  # fmt: skip
        if not flags:
            name = Path(f"/proc/self/fd/{descriptor}").readlink().name
            if name not in begun:
                begun.append(name)
            busy.wait()
        return read(descriptor, buffers, offset, *flags)

    monkeypatch.setattr(os, "preadv", preadv)
    asked = [
        ("first", 1, Priority.NOW),
        ("later", 1, Priority.LATER),
        ("also later", 1, Priority.LATER),
        ("seeded", 2, Priority.SOON),
        ("long", 9, Priority.NOW),
        ("short", 2, Priority.NOW),
        ("promoted", 5, Priority.LATER),
    ]
    hashing = []
    for name, pieces, priority in asked:
        file = put(tmp_path / name, pieces * PIECE)
        hashing.append(asyncio.create_task(hasher.hashes(file, priority)))
        # Whether the hashes are known is looked up first.
        await until(lambda: hasher.progress.files == len(hashing))
    hasher.promote(file, Priority.NOW)
    busy.set()
    await asyncio.gather(*hashing)
    assert begun == ["first", "short", "promoted", "long", "seeded", "later", "also later"]  # fmt: skip


async def test_what_nobody_waits_for_is_not_continued(
    hasher: Hasher, store: SwarmStore, tmp_path: Path
) -> None:
    file = put(tmp_path / "f", 2 * 1024**3)
    asking = asyncio.create_task(hasher.hashes(file, Priority.NOW))
    await until(lambda: hasher.progress.done_bytes > 0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert hasher.progress.files == 0
    await until(lambda: threads() == 0)
    assert store.hashes(Version.of(file), piece_length_for(file.size)) is None


async def test_stopping_ends_what_runs_and_who_waits(
    store: SwarmStore, tmp_path: Path
) -> None:
    hasher = Hasher(store)
    asking = asyncio.create_task(
        hasher.hashes(put(tmp_path / "f", 2 * 1024**3), Priority.NOW)
    )
    await until(lambda: hasher.progress.done_bytes > 0)
    await hasher.stop()
    with pytest.raises(HashingError, match="stopping"):
        await asking
    await until(lambda: threads() == 0)
    with pytest.raises(HashingError, match="stopping"):
        await hasher.hashes(put(tmp_path / "g", 1), Priority.NOW)


def edit(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.write(b"edited")


def grow(path: Path) -> None:
    with path.open("ab") as opened:
        opened.write(b"more")


def shorten(path: Path) -> None:
    os.truncate(path, 10 * PIECE)


@pytest.mark.parametrize("change", [edit, grow, shorten])
async def test_a_file_that_changes_meanwhile_has_no_hashes(
    hasher: Hasher, store: SwarmStore, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "f"
    file = put(path, 4000 * PIECE)
    asking = asyncio.create_task(hasher.hashes(file, Priority.LATER))
    await until(lambda: hasher.progress.done_bytes > 0)
    hasher.pause()
    assert hasher.progress.done_bytes < file.size, "the disk was too fast for the test"
    change(path)
    hasher.resume()
    with pytest.raises(FileChanged):
        await asking
    assert store.hashes(Version.of(file), piece_length_for(file.size)) is None
    await until(lambda: threads() == 0)
    if change is not grow:
        os.utime(path, (LONG_AGO, LONG_AGO + 1))
        assert await hasher.hashes(local(path), Priority.NOW) == expected(path)


async def test_only_the_very_file_that_was_described_is_read(
    hasher: Hasher, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    file = put(path, 3 * PIECE)
    put(tmp_path / "other", 3 * PIECE)
    (tmp_path / "other").rename(path)
    with pytest.raises(FileChanged):
        await hasher.hashes(file, Priority.NOW)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(HashingError):
        await hasher.hashes(file, Priority.NOW)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(HashingError):
        await hasher.hashes(file, Priority.NOW)
    path.unlink()
    path.mkdir()
    with pytest.raises(HashingError):
        await hasher.hashes(file, Priority.NOW)


async def test_a_fault_is_not_kept(hasher: Hasher, tmp_path: Path) -> None:
    path = tmp_path / "f"
    file = put(path, 3 * PIECE)
    path.rename(tmp_path / "away")
    with pytest.raises(HashingError, match="No such file"):
        await hasher.hashes(file, Priority.NOW)
    (tmp_path / "away").rename(path)
    assert await hasher.hashes(file, Priority.NOW) == expected(path)


async def test_what_changed_a_moment_ago_is_hashed_again_the_next_time(
    hasher: Hasher, store: SwarmStore, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    file = put(path, PIECE, at=time.time())
    assert await hasher.hashes(file, Priority.NOW) == expected(path)
    # Written within the same step of a coarse clock: nothing but the content tells.
    path.write_bytes(os.urandom(PIECE))
    os.utime(path, ns=(file.mtime_ns, file.mtime_ns))
    assert await hasher.hashes(local(path), Priority.NOW) == expected(path)


async def test_hashes_are_given_although_they_cannot_be_kept(
    hasher: Hasher, store: SwarmStore, tmp_path: Path
) -> None:
    store.close()
    file = put(tmp_path / "f", 3 * PIECE)
    assert await hasher.hashes(file, Priority.NOW) == expected(tmp_path / "f")


async def test_a_file_that_is_too_large_for_a_ticket_is_refused(
    hasher: Hasher, tmp_path: Path
) -> None:
    with (tmp_path / "f").open("wb") as opened:
        opened.truncate(2**40)
    with pytest.raises(HashingError, match="too large"):
        await hasher.hashes(local(tmp_path / "f"), Priority.NOW)


class StalledDisk:
    """A file system with one file, which stops answering when it is told to."""

    def __init__(self, mount: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(STALLED_DISK), str(mount)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        name = self._process.stdout.readline().strip()
        assert name, "mounting takes /dev/fuse, and root or fusermount3"
        self.path = mount / name

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(command, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline().strip() == "ok"

    def end(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[StalledDisk]:
    (tmp_path / "disk").mkdir()
    made = StalledDisk(tmp_path / "disk")
    yield made
    made.end()


async def test_a_disk_that_hangs_holds_up_nobody_else(
    hasher: Hasher,
    disk: StalledDisk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hash_queue, "STALL", 4.0)
    file = local(disk.path)
    disk.tell("stall-from 30000000")
    hanging = asyncio.create_task(hasher.hashes(file, Priority.NOW))
    await until(lambda: hasher.progress.done_bytes > 0)
    # By what is left it would be the other's turn only afterwards.
    other = put(tmp_path / "f", 1024**3)
    assert len(await hasher.hashes(other, Priority.NOW)) == 20 * 2048
    with pytest.raises(HashingError, match="does not answer"):
        await hanging
    # It is not asked again while it hangs, and its threads are not multiplied.
    with pytest.raises(HashingError, match="does not answer"):
        await hasher.hashes(file, Priority.NOW)
    await until(lambda: threads() == 2)
    disk.tell("go")
    await until(lambda: threads() == 0)
    assert len(await hasher.hashes(file, Priority.NOW)) == 20 * 256
