"""What a home tells a friend of its library: all of what the friend may see, nothing else, and only what he lacks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
import dataclasses
import json
import os
from pathlib import Path
import random
import shutil
import threading
from typing import Any
import zlib

from hypothesis import given, settings, strategies as st
import orjson
import pytest

from p2p.catalogue import changelog, sender
from p2p.catalogue.sender import Catalogue
from p2p.catalogue.wire import (
    BEFORE_ALL,
    MAX_DEPTH,
    MAX_PAGE,
    MAX_SHARES,
    MAX_UNPACKED,
    read_have,
)
from p2p.core.errors import BadRequest, NotFound, Unavailable
from p2p.library import items
from p2p.library.ids import item_id
from p2p.media.facts import MediaFacts
from p2p.media.reader import MediaReader
from p2p.models import EngineConfig, Kind, SearchQuery, ShareConfig
from tests.p2p.library.shelved import OLD, song
from tests.p2p.library.test_library import Running
from tests.p2p.media import make
from tests.patience import until

from .friends import Friend, Owner, assert_same, entries, gone, unpacked

LAKE = MediaFacts(
    kind=Kind.VIDEO,
    content_type="video/mp4",
    title="A Day at the Lake",
    duration=61.5,
    width=1920,
    height=1080,
    video_codec="h264",
    audio_codec="aac",
    bit_rate=4_000_000,
    has_picture=True,
)
PHOTO = MediaFacts(
    kind=Kind.PHOTO,
    content_type="image/jpeg",
    taken="2023-07-14T18:03:22",
    width=40,
    height=30,
    orientation=6,
    has_picture=True,
)


@pytest.fixture
def filled(owner: Owner) -> Owner:
    """A home with two shares, of all kinds of media and with all kinds of names."""
    first, second = owner.share("First"), owner.share("Second")
    owner.put(first, "Films/Lake.mp4", LAKE)
    owner.put(first, "Films/Lake.de.srt")
    owner.put(first, "Films/Lake.srt")
    owner.put(first, "Films/more/deep/down/Ü #%?.webm")
    owner.put(first, "Films/broken.mkv", MediaFacts(fault="The file is empty."))
    owner.put(first, "Music/A/01.mp3", song("One", "Ada Moll", "Roads", track=1))
    owner.put(first, "Music/A/02.mp3", song("Two", "Trio Dur", "Roads", track=2))
    owner.put(first, "Music/A/03.mp3", song("Loose", "Ada Moll"))
    owner.put(first, "Music/no tags.mp3")
    owner.put(first, "2023/IMG_1.jpg", PHOTO)
    owner.put(first, "2023/IMG_2.jpg", modified=1_600_000_000)
    owner.put(first, "2023/never.jpg", modified=0)
    owner.put(second, "Second film.mp4")
    owner.put(second, "Music/01.mp3", song("Three", "Ada Moll", "Roads", track=1))
    owner.put(second, "東京/タワー.jpg")
    for number in range(450):
        owner.put(second, f"many/{number}.jpg")
    owner.scan()
    return owner


@pytest.fixture
def unread(owner: Owner) -> Owner:
    """A home with two shares, whose files say nothing of themselves."""
    first, second = owner.share("First"), owner.share("Second")
    for number in range(10):
        owner.put(first, f"Films/{number}.mp4")
    for number in range(450):
        owner.put(second, f"many/{number}.jpg")
    owner.scan()
    return owner


WORDS = ("lake", "roads", "ada", "タワー", "deep", "IMG", "nothing")


async def test_a_friend_sees_the_same_tree(filled: Owner, friend: Friend) -> None:
    await filled.tell(friend)
    tree = await assert_same(filled, friend, words=WORDS)
    assert len(tree) > 500


async def test_a_friend_sees_only_what_it_may_see(
    filled: Owner, friend: Friend
) -> None:
    first, second = filled.ids
    pages = await filled.pages(friend, [second])
    assert b"Lake" not in b"".join(zlib.decompress(page) for page in pages)
    assert b"First" not in b"".join(zlib.decompress(page) for page in pages)
    await filled.tell(friend, [second])
    await assert_same(filled, friend, [second], words=WORDS)
    with pytest.raises(NotFound):
        await friend.library.browse(first, online=True)


@pytest.mark.parametrize("before", [[], [0], [1], [0, 1]])
@pytest.mark.parametrize("after", [[], [0], [1], [0, 1]])
async def test_what_a_friend_may_see_can_change(
    filled: Owner, friend: Friend, before: list[int], after: list[int]
) -> None:
    await filled.tell(friend, [filled.ids[each] for each in before])
    shares = [filled.ids[each] for each in after]
    await filled.tell(friend, shares)
    await assert_same(filled, friend, shares, words=WORDS)


async def test_a_share_that_is_none_is_not_told_of(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend, ["id-first", "no share", ""])
    await assert_same(filled, friend, ["id-first"])


async def test_a_share_that_was_not_scanned_yet_is_told_of_later(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    third = filled.share("Third")
    await filled.tell(friend)
    assert friend.total
    filled.put(third, "film.mp4")
    filled.scan()
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_an_empty_library_is_told_of(owner: Owner, friend: Friend) -> None:
    await owner.tell(friend)
    owner.share("First")
    owner.share("Second")
    owner.scan()
    await owner.tell(friend)
    await assert_same(owner, friend)


async def test_nothing_is_told_twice(filled: Owner, friend: Friend) -> None:
    await filled.tell(friend)
    (page,) = await filled.pages(friend, filled.ids)
    assert not unpacked(page)["parts"]
    assert len(page) + len(await friend.library.have()) < 500
    # Nor after the owner has forgotten what it told.
    filled.catalogue = filled.new_catalogue()
    filled.store.close()
    filled.store.open()
    (page,) = await filled.pages(friend, filled.ids)
    assert not unpacked(page)["parts"]
    await friend.library.apply(page)
    await assert_same(filled, friend)


async def test_one_change_is_told_alone(unread: Owner, friend: Friend) -> None:
    await unread.tell(friend)
    unread.put(unread.shares[0], "another.mp4")
    Path(unread.shares[1].path, "many/7.jpg").unlink()
    unread.scan()
    (page,) = await unread.pages(friend, unread.ids)
    assert [entry["name"] for entry in entries([page])] == ["another.mp4"]
    assert len(gone([page])) == 1
    await friend.library.apply(page)
    await assert_same(unread, friend)


async def test_a_change_where_a_friend_may_not_look_tells_it_nothing(
    unread: Owner, friend: Friend
) -> None:
    first, _ = unread.ids
    await unread.tell(friend, [first])
    unread.put(unread.shares[1], "many/451.jpg")
    Path(unread.shares[1].path, "many/7.jpg").unlink()
    unread.scan()
    (page,) = await unread.pages(friend, [first])
    assert (entries([page]), gone([page])) == ([], [])
    await friend.library.apply(page)
    await assert_same(unread, friend, [first])


async def test_a_share_that_is_granted_later_is_told_alone(
    filled: Owner, friend: Friend
) -> None:
    first, second = filled.ids
    await filled.tell(friend, [second])
    pages = await filled.pages(friend, [first, second])
    assert 0 < len(entries(pages)) < 20
    for page in pages:
        await friend.library.apply(page)
    await assert_same(filled, friend)


async def test_an_item_that_moves_into_a_share_that_is_not_granted_is_gone(
    filled: Owner, friend: Friend
) -> None:
    first, second = filled.shares
    await filled.tell(friend, [first.id])
    with filled.store.write() as db:
        numbers = dict(db.execute("SELECT id, number FROM shares").fetchall())
        ((folder, row),) = db.execute(
            "SELECT (SELECT number FROM folders WHERE share = ? AND path = ''), row FROM items WHERE name = 'Lake.mp4'",
            (numbers[second.id],),
        )
        db.execute(
            "UPDATE items SET share = ?, folder = ? WHERE row = ?",
            (numbers[second.id], folder, row),
        )
    pages = await filled.pages(friend, [first.id])
    assert (entries(pages), gone(pages)) == ([], [row])
    for page in pages:
        await friend.library.apply(page)
    assert not (await found(friend, "lake"))
    # Who may see both keeps it.
    await filled.tell(friend)
    assert await found(friend, "lake")


async def found(friend: Friend, text: str) -> list[str]:
    """Return the names of the items that a friend finds."""
    result = await friend.library.search(SearchQuery(text=text), online=True)
    return [item.name for item in result.items]


async def test_changes_of_all_kinds_are_told(filled: Owner, friend: Friend) -> None:
    first, second = filled.shares
    await filled.tell(friend)

    async def changed() -> None:
        filled.scan()
        await filled.tell(friend)
        await assert_same(filled, friend, words=(*WORDS, "new", "again"))

    films = Path(first.path, "Films")
    (films / "Lake.mp4").rename(films / "New name.mp4")
    await changed()
    films.rename(Path(first.path, "New films"))
    await changed()
    shutil.move(Path(first.path, "2023/IMG_1.jpg"), Path(first.path, "Music"))
    await changed()
    shutil.move(Path(first.path, "2023/IMG_2.jpg"), Path(second.path, "IMG_2.jpg"))
    await changed()
    shutil.rmtree(Path(second.path, "many"))
    await changed()
    filled.put(second, "many/again/1.jpg")
    filled.put(second, "many/again/2.mp4", LAKE)
    await changed()
    filled.put(first, "Music/A/01.mp3", song("New", "New", "New", track=9))
    await changed()
    filled.put(second, "many/again/2.en.srt")
    await changed()
    Path(second.path, "many/again/2.en.srt").unlink()
    await changed()
    target = Path(second.path, "many/again/2.mp4")
    target.write_bytes(b"other content")
    os.utime(target, (OLD + 1, OLD + 1))
    await changed()
    shutil.rmtree(Path(second.path, "many"))
    shutil.rmtree(Path(first.path, "Music"))
    await changed()


@pytest.mark.parametrize(
    "written",
    [
        "DELETE FROM subtitles WHERE position = 1",
        "UPDATE subtitles SET language = 'fr' WHERE position = 0",
        "INSERT INTO subtitles SELECT item, 2, 'third.srt', 1, 1, NULL FROM subtitles LIMIT 1",
        "UPDATE items SET picture = 0 WHERE shown = 0",
        "UPDATE items SET shown = NULL WHERE row = 3",
        "UPDATE items SET added = 5 WHERE shown = 0",
    ],
)
async def test_whatever_is_written_to_an_item_is_told(
    filled: Owner, friend: Friend, written: str
) -> None:
    await filled.tell(friend)
    with filled.store.write() as db:
        db.execute(written)
    pages = await filled.pages(friend, filled.ids)
    assert entries(pages) or gone(pages)
    for page in pages:
        await friend.library.apply(page)
    with filled.store.read() as db:
        shares = filled.shares, filled.available
        for row, nonce in db.execute("SELECT row, nonce FROM items WHERE shown = 0"):
            item = items.item(db, item_id(row, nonce), *shares)
            assert await friend.library.item(item.id, online=True) == item


async def test_what_is_rolled_back_is_not_told(filled: Owner, friend: Friend) -> None:
    await filled.tell(friend)

    def fail() -> None:
        with filled.store.write() as db:
            db.execute("UPDATE items SET size = 1")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert not entries(await filled.pages(friend, filled.ids))


async def test_an_index_that_is_another_one_suddenly_is_told_of(
    filled: Owner, friend: Friend
) -> None:
    """It was damaged and made again, with fewer files in it."""
    await filled.tell(friend)
    shutil.rmtree(Path(filled.shares[1].path, "many"))
    filled.store.replace()
    filled.scan()
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_an_album_is_the_same_though_its_songs_went(
    owner: Owner, friend: Friend
) -> None:
    """Whose album a song is on depends on the songs that were beside it when it was read."""
    share = owner.share("First")
    for number, artist in enumerate(("Ada", "Ada", "Bob"), 1):
        owner.put(share, f"{number}.mp3", song(f"{number}", artist, "Roads"))
    owner.scan()
    # From now on nothing is read again.
    owner._facts.clear()
    for number in (1, 2):
        Path(share.path, f"{number}.mp3").unlink()
    owner.scan()
    await owner.tell(friend)
    tree = await assert_same(owner, friend)
    (artist_node,) = tree["all/music/artists"].children
    assert artist_node.title == "Ada"


async def test_a_share_that_is_not_there_is_greyed(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    filled.available.discard("id-second")
    await filled.tell(friend)
    tree = await assert_same(filled, friend)
    assert not tree["id-second"].node.available
    assert tree["id-first"].node.available
    filled.available.add("id-second")
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_a_share_can_have_other_kinds_and_another_name(
    filled: Owner, friend: Friend
) -> None:
    await filled.tell(friend)
    first, second = filled.shares
    renamed = dataclasses.replace(first, name="Other name")
    filled.shares = [second, renamed]
    await filled.tell(friend)
    tree = await assert_same(filled, friend)
    assert tree["id-first"].node.title == "Other name"


async def test_names_that_would_steer_what_shows_them_are_told_harmlessly(
    owner: Owner, friend: Friend
) -> None:
    share = owner.share("First")
    owner.shares = [dataclasses.replace(share, name="Line\none")]
    owner.put(share, "a\nb/c\u202ed.mp4", MediaFacts(kind=Kind.VIDEO, title="x\u2028y"))
    # A folder that is called the same then.
    owner.put(share, "a b/film.mp4")
    owner.scan()
    await owner.tell(friend)
    root = await friend.library.browse("", online=True)
    folders = await friend.library.browse("all/video/folders", online=True)
    assert root.children[0].count == 2
    assert [each.title for each in folders.children] == ["a b", "a b"]
    items = []
    for each in folders.children:
        (node,) = (await friend.library.browse(each.id, online=True)).children
        item = await friend.library.item(node.id.removeprefix("item/"), online=True)
        items.append((item.folder, item.name, item.title))
    assert sorted(items) == [
        ("a b", "c\ufffdd.mp4", "x y"),
        ("a b", "film.mp4", "film"),
    ]


async def test_what_nobody_could_show_is_not_told(owner: Owner, friend: Friend) -> None:
    share = owner.share("First")
    owner.put(
        share,
        "film.mp4",
        MediaFacts(
            kind=Kind.VIDEO,
            content_type="image/svg+xml",
            bit_rate=-1,
            duration=1e300,
            taken="yesterday",
        ),
    )
    owner.put(share, f"{'d/' * (MAX_DEPTH + 1)}too deep.mp4")
    owner.put(share, f"{'d/' * MAX_DEPTH}deep.mp4")
    owner.scan()
    await owner.tell(friend)
    assert friend.total == 2
    friend.check()
    folder = await friend.library.browse("all/video/folders", online=True)
    name = folder.children[-1].id.removeprefix("item/")
    film = await friend.library.item(name, online=True)
    assert (film.content_type, film.bit_rate, film.duration) == (
        "video/mp4",
        None,
        None,
    )


async def test_pages_are_bounded(owner: Owner, friend: Friend) -> None:
    """Texts that cannot be compressed make buckets that are too large for one page."""
    chance = random.Random(5)

    def text() -> str:
        return "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(500))

    share = owner.share("First")
    for number in range(300):
        facts = MediaFacts(
            kind=Kind.MUSIC,
            title=text(),
            artist=text(),
            album=text(),
            album_artist=text(),
            genre=text(),
        )
        owner.put(share, f"{'deep/' * (number % 40)}{number}.mp3", facts)
    owner.scan()
    pages = await owner.pages(friend, owner.ids)
    assert len(pages) > 3
    assert max(map(len, pages)) <= MAX_PAGE
    assert max(len(zlib.decompress(page)) for page in pages) <= MAX_UNPACKED
    # Whatever arrived counts.
    await friend.library.apply(pages[0])
    await friend.restart()
    assert 0 < friend.total < 300
    await owner.tell(friend)
    await assert_same(owner, friend)


async def test_a_catalogue_is_no_longer_than_it_may_be(
    filled: Owner,
    friend: Friend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(changelog, "MAX_ITEMS", 300)
    await filled.tell(friend)
    assert friend.total == 300
    assert "the first 300 items only" in caplog.text
    # Where something is removed, there is room for more.
    Path(filled.shares[0].path, "Films/Lake.mp4").unlink()
    filled.scan()
    filled.scan()
    await filled.tell(friend)
    await filled.tell(friend)
    assert friend.total == 300
    monkeypatch.setattr(changelog, "MAX_ITEMS", 1000)
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_what_is_written_meanwhile_is_told_the_next_time_at_the_latest(
    filled: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_PAGE", 100)
    have = await friend.library.have()
    number = 0
    async for page in filled.catalogue.pages(filled.ids, have):
        await friend.library.apply(page)
        filled.put(filled.shares[0], f"meanwhile {number}.mp4")
        Path(filled.shares[1].path, f"many/{number}.jpg").unlink()
        filled.scan()
        number += 1
    assert number > 1
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_two_friends_are_told_at_the_same_time(
    filled: Owner, friend: Friend, tmp_path: Path
) -> None:
    other = Friend(tmp_path / "other")
    await other.library.open()
    await asyncio.gather(
        filled.tell(friend, ["id-first"]), filled.tell(other, ["id-second"])
    )
    await assert_same(filled, friend, ["id-first"])
    await assert_same(filled, other, ["id-second"])
    await other.library.close()


def having(**known: object) -> dict[str, Any]:
    """Return what somebody says of a share that it knows."""
    checkpoint = {"sequence": 1, "id": 1}
    return {"share": 1, "sequence": 1, "checkpoint": checkpoint} | known


@pytest.mark.parametrize(
    "have",
    [
        "%%%",
        "5",
        "[]",
        json.dumps({"shares": 5}),
        json.dumps({"shares": [5]}),
        json.dumps({"shares": [having(share="1")]}),
        json.dumps({"shares": [having(sequence=2**63)]}),
        json.dumps({"shares": [having(checkpoint=1)]}),
        json.dumps({"shares": [having(checkpoint={"sequence": 2**63, "id": 1})]}),
        json.dumps({"shares": [having(checkpoint={"sequence": 1, "id": 2**63})]}),
        json.dumps({"shares": [having(row=2**48)]}),
        json.dumps({"shares": [having(row=-2)]}),
        json.dumps({"shares": [having(share=n) for n in range(MAX_SHARES + 1)]}),
    ],
)
async def test_what_no_friend_knows_is_refused(filled: Owner, have: str) -> None:
    with pytest.raises(BadRequest):
        await anext(filled.catalogue.pages(filled.ids, have))


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_whatever_a_friend_says_it_knows_is_read_or_refused(have: str) -> None:
    with suppress(ValueError):
        read_have(have)


@pytest.mark.parametrize("row", [None, BEFORE_ALL, 5, 2**48 - 1])
@pytest.mark.parametrize("sequence", [-(2**63), 0, 1, 2, 400, 10_000, 2**63 - 1])
@pytest.mark.parametrize("last", [0, 1, 400, 2**63 - 1])
async def test_a_friend_that_claims_to_know_anything_is_told_all(
    filled: Owner, friend: Friend, row: int | None, sequence: int, last: int
) -> None:
    claim = [
        having(
            share=share,
            sequence=sequence,
            checkpoint={"sequence": last, "id": 7},
            row=row,
        )
        for share in (0, 1, 2, 3)
    ]
    have = json.dumps({"shares": claim})
    async for page in filled.catalogue.pages(filled.ids, have):
        await friend.library.apply(page)
    await assert_same(filled, friend)


async def test_a_friend_that_knows_a_checkpoint_gets_no_more_than_it_may_whatever_it_claims(
    filled: Owner, friend: Friend
) -> None:
    first, _ = filled.ids
    await filled.tell(friend)
    (known, other) = orjson.loads(await friend.library.have())["shares"]
    for row in (None, BEFORE_ALL, 3):
        for sequence in (-5, 0, 1, known["sequence"], known["sequence"] + 1):
            claim = {"sequence": sequence, "row": row}
            have = orjson.dumps({"shares": [known | claim, other | claim]}).decode()
            pages = [page async for page in filled.catalogue.pages([first], have)]
            assert all(
                part["share"] == known["share"]
                for page in pages
                for part in unpacked(page)["parts"]
            )


async def test_an_index_that_cannot_be_read_is_told_so(
    filled: Owner, friend: Friend
) -> None:
    have = await friend.library.have()
    filled.store.close()
    with pytest.raises(Unavailable):
        await anext(filled.catalogue.pages(filled.ids, have))
    assert filled.faults == 1


async def test_an_index_that_is_opened_again_in_the_middle_is_told_to_its_end(
    filled: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_PAGE", 100)
    async for page in filled.catalogue.pages(filled.ids, await friend.library.have()):
        await friend.library.apply(page)
        filled.store.close()
        filled.store.open()
    await assert_same(filled, friend)


async def test_an_index_that_is_made_anew_in_the_middle_ends_a_transfer(
    filled: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_PAGE", 100)
    pages = filled.catalogue.pages(filled.ids, await friend.library.have())
    await friend.library.apply(await anext(pages))
    filled.store.replace()
    filled.scan()
    with pytest.raises(Unavailable):
        await anext(pages)
    await filled.tell(friend)
    await assert_same(filled, friend)


# The change log.


async def test_a_friend_that_was_away_for_too_long_is_told_all(
    unread: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changelog, "MAX_TOMBSTONES", 10)
    many = Path(unread.shares[1].path, "many")
    await unread.tell(friend)
    for number in range(8):
        (many / f"{number}.jpg").unlink()
    unread.scan()
    assert not entries(await unread.pages(friend, unread.ids))
    for number in range(8, 16):
        (many / f"{number}.jpg").unlink()
    unread.scan()
    assert len(entries(await unread.pages(friend, unread.ids))) > 400
    await unread.tell(friend)
    await assert_same(unread, friend)
    with unread.store.read() as db:
        (kept,) = db.execute("SELECT count(*) FROM changes WHERE gone").fetchone()
    assert kept <= 10


async def test_there_are_only_so_many_checkpoints(
    filled: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changelog, "MAX_CHECKPOINTS", 4)
    for number in range(10):
        filled.put(filled.shares[0], f"{number}.mp4")
        filled.scan()
        await filled.tell(friend)
        await assert_same(filled, friend)
    with filled.store.read() as db:
        (kept,) = db.execute("SELECT count(*) FROM checkpoints").fetchone()
    assert kept <= 4


async def test_many_changes_are_put_into_the_log_step_by_step(
    filled: Owner, friend: Friend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changelog, "BATCH", 7)
    await filled.tell(friend)
    await assert_same(filled, friend)
    shutil.rmtree(Path(filled.shares[1].path, "many"))
    for number in range(20):
        filled.put(filled.shares[0], f"{number}.mp4")
    filled.scan()
    await filled.tell(friend)
    await assert_same(filled, friend)


async def test_a_home_without_friends_keeps_no_log(filled: Owner) -> None:
    with filled.store.write() as db:
        db.execute("UPDATE items SET size = 5")
        db.execute("DELETE FROM items WHERE row < 5")
        for table in ("changed", "changes"):
            assert not db.execute(f"SELECT * FROM {table}").fetchall()


async def test_a_transfer_that_is_given_up_leaves_nothing_behind(
    filled: Owner, friend: Friend
) -> None:
    before = threading.active_count()
    telling = asyncio.ensure_future(filled.tell(friend))
    await asyncio.sleep(0)
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    pages = filled.catalogue.pages(filled.ids, await friend.library.have())
    await anext(pages)
    await pages.aclose()
    await until(lambda: threading.active_count() <= before + 1)
    await filled.tell(friend)
    await assert_same(filled, friend)


class Home(Running):
    """A real library at work, which a friend is told of."""

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(
            self.library.store,
            shares=lambda: self.library.configured,
            available=self.library.available,
            on_fault=lambda: None,
        )

    async def tell(self, friend: Friend) -> None:
        have = await friend.library.have()
        shares = {share.id for share in self.config.shares}
        async for page in self.catalogue.pages(shares, have):
            await friend.library.apply(page)

    async def same(self, friend: Friend, items: int) -> None:
        """Wait until all is read, and compare."""
        await self.idle(items)
        await self.quiet()
        await self.tell(friend)
        waiting, seen = [""], {""}
        while waiting:
            node = waiting.pop()
            theirs = await friend.library.browse(node, online=True)
            mine = await self.library.browse(node)
            assert (theirs.node, theirs.parents, theirs.children) == (
                mine.node,
                mine.parents,
                mine.children,
            )
            for child in mine.children:
                if child.id.startswith("item/"):
                    name = child.id.removeprefix("item/")
                    item = await friend.library.item(name, online=True)
                    assert item == await self.library.item(name)
                if child.id not in seen:
                    seen.add(child.id)
                    waiting.append(child.id)
        friend.check()


async def test_a_library_at_work_is_told_of(tmp_path: Path, friend: Friend) -> None:
    media = MediaReader()
    await media.start()
    (tmp_path / "home").mkdir()
    home = Home(tmp_path / "home", media)
    try:
        (home.root / "Films").mkdir()
        (home.root / "2023").mkdir()
        make.film(home.root / "Films/Lake.mp4")
        make.photo(home.root / "2023/photo.jpg")
        home.put("broken.jpg", b"no photo")
        home.put("Films/Lake.en.srt")
        await home.start()
        await home.same(friend, 3)
        # A picture that cannot be made, a file that is renamed, one that is another by now, and one that is gone.
        (home.root / "Films").rename(home.root / "Movies")
        home.put("broken.jpg", b"still no photo")
        (home.root / "2023/photo.jpg").unlink()
        home.library.rescan()
        await home.same(friend, 2)
        home.config = EngineConfig(
            home_name="Home",
            shares=(
                ShareConfig(
                    id="one", path=str(home.root), name="Mine", kinds=(Kind.VIDEO,)
                ),
            ),
        )
        await home.library.apply(home.config)
        await home.same(friend, 1)
        await home.restart()
        await home.same(friend, 1)
        home.config = EngineConfig(home_name="Home")
        await home.library.apply(home.config)
        await home.same(friend, 0)
    finally:
        await home.library.stop()
        await media.stop()
