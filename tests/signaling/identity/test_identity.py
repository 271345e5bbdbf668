"""PeMuS IDs, and who may have one."""

from __future__ import annotations

from base64 import urlsafe_b64decode
import os
import time
from typing import Any

import aiohttp
from hypothesis import given, strategies as st
import pytest

from pemus_signaling.identity.ids import ALPHABET, LENGTH, is_signed, pemus_id, read_id
from pemus_signaling.identity.sessions import LIFE, Sessions
from pemus_signaling.net.sockets import Close
from tests.signaling.clients import (
    Client,
    Identity,
    b64,
    connected,
    connecting,
    grouped,
    proven,
)
from tests.signaling.server import running, ws

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS)
def test_an_id_is_read_as_it_was_written(key: bytes) -> None:
    identifier = pemus_id(key)
    assert len(identifier) == LENGTH
    assert set(identifier) <= set(ALPHABET)
    assert read_id(identifier) == identifier
    assert read_id(grouped(identifier)) == identifier
    assert (
        read_id(grouped(identifier).lower().replace("0", "o").replace("1", "i"))
        == identifier
    )


@given(KEYS, st.integers(0, LENGTH - 1), st.sampled_from(ALPHABET))
def test_a_wrong_character_is_noticed(key: bytes, at: int, character: str) -> None:
    identifier = pemus_id(key)
    wrong = identifier[:at] + character + identifier[at + 1 :]
    assert (read_id(wrong) == identifier) == (wrong == identifier)
    assert read_id(wrong) in (None, identifier)


@given(KEYS, st.integers(0, LENGTH - 2))
def test_two_characters_that_changed_places_are_noticed(key: bytes, at: int) -> None:
    identifier = pemus_id(key)
    wrong = identifier[:at] + identifier[at + 1] + identifier[at] + identifier[at + 2 :]
    assert read_id(wrong) == (identifier if wrong == identifier else None)


@given(st.text(max_size=80))
def test_any_text_can_be_looked_at(text: str) -> None:
    read = read_id(text)
    assert read is None or read_id(read) == read


@given(st.binary(max_size=40), st.binary(max_size=70))
def test_no_key_and_signature_is_too_strange_to_refuse(
    key: bytes, signature: bytes
) -> None:
    assert not is_signed(key, signature, b"message")


# The points of order 1, 2, 4 and 8 (RFC 8032), also as no encoder writes them.
SMALL_ORDER = (
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_nobody_proves_to_have_a_key_of_small_order(key: str) -> None:
    # The neutral element and 0 fit one statement in eight, or each, and take no private key.
    signature = bytes.fromhex(SMALL_ORDER[0]) + bytes(32)
    public = bytes.fromhex(key)
    assert not any(
        is_signed(public, signature, number.to_bytes(2)) for number in range(64)
    )


async def test_the_owner_of_the_key_gets_the_id() -> None:
    identity = Identity()
    async with (
        running() as server,
        proven(server, identity) as (home, opened),
        connected(server, "guest") as guest,
    ):
        session = server.sessions.read(opened["session"])
        assert session is not None
        assert (session.id, session.key) == (identity.id, identity.key)
        assert time.time() < opened["expires"] == session.expires <= time.time() + LIFE
        await guest.say("OFFER", dst=identity.id, payload=1)
        assert await home.hear() == {
            "type": "OFFER",
            "src": "guest",
            "dst": identity.id,
            "payload": 1,
        }
        await guest.say("OFFER", dst=grouped(identity.id).lower(), payload=2)
        assert (await home.hear())["payload"] == 2


async def test_an_identity_may_be_written_as_people_do() -> None:
    identity = Identity()
    async with (
        running() as server,
        connecting(server, grouped(identity.id).lower()) as home,
    ):
        challenge = await home.hear()
        assert challenge["payload"]["origin"] == f"http://127.0.0.1:{server.port}"
        await home.say(
            "PROVE", payload=identity.sign(challenge["payload"]["origin"], challenge)
        )
        assert (await home.hear())["type"] == "OPEN"
        assert identity.id in server.peers.clients


async def test_a_session_is_given_again_to_who_asks() -> None:
    async with running() as server, proven(server, Identity()) as (home, _):
        await home.say("SESSION")
        renewed = await home.hear()
        assert renewed["type"] == "SESSION"
        assert server.sessions.read(renewed["payload"]["session"]) is not None


async def test_the_owner_takes_the_id_over_at_once() -> None:
    identity = Identity()
    async with running() as server:
        async with (
            proven(server, identity) as (former, _),
            proven(server, identity) as (now, _),
        ):
            assert await former.end() == Close.SUPERSEDED
            assert former.reason == "superseded"
            async with connected(server, "guest") as guest:
                await guest.say("OFFER", dst=identity.id, payload=1)
                assert (await now.hear())["payload"] == 1
        assert server.peers.counts.superseded == 1


async def test_what_waits_for_an_identity_is_given_to_its_owner_only() -> None:
    identity = Identity()
    async with (
        running(expire_timeout=60.0) as server,
        connected(server, "guest") as guest,
    ):
        await guest.say("OFFER", dst=identity.id, payload="for the owner")
        async with connecting(server, identity.id) as thief:
            assert (await thief.hear())["type"] == "CHALLENGE"
            await thief.say("PROVE", payload={"key": "", "signature": ""})
            assert await thief.end() == Close.UNPROVEN
        async with proven(server, identity) as (home, _):
            assert (await home.hear())["payload"] == "for the owner"


async def attempt(client: Client, payload: Any) -> int | None:
    await client.say("PROVE", payload=payload)
    return await client.end()


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {},
        {"key": 7, "signature": []},
        {"key": "é", "signature": "*"},
        {"key": "A" * 500},
    ],
)
async def test_what_is_no_proof_proves_nothing(payload: Any) -> None:
    async with running() as server, connecting(server, Identity().id) as client:
        await client.hear()
        assert await attempt(client, payload) == Close.UNPROVEN
        assert not server.peers.clients


