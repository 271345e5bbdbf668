"""Every request gets its answer, and every error is an ApiError."""

from __future__ import annotations

import asyncio
import io
import logging
from pathlib import Path
import socket as sockets

import aiohttp
import pytest

from p2p.api import requests
from p2p.models import (
    ApiError,
    EngineConfig,
    ErrorKey,
    Item,
    Kind,
    Listing,
    LocalFile,
    SearchQuery,
    SearchResult,
    ShareConfig,
    Status,
)
from p2p.models.codec import decode, encode

from .conftest import FILE, ITEM, ITEM_ID, SmallHome

CONFIG = EngineConfig(
    home_name="Zuhause",
    shares=(ShareConfig(id="s", path="/films", name="Films", kinds=(Kind.VIDEO,)),),
)


async def refusal(response: aiohttp.ClientResponse) -> ApiError:
    assert response.content_type == "application/json"
    return decode(ApiError, await response.read())


async def test_status_is_told(session: aiohttp.ClientSession, home: SmallHome) -> None:
    async with session.get("status") as response:
        assert response.status == 200
        assert decode(Status, await response.read()) == home.status()


async def test_configuration_arrives_and_the_state_comes_back(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    async with session.put("config", data=encode(CONFIG)) as response:
        assert response.status == 200
        decode(Status, await response.read())
    assert home.config == CONFIG


async def test_rescan_is_of_one_share_or_of_all(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    for query in ({}, {"share": "s"}):
        async with session.post("rescan", params=query) as response:
            assert response.status == 202
    assert home.rescanned == [None, "s"]


async def test_rescan_of_an_unknown_share_is_not_found(
    session: aiohttp.ClientSession,
) -> None:
    async with session.post("rescan", params={"share": "none"}) as response:
        assert response.status == 404
        assert (await refusal(response)).error is ErrorKey.NOT_FOUND


async def test_item_comes_whole(session: aiohttp.ClientSession) -> None:
    async with session.get(f"items/self/{ITEM_ID}") as response:
        assert decode(Item, await response.read()) == ITEM


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("items/self/" + "b" * 26, 404, ErrorKey.NOT_FOUND),
        (f"items/self/{ITEM_ID}/file", 503, ErrorKey.UNAVAILABLE),
        (f"items/self/{ITEM_ID}/thumbnail", 404, ErrorKey.NO_PICTURE),
        (f"items/self/{ITEM_ID}/subtitles/one", 400, ErrorKey.BAD_REQUEST),
        (f"items/self/{ITEM_ID}/subtitles/{'9' * 5000}", 400, ErrorKey.BAD_REQUEST),
        ("nothing", 404, ErrorKey.NOT_FOUND),
        ("items/%2e%2e%2fstatus/file/x", 404, ErrorKey.NOT_FOUND),
        ("search", 405, ErrorKey.BAD_REQUEST),
    ],
)
async def test_errors_have_a_status_and_a_key(
    session: aiohttp.ClientSession, path: str, status: int, error: ErrorKey
) -> None:
    async with session.get(path) as response:
        assert response.status == status
        assert (await refusal(response)).error is error


async def test_subtitles_are_asked_by_number(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    async with session.get(f"items/self/{ITEM_ID}/subtitles/3") as response:
        assert decode(LocalFile, await response.read()) == FILE
    assert home.asked == [(ITEM_ID, 3)]


@pytest.mark.parametrize(
    "node", ["", "all/video/folders/x", "../../etc", "\0", "é" * 2000]
)
async def test_browse_hands_the_node_on_as_it_is(
    session: aiohttp.ClientSession, home: SmallHome, node: str
) -> None:
    async with session.get("browse", params={"node": node}) as response:
        assert response.status in (200, 400)
        if response.status == 200:
            decode(Listing, await response.read())
            assert home.asked == [(node,)]


async def test_search_takes_a_query(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    query = SearchQuery(text="ärger", kinds=(Kind.VIDEO,), limit=5)
    async with session.post("search", data=encode(query)) as response:
        assert decode(SearchResult, await response.read()).items == (ITEM,)
    assert home.asked == [(query,)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"text": 1}',
        b'{"text": "x", "kinds": ["tv"]}',
        b'{"text": "x", "limit": 1e999}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
async def test_bad_bodies_are_refused_and_change_nothing(
    session: aiohttp.ClientSession, home: SmallHome, body: bytes
) -> None:
    for method, path in (("POST", "search"), ("PUT", "config")):
        async with session.request(method, path, data=body) as response:
            assert response.status == 400
            assert (await refusal(response)).error is ErrorKey.BAD_REQUEST
    assert home.config is None
    assert home.asked == []


async def test_a_body_that_is_too_large_is_refused(
    session: aiohttp.ClientSession,
) -> None:
    body = io.BytesIO(b'{"text": "' + b"x" * requests.MAX_BODY + b'"}')
    async with session.post("search", data=body) as response:
        assert response.status == 413
        assert (await refusal(response)).error is ErrorKey.BAD_REQUEST


async def test_a_mistake_is_logged_but_not_told(
    session: aiohttp.ClientSession,
    home: SmallHome,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise RuntimeError("a secret detail")

    home.on_item = fail
    async with session.get(f"items/self/{ITEM_ID}") as response:
        assert response.status == 500
        error = await refusal(response)
    assert error.error is ErrorKey.INTERNAL
    assert "secret" not in error.message
    assert "a secret detail" in caplog.text


async def test_an_answer_that_takes_too_long_is_given_up(
    session: aiohttp.ClientSession,
    home: SmallHome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from p2p.api import ApiServer

    monkeypatch.setattr(requests, "QUICK_TIMEOUT", 0.1)
    home.on_item = asyncio.Event().wait
    connector = session.connector
    assert isinstance(connector, aiohttp.UnixConnector)
    hurried = ApiServer(home, Path(f"{connector.path}.2"))
    await hurried.start()
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(f"{connector.path}.2")
            ) as client,
            client.get(f"http://engine/v1/items/self/{ITEM_ID}") as response,
        ):
            assert response.status == 503
            assert (await refusal(response)).error is ErrorKey.BUSY
    finally:
        await hurried.stop()


async def test_a_time_out_of_the_backend_is_a_mistake_not_a_full_house(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    async def fail() -> None:
        raise TimeoutError

    home.on_item = fail
    async with session.get(f"items/self/{ITEM_ID}") as response:
        assert response.status == 500


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"GET /v1/st",
        b"\x00\x01\x02\x03" * 1000,
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET " + b"/a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: e\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/search HTTP/1.1\r\nHost: e\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/events HTTP/1.1\r\nHost: e\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
@pytest.mark.parametrize("leave", [True, False])
async def test_garbage_on_the_socket_does_no_harm(
    session: aiohttp.ClientSession,
    socket_path: Path,
    caplog: pytest.LogCaptureFixture,
    words: bytes,
    leave: bool,
) -> None:
    with sockets.socket(sockets.AF_UNIX) as rude:
        rude.connect(str(socket_path))
        rude.sendall(words)
        if leave:
            rude.close()
        await asyncio.sleep(0.05)
        async with session.get("status") as response:
            assert response.status == 200
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_a_client_that_leaves_before_its_answer_does_no_harm(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    home.on_item = lambda: asyncio.sleep(0.2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await session.get(f"items/self/{ITEM_ID}")
    await asyncio.sleep(0.3)
    async with session.get(f"items/self/{ITEM_ID}") as response:
        assert response.status == 200
