"""What every friend uses of this home, and what friends use of the transfers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..access.ticket import Ticket
from ..core.tasks import Tasks
from ..library import Library
from ..models import EngineConfig, NewMedia
from ..net.identity import Identity
from ..net.link.links import Links
from ..net.messenger import Messenger
from ..torrent.tracker import SignalingRelay
from .artwork import Pictures
from .pairings import Pairings
from .servers import Servers
from .state import State


class Transfers(Protocol):
    """What friends use of the transfers, which lie above them and come with and without libtorrent."""

    has_torrents: bool
    """Whether items can be fetched and shared by torrents too."""

    async def issue_to(
        self, item: str, receiver: str, ttl: float, wait: float
    ) -> Ticket:
        """Make a ticket."""

    async def accept(self, payload: bytes) -> object:
        """Take a ticket."""

    async def revoke(self, receiver: str, item: str | None) -> None:
        """Revoke a home's ticket for an item, or all its tickets."""

    async def review(self) -> None:
        """Revoke tickets for items that their receivers may not have any more."""

    async def forget(self, owner: str) -> None:
        """Remove what was fetched from a home."""

    def has_ticket(self, owner: str, item: str) -> bool:
        """Tell whether there is a valid ticket."""

    def is_complete(self, owner: str, item: str) -> bool:
        """Tell whether all of an item is here."""

    def etag(self, owner: str, item: str) -> str | None:
        """Return the entity tag of the version that there is a ticket for, or a copy of."""

    def in_use(self, owner: str) -> tuple[str, ...]:
        """Return the items of a home that are being read, or kept."""

    async def meet(
        self, home: str, send: Callable[[bytes], Coroutine[None, None, None]]
    ) -> SignalingRelay:
        """Relay WebRTC signalling between the torrents of both homes, until `part`."""

    async def part(self, home: str, channel: SignalingRelay) -> None:
        """Stop relaying."""

    def rates(self) -> Mapping[str, tuple[int, int]]:
        """Return bytes per second from and to each home. Looks at every torrent."""

    def set_stun(self, server: str) -> None:
        """Use a STUN server, `host:port`."""


@dataclass(slots=True, kw_only=True)
class Context:
    """What friends use of this home."""

    identity: Identity
    library: Library
    messenger: Messenger
    links: Links
    servers: Servers
    pairings: Pairings
    pictures: Pictures
    state: State
    cache: Path
    """Folder with the friends' lists."""
    transfers: Callable[[], Transfers | None]
    """Returns the transfers, if they run."""
    on_change: Callable[[], None]
    """Called when there is something new to show or to save."""
    on_items: Callable[[tuple[str, ...] | None], None]
    """Called with items of friends that changed, None for many."""
    on_media: Callable[[NewMedia], None]
    """Called when a friend has something new."""
    config: EngineConfig = field(default_factory=lambda: EngineConfig(home_name=""))
    tasks: Tasks = field(default_factory=Tasks)
