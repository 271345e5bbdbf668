"""Pairing of homes that find each other in the local network: real connections, real signatures."""

from __future__ import annotations

from dataclasses import replace
import json
import logging
import time

import pytest

from p2p.core.errors import BadRequest, Busy, NotFound
from p2p.friends.pairing import (
    ENDED_LIFETIME,
    HIDDEN_LIFETIME,
    Received,
    Request,
    Reveal,
    Verdict,
)
from p2p.friends.pairings import MAX_OUTGOING
from p2p.friends.sas import WORDS, commitment, is_committed, words
from p2p.friends.strangers import TRANSPORT, TRIES_PER_DAY
from p2p.models.codec import encode
from p2p.models.homes import PairingState, PairingStatus
from p2p.models.pemus_id import grouped
from p2p.net.identity import Identity
from p2p.net.messages import Envelope, seal
from p2p.net.messenger import Message
from tests.p2p.net.neighbours import Neighbour, neighbour
from tests.patience import failing_once, until

STRANGER = Identity.of(bytes([9] * 32))


def shown(home: Neighbour, other: Neighbour) -> PairingStatus | None:
    return next(
        (each for each in home.pairings.statuses if each.home == other.id), None
    )


def state(home: Neighbour, other: Neighbour) -> PairingState | None:
    status = shown(home, other)
    return None if status is None else status.state


async def comparing(ann: Neighbour, bob: Neighbour, *, trusted: bool = False) -> None:
    """Let Ann ask Bob, and wait for the words."""
    ann.sees(bob)
    bob.sees(ann)
    ann.pairings.request(bob.id, trusted=trusted)
    await until(lambda: state(ann, bob) is PairingState.COMPARING)
    await until(lambda: state(bob, ann) is PairingState.COMPARING)


async def test_both_homes_show_the_same_words_and_become_friends_when_both_say_yes() -> (
    None
):
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob)
        here, there = shown(ann, bob), shown(bob, ann)
        assert here is not None
        assert there is not None
        assert here.words == there.words
        assert len(set(here.words)) > 1
        assert (here.name, there.name) == ("Bob", "Ann")
        assert (here.incoming, there.incoming) == (False, True)
        assert there.lan
        assert there.origin == here.origin == "127.0.0.1"
        ann.pairings.answer(bob.id, accept=True, block=False)
        await until(lambda: (shown(bob, ann) or here).confirmed_there)
        assert state(bob, ann) is PairingState.COMPARING
        bob.pairings.answer(ann.id, accept=True, block=False)
        await until(lambda: state(bob, ann) is PairingState.PAIRED)
        await until(lambda: state(ann, bob) is PairingState.PAIRED)


async def test_a_fault_of_the_loop_that_pairs_does_not_end_pairing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        # Nothing is sent but by the loop: nobody is seen yet.
        ann.pairings.request(bob.id, trusted=True)
        failed = failing_once(monkeypatch, ann.pairings, "_expire")
        await until(lambda: failed)
        ann.sees(bob)
        bob.sees(ann)
        await until(lambda: state(bob, ann) is PairingState.COMPARING)


async def test_who_typed_the_id_has_said_yes_already() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob, trusted=True)
        bob.pairings.answer(ann.id, accept=True, block=False)
        await until(lambda: state(ann, bob) is PairingState.PAIRED)


async def test_a_pairing_is_forgotten_once_the_home_is_a_friend_on_both_sides() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob, trusted=True)
        bob.pairings.answer(ann.id, accept=True, block=False)
        await until(lambda: state(ann, bob) is PairingState.PAIRED)
        ann.friends.add(bob.id)
        bob.friends.add(ann.id)
        ann.pairings.befriended()
        bob.pairings.befriended()
        await until(lambda: not ann.pairings.pairings and not bob.pairings.pairings)


async def test_a_request_to_a_home_that_is_away_is_delivered_when_it_comes() -> None:
    async with neighbour("Ann") as ann:
        async with neighbour("Bob") as bob:
            seed = bob.identity.private.private_bytes_raw()
            ann.pairings.request(bob.id, trusted=True)
        assert state(ann, bob) is PairingState.WAITING
        async with neighbour("Bob", seed=seed) as again:
            ann.sees(again)
            ann.pairings.retry(again.id)
            await until(lambda: state(again, ann) is PairingState.COMPARING)


