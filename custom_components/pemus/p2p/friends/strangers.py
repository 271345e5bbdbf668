"""Limits the requests of homes that are no friends.

Identities cost nothing, so requests also count by where they come from: by their transport (the local network, or one signalling
server), and in the local network by network and address. So a flood fills the places of its own source only. Each request
that is let in gets a nonce of this home, and is a guess at its words: all limits together bound the number of guesses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_network
import logging
import time
from typing import Final

from ..core.throttle import TokenBucket
from ..net.addresses import read_address
from ..net.messenger import Message
from .pairing import Pairing

TRIES_PER_DAY: Final = 5
"""Requests of one home that are let in within a day."""
LOG_INTERVAL: Final = 3600.0
"""Seconds between two warnings in the log about what strangers do."""
HOUR: Final = 3600.0
DAY: Final = 86400.0

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many requests may come from one source."""

    per_hour: int
    waiting: int
    """How many of them may wait for the user at the same time."""


TRANSPORT: Final = Budget(per_hour=30, waiting=20)
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


class Admission(Enum):
    """What becomes of a request."""

    ADMITTED = auto()
    IGNORED = auto()
    """There is no room: the other home may repeat it."""
    REFUSED = auto()
    """The other home has asked too often."""


@dataclass(frozen=True, slots=True)
class _Try:
    at: float
    """By the monotonic clock, in seconds."""
    home: str
    sources: tuple[Source, ...]


class Strangers:
    """Remembers for a day which requests were let in.

    This is a list and no token bucket: a bucket would let in up to twice as many within the first hour.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._tries: list[_Try] = []
        self._may_warn = TokenBucket.every(LOG_INTERVAL)

    def admit(
        self, message: Message, live: Iterable[Pairing], *, is_expected: bool
    ) -> tuple[Admission, list[str]]:
        """Decide about a request, and count it if it is let in.

        `live` are the pairings under way. A home that `is_expected` was named by the user: it takes nobody's place, and
        nobody takes its own. Return also the homes whose hidden requests make room.
        """
        home = message.envelope.sender
        self._expire()
        if sum(each.home == home for each in self._tries) >= TRIES_PER_DAY:
            self._warn("%s asks again and again to be a friend, and is refused", home)
            return Admission.REFUSED, []
        sources: tuple[Source, ...] = ()
        removed: list[str] = []
        if not is_expected:
            sources = sources_of(
                message.transport.origin, is_lan=message.transport.is_lan
            )
            if not self._is_within_hour(sources):
                self._warn("Too many homes ask to be friends: %s is ignored", home)
                return Admission.IGNORED, []
            others = (each for each in live if each.home != home)
            has_room, removed = _make_room(others, sources)
            if not has_room:
                self._warn("Too many requests wait: %s is ignored", home)
                return Admission.IGNORED, removed
        self._tries.append(_Try(time.monotonic(), home, sources))
        return Admission.ADMITTED, removed

    def forgive(self, home: str) -> None:
        """Stop counting what a home asked: users accepted it, so its requests were no guesses."""
        self._tries = [each for each in self._tries if each.home != home]

    def _is_within_hour(self, sources: tuple[Source, ...]) -> bool:
        """Tell whether one more request may come from all these sources within this hour."""
        begin = time.monotonic() - HOUR
        return all(
            sum(each.at > begin and source in each.sources for each in self._tries)
            < source.kind.per_hour
            for source in sources
        )

    def _expire(self) -> None:
        begin = time.monotonic() - DAY
        self._tries = [each for each in self._tries if each.at > begin]

    def _warn(self, text: str, home: str) -> None:
        level = logging.WARNING if self._may_warn.take() else logging.DEBUG
        _LOGGER.log(level, text, home)


def sources_of(origin: str, *, is_lan: bool) -> tuple[Source, ...]:
    """Return what a request counts for, the widest source first. `origin` is that of its transport."""
    if not is_lan:
        return (Source(TRANSPORT, origin),)
    # The empty name is the local network: a server has a host.
    transport = Source(TRANSPORT, "")
    try:
        address = read_address(origin)
    except ValueError:
        return (transport,)
    # The zone of a link-local address names an interface of this machine, not the other one.
    text = str(address).partition("%")[0]
    length = NETWORK_BITS[address.version]
    network = ip_network(f"{text}/{length}", strict=False)
    return transport, Source(NETWORK, str(network)), Source(ADDRESS, text)


def _make_room(
    live: Iterable[Pairing], sources: Iterable[Source]
) -> tuple[bool, list[str]]:
    """Return whether a request from these sources fits, and the homes whose hidden requests make room for it."""
    waiting = {
        each.home: (each, sources_of(each.origin, is_lan=each.lan))
        for each in live
        if each.incoming and not each.asked
    }
    removed: list[str] = []
    for source in sources:
        there = [each for each, of in waiting.values() if source in of]
        if len(there) < source.kind.waiting:
            continue
        hidden = [each for each in there if each.is_hidden]
        if not hidden:
            return False, removed
        oldest = min(hidden, key=lambda each: each.created).home
        removed.append(oldest)
        del waiting[oldest]
    return True, removed
