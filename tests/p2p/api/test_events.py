"""Listeners hear of what changed: soon, not too often, and the newest state always."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
import json
from pathlib import Path
import resource
import socket as sockets

import aiohttp
import pytest

from p2p.api import ApiServer, events
from p2p.core import news
from p2p.models import Hello, ItemsChanged, StatusChanged
from p2p.models.codec import decode
from tests.patience import PATIENCE, Stopwatch, until

from .conftest import SmallHome


@pytest.fixture
async def listener(
    session: aiohttp.ClientSession,
) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
    async with session.ws_connect("events") as socket:
        yield socket


async def hear(
    socket: aiohttp.ClientWebSocketResponse,
) -> Hello | StatusChanged | ItemsChanged:
    text = await socket.receive_str(timeout=5)
    kind: type[Hello | StatusChanged | ItemsChanged] = {
        "hello": Hello,
        "status": StatusChanged,
        "items": ItemsChanged,
    }[json.loads(text)["type"]]
    return decode(kind, text)


async def test_the_first_word_is_hello(
    listener: aiohttp.ClientWebSocketResponse, home: SmallHome
) -> None:
    assert await hear(listener) == Hello(status=home.status())


async def test_a_change_is_told_at_once(
    listener: aiohttp.ClientWebSocketResponse, home: SmallHome
) -> None:
    await hear(listener)
    await asyncio.sleep(2 * events.EVENT_INTERVAL)
    home.revision = 7
    with Stopwatch() as watch:
        home.news.status_changed()
        home.news.items_changed(("a" * 26,))
        assert await hear(listener) == ItemsChanged(revision=7, items=("a" * 26,))
        assert await hear(listener) == StatusChanged(status=home.status())
    assert watch.seconds < events.EVENT_INTERVAL / 2


async def test_a_thousand_changes_a_second_become_a_few_with_the_newest_last(
    listener: aiohttp.ClientWebSocketResponse, home: SmallHome
) -> None:
    await hear(listener)
    heard: list[StatusChanged] = []

    async def listen() -> None:
        while not heard or heard[-1].status.revision < 1000:
            event = await hear(listener)
            assert isinstance(event, StatusChanged)
            heard.append(event)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(listen())
        for revision in range(1, 1001):
            home.revision = revision
            home.news.status_changed()
            await asyncio.sleep(0.001)
    assert len(heard) <= 3 + 1000 * 0.003 / events.EVENT_INTERVAL
    assert heard[-1].status.revision == 1000


async def test_the_state_is_put_together_once_for_all_who_listen(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    async with (
        session.ws_connect("events") as one,
        session.ws_connect("events") as other,
    ):
        for socket in (one, other):
            await hear(socket)
        home.statuses = 0
        home.revision = 7
        home.news.status_changed()
        home.news.items_changed(("a" * 26,))
        for socket in (one, other):
            assert isinstance(await hear(socket), ItemsChanged)
            event = await hear(socket)
            assert isinstance(event, StatusChanged)
            assert event.status.revision == 7
        assert home.statuses == 1


async def test_changed_items_are_collected_without_doubles(
    listener: aiohttp.ClientWebSocketResponse, home: SmallHome
) -> None:
    await hear(listener)
    home.news.items_changed(("b" * 26, "a" * 26))
    home.news.items_changed(("a" * 26,))
    event = await hear(listener)
    assert isinstance(event, ItemsChanged)
    assert event.items == ("a" * 26, "b" * 26)


@pytest.mark.parametrize("named", [False, True])
async def test_too_many_changed_items_are_not_named(
    listener: aiohttp.ClientWebSocketResponse, home: SmallHome, named: bool
) -> None:
    await hear(listener)
    many = tuple(f"{number:026}" for number in range(news.MAX_NAMED_ITEMS + 1))
    home.news.items_changed(many if named else None)
    home.news.items_changed(("a" * 26,))
    event = await hear(listener)
    assert isinstance(event, ItemsChanged)
    assert event.items is None


async def test_what_changes_while_nobody_listens_is_in_the_next_hello(
    session: aiohttp.ClientSession, home: SmallHome
) -> None:
    home.revision = 3
    home.news.status_changed()
    async with session.ws_connect("events") as socket:
        assert await hear(socket) == Hello(status=home.status())


async def test_a_listener_that_does_not_read_costs_nothing_and_is_given_up(
    session: aiohttp.ClientSession,
    home: SmallHome,
    socket_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "EVENT_INTERVAL", 0)
    monkeypatch.setattr(events, "SEND_TIMEOUT", 0.5)
    many = tuple(f"{number:026}" for number in range(news.MAX_NAMED_ITEMS))
    with sockets.socket(sockets.AF_UNIX) as deaf:
        deaf.connect(str(socket_path))
        deaf.sendall(
            b"GET /v1/events HTTP/1.1\r\nHost: e\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await until(lambda: home.news.listeners == 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rounds = 0
        async with asyncio.timeout(20):
            while home.news.listeners:
                home.news.items_changed(many)
                rounds += 1
                await asyncio.sleep(0)
        # Much more was said than a socket's buffers hold, and none of it was kept.
        assert rounds > 100
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 16 * 1024
    async with session.get("status") as response:
        assert response.status == 200


async def test_a_listener_that_vanishes_is_forgotten(
    server: ApiServer, home: SmallHome, socket_path: Path
) -> None:
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(socket_path))
    ) as client:
        socket = await client.ws_connect("http://engine/v1/events")
        await hear(socket)
        assert home.news.listeners == 1
        transport = socket._response.connection.transport  # type: ignore[union-attr]
        transport.abort()  # type: ignore[union-attr]
        await until(lambda: not home.news.listeners)
        home.news.status_changed()
        await socket.close()


async def test_a_listener_that_talks_too_much_is_sent_away(
    listener: aiohttp.ClientWebSocketResponse, home: SmallHome
) -> None:
    await hear(listener)
    await listener.send_str("hello?")
    home.news.status_changed()
    assert isinstance(await hear(listener), StatusChanged)
    await listener.send_str("x" * (events.MAX_INCOMING + 1))
    message = await listener.receive(timeout=5)
    assert message.type is aiohttp.WSMsgType.CLOSE
    assert message.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_stopping_says_good_bye_to_listeners(
    session: aiohttp.ClientSession, server: ApiServer
) -> None:
    async with session.ws_connect("events") as socket:
        await hear(socket)
        with Stopwatch() as watch:
            stopping = asyncio.create_task(server.stop())
            message = await socket.receive(timeout=PATIENCE)
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert message.data == aiohttp.WSCloseCode.GOING_AWAY
            await stopping
    assert watch.seconds < 2
