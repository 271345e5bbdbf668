"""Files that are fetched from friends: how far each has arrived, and what the cache holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from . import Kind


class TransferState(StrEnum):
    """What a transfer is doing."""

    IDLE = "idle"
    """No more of it is wanted."""
    CHECKING = "checking"
    """The file that an engine left behind when it crashed is compared with its hashes."""
    WAITING = "waiting"
    """More is wanted, but nobody delivers."""
    FETCHING = "fetching"
    COMPLETE = "complete"
    FULL = "full"
    """More is wanted, but the disk has no room."""
    EXPIRED = "expired"
    """More is wanted, but the ticket has expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStatus:
    """How far a friend's item has arrived."""

    owner: str
    owner_name: str
    item: str
    title: str
    kind: Kind
    size: int
    done: int
    """Bytes that are on disk and verified."""
    pinned: bool
    """Whether all of it is fetched and kept, so that it plays while its owner is away."""
    state: TransferState
    download_rate: int = 0
    """Bytes per second."""
    peers: int = 0
    readers: int = 0
    used: float = 0.0
    """When it was last read."""
    message: str | None = None
    """The last failure in plain English, as long as it matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfers:
    """All friends' items that are here in part or whole, or should be."""

    items: tuple[TransferStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUsage:
    """How much of the disk friends' items take."""

    used: int
    pinned: int
    """Bytes of pinned items once they are complete."""
    quota: int
    free: int
    """Free bytes on the disk, including the reserve."""
