"""What the API asks of the engine behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..models import (
    EngineConfig,
    Item,
    Listing,
    LocalFile,
    SearchQuery,
    SearchResult,
    Status,
    TicketQuery,
    WaitQuery,
)
from ..models.homes import LanHomes, PairingAnswer, PairingQuery, PairingStatus
from ..models.transfers import RemoteItem, Transfers, TransferStatus


class Backend(Protocol):
    """The engine as the API sees it. Every method may raise an EngineError."""

    def status(self) -> Status:
        """Return the present state."""

    async def configure(self, config: EngineConfig) -> None:
        """Apply the differences between `config` and what runs."""

    def rescan(self, share: str | None) -> None:
        """Begin to scan a share, or all of them."""

    async def item(self, item_id: str) -> Item:
        """Return an item."""

    async def file(self, item_id: str) -> LocalFile:
        """Return an item's file as it is on disk now."""

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return an item's picture, made first if need be."""

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        """Return one of an item's subtitles as WebVTT, converted first if need be."""

    async def browse(self, node: str) -> Listing:
        """Return what lies in a node."""

    async def search(self, query: SearchQuery) -> SearchResult:
        """Return what matches."""

    def streaming(self) -> None:
        """Take note that bytes of something that is played have just left."""

    def home(self) -> str:
        """Return this home's id."""

    async def issue(self, query: TicketQuery) -> bytes:
        """Return a ticket for one of this home's items, as JSON."""

    async def revoke(self, receiver: str, item: str | None) -> None:
        """Make a home's ticket for an item, or all its tickets, worthless."""

    async def accept(self, ticket: bytes) -> RemoteItem:
        """Take another home's ticket."""

    def transfers(self) -> Transfers:
        """Return how far remote items have arrived."""

    async def remote_item(self, owner: str, item_id: str) -> Item:
        """Return what is known of another home's item."""

    async def remote_file(self, owner: str, item_id: str) -> LocalFile:
        """Return the file that another home's item arrives in."""

    async def wait(self, owner: str, item_id: str, query: WaitQuery) -> int:
        """Wait for bytes of another home's item; return the end of those that are there."""

    def release(self, owner: str, item_id: str, reader: str) -> None:
        """Take note that somebody does not read any more."""

    async def pin(self, owner: str, item_id: str, *, pinned: bool) -> TransferStatus:
        """Keep another home's item whole, or no longer."""

    async def remote_thumbnail(self, owner: str, item_id: str) -> LocalFile:
        """Return the picture of another home's item, fetched first if need be."""

    async def remote_subtitles(self, owner: str, item_id: str, index: int) -> LocalFile:
        """Return one of the subtitles of another home's item as WebVTT, fetched first if need be."""

    async def restore_identity(self) -> str:
        """Be who this home was, if its key is back; return its id."""

    async def new_identity(self) -> str:
        """Become another home, which no friend knows; return its id."""

    async def request_pairing(self, query: PairingQuery) -> PairingStatus:
        """Ask another home to become a friend."""

    async def answer_pairing(self, home: str, answer: PairingAnswer) -> None:
        """Say yes or no to a pairing."""

    async def forget_pairing(self, home: str) -> None:
        """Take a request back, or forget how a pairing ended."""

    async def unblock(self, home: str) -> None:
        """Show a home's requests again."""

    def lan_homes(self, homes: LanHomes) -> None:
        """Take note of all homes that the local network shows now."""

    def network_changed(self) -> None:
        """Try everything again at once that waits for a connection."""

    def channel(
        self, home: str, send: Callable[[bytes], Awaitable[None]]
    ) -> AbstractAsyncContextManager[Callable[[bytes], None]]:
        """Introduce WebRTC peers over a channel to a home; what comes out of it goes to the function that is entered."""
