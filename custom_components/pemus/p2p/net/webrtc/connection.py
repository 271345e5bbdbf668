"""One WebRTC connection to another home: two data channels over aiortc, and the path between the homes.

Importing this module loads aiortc, which takes about a second and is not available on every platform.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
import re
from typing import Final

from ...models.homes import ConnectionStats, PathKind
from .ice import IceServer
from .patches import crc

crc.lend()

from aiortc import (  # noqa: E402 - aiortc imports what the line above lends
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError  # noqa: E402

from .patches.congestion import Congestion  # noqa: E402
from .patches.gathering import Gathering  # noqa: E402
from .patches.nomination import Nomination, is_relayed  # noqa: E402
from .patches.statistics import Statistics  # noqa: E402
from .patches.transports import ice_of  # noqa: E402

CLOSE_TIMEOUT: Final = 5.0
"""Seconds to close a connection in."""
BULK_BUFFER: Final = 128 * 1024
"""Bytes that may wait in the bulk channel. More would delay what is sent later."""
MAX_CONTROL_BUFFER: Final = 256 * 1024
"""Bytes that may wait in the control channel. More wait only if the other home reads nothing of what it asks for."""
MAX_SDP: Final = 24 * 1024
"""Characters of a description."""
MAX_CANDIDATES: Final = 40

_FINGERPRINT: Final = re.compile(
    r"^a=fingerprint:(\S+) ([0-9A-Fa-f:]+)\s*$", re.MULTILINE
)
_CANDIDATE: Final = re.compile(r"^a=candidate:", re.MULTILINE)
_END: Final = re.compile(r"^a=end-of-candidates\s*$\n?", re.MULTILINE)
_HIDDEN: Final = re.compile(
    r"^a=candidate:(?:\S+ ){4}\S+\.local .*$\n?", re.MULTILINE | re.IGNORECASE
)
"""A candidate behind a name of the local network (mDNS), as browsers make them up."""


class BadDescription(ValueError):
    """The other home's description cannot be used. The message says why."""


def fingerprints(sdp: str) -> bytes:
    """Return the fingerprints of a description's certificate in one normal form. Raises BadDescription."""
    found = sorted(
        f"{name.lower()} {value.upper()}" for name, value in _FINGERPRINT.findall(sdp)
    )
    if not any(each.startswith("sha-256 ") for each in found):
        raise BadDescription("there is no fingerprint in it")
    return "\n".join(found).encode()


