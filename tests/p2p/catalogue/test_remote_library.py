"""The library of another home, kept here: what arrived stays, what is hostile changes nothing, and all of it can be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
import contextlib
import copy
import json
import os
from pathlib import Path
import shutil
import tracemalloc
from typing import Any
import zlib

from hypothesis import HealthCheck, example, given, settings, strategies as st
import orjson
import pytest

from p2p.catalogue import receiver, remote_library, sender
from p2p.catalogue.remote_library import Applied, RemoteLibrary
from p2p.catalogue.wire import (
    MAX_DEPTH,
    MAX_PAGE,
    MAX_ROW,
    MAX_UNPACKED,
    BadCatalogue,
    read,
)
from p2p.core.errors import BadRequest, DiskFull, EngineError, NotFound, Unavailable
from p2p.core.sqlite import StoreError
from p2p.library.ids import item_id
from p2p.library.migrations import STEPS
from p2p.media.facts import MediaFacts
from p2p.models import Counts, Kind, SearchQuery
from tests.p2p.library.shelved import song
from tests.p2p.library.test_store import damage
from tests.patience import PATIENCE

from .friends import HOME, Friend, Owner, assert_same, packed


@pytest.fixture
def filled(owner: Owner) -> Owner:
    """A home of which it takes several pages to tell."""
    first, second = owner.share("First"), owner.share("Second")
    for number in range(600):
        owner.put(first, f"{number // 100}/{number}.jpg")
    owner.put(second, "Lake.mp4")
    owner.put(second, "Lake.srt")
    owner.put(second, "01.mp3", song("One", "Ada Moll", "Roads", track=1))
    owner.scan()
    return owner


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pages of a few hundred items."""
    monkeypatch.setattr(sender, "_PAGE", 256)


# What arrives.


@pytest.mark.usefixtures("small_pages")
async def test_what_arrived_counts_and_only_the_rest_is_told_later(
    filled: Owner, friend: Friend
) -> None:
    pages = await filled.pages(friend, filled.ids)
    assert len(pages) == 3
    await friend.library.apply(pages[0])
    await friend.restart()
    assert friend.total == 256
    folders = await friend.library.browse("all/photo/folders", online=True)
    assert folders.children
    found = await friend.library.search(SearchQuery(text="jpg", limit=500), online=True)
    assert len(found.items) == 256
    rest = await filled.pages(friend, filled.ids)
    assert len(rest) == 2
    for page in rest:
        await friend.library.apply(page)
    await assert_same(filled, friend, words=("17", "lake", "ada"))


@pytest.mark.usefixtures("small_pages")
async def test_lists_follow_while_more_arrives(
    filled: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_library, "SUMMARY_SECONDS", 0.0)
    monkeypatch.setattr(remote_library, "_SUMMARY_SHARE", 0)
    await friend.restart()
    totals = []
    for page in await filled.pages(friend, filled.ids):
        await friend.library.apply(page)
        totals.append(friend.total)
    assert totals == [256, 512, 602]


@pytest.mark.usefixtures("small_pages")
async def test_a_page_that_comes_twice_or_too_early_is_refused(
    filled: Owner, friend: Friend
) -> None:
    first, second, third = await filled.pages(friend, filled.ids)
    await friend.library.apply(first)
    before = friend.dump()
    for page in (first, third):
        with pytest.raises(BadCatalogue, match="sent already, or is missing"):
            await friend.library.apply(page)
    assert friend.dump() == before
    for page in (second, third):
        await friend.library.apply(page)
    await assert_same(filled, friend)


