"""The tree that a user walks: what lies where, in which order, and how one gets there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2p.core.errors import NotFound
from p2p.media.facts import MediaFacts
from p2p.models import Kind, Listing, NodeKind
from tests.p2p.library.shelved import ALL_KINDS, OLD, Shelved, label, labels, song


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Shelved]:
    made = Shelved(tmp_path)
    yield made
    made.store.close()


def way(found: Listing) -> list[str]:
    return [label(node) for node in (*found.parents, found.node)]


def test_the_root_shows_only_kinds_that_some_share_has(home: Shelved) -> None:
    home.share("Films", [Kind.VIDEO])
    home.scan()

    assert labels(home.browse()) == ["<videos>"]


def test_several_shares_stand_behind_what_they_hold_together(home: Shelved) -> None:
    home.share("Zoo", [Kind.PHOTO])
    home.share("Attic", ALL_KINDS)
    home.scan()

    assert labels(home.browse()) == ["<videos>", "<music>", "<photos>", "Zoo", "Attic"]
    assert labels(home.walk("Zoo")) == ["<photos>"]
    assert labels(home.walk("Attic", "<videos>")) == ["<recent>", "<folders>"]
    assert labels(home.walk("<music>")) == [
        "<artists>", "<albums>", "<songs>", "<folders>",
    ]  # fmt: skip
    assert labels(home.walk("Zoo", "<photos>")) == ["<years>", "<folders>"]


def test_a_home_without_shares_is_empty(home: Shelved) -> None:
    assert home.browse().children == ()
    with pytest.raises(NotFound):
        home.browse("all/video")


def test_a_share_that_was_not_scanned_yet_is_empty_everywhere(home: Shelved) -> None:
    home.share("New")
    home.share("Newer")

    waiting = [node.id for node in home.browse().children]
    seen = set()
    while waiting:
        found = home.browse(waiting.pop())
        seen.add(found.node.kind)
        assert not {NodeKind.ITEM, NodeKind.FOLDER} & {n.kind for n in found.children}
        waiting += [node.id for node in found.children]
    assert seen >= {NodeKind.FOLDERS, NodeKind.SONGS, NodeKind.YEARS, NodeKind.RECENT}


def test_folders_come_before_files_both_as_people_count(home: Shelved) -> None:
    share = home.share("Films", [Kind.VIDEO])
    for name in ("Part 10", "part 9", "Äpfel", "zebra"):
        home.put(share, f"{name}/film.mp4")
    for name in ("b.mp4", "A 2.mkv", "a 10.mp4", "Émile.webm"):
        home.put(share, name)
    home.scan()

    folders = home.walk("<videos>", "<folders>")
    assert labels(folders) == [
        "Äpfel", "part 9", "Part 10", "zebra", "A 2", "a 10", "b", "Émile",
    ]  # fmt: skip
    assert [node.content_type for node in folders.children[4:]] == [
        "video/x-matroska", "video/mp4", "video/mp4", "video/webm",
    ]  # fmt: skip


def test_a_folder_shows_only_what_holds_the_kind(home: Shelved) -> None:
    share = home.share("All")
    home.put(share, "holiday/film.mp4")
    home.put(share, "holiday/deep/deeper/photo.jpg")
    home.put(share, "songs/song.mp3")
    home.scan()

    assert labels(home.walk("<videos>", "<folders>")) == ["holiday"]
    assert labels(home.walk("<videos>", "<folders>", "holiday")) == ["film"]
    assert labels(home.walk("<photos>", "<folders>", "holiday")) == ["deep"]
    deep = home.walk("<photos>", "<folders>", "holiday", "deep", "deeper")
    assert labels(deep) == ["photo"]
    assert way(deep) == [
        "<root>", "<photos>", "<folders>", "holiday", "deep", "deeper",
    ]  # fmt: skip
    assert home.walk("<photos>", "<folders>", "holiday").node.count == 1


def test_with_several_shares_their_roots_are_the_first_folders(home: Shelved) -> None:
    first, second = home.share("Zoo"), home.share("Attic")
    home.share("Songs", [Kind.MUSIC])
    home.put(first, "a/one.mp4")
    home.put(second, "two.mp4")
    home.scan()

    assert labels(home.walk("<videos>", "<folders>")) == ["Zoo", "Attic"]
    below = home.walk("<videos>", "<folders>", "Zoo", "a")
    assert labels(below) == ["one"]
    assert way(below) == ["<root>", "<videos>", "<folders>", "Zoo", "a"]
    assert labels(home.walk("Zoo", "<videos>", "<folders>")) == ["a"]
    assert way(home.walk("Zoo", "<videos>", "<folders>", "a")) == [
        "<root>", "Zoo", "<videos>", "<folders>", "a",
    ]  # fmt: skip


def test_a_folder_is_in_its_own_share_only(home: Shelved) -> None:
    first = home.share("First")
    home.share("Second")
    home.put(first, "a/film.mp4")
    home.scan()
    folder = home.walk("<videos>", "<folders>", "First", "a").node.id

    with pytest.raises(NotFound):
        home.browse(folder.replace("all/", "id-second/"))


def test_a_share_that_is_removed_is_gone_from_everywhere(home: Shelved) -> None:
    kept, removed = home.share("Kept"), home.share("Removed")
    for share in (kept, removed):
        home.put(share, f"{share.name}.mp4", modified=OLD)
        home.put(share, f"{share.name}.mp3", song("Same", "Somebody", "Album"))
        home.put(share, f"{share.name}.jpg")
    home.scan()
    item = home.walk("Removed", "<videos>", "<recent>").children[0].id
    home.shares.remove(removed)

    assert labels(home.browse()) == ["<videos>", "<music>", "<photos>"]
    assert labels(home.walk("<videos>", "<recent>")) == ["Kept"]
    assert labels(home.walk("<videos>", "<folders>")) == ["Kept"]
    assert len(home.walk("<music>", "<songs>").children) == 1
    assert len(home.walk("<music>", "<albums>", "Album").children) == 1
    assert home.walk("<music>", "<artists>", "Somebody").node.count == 1
    assert [year.count for year in home.walk("<photos>", "<years>").children] == [1]
    assert [found.name for found in home.search("mp4").items] == ["Kept.mp4"]
    for gone in ("id-removed", "id-removed/video", item):
        with pytest.raises(NotFound):
            home.browse(gone)
    with pytest.raises(NotFound):
        home.item(item.removeprefix("item/"))


def test_the_newest_videos_come_first(home: Shelved) -> None:
    share = home.share("Films")
    for age in range(205):
        home.put(share, f"{age}.mp4", modified=OLD - age * 60)
    home.scan()

    recent = home.walk("<videos>", "<recent>")
    assert labels(recent) == [str(age) for age in range(200)]
    assert all(node.kind is NodeKind.ITEM for node in recent.children)


def test_an_unplugged_share_is_shown_as_unavailable(home: Shelved) -> None:
    here, away = home.share("Here"), home.share("Away")
    home.put(here, "here.mp4")
    home.put(away, "away.mp4")
    home.put(here, "here.mp3", song("Both", "Everywhere", "Album"))
    home.put(away, "away.mp3", song("Both", "Everywhere", "Album"))
    home.put(away, "only.mp3", song("Only", "Far Away", "Distance"))
    home.scan()
    home.available.discard(away.id)

    assert {label(n): n.available for n in home.browse().children} == {
        "<videos>": True, "<music>": True, "<photos>": True, "Here": True, "Away": False,
    }  # fmt: skip
    recent = home.walk("<videos>", "<recent>")
    assert {label(n): n.available for n in recent.children} == {
        "here": True, "away": False,
    }  # fmt: skip
    artists = home.walk("<music>", "<artists>").children
    assert {label(n): n.available for n in artists} == {
        "Everywhere": True, "Far Away": False,
    }  # fmt: skip
    assert not home.walk("Away", "<photos>").node.available
    found = {item.name: item.available for item in home.search("mp4").items}
    assert found == {"here.mp4": True, "away.mp4": False}


def test_artists_hold_albums_and_loose_songs(home: Shelved) -> None:
    share = home.share("Music")
    home.put(share, "1.mp3", song("Opening", "Ada", "Zenith", track=1))
    home.put(share, "2.mp3", song("Closing", "Ada", "Zenith", track=2))
    home.put(share, "3.mp3", song("Early", "Ada", "Dawn"))
    home.put(share, "4.mp3", song("Loose 10", "Ada"))
    home.put(share, "5.mp3", song("Loose 9", "Ada"))
    home.put(share, "6.mp3", MediaFacts(kind=Kind.MUSIC))
    home.scan()

    assert labels(home.walk("<music>", "<artists>")) == ["Ada", "<artist>"]
    assert labels(home.walk("<music>", "<artists>", "Ada")) == [
        "Dawn", "Zenith", "Loose 9", "Loose 10",
    ]  # fmt: skip
    assert home.walk("<music>", "<artists>", "Ada").node.count == 5
    assert labels(home.walk("<music>", "<artists>", "<artist>")) == ["6"]
    assert labels(home.walk("<music>", "<albums>")) == ["Dawn", "Zenith", "<album>"]
    album = home.walk("<music>", "<artists>", "Ada", "Zenith")
    assert labels(album) == ["Opening", "Closing"]
    assert album.node.detail == "Ada"
    assert way(album) == ["<root>", "<music>", "<albums>", "Zenith"]
    assert labels(home.walk("<music>", "<albums>", "<album>")) == [
        "6", "Loose 9", "Loose 10",
    ]  # fmt: skip
    assert labels(home.walk("<music>", "<songs>")) == [
        "6", "Closing", "Early", "Loose 9", "Loose 10", "Opening",
    ]  # fmt: skip


def test_an_album_is_in_the_order_of_its_discs(home: Shelved) -> None:
    share = home.share("Music")
    places = [(2, 1), (1, 10), (1, 2), (2, 2), (1, 1)]
    for disc, track in places:
        facts = song(f"{disc}-{track}", "Ada", "Box", disc=disc, track=track)
        home.put(share, f"{disc}{track}.mp3", facts)
    home.scan()

    assert labels(home.walk("<music>", "<albums>", "Box")) == [
        "1-1", "1-2", "1-10", "2-1", "2-2",
    ]  # fmt: skip


def test_artists_and_albums_of_several_shares_are_merged(home: Shelved) -> None:
    first, second = home.share("First"), home.share("Second")
    home.put(first, "1.mp3", song("One", "Björk", "Home", track=1))
    home.put(second, "2.mp3", song("Two", "BJORK", "home", track=2))
    home.put(second, "3.mp3", song("Three", "Björk", "Other"))
    home.scan()

    (artist,) = home.walk("<music>", "<artists>").children
    assert artist.count == 3
    assert len(home.browse(artist.id).children) == 2
    both = home.walk("<music>", "<albums>").children[0]
    assert both.count == 2
    assert labels(home.browse(both.id)) == ["One", "Two"]
    assert labels(home.walk("First", "<music>", "<albums>")) == ["Home"]
    alone = home.walk("Second", "<music>", "<artists>").children[0]
    assert alone.count == 2
    assert labels(home.browse(alone.id)) == ["home", "Other"]
    assert labels(home.walk("Second", "<music>", "<albums>", "home")) == ["Two"]
    other = home.walk("Second", "<music>", "<albums>", "Other").node.id
    with pytest.raises(NotFound):
        home.browse(other.replace("id-second", "id-first"))


def test_photos_lie_in_years_and_months(home: Shelved) -> None:
    share = home.share("Photos", [Kind.PHOTO])
    taken = {
        "b": "2023-12-31T23:59:59",
        "a": "2024-02-01T12:00:00",
        "c": "2024-02-01T11:00:00",
        "d": "2024-11-05T08:00:00",
    }
    for name, when in taken.items():
        facts = MediaFacts(kind=Kind.PHOTO, taken=when, has_picture=True)
        home.put(share, f"{name}.jpg", facts)
    home.put(share, "lost.jpg", modified=0)
    home.scan()

    years = home.walk("<photos>", "<years>")
    assert labels(years) == ["2024", "2023", "<year>"]
    assert [year.count for year in years.children] == [3, 1, 1]
    year = home.walk("<photos>", "<years>", "2024")
    assert labels(year) == ["2", "11"]
    assert [month.kind for month in year.children] == [NodeKind.MONTH] * 2
    month = home.walk("<photos>", "<years>", "2024", "2")
    assert labels(month) == ["c", "a"]
    assert way(month) == ["<root>", "<photos>", "<years>", "2024", "2"]
    assert month.node.thumbnail in {child.thumbnail for child in month.children}
    assert labels(home.walk("<photos>", "<years>", "<year>")) == ["lost"]
    for nowhere in ("2022", "0000", "2024/01", "2024/13", "2024/2", "unknown/00"):
        with pytest.raises(NotFound):
            home.browse(f"all/photo/years/{nowhere}")


def test_an_item_lies_in_its_folder(home: Shelved) -> None:
    share = home.share("Films")
    home.put(share, "a/b/film.mp4", MediaFacts(kind=Kind.VIDEO, title="A Title"))
    home.scan()
    (node,) = home.walk("<videos>", "<recent>").children

    found = home.browse(node.id)
    assert found.node == node
    assert found.children == ()
    assert way(found) == [
        "<root>", "<videos>", "<folders>", "a", "b", "A Title",
    ]  # fmt: skip
    # In its folder it is called what its file is called.
    assert labels(home.walk("<videos>", "<folders>", "a", "b")) == ["film"]


def test_thumbnails_are_of_items_that_have_pictures(home: Shelved) -> None:
    share = home.share("Music")
    home.put(share, "a/1.mp3", song("Bare", "Ada", "Album", track=1))
    home.put(share, "a/2.mp3", song("Dressed", "Ada", "Album", track=2, has_picture=1))
    home.put(share, "b/3.mp3", song("Bare too", "Eve", "Other"))
    home.scan()

    bare, dressed = home.walk("<music>", "<albums>", "Album").children
    assert bare.thumbnail is None
    assert dressed.thumbnail == dressed.id.removeprefix("item/")
    for place in ("<artists>", "<albums>", "<folders>"):
        first, second = home.walk("<music>", place).children
        assert (first.thumbnail, second.thumbnail) == (dressed.thumbnail, None)


def test_a_file_that_vanished_is_no_longer_there(home: Shelved) -> None:
    share = home.share("Films")
    home.put(share, "a/film.mp4")
    home.put(share, "b/film.mp4")
    home.scan()
    gone = home.walk("<videos>", "<folders>", "a")
    before = gone.revision
    Path(share.path, "a/film.mp4").unlink()
    Path(share.path, "a").rmdir()
    home.scan()

    assert labels(home.walk("<videos>", "<folders>")) == ["b"]
    assert home.browse().revision > before
    for node in (gone.node.id, gone.children[0].id):
        with pytest.raises(NotFound):
            home.browse(node)


def test_an_item_says_what_is_known_of_its_file(home: Shelved) -> None:
    share = home.share("All")
    facts = MediaFacts(
        kind=Kind.VIDEO,
        content_type="video/webm",
        title="Title",
        duration=12.5,
        width=640,
        height=360,
        video_codec="vp9",
        fault="its end is missing",
        has_picture=True,
    )
    home.put(share, "a b/fïlm#1.mp4", facts)
    home.put(share, "a b/fïlm#1.de.srt")
    home.put(share, "unread.mp3")
    home.scan()
    file = Path(share.path, "a b/fïlm#1.mp4").stat()

    node = home.walk("<videos>", "<recent>").children[0]
    item = home.item(node.id.removeprefix("item/"))
    assert (item.share, item.kind, item.name) == (share.id, Kind.VIDEO, "fïlm#1.mp4")
    assert (item.title, item.folder) == ("Title", "a b")
    assert (item.content_type, item.duration) == ("video/webm", 12.5)
    assert (item.width, item.height, item.video_codec) == (640, 360, "vp9")
    assert (item.size, item.modified) == (file.st_size, file.st_mtime)
    assert item.etag == f'"{file.st_ino:x}-{file.st_mtime_ns:x}-{file.st_size:x}"'
    assert [(it.index, it.language) for it in item.subtitles] == [(0, "de")]
    assert (item.fault, item.has_thumbnail) == ("its end is missing", True)
    unread = home.item(home.walk("<music>", "<songs>").children[0].id[5:])
    assert (unread.title, unread.artist, unread.duration) == ("unread", None, None)
    assert (unread.content_type, unread.has_thumbnail) == ("audio/mpeg", False)


@pytest.mark.parametrize("wrong", ["", "a" * 26, "A" * 26, "x", "../../etc/passwd"])
def test_no_other_id_is_an_item(home: Shelved, wrong: str) -> None:
    share = home.share("Films")
    home.put(share, "film.mp4")
    home.scan()

    with pytest.raises(NotFound):
        home.item(wrong)
