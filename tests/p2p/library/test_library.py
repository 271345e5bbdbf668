"""The library as a whole, with real files, a real reader, and changes while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
import errno
import os
from pathlib import Path
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any, NoReturn

import pytest

from p2p.core.errors import NoPicture, NotFound, Unavailable
from p2p.core.sqlite import StoreFull, has_room
from p2p.library import (
    Library,
    library as library_module,
    scan,
    share as shelf,
    shares as shares_module,
)
from p2p.library.migrations import STEPS
from p2p.library.share import Share
from p2p.media.reader import MediaReader
from p2p.models import (
    EngineConfig,
    Item,
    Kind,
    ProblemKey,
    ScanState,
    SearchQuery,
    ShareConfig,
)
from tests.p2p.media import make
from tests.patience import PATIENCE, Stopwatch, failing_once, until

from .conftest import settle
from .test_store import damage


class Running:
    """A library at work, and what it told."""

    def __init__(self, folder: Path, media: MediaReader) -> None:
        self.folder = folder
        self.root = folder / "share"
        self.changes = 0
        self.named: list[tuple[str, ...] | None] = []
        for name in ("data", "cache", "share"):
            (folder / name).mkdir(exist_ok=True)
        self.config = EngineConfig(
            home_name="Home",
            shares=(
                ShareConfig(
                    id="one", path=str(self.root), name="One", kinds=tuple(Kind)
                ),
            ),
        )
        self.media = media
        self.library = self._new()

    def _new(self) -> Library:
        return Library(
            data=self.folder / "data",
            cache=self.folder / "cache",
            media=self.media,
            on_change=self._changed,
            on_items=self.named.append,
        )

    def _changed(self) -> None:
        self.changes += 1

    def share(self, id_: str) -> Share:
        share = self.library._shares.get(id_)
        assert share is not None
        return share

    async def start(self) -> None:
        await self.library.start()
        await self.library.apply(self.config)

    async def restart(self) -> None:
        await self.library.stop()
        self.library = self._new()
        await self.start()

    def put(self, path: str, content: bytes = b"content") -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        settle(target)
        return target

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.02)

    async def idle(self, items: int) -> None:
        """Wait until so many items are there, and all was read."""
        await self.until(lambda: self.total == items)
        await self.until(
            lambda: self.library.scan_state is ScanState.IDLE and self._nothing_to_do()
        )

    @property
    def told(self) -> set[str]:
        """All items that were named as changed."""
        return {each for named in self.named if named for each in named}

    async def quiet(self) -> int:
        """Wait until nothing changes any more; return the revision."""
        revision = -1
        while revision != self.library.revision:
            revision = self.library.revision
            await asyncio.sleep(1)
        return revision

    def _nothing_to_do(self) -> bool:
        with self.library.store.read() as db:
            return (
                db.execute(
                    "SELECT 1 FROM items WHERE todo IS NOT NULL OR level IS NULL AND shown IS NOT NULL LIMIT 1"
                ).fetchone()
                is None
            )

    @property
    def total(self) -> int:
        counts = self.library.counts
        return counts.video + counts.music + counts.photo

    async def items(self) -> dict[str, Item]:
        """Return all items by their paths."""
        with self.library.store.read() as db:
            rows = db.execute(
                "SELECT row, nonce FROM items WHERE shown IS NOT NULL"
            ).fetchall()
        from p2p.library.ids import item_id

        found = [await self.library.item(item_id(*each)) for each in rows]
        return {
            f"{each.folder}/{each.name}" if each.folder else each.name: each
            for each in found
        }


@pytest.fixture
async def media() -> AsyncIterator[MediaReader]:
    reader = MediaReader()
    await reader.start()
    yield reader
    await reader.stop()


@pytest.fixture
async def running(tmp_path: Path, media: MediaReader) -> AsyncIterator[Running]:
    """A library with one share, not started yet."""
    made = Running(tmp_path, media)
    yield made
    await made.library.stop()


def media_files(root: Path) -> None:
    """Write a film with subtitles, a tagged song with a cover, and a dated photo."""
    for folder in ("Films", "Music", "Photos"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    make.film(root / "Films" / "Film.mp4")
    (root / "Films" / "Film.de.srt").write_text(
        "1\n00:00:00,000 --> 00:00:01,000\nHallo\n"
    )
    cover = make.jpeg(make.halves((64, 64)))
    make.tag(make.song(root / "Music" / "Song.mp3"), cover)
    make.photo(root / "Photos" / "Photo.jpg")
    for path in root.rglob("*.*"):
        settle(path)


async def test_a_fault_of_the_loop_that_tells_news_does_not_end_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.library.start()
    failed = failing_once(monkeypatch, running.library, "_on_change")
    running.put("a.mp4")
    await running.library.apply(running.config)
    await until(lambda: failed)
    await running.idle(1)
    running.put("b.mp4")
    running.library.rescan()
    await running.idle(2)
    assert running.changes


async def test_all_of_a_share_is_found_read_and_pictured(running: Running) -> None:
    media_files(running.root)
    await running.start()
    await running.idle(3)
    items = await running.items()
    film, song, photo = (
        items[path] for path in ("Films/Film.mp4", "Music/Song.mp3", "Photos/Photo.jpg")
    )
    assert (film.kind, film.width, film.height) == (Kind.VIDEO, 320, 180)
    assert film.duration == pytest.approx(2, abs=0.2)
    assert [(each.name, each.language) for each in film.subtitles] == [
        ("Film.de.srt", "de")
    ]
    assert song.title == make.TAGS["title"]
    assert photo.taken == "2023-07-14T18:03:22"
    assert {each.has_thumbnail for each in items.values()} == {True}
    assert len(list((running.folder / "cache" / "thumbnails").rglob("*.jpg"))) == 3
    for item in items.values():
        picture = await running.library.thumbnail(item.id)
        assert Path(picture.path).read_bytes().startswith(b"\xff\xd8")
        assert picture.content_type == "image/jpeg"
    found = await running.library.search(SearchQuery(text="film"))
    assert [each.id for each in found.items] == [film.id]
    text = await running.library.subtitles(film.id, 0)
    assert Path(text.path).read_text().startswith("WEBVTT")
    assert text.content_type == "text/vtt"
    with pytest.raises(NotFound):
        await running.library.subtitles(film.id, 1)
    months = await running.library.browse("all/photo/years/2023")
    assert [node.title for node in months.children] == ["7"]


async def test_broken_files_are_listed_with_their_fault(running: Running) -> None:
    running.put("Empty.mp4", b"")
    running.put("Noise.jpg", os.urandom(5000))
    running.put("Half.mp3", b"ID3")
    await running.start()
    await running.idle(3)
    for item in (await running.items()).values():
        assert item.fault
        with pytest.raises(NoPicture):
            await running.library.thumbnail(item.id)
        assert (await running.library.file(item.id)).size == item.size
    assert running.library.problems == ()


async def test_the_content_has_the_last_word_about_the_kind(running: Running) -> None:
    running.root.mkdir(exist_ok=True)
    make.song(running.root / "really a song.m4a").rename(
        running.root / "really a song.mp4"
    )
    settle(running.root / "really a song.mp4")
    await running.start()
    await running.idle(1)
    (item,) = (await running.items()).values()
    assert item.kind is Kind.MUSIC
    running.config = EngineConfig(
        home_name="Home",
        shares=(
            ShareConfig(
                id="one", path=str(running.root), name="One", kinds=(Kind.VIDEO,)
            ),
        ),
    )
    await running.library.apply(running.config)
    await running.until(lambda: running.total == 0)
    with pytest.raises(NotFound):
        await running.library.item(item.id)
    # The song is still there, and comes back with its id.
    running.config = EngineConfig(
        home_name="Home",
        shares=(
            ShareConfig(
                id="one", path=str(running.root), name="One", kinds=tuple(Kind)
            ),
        ),
    )
    await running.library.apply(running.config)
    await running.idle(1)
    assert (await running.library.item(item.id)).kind is Kind.MUSIC


async def test_everything_is_the_same_after_a_restart(running: Running) -> None:
    media_files(running.root)
    await running.start()
    await running.idle(3)
    before = await running.items()
    revision = running.library.revision
    await running.restart()
    await running.until(lambda: running.library.shares[0].available)
    assert await running.items() == before
    await running.idle(3)
    assert await running.items() == before
    assert running.library.revision >= revision


async def test_files_are_read_again_when_more_can_be_read(running: Running) -> None:
    media_files(running.root)
    known = running.media.capabilities
    running.media.capabilities = known | {"mutagen": None}
    await running.start()
    await running.idle(3)
    before = await running.items()
    running.media.capabilities = known
    running.named.clear()
    await running.restart()
    await running.idle(3)
    read = {each.id for each in before.values()}
    await running.until(lambda: read <= running.told)
    assert await running.items() == before


async def test_a_disk_that_goes_while_it_is_read_makes_no_file_faulty(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "PROBE_INTERVAL", 0.2)
    media_files(running.root)
    real = running.media.read

    async def unplugging(*args: Any, **kwargs: Any) -> Any:
        if running.root.exists():
            running.root.rename(running.folder / "unplugged")
        return await real(*args, **kwargs)

    running.media.read = unplugging  # type: ignore[method-assign]
    await running.start()
    await running.until(lambda: not running.root.exists())
    await running.until(lambda: not running.library.shares[0].available)
    assert {each.fault for each in (await running.items()).values()} == {None}
    running.media.read = real  # type: ignore[method-assign]
    (running.folder / "unplugged").rename(running.root)
    await running.idle(3)
    items = await running.items()
    assert {each.fault for each in items.values()} == {None}
    assert items["Films/Film.mp4"].width == 320


async def test_new_files_are_found_while_many_others_wait_to_be_read(
    running: Running,
) -> None:
    for number in range(20):
        running.put(f"{number}.jpg")
    blocked = asyncio.Event()
    real = running.media.read

    async def slow(*args: Any, **kwargs: Any) -> Any:
        await blocked.wait()
        return await real(*args, **kwargs)

    running.media.read = slow  # type: ignore[method-assign]
    await running.start()
    await running.until(lambda: running.total == 20)

    async def found() -> bool:
        return bool((await running.library.search(SearchQuery(text="13"))).items)

    await until(found)
    await running.until(lambda: running.library.scan_state is ScanState.READING)
    blocked.set()
    await running.idle(20)


# Changes while it runs.


async def test_a_new_file_is_seen_soon_after_it_settled(running: Running) -> None:
    running.put("old.jpg")
    await running.start()
    await running.idle(1)
    await running.until(lambda: running.share("one")._watcher is not None)
    await asyncio.sleep(1)
    (running.root / "sub" / "deep").mkdir(parents=True)
    path = running.root / "sub" / "deep" / "new.jpg"
    with path.open("wb") as file:
        for _ in range(4):
            file.write(b"x" * 1000)
            file.flush()
            await asyncio.sleep(0.5)
            assert running.total == 1
    with Stopwatch() as watch:
        await running.until(lambda: running.total == 2)
    assert (await running.items())["sub/deep/new.jpg"].size == 4000
    # 2 seconds on an idle machine; this one may be busy.
    assert watch.seconds < scan.SETTLE + 6


async def test_renames_and_removals_are_seen(running: Running) -> None:
    running.put("a/one.jpg")
    running.put("b/two.jpg")
    await running.start()
    await running.idle(2)
    before = await running.items()
    await running.until(lambda: running.share("one")._watcher is not None)
    await asyncio.sleep(1)
    running.named.clear()
    (running.root / "a").rename(running.root / "c")
    (running.root / "b" / "two.jpg").unlink()
    await running.until(lambda: running.total == 1)
    (after,) = (await running.items()).values()
    assert (after.folder, after.id) == ("c", before["a/one.jpg"].id)
    changed = {before["a/one.jpg"].id, before["b/two.jpg"].id}
    await running.until(lambda: changed <= running.told)
    with pytest.raises(NotFound):
        await running.library.file(before["b/two.jpg"].id)


async def test_subtitles_that_come_later_are_seen(running: Running) -> None:
    media_files(running.root)
    (running.root / "Films" / "Film.de.srt").unlink()
    await running.start()
    await running.idle(3)
    film = (await running.items())["Films/Film.mp4"]
    assert film.subtitles == ()
    (running.root / "Films" / "Film.en.vtt").write_text("WEBVTT\n")
    async with asyncio.timeout(PATIENCE):
        while not (await running.library.item(film.id)).subtitles:
            await asyncio.sleep(0.1)
    await running.until(lambda: film.id in running.told)


async def test_news_are_told_a_few_times_a_second_at_most(running: Running) -> None:
    for number in range(300):
        running.put(f"{number}.jpg")
    begun = time.monotonic()
    await running.start()
    await running.idle(300)
    assert 1 <= running.changes <= 4 * (time.monotonic() - begun) + 2


async def test_many_changes_are_not_named(running: Running) -> None:
    for number in range(700):
        running.put(f"folder/{number}.mp4", b"")
    await running.start()
    await running.until(lambda: running.total == 700)
    running.named.clear()
    shutil.rmtree(running.root / "folder")
    running.library.rescan()
    await running.until(lambda: running.total == 0)
    await running.until(lambda: None in running.named)


# Files.


async def test_a_file_that_changed_is_answered_as_it_is_now(running: Running) -> None:
    path = running.put("a.jpg", b"old")
    await running.start()
    await running.idle(1)
    (item,) = (await running.items()).values()
    before = await running.library.file(item.id)
    assert before.is_still(path.stat())
    assert before.etag == item.etag
    running.named.clear()
    path.write_bytes(b"new and longer")
    now = await running.library.file(item.id)
    assert now.is_still(path.stat())
    assert now.etag != before.etag
    assert (await running.library.item(item.id)).etag == now.etag
    await running.until(lambda: (item.id,) in running.named)


async def test_a_link_in_the_place_of_a_file_or_folder_leads_nowhere(
    running: Running, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (secret / name).write_bytes(b"secret")
    running.put("folder/a.jpg")
    running.put("b.jpg")
    await running.start()
    await running.idle(2)
    items = await running.items()
    (running.root / "folder").rename(tmp_path / "aside")
    (running.root / "folder").symlink_to(secret)
    (running.root / "b.jpg").unlink()
    (running.root / "b.jpg").symlink_to(secret / "b.jpg")
    for item in items.values():
        with pytest.raises(NotFound):
            await running.library.file(item.id)
        with pytest.raises(NotFound):
            await running.library.thumbnail(item.id)


@pytest.mark.parametrize("is_behind_a_link", [False, True])
async def test_a_link_in_the_place_of_a_root_is_not_followed(
    running: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_behind_a_link: bool,
) -> None:
    """Only where the user's own path leads when the share begins is shared."""
    monkeypatch.setattr(shelf, "PROBE_INTERVAL", 0.2)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "camera.jpg").write_bytes(b"secret")
    running.put("film.jpg")
    if is_behind_a_link:
        running.root.rename(tmp_path / "real")
        running.root.symlink_to("real")
    await running.start()
    await running.idle(1)
    (item,) = (await running.items()).values()
    path = running.root.resolve()
    assert (await running.library.file(item.id)).root == str(path)
    path.rename(tmp_path / "aside")
    path.symlink_to(secret)
    running.library.rescan(None)
    await running.until(lambda: bool(running.library.problems))
    await running.quiet()
    assert running.total == 1
    assert not running.library.shares[0].available
    with pytest.raises(Unavailable):
        await running.library.file(item.id)
    # What is put back is there again.
    path.unlink()
    (tmp_path / "aside").rename(path)
    await running.until(lambda: not running.library.problems)
    assert (await running.library.file(item.id)).root == str(path)


