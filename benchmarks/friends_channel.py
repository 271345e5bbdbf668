"""One end of a data channel of plain aiortc through a TURN server, in a process of its own: what links are measured beside.

Runs in the engine's environment for `friends_lab.py`, which sends one JSON object per line and gets one for each. `offer`,
`answer` and `connect` bring two ends together, `give` has one wait to send a file, and `take` asks for it and waits for
all of it. Messages are 60 kB, and the sender waits while 256 KiB are in the channel.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
import time
from typing import TYPE_CHECKING, Any, Final

from swarm_peer import serve

if TYPE_CHECKING:
    from custom_components.pemus.p2p.net.webrtc.patches import crc
    from custom_components.pemus.p2p.net.webrtc.patches.nomination import (
        is_relayed,
        pair_in_use,
    )
    from custom_components.pemus.p2p.net.webrtc.patches.transports import ice_of
else:
    from p2p.net.webrtc.patches import crc

crc.lend()

if not TYPE_CHECKING:
    from p2p.net.webrtc.patches.nomination import is_relayed, pair_in_use
    from p2p.net.webrtc.patches.transports import ice_of

from aiortc import (  # type: ignore[import-not-found,unused-ignore]  # noqa: E402 - not without the loan
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)

MESSAGE: Final = 60_000
BUFFER: Final = 256 * 1024
GO: Final = "go"


class Channel:
    """One end."""

    def __init__(self) -> None:
        """Have no connection yet."""
        self._opened = asyncio.Event()
        self._asked = asyncio.Event()
        self._whole = asyncio.Event()
        self._received = 0
        self._size = 0
        self._first = (0.0, 0)
        self._giving: asyncio.Task[None] | None = None

    def _open(self, ask: dict[str, Any]) -> None:
        servers = [RTCIceServer(**each) for each in ask["servers"]]
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._channel = self._pc.createDataChannel("film", negotiated=True, id=0)
        self._channel.on("open", self._opened.set)
        self._channel.on("message", self._heard)

    async def offer(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Return an offer."""
        self._open(ask)
        await self._pc.setLocalDescription(await self._pc.createOffer())
        return {"sdp": self._pc.localDescription.sdp}

    async def answer(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to an offer."""
        self._open(ask)
        description = RTCSessionDescription(ask["sdp"], "offer")
        await self._pc.setRemoteDescription(description)
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        return {"sdp": self._pc.localDescription.sdp}

    async def connect(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Take the answer, and wait for the channel. Returns whether it is relayed."""
        description = RTCSessionDescription(ask["sdp"], "answer")
        await self._pc.setRemoteDescription(description)
        await self._opened.wait()
        pair = pair_in_use(ice_of(self._pc.sctp))
        assert pair is not None
        return {"is_relayed": is_relayed(pair)}

    async def give(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Send a file as soon as the other end asks for it."""
        self._giving = asyncio.create_task(self._give(Path(ask["path"])))
        return {}

    async def _give(self, path: Path) -> None:
        drained = asyncio.Event()
        channel = self._channel
        channel.bufferedAmountLowThreshold = BUFFER // 2
        channel.on("bufferedamountlow", drained.set)
        await self._asked.wait()
        descriptor = os.open(path, os.O_RDONLY)
        at = 0
        while part := os.pread(descriptor, MESSAGE, at):
            while channel.bufferedAmount > BUFFER:
                drained.clear()
                await drained.wait()
            channel.send(part)
            at += len(part)
        os.close(descriptor)

    async def take(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Return the seconds for the whole file, and the bytes per second from the first one on."""
        self._size = ask["size"]
        start = time.perf_counter()
        self._channel.send(GO)
        await self._whole.wait()
        now = time.perf_counter()
        then, received = self._first
        return {
            "seconds": now - start,
            "rate": (self._size - received) / (now - then),
        }

    def _heard(self, message: bytes | str) -> None:
        if message == GO:
            self._asked.set()
            return
        self._received += len(message)
        if not self._first[1]:
            self._first = time.perf_counter(), self._received
        if self._received >= self._size:
            self._whole.set()


async def _main() -> None:
    await serve(Channel())


if __name__ == "__main__":
    asyncio.run(_main())
