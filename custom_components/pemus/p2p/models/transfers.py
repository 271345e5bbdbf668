"""What the engine's other parts, and its API, are told of files that are fetched from other homes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
import os

from . import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteItem:
    """An item of another home that this one may fetch."""

    owner: str
    owner_name: str
    id: str
    kind: Kind
    name: str
    title: str
    content_type: str
    size: int
    etag: str
    modified: float
    expires: float
    """From when on the owner gives nothing more for the present ticket."""
    ready: bool
    """Whether the item can be fetched: its owner has hashed it, or gives it over the link alone."""
    duration: float | None = None
    bit_rate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """The file in the cache that a remote item arrives in, and how to know that it is still the same one.

    Parts of it that did not arrive read as zeros: nothing may be read from it but what `Downloads.wait` said is there.
    """

    path: str
    name: str
    """The name a download should have."""
    content_type: str
    size: int
    modified: float
    inode: int
    device: int
    etag: str
    complete: bool

    def is_still(self, stat: os.stat_result) -> bool:
        """Tell whether `stat`, taken of an open file, is of the very file that was described.

        Its time changes with each piece that arrives, and so says nothing.
        """
        return (
            stat.st_size == self.size
            and stat.st_ino == self.inode
            and stat.st_dev == self.device
        )


class TransferState(StrEnum):
    """What a transfer is doing."""

    IDLE = "idle"
    """Nobody wants more of it."""
    CHECKING = "checking"
    """What was left by an engine that did not end cleanly is read and compared with its hashes."""
    WAITING = "waiting"
    """More is wanted, and nobody delivers."""
    FETCHING = "fetching"
    COMPLETE = "complete"
    FULL = "full"
    """More is wanted, and there is no room for it."""
    EXPIRED = "expired"
    """More is wanted, and the ticket for it has run out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStatus:
    """How far a remote item has arrived."""

    owner: str
    owner_name: str
    item: str
    title: str
    kind: Kind
    size: int
    done: int
    """Bytes that were verified and are on disk."""
    pinned: bool
    """Whether it is to be kept whole, for when its owner cannot be reached."""
    state: TransferState
    download_rate: int = 0
    """Bytes per second."""
    upload_rate: int = 0
    peers: int = 0
    readers: int = 0
    used: float = 0.0
    """When it was last read."""
    message: str | None = None
    """What went wrong last, in plain English, as long as it matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfers:
    """All remote items of which there is, or should be, anything here."""

    items: tuple[TransferStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUsage:
    """How much of the disk remote items take."""

    used: int
    pinned: int
    """Bytes of those that are kept whole, once they are."""
    quota: int
    free: int
    """Bytes that are free on the disk, the reserve included."""
