"""What is asked about the items of other homes."""

from __future__ import annotations

import aiohttp
import pytest

from p2p.models import ApiError, Arrived, ErrorKey, Item, WaitQuery
from p2p.models.codec import decode, encode

from .conftest import ITEM, ITEM_ID, SmallBackend

OWNER = "H" * 28
REMOTE = f"remote/{OWNER}/{ITEM_ID}"


def query(start: int) -> WaitQuery:
    return WaitQuery(reader="r", path="/cache/part", start=start, stop=99)


async def test_a_range_is_waited_for(
    session: aiohttp.ClientSession, backend: SmallBackend
) -> None:
    async with session.post(f"{REMOTE}/wait", data=encode(query(0))) as response:
        assert response.status == 200
        assert decode(Arrived, await response.read()) == Arrived(stop=99)
    assert backend.asked == [(OWNER, ITEM_ID, query(0))]


async def test_what_is_known_of_another_homes_item_is_told(
    session: aiohttp.ClientSession, backend: SmallBackend
) -> None:
    async with session.get(REMOTE) as response:
        assert response.status == 200
        assert decode(Item, await response.read()) == ITEM
    async with session.get(f"remote/{OWNER}/{'b' * 26}") as response:
        assert response.status == 404
    assert backend.asked == [(OWNER, ITEM_ID), (OWNER, "b" * 26)]


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
    session: aiohttp.ClientSession, backend: SmallBackend, body: bytes
) -> None:
    async with session.post(f"{REMOTE}/wait", data=body) as response:
        assert response.status == 400
    assert backend.asked == []


async def test_a_reader_leaves(
    session: aiohttp.ClientSession, backend: SmallBackend
) -> None:
    async with session.delete(f"{REMOTE}/readers/r") as response:
        assert response.status == 200
    assert backend.asked == [(OWNER, ITEM_ID, "r")]


async def test_what_is_played_is_told(
    session: aiohttp.ClientSession, backend: SmallBackend
) -> None:
    async with session.put("streaming") as response:
        assert response.status == 200
    assert backend.asked == [("streaming",)]


async def test_an_engine_without_libtorrent_says_so(
    session: aiohttp.ClientSession,
) -> None:
    for path in ("home", f"channels/{OWNER}"):
        async with session.get(path) as response:
            assert response.status == 503
            assert decode(ApiError, await response.read()).error is ErrorKey.UNAVAILABLE


async def test_a_channel_leads_to_a_home_only(session: aiohttp.ClientSession) -> None:
    async with session.get("channels/nobody") as response:
        assert response.status == 400
