"""Homes that sign tokens, and peers that announce with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
import time
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import orjson

from pemus_signaling.cluster.cluster import Cluster
from pemus_signaling.rooms.tokens import ANNOUNCE, Revocations, RoomToken
from pemus_signaling.server import Server
from pemus_signaling.tracker.tracker import Tracker
from tests.patience import PATIENCE
from tests.signaling.server import running, ws
from tests.signaling.signing import sign

PATH = "/tested/announce"
FILM = "\x00\xff" * 10
"""An info-hash, as WebTorrent writes it."""


class Home:
    """Somebody with a key."""

    def __init__(self) -> None:
        self.private_key = Ed25519PrivateKey.generate()
        self.key = self.private_key.public_key().public_bytes_raw()

    def token(
        self,
        token_id: str = "guest",
        *,
        room: str = "baku-timo-resa-lufi",
        life: float = 3600,
        may: Iterable[str] = (ANNOUNCE,),
        hashes: frozenset[bytes] | None = None,
        expires: float | None = None,
    ) -> str:
        """Return a token that is good for anything, unless told otherwise."""
        if expires is None:
            expires = time.time() + life
        token = RoomToken(self.key, room, token_id, expires, frozenset(may), hashes)
        return sign(self.private_key, token)


class Tracked:
    """A tracker on a real server."""

    def __init__(
        self, server: Server, tracker: Tracker, revocations: Revocations
    ) -> None:
        self.server = server
        self.tracker = tracker
        self.revocations = revocations
        self.session = aiohttp.ClientSession()
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []

    def url(self, token: str | None) -> str:
        """Return what clients announce to."""
        query = "" if token is None else f"?token={token}"
        return ws(self.server, PATH) + query

    async def connect(self, token: str | None = None, *, address: str = "") -> Peer:
        """Return a peer that has not announced yet."""
        headers = {"X-Forwarded-For": address} if address else {}
        socket = await self.session.ws_connect(self.url(token), headers=headers)
        self._sockets.append(socket)
        return Peer(socket)

    async def close(self) -> None:
        """Hang up."""
        for socket in self._sockets:
            await socket.close()
        await self.session.close()


@asynccontextmanager
async def tracking(
    cluster: Cluster | None = None, **options: Any
) -> AsyncIterator[Tracked]:
    """Run a tracker with options of its own on a server of its own."""
    cluster = cluster or Cluster()
    revocations = Revocations(cluster)
    tracker = Tracker(cluster, revocations, **options)

    def prepare(server: Server) -> None:
        server.front.route(PATH, tracker.accept)

    async with running(
        prepare, trusted_proxies=("127.0.0.1/32",), sockets_per_address=10_000
    ) as server:
        # The server's own parts have one that is alone.
        await cluster.start()
        tracked = Tracked(server, tracker, revocations)
        try:
            yield tracked
        finally:
            await tracked.close()
            await cluster.close()
            tracker.close()


class Peer:
    """A WebTorrent client, as far as its tracker can tell."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, message: object) -> None:
        await self.socket.send_str(orjson.dumps(message).decode())

    async def announce(
        self, peer_id: str, info_hash: str = FILM, *, offers: int = 0, **more: Any
    ) -> None:
        """Announce, with offers whose ids tell whose they are."""
        message: dict[str, Any] = {
            "action": "announce",
            "info_hash": info_hash,
            "peer_id": named(peer_id),
            "left": 1,
        }
        if offers:
            message["numwant"] = offers
            message["offers"] = [
                {
                    "offer": {"type": "offer", "sdp": f"v=0 {peer_id} {number}\r\n"},
                    "offer_id": named(f"{peer_id}{number}"),
                }
                for number in range(offers)
            ]
        await self.say(message | more)

    async def answer(self, peer_id: str, to: str, offer_id: str) -> None:
        await self.say(
            {
                "action": "announce",
                "info_hash": FILM,
                "peer_id": named(peer_id),
                "to_peer_id": named(to),
                "offer_id": offer_id,
                "answer": {"type": "answer", "sdp": f"v=0 {peer_id}\r\n"},
            }
        )

    async def hear(self) -> dict[str, Any]:
        """Return the next message."""
        message: dict[str, Any] = orjson.loads(
            await self.socket.receive_str(timeout=PATIENCE)
        )
        return message

    async def enter(
        self, peer_id: str, info_hash: str = FILM, **more: Any
    ) -> dict[str, Any]:
        """Announce, and return the reply."""
        await self.announce(peer_id, info_hash, **more)
        return await self.hear()

    async def silence(self) -> None:
        """Make sure that nothing was sent to this peer until now: replies come in the order of what is said."""
        await self.say({"action": "scrape", "info_hash": named("nobody's")})
        assert (await self.hear())["action"] == "scrape"

    async def end(self) -> int | None:
        """Return the close code, once it is closed."""
        message = await self.socket.receive(timeout=PATIENCE)
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return self.socket.close_code


def named(name: str) -> str:
    """Return 20 bytes that begin with a name, as WebTorrent writes them."""
    return name.ljust(20, "\xe9")