async def test_a_file_that_is_replaced_by_a_pipe_blocks_nothing(
    running: Running,
) -> None:
    path = running.put("a.jpg")
    await running.start()
    await running.idle(1)
    (item,) = (await running.items()).values()
    path.unlink()
    os.mkfifo(path)
    async with asyncio.timeout(5):
        with pytest.raises(NotFound):
            await running.library.file(item.id)


async def test_unknown_ids_are_not_found(running: Running) -> None:
    await running.start()
    for item_id in ("", "x", "a" * 26, "../../etc/passwd"):
        for question in (
            running.library.item,
            running.library.file,
            running.library.thumbnail,
        ):
            with pytest.raises(NotFound):
                await question(item_id)


# Pictures.


async def test_a_picture_is_made_once_for_all_who_ask(running: Running) -> None:
    media_files(running.root)
    await running.start()
    await running.idle(3)
    (item,) = (
        each for path, each in (await running.items()).items() if "Film." in path
    )
    shutil.rmtree(running.folder / "cache" / "thumbnails")
    asked = 0
    real = running.media.picture

    async def counted(*args: Any, **kwargs: Any) -> bool:
        nonlocal asked
        asked += 1
        return await real(*args, **kwargs)

    running.media.picture = counted  # type: ignore[method-assign]
    made = await asyncio.gather(
        *(running.library.thumbnail(item.id) for _ in range(20))
    )
    assert len({each.etag for each in made}) == 1
    assert asked == 1


