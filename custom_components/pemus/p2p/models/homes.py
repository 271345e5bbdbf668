"""Other homes: friends, pairings, signalling servers and the local network.

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
    """Tell whether a text looks like a PeMuS ID without dashes. This does not compute the check characters; `read_id` does."""
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
    """How a link reaches the other home."""

    LAN = "lan"
    """Within one local network."""
    DIRECT = "direct"
    RELAYED = "relayed"
    """Through a TURN server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStats:
    """What a link's connection has moved so far."""

    sent: int = 0
    """Bytes, with all overhead."""
    received: int = 0
    chunks: int = 0
    """Pieces of messages that were sent, about 1,200 bytes each."""
    repeated: int = 0
    """Of these, how many were sent again."""
    rtt: float | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FriendStatus:
    """The present state of a friend."""

    id: str
    name: str
    """What the friend's home calls itself; the configured name until this home has met it."""
    online: bool
    """Whether it can be reached."""
    path: PathKind | None = None
    """None while no link is open."""
    rtt: float | None = None
    """Round-trip time in seconds."""
    download_rate: int = 0
    """Bytes per second, over the link and through the swarm."""
    upload_rate: int = 0
    lost: float | None = None
    """Share of packets that were sent again, 0 to 1."""
    last_seen: float | None = None
    items: int = 0
    """How many items it shares with this home."""
    release: str | None = None
    """The release of PeMuS that it runs."""
    unfriended: bool = False
    """Whether it answered that this home is no longer its friend."""
    message: str | None = None
    """The last failure in plain English, as long as it matters."""


class PairingState(StrEnum):
    """The stages of a pairing."""

    WAITING = "waiting"
    """The other home has not been reached yet."""
    COMPARING = "comparing"
    """Both homes show the same words."""
    PAIRED = "paired"
    """Both users accepted. The pairing ends when the home is among the configured friends."""
    DENIED = "denied"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingStatus:
    """A pairing that one of both homes began."""

    home: str
    """PeMuS ID of the other home."""
    name: str
    """What it calls itself; empty until it has been reached."""
    incoming: bool
    """Whether the other home began it."""
    origin: str
    """Where the request comes from: an IP address in the local network, or a signalling server's host; empty if not known yet."""
    lan: bool
    """Whether it comes from the local network."""
    state: PairingState
    words: tuple[str, ...] = ()
    """The words that both homes show unless somebody sits between them."""
    confirmed: bool = False
    """Whether this home's user accepted."""
    confirmed_there: bool = False
    created: float
    expires: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """A signalling server."""

    url: str
    connected: bool
    identity: bool = False
    """Whether it protects this home's id from use by others."""
    turn: bool = False
    """Whether it relays links that have no direct path (TURN)."""
    message: str | None = None
    """Why it is not connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersStatus:
    """Everything about other homes."""

    id: str
    """This home's PeMuS ID, without dashes."""
    port: int
    """TCP port for homes in the local network, which is also advertised; 0 if there is none."""
    friends: tuple[FriendStatus, ...] = ()
    """In the order of the configuration."""
    pairings: tuple[PairingStatus, ...] = ()
    servers: tuple[ServerStatus, ...] = ()
    blocked: tuple[str, ...] = ()
    """Homes whose requests are not shown."""
    superseded: bool = False
    """Whether another home uses the same identity, probably a restored copy of this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingQuery:
    """Which home to pair with."""

    home: str
    """PeMuS ID as the user typed it."""
    trusted: bool = True
    """Whether the user typed or scanned the ID, which proves it. An ID from the local network must be confirmed by comparing
    the words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingAnswer:
    """The user's answer to a pairing."""

    accept: bool
    block: bool = False
    """Whether to hide further requests from this home. Only with a refusal."""
    words: tuple[str, ...] | None = None
    """The words that the user saw; accepting counts for these words only. None if that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanHome:
    """A home that advertises itself in the local network. Anybody there may claim any id."""

    id: str
    name: str
    addresses: tuple[str, ...]
    """IP addresses."""
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LanHomes:
    """All homes that the local network shows."""

    homes: tuple[LanHome, ...]