async def test_a_refusal_reaches_the_other_home() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob, trusted=True)
        bob.pairings.answer(ann.id, accept=False, block=False)
        await until(lambda: state(ann, bob) is PairingState.DENIED)


async def test_who_was_refused_a_moment_ago_is_refused_again_without_being_shown() -> (
    None
):
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob, trusted=True)
        bob.pairings.answer(ann.id, accept=False, block=False)
        await until(lambda: state(ann, bob) is PairingState.DENIED)
        before = shown(bob, ann)
        ann.pairings.forget(bob.id)
        ann.pairings.request(bob.id, trusted=True)
        await until(lambda: state(ann, bob) is PairingState.DENIED)
        assert shown(bob, ann) == before


async def test_a_blocked_home_gets_no_answer_and_is_not_shown() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob, trusted=True)
        bob.pairings.answer(ann.id, accept=False, block=True)
        assert bob.pairings.blocked == (ann.id,)
        await until(lambda: state(ann, bob) is PairingState.DENIED)
        bob.pairings.forget(ann.id)
        ann.pairings.forget(bob.id)
        del bob.messages[:], ann.messages[:]
        ann.pairings.request(bob.id, trusted=True)
        # It is asked twice, and has nothing to say to that.
        await until(lambda: len(bob.messages) >= 2)
        assert {each.envelope.kind for each in bob.messages} == {"request"}
        assert not ann.messages
        assert state(ann, bob) is PairingState.WAITING
        assert shown(bob, ann) is None
        bob.pairings.unblock(ann.id)
        ann.pairings.retry()
        await until(lambda: state(bob, ann) is PairingState.COMPARING)


async def test_two_homes_that_typed_each_others_id_become_friends_at_once() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        ann.sees(bob)
        bob.sees(ann)
        ann.pairings.request(bob.id, trusted=True)
        bob.pairings.request(ann.id, trusted=True)
        await until(lambda: state(ann, bob) is PairingState.PAIRED)
        await until(lambda: state(bob, ann) is PairingState.PAIRED)


async def test_a_request_that_is_taken_back_disappears_at_the_other_home() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob)
        ann.pairings.forget(bob.id)
        await until(lambda: state(bob, ann) is PairingState.DENIED)


async def test_requests_that_nobody_answers_expire() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob)
        for home in (ann, bob):
            (pairing,) = home.pairings.pairings
            past = replace(pairing, expires=time.time() - 1)
            home.pairings.restore([past], [])
        await until(lambda: state(ann, bob) is PairingState.EXPIRED)
        await until(lambda: state(bob, ann) is PairingState.EXPIRED)
        for home in (ann, bob):
            (pairing,) = home.pairings.pairings
            past = replace(pairing, ended=time.time() - ENDED_LIFETIME - 1)
            home.pairings.restore([past], [])
        await until(lambda: not ann.pairings.pairings and not bob.pairings.pairings)


async def test_a_pairing_goes_on_after_a_restart() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob, trusted=True)
        kept = ann.pairings.pairings
        ann.pairings.restore([], [])
        ann.pairings.restore(kept, [])
        bob.pairings.answer(ann.id, accept=True, block=False)
        await until(lambda: state(ann, bob) is PairingState.PAIRED)


@pytest.mark.parametrize("jump", [-3600.0, 86400.0])
async def test_a_clock_that_jumps_ends_no_pairing(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob)
        right, looks = time.time, 0

        def wrong() -> float:
            nonlocal looks
            looks += 1
            return right() + jump

        monkeypatch.setattr(time, "time", wrong)
        # Each home looks at the clock a few times a second.
        await until(lambda: looks > 10)
        assert state(ann, bob) is state(bob, ann) is PairingState.COMPARING
        ann.pairings.answer(bob.id, accept=True, block=False)
        bob.pairings.answer(ann.id, accept=True, block=False)
        await until(lambda: state(bob, ann) is PairingState.PAIRED)
        await until(lambda: state(ann, bob) is PairingState.PAIRED)


@pytest.mark.parametrize("text", ["", "hello", "A" * 28])
async def test_a_typing_error_is_found_before_anything_is_sent(text: str) -> None:
    async with neighbour("Ann") as ann:
        with pytest.raises(BadRequest, match="typing error"):
            ann.pairings.request(text, trusted=True)
        assert not ann.pairings.pairings