async def test_another_key_proves_nothing() -> None:
    thief, victim = Identity(), Identity()
    async with running() as server, connecting(server, victim.id) as client:
        signed = thief.sign(f"http://127.0.0.1:{server.port}", await client.hear())
        assert await attempt(client, signed) == Close.UNPROVEN
    async with running() as server, connecting(server, victim.id) as client:
        signed = thief.sign(f"http://127.0.0.1:{server.port}", await client.hear())
        assert (
            await attempt(client, signed | {"key": b64(victim.key)}) == Close.UNPROVEN
        )


async def test_a_proof_for_another_server_proves_nothing_here() -> None:
    """A server that hands our challenge on to its own client gets a signature over its own origin."""
    victim = Identity()
    async with running() as ours, connecting(ours, victim.id) as relay:
        challenge = await relay.hear()
        # The client signs where it is, whatever it is told.
        assert (
            await attempt(relay, victim.sign("https://evil.example", challenge))
            == Close.UNPROVEN
        )


async def test_a_proof_counts_once() -> None:
    identity = Identity()
    async with running() as server:
        origin = f"http://127.0.0.1:{server.port}"
        async with connecting(server, identity.id) as home:
            signed = identity.sign(origin, await home.hear())
            await home.say("PROVE", payload=signed)
            assert (await home.hear())["type"] == "OPEN"
            async with connecting(server, identity.id) as thief:
                await thief.hear()
                assert await attempt(thief, signed) == Close.UNPROVEN
            async with connected(server, "guest") as guest:
                await guest.say("OFFER", dst=identity.id, payload=1)
                assert (await home.hear())["payload"] == 1


async def test_who_has_proven_nothing_says_nothing() -> None:
    async with running() as server, connected(server, "bob") as bob:
        async with connecting(server, Identity().id) as client:
            await client.hear()
            await client.say("HEARTBEAT")
            await client.say("OFFER", dst="bob", payload="from nobody")
            assert await client.end() == Close.UNPROVEN
        await bob.says_nothing_before(bob, "bob")


async def test_who_proves_nothing_in_time_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pemus_signaling.peers.client.PROOF_TIMEOUT", 0.1)
    async with running() as server, connecting(server, Identity().id) as client:
        await client.hear()
        assert await client.end() == Close.UNPROVEN


async def test_a_server_that_knows_its_origin_wants_that_one_signed() -> None:
    identity = Identity()
    async with running(
        origins=("https://signal.example", "https://other.example:8443")
    ) as server:
        for host, origin in [
            ("signal.example", "https://signal.example"),
            ("other.example:8443", "https://other.example:8443"),
            # A proxy may have hidden where the client is.
            ("10.0.0.1:9000", "https://signal.example"),
            (f"127.0.0.1:{server.port}", f"http://127.0.0.1:{server.port}"),
        ]:
            url = ws(server, f"/peerjs?key=peerjs&token=t&id={identity.id}")
            headers = {"Host": host}
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(url, headers=headers) as socket,
            ):
                client = Client(socket)
                challenge = await client.hear()
                assert challenge["payload"]["origin"] == origin
                await client.say(
                    "PROVE",
                    payload=identity.sign(challenge["payload"]["origin"], challenge),
                )
                assert (await client.hear())["type"] == "OPEN"


async def test_without_a_known_origin_no_identity_is_proven() -> None:
    async with running() as server, aiohttp.ClientSession() as session:
        url = ws(server, f"/peerjs?key=peerjs&token=t&id={Identity().id}")
        async with session.ws_connect(
            url, headers={"Host": "signal.example"}
        ) as socket:
            client = Client(socket)
            assert (await client.hear())["type"] == "ERROR"
            assert await client.end() == Close.UNPROVEN


async def test_one_address_cannot_try_for_ever() -> None:
    async with running() as server, aiohttp.ClientSession() as session:
        url = ws(server, f"/peerjs?key=peerjs&token=t&id={Identity().id}")

        async def try_often() -> None:
            for _ in range(1000):
                async with session.ws_connect(url):
                    pass

        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await try_often()
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1


def test_a_session_ends() -> None:
    sessions = Sessions(os.urandom(32))
    identity = Identity()
    token, expires = sessions.issue(identity.key, now=1000)
    assert expires == 1000 + LIFE
    assert sessions.read(token, now=expires - 1) is not None
    assert sessions.read(token, now=expires) is None


def test_a_session_of_another_server_is_none() -> None:
    identity = Identity()
    token, _ = Sessions(os.urandom(32)).issue(identity.key)
    assert Sessions(os.urandom(32)).read(token) is None


SECRET = os.urandom(32)


@given(
    st.text(max_size=300)
    | st.binary(max_size=100).map(lambda data: f"{b64(data)}.{b64(data)}")
)
def test_any_text_can_be_offered_as_a_session(text: str) -> None:
    assert Sessions(SECRET).read(text) is None


@given(st.integers(0, 39), st.integers(1, 255))
def test_a_changed_session_is_none(at: int, change: int) -> None:
    sessions = Sessions(SECRET)
    identity = Identity()
    token, _ = sessions.issue(identity.key)
    body, signature = token.split(".")
    changed = bytearray(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    changed[at] ^= change
    assert sessions.read(f"{b64(bytes(changed))}.{signature}") is None
