"""A real signalling server, and homes that use it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
import sys
import time
from typing import Final, Self

import aiohttp

from .home import HOST, Home, HomeError, free_port

SERVER_PORT: Final = 9000
SERVER_TIMEOUT: Final = 30
LOOK: Final = 0.25


class SignalingServer:
    """The signalling server in a process of its own, on loopback."""

    def __init__(self, folder: Path, python: Path, port: int | None = None) -> None:
        """Prepare; nothing runs yet. `python` belongs to the signalling server's environment."""
        self.port = port or free_port(SERVER_PORT)
        self.url = f"http://{HOST}:{self.port}/"
        self.log = folder / "signaling.log"
        self._folder = folder
        self._python = python
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it and wait until it answers. Raises HomeError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(self._python, "-m", "pemus_signaling"),
                *("--host", HOST, "--port", str(self.port)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + SERVER_TIMEOUT
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline and self._process.returncode is None:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}readyz") as answer:
                        if answer.ok:
                            return self
                await asyncio.sleep(LOOK)
        await self.stop()
        raise HomeError(
            f"the signalling server did not start\n{self.log.read_text('utf-8', 'replace')}"
        )

    async def __aexit__(self, *_: object) -> None:
        """End it."""
        await self.stop()

    async def stop(self) -> None:
        """End it now."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def use_servers(home: Home, *urls: str) -> None:
    """Have a home find its friends at signalling servers, as a user would set them. Raises HomeError."""
    flows = "/api/config/config_entries/options/flow"
    flow = await home.post(flows, {"handler": await home.entry()})
    await home.post(f"{flows}/{flow['flow_id']}", {"next_step_id": "servers"})
    await home.finish(flows, flow["flow_id"], {"servers": list(urls)})


def say(text: str) -> None:
    """Tell the user what goes on."""
    sys.stderr.write(f"    {text}\n")
    sys.stderr.flush()
