"""Limits the requests of homes that are no friends.

Identities cost nothing, so requests count by where they come from as well: by the way that they took (the local network, or
one signalling server), and in the local network by network and address. So a flood fills the places of its own source, and
leaves those of the others. Each request that is let in gets a number of this home, and is a try at its words: all limits
together bound how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
import time
from typing import Final

from ..net.addresses import read_address

TRIES_PER_DAY: Final = 5
"""Requests of one home that are let in within a day."""
HOUR: Final = 3600.0
DAY: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How many requests may come from one source."""

    per_hour: int
    waiting: int
    """How many of them may wait for the user at the same time."""


WAY: Final = Budget(per_hour=30, waiting=20)
NETWORK: Final = Budget(per_hour=20, waiting=14)
"""Of one network in the local network: a /24 of IPv4, a /64 of IPv6."""
ADDRESS: Final = Budget(per_hour=10, waiting=7)

NETWORK_BITS: Final = {4: 24, 6: 64}
"""Length of a network's prefix, by the version of IP."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where requests come from: everything that shares a budget."""

    kind: Budget
    name: str


@dataclass(frozen=True, slots=True)
class _Try:
    at: float
    """On a clock that never goes back."""
    home: str
    sources: tuple[Source, ...]


def sources_of(origin: str, *, is_lan: bool) -> tuple[Source, ...]:
    """Return what a request counts for, the widest source first. `origin` is that of the way that it took."""
    if not is_lan:
        return (Source(WAY, origin),)
    # A server has a host, never an empty name.
    way = Source(WAY, "")
    try:
        address = read_address(origin)
    except ValueError:
        return (way,)
    # A link's name says where this machine sits, not who the other one is.
    text = str(address).partition("%")[0]
    length = NETWORK_BITS[address.version]
    network = ip_network(f"{text}/{length}", strict=False)
    return way, Source(NETWORK, str(network)), Source(ADDRESS, text)


class Tries:
    """Requests that were let in, for a day."""

    def __init__(self) -> None:
        """Know of none."""
        self._tries: list[_Try] = []

    def is_spent(self, home: str) -> bool:
        """Tell whether a home has asked too often in a day."""
        self._forget()
        return sum(each.home == home for each in self._tries) >= TRIES_PER_DAY

    def has_room(self, sources: tuple[Source, ...]) -> bool:
        """Tell whether one more request may come from all of these sources in this hour."""
        recent = time.monotonic() - HOUR
        return all(
            sum(each.at > recent and source in each.sources for each in self._tries)
            < source.kind.per_hour
            for source in sources
        )

    def add(self, home: str, sources: tuple[Source, ...]) -> None:
        """Count a request."""
        self._tries.append(_Try(time.monotonic(), home, sources))

    def forgive(self, home: str) -> None:
        """Count what a home asked no longer: users agreed to it, so it was no try."""
        self._tries = [each for each in self._tries if each.home != home]

    def _forget(self) -> None:
        begin = time.monotonic() - DAY
        self._tries = [each for each in self._tries if each.at > begin]