async def test_nobody_pairs_with_himself_or_with_a_friend() -> None:
    async with neighbour("Ann") as ann:
        with pytest.raises(BadRequest, match="itself"):
            ann.pairings.request(grouped(ann.id), trusted=True)
        ann.friends.add(STRANGER.id)
        with pytest.raises(BadRequest, match="already"):
            ann.pairings.request(STRANGER.id, trusted=True)


async def test_nothing_is_confirmed_before_there_are_words() -> None:
    async with neighbour("Ann") as ann:
        ann.pairings.request(STRANGER.id, trusted=False)
        with pytest.raises(BadRequest, match="no words"):
            ann.pairings.answer(STRANGER.id, accept=True, block=False)
        with pytest.raises(NotFound):
            ann.pairings.answer(ann.id, accept=True, block=False)


async def test_only_so_many_requests_wait() -> None:
    async with neighbour("Ann") as ann:
        for number in range(MAX_OUTGOING):
            ann.pairings.request(Identity.of(bytes([number] * 32)).id, trusted=True)
        with pytest.raises(Busy):
            ann.pairings.request(Identity.of(bytes([99] * 32)).id, trusted=True)


# Messages that were not asked for, or that somebody made up.


class Nowhere:
    """A transport that keeps what is sent."""

    is_lan = False
    tells_apart = False
    origin = "signal.example"

    def __init__(self) -> None:
        self.sent: list[dict[str, object]] = []

    def send(self, home: str, message: dict[str, object], *, reply: bool) -> bool:
        self.sent.append(message)
        return True


def message(kind: str, body: object, sender: Identity = STRANGER) -> Message:
    envelope = Envelope(
        id="", sender=sender.id, key=sender.key, kind=kind, body=encode(body)
    )
    return Message(envelope, Nowhere())


async def test_confirmations_that_nobody_asked_for_are_ignored() -> None:
    async with neighbour("Ann") as ann:
        for kind, body in (
            ("verdict", Verdict(request="00" * 16, yes=True, paired=True)),
            ("received", Received(request="00" * 16, name="Eve", nonce="00" * 32)),
            ("reveal", Reveal(request="00" * 16, nonce="00" * 32, yes=True)),
            ("request", Request(request="zz", name="Eve", commitment="00" * 32)),
            ("request", Request(request="00" * 16, name="Eve", commitment="")),
        ):
            ann.pairings.receive(message(kind, body))
        assert not ann.pairings.pairings


async def test_a_number_that_was_not_committed_to_shows_no_words() -> None:
    async with neighbour("Ann") as ann:
        made = commitment(bytes(32), STRANGER.key).hex()
        request = Request(request="00" * 16, name="Eve", commitment=made)
        ann.pairings.receive(message("request", request))
        reveal = Reveal(request="00" * 16, nonce="11" * 32, yes=True)
        ann.pairings.receive(message("reveal", reveal))
        assert not ann.pairings.statuses
        right = Reveal(request="00" * 16, nonce="00" * 32, yes=True)
        ann.pairings.receive(message("reveal", right))
        (status,) = ann.pairings.statuses
        assert status.state is PairingState.COMPARING
        assert status.origin == "signal.example"


async def test_a_second_number_of_the_asked_home_does_not_change_the_words() -> None:
    async with neighbour("Ann") as ann:
        ann.pairings.request(STRANGER.id, trusted=False)
        (pairing,) = ann.pairings.pairings
        for nonce in ("00" * 32, "11" * 32):
            said = Received(request=pairing.request, name="Eve", nonce=nonce)
            ann.pairings.receive(message("received", said))
        (pairing,) = ann.pairings.pairings
        assert pairing.their_nonce == "00" * 32


async def test_a_flood_of_requests_is_bounded() -> None:
    async with neighbour("Ann") as ann:
        for number in range(200):
            eve = Identity.of(number.to_bytes(32))
            made = commitment(bytes(32), eve.key).hex()
            request = Request(request="00" * 16, name="x" * 9000, commitment=made)
            ann.pairings.receive(message("request", request, eve))
            reveal = Reveal(request="00" * 16, nonce="00" * 32, yes=True)
            ann.pairings.receive(message("reveal", reveal, eve))
        assert len(ann.pairings.statuses) == TRANSPORT.waiting
        assert all(len(each.name) <= 100 for each in ann.pairings.statuses)


def bodies(transport: Nowhere, *kinds: str) -> list[dict[str, object]]:
    """What was sent that is of these kinds."""
    return [json.loads(str(m["body"])) for m in transport.sent if m["kind"] in kinds]


