"""A second home on the same machine, for the demo and the tests: an engine of its own, without a Home Assistant.

It shares the films of a folder, and gives another home tickets for them through the engine's own command line, as two
people could who know each other.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
import json
import os
from pathlib import Path
import shutil
import tempfile
import time
from typing import Any, Final, Self

import aiohttp

MAIN: Final = (
    Path(__file__).parent.parent / "custom_components" / "pemus" / "p2p" / "__main__.py"
)
NAME: Final = "Second home"

START_TIMEOUT: Final = 60
LIBRARY_TIMEOUT: Final = 90
"""Seconds until the shared films are read."""
GIVE_TIMEOUT: Final = 60
"""Seconds until all films are hashed and their tickets taken."""
STOP_TIMEOUT: Final = 10
ASK_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)
POLL: Final = 0.2
PAUSE: Final = 1.0
"""Seconds without a change, after which the library is read: it rests between finding the files and reading them."""
TICKET_HOURS: Final = 7 * 24


class SecondEngineError(Exception):
    """The second engine did not do what was asked. The message is fit to be shown."""


class SecondEngine:
    """One engine: its folder, its process, and its socket."""

    def __init__(
        self,
        folder: Path,
        *,
        python: Path,
        name: str = NAME,
        prefix: tuple[str, ...] = (),
        log_level: str = "info",
    ) -> None:
        """Prepare; nothing runs yet. `python` belongs to an environment with the engine's requirements.

        `log_level` is the engine's own. `prefix` is a command that starts the engine, in another network for example.
        """
        self._prefix = prefix
        self._log_level = log_level
        self.log = folder / "engine.log"
        self.name = name
        self.process: asyncio.subprocess.Process | None = None
        self.folder = folder
        self._python = python
        # Not below the folder: a socket's path has 107 bytes.
        self._run_folder: Path | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Start the engine. It is stopped if that fails."""
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the engine."""
        await self.stop()

    @property
    def socket(self) -> Path:
        """Where the engine listens."""
        if self._run_folder is None:
            raise SecondEngineError("the second engine was not started")
        return self._run_folder / "engine.sock"

    async def start(self) -> None:
        """Start the engine and wait until it answers. Raises SecondEngineError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run_folder = Path(tempfile.mkdtemp(prefix="pemus-second-"))
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._prefix,
                *(self._python, "-I", MAIN, "run", "--watch-stdin"),
                *("--log-level", self._log_level),
                *("--data", self.folder / "data", "--cache", self.folder / "cache"),
                *("--socket", self.socket),
                # Never written to. It ends with this process, and so does the engine.
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        connector = aiohttp.UnixConnector(str(self.socket))
        self._session = aiohttp.ClientSession(connector=connector, timeout=ASK_TIMEOUT)
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.process.returncode is None:
            with suppress(aiohttp.ClientError):
                await self.ask("GET", "status")
                return
            await asyncio.sleep(POLL)
        raise SecondEngineError(
            f"the second engine did not start\n{self.log.read_text('utf-8', 'replace')}"
        )

    async def stop(self) -> None:
        """End the engine, wait for its end, and remove its socket. What it keeps stays in its folder."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        if self._run_folder is not None:
            shutil.rmtree(self._run_folder, ignore_errors=True)
            self._run_folder = None

    async def share(
        self, folder: Path, kinds: tuple[str, ...] = ("video",), **swarm: Any
    ) -> None:
        """Share a folder, and wait until it is read. `swarm` are settings of the swarm. Raises SecondEngineError."""
        await self.ask(
            "PUT",
            "config",
            {
                "home_name": self.name,
                "shares": [
                    {
                        "id": "films",
                        "path": str(folder.resolve()),
                        "name": folder.name,
                        "kinds": kinds,
                    }
                ],
                "swarm": swarm,
            },
        )
        deadline = time.monotonic() + LIBRARY_TIMEOUT
        revision, since = -1, 0.0
        while time.monotonic() < deadline:
            state = await self.ask("GET", "status")
            (share,) = state["shares"]
            settled = (
                share["available"]
                and share["last_scan"] is not None
                and state["scan_state"] == "idle"
            )
            if not settled or state["revision"] != revision:
                revision, since = state["revision"], time.monotonic()
            elif time.monotonic() > since + PAUSE:
                return
            await asyncio.sleep(POLL)
        raise SecondEngineError(f"the second engine does not get {folder} read")

    async def items(self, node: str = "all/video/folders") -> dict[str, str]:
        """Return id and title of each item below a place of the library. Raises SecondEngineError."""
        found: dict[str, str] = {}
        for child in (await self.ask("GET", "browse", node=node))["children"]:
            if child["kind"] == "item":
                found[child["id"].removeprefix("item/")] = child["title"]
            else:
                found |= await self.items(child["id"])
        return found

    async def give_all(self, socket: Path) -> int:
        """Give tickets for all videos to the home whose engine listens at a socket; return how many it can play.

        Raises SecondEngineError.
        """
        deadline = time.monotonic() + GIVE_TIMEOUT
        receiver = await self.home_at(socket)
        waiting = list(await self.items())
        total = len(waiting)
        while True:
            waiting = [
                item for item in waiting if not await self.give(item, socket, receiver)
            ]
            if not waiting or time.monotonic() > deadline:
                return total - len(waiting)
            await asyncio.sleep(PAUSE)

    async def home_at(self, socket: Path) -> str:
        """Return the id of the home whose engine listens at a socket. Raises SecondEngineError."""
        return (await self.command("home", socket=socket)).strip()

    async def give(self, item: str, socket: Path, receiver: str = "") -> bool:
        """Give a ticket for an item to the home whose engine listens at a socket.

        Returns whether the item is hashed: as long as it is not, it is shown there but cannot be fetched, and needs
        another ticket. Raises SecondEngineError.
        """
        receiver = receiver or await self.home_at(socket)
        ticket = await self.command(
            *("ticket", item, "--receiver", receiver, "--hours", str(TICKET_HOURS))
        )
        await self.command("accept", socket=socket, standard_input=ticket)
        facts = json.loads(ticket)
        # An empty file has nothing to be hashed.
        return facts["torrent"] is not None or facts["item"]["size"] == 0

    async def command(
        self, *arguments: str, socket: Path | None = None, standard_input: str = ""
    ) -> str:
        """Return what a command of the engine's command line says, asked of this engine or of another one.

        Raises SecondEngineError.
        """
        process = await asyncio.create_subprocess_exec(
            *(str(self._python), "-I", str(MAIN), *arguments),
            *("--socket", str(socket or self.socket)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONUTF8": "1"},
        )
        said, complaint = await process.communicate(standard_input.encode())
        if process.returncode:
            raise SecondEngineError(f"{arguments[0]}: {complaint.decode().strip()}")
        return said.decode()

    async def ask(
        self, method: str, path: str, body: Any = None, **query: str
    ) -> dict[str, Any]:
        """Return the answer of the engine's API. Raises SecondEngineError, aiohttp.ClientError."""
        if self._session is None:
            raise SecondEngineError("the second engine was not started")
        async with self._session.request(
            method, f"http://engine/v1/{path}", json=body, params=query
        ) as answer:
            said: dict[str, Any] = await answer.json()
            if answer.status >= 400:
                raise SecondEngineError(f"{method} {path}: {said.get('message')}")
            return said
