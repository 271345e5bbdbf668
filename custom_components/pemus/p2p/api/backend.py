"""What the API asks of the engine behind it."""

from __future__ import annotations

from typing import Protocol

from ..models import (
    EngineConfig,
    Item,
    Listing,
    LocalFile,
    SearchQuery,
    SearchResult,
    Status,
)


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
