"""One port for WebSockets and HTTP."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web
import pytest

from pemus_signaling.net.sockets import Close, Listener, Refusal, Socket, Upgrade
from pemus_signaling.server import Server
from tests.signaling.server import http, running, ws


class Echo:
    """Sends back what it gets."""

    def __init__(self) -> None:
        self.closed_once = asyncio.Event()
        self.socket: Socket | None = None

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, message: bytes) -> None:
        assert self.socket is not None
        if message == b"boom":
            raise ValueError("secret")
        self.socket.send(message)

    def closed(self) -> None:
        assert not self.closed_once.is_set()
        self.closed_once.set()


class Heard:
    """Accepts everybody at /echo, and remembers them."""

    def __init__(self) -> None:
        self.upgrades: list[Upgrade] = []
        self.echoes: list[Echo] = []

    def accept(self, upgrade: Upgrade) -> Listener | Refusal:
        self.upgrades.append(upgrade)
        if "refuse" in upgrade.query:
            return Refusal(429, "Later", retry_after=7)
        self.echoes.append(Echo())
        return self.echoes[-1]

    def prepare(self, server: Server) -> None:
        server.front.route("/echo", self.accept)
        server.front.app.router.add_get("/page", self.page)

    async def page(self, request: web.Request) -> web.Response:
        return web.json_response({"remote": request.remote})


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1200, 2000, 9000, 65000])
async def test_a_message_comes_back_whole(size: int) -> None:
    heard = Heard()
    async with running(heard.prepare) as server, aiohttp.ClientSession() as client:
        async with client.ws_connect(ws(server, "/echo?a=1&a=2&b=%20x")) as socket:
            await socket.send_str("x" * size)
            assert await socket.receive_str(timeout=10) == "x" * size
        assert heard.upgrades[0].query == {"a": "1", "b": " x"}
        assert heard.upgrades[0].address == "127.0.0.1"
        async with asyncio.timeout(10):
            await heard.echoes[0].closed_once.wait()


async def test_pages_are_served_on_the_same_port() -> None:
    async with running(Heard().prepare) as server, aiohttp.ClientSession() as client:
        async with client.get(http(server, "/page")) as answer:
            assert await answer.json() == {"remote": "127.0.0.1"}
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        async with client.get(http(server, "/nothing")) as answer:
            assert answer.status == 404


async def test_a_client_knows_that_its_next_request_takes_another_connection() -> None:
    async with running(Heard().prepare) as server, aiohttp.ClientSession() as client:
        for _ in range(3):
            async with client.get(http(server, "/page")) as answer:
                assert answer.headers["Connection"] == "close"
            # Unlike a GET, this is not sent once more when nobody answers.
            async with client.post(http(server, "/room"), json={}) as answer:
                assert answer.status == 401
                assert answer.headers["Connection"] == "close"


async def test_who_is_refused_learns_when_to_come_back() -> None:
    async with running(Heard().prepare) as server, aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(ws(server, "/echo?refuse=1"))
        assert refused.value.status == 429
        assert refused.value.headers["Retry-After"] == "7"


async def test_a_message_that_cannot_be_read_ends_the_socket() -> None:
    heard = Heard()
    async with running(heard.prepare) as server, aiohttp.ClientSession() as client:
        socket = await client.ws_connect(ws(server, "/echo"))
        await socket.send_str("boom")
        assert (await socket.receive(timeout=10)).type == aiohttp.WSMsgType.CLOSE
        assert socket.close_code == Close.UNREADABLE


async def test_a_server_that_stops_says_when_to_come_back() -> None:
    heard = Heard()
    async with aiohttp.ClientSession() as client:
        async with running(heard.prepare, retry_after=4.0) as server:
            socket = await client.ws_connect(ws(server, "/echo"))
            closing = asyncio.ensure_future(socket.receive(timeout=10))
        message = await closing
        assert socket.close_code == Close.GOING_AWAY
        assert 2 <= float(message.extra) <= 6
