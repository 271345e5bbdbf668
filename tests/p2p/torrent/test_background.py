"""The whole library gets hashed by itself, and stays hashed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
import os
from pathlib import Path

import pytest

from p2p.core.sqlite import StoreFull
from p2p.library import Library
from p2p.media.reader import MediaReader
from p2p.models import EngineConfig, Kind, Listed, LocalFile, ShareConfig
from p2p.torrent import background as background_module
from p2p.torrent.background import Background
from p2p.torrent.hashing import Hasher
from p2p.torrent.store import KEPT, SwarmStore, Version
from tests.p2p.torrent.owned import LONG_AGO, Folder, item_id
from tests.patience import until


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "PAUSE", 0.1)
    monkeypatch.setattr(background_module, "FULL", 0.1)
    monkeypatch.setattr(background_module, "PAGE", 7)


class Listing(Folder):
    """A folder with an index."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []
        self.rows: list[str] = []
        self.passes = 0
        """How often it was listed from the beginning."""

    def put(
        self, item: str, name: str, size: int = 3_000_000, at: float = LONG_AGO
    ) -> Path:
        if item not in self.rows:
            self.rows.append(item)
        return super().put(item, name, size, at)

    async def listed(self, after: int, limit: int) -> tuple[list[Listed], int | None]:
        self.passes += not after
        rows = self.rows[after : after + limit]
        found = []
        for item in rows:
            if item not in self.names:
                continue
            stat = self.path(item).stat()
            found.append(Listed(item, stat.st_size, stat.st_mtime_ns, stat.st_ino))
        return found, after + limit if len(rows) == limit else None

    async def file(self, item: str) -> LocalFile:
        self.asked.append(item)
        return await super().file(item)


@pytest.fixture
def library(tmp_path: Path) -> Listing:
    made = Listing(tmp_path / "share")
    for number in range(20):
        made.put(name(number), f"{number}.mp4", 300_000 if number else 0)
    return made


def name(number: int) -> str:
    return item_id(f"i{'abcdefghijklmnopqrstuvwxyz'[number]}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SwarmStore]:
    opened = SwarmStore(tmp_path / "swarm.db")
    opened.open()
    yield opened
    opened.close()


@asynccontextmanager
async def working(store: SwarmStore, library: Listing) -> AsyncIterator[Background]:
    hasher = Hasher(store)
    made = Background(store, hasher, library)
    made.start()
    try:
        yield made
    finally:
        await made.stop()
        await hasher.stop()


def all_hashed(background: Background, files: int = 20) -> Callable[[], bool]:
    return lambda: (
        background.progress.files == background.progress.hashed_files == files
        and not background.progress.working
    )


async def test_everything_is_hashed_once(store: SwarmStore, library: Listing) -> None:
    async with working(store, library) as background:
        await until(all_hashed(background))
        progress = background.progress
        assert progress.size == progress.hashed_size == 19 * 300_000
        # The empty one has nothing to hash.
        assert sorted(library.asked) == [name(number) for number in range(1, 20)]
        # Another pass begins only after all that the one before had to do.
        for _ in range(2):
            passes = library.passes
            background.items_changed()
            await until(lambda: library.passes > passes)  # noqa: B023 - awaited here
    async with working(store, library) as background:
        await until(all_hashed(background))
    assert len(library.asked) == 19


async def test_what_is_new_or_changed_follows(
    store: SwarmStore, library: Listing
) -> None:
    async with working(store, library) as background:
        await until(all_hashed(background))
        library.asked.clear()
        library.put(name(20), "20.mp4")
        library.put(name(3), "3.mp4", 400_000)
        library.path(name(4)).rename(library.root / "renamed.mp4")
        library.names[name(4)] = "renamed.mp4"
        background.items_changed()
        await until(all_hashed(background, 21))
        assert sorted(library.asked) == [name(3), name(20)]
        assert background.progress.size == 18 * 300_000 + 400_000 + 3_000_000


async def test_what_cannot_be_read_keeps_nothing_else_waiting(
    store: SwarmStore, library: Listing
) -> None:
    original = library.file

    async def file(item: str) -> LocalFile:
        if item == name(5):
            library.path(name(5)).rename(library.root / ".away")
            library.names.pop(name(5))
        return await original(item)

    library.file = file  # type: ignore[method-assign]
    async with working(store, library) as background:
        await until(lambda: background.progress.hashed_files == 19)
        background.items_changed()
        await until(all_hashed(background, 19))


async def test_what_is_still_being_written_waits(
    store: SwarmStore, library: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_module, "SETTLED", 2.5)
    os.utime(library.path(name(7)))
    async with working(store, library) as background:
        await until(lambda: background.progress.hashed_files == 19)
        assert not store.known([Version.of(await library.file(name(7)))], 0.0)
        # Nobody has to say that it has settled.
        await until(all_hashed(background))


async def test_what_cannot_be_kept_is_not_read_in_vain(
    store: SwarmStore, library: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        store.full = True
        raise StoreFull("no space left")

    async with working(store, library) as background:
        with monkeypatch.context() as patch:
            patch.setattr(store, "keep_hashes", full)
            await until(lambda: store.full)
            await asyncio.sleep(0.5)
            assert len(library.asked) == 1
        await until(all_hashed(background))
        assert not store.full


async def test_hashes_of_what_is_gone_for_long_are_forgotten(
    store: SwarmStore, library: Listing
) -> None:
    gone = Version(1, 2, 3)
    store.keep_hashes(gone, 1024, b"h" * 20, LONG_AGO - KEPT)
    async with working(store, library) as background:
        await until(all_hashed(background))
    assert not store.known([gone], LONG_AGO)


async def test_an_index_that_cannot_be_read_is_asked_again(
    store: SwarmStore, library: Listing
) -> None:
    original, faults = library.listed, 0

    async def listed(after: int, limit: int) -> tuple[list[Listed], int | None]:
        nonlocal faults
        faults += 1
        if faults < 3:
            raise background_module.EngineError("the index cannot be read")
        return await original(after, limit)

    library.listed = listed  # type: ignore[method-assign]
    async with working(store, library) as background:
        await until(all_hashed(background))


async def test_the_real_library_gets_hashed(store: SwarmStore, tmp_path: Path) -> None:
    for folder in ("data", "cache", "films/below"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(10):
        path = tmp_path / ("films/below" if number % 2 else "films") / f"{number}.mkv"
        path.write_bytes(os.urandom(300_000))
        os.utime(path, (LONG_AGO, LONG_AGO))
    media = MediaReader()
    library = Library(
        data=tmp_path / "data",
        cache=tmp_path / "cache",
        media=media,
        on_change=lambda: None,
        on_items=lambda _: background.items_changed(),
    )
    hasher = Hasher(store)
    background = Background(store, hasher, library)
    share = ShareConfig(
        id="s", path=str(tmp_path / "films"), name="Films", kinds=tuple(Kind)
    )
    await media.start()
    await library.start()
    try:
        background.start()
        await library.apply(EngineConfig(home_name="Home", shares=(share,)))
        await until(all_hashed(background, 10), 60)
        assert background.progress.size == 3_000_000
        for path in sorted((tmp_path / "films").rglob("*.mkv")):
            file = LocalFile.of(str(path), path.name, "video/x-matroska", path.stat())
            assert store.hashes(Version.of(file), 256 * 1024) is not None
    finally:
        await background.stop()
        await hasher.stop()
        await library.stop()
        await media.stop()
