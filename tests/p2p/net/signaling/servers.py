"""Signalling servers: real ones as processes of their own, hostile ones, and a home that is at one.

Between a home and a server there may be a wire, which can be cut without either end noticing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
import contextlib
import json
import os
from pathlib import Path
import re
from typing import Any, Self

import aiohttp
from aiohttp import web

from p2p.net.identity import Identity
from p2p.net.signaling.client import SignalingServer
from tests.patience import until

ROOT = Path(__file__).parents[4]
SIGNALING = ROOT / ".venvs" / "signaling" / "bin" / "python"
NODE = ROOT / ".venvs" / "npm" / "node"
HOST = "127.0.0.1"
STOCK = """
const { PeerServer } = await import(process.argv[1]);
PeerServer({ host: "127.0.0.1", port: 0, path: "/", ...JSON.parse(process.argv[2]) }, (server) => {
  console.error(`Listening on port ${server.address().port}`);
});
"""


FOREVER = 3600.0


class Program:
    """A server that says on stderr which port it listens on. It may be killed, and come back at the same one."""

    def __init__(self, log: Path, *command: object) -> None:
        """Prepare; `PORT` in the command stands for the port."""
        assert Path(str(command[0])).exists(), "run script/setup first"
        self._log = log
        self._command = [str(part) for part in command]
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}/"

    async def start(self) -> None:
        """Start, and wait until it listens."""
        command = [part.replace("PORT", str(self.port)) for part in self._command]
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT / "signaling_addon",
            )
        await until(self._listens)

    async def kill(self) -> None:
        """End at once, as when the machine is gone."""
        await self._end(lambda process: process.kill())

    async def stop(self) -> None:
        """End in good order, if it runs."""
        await self._end(lambda process: process.terminate())

    async def _end(self, how: Callable[[asyncio.subprocess.Process], None]) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                how(process)
            await process.wait()

    def _listens(self) -> bool:
        assert self._process is not None
        said = self._log.read_text()
        assert self._process.returncode is None, said
        if found := re.search(r"Listening on port ([0-9]+)", said):
            self.port = int(found[1])
        return found is not None


@contextlib.asynccontextmanager
async def running(program: Program) -> AsyncGenerator[Program]:
    """Have a program run, and nothing left of it in the end."""
    try:
        await program.start()
        yield program
    finally:
        await program.kill()


def signalling_server(folder: Path, *options: str) -> Program:
    """Return the project's own server, with options of its command line."""
    # fmt: off
    return Program(
        folder / "signalling.log", SIGNALING, "-m", "pemus_signaling", "--host", HOST, "--port", "PORT", "--retry-after", "0",
        *options,
    )
    # fmt: on


def stock_server(folder: Path, **options: object) -> Program:
    """Return npm's PeerServer, with options of its own. It comes back at another port."""
    module = ROOT / ".venvs" / "npm" / "node_modules" / "peer" / "dist" / "module.mjs"
    # fmt: off
    return Program(
        folder / "stock.log", NODE, "--input-type=module", "--eval", STOCK, module.as_uri(), json.dumps(options),
    )
    # fmt: on