def requesting(
    home: Neighbour,
    number: int,
    sender: Identity = STRANGER,
    transport: Nowhere | None = None,
) -> Nowhere:
    """Let somebody ask, with the request of this number; return the transport that it came over."""
    transport = transport or Nowhere()
    made = commitment(bytes(32), sender.key).hex()
    request = Request(request=f"{number:032x}", name="Eve", commitment=made)
    home.pairings.receive(
        replace(message("request", request, sender), transport=transport)
    )
    return transport


def revealing(
    home: Neighbour,
    number: int,
    sender: Identity = STRANGER,
    *,
    yes: bool | None = None,
) -> Nowhere:
    """Let somebody go on with a request."""
    transport = Nowhere()
    said = Reveal(request=f"{number:032x}", nonce="00" * 32, yes=yes)
    home.pairings.receive(replace(message("reveal", said, sender), transport=transport))
    return transport


async def test_a_home_gets_only_a_handful_of_this_homes_numbers_and_is_seen_then() -> (
    None
):
    async with neighbour("Ann") as ann:
        transport = Nowhere()
        for number in range(100):
            requesting(ann, number, transport=transport)
        nonces = {said["nonce"] for said in bodies(transport, "received")}
        assert len(nonces) == TRIES_PER_DAY
        (status,) = ann.pairings.statuses
        assert (status.home, status.state) == (STRANGER.id, PairingState.DENIED)
        refused = bodies(transport, "verdict")
        assert len(refused) == 100 - TRIES_PER_DAY
        assert not any(said["yes"] for said in refused)
        ann.pairings.answer(STRANGER.id, accept=False, block=True)
        assert not requesting(ann, 150).sent
        ann.pairings.unblock(STRANGER.id)
        ann.pairings.forget(STRANGER.id)
        assert not bodies(requesting(ann, 200), "received")


