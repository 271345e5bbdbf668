"""A home with films at a real signalling server, and rooms in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
import secrets
import sys
import time
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from p2p.models.rooms import RoomPassword, new_secret
from p2p.net.messages import from_base64url
from tests.lab.engine_home import EngineHome
from tests.p2p.net.signaling.servers import Program, running, signalling_server
from tests.patience import PATIENCE

from .guests import Guest, at_server

MP4 = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"
"""How a film begins. Nobody looks at the rest."""
PASSWORD = "open sesame"


@dataclass(kw_only=True)
class House:
    """A home, its films, and its signalling server."""

    home: EngineHome
    server: Program
    films: Path
    items: dict[str, str] = field(default_factory=dict)
    """Ids by title."""
    rooms: list[dict[str, Any]] = field(default_factory=list)

    async def open(self, *titles: str, **more: Any) -> Link:
        """Share films with guests, and return the link."""
        if "password" in more:
            more["password"] = asdict(RoomPassword.of(more["password"]))
        room = {
            "id": uuid4().hex,
            "name": "For you",
            "items": [self.items[title] for title in titles],
            "secret": new_secret(),
            "expires": time.time() + 3600,
        } | more
        self.rooms.append(room)
        await self.home.configure(rooms=self.rooms)
        return await self.link(room["id"])

    async def link(self, room: str) -> Link:
        """Wait for the link of a room."""

        async def registered() -> str | None:
            return (await self.room(room))["link"]

        link = await self.home.until(registered, "a link")
        (config,) = (each for each in self.rooms if each["id"] == room)
        return Link(self, room, link.rpartition("/")[2], config["secret"])

    async def room(self, room: str) -> dict[str, Any]:
        """Return the state of a room."""
        status = await self.home.ask("GET", "status")
        (found,) = (each for each in status["rooms"] if each["id"] == room)
        return dict(found)

    async def change(self, room: str, **changes: Any) -> None:
        """Change the configuration of a room."""
        for each in self.rooms:
            if each["id"] == room:
                each |= changes
        await self.home.configure(rooms=self.rooms)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Events]:
        """Hear what the engine tells Home Assistant."""
        connector = aiohttp.UnixConnector(str(self.home.socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect("http://engine/v1/events") as socket,
        ):
            yield Events(socket)

    async def close(self, room: str) -> None:
        """Take a room back."""
        self.rooms = [each for each in self.rooms if each["id"] != room]
        await self.home.configure(rooms=self.rooms)


class Events:
    """What the engine tells Home Assistant."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def until_happened(self, room: str, kind: str, times: int) -> list[str]:
        """Return the kinds of all that happens in a room, up to when one has happened so many times."""
        kinds: list[str] = []
        while kinds.count(kind) < times:
            async with asyncio.timeout(PATIENCE):
                event = await self._socket.receive_json()
            if event["type"] == "room" and event["room"] == room:
                kinds.append(event["kind"])
        return kinds

    async def until_state(self, room: str, **wanted: Any) -> None:
        """Wait for a status in which a room is as it is wanted."""
        while True:
            async with asyncio.timeout(PATIENCE):
                event = await self._socket.receive_json()
            if event["type"] in ("hello", "status") and any(
                each.items() >= wanted.items() for each in _states(event, room)
            ):
                return


def _states(event: dict[str, Any], room: str) -> list[dict[str, Any]]:
    return [each for each in event["status"]["rooms"] if each["id"] == room]


@dataclass(kw_only=False)
class Link:
    """What a guest has."""

    house: House
    room: str
    slug: str
    secret: str

    async def state(self) -> dict[str, Any]:
        """Return what the owner sees of the room."""
        return await self.house.room(self.room)

    @asynccontextmanager
    async def guest(
        self,
        *,
        password: str | None = "",
        secret: str | None = None,
        name: str = "",
        **forged: Any,
    ) -> AsyncIterator[Guest]:
        """Have somebody come in with the link, or with something else in its place, and look at the room unless `password` is None."""
        known = self.secret if secret is None else secret
        async with at_server(self.house.server.url) as socket:
            guest = Guest(from_base64url(known), self.slug, name)
            try:
                await guest.enter(socket, self.house.home.id, **forged)
                if password is not None:
                    await guest.look(password)
                yield guest
            finally:
                await guest.link.close("idle")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_house(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[House]:
    """Start a home with three films, and a signalling server that it is at."""
    folder = tmp_path_factory.mktemp("house")
    films = folder / "films"
    (films / "Season").mkdir(parents=True)
    for name, size in (("One", 3_000_000), ("Two", 40_000), ("Season/Three", 50_000)):
        (films / f"{name}.mp4").write_bytes(MP4 + secrets.token_bytes(size))
    async with (
        running(signalling_server(folder)) as server,
        EngineHome(
            folder / "home", python=Path(sys.executable), log_level="debug"
        ) as home,
    ):
        await home.share(films)
        await home.configure(servers=[server.url])
        items = {title: item for item, title in (await home.items()).items()}
        yield House(home=home, server=server, films=films, items=items)


@pytest_asyncio.fixture(loop_scope="module")
async def house(running_house: House) -> AsyncGenerator[House]:
    """Return the home, without rooms."""
    yield running_house
    running_house.rooms = []
    await running_house.home.configure(rooms=[])