class Wire:
    """Leads to a server, and can be made to carry nothing more while both ends believe that they are connected."""

    def __init__(self) -> None:
        """Prepare to lead nowhere yet."""
        self.port = 0
        """Of this machine, where it leads."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._cut: set[int] = set()
        self.connections = 0
        """That were made, since the start."""

    @property
    def url(self) -> str:
        """Where it begins."""
        assert self._server is not None
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}/"

    def cut(self) -> None:
        """Let nothing more through of the present connections."""
        self._cut = set(range(self.connections))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, HOST, 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        number, self.connections = self.connections, self.connections + 1
        there, back = await asyncio.open_connection(HOST, self.port)
        self._writers += [writer, back]
        for one, other in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._copy(number, one, other))
            self._tasks.add(task)

    async def _copy(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if number in self._cut:
                    continue
                writer.write(data)
                await writer.drain()
        if number not in self._cut:
            writer.close()


def somebody() -> Identity:
    """Return an identity that nobody else has."""
    return Identity.of(os.urandom(32))


class Home:
    """A home at a server, and what it is told."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        identity: Identity | None = None,
    ) -> None:
        """Prepare one that is somebody, or somebody else if no identity is given."""
        self.identity = identity or somebody()
        self.received: list[tuple[str, Any]] = []
        self.guests: list[tuple[str, Any]] = []
        self.missing: list[str] = []
        self.messages: list[str | None] = []
        """What was said of the connection, one after the other."""
        self.server = SignalingServer(
            url,
            self.identity,
            on_message=lambda home, sent: self.received.append((home, sent)),
            on_guest=lambda guest, sent: self.guests.append((guest, sent)),
            on_missing=self.missing.append,
            on_change=lambda: self.messages.append(self.server.status.message),
            session=session,
        )

    @property
    def id(self) -> str:
        """Its PeMuS ID."""
        return self.identity.id

    @property
    def is_connected(self) -> bool:
        """Whether it is."""
        return self.server.status.connected

    async def connected(self) -> None:
        """Wait until it is connected."""
        await until(lambda: self.is_connected)

    async def told(self, part: str) -> None:
        """Wait until something was said of the connection."""
        await until(lambda: any(part in (message or "") for message in self.messages))

    async def __aenter__(self) -> Self:
        self.server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.server.stop()


type Script = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]


class Stage:
    """A server that does over a WebSocket what a test wants."""

    def __init__(self, script: Script) -> None:
        """Prepare to act; the socket is closed when the script ends."""
        self._script = script
        self.description: web.StreamResponse | object = {}
        """What it answers at its address, or the JSON of that."""
        self.turn: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.refuse: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = (
            None
        )
        """What it answers instead of giving a WebSocket."""
        self.visits = 0
        """WebSockets that were asked for."""
        self.url = ""

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        described = self.description
        if callable(described):
            answer: web.StreamResponse = await described(request)
            return answer
        return web.json_response(described)

    async def _hand_out(self, request: web.Request) -> web.StreamResponse:
        assert self.turn is not None
        return await self.turn(request)

    async def _play(self, request: web.Request) -> web.StreamResponse:
        if self.refuse is not None:
            return await self.refuse(request)
        self.visits += 1
        ws = web.WebSocketResponse(autoping=False, max_msg_size=0)
        await ws.prepare(request)
        await self._script(ws, request)
        return ws


@contextlib.asynccontextmanager
async def acting(script: Script) -> AsyncGenerator[Stage]:
    """Have a server that follows a script with everybody who connects."""
    stage = Stage(script)
    app = web.Application()
    app.router.add_get("/", stage._describe)
    app.router.add_get("/turn", stage._hand_out)
    app.router.add_get("/peerjs", stage._play)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    stage.url = f"http://{HOST}:{runner.addresses[0][1]}/"
    try:
        yield stage
    finally:
        await runner.cleanup()


def sockets() -> set[str]:
    """Return the sockets of this process."""
    found = set()
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(number.readlink()))
    return {each for each in found if each.startswith("socket:")}


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncGenerator[None]:
    """Check that nothing is left of what was begun meanwhile: no task and no socket."""
    before, tasks = sockets(), asyncio.all_tasks()
    yield
    await until(lambda: sockets() <= before)
    await until(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})


async def talk(one: Home, other: Home) -> None:
    """Have two homes send each other something, and check that nothing else comes."""
    one.received.clear()
    other.received.clear()
    assert one.server.send(other.id, {"sdp": "offer"})
    await until(lambda: other.received)
    assert other.received == [(one.id, {"sdp": "offer"})]
    assert other.server.send(one.id, {"sdp": "answer"}, reply=True)
    await until(lambda: one.received)
    assert one.received == [(other.id, {"sdp": "answer"})]
