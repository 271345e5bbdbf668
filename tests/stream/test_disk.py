"""Files as they are opened, recognised and brought into memory."""

from __future__ import annotations

from dataclasses import replace
import os
from pathlib import Path
import socket
import threading
import time

import pytest

from custom_components.pemus.p2p.models import LocalFile
from custom_components.pemus.stream import disk
from custom_components.pemus.stream.disk import FileChanged, OpenFile
from custom_components.pemus.stream.ranges import Span
from tests.patience import PATIENCE

SIZE = 8 * 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(os.urandom(SIZE))
    return path


def describe(path: Path) -> LocalFile:
    return LocalFile.of(str(path), path.name, "video/mp4", path.stat())


def evict(path: Path) -> None:
    """Have the kernel forget the file's pages."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_file_that_is_still_the_same_is_opened(path: Path) -> None:
    file = OpenFile.open(describe(path), Span(0, 1000))
    file.check()
    assert file.is_local
    assert file.read(Span(5, 15)) == path.read_bytes()[5:15]
    file.close()
    with pytest.raises(OSError):
        os.fstat(file.fd)


def test_a_folder_that_is_swapped_all_the_time_sends_no_other_file(
    tmp_path: Path,
) -> None:
    """A file of another folder has another inode, whatever its name, size and time."""
    share, private = tmp_path / "share", tmp_path / "private"
    for folder, content in ((share, b"mine"), (private, b"hers")):
        folder.mkdir()
        (folder / "film.mp4").write_bytes(content)
        os.utime(folder / "film.mp4", (1_600_000_000,) * 2)
    facts = describe(share / "film.mp4")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            aside = share.rename(tmp_path / "aside")
            share.symlink_to(private)
            time.sleep(0.0005)
            share.unlink()
            aside.rename(share)
            time.sleep(0.0005)

    swapper = threading.Thread(target=swap)
    swapper.start()
    opened = refused = 0
    try:
        deadline = time.monotonic() + PATIENCE
        while (opened < 200 or refused < 200) and time.monotonic() < deadline:
            try:
                file = OpenFile.open(facts)
            except FileChanged:
                refused += 1
                continue
            assert file.read(Span(0, 4)) == b"mine"
            file.close()
            opened += 1
    finally:
        over.set()
        swapper.join()
    assert min(opened, refused) >= 200


def test_closing_twice_closes_once(path: Path) -> None:
    file = OpenFile.open(describe(path))
    number = file.fd
    file.close()
    with path.open("rb") as other:
        assert other.fileno() == number, "the number is in use again"
        file.close()
        assert other.read(1)


@pytest.mark.parametrize("field", ["size", "mtime_ns", "inode", "device"])
def test_a_file_that_is_another_one_is_not_opened(path: Path, field: str) -> None:
    facts = describe(path)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(FileChanged):
        OpenFile.open(replace(facts, **{field: getattr(facts, field) + 1}))
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_symbolic_link_in_its_place_is_not_followed(path: Path) -> None:
    facts = describe(path)
    real = path.rename(path.with_name("elsewhere.mp4"))
    path.symlink_to(real)
    with pytest.raises(FileChanged):
        OpenFile.open(facts)


def test_neither_a_pipe_nor_a_folder_nor_a_socket_nor_nothing_is_opened_in_its_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = describe(path)
    path.unlink()
    with pytest.raises(FileChanged):
        OpenFile.open(facts)
    os.mkfifo(path)
    with pytest.raises(FileChanged):
        OpenFile.open(facts)
    path.unlink()
    path.mkdir()
    with pytest.raises(FileChanged):
        OpenFile.open(facts)
    path.rmdir()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(path.parent)
        listener.bind(path.name)
        with pytest.raises(FileChanged):
            OpenFile.open(facts)


def test_a_folder_on_the_way_that_became_a_file_means_that_the_file_is_gone(
    path: Path,
) -> None:
    facts = replace(describe(path), path=f"{path}/film.mp4")
    with pytest.raises(FileChanged):
        OpenFile.open(facts)


def test_a_pipe_described_as_a_file_is_refused_without_waiting_for_a_writer(
    tmp_path: Path,
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileChanged):
        OpenFile.open(describe(pipe))


@pytest.mark.parametrize("change", ["append", "shrink", "rewrite", "unlink", "replace"])
def test_every_change_is_noticed(path: Path, change: str) -> None:
    file = OpenFile.open(describe(path))
    match change:
        case "append":
            with path.open("ab") as other:
                other.write(b"more")
        case "shrink":
            os.truncate(path, 5)
        case "rewrite":
            path.write_bytes(os.urandom(SIZE))
        case "unlink":
            path.unlink()
        case "replace":
            other_path = path.with_name("other")
            other_path.write_bytes(os.urandom(SIZE))
            other_path.rename(path)
    with pytest.raises(FileChanged):
        file.check()
    with pytest.raises(FileChanged):
        file.read(Span(0, 10))
    with pytest.raises(FileChanged):
        file.make_resident(Span(0, SIZE))
    file.close()


def test_a_renamed_file_plays_on(path: Path) -> None:
    file = OpenFile.open(describe(path))
    path.rename(path.with_name("renamed.mp4"))
    file.check()
    assert len(file.read(Span(0, 10))) == 10
    file.close()


def test_what_is_in_memory_is_known_and_what_is_not_is_brought_there(
    path: Path,
) -> None:
    file = OpenFile.open(describe(path))
    whole = Span(0, SIZE)
    assert file.is_resident(whole)
    evict(path)
    assert not file.is_resident(whole)
    file.make_resident(Span(1_000_000, 2_000_000))
    assert file.is_resident(Span(1_000_000, 2_000_000))
    assert not file.is_resident(whole)
    file.make_resident(whole)
    assert file.is_resident(whole)
    file.close()


def test_a_gap_is_noticed(path: Path) -> None:
    file = OpenFile.open(describe(path))
    evict(path)
    file.make_resident(Span(0, SIZE))
    with path.open("rb") as other:
        # The kernel forgets only what it keeps in one piece, which may be two megabytes.
        os.posix_fadvise(other.fileno(), SIZE // 4, SIZE // 2, os.POSIX_FADV_DONTNEED)
    assert not file.is_resident(Span(0, SIZE))
    file.close()


def test_where_the_kernel_cannot_tell_a_worker_is_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_CACHESTAT", 9999)
    file = OpenFile.open(describe(path))
    assert not file.is_resident(Span(0, SIZE))
    file.close()


def test_a_file_system_that_is_not_known_to_be_local_is_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "LOCAL_FILE_SYSTEMS", frozenset())
    file = OpenFile.open(describe(path), Span(0, 10))
    assert not file.is_local
    file.close()


def test_a_file_that_is_closed_while_a_worker_hangs_on_it_keeps_its_number(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it closed at once, its number could stand for another file when the worker goes on."""
    file = OpenFile.open(describe(path))
    number = file.fd
    reading, back = threading.Event(), threading.Event()
    pread = os.pread

    def slow(*arguments: int) -> bytes:
        reading.set()
        back.wait(5)
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", slow)
    worker = threading.Thread(target=file.read, args=(Span(0, 10),))
    worker.start()
    reading.wait(5)
    file.close()
    os.fstat(number)
    with pytest.raises(FileChanged):
        file.read(Span(0, 10))
    back.set()
    worker.join(5)
    with pytest.raises(OSError):
        os.fstat(number)
