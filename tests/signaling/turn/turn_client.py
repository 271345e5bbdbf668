"""A small TURN client (RFC 8489, RFC 8656) over UDP, which says exactly what a test wants it to say."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import md5
import hmac
from ipaddress import ip_address
import secrets
import struct
from typing import cast
import zlib

from tests.patience import PATIENCE

COOKIE = 0x2112A442
BINDING, ALLOCATE, REFRESH, SEND, CREATE_PERMISSION, CHANNEL_BIND = 1, 3, 4, 6, 8, 9
CONNECT = 10
REQUEST, INDICATION, SUCCESS, ERROR = 0x000, 0x010, 0x100, 0x110

USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, CHANNEL_NUMBER, LIFETIME = (
    0x0006,
    0x0008,
    0x0009,
    0x000C,
    0x000D,
)
XOR_PEER_ADDRESS, DATA, REALM, NONCE, XOR_RELAYED_ADDRESS = (
    0x0012,
    0x0013,
    0x0014,
    0x0015,
    0x0016,
)
REQUESTED_FAMILY, REQUESTED_TRANSPORT, XOR_MAPPED_ADDRESS = 0x0017, 0x0019, 0x0020
FINGERPRINT = 0x8028
UDP, TCP = 17, 6
RESEND = 0.5


class TurnError(Exception):
    """The server answered with an error."""

    def __init__(self, code: int) -> None:
        super().__init__(f"error {code}")
        self.code = code


def password(secret: str, name: str) -> str:
    """Return the password that goes with a user name, as coturn's TURN REST API says."""
    return b64encode(hmac.digest(secret.encode(), name.encode(), "sha1")).decode()


