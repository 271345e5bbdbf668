"""Makes the sources of downloads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING

from ...access.ticket import Ticket
from ...torrent.metainfo import Metainfo
from .source import Source
from .torrent import SwarmSource

if TYPE_CHECKING:
    # They load libtorrent and what links need, which may be missing.
    from ...net.link.frames import Ask
    from ...torrent.session import Session
    from ...torrent.signaling_relay import SignalingRelays

type AskOwner = Callable[[str, Ask, int], AsyncIterator[bytes]]
"""Sends a request to a home over a link, which is opened if necessary. Yields at most so many bytes. Raises EngineError."""


class Sources:
    """The ways by which this home can fetch items."""

    def __init__(
        self,
        session: Session | None,
        relays: SignalingRelays | None,
        ask: AskOwner | None,
    ) -> None:
        """Use torrents if there is a `session`, and links if there is a way to `ask` owners."""
        self._session = session
        self._relays = relays
        self._ask = ask

    def of(self, ticket: Ticket, meta: Metainfo | None) -> list[Source]:
        """Return new sources for what a ticket allows. `meta` is its torrent."""
        sources: list[Source] = []
        swarm = None
        if meta is not None and self._session is not None:
            swarm = SwarmSource(
                self._session, meta, ticket.owner, ticket.addresses(), self._relays
            )
            sources.append(swarm)
        if self._ask is not None:
            try:
                from .link import LinkSource
            except ModuleNotFoundError:
                # The libraries that links need are missing.
                return sources
            ask = partial(self._ask, ticket.owner)
            sources.append(LinkSource(ticket, ask, swarm))
        return sources

    def can_fetch(self, ticket: Ticket, meta: Metainfo | None) -> bool:
        """Tell whether there is any source for what a ticket allows."""
        return bool(self.of(ticket, meta))
