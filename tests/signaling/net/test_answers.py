"""What is answered to requests that make no sense, and what is logged of them."""

from __future__ import annotations

import asyncio
import gzip
import logging

import aiohttp
import pytest

from tests.patience import PATIENCE, until
from tests.signaling.server import ADDRESS, http, running


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /room HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_a_malformed_request_is_refused_and_is_no_error_of_the_server(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as server:
        reader, writer = await asyncio.open_connection(ADDRESS, server.port)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        assert b"Traceback" not in answer
        writer.close()
    assert [
        record for record in caplog.records if record.levelno >= logging.WARNING
    ] == []


@pytest.mark.parametrize(
    "end", [b"Content-Length: 50\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"]
)
async def test_a_body_that_is_cut_off_is_no_error_of_the_server(
    end: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as server:
        session, _ = server.sessions.issue(bytes(32))
        head = (
            "POST /room HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            f"Authorization: Bearer {session}\r\n"
        )
        reader, writer = await asyncio.open_connection(ADDRESS, server.port)
        writer.write(head.encode() + end)
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"100 Continue\r\n\r\n")
        writer.transport.abort()
        await until(lambda: not server.front.requests)
    assert [
        record for record in caplog.records if record.levelno >= logging.WARNING
    ] == []


async def test_a_body_that_is_packed_is_not_unpacked() -> None:
    """A few bytes of it could be many."""
    async with running() as server, aiohttp.ClientSession() as session:
        token, _ = server.sessions.issue(bytes(32))
        async with session.post(
            http(server, "/room"),
            data=gzip.compress(b"{}"),
            headers={"Authorization": f"Bearer {token}", "Content-Encoding": "gzip"},
        ) as answer:
            assert answer.status == 400
            assert (await answer.json())["message"] == "The body is not JSON."


async def test_what_a_client_expects_in_vain_is_refused() -> None:
    async with (
        running() as server,
        aiohttp.ClientSession() as session,
        session.get(http(server, "/"), headers={"Expect": "foo"}) as answer,
    ):
        assert (answer.status, answer.content_type) == (417, "text/plain")


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/nothing/here/at/all", 404, "not_found"),
        ("GET", "/rooms", 404, "not_found"),
        ("POST", "/room/baku-timo-rosa-lufi", 405, "method_not_allowed"),
        ("PUT", "/room", 405, "method_not_allowed"),
        ("DELETE", "/", 405, "method_not_allowed"),
        ("GET", "/peerjs", 404, "not_found"),
    ],
)
async def test_what_is_not_there_is_told_as_everything_else_is(
    method: str, path: str, status: int, error: str
) -> None:
    async with (
        running() as server,
        aiohttp.ClientSession() as session,
        session.request(method, http(server, path)) as answer,
    ):
        told = await answer.json()
        assert (answer.status, told["error"]) == (status, error)
        assert told["message"]
        assert ("Allow" in answer.headers) == (status == 405)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
