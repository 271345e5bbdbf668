"""Who lives in the lab: homes with their engines on machines behind routers, and a film to be watched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
import os
from pathlib import Path
import time
from typing import Any

from tests.lab.engine_home import EngineHome
from tests.lab.netlab import Host

SIZE = 200_000_000
BEGINNING = 2_000_000
"""Bytes that somebody watches before he seeks."""
SEEK = SIZE * 4 // 5
PATIENCE = 90.0
"""Seconds for something to happen that takes a few: other things may run on the machine."""
LOOK = 0.02


class Film:
    """A film of random bytes, so that nothing can be mistaken for anything else."""

    def __init__(self, folder: Path) -> None:
        """Make it, an hour old: what is new is left to settle first."""
        self.folder = folder
        self.path = folder / "Ocean.mp4"
        with self.path.open("wb") as file:
            for _ in range(SIZE // 1_000_000):
                file.write(os.urandom(1_000_000))
        os.utime(self.path, (time.time() - 3600,) * 2)

    def digest(self, start: int = 0, stop: int = SIZE) -> str:
        """Return the SHA-256 of some of its bytes."""
        with self.path.open("rb") as file:
            file.seek(start)
            return sha256(file.read(stop - start)).hexdigest()


class Home(EngineHome):
    """A home on one of the lab's machines."""

    def __init__(self, name: str, host: Host, folder: Path, python: Path) -> None:
        """Prepare its engine."""
        super().__init__(
            folder / name,
            python=python,
            name=name,
            prefix=host.prefix,
            log_level="debug",
        )
        self.host = host

    async def meets(self, other: Home) -> None:
        """Have both see each other in their local network, as Home Assistant's zeroconf would tell them."""
        await self.sees(other, address=other.host.address)
        await other.sees(self, address=self.host.address)

    async def hears_of_a_new_network(self) -> None:
        """Tell its engine what Home Assistant would."""
        await self.ask("PUT", "network")

    async def path_to(self, other: Home) -> Any:
        """Return the way that the link to a friend takes."""
        return (await self.friend(other))["path"]

    async def reaches(self, other: Home, path: str) -> None:
        """Wait until the link to a friend takes a path: on a busy machine it may have been relayed at first."""

        async def is_taken() -> bool:
            return bool(await self.path_to(other) == path)

        await happens(is_taken, f"a link that is {path}")


async def happens(true: Callable[[], Awaitable[Any]], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not await true():
        assert time.monotonic() < deadline, f"{what} does not happen"
        await asyncio.sleep(LOOK)


async def pair(one: Home, other: Home, path: str) -> str:
    """Make friends of two homes, the second of which has the film, and return what the first may call it."""
    await one.pair(other)
    items = await one.listed(other)
    assert list(items.values()) == ["Ocean"]
    await one.reaches(other, path)
    return next(iter(items))


async def watch(one: Home, other: Home, item: str, film: Film, path: str) -> None:
    """Watch a friend's film as people do: its beginning, and from a seek to 80 % to the end."""
    assert await one.play(other, item, 0, BEGINNING) == film.digest(0, BEGINNING)
    assert await one.play(other, item, SEEK) == film.digest(SEEK)
    assert await one.path_to(other) == path
    assert await other.path_to(one) == path


async def watch_all(one: Home, other: Home, item: str, film: Film, path: str) -> None:
    """Watch a friend's film, and then also what was skipped."""
    await watch(one, other, item, film, path)
    assert await one.play(other, item) == film.digest()
    assert await one.path_to(other) == path


class Viewer:
    """Somebody who watches a friend's film from the beginning to the end, while other things happen."""

    def __init__(self, home: Home, owner: Home, item: str, film: Film) -> None:
        """Begin."""
        self.seen = 0
        """Bytes so far."""
        self._film = film
        self._playing = asyncio.create_task(
            home.play(owner, item, on_bytes=self._count)
        )

    def _count(self, count: int) -> None:
        self.seen += count

    async def has_seen(self, count: float) -> None:
        """Wait until so many bytes of the film were seen."""

        async def enough() -> bool:
            if self._playing.done():
                await self._playing
            return self.seen >= count

        await happens(enough, f"that {count:.0f} bytes are seen")

    async def is_watching(self, share: float) -> None:
        """Wait until a share of the film was seen, 0 to 1, and make sure that it goes on."""
        await self.has_seen(share * SIZE)
        assert self.seen < SIZE, "it was over before anything happened"

    async def sees_it_all(self) -> None:
        """Wait for the end: everything that was seen has to be the film."""
        assert await self._playing == self._film.digest()

    async def is_cut_off(self) -> None:
        """Wait for the end, which is an early one."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait((self._playing,))
        assert self._playing.exception() is not None
