"""WebRTC signalling between the torrents of two friends, relayed over their link."""

from __future__ import annotations

import asyncio

from ..core.tasks import Tasks
from ..net.link.link import Link
from ..torrent.tracker import SignalingRelay
from .context import Context


class TorrentRelay:
    """The relay to one friend, while a link is open."""

    def __init__(self, context: Context, home: str, tasks: Tasks) -> None:
        """Prepare to relay to a home."""
        self._context = context
        self._home = home
        self._tasks = tasks
        self._channel: SignalingRelay | None = None
        self._link: Link | None = None
        """The link that the channel uses."""
        self._opening = asyncio.Lock()

    async def open(self, link: Link) -> None:
        """Relay over a link from now on."""

        async def send(message: bytes) -> None:
            await link.introduce(message)

        async with self._opening:
            swarm = self._context.swarm()
            if swarm is None:
                return
            if self._context.connections.links.present(self._home) is not link:
                # Another link has replaced it, and opens the relay in its turn.
                return
            channel = await swarm.relays.open(self._home, send)
            if link.reason is not None:
                await swarm.relays.close(self._home, channel)
                return
            self._channel, self._link = channel, link

    def close(self, link: Link) -> None:
        """Stop relaying if this link was used."""
        if self._link is not link or self._channel is None:
            return
        channel, self._channel, self._link = self._channel, None, None
        if (swarm := self._context.swarm()) is not None:
            closing = swarm.relays.close(self._home, channel)
            self._tasks.spawn(closing, "close torrent relay")

    def receive(self, message: bytes) -> None:
        """Take in what a torrent of the friend sends."""
        if self._channel is not None:
            self._channel.receive(message)
