"""The media of friends: the same questions as about this home's own, and what it takes to fetch them."""

from __future__ import annotations

from dataclasses import replace

import aiohttp
import pytest

from p2p.models import (
    ApiError,
    Arrived,
    ErrorKey,
    Item,
    Listing,
    LocalFile,
    Node,
    NodeKind,
    SearchQuery,
    SearchResult,
    WaitQuery,
)
from p2p.models.codec import decode, encode
from p2p.models.transfers import TransferStatus

from .conftest import ITEM, ITEM_ID, OWNER, SmallHome

REMOTE = f"items/{OWNER}/{ITEM_ID}"


def query(start: int) -> WaitQuery:
    return WaitQuery(reader="r", path="/cache/part", start=start, stop=99)


async def test_a_range_is_waited_for(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    async with session.post(f"{REMOTE}/wait", data=encode(query(0))) as response:
        assert response.status == 200
        assert decode(Arrived, await response.read()) == Arrived(stop=99)
    assert home.asked == [(OWNER, ITEM_ID, query(0))]


async def test_what_is_known_of_another_homes_item_is_told(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    async with session.get(REMOTE) as response:
        assert response.status == 200
        assert decode(Item, await response.read()) == replace(ITEM, owner=OWNER)
    async with session.get(f"items/{OWNER}/{'b' * 26}") as response:
        assert response.status == 404
    assert home.asked == [(OWNER, ITEM_ID), (OWNER, "b" * 26)]


@pytest.mark.parametrize(
    ("start", "status", "key"),
    [
        (1, 507, ErrorKey.DISK_FULL),
        (2, 410, ErrorKey.GONE),
        (3, 409, ErrorKey.REPLACED),
    ],
)
async def test_why_nothing_comes_is_told(
    session: aiohttp.ClientSession, start: int, status: int, key: ErrorKey
) -> None:
    async with session.post(f"{REMOTE}/wait", data=encode(query(start))) as response:
        assert response.status == status
        assert decode(ApiError, await response.read()).error is key


@pytest.mark.parametrize("body", [b"", b"{}", b'{"start": "0"}', b"[" * 10_000])
async def test_a_malformed_question_is_refused(
    session: aiohttp.ClientSession, home: SmallHome, body: bytes
) -> None:
    async with session.post(f"{REMOTE}/wait", data=body) as response:
        assert response.status == 400
    assert home.asked == []


async def test_a_reader_leaves(session: aiohttp.ClientSession, home: SmallHome) -> None:
    async with session.delete(f"{REMOTE}/readers/r") as response:
        assert response.status == 200
    assert home.asked == [(OWNER, ITEM_ID, "r")]


async def test_what_is_played_is_noted(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    async with session.put("streaming") as response:
        assert response.status == 200
    assert home.asked == [("streaming",)]


async def test_a_friends_file_is_prepared_before_it_is_located(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    async with session.get(f"{REMOTE}/file") as response:
        assert decode(LocalFile, await response.read()).arriving
    assert home.asked == [("prepare", OWNER, ITEM_ID)]


async def test_an_item_is_pinned_without_having_been_played(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    for method, pinned in (("PUT", True), ("DELETE", False)):
        async with session.request(method, f"{REMOTE}/pin") as response:
            status = decode(TransferStatus, await response.read())
            assert status.pinned is pinned
    assert home.asked == [
        ("prepare", OWNER, ITEM_ID),
        ("pin", OWNER, ITEM_ID, True),
        ("pin", OWNER, ITEM_ID, False),
    ]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "wait"), ("DELETE", "readers/r"), ("PUT", "pin")]
)
async def test_an_item_of_this_home_is_not_fetched(
    session: aiohttp.ClientSession, home: SmallHome, method: str, path: str
) -> None:
    body = encode(query(0)) if path == "wait" else None
    address = f"items/self/{ITEM_ID}/{path}"
    async with session.request(method, address, data=body) as response:
        assert response.status == 404
    assert home.asked == []


@pytest.mark.parametrize(
    "name", ["nobody", "self/..", "%2e%2e", "h" * 28, f"{'H' * 27}U", "SELF"]
)
async def test_an_owner_that_is_no_home_has_no_items(
    session: aiohttp.ClientSession, home: SmallHome, name: str
) -> None:
    async with session.get(f"items/{name}/{ITEM_ID}/file") as response:
        assert response.status == 404
    assert home.asked == []


async def test_friends_homes_lie_in_the_root(session: aiohttp.ClientSession) -> None:
    async with session.get("browse") as response:
        (bob,) = decode(Listing, await response.read()).children
    assert bob == Node(
        id=f"home/{OWNER}",
        kind=NodeKind.HOME,
        title="Bob",
        count=7,
        available=False,
    )


async def test_a_friends_library_is_a_part_of_the_tree(
    session: aiohttp.ClientSession,
) -> None:
    async def browse(node: str) -> Listing:
        async with session.get("browse", params={"node": node}) as response:
            assert response.status == 200
            return decode(Listing, await response.read())

    home = f"home/{OWNER}"
    listing = await browse(home)
    assert (listing.node.id, listing.node.title) == (home, "Bob")
    assert [each.id for each in listing.parents] == [""]
    (folder,) = listing.children
    assert folder.id == f"{home}/all/video/folders"
    listing = await browse(folder.id)
    assert [each.id for each in listing.parents] == ["", home]
    (item,) = listing.children
    assert item.id == f"{home}/{ITEM_ID}"
    listing = await browse(item.id)
    assert listing.node == item
    assert [each.id for each in listing.parents] == ["", home, folder.id]


@pytest.mark.parametrize("node", [f"home/{'G' * 28}", "home/", f"home/{OWNER}/no"])
async def test_a_place_that_no_friend_has_is_not_found(
    session: aiohttp.ClientSession, node: str
) -> None:
    async with session.get("browse", params={"node": node}) as response:
        assert response.status == 404


async def test_what_is_found_at_a_friends_says_whose_it_is(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    asked = SearchQuery(text="x", below=f"home/{OWNER}/all/music")
    async with session.post("search", data=encode(asked)) as response:
        found = decode(SearchResult, await response.read())
    assert found.items == (replace(ITEM, owner=OWNER),)
    assert [each.id for each in found.nodes] == [f"home/{OWNER}/all/music/albums/x"]
    assert home.asked == [(OWNER, replace(asked, below="all/music"))]
