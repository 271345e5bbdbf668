"""Room tokens, and how they are taken back."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
import json
from typing import Any

from hypothesis import given, strategies as st
import pytest

from pemus_signaling.cluster.cluster import Cluster, StoreAwayError
from pemus_signaling.rooms import tokens
from pemus_signaling.rooms.tokens import (
    CLOCK_JUMP,
    LIFE,
    MAX_PER_KEY,
    SKEW,
    Revocation,
    Revocations,
    RoomToken,
    TokenError,
    TooManyRevocationsError,
    read,
)
from tests.patience import until
from tests.signaling.guests import Home
from tests.signaling.nodes import Nodes
from tests.signaling.signing import sign

NOW = 1_795_000_000.0
HOME = Home()


def made(**changes: Any) -> RoomToken:
    known: dict[str, Any] = {
        "key": HOME.key,
        "room": "baku-timo-resa-lufi",
        "id": "guest",
        "expires": NOW + 60,
        "may": frozenset(("announce", "turn")),
        "hashes": None,
    }
    return RoomToken(**known | changes)


def signed(body: object, home: Home = HOME) -> str:
    """Return a token whose signature is right, whatever its body says."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = home.private_key.sign(b"pemus room token 1" + data)
    return ".".join(
        urlsafe_b64encode(each).rstrip(b"=").decode() for each in (data, signature)
    )


def body(**changes: Any) -> dict[str, Any]:
    key = urlsafe_b64encode(HOME.key).rstrip(b"=").decode()
    known = {"v": 1, "key": key, "room": "r", "id": "i", "exp": NOW + 9, "may": []}
    return known | changes


@given(
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.floats(1, LIFE),
    st.frozensets(st.text(max_size=9).filter(lambda text: text.isascii()), max_size=5),
    st.none() | st.frozensets(st.binary(min_size=20, max_size=20), max_size=9),
)
def test_what_a_home_signs_is_read_as_it_was_meant(
    room: str,
    token_id: str,
    life: float,
    may: frozenset[str],
    hashes: frozenset[bytes] | None,
) -> None:
    token = RoomToken(HOME.key, room, token_id, NOW + life, may, hashes)
    assert read(sign(HOME.private_key, token), NOW) == token


def test_the_specification_s_example_is_read() -> None:
    token = read(signed(body(may=["announce", "fly"], new="?", exp=int(NOW) + 5)), NOW)
    assert token == RoomToken(
        HOME.key, "r", "i", NOW + 5, frozenset(("announce", "fly"))
    )


def test_a_token_is_good_until_it_expires() -> None:
    text = sign(HOME.private_key, made(expires=NOW + 60))
    assert read(text, NOW + 59.9)
    with pytest.raises(TokenError, match="expired"):
        read(text, NOW + 60)


def test_a_token_that_lasts_longer_than_revocations_is_refused() -> None:
    assert read(sign(HOME.private_key, made(expires=NOW + LIFE + SKEW)), NOW)
    with pytest.raises(TokenError, match="too late"):
        read(sign(HOME.private_key, made(expires=NOW + LIFE + SKEW + 1)), NOW)


def test_nobody_signs_for_another_home() -> None:
    stranger = Home()
    with pytest.raises(TokenError, match="not signed"):
        read(sign(stranger.private_key, made()), NOW)


def test_a_session_s_or_a_challenge_s_signature_is_no_token_s() -> None:
    text, _, _ = sign(HOME.private_key, made()).partition(".")
    data = json.dumps(body()).encode()
    other = HOME.private_key.sign(b"pemus signalling 1" + data)
    with pytest.raises(TokenError):
        read(f"{text}.{urlsafe_b64encode(other).rstrip(b'=').decode()}", NOW)