async def test_a_picture_follows_its_file(running: Running) -> None:
    media_files(running.root)
    await running.start()
    await running.idle(3)
    item = (await running.items())["Photos/Photo.jpg"]
    before = await running.library.thumbnail(item.id)
    settle(make.photo(running.root / "Photos" / "Photo.jpg", size=(100, 200)))
    await running.library.file(item.id)
    after = await running.library.thumbnail(item.id)
    assert after.etag != before.etag
    assert not Path(before.path).exists()


async def test_what_is_left_over_in_the_cache_is_swept_out(running: Running) -> None:
    media_files(running.root)
    await running.start()
    await running.idle(3)
    pictures = running.folder / "cache" / "thumbnails"
    kept = set(pictures.rglob("*.jpg"))
    (pictures / "aa").mkdir(exist_ok=True)
    strangers = [
        pictures / "aa" / f"{'a' * 26}-0123456789abcdef.jpg",
        pictures / "aa" / "nonsense",
        next(iter(kept)).with_name(next(iter(kept)).name[:27] + "0" * 16 + ".jpg"),
    ]
    for stranger in strangers:
        stranger.write_bytes(b"x")
    await running.restart()
    await running.until(lambda: not any(each.exists() for each in strangers))
    assert set(pictures.rglob("*.jpg")) == kept


