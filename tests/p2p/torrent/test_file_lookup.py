"""Many questions at once become few, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
import os
from pathlib import Path

import pytest

from p2p.core.errors import EngineError, NotFound, Unavailable
from p2p.library import Library
from p2p.media.reader import MediaReader
from p2p.models import EngineConfig, Kind, LocalFile, ShareConfig
from p2p.torrent.file_lookup import FileLookups
from p2p.torrent.hashing import Hasher
from p2p.torrent.store import SwarmStore
from tests.p2p.torrent.owned import LONG_AGO, Folder, item_id, one_by_one
from tests.patience import until

NAMES = [item_id(f"i{a}{b}") for a in "abcdefghij" for b in "abcdefghij"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "share")
    for number, name in enumerate(NAMES):
        made.put(name, f"{number}.mp4", 1000)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SwarmStore]:
    opened = SwarmStore(tmp_path / "swarm.db")
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
async def hasher(store: SwarmStore) -> AsyncIterator[Hasher]:
    made = Hasher(store)
    yield made
    await made.stop()


async def test_what_is_asked_in_one_moment_is_one_question(
    folder: Folder, hasher: Hasher
) -> None:
    questions: list[Sequence[str]] = []
    single = one_by_one(folder.file)

    async def many(items: Sequence[str]) -> Mapping[str, LocalFile | EngineError]:
        questions.append(items)
        return await single(items)

    known = await folder.file(NAMES[0])
    pieces = await hasher.hashes(known)
    folder.names.pop(NAMES[1])
    looks = FileLookups(many, hasher, batch=20)
    answers = await asyncio.gather(
        *(looks.look(name) for name in [*NAMES, NAMES[0]]), return_exceptions=True
    )
    assert [len(each) for each in questions] == [20, 20, 20, 20, 20, 1]
    for name, answer in zip([*NAMES, NAMES[0]], answers, strict=True):
        if name == NAMES[1]:
            assert isinstance(answer, NotFound)
        else:
            assert not isinstance(answer, BaseException)
            assert answer.file == await folder.file(name)
            assert answer.pieces == (pieces if name == NAMES[0] else None)
    await looks.stop()


async def test_one_that_hangs_holds_up_only_its_own_question(
    folder: Folder, hasher: Hasher
) -> None:
    async def file(item: str) -> LocalFile:
        if item == NAMES[0]:
            await asyncio.Event().wait()
        return await folder.file(item)

    looks = FileLookups(one_by_one(file), hasher, batch=1)
    hanging = asyncio.create_task(looks.look(NAMES[0]))
    given_up = asyncio.create_task(looks.look(NAMES[0]))
    async with asyncio.timeout(30):
        await asyncio.gather(*(looks.look(name) for name in NAMES[1:]))
    given_up.cancel()
    await looks.stop()
    with pytest.raises(asyncio.CancelledError):
        await hanging


async def test_a_fault_reaches_all_who_asked(folder: Folder, hasher: Hasher) -> None:
    async def many(items: Sequence[str]) -> Mapping[str, LocalFile | EngineError]:
        raise ValueError("a fault")

    looks = FileLookups(many, hasher)
    answers = await asyncio.gather(
        *(looks.look(name) for name in NAMES), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [ValueError] * 100
    await looks.stop()


async def test_the_library_answers_for_many_as_for_one(tmp_path: Path) -> None:
    for name in ("data", "cache", "films/below", "songs"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(10):
        path = tmp_path / ("films/below" if number % 2 else "songs") / f"{number}.mp4"
        path.write_bytes(os.urandom(1000))
        os.utime(path, (LONG_AGO, LONG_AGO))
    media = MediaReader()
    library = Library(
        data=tmp_path / "data",
        cache=tmp_path / "cache",
        media=media,
        on_change=lambda: None,
        on_items=lambda _: None,
    )
    shares = tuple(
        ShareConfig(id=name, path=str(tmp_path / name), name=name, kinds=tuple(Kind))
        for name in ("films", "songs")
    )
    await media.start()
    await library.start()
    try:
        await library.apply(EngineConfig(home_name="Home", shares=shares))
        await until(lambda: library.counts.video == 10, 60)
        listed, _ = await library.listed(0, 100)
        ids = [each.item for each in listed]
        assert len(ids) == 10
        answers = await library.files(ids)
        assert answers == {each: await library.file(each) for each in ids}
        assert await library.files([]) == {}

        names = {
            answer.name: item
            for item, answer in answers.items()
            if isinstance(answer, LocalFile)
        }
        (tmp_path / "films/below/1.mp4").unlink()
        (tmp_path / "films/below/3.mp4").write_bytes(b"edited")
        (tmp_path / "films/below/5.mp4").unlink()
        (tmp_path / "films/below/5.mp4").symlink_to("/etc/passwd")
        (tmp_path / "songs").rename(tmp_path / "unplugged")
        asked = [*ids, "x" * 26, "../../etc/passwd", ""]
        answers = await library.files(asked)
        assert list(answers) == asked
        for name in ("x" * 26, "../../etc/passwd", "", names["1.mp4"], names["5.mp4"]):
            assert isinstance(answers[name], NotFound)
        edited = answers[names["3.mp4"]]
        assert isinstance(edited, LocalFile)
        assert edited.size == len(b"edited")
        for name in ("0.mp4", "2.mp4"):
            assert isinstance(answers[names[name]], Unavailable | NotFound)
        same = answers[names["7.mp4"]]
        assert isinstance(same, LocalFile)
        assert same == await library.file(names["7.mp4"])
    finally:
        await library.stop()
        await media.stop()
