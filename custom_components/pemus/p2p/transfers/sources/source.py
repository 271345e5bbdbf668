"""What a source is: something that delivers bytes of a remote item.

A download may have several sources. All get the same wishes, each delivers what it can, and what arrives first counts.
Sources write to the download's file themselves. They report only bytes that are verified and can be read from the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...torrent.priority import Priority

if TYPE_CHECKING:
    from ..download import Download


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bytes that are needed."""

    start: int
    stop: int
    priority: Priority = Priority.LATER


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What a source does at present."""

    download_rate: int = 0
    """Bytes per second."""
    received: int = 0
    """Bytes received, verified or not: a sign of life."""
    peers: int = 0


class Source(Protocol):
    """Delivers bytes of one item."""

    @property
    def status(self) -> SourceStatus:
        """What it does at present."""

    async def start(self, download: Download) -> None:
        """Start to deliver into a download's file, which has its full size. Raises an Exception if that is impossible at present."""

    def want(self, spans: Sequence[Wanted]) -> None:
        """Deliver these bytes, in this order, and nothing else any more. May be called before `start` has returned.

        Bytes that were delivered may be wanted again, because they were removed from the file to free space.

        A source writes only to pieces that contain wanted bytes. It may overwrite other bytes of such a piece with the
        same content.
        """

    async def close(self) -> None:
        """Stop. When this returns, nothing writes to the file any more."""
