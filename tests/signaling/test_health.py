"""How a container learns whether its server is well."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from pemus_signaling.health import is_well
from pemus_signaling.settings import Settings
from tests.signaling.server import ADDRESS, running


async def test_a_server_that_runs_is_well_and_one_that_ended_is_not() -> None:
    async with running() as server:
        settings = Settings(host=ADDRESS, port=server.port)
        assert await asyncio.to_thread(is_well, settings)
        assert await asyncio.to_thread(
            is_well, Settings(host="0.0.0.0", port=server.port)
        )
    assert not await asyncio.to_thread(is_well, settings)


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 500 No\r\n\r\n", False),
        (b"?", False),
        (b"", False),
    ],
)
async def test_the_status_of_the_command_tells(answer: bytes, well: bool) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pemus_signaling.health",
            "--host",
            ADDRESS,
            env={**os.environ, "PEMUS_PORT": str(port)},
        )
        assert (await asyncio.wait_for(process.wait(), 60) == 0) == well


async def test_settings_that_make_no_sense_are_not_well() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pemus_signaling.health",
        env={**os.environ, "PEMUS_PORT": "none"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await asyncio.wait_for(process.wait(), 60) == 1
