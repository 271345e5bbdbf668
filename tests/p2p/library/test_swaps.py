"""However fast folders and links change places, what is read for an item lies in its share."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import threading
import time
from typing import Any

import pytest

from p2p.core.errors import EngineError
from p2p.core.opening import is_still_there, open_described
from p2p.library.files import ItemSource, Located
from p2p.media.reader import MediaReader
from p2p.models import Kind, LocalFile
from tests.p2p.library.test_library import Running
from tests.patience import PATIENCE, until

SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\n{}\n"
SECRET = "what nobody may see"


@contextlib.contextmanager
def swapping(folder: Path, private: Path) -> Iterator[None]:
    """Put a link to a private folder in the place of a folder, and take it away, again and again."""
    over = threading.Event()
    aside = folder.with_name(f".{folder.name}")

    def swap() -> None:
        while not over.is_set():
            folder.rename(aside)
            folder.symlink_to(private)
            time.sleep(0.001)
            folder.unlink()
            aside.rename(folder)
            time.sleep(0.001)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A share with a folder, and a private folder beside it with files of the same names, sizes and times."""
    for place, content in (
        (tmp_path / "share" / "films", b"mine"),
        (tmp_path / "private", b"hers"),
    ):
        place.mkdir(parents=True)
        for name in ("film.mp4", "cover.jpg"):
            (place / name).write_bytes(content)
            os.utime(place / name, (1_600_000_000,) * 2)
    return tmp_path / "share"


def taken(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def test_a_described_file_is_that_file_or_none(share: Path) -> None:
    path = share / "films" / "film.mp4"
    found = path.stat()
    file = LocalFile.of(str(path), path.name, "", found, root=str(share))
    opened = 0
    with swapping(path.parent, share.parent / "private"):
        deadline = time.monotonic() + PATIENCE
        while opened < 200 and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                assert taken(open_described(file)) == b"mine"
                opened += 1
    assert opened == 200
    assert is_still_there(file)


def test_an_item_and_the_cover_beside_it_are_of_its_folder(share: Path) -> None:
    path = share / "films" / "film.mp4"
    found = path.stat()
    item = Located(
        str(share),
        1,
        b"",
        1,
        "films",
        path.name,
        4,
        found.st_mtime_ns,
        found.st_ino,
        Kind.MUSIC,
    )
    opened = 0
    with swapping(path.parent, share.parent / "private"):
        deadline = time.monotonic() + PATIENCE
        while opened < 200 and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                both = ItemSource(item, cover=True).open()
                assert both.cover is not None
                assert [taken(each) for each in both.all] == [b"mine", b"mine"]
                opened += 1
    assert opened == 200


async def test_no_subtitles_come_from_outside_of_the_share(tmp_path: Path) -> None:
    """The folder is swapped right after the library looked at it, for as long as the reader reads."""
    media = MediaReader()
    await media.start()
    running = Running(tmp_path, media)
    running.put("films/film.mp4")
    folder = running.put("films/film.srt", SUBTITLES.format("mine").encode()).parent
    private = tmp_path / "private"
    private.mkdir()
    (private / "film.srt").write_text(SUBTITLES.format(SECRET))
    real = media.subtitles

    async def swapped(*arguments: Any) -> None:
        aside = folder.rename(tmp_path / "aside")
        folder.symlink_to(private)
        try:
            await real(*arguments)
        finally:
            folder.unlink()
            aside.rename(folder)

    try:
        await running.start()
        await running.idle(1)
        (item,) = (await running.items()).values()
        media.subtitles = swapped  # type: ignore[method-assign]
        with contextlib.suppress(EngineError):
            text = await running.library.subtitles(item.id, 0)
            assert SECRET not in Path(text.path).read_text()
        media.subtitles = real  # type: ignore[method-assign]

        async def told() -> bool:
            with contextlib.suppress(EngineError):
                text = await running.library.subtitles(item.id, 0)
                return "mine" in Path(text.path).read_text()
            return False

        await until(told)
    finally:
        await running.library.stop()
        await media.stop()
