"""Long lists: every page is small, and all pages together are the list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
import sqlite3
from typing import override

from hypothesis import given, settings, strategies as st
import pytest

from p2p.core.errors import NotFound
from p2p.core.sqlite import migrate
from p2p.library.browse import BadNode, paging
from p2p.library.browse.address import Span, parse
from p2p.library.browse.itemlist import STRIDE, ItemList, Source
from p2p.library.browse.series import Series, fixed
from p2p.library.items import Shares
from p2p.library.migrations import STEPS
from p2p.models import PAGE_SIZE, Kind, Node, NodeKind
from tests.p2p.library.shelved import OLD, Shelved, labels

LIST = Node(id="list", kind=NodeKind.SONGS)


def all_of(home: Shelved, node: Node) -> list[Node]:
    """Walk through all pages of a node."""
    found = home.browse(node.id)
    assert found.node == node
    assert len(found.children) <= PAGE_SIZE
    if not any(child.kind is NodeKind.PAGE for child in found.children):
        return list(found.children)
    return [each for page in found.children for each in all_of(home, page)]


class Numbers(Series):
    """A list of any length."""

    def __init__(self, length: int) -> None:
        self.length = length

    @override
    def count(self) -> int:
        return self.length

    @override
    def part(self, offset: int, limit: int) -> list[Node]:
        places = range(offset, min(offset + limit, self.length))
        return [
            Node(id=f"item/{at}", kind=NodeKind.ITEM, title=str(at)) for at in places
        ]

    @override
    def titles(self, places: Sequence[int]) -> list[str | None]:
        assert list(places) == sorted(set(places))
        return [str(at) for at in places]


@given(st.integers(0, 10 * STRIDE), st.randoms())
def test_pages_are_a_list_without_gaps_whatever_its_length(
    length: int, random: object
) -> None:
    series = Numbers(length)
    node, children = LIST, paging.children(LIST, series)
    above: list[Node] = []
    start, end = 0, length
    while any(child.kind is NodeKind.PAGE for child in children):
        assert 1 < len(children) <= PAGE_SIZE
        bounds = []
        for child in children:
            first, last = map(int, str(child.detail).split("–"))
            assert child.title == (
                f"{first - 1} … {last - 1}" if first < last else str(last - 1)
            )
            assert child.count == last - first + 1
            bounds.append((first - 1, last))
        assert (bounds[0][0], bounds[-1][1]) == (start, end)
        assert all(before[1] == after[0] for before, after in pairwise(bounds))
        at = random.randrange(len(children))  # type: ignore[attr-defined]
        node, (start, end) = children[at], bounds[at]
        page = parse(node.id).page
        assert page is not None
        around, same, children = paging.turned_to(LIST, series, page)
        assert same == node
        assert around == above
        above = [*above, node]
    assert [child.title for child in children] == [str(at) for at in range(start, end)]


def test_a_page_behind_the_end_is_not_found() -> None:
    assert paging.turned_to(LIST, Numbers(201), Span(200, 200))[2][0].title == "200"
    for length in (0, 200):
        with pytest.raises(NotFound):
            paging.turned_to(LIST, Numbers(length), Span(200, 200))


def test_a_page_of_a_list_that_became_short_still_opens() -> None:
    around, page, found = paging.turned_to(LIST, Numbers(7), Span(0, STRIDE))

    assert (around, page.title, len(found)) == ([], "0 … 6", 7)


@pytest.mark.parametrize(
    "page",
    ["~0-0", "~0-1", "~1-200", "~0-199", "~-200-200", "~0-200/~0-200", "~00-200", "~200-40000", "~0-0200", "~", "~0", "~9999999999999-200"],
)  # fmt: skip
def test_lists_are_divided_in_one_way_only(page: str) -> None:
    with pytest.raises(BadNode):
        parse(f"all/music/songs/{page}")


def test_unnamed_entries_at_the_end_do_not_hide_the_name_of_a_page() -> None:
    named = [
        Node(id=f"n{at}", kind=NodeKind.ARTIST, title=f"n{at}") for at in range(200)
    ]
    unnamed = Node(id="u", kind=NodeKind.ARTIST)

    pages = paging.children(LIST, fixed([*named, named[0], unnamed]))
    assert [page.title for page in pages] == ["n0 … n199", "n0 …"]
    assert paging.children(LIST, fixed([*named, unnamed]))[1].title is None


def test_every_long_list_of_the_library_can_be_walked(tmp_path: Path) -> None:
    home = Shelved(tmp_path)
    share = home.share("Many")
    for number in range(450):
        home.put(share, f"films/film {number}.mp4", modified=OLD)
        home.put(share, f"songs/song {number}.mp3")
        home.put(share, f"photos/{number:03}.jpg", modified=OLD)
    for number in range(250):
        home.put(share, f"films/folder {number}/inner.mp4", modified=OLD)
    home.scan()

    films = home.walk("<videos>", "<folders>", "films")
    assert [page.detail for page in films.children] == [
        "1–200", "201–400", "401–600", "601–700",
    ]  # fmt: skip
    assert films.children[1].title == "folder 200 … film 149"
    assert [node.title for node in all_of(home, films.node)] == [
        *(f"folder {number}" for number in range(250)),
        *(f"film {number}" for number in range(450)),
    ]
    songs = home.walk("<music>", "<songs>")
    assert [node.title for node in all_of(home, songs.node)] == [
        f"song {number}" for number in range(450)
    ]
    year = home.walk("<photos>", "<years>").children[0]
    (month,) = home.browse(year.id).children
    assert len({node.id for node in all_of(home, month)}) == 450
    page = home.browse(f"{films.node.id}/~200-200")
    assert [node.kind for node in page.parents][-2:] == [
        NodeKind.FOLDERS,
        NodeKind.FOLDER,
    ]
    assert len(labels(page)) == 200
    home.store.close()


@pytest.fixture(scope="module")
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, STEPS, "the index")
    yield connection
    connection.close()


KEYS = st.sampled_from(["", "a", "ab", "b", "\U0010ffff"])


@settings(deadline=None)
@given(
    keys=st.lists(
        st.tuples(st.one_of(st.none(), KEYS), st.integers(1, 2)), max_size=40
    ),
    places=st.lists(st.integers(0, 45), max_size=12),
    counted=st.booleans(),
    limit=st.integers(0, 45),
)
def test_a_list_read_from_anywhere_is_the_same(
    db: sqlite3.Connection,
    keys: list[tuple[str | None, int]],
    places: list[int],
    counted: bool,
    limit: int,
) -> None:
    db.execute("DELETE FROM items")
    for row, (key, position) in enumerate(keys, 1):
        db.execute(
            "INSERT INTO items (row, folder, name, size, mtime_ns, inode, share, kind, shown, nonce, added, name_sort,"
            " title_sort, artist_key, album_key, album_position) VALUES (?, 1, ?, 0, 0, 0, 1, 1, 1, ?, 0, '', ?, 'a', 'b', ?)",
            (row, f"{row}.mp3", bytes(10), key, position),
        )
    source = Source(
        index="items_by_album",
        where="album_key = ? AND shown = 1",
        parameters=("b",),
        order=("album_position", "title_sort"),
    )
    listed = ItemList(db, source, Shares({1: "share"}, ()), lambda song: song.stem)
    order = sorted(
        range(1, len(keys) + 1),
        key=lambda row: (
            keys[row - 1][1],
            keys[row - 1][0] is not None,
            keys[row - 1][0] or "",
            row,
        ),
    )
    expected = [str(row) for row in order]

    if counted:
        assert listed.count() == len(expected)
    for place in places:
        found = [node.title for node in listed.part(place, limit)]
        assert found == expected[place : place + limit]
    inside = sorted({place for place in places if place < len(expected)})
    assert listed.titles(inside) == [expected[place] for place in inside]
    assert listed.count() == len(expected)


def test_photos_of_one_moment_are_paged_as_quickly_as_others(
    db: sqlite3.Connection,
) -> None:
    db.execute("DELETE FROM items")
    total = 2 * STRIDE + 300
    db.executemany(
        "INSERT INTO items (row, folder, name, size, mtime_ns, inode, share, kind, shown, nonce, added, name_sort, month, moment)"
        " VALUES (?, 1, ?, 0, 0, 0, 1, 2, 2, ?, 0, '', 202401, 7)",
        ((row, f"{row}.jpg", bytes(10)) for row in range(total)),
    )
    steps = 0

    def count_steps() -> None:
        nonlocal steps
        steps += 1

    source = Source(
        index="items_months",
        where="shown = 2 AND month = ? AND +share IN (1)",
        parameters=(202401,),
        order=("moment", "share"),
    )
    photos = ItemList(db, source, Shares({1: "share"}, ()), lambda photo: photo.stem)
    db.set_progress_handler(count_steps, 1000)
    try:
        _, page, found = paging.turned_to(LIST, photos, Span(STRIDE, STRIDE))
    finally:
        db.set_progress_handler(None, 0)
    assert page.title == f"{STRIDE} … {2 * STRIDE - 1}"
    assert [each.title for each in found] == [
        f"{start} … {start + 199}" for start in range(STRIDE, 2 * STRIDE, 200)
    ]
    # A few instructions of SQLite's for each entry, and not for each page times each entry.
    assert steps * 1000 < 30 * total


def test_the_kinds_of_a_list_are_those_of_its_pages(tmp_path: Path) -> None:
    home = Shelved(tmp_path)
    share = home.share("Films", [Kind.VIDEO])
    for number in range(201):
        home.put(share, f"{number}.mp4")
    home.scan()
    home.available.clear()

    pages = home.walk("<videos>", "<folders>").children
    assert [(page.media, page.available, page.count) for page in pages] == [
        (Kind.VIDEO, False, 200),
        (Kind.VIDEO, False, 1),
    ]
    home.store.close()