@given(st.data())
def test_no_bit_of_a_token_can_be_changed(data: st.DataObject) -> None:
    text = sign(HOME.private_key, made())
    at = data.draw(st.integers(0, len(text) - 1))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    new = data.draw(st.sampled_from(alphabet.replace(text[at], "")))
    changed = text[:at] + new + text[at + 1 :]
    try:
        token = read(changed, NOW)
    except TokenError:
        return
    # The last characters of base64 have bits to spare.
    assert token == made()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.b",
        "no dot",
        "=.=",
        "é.é",
        "\ud800.",
        "A" * 4097,
        signed(b"\xff"),
        signed(b"{"),
        signed([]),
        signed("v"),
        signed(body(v=2)),
        signed(body(key="AAAA")),
        signed(body(key=7)),
        signed(body(key="=")),
        signed(body(room="")),
        signed(body(room="a b")),
        signed(body(room="a" * 65)),
        signed(body(room=None)),
        signed(body(id="\n")),
        signed(body(id=["i"])),
        signed(body(exp="soon")),
        signed(body(exp=True)),
        signed(body(exp=None)),
        signed(body(may="announce")),
        signed(body(may=[1])),
        signed(body(may=None)),
        signed(body(hashes=None)),
        signed(body(hashes="0" * 40)),
        signed(body(hashes=["0" * 39])),
        signed(body(hashes=["G" * 40])),
        signed(body(hashes=[7])),
        signed(body(hashes=["0" * 40] * 65)),
        signed(b'{"v":1,"exp":1e999}'),
        signed(b'{"v":1,"exp":NaN}'),
        signed(b"[" * 3000),
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        read(text, NOW)


@given(st.text() | st.binary(max_size=300).map(signed))
def test_whatever_comes_is_refused_and_nothing_breaks(text: str) -> None:
    with pytest.raises(TokenError):
        read(text, NOW)


