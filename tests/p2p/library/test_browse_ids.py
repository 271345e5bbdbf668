"""Node ids from anybody: each one opens a place or is refused, and none leads out of the library."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import example, given, settings, strategies as st
import pytest

from p2p.core.errors import BadRequest, NotFound
from p2p.library.browse import BadNode
from p2p.models import PAGE_SIZE, NodeKind
from tests.p2p.library.shelved import Shelved, song


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelved]:
    made = Shelved(tmp_path_factory.mktemp("home"))
    for name in ("One", "Two"):
        share = made.share(name)
        made.put(share, "secret/film.mp4")
        made.put(share, "secret/photo.jpg")
        made.put(share, "secret/song.mp3", song("Song", "Artist", "Album"))
    made.scan()
    yield made
    made.store.close()


def every_id(home: Shelved) -> list[str]:
    known, waiting = [""], [""]
    while waiting:
        for child in home.browse(waiting.pop()).children:
            known.append(child.id)
            waiting.append(child.id)
    return known


SEGMENTS = st.sampled_from(
    ["all", "item", "id-one", "id-two", "video", "music", "photo", "recent", "folders", "artists", "albums", "songs",
     "years", "unknown", "_", "1", "2", "3", "0", "00", "-1", "999999999999999999999", "1970", "~0-200", "~0-40000",
     "~200-200", "..", ".", "", "secret", "a" * 26, "%2e%2e", "²", "١"]
)  # fmt: skip


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(SEGMENTS, max_size=9).map("/".join)))
@example("\0")
@example("\ud800")
@example("all/video/folders/" + "9" * 400)
@example("/".join(["all"] * 10_000))
@example("all/photo/years/' OR 1=1 --")
def test_any_text_is_a_place_or_refused(home: Shelved, node: str) -> None:
    try:
        found = home.browse(node)
    except (BadRequest, NotFound) as err:
        refusal = str(err)
    else:
        refusal = ""
        assert len(found.children) <= PAGE_SIZE
        assert str(home.folder) not in repr(found)
        assert "secret/" not in repr(found)
    # A refusal does not echo what was asked, nor tell what is there.
    assert str(home.folder) not in refusal
    assert len(refusal) < 100


def test_every_place_says_its_own_id_and_the_way_to_it(home: Shelved) -> None:
    ids = every_id(home)
    kinds = set()
    for node_id in ids:
        found = home.browse(node_id)
        kinds.add(found.node.kind)
        assert found.node.id == node_id
        assert (found.parents[0].id if found.parents else "") == ""
        for parent in found.parents:
            assert home.browse(parent.id).node == parent
        for child in found.children:
            assert home.browse(child.id).node == child or child.kind is NodeKind.ITEM
    assert kinds == set(NodeKind) - {NodeKind.PAGE, NodeKind.HOME}


@pytest.mark.parametrize(
    "node",
    ["/", "all/", "/all/video", "all//video", "all/video/", "All/Video", "all/video\n", "../all", "all/video/folders/../1", "a b", "ä", "~0-200", "x" * 300],
)  # fmt: skip
def test_what_is_no_id_is_a_bad_request(home: Shelved, node: str) -> None:
    with pytest.raises(BadNode):
        home.browse(node)


@pytest.mark.parametrize(
    "node",
    ["all", "item", "nobody", "all/books", "all/video/albums", "all/video/recent/1", "all/music/songs/1", "all/music/artists/none", "all/music/albums/none/1", "all/video/folders/x", "all/video/folders/0", "all/video/folders/999999999999999999", "item/" + "a" * 26, "item/" + "a" * 26 + "/b", "id-one/id-two", "all/all/video", "all/photo/years/1960", "all/music/songs/~200-200", "all/music/songs/~999999999800-200", "all/video/folders/~40000-40000", "item/x/~200-200"],
)  # fmt: skip
def test_what_is_nowhere_is_not_found(home: Shelved, node: str) -> None:
    with pytest.raises(NotFound):
        home.browse(node)