class TurnClient(asyncio.DatagramProtocol):
    """One socket, and so at most one allocation."""

    def __init__(self, username: str = "", credential: str = "") -> None:
        self.username = username
        self.credential = credential
        self.received: asyncio.Queue[tuple[str, int, bytes]] = asyncio.Queue()
        self.with_fingerprint = True
        self._realm = self._nonce = b""
        self._transport: asyncio.DatagramTransport
        self._closed = asyncio.Event()
        self._waiting: dict[bytes, asyncio.Future[tuple[int, dict[int, bytes]]]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        kind = int.from_bytes(data[:2])
        attributes = read_attributes(data[20:])
        if FINGERPRINT not in attributes:
            self.with_fingerprint = False
        if kind == 0x007 | INDICATION:
            peer = read_address(attributes[XOR_PEER_ADDRESS], data[8:20])
            self.received.put_nowait((*peer, attributes[DATA]))
        elif (
            waiting := self._waiting.get(data[8:20])
        ) is not None and not waiting.done():
            waiting.set_result((kind, attributes))

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()

    async def close(self) -> None:
        self._transport.close()
        await self._closed.wait()

    async def binding(self) -> tuple[str, int]:
        """Return this socket's address as the server sees it."""
        transaction, attributes = await self._ask(BINDING, [], signed=False)
        return read_address(attributes[XOR_MAPPED_ADDRESS], transaction)

    async def allocate(
        self, *, family: int = 4, transport: int = UDP
    ) -> tuple[str, int]:
        """Make an allocation and return its address. Raises TurnError."""
        wanted = [(REQUESTED_TRANSPORT, bytes((transport, 0, 0, 0)))]
        if family == 6:
            wanted.append((REQUESTED_FAMILY, bytes((2, 0, 0, 0))))
        transaction, attributes = await self._ask(ALLOCATE, wanted)
        return read_address(attributes[XOR_RELAYED_ADDRESS], transaction)

    async def refresh(self, lifetime: int) -> None:
        await self._ask(REFRESH, [(LIFETIME, lifetime.to_bytes(4))])

    async def permit(self, peer: str) -> None:
        """Let a peer's packets through. Raises TurnError."""
        await self._ask(CREATE_PERMISSION, peer=(peer, 9))

    async def bind(self, peer: str, port: int = 9, channel: int = 0x4000) -> None:
        """Give a peer a channel. Raises TurnError."""
        await self._ask(
            CHANNEL_BIND,
            [(CHANNEL_NUMBER, channel.to_bytes(2) + b"\0\0")],
            peer=(peer, port),
        )

    async def connect(self, peer: str, port: int) -> None:
        """Have the server open a TCP connection to a peer (RFC 6062). Raises TurnError."""
        await self._ask(CONNECT, peer=(peer, port))

    def send(self, peer: tuple[str, int], data: bytes) -> None:
        """Send a packet to a peer. Nobody says whether that went well."""
        transaction = secrets.token_bytes(12)
        body = attribute(
            XOR_PEER_ADDRESS, written_address(*peer, transaction)
        ) + attribute(DATA, data)
        self._transport.sendto(message(SEND | INDICATION, transaction, body))

    async def _ask(
        self,
        method: int,
        wanted: list[tuple[int, bytes]] | None = None,
        *,
        peer: tuple[str, int] | None = None,
        signed: bool = True,
    ) -> tuple[bytes, dict[int, bytes]]:
        """Return a request's transaction, and the attributes of the answer."""
        for attempt in range(3):
            transaction = secrets.token_bytes(12)
            body = b"".join(attribute(kind, value) for kind, value in wanted or [])
            if peer is not None:
                body += attribute(XOR_PEER_ADDRESS, written_address(*peer, transaction))
            key = b""
            if signed and self._nonce:
                body += attribute(USERNAME, self.username.encode())
                body += attribute(REALM, self._realm) + attribute(NONCE, self._nonce)
                key = md5(
                    f"{self.username}:{self._realm.decode()}:{self.credential}".encode()
                ).digest()
            kind, attributes = await self._exchange(method, transaction, body, key)
            if kind == method | SUCCESS:
                return transaction, attributes
            code = attributes[ERROR_CODE][2] * 100 + attributes[ERROR_CODE][3]
            # The first request is always refused, so that the client learns the nonce; a nonce may get old, too.
            if not (
                code == 438
                or (code == 401 and attempt == 0 and signed and not self._nonce)
            ):
                raise TurnError(code)
            self._realm, self._nonce = attributes[REALM], attributes[NONCE]
        raise AssertionError("the server is content with no nonce")

    async def _exchange(
        self, method: int, transaction: bytes, body: bytes, key: bytes
    ) -> tuple[int, dict[int, bytes]]:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[transaction] = waiting
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    self._transport.sendto(message(method, transaction, body, key))
                    if (await asyncio.wait((waiting,), timeout=RESEND))[0]:
                        return await waiting
        finally:
            del self._waiting[transaction]


@asynccontextmanager
async def turn_client(
    address: str, port: int, username: str = "", credential: str = ""
) -> AsyncIterator[TurnClient]:
    """Have a client of a server."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_datagram_endpoint(
        lambda: TurnClient(username, credential), remote_addr=(address, port)
    )
    try:
        yield client
    finally:
        await client.close()


def message(kind: int, transaction: bytes, body: bytes, key: bytes = b"") -> bytes:
    """Return a message, signed if there is a key, with a fingerprint."""
    if key:
        body += attribute(
            MESSAGE_INTEGRITY,
            hmac.digest(key, header(kind, len(body) + 24, transaction) + body, "sha1"),
        )
    check = zlib.crc32(header(kind, len(body) + 8, transaction) + body) ^ 0x5354554E
    body += attribute(FINGERPRINT, check.to_bytes(4))
    return header(kind, len(body), transaction) + body


def header(kind: int, length: int, transaction: bytes) -> bytes:
    return struct.pack("!HHL", kind, length, COOKIE) + transaction


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def read_attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        kind, length = struct.unpack_from("!HH", data)
        found[kind] = data[4 : 4 + length]
        data = data[4 + length + -length % 4 :]
    return found


def written_address(host: str, port: int, transaction: bytes) -> bytes:
    packed = ip_address(host).packed
    mask = COOKIE.to_bytes(4) + transaction
    hidden = bytes(one ^ other for one, other in zip(packed, mask, strict=False))
    return (
        bytes((0, 1 if len(packed) == 4 else 2))
        + (port ^ COOKIE >> 16).to_bytes(2)
        + hidden
    )


def read_address(value: bytes, transaction: bytes) -> tuple[str, int]:
    mask = COOKIE.to_bytes(4) + transaction
    packed = bytes(one ^ other for one, other in zip(value[4:], mask, strict=False))
    return str(ip_address(packed)), int.from_bytes(value[2:4]) ^ COOKIE >> 16
