"""A guest without a browser: it follows docs/protocol.md, over real WebSockets and real data channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
import hmac
import json
import re
import secrets
from typing import Any
from uuid import uuid4

import aiohttp

from p2p.net.link.frames import Ask, Hello, Note
from p2p.net.link.handshake import Offer, make_offer
from p2p.net.link.link import Link
from p2p.net.messages import from_base64url, to_base64url
from p2p.net.webrtc.connection import Connection, fingerprints

ANSWER_TIMEOUT = 10.0
MAX_ANSWER = 16 * 1024 * 1024


class RefusedError(Exception):
    """The home does not let the guest in. The message is the reason."""


class Guest:
    """A guest's end of a link to a home."""

    def __init__(self, secret: bytes, slug: str, name: str = "") -> None:
        self.home = "the home"
        self.secret = secret
        self.slug = slug
        self.name = name or secrets.token_hex(16)
        self.notes: list[str] = []
        self.room: dict[str, Any] = {}
        """The room, as it was when the guest looked."""
        self.reason: str | None = None
        self.entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left = asyncio.Event()
        hello = Hello(
            versions=(1,), release="", name="", instance=self.name, signature=""
        )
        self.link = Link(
            partial(Connection, ()), self, self, hello=hello, offering=True
        )
        self.proof: Proof | None = None

    async def enter(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        host: str,
        *,
        is_hidden: bool = False,
        **forged: Any,
    ) -> None:
        """Connect. Raises RefusedError. `forged` replaces fields of the answer, as a hostile server could.

        `is_hidden`: put names that nobody knows in place of addresses, as browsers do.
        """
        sdp = await self.link.connection.offer()
        offer = make_offer(_hidden(sdp) if is_hidden else sdp)
        payload = await exchange(socket, host, call(self.slug, offer), offer.connection)
        if refused := payload.get("refused"):
            raise RefusedError(refused)
        payload |= forged
        self.proof = Proof(self.secret, self.slug, host, offer, payload)
        await self.link.connection.answered(payload["sdp"])
        self.link.bind(self.proof)
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await self.entered

    async def ask(self, do: str, **fields: Any) -> bytes:
        """Return a whole answer. Raises EngineError."""
        return await self.link.ask_whole(Ask(do=do, **fields), MAX_ANSWER)

    async def look(self, password: str = "") -> None:
        """Look at what is in the room. Raises EngineError."""
        self.room = json.loads(await self.ask("room", password=password))

    @property
    def file(self) -> dict[str, Any]:
        """The first file of the room."""
        file: dict[str, Any] = self.room["files"][0]
        return file

    @asynccontextmanager
    async def lease(self, purpose: str = "download") -> AsyncIterator[Lease]:
        """Hold a lease, admitted or not."""
        lease = Lease(self.link.ask(Ask(do="lease", item=purpose), MAX_ANSWER))
        await lease.next()
        try:
            yield lease
        finally:
            await lease.end()

    async def download(self, file: dict[str, Any], step: int = 1 << 20) -> bytes:
        """Return a whole file, in ranges. Raises EngineError."""
        content = b""
        while len(content) < file["size"]:
            stop = min(len(content) + step, file["size"])
            content += await self.part(file, len(content), stop)
        return content

    async def part(self, file: dict[str, Any], start: int, stop: int) -> bytes:
        """Return a part of a file. Raises EngineError."""
        return await self.ask(
            "range", item=file["item"], etag=file["etag"], start=start, stop=stop
        )

    # Owner and host of the link.

    def ready(self, link: Link) -> None:
        self.entered.set_result(None)

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        self.reason = reason
        self.left.set()
        if not self.entered.done():
            self.entered.set_exception(RefusedError(reason))

    async def answer(self, link: Link, ask: Ask) -> AsyncGenerator[bytes]:
        raise NotImplementedError
        yield b""

    def noted(self, link: Link, note: Note) -> None:
        self.notes.append(note.about)

    def introduced(self, link: Link, message: bytes) -> None:
        raise NotImplementedError


class Lease:
    """A lease, and the last that is known of it."""

    def __init__(self, places: AsyncGenerator[bytes]) -> None:
        self._places = places
        self.position = -1
        self.waiting = -1

    async def next(self) -> None:
        """Wait for what comes next. Raises EngineError, and StopAsyncIteration if the lease ended."""
        told = json.loads(await anext(self._places))
        self.position, self.waiting = told["position"], told["waiting"]

    async def until(self, position: int) -> None:
        """Wait for a position."""
        while self.position != position:
            await self.next()

    async def end(self) -> None:
        """Give it up."""
        await self._places.aclose()


class Proof:
    """The guest's side of the proof, spelled out from the protocol."""

    def __init__(
        self,
        secret: bytes,
        slug: str,
        host: str,
        offer: Offer,
        answer: dict[str, Any],
    ) -> None:
        self._secret = secret
        self._key = sha256(statement(b"pemus room key 1", secret)).digest()
        self._made = (
            slug.encode(),
            host.encode(),
            offer.connection.encode(),
            from_base64url(offer.nonce),
            from_base64url(answer["nonce"]),
            fingerprints(offer.sdp),
            fingerprints(answer["sdp"]),
            sha256(offer.sdp.encode()).digest(),
            sha256(answer["sdp"].encode()).digest(),
        )

    def sign(self, hello: Hello) -> Hello:
        return replace(hello, signature=to_base64url(self._mac(b"guest")))

    def is_signed(self, hello: Hello) -> bool:
        # Whoever has only heard of the room cannot tell.
        is_spoken = not self._secret
        return is_spoken or from_base64url(hello.signature) == self._mac(b"home")

    def _mac(self, role: bytes) -> bytes:
        said = statement(b"pemus guest 1", role, *self._made)
        return hmac.digest(self._key, said, "sha256")


def _hidden(sdp: str) -> str:
    return re.sub(
        r"^(a=candidate:(?:\S+ ){4})\S+",
        lambda found: f"{found[1]}{uuid4()}.local",
        sdp,
        flags=re.MULTILINE,
    )


def statement(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def call(slug: str, offer: Offer) -> dict[str, Any]:
    """Return what a guest sends to the home."""
    return {
        "guest": 1,
        "room": slug,
        "connection": offer.connection,
        "nonce": offer.nonce,
        "sdp": offer.sdp,
    }


@asynccontextmanager
async def at_server(url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Be connected to a signalling server, as a page is."""
    query = {
        "key": "peerjs",
        "id": f"guest-{secrets.token_hex(12)}",
        "token": secrets.token_hex(12),
    }
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}peerjs", params=query) as socket,
    ):
        async with asyncio.timeout(ANSWER_TIMEOUT):
            while (await socket.receive_json())["type"] != "OPEN":
                pass
        yield socket


async def exchange(
    socket: aiohttp.ClientWebSocketResponse,
    host: str,
    payload: dict[str, Any],
    connection: str,
) -> dict[str, Any]:
    """Send a home something, and return its answer about the same connection."""
    await socket.send_json({"type": "OFFER", "dst": host, "payload": payload})
    async with asyncio.timeout(ANSWER_TIMEOUT):
        while True:
            message = await socket.receive_json()
            told = message.get("payload") or {}
            if message["type"] == "EXPIRE":
                raise RefusedError("away")
            if message["type"] == "ANSWER" and told.get("connection") == connection:
                return dict(told)
