"""How Home Assistant's Supervisor is told of the app. The Supervisor is a small one of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
import pytest

from pemus_signaling import discovery
from pemus_signaling.discovery import announce, describe

CONFIG = describe(9000, "/", ("https://signal.example",), secure=True)


class Supervisor:
    """Answers with one status after the other, and the last one again and again."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.told: list[tuple[str, Any]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.told.append((request.headers["Authorization"], await request.json()))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.json_response({"result": "ok", "data": {"uuid": "0"}}, status=status)


@asynccontextmanager
async def running(*statuses: int) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(*statuses)
    app = web.Application()
    app.router.add_post("/discovery", supervisor.take)
    async with TestServer(app) as server:
        supervisor.url = str(server.make_url("")).rstrip("/")
        yield supervisor


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "FIRST_PAUSE", 0.001)


async def test_the_supervisor_is_told_where_the_server_is() -> None:
    async with running(200) as supervisor:
        assert await announce(CONFIG, "the token", supervisor.url)

    expected = {
        "host": "127.0.0.1",
        "port": 9000,
        "path": "/",
        "ssl": True,
        "origin": "https://signal.example",
    }
    assert supervisor.told == [
        ("Bearer the token", {"service": "pemus", "config": expected})
    ]


async def test_a_supervisor_that_is_not_ready_is_told_again() -> None:
    async with running(502, 500, 200) as supervisor:
        assert await announce(CONFIG, "the token", supervisor.url)

    assert len(supervisor.told) == 3


async def test_a_supervisor_that_does_not_allow_it_is_not_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(403) as supervisor:
        assert not await announce(CONFIG, "the token", supervisor.url)

    assert len(supervisor.told) == 1
    assert "status 403" in caplog.text
    assert "the token" not in caplog.text


async def test_a_supervisor_that_is_not_there_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(200) as supervisor:
        pass

    assert not await announce(CONFIG, "the token", supervisor.url)
    assert "Enter its address there yourself" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_a_supervisor_that_talks_nonsense_changes_nothing(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert not await announce(CONFIG, "the token", f"http://127.0.0.1:{port}")


async def test_a_supervisor_that_says_nothing_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "TIMEOUT", 0.05)
    ended = asyncio.Event()

    async def say_nothing(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(30):
            assert not await announce(CONFIG, "the token", f"http://127.0.0.1:{port}")
        ended.set()
