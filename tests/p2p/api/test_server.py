"""The socket: private, removed in the end, and taken over only from the dead."""

from __future__ import annotations

import asyncio
from pathlib import Path
import socket as sockets
import stat

import aiohttp
import pytest

from p2p.api import ApiServer, SocketError
from tests.patience import Stopwatch

from .conftest import ITEM_ID, SmallHome


async def test_only_this_user_may_use_the_socket(
    server: ApiServer, socket_path: Path
) -> None:
    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600


async def test_the_socket_is_gone_when_the_server_stopped(
    home: SmallHome, socket_path: Path
) -> None:
    server = ApiServer(home, socket_path)
    await server.start()
    await server.stop()
    assert not socket_path.exists()
    await server.stop()


async def test_a_dead_socket_is_replaced(home: SmallHome, socket_path: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(socket_path))
    server = ApiServer(home, socket_path)
    await server.start()
    await server.stop()


async def test_a_socket_in_use_is_left_alone(
    server: ApiServer,
    session: aiohttp.ClientSession,
    home: SmallHome,
    socket_path: Path,
) -> None:
    second = ApiServer(home, socket_path)
    with pytest.raises(SocketError, match="another engine listens"):
        await second.start()
    await second.stop()
    async with session.get("status") as response:
        assert response.status == 200


async def test_the_socket_of_a_successor_is_not_removed(
    home: SmallHome, socket_path: Path
) -> None:
    first = ApiServer(home, socket_path)
    await first.start()
    socket_path.unlink()
    second = ApiServer(home, socket_path)
    await second.start()
    await first.stop()
    assert socket_path.is_socket()
    await second.stop()


async def test_a_file_at_its_place_is_left_alone(
    home: SmallHome, socket_path: Path
) -> None:
    socket_path.write_text("precious")
    with pytest.raises(SocketError, match="is no socket"):
        await ApiServer(home, socket_path).start()
    assert socket_path.read_text() == "precious"


async def test_a_path_that_is_too_long_is_said_to_be(home: SmallHome) -> None:
    # 108 bytes, though fewer characters.
    path = Path("/tmp") / ("é" * 51 + "x")
    assert len(str(path)) < 107
    with pytest.raises(SocketError, match="108 bytes long, at most 107"):
        await ApiServer(home, path).start()


async def test_the_longest_path_works(home: SmallHome, socket_path: Path) -> None:
    path = socket_path.parent / ("x" * (106 - len(str(socket_path.parent))))
    assert len(str(path)) == 107
    server = ApiServer(home, path)
    await server.start()
    await server.stop()


async def test_a_folder_that_is_not_there_is_named(home: SmallHome) -> None:
    with pytest.raises(SocketError, match="cannot listen at /nowhere"):
        await ApiServer(home, Path("/nowhere/engine.sock")).start()


async def test_stopping_does_not_wait_for_half_requests_and_slow_answers(
    home: SmallHome, socket_path: Path
) -> None:
    server = ApiServer(home, socket_path)
    await server.start()
    home.on_item = asyncio.Event().wait
    with (
        sockets.socket(sockets.AF_UNIX) as half,
        sockets.socket(sockets.AF_UNIX) as slow,
    ):
        half.connect(str(socket_path))
        half.sendall(b"GET /v1/sta")
        slow.connect(str(socket_path))
        slow.sendall(
            f"GET /v1/items/self/{ITEM_ID} HTTP/1.1\r\nHost: e\r\n\r\n".encode()
        )
        await asyncio.sleep(0.1)
        with Stopwatch() as watch:
            await server.stop()
    assert watch.seconds < 3
