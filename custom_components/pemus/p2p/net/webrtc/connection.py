"""One WebRTC connection to another home, over aiortc: two data channels and what is known of the path.

The module loads aiortc, which is not everywhere, and takes a second for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
import logging
import re
from typing import Any, Final

from ...models.homes import ConnectionStats, PathKind
from .ice import IceServer
from .patches import crc

crc.lend()

from aiortc import (  # noqa: E402 - not without the loan
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError  # noqa: E402

from .patches.congestion import Congestion  # noqa: E402
from .patches.nomination import Nomination, is_relayed  # noqa: E402

CLOSE_TIMEOUT: Final = 5.0
GATHER: Final = 2
"""Seconds to find this home's own addresses. Both homes go on without what STUN and TURN servers did not answer by then."""
BUFFER: Final = 128 * 1024
"""Bytes that wait in a channel until the sender is held up: what was asked for later waits behind them."""
MAX_CONTROL: Final = 256 * 1024
"""Bytes of short messages that wait to be sent. More wait only if the other home takes none, whatever it makes this one say."""
MAX_SDP: Final = 24 * 1024
MAX_CANDIDATES: Final = 40

_FINGERPRINT: Final = re.compile(
    r"^a=fingerprint:(\S+) ([0-9A-Fa-f:]+)\s*$", re.MULTILINE
)
_CANDIDATE: Final = re.compile(r"^a=candidate:", re.MULTILINE)

_LOGGER = logging.getLogger(__name__)


class BadDescription(ValueError):
    """What the other home offered cannot be connected to. The message says why."""


def fingerprints(sdp: str) -> bytes:
    """Return what a description says of its sender's certificate, in one spelling. Raises BadDescription."""
    found = sorted(
        f"{name.lower()} {value.upper()}" for name, value in _FINGERPRINT.findall(sdp)
    )
    if not any(each.startswith("sha-256 ") for each in found):
        raise BadDescription("there is no fingerprint in it")
    return "\n".join(found).encode()


class Connection:
    """A peer connection with a channel for short messages and one for everything else."""

    def __init__(
        self,
        servers: Sequence[IceServer],
        *,
        direct: bool = False,
        on_message: Callable[[bytes], None],
        on_open: Callable[[], None],
        on_close: Callable[[], None],
    ) -> None:
        """Prepare a connection that may use these STUN and TURN servers. The functions are called in the event loop.

        `direct`: it fails if it would have to be relayed.
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
        self._bulk.bufferedAmountLowThreshold = BUFFER // 2
        self._drained = asyncio.Event()
        self._bulk.on("bufferedamountlow", self._drained.set)
        self._pc.on("connectionstatechange", self._state_changed)
        sctp: Any = self._pc.sctp
        ice = sctp.transport.transport._connection  # noqa: SLF001 - nothing of it can be set
        self._gather = partial(ice.get_component_candidates, timeout=GATHER)
        ice.get_component_candidates = self._gathered
        self._gathering: asyncio.Task[Any] | None = None
        self._nomination = Nomination(ice, direct=direct)
        self._congestion = Congestion(sctp)
        self._closed = False
        self._chunks = self._repeated = 0
        self._count_chunks()

    # Coming together.

    async def offer(self) -> str:
        """Return the description to send to the other home. Raises BadDescription if the end comes first."""
        return await self._described(self._pc.createOffer)

    async def answer(self, offer: str) -> str:
        """Return the description to send back for an offer. Raises BadDescription."""
        await self._describe(offer, "offer")
        return await self._described(self._pc.createAnswer)

    async def answered(self, answer: str) -> None:
        """Take the description that came back. Raises BadDescription."""
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
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp, kind))
        except Exception as err:
            # aiortc and aioice raise whatever a description made them stumble over.
            raise BadDescription(f"it cannot be used: {err!r}"[:200]) from err

    async def _gathered(self, component: int, addresses: list[str]) -> Any:
        """Find this home's own addresses, to the end in any case: a TURN server may have one by then, to be given back.

        aioice leaves behind what it is about to get when it is cancelled.
        """
        work = self._gather(component=component, addresses=addresses)
        self._gathering = asyncio.create_task(work, name="gather candidates")
        return await asyncio.shield(self._gathering)

    # Messages.

    @property
    def is_open(self) -> bool:
        """Tell whether messages can be sent."""
        return self._control.readyState == "open" and self._bulk.readyState == "open"

    def send(self, message: bytes) -> None:
        """Send a short message as soon as possible. Raises ConnectionError, and ends if too many wait."""
        if self._control.bufferedAmount > MAX_CONTROL:
            self._ended()
        self._put(self._control, message)

    def send_after_bulk(self, message: bytes) -> None:
        """Send a short message behind all that `send_bulk` has sent. Raises ConnectionError."""
        self._put(self._bulk, message)

    async def send_bulk(self, message: bytes) -> None:
        """Send a message when there is room for it. Raises ConnectionError."""
        while self._bulk.bufferedAmount > BUFFER and not self._closed:
            self._drained.clear()
            await self._drained.wait()
        self._put(self._bulk, message)

    def _put(self, channel: RTCDataChannel, message: bytes) -> None:
        if self._closed or channel.readyState != "open":
            raise ConnectionError("the connection is closed")
        try:
            channel.send(message)
        except ValueError as err:
            # The other home said that it takes short messages only.
            raise ConnectionError(str(err)) from None

    # State.

    def stats(self) -> ConnectionStats:
        """Return what the connection has done."""
        sctp = self._pc.sctp
        if sctp is None:
            return ConnectionStats()
        dtls = sctp.transport
        report: Any = dtls._get_stats()  # noqa: SLF001 - getStats() wants a media transceiver
        sent = received = 0
        for each in report.values():
            sent, received = each.bytesSent, each.bytesReceived
        return ConnectionStats(
            sent=sent,
            received=received,
            chunks=self._chunks,
            repeated=self._repeated,
            rtt=sctp._srtt,  # noqa: SLF001
        )

    def path(self) -> PathKind | None:
        """Return the way that the connection takes, None before there is one."""
        pair = self._nomination.pair
        if pair is None:
            return None
        if is_relayed(pair):
            return PathKind.RELAYED
        remote = pair.remote_candidate
        if remote.type == "host" and _is_local(remote.host):
            return PathKind.LAN
        return PathKind.DIRECT

    async def close(self) -> None:
        """End. May be called at any time, and more than once."""
        self._ended()
        self._nomination.close()
        self._congestion.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if self._gathering is not None:
                    await asyncio.wait((self._gathering,))
                await self._pc.close()

    def _count_chunks(self) -> None:
        """Count what SCTP sends, and sends again: aiortc does not."""
        sctp: Any = self._pc.sctp
        passed_on = sctp._send_chunk  # noqa: SLF001

        async def send(chunk: Any) -> None:
            if (times := getattr(chunk, "_sent_count", 0)) > 0:
                self._chunks += 1
                self._repeated += times > 1
            await passed_on(chunk)

        sctp._send_chunk = send  # noqa: SLF001

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