async def test_a_removed_share_leaves_nothing_behind(running: Running) -> None:
    media_files(running.root)
    await running.start()
    await running.idle(3)
    items = await running.items()
    await running.library.apply(EngineConfig(home_name="Home"))
    assert running.library.shares == ()
    assert running.total == 0 or running.library.counts.size == 0
    assert not list((running.folder / "cache").rglob("*.jpg"))
    for item in items.values():
        with pytest.raises(NotFound):
            await running.library.item(item.id)
    with running.library.store.read() as db:
        for table in ("items", "folders", "shares", "words", "months", "artists", "albums", "folder_kinds", "subtitles"):  # fmt: skip
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


# Shares that come and go.


async def test_an_unplugged_share_keeps_its_items_and_comes_back(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "PROBE_INTERVAL", 0.2)
    running.put("a/b.jpg")
    await running.start()
    await running.idle(1)
    before = await running.items()
    (item,) = before.values()
    running.root.rename(running.folder / "unplugged")
    await running.until(lambda: not running.library.shares[0].available)
    (problem,) = running.library.problems
    assert problem.key is ProblemKey.SHARE_UNAVAILABLE
    assert problem.share == "one"
    assert problem.placeholders == {"name": "One", "path": str(running.root)}
    assert (await running.library.item(item.id)).available is False
    assert running.total == 1
    for question in (running.library.file, running.library.thumbnail):
        with pytest.raises(Unavailable):
            await question(item.id)
    (running.folder / "unplugged").rename(running.root)
    await running.until(lambda: running.library.shares[0].available)
    assert running.library.problems == ()
    await running.idle(1)
    assert await running.items() == before
    assert await running.library.file(item.id)


