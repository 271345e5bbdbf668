"""Who gets an offer."""

from __future__ import annotations

import math
import random

from hypothesis import given, strategies as st

from pemus_signaling.tracker import matching
from pemus_signaling.tracker.matching import BUSY, MOST, PATIENCE, Peer

PEERS = st.lists(
    st.builds(
        Peer,
        st.sampled_from([0.0, 1.0, 500.0, 1e12, math.inf]),
        st.integers(0, MOST + 5),
    ),
    min_size=1,
    max_size=120,
)


def choose(announcer: Peer, peers: list[Peer], most: int) -> list[Peer]:
    seeds = [each for each in peers if each.left == 0]
    leechers = [each for each in peers if each.left]
    known = list(seeds), list(leechers)
    found = list(matching.choose(announcer, seeds, leechers, most, 0.0))
    assert (seeds, leechers) == known
    return found


@given(PEERS, st.integers(0, 20), st.data())
def test_offers_go_to_different_peers_that_can_use_them(
    peers: list[Peer], most: int, data: st.DataObject
) -> None:
    announcer = data.draw(st.sampled_from(peers))
    found = choose(announcer, peers, most)
    assert len(found) <= most
    assert len(set(map(id, found))) == len(found)
    assert all(each is not announcer for each in found)
    assert all(each in peers and each.load < MOST for each in found)
    if announcer.left == 0:
        assert all(each.left for each in found)


@given(PEERS, st.integers(1, 20), st.data())
def test_no_offer_is_left_while_there_is_somebody_for_it(
    peers: list[Peer], most: int, data: st.DataObject
) -> None:
    for each in peers:
        each.load = min(each.load, MOST - 1)
    announcer = data.draw(st.sampled_from(peers))
    usable = [
        each
        for each in peers
        if each is not announcer and (announcer.left or each.left)
    ]
    assert len(choose(announcer, peers, most)) == min(most, len(usable))


def test_who_lacks_something_meets_the_seed_first() -> None:
    guests = [Peer(1000, 0) for _ in range(50)]
    seed = Peer(0, BUSY - 1)
    for guest in guests:
        assert choose(guest, [*guests, seed], 1) == [seed]


def test_those_that_have_more_come_first() -> None:
    newcomer, half, nearly = Peer(math.inf, 0), Peer(500, 0), Peer(10, 3)
    assert choose(newcomer, [newcomer, half, nearly], 1) == [nearly]


def test_a_busy_seed_is_spared_while_there_are_others() -> None:
    guest, other, seed = Peer(1000, 0), Peer(500, 0), Peer(0, BUSY)
    assert choose(guest, [guest, other, seed], 1) == [other]
    assert set(map(id, choose(guest, [guest, other, seed], 2))) == {id(other), id(seed)}


def test_a_seed_is_not_offered_to_seeds() -> None:
    seeds = [Peer(0, 0) for _ in range(9)]
    assert choose(seeds[0], seeds, 5) == []
    guest = Peer(7, 0)
    assert choose(seeds[0], [*seeds, guest], 5) == [guest]


def test_whoever_has_too_many_offers_gets_no_more() -> None:
    seed, guest = Peer(0, MOST), Peer(7, 0)
    assert choose(guest, [seed, guest], 5) == []


def test_two_offers_do_not_cross() -> None:
    guest, seed, other = Peer(7, 0), Peer(0, 0), Peer(9, 0)
    guest.asked, guest.asked_at = [seed], 100.0
    peers = [guest, other]
    assert matching.choose(seed, [seed], peers, 5, 100.0) == [other]
    assert matching.choose(seed, [seed], peers, 5, 99.0 + PATIENCE) == [other]
    # It is not going to be answered any more.
    assert matching.choose(seed, [seed], peers, 5, 100.0 + PATIENCE) == peers
    guest.asked = []
    assert matching.choose(seed, [seed], peers, 5, 100.0) == peers


def test_the_load_is_shared_evenly_in_a_large_swarm() -> None:
    random.seed(7)
    peers = [Peer(1000, 0) for _ in range(1000)]
    for announcer in peers:
        for each in choose(announcer, peers, 5):
            each.load += 1
    loads = [each.load for each in peers]
    assert sum(loads) == 5000
    # With any five for each, somebody would have 13 or so.
    assert max(loads) <= 10