class Clock:
    """Time that passes when it is told to."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def revocations(clock: Clock) -> Revocations:
    return Revocations(Cluster(), clock)


def test_a_revoked_token_is_known(revocations: Revocations) -> None:
    revocations.revoke_token(HOME.key, "guest")
    assert revocations.is_revoked(made())
    assert not revocations.is_revoked(made(id="another"))
    assert not revocations.is_revoked(made(key=Home().key))


def test_all_tokens_of_a_room_are_revoked_with_it(revocations: Revocations) -> None:
    revocations.revoke_room(HOME.key, "baku-timo-resa-lufi")
    assert revocations.is_revoked(made())
    assert revocations.is_revoked(made(id="another"))
    assert not revocations.is_revoked(made(room="another"))
    assert not revocations.is_revoked(made(key=Home().key))


def test_a_room_s_name_is_not_mistaken_for_a_token_s(revocations: Revocations) -> None:
    revocations.revoke_room(HOME.key, "guest")
    revocations.revoke_token(HOME.key, "baku-timo-resa-lufi")
    assert not revocations.is_revoked(made())


def test_each_revocation_is_told_once(revocations: Revocations) -> None:
    told: list[Revocation] = []
    revocations.subscribe(told.append)
    revocations.revoke_token(HOME.key, "guest")
    revocations.revoke_token(HOME.key, "guest")
    assert told == [Revocation(HOME.key, "id", "guest")]


def test_a_revocation_is_forgotten_when_no_token_can_be_left(
    revocations: Revocations, clock: Clock
) -> None:
    longest = made(expires=clock.now + LIFE + SKEW)
    revocations.revoke_token(HOME.key, "guest")
    clock.now = longest.expires - 1
    revocations.revoke_token(HOME.key, "another")
    assert revocations.is_revoked(longest)
    clock.now = longest.expires + CLOCK_JUMP
    revocations.revoke_token(HOME.key, "a third")
    assert len(revocations) == 2
    with pytest.raises(TokenError):
        read(sign(HOME.private_key, longest), clock.now)


@pytest.mark.parametrize(
    "jumps", [(-3600,), (86400, -86400), (-3600, 86400, -86400), (86400, -90000)]
)
def test_a_revoked_token_stays_so_when_the_clock_jumps(
    revocations: Revocations, clock: Clock, jumps: tuple[int, ...]
) -> None:
    token = made(expires=clock.now + LIFE)
    revocations.revoke_token(HOME.key, "guest")
    clock.now = token.expires - 1
    for jump in jumps:
        clock.now += jump
        # Whoever revokes something brings about that others are forgotten.
        revocations.revoke_token(HOME.key, f"another {clock.now}")
    assert clock.now < token.expires
    assert revocations.is_revoked(token)


def test_revoking_again_lasts_longer(revocations: Revocations, clock: Clock) -> None:
    revocations.revoke_token(HOME.key, "guest")
    clock.now += LIFE
    revocations.revoke_token(HOME.key, "guest")
    clock.now += LIFE
    revocations.revoke_token(HOME.key, "another")
    assert revocations.is_revoked(made())


def test_one_home_cannot_fill_the_memory(
    revocations: Revocations, clock: Clock
) -> None:
    for number in range(MAX_PER_KEY):
        revocations.revoke_token(HOME.key, f"{number}")
    with pytest.raises(TooManyRevocationsError):
        revocations.revoke_token(HOME.key, "one more")
    revocations.revoke_token(HOME.key, "0")
    revocations.revoke_token(Home().key, "another's")
    assert len(revocations) == MAX_PER_KEY + 1
    clock.now += LIFE + SKEW + CLOCK_JUMP
    revocations.revoke_token(HOME.key, "one more")
    assert len(revocations) == 1


def test_all_homes_together_cannot_either(
    revocations: Revocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MAX_REVOCATIONS", 2)
    revocations.revoke_token(Home().key, "a")
    revocations.revoke_token(Home().key, "b")
    with pytest.raises(TooManyRevocationsError):
        revocations.revoke_token(Home().key, "c")


def test_who_revokes_a_lot_makes_room_for_those_who_revoke_little(
    revocations: Revocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MAX_REVOCATIONS", 10)
    greedy = Home().key
    for number in range(10):
        revocations.revoke_token(greedy, f"{number}")
    for number in range(5):
        revocations.revoke_token(HOME.key, f"{number}")
    assert len(revocations) == 10

    def kept(key: bytes) -> list[int]:
        tokens = [made(key=key, id=f"{number}") for number in range(10)]
        return [at for at, token in enumerate(tokens) if revocations.is_revoked(token)]

    assert kept(HOME.key) == [0, 1, 2, 3, 4]
    # The oldest of the greedy home are gone.
    assert kept(greedy) == [5, 6, 7, 8, 9]


async def test_other_nodes_learn_of_it(clock: Callable[[], float]) -> None:
    nodes = Nodes()
    one, two = nodes.join("one"), nodes.join("two")
    here, there = Revocations(one, clock), Revocations(two, clock)
    await one.start()
    await two.start()
    told: list[Revocation] = []
    there.subscribe(told.append)
    here.revoke_room(HOME.key, "baku-timo-resa-lufi")
    await until(lambda: there.is_revoked(made()))
    assert told == [Revocation(HOME.key, "room", "baku-timo-resa-lufi")]


async def test_a_node_that_joins_learns_what_was_revoked_before(clock: Clock) -> None:
    nodes = Nodes()
    one, two = nodes.join("one"), nodes.join("two")
    here, there = Revocations(one, clock), Revocations(two, clock)
    await one.start()
    await two.start()
    here.revoke_token(HOME.key, "guest")
    await here.save()
    await until(lambda: len(there) == 1)
    # Who was asked for it is gone, and nobody who is left has to say anything.
    await one.close()
    sent = two.sent
    three = nodes.join("three")
    late = Revocations(three, clock)
    await three.start()
    await late.start()
    assert late.is_revoked(made())
    assert two.sent == sent


async def test_what_was_revoked_while_nodes_were_apart_is_told_later(
    clock: Clock,
) -> None:
    nodes = Nodes()
    one, two = nodes.join("one"), nodes.join("two")
    here, there = Revocations(one, clock), Revocations(two, clock)
    await one.start()
    await two.start()
    nodes.away = True
    here.revoke_token(HOME.key, "guest")
    there.revoke_token(HOME.key, "another")
    assert (len(here), len(there)) == (1, 1)
    for revocations in (here, there):
        with pytest.raises(StoreAwayError):
            await revocations.save()
    nodes.back()
    await until(lambda: (len(here), len(there)) == (2, 2))
    for revocations in (here, there):
        await revocations.close()