async def test_a_share_that_was_away_at_the_start_is_found_later(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "PROBE_INTERVAL", 0.2)
    running.root.rmdir()
    await running.start()
    await running.until(lambda: bool(running.library.problems))
    running.put("a.jpg")
    await running.idle(1)
    assert running.library.problems == ()


async def test_a_configuration_is_applied_by_its_differences(
    running: Running, tmp_path: Path
) -> None:
    running.put("a.jpg")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "b.jpg").write_bytes(b"x")
    settle(tmp_path / "second" / "b.jpg")
    await running.start()
    await running.idle(1)
    before = await running.items()
    scanned = running.library.shares[0].last_scan
    at_work = running.share("one")
    one = running.config.shares[0]
    two = ShareConfig(
        id="two", path=str(tmp_path / "second"), name="Two", kinds=(Kind.PHOTO,)
    )
    renamed = ShareConfig(id="one", path=one.path, name="Renamed", kinds=one.kinds)
    await running.library.apply(
        EngineConfig(home_name="Other", shares=(renamed, two), rescan_interval=60)
    )
    await running.idle(2)
    assert running.share("one") is at_work
    assert running.library.shares[0].last_scan == scanned
    assert (await running.items())["a.jpg"] == before["a.jpg"]
    assert [each.id for each in running.library.shares] == ["one", "two"]
    revision = await running.quiet()
    await running.library.apply(
        EngineConfig(home_name="Other", shares=(renamed, two), rescan_interval=60)
    )
    assert running.library.revision == revision