class Connection:
    """A peer connection with one channel for short messages (control) and one for everything else (bulk)."""

    def __init__(
        self,
        servers: Sequence[IceServer],
        *,
        direct: bool = False,
        on_message: Callable[[bytes], None],
        on_open: Callable[[], None],
        on_close: Callable[[], None],
    ) -> None:
        """Prepare a connection that may use these STUN and TURN servers. The callbacks run in the event loop.

        `direct`: fail rather than use a relay.
        """
        self._pc = RTCPeerConnection(
            RTCConfiguration(
                iceServers=[
                    RTCIceServer(
                        urls=list(server.urls),
                        username=server.username,
                        credential=server.credential,
                    )
                    for server in servers
                ]
            )
        )
        self._on_message = on_message
        self._on_open = on_open
        self._on_close = on_close
        self._control = self._channel("control", 0)
        self._bulk = self._channel("bulk", 1)
        self._bulk.bufferedAmountLowThreshold = BULK_BUFFER // 2
        self._drained = asyncio.Event()
        self._bulk.on("bufferedamountlow", self._drained.set)
        self._pc.on("connectionstatechange", self._state_changed)
        sctp = self._pc.sctp
        assert sctp is not None  # There are data channels.
        self._gathering = Gathering(ice_of(sctp))
        self._nomination = Nomination(ice_of(sctp), direct=direct)
        self._congestion = Congestion(sctp)
        self._statistics = Statistics(sctp)
        self._closed = False

    # Connecting.

    async def offer(self) -> str:
        """Return the description to send to the other home. Raises BadDescription if the connection is closed meanwhile."""
        return await self._described(self._pc.createOffer)

    async def answer(self, offer: str) -> str:
        """Return the description that answers an offer. Raises BadDescription."""
        await self._describe(offer, "offer")
        return await self._described(self._pc.createAnswer)

    async def answered(self, answer: str) -> None:
        """Use the description that answers this end's offer. Raises BadDescription."""
        await self._describe(answer, "answer")

    async def _described(
        self, create: Callable[[], Awaitable[RTCSessionDescription]]
    ) -> str:
        try:
            await self._pc.setLocalDescription(await create())
        except InvalidStateError:
            raise BadDescription("the connection was closed meanwhile") from None
        return str(self._pc.localDescription.sdp)

    async def _describe(self, sdp: str, kind: str) -> None:
        if len(sdp) > MAX_SDP or len(_CANDIDATE.findall(sdp)) > MAX_CANDIDATES:
            raise BadDescription("it is too long")
        fingerprints(sdp)
        if sdp.count("\nm=") != 1 or "\nm=application " not in sdp:
            raise BadDescription("it is not about data channels alone")
        # Looking up such a name takes a second where nobody knows it, and who has one finds this end by itself.
        usable, hidden = _HIDDEN.subn("", sdp)
        if hidden:
            # There are more candidates than are listed.
            usable = _END.sub("", usable)
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(usable, kind))
        except Exception as err:
            # aiortc and aioice let errors of any type through.
            raise BadDescription(f"it cannot be used: {err!r}"[:200]) from err

    # Messages.

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._control.readyState == "open" and self._bulk.readyState == "open"

    def send(self, message: bytes) -> None:
        """Send a short message as soon as possible. Raises ConnectionError, and closes if too many messages wait."""
        if self._control.bufferedAmount > MAX_CONTROL_BUFFER:
            self._ended()
        self._put(self._control, message)

    def send_after_bulk(self, message: bytes) -> None:
        """Send a short message after everything that `send_bulk` has sent. Raises ConnectionError."""
        self._put(self._bulk, message)

    async def send_bulk(self, message: bytes) -> None:
        """Send a message when there is room for it. Raises ConnectionError."""
        while self._bulk.bufferedAmount > BULK_BUFFER and not self._closed:
            self._drained.clear()
            await self._drained.wait()
        self._put(self._bulk, message)

    def _put(self, channel: RTCDataChannel, message: bytes) -> None:
        if self._closed or channel.readyState != "open":
            raise ConnectionError("the connection is closed")
        try:
            channel.send(message)
        except ValueError as err:
            # The other home accepts shorter messages only.
            raise ConnectionError(str(err)) from None

    # State.

    def stats(self) -> ConnectionStats:
        """Return what the connection has transferred."""
        return self._statistics.read()

    def path(self) -> PathKind | None:
        """Return the kind of path in use, or None before there is one."""
        pair = self._nomination.pair
        if pair is None:
            return None
        if is_relayed(pair):
            return PathKind.RELAYED
        remote = pair.remote_candidate
        # Browsers hide their addresses behind names (mDNS), and are recognized by where their packets come from (prflx).
        if remote.type in ("host", "prflx") and _is_local(remote.host):
            return PathKind.LAN
        return PathKind.DIRECT

    @property
    def remote_network(self) -> str:
        """The network of the other end's address (IPv4 /24, IPv6 /48); empty before there is a path."""
        pair = self._nomination.pair
        try:
            address = ip_address(pair.remote_candidate.host if pair else "")
        except ValueError:
            return ""
        size = 24 if address.version == 4 else 48
        return str(ip_network((address, size), strict=False))

    async def close(self) -> None:
        """Close the connection. May be called at any time, and more than once."""
        self._ended()
        self._nomination.close()
        self._congestion.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._gathering.finished()
                await self._pc.close()

    def _channel(self, label: str, number: int) -> RTCDataChannel:
        channel = self._pc.createDataChannel(label, negotiated=True, id=number)
        channel.on("message", self._received)
        channel.on("open", self._opened)
        channel.on("close", self._ended)
        return channel

    def _received(self, message: bytes | str) -> None:
        if not self._closed:
            self._on_message(message.encode() if isinstance(message, str) else message)

    def _opened(self) -> None:
        if self.is_open and not self._closed:
            self._on_open()

    def _state_changed(self) -> None:
        if self._pc.connectionState in ("failed", "closed"):
            self._ended()

    def _ended(self) -> None:
        if not self._closed:
            self._closed = True
            self._drained.set()
            self._on_close()


def _is_local(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_private or address.is_link_local
