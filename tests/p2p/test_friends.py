"""Two engines whose homes become friends in one network, and what they can do with each other then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from hashlib import sha256
import os
from pathlib import Path
import sqlite3
import sys
import tempfile
import time

import pytest

from tests.lab.engine_home import EngineHome, EngineHomeError

SIZE = 20_000_000
PYTHON = Path(sys.executable)


def fill(folder: Path, **files: int) -> Path:
    """Put films of random content into a folder, an hour old: what is new is left to settle first."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in files.items():
        film = folder / f"{name}.mp4"
        film.write_bytes(os.urandom(size))
        os.utime(film, (time.time() - 3600,) * 2)
    return folder


def digest(path: Path, start: int = 0, size: int | None = None) -> str:
    content = path.read_bytes()
    return sha256(content[start : None if size is None else start + size]).hexdigest()


@asynccontextmanager
async def two_homes() -> AsyncIterator[tuple[EngineHome, EngineHome, Path]]:
    """Ann, and Bob who shares two films; both see each other in the network."""
    with tempfile.TemporaryDirectory(prefix="pemus-") as name:
        folder = Path(name)
        films = fill(folder / "Films", Ocean=SIZE, Pond=100_000)
        async with AsyncExitStack() as stack:
            ann, bob = [
                await stack.enter_async_context(
                    EngineHome(
                        folder / each, python=PYTHON, name=each, log_level="debug"
                    )
                )
                for each in ("Ann", "Bob")
            ]
            await bob.share(films)
            await ann.sees(bob)
            await bob.sees(ann)
            yield ann, bob, films


async def test_a_friends_films_are_listed_and_played() -> None:
    async with two_homes() as (ann, bob, films):
        await ann.pair(bob)
        items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
        assert set(items) == {"Ocean", "Pond"}
        for title, item in items.items():
            assert await ann.play(bob, item) == digest(films / f"{title}.mp4")
        friend = await ann.friend(bob)
        assert (friend["name"], friend["online"], friend["path"]) == (
            "Bob",
            True,
            "lan",
        )
        assert not (await ann.peers())["pairings"]


async def test_what_is_small_comes_over_the_link_and_is_not_seeded() -> None:
    async with two_homes() as (ann, bob, films):
        await ann.pair(bob)
        items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
        assert await ann.play(bob, items["Pond"]) == digest(films / "Pond.mp4")
        assert (await bob.ask("GET", "status"))["swarm"]["active_seeds"] == 0
        assert await ann.play(bob, items["Ocean"]) == digest(films / "Ocean.mp4")
        with closing(sqlite3.connect(bob.folder / "data" / "swarm.db")) as db:
            granted = db.execute("SELECT item FROM grants").fetchall()
        assert granted == [(items["Ocean"],)]


async def test_what_came_over_a_link_is_counted_by_both_homes() -> None:
    async with two_homes() as (ann, bob, films):
        await ann.pair(bob)
        items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
        await ann.play(bob, items["Pond"])
        size = (films / "Pond.mp4").stat().st_size

        async def counted(home: EngineHome, figure: str) -> bool:
            return (await home.ask("GET", "status"))["swarm"][figure] >= size

        await ann.until(lambda: counted(ann, "downloaded"), "that bytes are counted")
        await bob.until(lambda: counted(bob, "uploaded"), "that bytes are counted")


async def test_a_seek_into_a_film_that_was_not_fetched_yet_works() -> None:
    async with two_homes() as (ann, bob, films):
        await ann.pair(bob)
        items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
        start = SIZE * 4 // 5
        played = await ann.play(bob, items["Ocean"], start, 100_000)
        assert played == digest(films / "Ocean.mp4", start, 100_000)


async def test_what_a_friend_shares_no_more_is_gone_within_seconds() -> None:
    async with two_homes() as (ann, bob, _):
        await ann.pair(bob)
        items = await ann.listed(bob, 2)
        await bob.befriend(ann, shares=())

        async def empty() -> bool:
            return (await ann.friend(bob))["items"] == 0

        await ann.until(empty, "an empty list", 10)
        with pytest.raises(EngineHomeError):
            await ann.play(bob, next(iter(items)))


async def test_a_friend_that_was_removed_gets_nothing_any_more() -> None:
    async with two_homes() as (ann, bob, _):
        await ann.pair(bob)
        items = await ann.listed(bob, 2)
        await bob.configure(friends=[])

        async def estranged() -> bool:
            return bool((await ann.friend(bob))["unfriended"])

        with pytest.raises(EngineHomeError):
            await ann.play(bob, next(iter(items)))
        await ann.until(estranged, "the end of a friendship", 20)