@pytest.mark.usefixtures("small_pages")
async def test_a_whole_list_goes_on_where_it_ended_whatever_changes_meanwhile(
    filled: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, _ = await filled.pages(friend, filled.ids)
    await friend.library.apply(first)
    # One that was told, one that was not, and a new one.
    share = filled.shares[0]
    Path(share.path, "0/7.jpg").unlink()
    Path(share.path, "5/555.jpg").unlink()
    filled.put(share, "0/new.jpg")
    filled.scan()
    rest = await filled.pages(friend, filled.ids)
    assert len(rest) == 2
    await friend.library.apply(rest[0])
    filled.put(share, "0/newer.jpg")
    filled.scan()
    await friend.restart()
    await filled.tell(friend)
    await assert_same(filled, friend)


@pytest.mark.usefixtures("small_pages")
async def test_many_changes_go_on_where_they_ended(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    for path in Path(filled.shares[0].path).rglob("*.jpg"):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    filled.scan()
    changes = await filled.pages(friend, filled.ids)
    await friend.library.apply(changes[0])
    await friend.restart()
    assert len(await filled.pages(friend, filled.ids)) == len(changes) - 1
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_after_a_contradiction_everything_is_told_again(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    await friend.library.distrust()
    # It is there meanwhile.
    assert friend.total == 602
    (applied,) = await filled.tell(friend)
    assert applied.changed_ids == ()
    await assert_same(filled, friend)


async def test_it_is_there_after_a_restart(filled: Owner, friend: Friend) -> None:
    await filled.tell(friend)
    counts, revision = friend.library.counts, friend.library.revision
    assert counts == Counts(video=1, music=1, photo=600, size=602 * 7)
    await friend.restart()
    assert (friend.library.counts, friend.library.revision) == (counts, revision)
    await assert_same(filled, friend)


async def test_a_transfer_tells_what_is_new(filled: Owner, friend: Friend) -> None:
    # At first everything is new, which is no news.
    (first,) = await filled.tell(friend)
    assert (first.new, first.count_new) == ((), 0)
    filled.put(
        filled.shares[1],
        "new.mp4",
        MediaFacts(kind=Kind.VIDEO, title="A New Film", has_picture=True),
    )
    filled.put(filled.shares[1], "other.mp4")
    filled.scan()
    (applied,) = await filled.tell(friend)
    assert {title for _, title in applied.new} == {"A New Film", "other"}
    assert applied.count_new == 2
    assert applied.changed_ids == ()
    for name, title in applied.new:
        assert (await friend.library.item(name, online=True)).title == title


async def test_a_transfer_tells_what_changed(filled: Owner, friend: Friend) -> None:
    await filled.tell(friend)
    found = await friend.library.search(SearchQuery(text="lake"), online=True)
    (film,) = (item.id for item in found.items)
    root = Path(filled.shares[1].path)
    (root / "Lake.mp4").rename(root / "Sea.mp4")
    filled.scan()
    revision = friend.library.revision
    (applied,) = await filled.tell(friend)
    # It is the same item, by another name.
    assert (applied.changed_ids, applied.count_new) == ((film,), 0)
    assert friend.library.revision > revision
    (root / "Sea.mp4").unlink()
    filled.scan()
    (applied,) = await filled.tell(friend)
    assert applied.changed_ids == (film,)
    with pytest.raises(NotFound):
        await friend.library.item(film, online=True)
    revision = friend.library.revision
    (applied,) = await filled.tell(friend)
    assert applied.changed_ids == ()
    assert friend.library.revision == revision


async def test_many_changes_are_not_named(filled: Owner, friend: Friend) -> None:
    await filled.tell(friend)
    first = filled.shares[0]
    for path in Path(first.path).rglob("*.jpg"):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    filled.scan()
    (applied,) = await filled.tell(friend)
    assert applied.changed_ids is None
    # Nor is it, where a whole share cannot be reached any more.
    filled.available.clear()
    (applied,) = await filled.tell(friend)
    assert applied.changed_ids is None


async def test_everything_is_greyed_while_the_home_is_away(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    online = await friend.library.browse("all/video/folders", online=True)
    offline = await friend.library.browse("all/video/folders", online=False)
    assert [each.id for each in offline.children] == [
        each.id for each in online.children
    ]
    assert any(each.available for each in online.children)
    assert not any(each.available for each in (offline.node, *offline.children))
    found = await friend.library.search(SearchQuery(text="lake"), online=False)
    assert [item.available for item in found.items] == [False]
    film = found.items[0].id
    assert not (await friend.library.item(film, online=False)).available
    assert (await friend.library.item(film, online=True)).available


async def test_nodes_and_items_that_are_none_are_not_found(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    for node in ("all/video/folders/999999", "item/" + "a" * 26, "id-third"):
        with pytest.raises(NotFound):
            await friend.library.browse(node, online=True)
    with pytest.raises(BadRequest):
        await friend.library.browse("../..", online=True)
    with pytest.raises(NotFound):
        await friend.library.item("no id", online=True)


async def test_an_owner_whose_index_was_made_anew_is_told_of_afresh(
    filled: Owner, friend: Friend
) -> None:
    """Rows, folders and shares have other meanings then, though the same numbers."""
    await filled.tell(friend)
    filled.store.close()
    filled.store.path.unlink()
    filled.store.open()
    first, second = filled.shares
    shutil.rmtree(first.path)
    filled.put(first, "0/0/0.jpg")
    filled.put(first, "other/5.mp4")
    filled.shares = [second, first]
    filled.scan()
    await filled.tell(friend)
    await filled.tell(friend)
    await assert_same(filled, friend)


@pytest.mark.parametrize("changes", [0, 1, 5])
@pytest.mark.parametrize("changes_after", [0, 1, 5])
async def test_a_backup_that_was_restored_is_told_of(
    filled: Owner, friend: Friend, tmp_path: Path, changes: int, changes_after: int
) -> None:
    """The same sequences mean something else then."""
    share = filled.shares[0]
    if changes != 1:
        await filled.tell(friend)
    filled.store.close()
    shutil.copy(filled.store.path, tmp_path / "backup")
    filled.store.open()
    for number in range(changes):
        filled.put(share, f"one/{number}.mp4")
        filled.scan()
        await filled.tell(friend)
    filled.store.close()
    shutil.copy(tmp_path / "backup", filled.store.path)
    filled.store.open()
    if changes:
        Path(share.path, "one").rename(Path(share.path, "two"))
    for number in range(changes_after):
        filled.put(share, f"alpha/{number}.mp4")
        filled.scan()
    filled.scan()
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_a_copy_of_the_index_that_goes_its_own_way_is_told_of(
    filled: Owner, friend: Friend, tmp_path: Path
) -> None:
    await filled.tell(friend)
    for number in range(3):
        filled.store.close()
        other = tmp_path / f"copy {number}"
        shutil.copy(filled.store.path, other)
        filled.store.open()
        filled.put(filled.shares[0], f"{number}/here.mp4")
        filled.scan()
        await filled.tell(friend)
        await assert_same(filled, friend)
        filled.store.close()
        shutil.copy(other, filled.store.path)
        filled.store.open()
        filled.put(filled.shares[0], f"{number}/there.mp4")
        filled.scan()
        await filled.tell(friend)
        await assert_same(filled, friend)


# What is hostile.


def small() -> dict[str, Any]:
    """Return a page that says little, and is right."""
    film = {
        "row": 1,
        "nonce": "00" * 10,
        "folder": 2,
        "kind": "video",
        "name": "film.mp4",
        "size": 7,
        "mtime_ns": 1_600_000_000_000_000_000,
        "inode": 5,
        "added": 1.6e9,
        "pictured": True,
        "facts": {"title": "A Film", "duration": 60.5, "content_type": "video/mp4"},
        "subtitles": [
            {"name": "film.de.srt", "size": 5, "mtime_ns": 1, "language": "de"}
        ],
    }
    tune = film | {
        "row": 2,
        "kind": "music",
        "name": "tune.mp3",
        "facts": {"artist": "Ada", "track": 1},
        "group": {
            "artist_key": "0" * 20,
            "artist_name": "Ada",
            "album_key": "_",
            "album_name": None,
            "album_by": None,
            "position": 0,
        },
    }
    photo = film | {
        "row": 3,
        "kind": "photo",
        "name": "photo.jpg",
        "facts": {"taken": "2023-07-14T18:03:22"},
        "month": 202307,
        "moment": 1.6e9,
    }
    del tune["subtitles"], photo["subtitles"]
    return {
        "format": 1,
        "checkpoint": {"sequence": 5, "id": -7},
        "shares": [
            {
                "number": 1,
                "id": "one",
                "name": "One",
                "kinds": ["video", "music", "photo"],
                "available": True,
            }
        ],
        "folders": [
            {"number": 1, "share": 1},
            {"number": 2, "parent": 1, "name": "Films"},
        ],
        "parts": [
            {
                "share": 1,
                "whole": True,
                "after": -1,
                "until": MAX_ROW,
                "items": [film, tune, photo],
            }
        ],
        "last": True,
    }


def but(*path: str | int, value: object = ...) -> dict[str, Any]:
    """Return the small page with something else in one place, or nothing there."""
    page = small()
    place: Any = page
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return page


def film_but(field: str, value: object = ...) -> dict[str, Any]:
    return but("parts", 0, "items", 0, field, value=value)


def fact(name: str, value: object) -> dict[str, Any]:
    return but("parts", 0, "items", 0, "facts", name, value=value)


def deep(levels: int, name: str = "x") -> dict[str, Any]:
    page = small()
    page["folders"] += [
        {"number": number, "parent": number - 1, "name": name}
        for number in range(3, levels + 2)
    ]
    return page


async def test_the_small_page_is_right(friend: Friend) -> None:
    applied = await friend.library.apply(packed(small()))
    assert applied.done
    assert friend.total == 3
    film = await friend.library.item(item_id(1, bytes(10)), online=True)
    assert (film.folder, film.name, film.title) == ("Films", "film.mp4", "A Film")
    friend.check()


@pytest.mark.parametrize(
    "page",
    [
        film_but("future", value={"a": [1]}),
        but("future", value="more"),
        fact("future", [1]),
        fact("orientation", 7),
        but("folders", 1, "future", value=1),
        deep(MAX_DEPTH),
        film_but("name", "x" * 255),
        film_but("name", "ü\U0001f600\u200d 東京"),
        film_but("inode", -(2**63)),
        film_but("mtime_ns", -(10**18)),
        film_but("subtitles"),
        film_but("facts"),
        film_but("pictured"),
        but("parts", 0, "items"),
        but("parts"),
    ],
)
async def test_more_and_less_may_be_said(friend: Friend, page: dict[str, Any]) -> None:
    await friend.library.apply(packed(page))
    friend.check()


def changes(**part: object) -> dict[str, Any]:
    """Return a page that follows on the small one and says that its film changed, or with other things in its part."""
    page = small()
    film, *_ = page["parts"][0]["items"]
    page["parts"] = [
        {
            "share": 1,
            "after": 5,
            "until": 9,
            "items": [film | {"name": "other.mp4"}],
            "gone": [2],
        }
        | part
    ]
    return page | {"checkpoint": {"sequence": 9, "id": 8}}


async def test_the_small_changes_are_right(friend: Friend) -> None:
    await friend.library.apply(packed(small()))
    applied = await friend.library.apply(packed(changes()))
    assert len(applied.changed_ids or ()) == 2
    assert friend.total == 2
    with pytest.raises(BadCatalogue, match="sent already"):
        await friend.library.apply(packed(changes()))
    await friend.library.apply(packed(changes(after=9, items=[], gone=[])))
    friend.check()


async def test_a_share_takes_nothing_away_that_lies_in_another_one(
    friend: Friend,
) -> None:
    page = small()
    page["shares"].append(page["shares"][0] | {"number": 2, "id": "two"})
    page["folders"].append({"number": 9, "share": 2})
    page["parts"].append(page["parts"][0] | {"share": 2, "items": []})
    await friend.library.apply(packed(page))
    other = changes(share=2, items=[], gone=[1, 2, 3])
    await friend.library.apply(
        packed(page | {"parts": other["parts"]} | {"checkpoint": other["checkpoint"]})
    )
    assert friend.total == 3
    film = page["parts"][0]["items"][0] | {"folder": 1}
    theirs = changes(share=2, after=9, until=10, items=[film], gone=[])["parts"]
    later = {"parts": theirs, "checkpoint": {"sequence": 10, "id": 9}}
    with pytest.raises(BadCatalogue, match="lies nowhere"):
        await friend.library.apply(packed(page | later))
    friend.check()


BAD_NAMES = (
    "",
    ".",
    "..",
    "a/b",
    "/",
    "a\nb",
    "a\x00b",
    "a\u202eb",
    "a\u2028b",
    "x" * 256,
    None,
    5,
    ["x"],
)

BAD_PAGES: list[object] = [
    None,
    5,
    "text",
    [],
    {},
    but("format"),
    but("format", value=2),
    but("format", value=True),
    but("checkpoint"),
    but("checkpoint", value=5),
    but("checkpoint", "sequence"),
    but("checkpoint", "sequence", value=-1),
    but("checkpoint", "sequence", value=2**63),
    but("checkpoint", "id", value="5"),
    but("checkpoint", "id", value=2**63),
    but("last", value=1),
    # Shares.
    but("shares", value=5),
    but("shares", value=[]),
    but("shares", value=small()["shares"] * 2),
    but("shares", value=[small()["shares"][0] | {"number": n} for n in range(1, 300)]),
    but("shares", 0, "number", value=2),
    but("shares", 0, "number", value=0),
    but("shares", 0, "number", value=2**63),
    but("shares", 0, "id", value="all"),
    but("shares", 0, "id", value="item"),
    but("shares", 0, "id", value="home"),
    but("shares", 0, "id", value="A/b"),
    but("shares", 0, "id", value=""),
    but("shares", 0, "id", value="x" * 65),
    but("shares", 0, "name", value="a\nb"),
    but("shares", 0, "name", value="x" * 256),
    but("shares", 0, "kinds", value=[]),
    but("shares", 0, "kinds", value=["video", "video"]),
    but("shares", 0, "kinds", value=["books"]),
    but("shares", 0, "available", value="yes"),
    # Folders.
    but("folders", value=[]),
    but("folders", value=5),
    but("folders", value=small()["folders"] * 2),
    but("folders", value=small()["folders"][::-1]),
    but("folders", 0, "share", value=2),
    but("folders", 0, "share"),
    but("folders", 0, "name", value="x"),
    but("folders", 0, "number", value=0),
    but("folders", 0, "number", value=10**15),
    but("folders", 1, "number", value=1),
    but("folders", 1, "parent", value=2),
    but("folders", 1, "parent", value=3),
    but("folders", 1, "share", value=1),
    *(but("folders", 1, "name", value=name) for name in BAD_NAMES),
    deep(MAX_DEPTH + 1),
    deep(20, "x" * 255),
    # Parts.
    but("parts", value=5),
    but("parts", value=[5]),
    but("parts", value=small()["parts"] * 2),
    but("parts", 0, "share"),
    but("parts", 0, "share", value=0),
    but("parts", 0, "share", value=2),
    but("parts", 0, "share", value=2**63),
    but("parts", 0, "whole"),
    but("parts", 0, "whole", value=1),
    but("parts", 0, "after"),
    but("parts", 0, "after", value=-2),
    but("parts", 0, "after", value=0),
    but("parts", 0, "after", value=1),
    but("parts", 0, "after", value=-1.0),
    but("parts", 0, "after", value="0"),
    but("parts", 0, "until"),
    but("parts", 0, "until", value=2**48),
    but("parts", 0, "until", value=2),
    but("parts", 0, "until", value=-1),
    but("parts", 0, "until", value=None),
    but("parts", 0, "gone", value=[7]),
    changes(share=2),
    changes(whole=True),
    changes(whole=True, gone=[]),
    changes(after=4),
    changes(after=6),
    changes(after=-1),
    changes(after=None),
    changes(until=10),
    changes(until=5),
    changes(until=4),
    changes(gone=5),
    changes(gone=[1]),
    changes(gone=["2"]),
    changes(gone=[-1]),
    changes(gone=[2**48]),
    changes(items=small()["parts"][0]["items"] * 2),
    but("parts", 0, "items", value=5),
    but("parts", 0, "items", value=None),
    but("parts", 0, "items", value={"a": 1}),
    but("parts", 0, "items", value=[5]),
    but("parts", 0, "items", value=[[]]),
    but("parts", 0, "items", value=small()["parts"][0]["items"] * 2),
    but("parts", 0, "items", value=small()["parts"][0]["items"][::-1]),
    # Items.
    *(
        film_but(field)
        for field in (
            "row",
            "nonce",
            "folder",
            "kind",
            "name",
            "size",
            "mtime_ns",
            "inode",
            "added",
        )
    ),
    *(film_but("name", name) for name in BAD_NAMES),
    film_but("row", -1),
    film_but("row", 1.0),
    film_but("row", True),
    film_but("row", "1"),
    film_but("nonce", "00"),
    film_but("nonce", "zz" * 10),
    film_but("nonce", 5),
    film_but("folder", 9),
    film_but("folder", "2"),
    film_but("folder", True),
    film_but("kind", "book"),
    film_but("kind", 0),
    film_but("kind", ["video"]),
    film_but("size", -1),
    film_but("size", 2**51),
    film_but("size", 1.5),
    film_but("mtime_ns", 2**63),
    film_but("inode", 2**64),
    film_but("added", 1e300),
    film_but("added", "now"),
    film_but("added", None),
    film_but("pictured", "yes"),
    film_but("facts", []),
    film_but("facts", None),
    fact("title", 5),
    fact("title", "x" * 501),
    fact("title", "a\x07b"),
    fact("title", None),
    fact("fault", "a\nb"),
    fact("content_type", "image/svg+xml"),
    fact("content_type", "text/html"),
    fact("content_type", "video/mp4; a=b"),
    fact("content_type", "video/mp4\n"),
    fact("content_type", 5),
    fact("duration", -1),
    fact("duration", 1e300),
    fact("duration", True),
    fact("width", -1),
    fact("width", 1.5),
    fact("year", 2**41),
    fact("taken", "yesterday"),
    fact("taken", "2023-07-14T18:03:22" + " " * 100),
    fact("taken", 2023),
    film_but("month", 202313),
    film_but("month", 202300),
    film_but("month", 99),
    film_but("month", 1_000_001),
    film_but("month", None),
    film_but("month", 202307),
    but("parts", 0, "items", 2, "moment"),
    but("parts", 0, "items", 2, "moment", value=1e300),
    film_but("group", None),
    film_but("group", {}),
    but("parts", 0, "items", 1, "group", "artist_key", value="../.."),
    but("parts", 0, "items", 1, "group", "album_key", value=None),
    but("parts", 0, "items", 1, "group", "artist_name", value="a\nb"),
    but("parts", 0, "items", 1, "group", "album_by", value=5),
    but("parts", 0, "items", 1, "group", "position", value=-1),
    film_but("subtitles", 5),
    film_but("subtitles", [5]),
    film_but("subtitles", [{}]),
    film_but("subtitles", {"name": "x"}),
    film_but("subtitles", small()["parts"][0]["items"][0]["subtitles"] * 101),
    *(
        but("parts", 0, "items", 0, "subtitles", 0, field, value=value)
        for field, value in (
            *(("name", name) for name in BAD_NAMES),
            ("size", -1),
            ("mtime_ns", 2**63),
            ("language", "x"),
            ("language", None),
            ("language", "de\n"),
        )
    ),
]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is used in many tests."""
    return tmp_path_factory.mktemp("patient")


@pytest.mark.parametrize("page", BAD_PAGES, ids=lambda page: json.dumps(page)[-60:])
async def test_a_page_that_is_not_right_changes_nothing(
    friend: Friend, page: object
) -> None:
    await friend.library.apply(packed(but("parts", 0, "items", 0, "name", value="x")))
    before = friend.dump()
    # Another transfer begins.
    await friend.library.have()
    with pytest.raises(BadCatalogue):
        await friend.library.apply(packed(page))
    assert friend.dump() == before
    assert friend.total == 3


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"no page",
        os.urandom(1000),
        packed(small())[:-1],
        packed(small())[:20],
        packed(small()) + b"\x00",
        packed(small()) * 2,
        zlib.compress(b"\xff\xfe"),
        zlib.compress(b'{"format": NaN}'),
        zlib.compress(b'{"format": 1e999}'),
        zlib.compress(b'{"format": 1, "x": "\\ud800"}'),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b'{"a":' * 100_000),
        zlib.compress(bytes(MAX_UNPACKED + 1), 9),
        zlib.compress(bytes(200 * 1024 * 1024), 9),
        os.urandom(MAX_PAGE + 1),
    ],
)
async def test_bytes_that_are_no_page_change_nothing(
    friend: Friend, payload: bytes
) -> None:
    before = friend.dump()
    with pytest.raises(BadCatalogue):
        await friend.library.apply(payload)
    assert friend.dump() == before


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to everything in parsed JSON."""
    found = [path] if path else []
    if isinstance(value, dict):
        inner: Any = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        return found
    for step, each in inner:
        found += _places(each, (*path, step))
    return found


PLACES = _places(small())
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(-(2**64), 2**64 - 1).filter(lambda n: n >= -(2**63)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["video", "music", "_", "..", "a/b", "00" * 8, "00" * 10]),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.sampled_from(["row", "number", "name"]), st.integers(0, 3)),
    st.sampled_from([small()["folders"], small()["shares"], small()["parts"]]),
    st.just(...),
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    pages=st.lists(
        st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING), min_size=1, max_size=3),
        min_size=1,
        max_size=4,
    )
)
@example(pages=[[(("folders",), small()["folders"]), (("last",), False)]])
async def test_whatever_is_said_is_taken_as_a_whole_or_refused(
    patient: Path, pages: list[list[tuple[tuple[Any, ...], Any]]]
) -> None:
    friend = Friend(patient)
    await friend.library.open()
    try:
        await friend.library.apply(packed(small()))
        for changes in pages:
            page = small()
            for path, value in changes:
                _put(page, path, value)
            before = friend.dump()
            await friend.library.have()
            try:
                await friend.library.apply(packed(page))
            except BadCatalogue:
                assert friend.dump() == before
            await _look_around(friend)
        friend.check()
    finally:
        await friend.library.remove()


def _put(page: Any, path: tuple[Any, ...], value: Any) -> None:
    """Put something into a place, or take it away, if it is still there."""
    *way, last = path
    with contextlib.suppress(LookupError, TypeError):
        for step in way:
            page = page[step]
        if value is ...:
            del page[last]
        else:
            page[last] = copy.deepcopy(value)


async def _look_around(friend: Friend) -> None:
    """Open everything that can be reached."""
    waiting, seen = [""], {""}
    while waiting:
        found = await friend.library.browse(waiting.pop(), online=True)
        for child in found.children:
            if child.id not in seen:
                seen.add(child.id)
                waiting.append(child.id)
    await friend.library.search(SearchQuery(text="film"), online=True)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 500), st.integers(0, 255))