async def test_a_share_may_move_to_another_path(running: Running) -> None:
    running.put("a/b.jpg")
    await running.start()
    await running.idle(1)
    before = await running.items()
    running.root.rename(running.folder / "elsewhere")
    one = running.config.shares[0]
    await running.library.apply(
        EngineConfig(
            home_name="Home",
            shares=(
                ShareConfig(
                    id="one",
                    path=str(running.folder / "elsewhere"),
                    name=one.name,
                    kinds=one.kinds,
                ),
            ),
        )
    )
    await running.until(lambda: running.library.shares[0].available)
    assert await running.items() == before
    (item,) = before.values()
    assert "/elsewhere/" in (await running.library.file(item.id)).path


async def test_only_known_shares_can_be_rescanned(running: Running) -> None:
    await running.start()
    running.library.rescan()
    running.library.rescan("one")
    with pytest.raises(NotFound):
        running.library.rescan("two")


async def test_a_share_on_a_disk_that_hangs_holds_up_nothing_else(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk hangs in `scandir`, which nothing can interrupt."""
    hung = threading.Event()
    bad_root = tmp_path / "hung"
    real = os.scandir

    def scandir(what: Any) -> Any:
        if (
            isinstance(what, int)
            and Path(f"/proc/self/fd/{what}").readlink() == bad_root
        ):
            hung.wait(PATIENCE)
        return real(what)

    bad_root.mkdir()
    running.put("a.jpg")
    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(shelf, "STOP_TIMEOUT", 0.2)
    try:
        one = running.config.shares[0]
        bad = ShareConfig(id="bad", path=str(bad_root), name="Bad", kinds=one.kinds)
        await running.library.start()
        await running.library.apply(EngineConfig(home_name="Home", shares=(bad, one)))
        await running.until(lambda: running.total == 1)
        (item,) = (await running.items()).values()
        async with asyncio.timeout(5):
            assert await running.library.file(item.id)
            await running.library.stop()
    finally:
        hung.set()


async def test_a_disk_that_hangs_takes_only_so_many_threads(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.put("a.jpg")
    await running.start()
    await running.idle(1)
    (item,) = (await running.items()).values()
    hung = threading.Event()

    def hang(*_: object) -> NoReturn:
        hung.wait(PATIENCE)
        raise FileNotFoundError

    monkeypatch.setattr(shares_module, "stat_beside", hang)
    monkeypatch.setattr(shares_module, "DISK_TIMEOUT", 0.3)

    def hanging() -> int:
        return sum("hang" in each.name for each in threading.enumerate())

    try:
        # A page of pictures, that is turned again and again.
        for _ in range(3):
            asked = [running.library.file(item.id) for _ in range(20)]
            for answer in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(answer, Unavailable)
        assert 1 <= hanging() <= shelf.LOOKS
    finally:
        hung.set()
        monkeypatch.undo()
    # It answers again.
    await until(lambda: not hanging())
    assert await running.library.file(item.id)


# Faults of the index.


async def test_an_index_that_breaks_while_it_is_used_is_made_again(
    running: Running,
) -> None:
    for number in range(1500):
        running.put(f"{number}.mp4", b"")
    await running.start()
    await running.until(lambda: running.total == 1500)
    await running.library.stop()
    damage(running.folder / "data" / "library.db")
    running.library = running._new()
    await running.start()
    running.library.rescan()
    await running.until(
        lambda: bool(list((running.folder / "data").glob("*.broken-*")))
    )
    await running.until(lambda: running.total == 1500)


async def test_an_index_of_a_newer_release_is_made_again(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    running.put("a.mp4", b"")
    path = running.folder / "data" / "library.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()
    await running.start()
    await running.idle(1)
    (aside,) = path.parent.glob("library.db.newer-*")
    assert "newer release" in caplog.text
    assert aside.name in caplog.text
    connection = sqlite3.connect(aside)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS) + 1,)
    connection.close()


async def test_a_full_cache_is_no_problem_any_more_once_there_is_room(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "ROOM_CHECK", 0.05)
    await asyncio.to_thread(make.film, running.root / "Film.mp4")
    settle(running.root / "Film.mp4")
    await running.start()
    await running.idle(1)
    (film,) = (await running.items()).values()

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    room = library_module.has_room
    monkeypatch.setattr(library_module, "has_room", lambda folder: False)
    shutil.rmtree(running.folder / "cache" / "thumbnails")
    with monkeypatch.context() as patch:
        patch.setattr(running.library._artwork._cache, "prepare", full)
        with pytest.raises(Unavailable, match="No space left"):
            await running.library.thumbnail(film.id)
    (problem,) = running.library.problems
    assert problem.key is ProblemKey.DISK_FULL
    assert problem.placeholders == {"path": str(running.folder / "cache")}
    changes = running.changes
    # Somebody made room, and nobody asks for a picture.
    monkeypatch.setattr(library_module, "has_room", room)
    await running.until(lambda: not running.library.problems)
    await running.until(lambda: running.changes > changes)


async def test_an_index_that_was_full_is_no_problem_any_more_once_there_is_room(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "ROOM_CHECK", 0.05)
    await running.start()
    await running.idle(0)
    room = library_module.has_room
    monkeypatch.setattr(library_module, "has_room", lambda folder: False)
    store = running.library.store

    def write_much() -> None:
        with store.write() as db:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
            db.execute(f"PRAGMA max_page_count = {pages}")
            db.execute("CREATE TABLE much (content)")
            db.execute("INSERT INTO much VALUES (zeroblob(1000000))")

    with pytest.raises(StoreFull):
        write_much()
    (problem,) = running.library.problems
    assert problem.key is ProblemKey.DISK_FULL
    monkeypatch.setattr(library_module, "has_room", room)
    # Nothing more is written meanwhile.
    await running.until(lambda: not running.library.problems)


def test_a_disk_has_room_if_something_can_be_written(tmp_path: Path) -> None:
    assert has_room(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not has_room(tmp_path / "missing")
    assert not has_room(Path("/proc"))


async def test_a_full_disk_is_a_problem_until_there_is_room(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "RETRY", 0.3)
    running.put("a.mp4", b"")
    await running.start()
    await running.idle(1)
    store = running.library.store
    with store.write() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(2000):
        running.put(f"{number} {'x' * 200}.mp4", b"")
    running.library.rescan()
    await running.until(lambda: bool(running.library.problems))
    (problem,) = running.library.problems
    assert problem.key is ProblemKey.DISK_FULL
    assert problem.placeholders == {"path": str(running.folder / "data")}
    assert running.total == 1
    with store.write() as db:
        db.execute("PRAGMA max_page_count = 1000000")
    await running.until(lambda: running.total == 2001)
    await running.until(lambda: running.library.problems == ())


# Watching.

LIMITED = """
    import asyncio, sys
    from pathlib import Path
    Path("/proc/sys/user/max_inotify_watches").write_text("5")
    from p2p.library import Library
    from p2p.media.reader import MediaReader
    from p2p.models import (EngineConfig, Kind, ShareConfig)

    async def main():
        folder = Path(sys.argv[1])
        media = MediaReader()
        library = Library(data=folder / "data", cache=folder / "cache", media=media,
                          on_change=lambda: None, on_items=lambda items: None)
        await library.start()
        share = ShareConfig(id="one", path=str(folder / "share"), name="One", kinds=tuple(Kind))
        await library.apply(EngineConfig(home_name="Home", shares=(share,)))
        async with asyncio.timeout(30):
            while not library.problems:
                await asyncio.sleep(0.05)
        (problem,) = library.problems
        print(problem.key, problem.placeholders["setting"], int(problem.placeholders["limit"]) > 0)
        (folder / "share" / "later.jpg").touch()
        library.rescan()
        async with asyncio.timeout(30):
            while library.counts.photo < 51:
                await asyncio.sleep(0.05)
        print("scanned")
        await library.stop()

    asyncio.run(main())
"""


async def test_the_limit_of_watched_folders_is_a_problem_and_scans_go_on(
    running: Running,
) -> None:
    """In a user namespace of its own, whose limit is its own."""
    for number in range(50):
        running.put(f"{number}/a.jpg")
    program = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--map-root-user", sys.executable, "-c"),
        *(textwrap.dedent(LIMITED), str(running.folder)),
        env={
            "PYTHONPATH": str(Path(scan.__file__).parents[2]),
            "PATH": os.environ["PATH"],
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await program.communicate()
    assert out.decode().splitlines() == [
        "inotify_limit fs.inotify.max_user_watches True",
        "scanned",
    ], err.decode()


async def test_links_out_of_the_share_are_not_watched(
    running: Running, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    for number in range(20):
        (outside / str(number)).mkdir(parents=True)
    running.put("a/b.jpg")
    (running.root / "link").symlink_to(outside)
    (running.root / ".hidden").mkdir()
    await running.start()
    await running.idle(1)
    await running.until(lambda: running.share("one")._watcher is not None)
    watcher = running.share("one")._watcher
    assert watcher is not None
    assert watcher.folders == {"", "a"}


# The end.


async def test_nothing_is_left_running(tmp_path: Path, media: MediaReader) -> None:
    before = set(threading.enumerate())
    made = Running(tmp_path, media)
    for number in range(50):
        made.put(f"{number}.jpg", b"")
    await made.start()
    await made.until(lambda: made.total > 0)
    await made.library.stop()

    def left() -> list[threading.Thread]:
        return [
            each
            for each in threading.enumerate()
            if each not in before and each.is_alive()
        ]

    await made.until(lambda: not left())
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "media reader" not in task.get_name()]


async def test_it_can_be_stopped_at_any_moment(
    tmp_path: Path, media: MediaReader
) -> None:
    made = Running(tmp_path, media)
    for number in range(400):
        made.put(f"{number % 20}/{number}.jpg", b"")
    for delay in (0, 0.01, 0.03, 0.1, 0.3, 1):
        await made.start()
        await asyncio.sleep(delay)
        async with asyncio.timeout(5):
            await made.library.stop()
        made.library = made._new()
    await made.start()
    await made.idle(400)
    await made.library.stop()


async def test_stopping_without_starting_is_fine(
    tmp_path: Path, media: MediaReader
) -> None:
    await Running(tmp_path, media).library.stop()
