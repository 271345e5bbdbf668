"""What serving and friends use of the transfers, which lie above them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Protocol

from ..torrent.tracker import SignalingRelay
from .ticket import Ticket


class Transfers(Protocol):
    """The transfers of this home, with torrents or without."""

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