async def test_a_friend_that_went_away_is_shown_with_its_list_and_comes_back() -> None:
    async with two_homes() as (ann, bob, films):
        await ann.pair(bob)
        items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
        await bob.kill()

        async def away() -> bool:
            return not (await ann.friend(bob))["online"]

        await ann.until(away, "that Bob is away", 60)
        listing = await ann.ask(
            "GET", "browse", node=f"home/{bob.id}/all/video/folders"
        )
        assert listing["children"]
        assert not any(child["available"] for child in listing["children"])
        await bob.start()
        await ann.sees(bob)
        await bob.sees(ann)
        await ann.listed(bob, 2)
        assert await ann.play(bob, items["Ocean"]) == digest(films / "Ocean.mp4")


async def test_what_is_new_at_a_friend_shows_up() -> None:
    async with two_homes() as (ann, bob, films):
        await ann.pair(bob)
        await ann.listed(bob, 2)
        fill(films, Lake=1000)
        assert set((await ann.listed(bob, 3)).values()) == {"Ocean", "Pond", "Lake"}


async def test_a_friend_gets_no_more_per_second_than_it_was_granted() -> None:
    async with two_homes() as (ann, bob, films):
        await ann.pair(bob)
        items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
        await bob.befriend(ann, upload_limit=2_000_000)
        await ann.play(bob, items["Ocean"], 0, 1_000_000)
        begun = time.monotonic()
        played = await ann.play(bob, items["Ocean"], 4_000_000, 8_000_000)
        assert played == digest(films / "Ocean.mp4", 4_000_000, 8_000_000)
        # Read-ahead and bursts go first; without a limit it would be over in a moment.
        assert time.monotonic() - begun > 1.5


def change(film: Path) -> None:
    """Put another film of the same size in the place of one, as old as the others."""
    fresh = film.with_name(".fresh")
    fresh.write_bytes(os.urandom(film.stat().st_size))
    os.utime(fresh, (time.time() - 1800,) * 2)
    fresh.replace(film)


async def listed_again(ann: EngineHome, bob: EngineHome, old: str) -> None:
    """Wait until Ann's list of Bob has other versions of his items."""

    async def changed() -> bool:
        return versions(database_of(ann, bob)) != old

    await ann.until(changed, "that the list follows")


def versions(database: Path) -> str:
    with closing(sqlite3.connect(database)) as db:
        return str(
            db.execute("SELECT row, size, mtime_ns, inode FROM items").fetchall()
        )


def database_of(ann: EngineHome, bob: EngineHome) -> Path:
    return ann.folder / "cache" / "friends" / f"{bob.id}.db"


async def test_a_film_that_changed_at_a_friend_is_played_as_it_is_now() -> None:
    async with two_homes() as (ann, bob, films):
        await ann.pair(bob)
        items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
        for title, item in items.items():
            assert await ann.play(bob, item) == digest(films / f"{title}.mp4")
        before = versions(database_of(ann, bob))
        file = await ann.ask("GET", f"items/{bob.id}/{items['Ocean']}/file")
        change(films / "Ocean.mp4")
        await listed_again(ann, bob, before)
        played = await ann.play(bob, items["Ocean"])
        assert played == digest(films / "Ocean.mp4")
        now = await ann.ask("GET", f"items/{bob.id}/{items['Ocean']}/file")
        assert now["etag"] != file["etag"]
        # What did not change is not fetched once more, and needs no owner.
        before = versions(database_of(ann, bob))
        change(films / "Pond.mp4")
        await listed_again(ann, bob, before)
        await bob.kill()
        assert await ann.play(bob, items["Ocean"]) == played
        # The old version is not taken for the new one, which cannot be had now.
        with pytest.raises(EngineHomeError):
            await ann.play(bob, items["Pond"])


async def test_a_film_that_changes_while_it_is_played_does_not_go_on_as_another() -> (
    None
):
    async with two_homes() as (ann, bob, films):
        await ann.pair(bob)
        items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
        path = f"items/{bob.id}/{items['Ocean']}"
        await ann.play(bob, items["Ocean"])
        file = await ann.ask("GET", f"{path}/file")
        query = {"reader": "tv", "path": file["path"], "start": 0, "stop": 1000}
        assert await ann.ask("POST", f"{path}/wait", query)
        change(films / "Ocean.mp4")

        async def refused() -> bool:
            try:
                await ann.ask("POST", f"{path}/wait", query)
            except EngineHomeError:
                return True
            return False

        # All of it is here; it is refused none the less, without anybody asking for the file anew.
        await ann.until(refused, "that the former film ends")
        assert await ann.play(bob, items["Ocean"]) == digest(films / "Ocean.mp4")
