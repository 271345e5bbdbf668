"""Who gets an offer: which peers of a swarm a tracker introduces to the one that announces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
import random
from typing import Final

BUSY: Final = 10
"""Offers after which a peer counts as busier: as many as libtorrent answers from one announce to the next."""
MOST: Final = 55
"""Offers after which a peer gets no more until it announces again: as many connections as npm's webtorrent keeps for a
torrent. So nobody is swamped, however many others offer."""
PATIENCE: Final = 20.0
"""Seconds for which a peer that got an offer is expected to answer it. npm's webtorrent may take five to gather addresses."""
_CHOICE: Final = 2
"""Peers that are looked at, in each group, for each one that is chosen."""


@dataclass(slots=True, eq=False)
class Peer:
    """A peer, as far as it matters here."""

    left: float
    """Bytes that it lacks; infinite if that is not known."""
    load: int
    """Offers that it was given since it announced."""
    asked: list[Peer] = field(default_factory=list)
    """Who got the offers that it made last, and has not answered."""
    asked_at: float = 0.0

    def waits_for(self, other: Peer, now: float) -> bool:
        """Tell whether another peer is about to answer this one's offer.

        An offer of that one's would cross it. Each of the two would then keep the connection that it heard of first, and
        give the other up as one too many: npm's webtorrent does, and none is left.
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
    """Return all peers if they are few, else some that stand one after another, from anywhere on."""
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