async def test_all_homes_together_get_only_so_many_numbers() -> None:
    async with neighbour("Ann") as ann:
        transport = Nowhere()
        for number in range(100):
            eve = Identity.of((1000 + number // 3).to_bytes(32))
            requesting(ann, number, eve, transport)
        assert len(bodies(transport, "received")) == TRANSPORT.per_hour


async def test_who_was_agreed_to_begins_anew() -> None:
    async with neighbour("Ann") as ann:
        for number in range(TRIES_PER_DAY):
            requesting(ann, number)
        revealing(ann, TRIES_PER_DAY - 1, yes=True)
        ann.pairings.answer(STRANGER.id, accept=True, block=False)
        ann.pairings.forget(STRANGER.id)
        assert bodies(requesting(ann, 100), "received")


def lower(home: Neighbour) -> Identity:
    """Return somebody whose ID is lower than a home's."""
    return next(
        found
        for number in range(1, 256)
        if (found := Identity.of(bytes([number] * 32))).id < home.id
    )


async def test_words_of_a_request_of_this_home_are_not_replaced_by_one_that_comes() -> (
    None
):
    async with neighbour("Ann") as ann:
        eve = lower(ann)
        ann.pairings.request(eve.id, trusted=False)
        (pairing,) = ann.pairings.pairings
        said = Received(request=pairing.request, name="Eve", nonce="00" * 32)
        ann.pairings.receive(message("received", said, eve))
        (before,) = ann.pairings.statuses
        assert before.words
        for number in range(10):
            assert not bodies(requesting(ann, number, eve), "received")
        assert ann.pairings.statuses == (before,)


async def test_requests_that_cross_are_counted_and_stay_shown() -> None:
    async with neighbour("Ann") as ann:
        eve = lower(ann)
        asked = ann.pairings.request(eve.id, trusted=True)
        transport = Nowhere()
        for number in range(20):
            requesting(ann, number, eve, transport)
            (status,) = ann.pairings.statuses
            assert (status.home, status.confirmed) == (asked.home, True)
            assert status.state is PairingState.WAITING
        assert len(bodies(transport, "received")) == TRIES_PER_DAY


async def test_a_yes_to_words_does_not_count_for_other_words() -> None:
    async with neighbour("Ann") as ann:
        requesting(ann, 1)
        revealing(ann, 1)
        ann.pairings.answer(STRANGER.id, accept=True, block=False)
        revealing(ann, 1, yes=False)
        requesting(ann, 2)
        revealing(ann, 2, yes=True)
        (status,) = ann.pairings.statuses
        assert (status.state, status.confirmed) == (PairingState.COMPARING, False)


async def test_a_friend_that_asks_again_is_one_at_once_but_not_after_it_was_removed() -> (
    None
):
    async with neighbour("Ann") as ann:
        ann.friends.add(STRANGER.id)
        requesting(ann, 1)
        ann.friends.remove(STRANGER.id)
        revealing(ann, 1, yes=True)
        (status,) = ann.pairings.statuses
        assert (status.state, status.confirmed) == (PairingState.COMPARING, False)

        ann.pairings.forget(STRANGER.id)
        ann.friends.add(STRANGER.id)
        for number in range(2, 4 * TRIES_PER_DAY):
            requesting(ann, number)
        revealing(ann, number, yes=True)
        (status,) = ann.pairings.statuses
        assert status.state is PairingState.PAIRED
        ann.friends.remove(STRANGER.id)
        ann.pairings.estranged(STRANGER.id)
        assert not ann.pairings.pairings

        ann.friends.add(STRANGER.id)
        requesting(ann, 100)
        ann.friends.remove(STRANGER.id)
        ann.pairings.estranged(STRANGER.id)
        assert not ann.pairings.pairings


async def test_requests_that_go_no_further_make_room_and_are_forgotten_soon() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        for number in range(TRANSPORT.waiting + 5):
            requesting(ann, number, Identity.of((1000 + number).to_bytes(32)))
        assert len(ann.pairings.pairings) == TRANSPORT.waiting
        await comparing(bob, ann)
        past = time.time() - HIDDEN_LIFETIME - 1
        earlier = [replace(each, created=past) for each in ann.pairings.pairings]
        ann.pairings.restore(earlier, [])
        await until(lambda: len(ann.pairings.pairings) == 1)
        assert state(ann, bob) is PairingState.COMPARING


async def test_who_said_no_itself_may_ask_again() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob)
        ann.pairings.answer(bob.id, accept=False, block=False)
        await until(lambda: state(bob, ann) is PairingState.DENIED)
        ann.pairings.forget(bob.id)
        ann.pairings.request(bob.id, trusted=False)
        await until(lambda: state(ann, bob) is PairingState.COMPARING)
        await until(lambda: state(bob, ann) is PairingState.COMPARING)


async def test_who_was_asked_and_was_refused_may_ask() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob)
        ann.pairings.answer(bob.id, accept=False, block=False)
        await until(lambda: state(bob, ann) is PairingState.DENIED)
        bob.pairings.forget(ann.id)
        bob.pairings.request(ann.id, trusted=False)
        await until(lambda: state(ann, bob) is PairingState.COMPARING)


async def test_a_request_that_the_other_home_has_forgotten_is_over() -> None:
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(ann, bob, trusted=True)
        bob.pairings.restore([], [])
        await until(lambda: state(ann, bob) is PairingState.DENIED)


async def test_a_request_that_was_taken_back_before_it_was_shown_leaves_nothing() -> (
    None
):
    async with neighbour("Ann") as ann:
        requesting(ann, 1)
        transport = revealing(ann, 1, yes=False)
        assert not ann.pairings.pairings
        assert not transport.sent


async def test_who_says_yes_to_what_was_refused_is_told_again() -> None:
    async with neighbour("Ann") as ann:
        ann.pairings.request(STRANGER.id, trusted=False)
        (pairing,) = ann.pairings.pairings
        said = Received(request=pairing.request, name="Eve", nonce="00" * 32)
        ann.pairings.receive(message("received", said))
        ann.pairings.answer(STRANGER.id, accept=False, block=False)
        verdict = message("verdict", Verdict(request=pairing.request, yes=True))
        transport = Nowhere()
        ann.pairings.receive(replace(verdict, transport=transport))
        assert [each["yes"] for each in bodies(transport, "reveal")] == [False]