def test_whatever_bytes_come_are_read_or_refused(
    noise: bytes, place: int, byte: int
) -> None:
    right = orjson.dumps(small())
    broken = bytearray(right)
    broken[place % len(broken)] = byte
    for payload in (noise, zlib.compress(noise), zlib.compress(bytes(broken))):
        with contextlib.suppress(BadCatalogue):
            read(payload)


async def test_folders_that_change_their_places_never_go_round_in_circles(
    friend: Friend,
) -> None:
    """What was told of before is dropped where it would lie elsewhere now."""
    page = small()
    page["parts"] = []

    async def told(*folders: tuple[int, int, str]) -> None:
        page["folders"] = [
            {"number": 1, "share": 1},
            *(
                {"number": number, "parent": parent, "name": name}
                for number, parent, name in folders
            ),
        ]
        await friend.library.apply(packed(page))

    await friend.library.apply(packed(small()))
    await told((2, 1, "a"), (3, 2, "b"))
    await told((3, 1, "b"), (2, 3, "a"))
    await told((3, 1, "b"))
    await told((2, 1, "a"), (3, 2, "b"), (4, 3, "c"), (5, 4, "d"))
    await told((5, 1, "d"), (4, 5, "c"), (2, 4, "a"))
    await _look_around(friend)
    friend.check()
    with friend.store.read() as db:
        assert not db.execute(
            "SELECT 1 FROM folders WHERE parent NOT IN (SELECT number FROM folders)"
        ).fetchall()


