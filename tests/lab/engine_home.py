"""Homes without Home Assistant: an engine each, which is asked over its API as Home Assistant does.

The tests of engines, the network lab and the benchmarks use them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
import os
from pathlib import Path
import shutil
import tempfile
import time
from typing import Any, Final, Self
from uuid import uuid4

import aiohttp

MAIN: Final = (
    Path(__file__).parents[2] / "custom_components" / "pemus" / "p2p" / "__main__.py"
)
NAME: Final = "Second home"

START_TIMEOUT: Final = 60
LIBRARY_TIMEOUT: Final = 90
"""Seconds until the shared films are read."""
STOP_TIMEOUT: Final = 10
ASK_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)
POLL: Final = 0.2
PAUSE: Final = 1.0
"""Seconds without a change after which the library counts as read: it pauses between finding and reading files."""
PATIENCE: Final = 60.0
"""Seconds to wait for anything."""
LOOK: Final = 0.05
LOG: Final = 6000
"""Characters of the engine's log that are shown with a failure."""
READ: Final = 4 * 1024**2
"""Bytes that a player asks for at a time."""
SHARE: Final = "films"


class EngineHomeError(Exception):
    """The engine did not do what was asked. The message is fit to be shown."""


class EngineHome:
    """A home with friends: its engine's folder, process and socket."""

    def __init__(
        self,
        folder: Path,
        *,
        python: Path,
        name: str = NAME,
        prefix: tuple[str, ...] = (),
        main: Path = MAIN,
        log_level: str = "info",
    ) -> None:
        """Prepare; nothing runs yet. `python` belongs to an environment with the engine's requirements.

        `log_level` is the engine's own. `prefix` is a command that starts the engine, in another network for example, and
        `main` the script that runs it.
        """
        self.folder = folder
        self.name = name
        self.log = folder / "engine.log"
        self.process: asyncio.subprocess.Process | None = None
        self.id = ""
        """PeMuS ID, once started."""
        self.port = 0
        self.look = LOOK
        """Seconds between two looks at whether something has happened."""
        self.config: dict[str, Any] = {"home_name": name}
        self._python = python
        self._prefix = prefix
        self._main = main
        self._log_level = log_level
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
            raise EngineHomeError("the engine was not started")
        return self._run_folder / "engine.sock"

    async def start(self) -> None:
        """Start the engine, with its former configuration if there was one. Raises EngineHomeError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run_folder = Path(tempfile.mkdtemp(prefix="pemus-home-"))
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._prefix,
                *(self._python, "-I", self._main, "run", "--watch-stdin"),
                *("--log-level", self._log_level),
                *("--data", self.folder / "data", "--cache", self.folder / "cache"),
                *("--socket", self.socket),
                # Nothing is written to it. It ends with this process, and so does the engine.
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
                break
            await asyncio.sleep(POLL)
        else:
            raise EngineHomeError(
                f"the engine did not start\n{self.log.read_text('utf-8', 'replace')}"
            )
        await self.configure()
        # None without the libraries that it takes to have friends.
        if peers := (await self.ask("GET", "status"))["peers"]:
            self.id, self.port = peers["id"], peers["port"]

    async def stop(self) -> None:
        """Stop the engine and remove its socket. Its data stays in its folder."""
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

    async def kill(self) -> None:
        """End the engine as a power cut would."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        await self.stop()

    async def configure(self, **changes: Any) -> None:
        """Change some of the configuration: `shares`, `friends`, `servers`, `swarm`."""
        self.config |= changes
        await self.ask("PUT", "config", self.config)

    async def share(
        self, folder: Path, kinds: tuple[str, ...] = ("video",), **swarm: Any
    ) -> None:
        """Share a folder, and wait until it is read. `swarm` are settings of the swarm. Raises EngineHomeError."""
        share = {
            "id": SHARE,
            "path": str(folder.resolve()),
            "name": folder.name,
            "kinds": list(kinds),
        }
        await self.configure(shares=[share], swarm=swarm)
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
        raise EngineHomeError(f"the engine does not get {folder} read")

    async def items(self, node: str = "all/video/folders") -> dict[str, str]:
        """Return id and title of each item below a place of the library. Raises EngineHomeError."""
        found: dict[str, str] = {}
        for child in (await self.ask("GET", "browse", node=node))["children"]:
            if child["kind"] == "item":
                found[child["id"].removeprefix("item/")] = child["title"]
            else:
                found |= await self.items(child["id"])
        return found

    async def befriend(
        self, other: EngineHome, shares: tuple[str, ...] = (SHARE,), **more: Any
    ) -> None:
        """Add another home to the friends."""
        friends = [
            each for each in self.config.get("friends", []) if each["id"] != other.id
        ]
        friends.append({"id": other.id, "name": other.name, "shares": shares, **more})
        await self.configure(friends=friends)

    async def sees(self, *others: EngineHome, address: str = "127.0.0.1") -> None:
        """Show other homes to this one as the local network would."""
        homes = [
            {"id": o.id, "name": o.name, "addresses": [address], "port": o.port}
            for o in others
        ]
        await self.ask("PUT", "lan", {"homes": homes})

    async def peers(self) -> dict[str, Any]:
        """Return the engine's state about other homes. Raises EngineHomeError if there is none."""
        peers: dict[str, Any] | None = (await self.ask("GET", "status"))["peers"]
        if peers is None:
            raise EngineHomeError("the engine runs without friends")
        return peers

    async def friend(self, other: EngineHome) -> dict[str, Any]:
        """Return the state of a friend."""
        for friend in (await self.peers())["friends"]:
            if friend["id"] == other.id:
                return dict(friend)
        raise EngineHomeError(f"{other.name} is no friend")

    async def pairing(self, other: EngineHome) -> dict[str, Any]:
        """Return the pairing with a home, {} if there is none."""
        for pairing in (await self.peers())["pairings"]:
            if pairing["home"] == other.id:
                return dict(pairing)
        return {}

    async def until(
        self, true: Callable[[], Any], what: str, seconds: float = PATIENCE
    ) -> Any:
        """Wait until a question has an answer that is true, and return it. Raises EngineHomeError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := await true():
                return found
            await asyncio.sleep(self.look)
        log = self.log.read_text("utf-8", "replace")[-LOG:]
        raise EngineHomeError(f"{self.name}: {what} did not happen\n{log}")

    async def pair(self, other: EngineHome, seconds: float = PATIENCE) -> None:
        """Pair with another home by its ID, and make both friends."""
        await self.agree(other, seconds)
        await self.befriend(other)
        await other.befriend(self)

    async def agree(self, other: EngineHome, seconds: float = PATIENCE) -> None:
        """Pair with another home by its ID. Both still have to `befriend` each other."""
        await self.ask("POST", "pairings", {"home": other.id, "trusted": True})

        async def has(home: EngineHome, whom: EngineHome, state: str) -> bool:
            return (await home.pairing(whom)).get("state") == state

        await other.until(lambda: has(other, self, "comparing"), "a request", seconds)
        await other.ask("PUT", f"pairings/{self.id}/answer", {"accept": True})
        await self.until(lambda: has(self, other, "paired"), "pairing", seconds)
        await other.until(lambda: has(other, self, "paired"), "pairing", seconds)

    async def listed(
        self, other: EngineHome, count: int = 1, seconds: float = PATIENCE
    ) -> dict[str, str]:
        """Wait until so many items of a friend are in its list here; return ids and titles."""

        async def enough() -> bool:
            friend = await self.friend(other)
            return bool(friend["items"] >= count and friend["online"])

        await self.until(enough, f"a list of {count} items", seconds)
        node = f"home/{other.id}/all/video/folders"
        found = await self.items(node)
        return {name.rpartition("/")[2]: title for name, title in found.items()}

    async def play(
        self,
        other: EngineHome,
        item: str,
        start: int = 0,
        size: int | None = None,
        on_bytes: Callable[[int], None] = lambda _count: None,
    ) -> str:
        """Read bytes of a friend's item as the range view does; return their SHA-256. Raises EngineHomeError."""
        path = f"items/{other.id}/{item}"
        file = await self.ask("GET", f"{path}/file")
        stop = file["size"] if size is None else min(file["size"], start + size)
        reader, digest, at = uuid4().hex, sha256(), start
        stream = await asyncio.to_thread(Path(file["path"]).open, "rb", 0)
        with stream:
            try:
                while at < stop:
                    query = {
                        "reader": reader,
                        "path": file["path"],
                        "start": at,
                        "stop": stop,
                    }
                    end = (await self.ask("POST", f"{path}/wait", query))["stop"]
                    while at < end:
                        part = os.pread(stream.fileno(), min(READ, end - at), at)
                        digest.update(part)
                        at += len(part)
                        on_bytes(len(part))
            finally:
                await self.ask("DELETE", f"{path}/readers/{reader}")
        return digest.hexdigest()

    async def ask(
        self, method: str, path: str, body: Any = None, **query: str
    ) -> dict[str, Any]:
        """Return the answer of the engine's API. Raises EngineHomeError, aiohttp.ClientError."""
        if self._session is None:
            raise EngineHomeError("the engine was not started")
        async with self._session.request(
            method, f"http://engine/v1/{path}", json=body, params=query
        ) as answer:
            said: dict[str, Any] = await answer.json()
            if answer.status >= 400:
                raise EngineHomeError(f"{method} {path}: {said.get('message')}")
            return said