async def test_strangers_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with neighbour("Ann") as ann:
        for number in range(200):
            requesting(ann, number, Identity.of((1000 + number // 8).to_bytes(32)))
    warned = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warned) == 1


# Floods of requests, and those whom they are not to keep out.


class Transport(Nowhere):
    """A transport that is known by where it comes from."""

    def __init__(self, origin: str, *, lan: bool = False) -> None:
        super().__init__()
        self.origin, self.is_lan, self.tells_apart = origin, lan, lan


def flood(
    home: Neighbour, *transports: Transport, first: int = 1000, shown: bool = True
) -> None:
    """Let hundreds of strangers ask, by turns over each of these transports, and go on so that users are shown them."""
    for number in range(first, first + 300):
        eve = Identity.of(number.to_bytes(32))
        requesting(home, number, eve, transports[number % len(transports)])
        if shown:
            revealing(home, number, eve)


def is_let_in(home: Neighbour, transport: Transport, number: int = 1) -> bool:
    """Let somebody new ask, and tell whether the user sees it."""
    bob = Identity.of(number.to_bytes(32))
    requesting(home, number, bob, transport)
    revealing(home, number, bob)
    return any(each.home == bob.id for each in home.pairings.statuses)


@pytest.mark.parametrize("shown", [True, False])
async def test_a_flood_at_one_server_keeps_nobody_out_elsewhere(shown: bool) -> None:
    async with neighbour("Ann") as ann:
        server = Transport("signal.example")
        flood(ann, server, shown=shown)
        assert not is_let_in(ann, server, 1)
        assert is_let_in(ann, Transport("other.example"), 2)
        assert is_let_in(ann, Transport("192.168.1.7", lan=True), 3)


@pytest.mark.parametrize(
    ("flooder", "other"),
    [
        ("192.168.1.6", "192.168.1.7"),
        ("192.168.1.6", "10.0.0.7"),
        ("::ffff:192.168.1.6", "192.168.1.7"),
        ("2001:db8:1:2::6", "192.168.1.7"),
        ("fe80::6%2", "fd00::7"),
    ],
)
async def test_a_flood_of_one_address_keeps_nobody_else_in_the_network_out(
    flooder: str, other: str
) -> None:
    async with neighbour("Ann") as ann:
        flood(ann, Transport(flooder, lan=True))
        assert is_let_in(ann, Transport(other, lan=True), 1)
        assert is_let_in(ann, Transport("signal.example"), 2)


@pytest.mark.parametrize(
    ("network", "other"),
    [("192.168.5.{}", "192.168.1.7"), ("2001:db8:1:2::{}", "2001:db8:1:3::7")],
)
async def test_a_flood_of_one_network_keeps_no_other_network_out(
    network: str, other: str
) -> None:
    async with neighbour("Ann") as ann:
        flood(ann, *(Transport(network.format(n), lan=True) for n in range(1, 200)))
        assert is_let_in(ann, Transport(other, lan=True), 1)


async def test_the_words_of_this_home_are_not_to_be_had_without_end() -> None:
    async with neighbour("Ann") as ann:
        transports = [
            Transport("signal.example"),
            *(
                Transport(f"192.168.{n}.{m}", lan=True)
                for n in range(9)
                for m in range(9)
            ),
        ]
        for first in range(1000, 10_000, 300):
            flood(ann, *transports, first=first)
        given = sum(len(bodies(transport, "received")) for transport in transports)
        assert given <= 2 * TRANSPORT.per_hour


async def test_a_place_is_kept_for_the_home_whose_id_was_typed_here() -> None:
    async with neighbour("Ann") as ann:
        transport = Transport("signal.example")
        flood(ann, transport)
        eve = lower(ann)
        ann.pairings.request(eve.id, trusted=True)
        assert bodies(requesting(ann, 1, eve, transport), "received")
        revealing(ann, 1, eve, yes=True)
        status = next(each for each in ann.pairings.statuses if each.home == eve.id)
        assert status.state is PairingState.PAIRED


async def test_a_flood_of_messages_does_not_keep_the_home_out_that_was_asked() -> None:
    async with neighbour("Ann") as ann:
        transport = Transport("signal.example")

        def is_heard() -> bool:
            message = seal(STRANGER, ann.id, "ping", b"{}")
            return ann.messenger.receive(message, transport, STRANGER.id) == STRANGER.id

        assert is_heard()
        for number in range(2000):
            ann.messenger.receive({}, transport, f"{number}")
        assert not is_heard()
        ann.pairings.request(STRANGER.id, trusted=True)
        assert is_heard()


async def test_only_those_whom_this_home_asked_and_waits_for_are_expected() -> None:
    async with neighbour("Ann") as ann:
        requesting(ann, 1)
        revealing(ann, 1)
        assert not ann.pairings.is_expected(STRANGER.id)
        bob = Identity.of(bytes([8] * 32))
        ann.pairings.request(bob.id, trusted=False)
        assert ann.pairings.is_expected(bob.id)
        ann.pairings.answer(bob.id, accept=False, block=False)
        assert not ann.pairings.is_expected(bob.id)


# Words that somebody may be comparing.


async def test_words_that_are_shown_stay_when_the_same_home_asks_again() -> None:
    async with neighbour("Ann") as ann:
        requesting(ann, 1)
        revealing(ann, 1)
        (before,) = ann.pairings.statuses
        assert before.words
        for number in range(2, 10):
            assert not bodies(requesting(ann, number), "received")
            revealing(ann, number, yes=True)
            assert ann.pairings.statuses == (before,)
        # Its own request counts for as long as it stands, and the others were no tries.
        revealing(ann, 1, yes=False)
        assert bodies(requesting(ann, 10), "received")


async def test_a_home_that_has_forgotten_its_request_is_shown_with_its_next_one() -> (
    None
):
    async with neighbour("Ann") as ann, neighbour("Bob") as bob:
        await comparing(bob, ann)
        former = shown(ann, bob)
        assert former is not None
        # As one that was restored from a backup.
        bob.pairings.restore([], [])
        bob.pairings.request(ann.id, trusted=False)
        await until(lambda: state(bob, ann) is PairingState.COMPARING)
        await until(lambda: state(ann, bob) is PairingState.COMPARING)
        here, there = shown(ann, bob), shown(bob, ann)
        assert here is not None
        assert there is not None
        assert here.words == there.words != former.words


async def test_a_request_is_taken_back_without_its_number_and_nothing_else_is() -> None:
    async with neighbour("Ann") as ann:
        requesting(ann, 1)
        revealing(ann, 1)
        for request, yes in ((2, False), (1, None), (1, True)):
            said = Reveal(request=f"{request:032x}", nonce="", yes=yes)
            ann.pairings.receive(message("reveal", said))
            (status,) = ann.pairings.statuses
            assert status.state is PairingState.COMPARING
            assert not status.confirmed_there
        ann.pairings.receive(
            message("reveal", Reveal(request=f"{1:032x}", nonce="", yes=False))
        )
        (status,) = ann.pairings.statuses
        assert status.state is PairingState.DENIED


async def test_two_homes_do_not_tell_each_other_for_ever_that_all_is_said() -> None:
    async with neighbour("Ann") as ann:
        for yes, paired in ((None, False), (True, False), (True, True), (False, False)):
            transport = Nowhere()
            verdict = Verdict(request="00" * 16, yes=yes, paired=paired)
            ann.pairings.receive(
                replace(message("verdict", verdict), transport=transport)
            )
            said = [each["yes"] for each in bodies(transport, "reveal")]
            assert said == ([False] if not paired and yes is not False else [])


async def test_a_yes_counts_only_for_the_words_that_somebody_saw() -> None:
    async with neighbour("Ann") as ann:
        requesting(ann, 1)
        revealing(ann, 1)
        (seen,) = ann.pairings.statuses
        # In the very moment in which somebody says yes.
        revealing(ann, 1, yes=False)
        requesting(ann, 2)
        revealing(ann, 2)
        with pytest.raises(BadRequest, match="words"):
            ann.pairings.answer(STRANGER.id, accept=True, block=False, words=seen.words)
        (status,) = ann.pairings.statuses
        assert not status.confirmed
        ann.pairings.answer(STRANGER.id, accept=True, block=False, words=status.words)
        (status,) = ann.pairings.statuses
        assert status.confirmed


def test_words_depend_on_everything() -> None:
    ann, bob = (b"a" * 32, b"1" * 32), (b"b" * 32, b"2" * 32)
    said = words(ann, bob, "request")
    assert len(WORDS) == len(set(WORDS)) == 256
    others = [
        words(bob, ann, "request"),
        words(ann, bob, "other"),
        words((b"a" * 32, b"3" * 32), bob, "request"),
        words(ann, (b"c" * 32, b"2" * 32), "request"),
    ]
    assert said not in others
    assert words(ann, bob, "request") == said


def test_a_commitment_holds_for_one_number_of_one_home() -> None:
    made = commitment(b"n" * 32, b"k" * 32)
    assert is_committed(made, b"n" * 32, b"k" * 32)
    assert not is_committed(made, b"m" * 32, b"k" * 32)
    assert not is_committed(made, b"n" * 32, b"l" * 32)
    assert not is_committed(made, b"n" * 31, b"k" * 32)
