"""What the engine's other parts, and its API, are told of other homes, and what they may ask.

Sizes are bytes, times are seconds since the Unix epoch, durations are seconds, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
import re
from typing import Final

ID_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32."""
ID_LENGTH: Final = 28
_ID: Final = re.compile(rf"[{ID_ALPHABET}]{{{ID_LENGTH}}}")

MAX_NAME: Final = 100
"""Characters of a home's name that are kept and shown."""


def is_home(text: str) -> bool:
    """Tell whether a text looks like a home's id, as programs keep it. Its check characters are `identity`'s matter."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class FriendConfig:
    """A friend as the user configured it."""

    id: str
    """PeMuS ID, without dashes."""
    name: str
    shares: tuple[str, ...] = ()
    """Ids of this home's shares that the friend may see."""
    upload_limit: int = 0
    """Bytes per second for this friend alone; 0 for none."""


class PathKind(StrEnum):
    """The way that a link takes."""

    LAN = "lan"
    """Within one local network."""
    DIRECT = "direct"
    RELAYED = "relayed"
    """Through a TURN server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStats:
    """What the connection of a link has done so far."""

    sent: int = 0
    """Bytes, with all overhead."""
    received: int = 0
    chunks: int = 0
    """Pieces of messages that were sent, about 1,200 bytes each."""
    repeated: int = 0
    """How many of them had to be sent again."""
    rtt: float | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FriendStatus:
    """How a friend is at present."""

    id: str
    name: str
    """As the friend's home calls itself; the configured name until it was met."""
    online: bool
    """Whether it can be reached."""
    path: PathKind | None = None
    """None while no link is open."""
    rtt: float | None = None
    """Time of a packet there and back, in seconds."""
    download_rate: int = 0
    """Bytes per second, over the link and through the swarm."""
    upload_rate: int = 0
    lost: float | None = None
    """Share of packets that had to be sent again, 0 to 1."""
    last_seen: float | None = None
    items: int = 0
    """How many items it shares with this home."""
    release: str | None = None
    """The release of PeMuS that it runs."""
    unfriended: bool = False
    """Whether it answered that this home is not its friend any more."""
    message: str | None = None
    """What went wrong last, in plain English, as long as it matters."""


class PairingState(StrEnum):
    """How far a pairing is."""

    WAITING = "waiting"
    """The other home was not reached yet."""
    COMPARING = "comparing"
    """Both homes show the same words."""
    PAIRED = "paired"
    """Both said yes; it is over when the home is among the configured friends."""
    DENIED = "denied"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingStatus:
    """A pairing that somebody began, here or there."""

    home: str
    """PeMuS ID of the other home."""
    name: str
    """As it calls itself; empty until it was reached."""
    incoming: bool
    """Whether the other home began it."""
    origin: str
    """Where it comes from: an IP address in the local network, or the signalling server's host; empty if not known yet."""
    lan: bool
    """Whether it comes from the local network."""
    state: PairingState
    words: tuple[str, ...] = ()
    """What both homes show, if nobody sits between them."""
    confirmed: bool = False
    """Whether this home said yes."""
    confirmed_there: bool = False
    created: float
    expires: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """A signalling server."""

    url: str
    connected: bool
    identity: bool = False
    """Whether it keeps others from using this home's id."""
    turn: bool = False
    """Whether it relays for those who have no direct path."""
    message: str | None = None
    """Why it is not connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersStatus:
    """Everything about other homes."""

    id: str
    """This home's PeMuS ID, without dashes."""
    port: int
    """TCP port for homes in the local network, and the one to advertise; 0 if there is none."""
    friends: tuple[FriendStatus, ...] = ()
    """In the order of the configuration."""
    pairings: tuple[PairingStatus, ...] = ()
    servers: tuple[ServerStatus, ...] = ()
    blocked: tuple[str, ...] = ()
    """Homes whose requests are not shown."""
    superseded: bool = False
    """Whether another home uses the same identity: a restored copy of this one, probably."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingQuery:
    """Which home to pair with."""

    home: str
    """PeMuS ID as somebody typed it."""
    trusted: bool = True
    """Whether the user typed or scanned the ID, which is a proof by itself. What the local network says must be confirmed
    by comparing the words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingAnswer:
    """What the user says to a pairing."""

    accept: bool
    block: bool = False
    """Whether to show no more requests of this home. Only with a refusal."""
    words: tuple[str, ...] | None = None
    """Those that the user saw: a yes to them counts for no others. None if nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanHome:
    """A home that advertises itself in the local network. Anybody there may claim to be any home."""

    id: str
    name: str
    addresses: tuple[str, ...]
    """IP addresses."""
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LanHomes:
    """All of them."""

    homes: tuple[LanHome, ...]
