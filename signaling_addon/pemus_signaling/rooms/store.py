"""Rooms, and what a store of rooms does.

A room that was closed or has expired is kept for `REMEMBERED` seconds, as long as a guest's token for it can be valid. Its
link answers that the room is gone, and its tokens stay revoked after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
import logging
from typing import Any, Final, Protocol

import orjson

from pemus_signaling.net import base64url

from .tokens import REMEMBERED

MAX_ROOMS: Final = 50_000
"""Rooms that one process keeps, including those that are gone."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What a home publishes about the file of a room. Everyone who has the link can read it."""

    name: str | None = None
    type: str | None = None
    """The media type (RFC 6838)."""
    size: int | None = None
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Room:
    """A home's link for guests. Times are in whole seconds since 1970."""

    slug: str
    host: str
    """The home's PeMuS ID."""
    key: bytes
    """The home's public key. It signs the tokens of the room."""
    password: bool
    """Whether guests need a password. Only the home knows it."""
    expires: int
    """When the room expires."""
    published: Published | None = None
    closed: int | None = None
    """When the home closed the room."""
    revoked: tuple[tuple[str, int], ...] = ()
    """The ids of revoked tokens, each with the time from which it need not be kept."""
    network: str = ""
    """The network of the home that created the room, for the limit of rooms per network."""
    renew_by: int | None = None
    """When the room expires unless the home changes it before."""

    def is_gone(self, now: float) -> bool:
        """Return whether the room was closed or has expired."""
        return self.closed is not None or self.ends <= now

    @property
    def ended(self) -> int:
        """When the room was closed, or expires."""
        return self.ends if self.closed is None else min(self.closed, self.ends)

    @property
    def ends(self) -> int:
        """When the room expires if it is neither closed nor renewed."""
        return (
            self.expires if self.renew_by is None else min(self.expires, self.renew_by)
        )

    @property
    def forgotten(self) -> int:
        """When no token for the room can be valid any more, so the room need not be kept."""
        return self.ended + REMEMBERED


class Created(Enum):
    """The result of an attempt to create a room."""

    DONE = auto()
    TAKEN = auto()
    """The slug is in use."""
    TOO_MANY = auto()
    """The home has too many open rooms."""
    CROWDED = auto()
    """The network has too many rooms."""
    FULL = auto()
    """The store has no space for another room."""


class RoomStore(Protocol):
    """Keeps rooms. Each method is atomic. All but `close` raise StoreAwayError while the store does not work."""

    async def start(self) -> list[Room]:
        """Open the store. Return the rooms whose revocations are recorded nowhere else."""

    async def close(self) -> None:
        """Close the store, after pending writes."""

    async def create(
        self, room: Room, most: int, in_network: int = MAX_ROOMS
    ) -> Created:
        """Add a room if its home has fewer than `most` open rooms.

        Its network must have fewer than `in_network` rooms, including those that are gone, because identities cost nothing.
        Of the home's rooms that are gone, at most `most` are kept.
        """

    async def get(self, slug: str) -> Room | None:
        """Return a room, including one that is gone."""

    async def replace(self, old: Room, new: Room) -> bool:
        """Change a room. Return False if it is not equal to `old`, because it was changed concurrently."""

    async def rooms_of(self, host: str) -> list[Room]:
        """Return the rooms of a home, including those that are gone."""


def encode_room(room: Room) -> bytes:
    """Return a room in the form in which stores keep it."""
    return orjson.dumps(room, default=base64url.encode)


def decode_room(data: bytes) -> Room | None:
    """Return the room that `encode_room` wrote. None, and a warning in the log, if `data` is not a room."""
    try:
        values: dict[str, Any] = orjson.loads(data)
        published = values["published"]
        values["published"] = None if published is None else Published(**published)
        values["key"] = base64url.decode(values["key"])
        values["revoked"] = tuple(
            (token, int(until)) for token, until in values["revoked"]
        )
        return Room(**values)
    except (ValueError, KeyError, TypeError) as error:
        _LOGGER.warning("A room cannot be read: %s", type(error).__name__)
        return None


def without_old(
    revoked: tuple[tuple[str, int], ...], now: float
) -> tuple[tuple[str, int], ...]:
    """Return the revoked tokens that have not expired."""
    return tuple((token, until) for token, until in revoked if until > now)


def close_room(room: Room, now: float) -> Room:
    """Return a room after its home closed it."""
    return replace(room, closed=int(now), published=None, revoked=())
