"""The port that is open in the local network: what it takes, and what it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from ipaddress import ip_address
import logging
import time

from aiohttp import (
    ClientError,
    ClientSession,
    ClientWebSocketResponse,
    TCPConnector,
    WSMsgType,
    WSServerHandshakeError,
    web,
)
import orjson
import pytest

from p2p.models.homes import LanHome
from p2p.net import lan as module
from p2p.net.addresses import is_near
from p2p.net.identity import Identity
from p2p.net.lan import PATH
from p2p.net.messages import MAX_ENVELOPE, seal
from tests.patience import PATIENCE, until

from .neighbours import Neighbour, neighbour

STRANGER = Identity.of(bytes([9] * 32))


@pytest.fixture
async def ann() -> AsyncIterator[Neighbour]:
    async with neighbour("Ann") as home:
        yield home


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as made:
        yield made


def url(home: Neighbour, path: str = PATH) -> str:
    return f"http://127.0.0.1:{home.lan.port}{path}"


async def test_nothing_but_the_websocket_is_served(
    ann: Neighbour, session: ClientSession
) -> None:
    for path in ("/", PATH, "/v1/status", "/../../etc/passwd", "/api/pemus/stream/x"):
        for method in ("GET", "POST", "HEAD", "OPTIONS"):
            async with session.request(method, url(ann, path)) as answer:
                assert answer.status == 404
                assert not await answer.read()


async def test_a_page_in_a_browser_gets_nowhere(
    ann: Neighbour, session: ClientSession
) -> None:
    with pytest.raises(WSServerHandshakeError):
        await session.ws_connect(url(ann), origin="http://evil.example")


async def dealt_with(socket: ClientWebSocketResponse) -> None:
    """Wait until all that was sent was dealt with: pings are answered in their turn. For a socket without `autoping`."""
    await socket.ping()
    assert (await socket.receive(timeout=PATIENCE)).type is WSMsgType.PONG


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"sender": 5}',
        '{"v": 1, "sender": "' + "A" * 28 + '"}',
        "[" * 30_000,
    ],
)
async def test_what_is_no_message_is_not_answered(
    ann: Neighbour, session: ClientSession, message: str
) -> None:
    async with session.ws_connect(url(ann), autoping=False) as socket:
        await socket.send_str(message)
        await socket.send_bytes(b"\xff" * 100)
        await socket.send_str(signed(ann, STRANGER, "request"))
        # The first answer is that to a ping.
        await dealt_with(socket)
    assert not ann.pairings.pairings


async def test_a_message_that_is_too_long_ends_the_connection(
    ann: Neighbour, session: ClientSession
) -> None:
    async with session.ws_connect(url(ann)) as socket:
        await socket.send_str("x" * (MAX_ENVELOPE + 1))
        message = await socket.receive(timeout=5)
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)


async def test_who_says_nothing_is_sent_away(
    ann: Neighbour, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_MESSAGE", 0.1)
    async with session.ws_connect(url(ann)) as socket:
        message = await socket.receive(timeout=10)
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)


async def test_one_address_has_only_so_many_connections(
    ann: Neighbour, session: ClientSession
) -> None:
    sockets = [
        await session.ws_connect(url(ann)) for _ in range(module.MAX_PER_ADDRESS)
    ]
    with pytest.raises(WSServerHandshakeError) as refused:
        await session.ws_connect(url(ann))
    assert refused.value.status == 503
    for socket in sockets:
        await socket.close()
    async with session.ws_connect(url(ann)):
        pass


async def test_a_flood_of_signed_messages_costs_only_so_many_signatures(
    ann: Neighbour, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    from p2p.net import messenger as module

    right = module.opened

    def counted(*arguments: object) -> object:
        nonlocal looked
        looked += 1
        return right(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "opened", counted)
    message = orjson.dumps(seal(STRANGER, ann.id, "ping", b"{}")).decode()
    begun = time.monotonic()
    async with session.ws_connect(url(ann), autoping=False) as socket:
        for _ in range(2000):
            await socket.send_str(message)
        await dealt_with(socket)
        assert looked >= module.BURST
        # Another connection of the same address gets no more, also if it names a friend.
        async with session.ws_connect(url(ann), autoping=False) as other:
            for _ in range(500):
                await other.send_str(message)
            await dealt_with(other)
            passed = time.monotonic() - begun
            assert looked <= module.BURST + module.RATE * passed
            ann.friends.add(STRANGER.id)
            for _ in range(100):
                await other.send_str(message)
            await dealt_with(other)
            passed = time.monotonic() - begun
            assert looked <= module.BURST + module.RATE * passed


async def test_connections_that_say_nothing_are_few_and_end(
    ann: Neighbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_MESSAGE", 1.0)
    open_, refused = [], 0
    for _ in range(module.MAX_SOCKETS_PER_ADDRESS + 10):
        reader, writer = await asyncio.open_connection("127.0.0.1", ann.lan.port)
        open_.append((reader, writer))
    async with asyncio.timeout(10):
        for reader, writer in open_:
            try:
                refused += not await reader.read()
            except ConnectionResetError:
                refused += 1
            writer.close()
    assert refused == len(open_)
    reader, writer = await asyncio.open_connection("127.0.0.1", ann.lan.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"404" in await reader.readline()
    writer.close()


class Crowd:
    """Machines of the network, with as many connections as each may have."""

    def __init__(self, home: Neighbour, stack: AsyncExitStack) -> None:
        self._home = home
        self._stack = stack
        self._machines = 0
        self._sockets: list[ClientWebSocketResponse] = []

    async def call(self, *senders: Identity) -> None:
        """Let these homes call, each with one message that is right, from machines that did not call so far."""
        for number, sender in enumerate(senders):
            if number % module.MAX_PER_ADDRESS == 0:
                self._machines += 1
                place = f"127.0.1.{self._machines}", 0
                machine = await self._stack.enter_async_context(
                    ClientSession(connector=TCPConnector(local_addr=place))
                )
            socket = await machine.ws_connect(url(self._home))
            self._sockets.append(socket)
            await socket.send_str(signed(self._home, sender))
            await until(lambda sender=sender: self._home.lan.knows(sender.id))


@pytest.fixture
async def crowd(ann: Neighbour) -> AsyncIterator[Crowd]:
    async with AsyncExitStack() as stack:
        yield Crowd(ann, stack)


def strangers(first: int = 1000) -> list[Identity]:
    """Return as many strangers as there are places."""
    numbers = range(first, first + module.MAX_CONNECTIONS)
    return [Identity.of(number.to_bytes(32)) for number in numbers]


def signed(home: Neighbour, sender: Identity, kind: str = "ping") -> str:
    """Return a message that is right."""
    return orjson.dumps(seal(sender, home.id, kind, b"{}")).decode()


async def test_junk_keeps_no_place(
    ann: Neighbour, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE", 1.0)
    async with session.ws_connect(url(ann)) as socket:
        same = signed(ann, STRANGER)
        await socket.send_str(same)
        await until(lambda: ann.lan.knows(STRANGER.id))
        forged = orjson.dumps(seal(STRANGER, ann.id, "ping", b"{}") | {"at": 1.0})
        listening = asyncio.create_task(socket.receive())
        async with asyncio.timeout(10):
            while not listening.done():
                for junk in ("x", "{}", forged.decode(), same):
                    with suppress(ClientError):
                        await socket.send_str(junk)
                await asyncio.sleep(0.02)
        assert listening.result().type is WSMsgType.CLOSE


async def test_strangers_do_not_stay_for_ever(
    ann: Neighbour, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRANGER_TIME", 1.0)
    friend = Identity.of(bytes([8] * 32))
    ann.friends.add(friend.id)
    async with session.ws_connect(url(ann)) as other:
        await other.send_str(signed(ann, friend))
        await until(lambda: ann.lan.knows(friend.id))
        async with session.ws_connect(url(ann)) as socket:
            listening = asyncio.create_task(socket.receive())
            async with asyncio.timeout(10):
                while not listening.done():
                    await socket.send_str(signed(ann, STRANGER))
                    await asyncio.sleep(0.1)
            assert listening.result().type is WSMsgType.CLOSE
        assert ann.lan.knows(friend.id)


async def test_a_friend_finds_a_place_in_any_crowd_and_keeps_it(
    ann: Neighbour, session: ClientSession, crowd: Crowd
) -> None:
    friend = Identity.of(bytes([8] * 32))
    ann.friends.add(friend.id)
    await crowd.call(*strangers())
    async with session.ws_connect(url(ann)) as socket:
        await socket.send_str(signed(ann, friend))
        await until(lambda: ann.lan.knows(friend.id))
        await crowd.call(*strangers(2000))
        assert ann.lan.knows(friend.id)
        assert ann.messenger.send(friend.id, "pong", b"{}")
        assert (await socket.receive(timeout=5)).type is WSMsgType.TEXT


async def test_a_friend_has_time_for_its_first_message_while_others_crowd_in(
    ann: Neighbour, session: ClientSession, crowd: Crowd
) -> None:
    friend = Identity.of(bytes([8] * 32))
    ann.friends.add(friend.id)
    await crowd.call(*strangers())
    async with session.ws_connect(url(ann)) as socket:
        await crowd.call(*strangers(2000)[: 2 * module.MAX_PER_ADDRESS])
        await socket.send_str(signed(ann, friend))
        await until(lambda: ann.lan.knows(friend.id), 10)


async def test_one_friend_does_not_take_the_places_of_all(
    ann: Neighbour, session: ClientSession, crowd: Crowd
) -> None:
    greedy, friend = Identity.of(bytes([7] * 32)), Identity.of(bytes([8] * 32))
    ann.friends.update((greedy.id, friend.id))
    await crowd.call(*[greedy] * module.MAX_CONNECTIONS)
    async with session.ws_connect(url(ann)) as socket:
        await socket.send_str(signed(ann, friend))
        await until(lambda: ann.lan.knows(friend.id))
        assert ann.lan.knows(greedy.id)


async def test_connections_that_say_nothing_make_room(ann: Neighbour) -> None:
    async with AsyncExitStack() as stack:
        for number in range(module.MAX_SOCKETS):
            place = f"127.0.1.{number // module.MAX_SOCKETS_PER_ADDRESS + 1}"
            _, writer = await asyncio.open_connection(
                "127.0.0.1", ann.lan.port, local_addr=(place, 0)
            )
            stack.callback(writer.close)
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", ann.lan.port)
            stack.callback(writer.close)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"404" in await reader.readline()


async def test_what_is_no_http_does_not_fill_the_log(
    ann: Neighbour, caplog: pytest.LogCaptureFixture
) -> None:
    for said in (b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n:::\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", ann.lan.port)
        writer.write(said + b"\r\n\r\n")
        assert b"400" in await reader.readline()
        writer.close()
    assert not [each for each in caplog.records if each.levelno > logging.DEBUG]


async def test_nobody_is_followed_elsewhere(ann: Neighbour) -> None:
    visits: list[str] = []

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        visits.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        trap = LanHome(id=STRANGER.id, name="E", addresses=("127.0.0.1",), port=port)
        ann.lan.show((trap,))
        ann.messenger.send(STRANGER.id, "ping", b"{}")
        await until(lambda: not ann.lan.knows(STRANGER.id))
    finally:
        await runner.cleanup()
    assert visits == [PATH]


async def test_a_message_that_is_played_again_proves_nothing(
    ann: Neighbour, session: ClientSession
) -> None:
    message = seal(STRANGER, ann.id, "ping", b"{}")
    async with session.ws_connect(url(ann)) as home:
        await home.send_str(orjson.dumps(message).decode())
        await until(lambda: ann.lan.knows(STRANGER.id))
        (line,) = ann.lan._callers.values()
        async with session.ws_connect(url(ann), autoping=False) as other:
            await other.send_str(orjson.dumps(message).decode())
            await dealt_with(other)
            assert list(ann.lan._callers.values()) == [line]
        await home.close()
        await until(lambda: not ann.lan.knows(STRANGER.id))
        async with session.ws_connect(url(ann), autoping=False) as other:
            await other.send_str(orjson.dumps(message).decode())
            await dealt_with(other)
            assert not ann.lan.knows(STRANGER.id)
            # What is new does.
            await other.send_str(signed(ann, STRANGER))
            await dealt_with(other)
            assert ann.lan.knows(STRANGER.id)


async def test_a_message_that_a_server_brought_first_proves_a_line(
    ann: Neighbour, session: ClientSession
) -> None:
    class Server:
        is_lan = False
        tells_apart = False
        origin = "signal.example"

        def send(self, home: str, message: dict[str, object], *, reply: bool) -> bool:
            return False

    message = seal(STRANGER, ann.id, "ping", b"{}")
    assert ann.messenger.receive(message, Server(), STRANGER.id) == STRANGER.id
    async with session.ws_connect(url(ann)) as home:
        await home.send_str(orjson.dumps(message).decode())
        await until(lambda: ann.lan.knows(STRANGER.id))


async def test_ids_of_messages_are_their_senders_own(ann: Neighbour) -> None:
    other = Identity.of(bytes([8] * 32))
    first = seal(STRANGER, ann.id, "ping", b"{}")
    line = module.Line(ann.lan, "10.0.0.1", None)
    assert ann.messenger.receive(first, line) == STRANGER.id
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2p.net.messages.secrets.token_hex", lambda _: first["id"])
        second = seal(other, ann.id, "ping", b"{}")
    assert second["id"] == first["id"]
    assert ann.messenger.receive(second, line) == other.id


async def test_who_called_is_not_the_only_one_who_is_told(
    ann: Neighbour, session: ClientSession
) -> None:
    async with neighbour("Bob") as bob, session.ws_connect(url(ann)) as thief:
        # It was held back on its way, and so is fresh.
        message = seal(bob.identity, ann.id, "ping", b"{}")
        await thief.send_str(orjson.dumps(message).decode())
        await until(lambda: ann.lan.knows(bob.id))
        ann.sees(bob)
        ann.pairings.request(bob.id, trusted=False)
        await until(lambda: bob.pairings.statuses)


async def test_a_home_that_does_not_answer_is_not_called_again_and_again(
    ann: Neighbour,
) -> None:
    dead = LanHome(id=STRANGER.id, name="Eve", addresses=("127.0.0.1",), port=1)
    ann.lan.show((dead,))
    assert ann.lan.knows(STRANGER.id)
    ann.messenger.send(STRANGER.id, "ping", b"{}")
    await until(lambda: not ann.lan.knows(STRANGER.id))
    ann.lan.retry()
    assert ann.lan.knows(STRANGER.id)


@pytest.mark.parametrize(
    "addresses", [("example.com",), ("8.8.8.8",), ("",), ("::ffff:8.8.8.8",), ()]
)
async def test_addresses_that_are_not_near_are_not_called(
    ann: Neighbour, addresses: tuple[str, ...]
) -> None:
    ann.lan.show(
        (LanHome(id=STRANGER.id, name="E", addresses=addresses, port=ann.lan.port),)
    )
    ann.messenger.send(STRANGER.id, "ping", b"{}")
    await until(lambda: not ann.lan._lines)
    assert not ann.lan._inside


def test_what_is_near() -> None:
    for text in ("10.1.2.3", "192.168.1.1", "fe80::1", "fd00::1", "127.0.0.1", "::1"):
        assert is_near(ip_address(text))
    for text in ("8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"):
        assert not is_near(ip_address(text))
    for text in ("0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.251", "ff02::fb"):
        assert not is_near(ip_address(text))


async def test_a_home_that_moved_is_called_where_it_is_now(ann: Neighbour) -> None:
    async with neighbour("Bob") as bob, neighbour("Carl") as carl:
        ann.friends.add(bob.id)
        assert not ann.lan.show((_at(bob, bob.lan.port),))
        ann.messenger.send(bob.id, "request", b"{}")
        line = ann.lan._lines[bob.id]
        await until(lambda: bob.lan._serving)
        # It says that it is at Carl's port now; nobody is surprised that it is not.
        assert ann.lan.show((_at(bob, carl.lan.port),)) == [bob.id]
        assert not ann.lan.show((_at(bob, carl.lan.port),))
        ann.messenger.send(bob.id, "request", b"{}")
        assert ann.lan._lines[bob.id] is not line
        await until(lambda: carl.lan._serving)
        await until(lambda: not bob.lan._serving)


async def test_lines_are_made_anew_when_the_network_changed(ann: Neighbour) -> None:
    async with neighbour("Bob") as bob:
        ann.sees(bob)
        ann.messenger.send(bob.id, "request", b"{}")
        await until(lambda: bob.lan._serving)
        former = set(bob.lan._serving)
        ann.lan.retry()
        ann.messenger.send(bob.id, "request", b"{}")
        await until(lambda: bob.lan._serving and not former & set(bob.lan._serving))


def _at(home: Neighbour, port: int) -> LanHome:
    return LanHome(id=home.id, name=home.name, addresses=("127.0.0.1",), port=port)
