"""Who may have what, by the configuration of this moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from p2p.access.audience import Access
from p2p.core.errors import NotFound, Unavailable
from p2p.models import EngineConfig, Item, Kind, ShareConfig
from p2p.models.homes import FriendConfig
from p2p.models.rooms import RoomConfig, RoomFolder
from p2p.torrent.store import Grant

ANN, BEN = "A" * 28, "B" * 28
FILM, SONG, GONE = "f" * 26, "s" * 26, "g" * 26
SHARES = {FILM: "films", SONG: "music"}


class Library:
    """A film and a song, each in a share of its own."""

    def __init__(self) -> None:
        self.known = ["films", "music"]
        self.is_readable = True
        self.folder = ""

    @property
    def shares(self) -> tuple[Any, ...]:
        return tuple(share(each) for each in self.known)

    async def item(self, item_id: str) -> Item:
        if item_id not in SHARES:
            raise NotFound("there is no such item")
        return Item(
            id=item_id,
            share=SHARES[item_id],
            kind=Kind.VIDEO,
            name="film.mp4",
            title="Film",
            folder=self.folder,
            content_type="video/mp4",
            size=1,
            modified=0,
            added=0,
            available=True,
            etag='"x"',
        )

    async def shares_of(self, item_ids: object) -> dict[str, str]:
        if not self.is_readable:
            raise Unavailable("the index cannot be read")
        return SHARES


def share(id_: str) -> ShareConfig:
    return ShareConfig(id=id_, path="/", name=id_, kinds=(Kind.VIDEO,))


def friend(id_: str, *shares: str) -> FriendConfig:
    return FriendConfig(id=id_, name="", shares=shares)


class Home:
    def __init__(self) -> None:
        self.library = Library()
        self.config = EngineConfig(
            home_name="Home",
            shares=(share("films"), share("music")),
            friends=(friend(ANN, "films", "former"), friend(BEN)),
        )
        self.access = Access(self.library, lambda: self.config)


@pytest.fixture
def home() -> Home:
    return Home()


def grant(receiver: str, item: str) -> Grant:
    return Grant(receiver, item, bytes(16), 2e9)


async def test_a_friend_may_have_what_lies_in_its_shares(home: Home) -> None:
    assert (await home.access.item(ANN, FILM)).id == FILM
    for who, item in ((ANN, SONG), (BEN, FILM), ("C" * 28, FILM), ("", FILM)):
        with pytest.raises(NotFound, match="there is no such item"):
            await home.access.item(who, item)


async def test_what_it_may_not_have_looks_like_what_does_not_exist(home: Home) -> None:
    with pytest.raises(NotFound) as secret:
        await home.access.item(ANN, SONG)
    with pytest.raises(NotFound) as missing:
        await home.access.item(ANN, GONE)
    assert str(secret.value) == str(missing.value)


async def test_a_share_that_is_not_configured_is_nobodys(home: Home) -> None:
    assert home.access.audience(ANN).shares == {"films"}
    home.config = replace(home.config, shares=(share("music"),))
    assert not home.access.audience(ANN).shares
    with pytest.raises(NotFound):
        await home.access.item(ANN, FILM)


async def test_a_change_counts_at_once(home: Home) -> None:
    before = home.access.audience(ANN)
    home.config = replace(home.config, friends=(friend(ANN, "music"),))
    assert home.access.audience(ANN) != before
    with pytest.raises(NotFound):
        await home.access.item(ANN, FILM)
    assert (await home.access.item(ANN, SONG)).id == SONG


async def test_grants_are_refused_by_the_same_decision(home: Home) -> None:
    good, other, nobodys = grant(ANN, FILM), grant(ANN, SONG), grant("C" * 28, FILM)
    missing = grant(ANN, GONE)
    assert await home.access.refused([good, other, nobodys, missing]) == (
        [other, nobodys, missing],
        [],
    )


async def test_what_cannot_be_told_is_not_refused(home: Home) -> None:
    missing = grant(ANN, GONE)
    # It may be in the share that the library has not got yet.
    home.library.known = ["films"]
    assert await home.access.refused([missing]) == ([], [missing])
    home.library.is_readable = False
    assert await home.access.refused([grant(ANN, SONG)]) == ([], [grant(ANN, SONG)])


def room(id_: str, **more: Any) -> RoomConfig:
    return RoomConfig(id=id_, name="Room", secret="", **{"expires": 2e9, **more})


async def test_guests_may_have_what_is_in_their_room(home: Home) -> None:
    home.config = replace(home.config, rooms=(room("ours", items=(FILM,)),))
    assert (await home.access.item("ours", FILM)).id == FILM
    for who, item in (("ours", SONG), ("theirs", FILM), ("", FILM)):
        with pytest.raises(NotFound):
            await home.access.item(who, item)


async def test_guests_may_have_nothing_of_a_room_that_has_expired(home: Home) -> None:
    home.config = replace(home.config, rooms=(room("ours", items=(FILM,), expires=1),))
    with pytest.raises(NotFound):
        await home.access.item("ours", FILM)


@pytest.mark.parametrize(
    ("shared", "folder", "is_in"),
    [
        ("", "", True),
        ("", "Series/One", True),
        ("Series", "Series", True),
        ("Series", "Series/One", True),
        ("Series", "Series two", False),
        ("Series", "", False),
        ("Series/One", "Series", False),
    ],
)
async def test_a_folder_is_shared_with_what_lies_below_it(
    home: Home, shared: str, folder: str, is_in: bool
) -> None:
    home.library.folder = folder
    folders = (RoomFolder(share="films", path=shared),)
    home.config = replace(home.config, rooms=(room("ours", folders=folders),))
    found = home.access.audience("ours").may_have(await home.library.item(FILM))
    assert found is is_in


async def test_a_room_never_stands_for_a_friend(home: Home) -> None:
    rooms = (room(ANN, items=(SONG,)), room(BEN, items=(SONG,)))
    home.config = replace(home.config, rooms=rooms)
    for who in (ANN, BEN):
        with pytest.raises(NotFound):
            await home.access.item(who, SONG)
