"""Requests to one friend, over its link."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..core.errors import Unavailable
from ..net.link.frames import Ask, Reasons
from ..net.link.link import Link
from ..net.link.links import Links
from .servers import Servers


class Requests:
    """Opens the link when it is needed."""

    def __init__(self, home: str, links: Links, servers: Servers) -> None:
        """Prepare to ask a home."""
        self._home = home
        self._links = links
        self._servers = servers

    async def ask(self, ask: Ask, limit: int) -> AsyncIterator[bytes]:
        """Yield the parts of the answer, at most `limit` bytes together. Raises EngineError."""
        link = await self._link()
        async for part in link.ask(ask, limit):
            yield part

    async def ask_whole(self, ask: Ask, limit: int) -> bytes:
        """Return the whole answer, at most `limit` bytes. Raises EngineError."""
        link = await self._link()
        try:
            return await link.ask_whole(ask, limit)
        except Unavailable:
            if link.reason not in (Reasons.REPLACED, Reasons.IDLE):
                raise
        # The other end closed the link before the request arrived: for a better link, or because it was idle.
        link = await self._link()
        return await link.ask_whole(ask, limit)

    async def _link(self) -> Link:
        """Return the link, opened first if need be. Raises Unavailable."""
        if self._links.present(self._home) is None:
            # Somebody waits: do not sit out a server's backoff.
            self._servers.connect()
        return await self._links.get(self._home)