async def test_a_home_can_have_no_more_items_than_it_may(
    filled: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_library, "MAX_ITEMS", 500)
    before = friend.dump()
    with pytest.raises(BadCatalogue):
        await filled.tell(friend)
    assert friend.dump() == before
    monkeypatch.setattr(remote_library, "MAX_ITEMS", 603)
    await filled.tell(friend)
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_a_home_can_take_no_more_room_than_it_may(
    filled: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with friend.store.read() as db:
        monkeypatch.setattr(
            remote_library, "MAX_DATABASE", remote_library._size(db) + 50_000
        )
    before = friend.dump()
    with pytest.raises(BadCatalogue):
        await filled.tell(friend)
    assert friend.dump() == before


def siblings(count: int, name: str) -> dict[str, Any]:
    """Return a page with folders next to each other, as deep as they may lie."""
    page = deep(16, "x" * 230)
    page["parts"] = []
    page["folders"] += [
        {"number": 100 + number, "parent": 17, "name": f"{name}{number}"}
        for number in range(count)
    ]
    return page


async def test_folders_cost_what_is_written_for_them(
    friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page names folders; here each of them has its whole path."""
    monkeypatch.setattr(remote_library, "SUMMARY_SECONDS", 3600.0)
    await friend.restart()
    paths = 1000 * 15 * 231

    async def work(page: dict[str, Any]) -> int:
        return (await friend.library.apply(packed(page | {"last": False}))).work

    assert await work(siblings(1000, "a")) > 2 * paths
    assert await work(siblings(1000, "b")) > 2 * paths
    assert await work(siblings(1000, "b")) < paths
    other_root = {"folders": [{"number": 9, "share": 1}], "parts": []}
    assert await work(small() | other_root) > 1000 * receiver.REMOVAL


async def test_the_paths_in_a_page_are_only_so_long(friend: Friend) -> None:
    before = friend.dump()
    with pytest.raises(BadCatalogue, match="too long"):
        await friend.library.apply(packed(siblings(5000, "a")))
    assert friend.dump() == before
    await friend.library.apply(packed(siblings(4000, "a")))


# What goes wrong.


async def test_a_disk_that_is_full_is_told_so_and_nothing_changes(
    filled: Owner, friend: Friend
) -> None:
    pages = await filled.pages(friend, filled.ids)
    before = friend.dump()
    with friend.store.write() as db:
        (most,) = db.execute("PRAGMA max_page_count").fetchone()
        db.execute("PRAGMA max_page_count = 50")
    with pytest.raises(DiskFull):
        await friend.library.apply(pages[0])
    assert friend.library.full
    assert friend.dump() == before
    with friend.store.write() as db:
        db.execute(f"PRAGMA max_page_count = {most}")
    await filled.tell(friend)
    assert not friend.library.full
    await assert_same(filled, friend)


async def test_a_database_that_is_damaged_is_told_afresh(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    await friend.library.close()
    damage(friend.store.path)
    friend.library = RemoteLibrary(friend.folder, HOME)
    await friend.library.open()
    for ask in (
        lambda: friend.library.browse("", online=True),
        lambda: friend.library.search(SearchQuery(text="lake"), online=True),
        friend.library.have,
    ):
        await ask()
    await _told_in_the_end(filled, friend)


async def test_damage_that_is_found_while_a_page_is_taken_ends_the_transfer(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    shutil.rmtree(filled.shares[0].path)
    filled.put(filled.shares[0], "only.mp4")
    filled.scan()
    pages = await filled.pages(friend, filled.ids)
    with friend.store.write() as db:
        db.execute("DELETE FROM words_data")
    answers = [await _answer(friend.library.apply(page)) for page in pages]
    assert any(isinstance(answer, Unavailable) for answer in answers)
    assert friend.total == 0
    await _told_in_the_end(filled, friend)


async def _answer(asked: Awaitable[Applied]) -> Applied | EngineError:
    try:
        return await asked
    except EngineError as err:
        return err


async def _told_in_the_end(owner: Owner, friend: Friend) -> None:
    """Tell as often as it takes, as homes do."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await owner.tell(friend)
                break
            except EngineError:
                continue
    await assert_same(owner, friend)
    assert sorted(path.name for path in friend.folder.glob("*.broken-*")) == []


@pytest.mark.parametrize("content", [b"no database at all" * 1000, b"", b"SQLite"])
async def test_a_file_that_is_no_database_gives_way(
    filled: Owner, tmp_path: Path, content: bytes
) -> None:
    folder = tmp_path / "friend"
    folder.mkdir()
    (folder / f"{HOME}.db").write_bytes(content)
    friend = Friend(folder)
    await friend.library.open()
    await filled.tell(friend)
    await assert_same(filled, friend)
    await friend.library.close()


async def test_a_database_of_a_newer_release_gives_way(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    with friend.store.write() as db:
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    await friend.restart()
    assert friend.total == 0
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_what_was_told_in_another_format_is_told_again(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    with friend.store.write() as db:
        db.execute("UPDATE state SET value = 0 WHERE key = 'format'")
    await friend.restart()
    # It is there meanwhile.
    assert friend.total == 602
    assert await friend.library.have() == '{"shares":[]}'
    (applied,) = await filled.tell(friend)
    assert applied.changed_ids == ()
    await assert_same(filled, friend)


async def test_a_folder_that_cannot_be_written_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    library = RemoteLibrary(tmp_path / "file", HOME)
    with pytest.raises(StoreError):
        await library.open()
    for ask in (
        library.have,
        lambda: library.apply(packed(small())),
        lambda: library.browse("", online=True),
    ):
        with pytest.raises(Unavailable):
            await ask()
    await library.close()


@pytest.mark.parametrize("home", ["", "../x", "a" * 28, "A" * 27, "A" * 28 + "\n"])
def test_only_a_home_has_a_library(tmp_path: Path, home: str) -> None:
    with pytest.raises(ValueError):
        RemoteLibrary(tmp_path, home)


async def test_what_is_removed_leaves_nothing(filled: Owner, friend: Friend) -> None:
    other = RemoteLibrary(friend.folder, "B" * 28)
    await other.open()
    await other.close()
    await filled.tell(friend)
    await friend.library.remove()
    assert [path.name for path in friend.folder.iterdir()] == [f"{'B' * 28}.db"]
    with pytest.raises(Unavailable):
        await friend.library.browse("", online=True)
    await friend.library.remove()
    await friend.library.open()
    assert friend.total == 0


async def test_who_waits_can_be_cancelled_at_any_time(
    filled: Owner, friend: Friend
) -> None:
    (page,) = await filled.pages(friend, filled.ids)
    for turns in range(4):
        applying = asyncio.ensure_future(friend.library.apply(page))
        for _ in range(turns):
            await asyncio.sleep(0)
        applying.cancel()
        await asyncio.gather(applying, return_exceptions=True)
        friend.check()
    # What goes on in the background ends before the database is closed.
    applying = asyncio.ensure_future(friend.library.apply(page))
    await asyncio.sleep(0)
    applying.cancel()
    await friend.restart()
    await filled.tell(friend)
    await assert_same(filled, friend)


@pytest.mark.usefixtures("small_pages")
async def test_it_is_browsed_while_more_arrives(filled: Owner, friend: Friend) -> None:
    pages = await filled.pages(friend, filled.ids)
    told = False

    async def browse() -> None:
        while not told:
            await _look_around(friend)

    browsing = asyncio.ensure_future(browse())
    for page in pages:
        await friend.library.apply(page)
    told = True
    await browsing
    await assert_same(filled, friend)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"0,", b'"a",'])
def test_a_page_takes_no_more_memory_than_a_few_times_its_size(part: bytes) -> None:
    begin, end = b'{"format":1,"parts":[', b"0]}"
    room = MAX_UNPACKED - len(begin) - len(end)
    page = zlib.compress(begin + part * (room // len(part)) + end)
    tracemalloc.start()
    try:
        with pytest.raises(BadCatalogue):
            read(page)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 12 * 1024**2
