"""Clients of PeerServer's protocol, as bare as can be: they say and hear what a test wants."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import secrets
from typing import Any
from urllib.parse import urlencode

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import orjson

from pemus_signaling.identity.ids import pemus_id, statement
from pemus_signaling.server import Server
from tests.patience import PATIENCE
from tests.signaling.server import ADDRESS, ws


class Client:
    """A client with a socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.reason = ""

    async def say(self, kind: str, **more: Any) -> None:
        await self.socket.send_str(orjson.dumps({"type": kind, **more}).decode())

    async def hear(self) -> dict[str, Any]:
        """Return the next message."""
        message: dict[str, Any] = orjson.loads(
            await self.socket.receive_str(timeout=PATIENCE)
        )
        return message

    async def end(self) -> int | None:
        """Return the close code, after whatever else still arrives."""
        while True:
            message = await self.socket.receive(timeout=PATIENCE)
            if message.type == aiohttp.WSMsgType.CLOSE:
                self.reason = message.extra or ""
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return self.socket.close_code

    async def says_nothing_before(self, marker: Client, identifier: str) -> None:
        """Check that nothing arrives here until somebody else's message does."""
        await marker.say("CANDIDATE", dst=identifier, payload="marker")
        heard = await self.hear()
        assert heard["payload"] == "marker"


class Identity:
    """A key, and the ID that is made of it."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.key = self.private.public_key().public_bytes_raw()
        self.id = pemus_id(self.key)

    def sign(self, origin: str, challenge: dict[str, Any]) -> dict[str, str]:
        """Return the payload of a PROVE."""
        nonce = challenge["payload"]["nonce"]
        signed = statement(
            origin, urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4)), self.id
        )
        return {"key": b64(self.key), "signature": b64(self.private.sign(signed))}


def grouped(identifier: str) -> str:
    """Return a PeMuS ID as people write it."""
    return "-".join(identifier[at : at + 4] for at in range(0, len(identifier), 4))


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@asynccontextmanager
async def connecting(
    server: Server,
    identifier: str | None = None,
    token: str = "t",
    key: str = "peerjs",
    address: str = ADDRESS,
) -> AsyncIterator[Client]:
    """Open a socket from an address of this machine, and hear nothing yet."""
    query = {"key": key, "token": token} | (
        {} if identifier is None else {"id": identifier}
    )
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=(address, 0))
        ) as session,
        session.ws_connect(ws(server, f"/peerjs?{urlencode(query)}")) as socket,
    ):
        yield Client(socket)


@asynccontextmanager
async def connected(
    server: Server, identifier: str, token: str = "t"
) -> AsyncIterator[Client]:
    """Be somebody."""
    async with connecting(server, identifier, token) as client:
        assert await client.hear() == {"type": "OPEN"}
        yield client


@asynccontextmanager
async def proven(
    server: Server, identity: Identity, address: str = ADDRESS
) -> AsyncIterator[tuple[Client, dict[str, Any]]]:
    """Be who owns an identity. Also yields the payload of OPEN."""
    # Whoever proves an identity needs no token that somebody else knows.
    async with connecting(
        server, identity.id, secrets.token_hex(8), address=address
    ) as client:
        challenge = await client.hear()
        assert challenge["type"] == "CHALLENGE"
        await client.say(
            "PROVE", payload=identity.sign(f"http://127.0.0.1:{server.port}", challenge)
        )
        opened = await client.hear()
        assert opened["type"] == "OPEN"
        yield client, opened["payload"]
