"""Selects the peers of a swarm that get the offers of an announce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
import random
from typing import Final

BUSY: Final = 10
"""Offers after which a peer counts as busier. libtorrent answers this many between two announces."""
MOST: Final = 55
"""Offers after which a peer gets no more until it announces again, so that no peer is flooded. npm's webtorrent keeps this
many connections per torrent."""
PATIENCE: Final = 20.0
"""How long a peer may take to answer an offer, in seconds. npm's webtorrent gathers addresses for up to five."""
_CHOICE: Final = 2
"""Candidates per chosen peer, in each group."""


@dataclass(slots=True, eq=False)
class Peer:
    """What matters here about a peer."""

    left: float
    """Bytes that it lacks. Infinite if unknown."""
    load: int
    """Offers that it received since it announced."""
    asked: list[Peer] = field(default_factory=list)
    """The receivers of its last offers that have not answered."""
    asked_at: float = 0.0

    def waits_for(self, other: Peer, now: float) -> bool:
        """Return whether another peer may still answer an offer of this one.

        Then an offer in the opposite direction would cross the answer. npm's webtorrent closes the second of two
        connections, and if each side closes a different one, none is left.
        """
        return other in self.asked and now < self.asked_at + PATIENCE


def choose[P: Peer](
    announcer: P, seeds: Sequence[P], leechers: Sequence[P], most: int, now: float
) -> list[P]:
    """Return up to `most` different peers for the offers of `announcer`: never itself, and no peer that waits for it.

    A peer that lacks something is introduced to seeds, and to the peers that lack least. A seed is introduced to peers that
    lack something, the least busy ones first. In a large swarm, the best of a random few are chosen. This takes constant
    time, is nearly as good as the best of all, and does not send everyone to the same peers (M. Mitzenmacher, "The Power of
    Two Choices in Randomized Load Balancing", 2001).
    """
    found = _some(leechers, most)
    if announcer.left:
        found += _some(seeds, most)
    found = [
        each
        for each in found
        if each.load < MOST
        and each is not announcer
        and not each.waits_for(announcer, now)
    ]
    if len(found) > most:
        found.sort(key=_by_worth if announcer.left else _by_load)
        del found[most:]
    return found


def _some[P: Peer](peers: Sequence[P], most: int) -> list[P]:
    """Return all peers if there are few, otherwise a run of them from a random position."""
    count = _CHOICE * most + 1
    total = len(peers)
    if total <= count:
        return list(peers)
    start = int(random.random() * total)
    found = list(peers[start : start + count])
    return found + list(peers[: count - len(found)])


def _by_load(peer: Peer) -> int:
    return peer.load


def _by_worth(peer: Peer) -> tuple[int, float, int]:
    return peer.load // BUSY, peer.left, peer.load
