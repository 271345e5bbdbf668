"""What the engine's other parts, and its API, are told of files that are fetched from other homes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from . import Kind


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
