"""Homes without Home Assistant that are friends: an engine each, asked over its API as Home Assistant would.

The tests of engines, the network lab and the benchmarks use them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
import os
from pathlib import Path
import time
from typing import Any, Final
from uuid import uuid4

from .second_engine import SecondEngine, SecondEngineError

PATIENCE: Final = 60.0
"""Seconds for whatever is waited for."""
LOOK: Final = 0.05
LOG: Final = 6000
"""Characters of the engine's log that are shown with a failure."""
READ: Final = 4 * 1024**2
"""Bytes that a player asks for at a time."""
SHARE: Final = "films"


class EngineHome(SecondEngine):
    """A home with friends."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Prepare a home as `SecondEngine` does."""
        super().__init__(*arguments, **options)
        self.id = ""
        """PeMuS ID, once started."""
        self.port = 0
        self.look = LOOK
        """Seconds between two looks at whether something has happened."""
        self.config: dict[str, Any] = {"home_name": self.name}

    async def start(self) -> None:
        """Start the engine, with its former configuration if there was one. Raises SecondEngineError."""
        await super().start()
        await self.configure()
        peers = await self.peers()
        self.id, self.port = peers["id"], peers["port"]

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
        """Share a folder, and wait until it is read."""
        await super().share(folder, kinds, **swarm)
        self.config["shares"] = [
            {
                "id": SHARE,
                "path": str(folder.resolve()),
                "name": folder.name,
                "kinds": list(kinds),
            }
        ]
        self.config["swarm"] = swarm
        await self.configure()

    async def befriend(
        self, other: EngineHome, shares: tuple[str, ...] = (SHARE,), **more: Any
    ) -> None:
        """Count another home among the friends."""
        friends = [
            each for each in self.config.get("friends", []) if each["id"] != other.id
        ]
        friends.append({"id": other.id, "name": other.name, "shares": shares, **more})
        await self.configure(friends=friends)

    async def sees(self, *others: EngineHome, address: str = "127.0.0.1") -> None:
        """Let the local network show other homes."""
        homes = [
            {"id": o.id, "name": o.name, "addresses": [address], "port": o.port}
            for o in others
        ]
        await self.ask("PUT", "lan", {"homes": homes})

    async def peers(self) -> dict[str, Any]:
        """Return what the engine says of other homes. Raises SecondEngineError if it has none."""
        peers: dict[str, Any] | None = (await self.ask("GET", "status"))["peers"]
        if peers is None:
            raise SecondEngineError("the engine runs without friends")
        return peers

    async def friend(self, other: EngineHome) -> dict[str, Any]:
        """Return how a friend is."""
        for friend in (await self.peers())["friends"]:
            if friend["id"] == other.id:
                return dict(friend)
        raise SecondEngineError(f"{other.name} is no friend")

    async def pairing(self, other: EngineHome) -> dict[str, Any]:
        """Return the pairing with a home, {} if there is none."""
        for pairing in (await self.peers())["pairings"]:
            if pairing["home"] == other.id:
                return dict(pairing)
        return {}

    async def until(
        self, true: Callable[[], Any], what: str, seconds: float = PATIENCE
    ) -> Any:
        """Wait until a question is answered with something, and return that. Raises SecondEngineError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := await true():
                return found
            await asyncio.sleep(self.look)
        log = self.log.read_text("utf-8", "replace")[-LOG:]
        raise SecondEngineError(f"{self.name}: {what} did not happen\n{log}")

    async def pair(self, other: EngineHome, seconds: float = PATIENCE) -> None:
        """Ask another home by its ID, and let it say yes. Both count each other among their friends afterwards."""
        await self.agree(other, seconds)
        await self.befriend(other)
        await other.befriend(self)

    async def agree(self, other: EngineHome, seconds: float = PATIENCE) -> None:
        """Ask another home by its ID, and let it say yes. It remains to `befriend` each other."""
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
        """Read bytes of a friend's item as the range view does; return their SHA-256. Raises SecondEngineError."""
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
