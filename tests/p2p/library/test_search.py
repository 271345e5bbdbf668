"""Searching: what is found, in which order, and that no text does harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hypothesis import example, given, settings, strategies as st
import pytest

from p2p.core.errors import BadRequest, NotFound
from p2p.library.search import MAX_LIMIT, MAX_NODES
from p2p.media.facts import MediaFacts
from p2p.models import Kind, NodeKind
from tests.p2p.library.shelved import Shelved, song, titles


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Shelved]:
    made = Shelved(tmp_path)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelved]:
    made = Shelved(tmp_path_factory.mktemp("home"))
    first, second = made.share("First"), made.share("Second")
    made.put(first, "Holidays/Lake Day.mp4")
    made.put(first, "Music/01.mp3", song("Lake", "Ada Moll", "Water & Wind", track=1))
    made.put(first, "Music/02.mp3", song("Lakeside Drive", "Trio Dur", "Roads"))
    made.put(first, "More music/03.mp3", song("Morning", "Lake Brothers", "Roads"))
    made.put(first, "Music/04.mp3", song("Evening", "Ada Moll", "Lake Songs"))
    made.put(second, "Lake/IMG_2023-07.jpg")
    made.put(second, "Café Straße 東京タワー.jpg")
    made.put(second, "deep/A lake at night.webm")
    made.scan()
    yield made
    made.store.close()


def test_titles_come_before_people_albums_and_places(filled: Shelved) -> None:
    assert titles(filled.search("lake")) == [
        "Lake",
        "Lake Day",
        "A lake at night",
        "Lakeside Drive",
        "Morning",
        "Evening",
        "IMG_2023-07",
    ]


def test_an_exact_title_is_first_even_behind_hundreds(home: Shelved) -> None:
    share = home.share("Photos")
    for number in range(150):
        home.put(share, f"a/Sunset {number}.jpg")
    home.put(share, "z/SUNSET.jpg")
    home.scan()

    assert titles(home.search("sunset", limit=3))[0] == "SUNSET"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("LAKE DAY", ["Lake Day"]),
        ("day lak", ["Lake Day"]),
        ("moll wat", ["Lake"]),
        ("water wind", ["Lake"]),
        ("roads trio", ["Lakeside Drive"]),
        ("holidays", ["Lake Day"]),
        ("img 2023 07", ["IMG_2023-07"]),
        ("img_2023", ["IMG_2023-07"]),
        ("cafe", ["Café Straße 東京タワー"]),
        ("CAFE\u0301", ["Café Straße 東京タワー"]),
        ("straße", ["Café Straße 東京タワー"]),
        ("東京", ["Café Straße 東京タワー"]),
        ("タワー", ["Café Straße 東京タワー"]),
        ("京都", []),
        ("webm", ["A lake at night"]),
        ("ake", []),
        ("lake nowhere", []),
    ],
)
def test_every_word_has_to_begin_a_word(
    filled: Shelved, text: str, found: list[str]
) -> None:
    assert titles(filled.search(text)) == found


def test_kinds_and_places_narrow_a_search(filled: Shelved) -> None:
    assert titles(filled.search("lake", kinds=(Kind.VIDEO,))) == [
        "Lake Day", "A lake at night",
    ]  # fmt: skip
    assert titles(filled.search("lake", below="id-second")) == [
        "A lake at night", "IMG_2023-07",
    ]  # fmt: skip
    assert titles(filled.search("lake", below="id-second/photo")) == ["IMG_2023-07"]
    assert titles(filled.search("lake", below="all/video/recent")) == [
        "Lake Day", "A lake at night",
    ]  # fmt: skip
    assert filled.search("lake", below="all/photo", kinds=(Kind.VIDEO,)).items == ()
    assert filled.search("lake", kinds=()).items == ()
    for nowhere in ("nobody", "all/books", "id-first/books"):
        with pytest.raises(NotFound):
            filled.search("lake", below=nowhere)
    with pytest.raises(BadRequest):
        filled.search("lake", below="../etc")


def test_artists_and_albums_are_found_by_name(filled: Shelved) -> None:
    found = filled.search("lak").nodes
    assert [(node.kind, node.title) for node in found] == [
        (NodeKind.ARTIST, "Lake Brothers"),
        (NodeKind.ALBUM, "Lake Songs"),
    ]
    assert filled.browse(found[1].id).node == found[1]
    assert [node.title for node in filled.search("moll ad").nodes] == ["Ada Moll"]
    assert [node.title for node in filled.search("wind water").nodes] == [
        "Water & Wind"
    ]
    assert filled.search("lak", kinds=(Kind.VIDEO,)).nodes == ()
    assert filled.search("lak", below="id-second").nodes == ()
    (scoped,) = filled.search("brothers", below="id-first").nodes
    assert scoped.id.startswith("id-first/music/artists/")


def test_numbers_in_names_are_found(home: Shelved) -> None:
    share = home.share("Music")
    for number, artist in enumerate(["Blink 182", "50 Cent", "MP3tag", "U2"]):
        home.put(share, f"{number}.mp3", song("x", artist, f"Volume {number + 7}"))
    home.scan()

    for text, artist in [("182", "Blink 182"), ("18 bl", "Blink 182"), ("50", "50 Cent"), ("mp3", "MP3tag"), ("u2", "U2")]:  # fmt: skip
        assert [node.title for node in home.search(text).nodes] == [artist]
    assert [n.title for n in home.search("volume 10").nodes] == ["Volume 10"]


def test_names_that_begin_with_the_text_are_first(home: Shelved) -> None:
    share = home.share("Music")
    for number in range(30):
        home.put(share, f"{number}.mp3", song("x", f"The Band {number}"))
    home.put(share, "x.mp3", song("x", "Band of Brothers"))
    home.put(share, "y.mp3", song("x", "Contraband"))
    home.scan()

    found = [node.title for node in home.search("band").nodes]
    assert found[:3] == ["Band of Brothers", "The Band 0", "The Band 1"]
    assert len(found) == MAX_NODES
    assert "Contraband" not in found


def test_a_home_that_shares_nothing_is_searched_in_vain(home: Shelved) -> None:
    assert titles(home.search("lake")) == []
    with pytest.raises(NotFound):
        home.search("lake", below="all/video")


def test_the_limit_is_kept_and_checked(home: Shelved) -> None:
    share = home.share("Films")
    for number in range(MAX_LIMIT + 20):
        home.put(share, f"film {number}.mp4")
    home.scan()

    for limit in (1, 50, MAX_LIMIT):
        found = home.search("f", limit=limit).items
        assert len({item.id for item in found}) == limit
    for limit in (-1, 0, MAX_LIMIT + 1):
        with pytest.raises(BadRequest):
            home.search("f", limit=limit)


def test_a_file_is_found_by_its_name_and_by_its_title(home: Shelved) -> None:
    share = home.share("Films")
    home.put(share, "x264.mp4", MediaFacts(kind=Kind.VIDEO, title="The Sea"))
    home.scan()

    assert titles(home.search("sea")) == titles(home.search("x264")) == ["The Sea"]
    Path(share.path, "x264.mp4").unlink()
    home.scan()
    assert titles(home.search("sea")) == []


HOSTILE = [
    '"', "'", "*", "^lake", "lake*", "NEAR(lake day)", "lake AND NOT day", "title:lake", "{title} : lake", "-lake", "lake)",
    "((((", "tags : k0", "k0", "s1", "\0", "lake\0day", "🎄", "🎄 lake", "___", "_", "\ud800", "İ", "ﬁ", "\u0301", "..", " ",
    "\u202e", "' OR 1=1 --", "; DROP TABLE items", "lake " * 2500, "l" * 10_000, "(" * 10_000, "a b c d e f g " * 700,
]  # fmt: skip


@settings(deadline=None)
@given(st.one_of(st.text(), st.sampled_from(HOSTILE)))
@example("")
def test_any_text_is_safe(filled: Shelved, text: str) -> None:
    found = filled.search(text)
    assert len(found.items) <= 50


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(filled: Shelved, text: str) -> None:
    found = filled.search(text)
    if not any(char.isalnum() for char in text):
        assert (found.items, found.nodes) == ((), ())
    if text in ("k0", "s1", "tags : k0"):
        assert found.items == ()


def test_text_that_names_the_index_finds_only_text(filled: Shelved) -> None:
    assert titles(filled.search('"lake" day')) == ["Lake Day"]
    assert titles(filled.search("^lake:day*")) == ["Lake Day"]
    assert filled.search("lake AND day").items == ()
