"""PeerServer's protocol."""

from __future__ import annotations

import asyncio

import aiohttp
from hypothesis import HealthCheck, given, settings, strategies as st
import orjson
import pytest

from pemus_signaling.identity.ids import read_id
from pemus_signaling.net.sockets import Close
from tests.patience import PATIENCE, until
from tests.signaling.clients import connected, connecting
from tests.signaling.server import http, running


async def test_the_server_gives_out_ids_that_are_no_identities() -> None:
    async with running() as server, aiohttp.ClientSession() as session:
        ids = []
        for _ in range(20):
            async with session.get(http(server, "/peerjs/id?ts=1")) as answer:
                assert answer.status == 200
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
                ids.append(await answer.text())
        assert len(set(ids)) == 20
        assert all(read_id(identifier) is None for identifier in ids)


async def test_nobody_is_listed() -> None:
    async with (
        running() as server,
        connected(server, "alice"),
        aiohttp.ClientSession() as session,
        session.get(http(server, "/peerjs/peers")) as answer,
    ):
        assert answer.status == 401
        assert "alice" not in await answer.text()


@pytest.mark.parametrize("kind", ["OFFER", "ANSWER", "CANDIDATE", "LEAVE"])
async def test_a_message_reaches_the_one_it_names_with_who_sent_it(kind: str) -> None:
    async with (
        running() as server,
        connected(server, "alice") as alice,
        connected(server, "bob") as bob,
        connected(server, "carol") as carol,
    ):
        await alice.say(
            kind,
            dst="bob",
            src="carol",
            payload={"sdp": "☃", "n": [1, None]},
            extra="dropped",
        )
        assert await bob.hear() == {
            "type": kind,
            "src": "alice",
            "dst": "bob",
            "payload": {"sdp": "☃", "n": [1, None]},
        }
        await carol.says_nothing_before(alice, "carol")


async def test_messages_keep_their_order() -> None:
    async with (
        running() as server,
        connected(server, "alice") as alice,
        connected(server, "bob") as bob,
    ):
        for number in range(300):
            await alice.say("CANDIDATE", dst="bob", payload=number)
        assert [(await bob.hear())["payload"] for _ in range(300)] == list(range(300))


async def test_a_message_without_payload_stays_without() -> None:
    async with (
        running() as server,
        connected(server, "alice") as alice,
        connected(server, "bob") as bob,
    ):
        await alice.say("LEAVE", dst="bob")
        assert await bob.hear() == {"type": "LEAVE", "src": "alice", "dst": "bob"}


async def test_messages_wait_for_who_comes_late() -> None:
    async with (
        running(expire_timeout=60.0) as server,
        connected(server, "alice") as alice,
    ):
        await alice.say("OFFER", dst="bob", payload=1)
        await alice.say("LEAVE", dst="bob")
        await alice.say("CANDIDATE", dst="bob", payload=2)
        # What was said before is dealt with before this is answered.
        await alice.say("CANDIDATE", dst="alice", payload="myself")
        assert (await alice.hear())["payload"] == "myself"
        async with connected(server, "bob") as bob:
            assert [(await bob.hear())["payload"] for _ in range(2)] == [1, 2]
            await bob.says_nothing_before(alice, "bob")
            assert len(server.peers.waiting) == 0


async def test_who_waits_in_vain_is_told_once() -> None:
    async with (
        running(expire_timeout=0.2) as server,
        connected(server, "alice") as alice,
    ):
        for number in range(5):
            await alice.say("CANDIDATE", dst="nobody", payload=number)
        assert await alice.hear() == {"type": "EXPIRE", "src": "nobody", "dst": "alice"}
        await alice.says_nothing_before(alice, "alice")


async def test_more_messages_than_may_wait_expire_at_once() -> None:
    async with (
        running(expire_timeout=60.0, queued_messages=3) as server,
        connected(server, "alice") as alice,
        connected(server, "bob") as bob,
    ):
        for number in range(5):
            await alice.say("CANDIDATE", dst="nobody", payload=number)
        await alice.says_nothing_before(alice, "alice")
        await bob.say("OFFER", dst="nobody")
        assert await bob.hear() == {"type": "EXPIRE", "src": "nobody", "dst": "bob"}
        assert len(server.peers.waiting) == 3


async def test_one_sender_cannot_fill_what_there_is_for_all() -> None:
    async with (
        running(expire_timeout=60.0) as server,
        connected(server, "alice") as alice,
    ):
        for number in range(400):
            await alice.say("OFFER", dst=f"nobody-{number}")
        for number in range(200, 400):
            assert (await alice.hear())["src"] == f"nobody-{number}"
        assert len(server.peers.waiting) == 200


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"identifier": None}, "No id, token, or key supplied to websocket server"),
        (
            {"identifier": "alice", "token": ""},
            "No id, token, or key supplied to websocket server",
        ),
        ({"identifier": "alice", "key": "wrong"}, "Invalid key provided"),
        ({"identifier": "a" * 129}, "Invalid id provided"),
        ({"identifier": "alice\n"}, "Invalid id provided"),
        ({"identifier": "alice", "token": "t" * 129}, "Invalid token provided"),
    ],
)
async def test_who_asks_wrongly_is_told_and_hung_up_on(
    query: dict[str, str], complaint: str
) -> None:
    async with running() as server, connecting(server, **query) as client:
        assert await client.hear() == {"type": "ERROR", "payload": {"msg": complaint}}
        assert await client.end() == Close.POLICY


async def test_another_key_can_be_set() -> None:
    async with (
        running(key="mine", path="/my/app/") as server,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(http(server, "/my/app/mine/id")) as answer:
            identifier = await answer.text()
        async with session.ws_connect(
            http(server, f"/my/app/peerjs?key=mine&id={identifier}&token=t")
        ) as socket:
            assert await socket.receive_json(timeout=PATIENCE) == {"type": "OPEN"}


async def test_an_id_is_taken_while_somebody_has_it() -> None:
    async with running() as server:
        async with (
            connected(server, "alice", "one"),
            connecting(server, "alice", "another") as thief,
        ):
            assert await thief.hear() == {
                "type": "ID-TAKEN",
                "payload": {"msg": "ID is taken"},
            }
            assert await thief.end() == Close.POLICY
        await until(lambda: not server.peers.clients)
        async with connected(server, "alice", "another"):
            pass


async def test_a_client_that_comes_back_with_its_token_is_let_in_at_once() -> None:
    async with (
        running() as server,
        connected(server, "bob") as bob,
        connected(server, "alice", "mine") as dead,
        connected(server, "alice", "mine") as alive,
    ):
        assert await dead.end() == Close.SUPERSEDED
        assert dead.reason == "superseded"
        await bob.say("OFFER", dst="alice", payload=1)
        assert (await alive.hear())["payload"] == 1


async def test_who_leaves_has_its_id_no_longer() -> None:
    async with running() as server, connected(server, "alice", "one") as alice:
        await alice.say("LEAVE")
        await alice.end()
        async with connected(server, "alice", "another"):
            pass


async def test_who_says_nothing_is_hung_up_on() -> None:
    async with running(alive_timeout=1.0) as server:
        async with (
            connected(server, "quiet") as quiet,
            connected(server, "alive") as alive,
        ):
            ending = asyncio.ensure_future(quiet.end())
            while not ending.done():
                await alive.say("HEARTBEAT")
                await asyncio.wait((ending,), timeout=0.1)
            assert await ending == Close.IDLE
            await alive.says_nothing_before(alive, "alive")
        assert server.peers.counts.idle == 1


async def test_there_is_a_most_of_clients() -> None:
    async with (
        running(concurrent_limit=2) as server,
        connected(server, "alice"),
        connected(server, "bob"),
        connecting(server, "carol") as carol,
    ):
        assert await carol.hear() == {
            "type": "ERROR",
            "payload": {"msg": "Server has reached its concurrent user limit"},
        }
        assert await carol.end() == Close.TRY_LATER


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "null",
        '"OFFER"',
        '{"type":"OFFER","dst":7}',
        '{"type":"OFFER","dst":["bob"]}',
        "[" * 2000,
        '{"type":["OFFER"]}',
    ],
)
async def test_who_says_what_cannot_be_read_is_hung_up_on_alone(message: str) -> None:
    async with running() as server, connected(server, "bob") as bob:
        async with connected(server, "alice") as alice:
            await alice.socket.send_str(message)
            assert await alice.end() == Close.UNREADABLE
        await bob.says_nothing_before(bob, "bob")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "WHATEVER", "dst": "bob"},
        {"type": "OFFER"},
        {"type": "EXPIRE", "dst": "bob"},
        {"type": "SESSION"},
        {"type": None},
    ],
)
async def test_what_is_not_known_is_passed_over(message: dict[str, str]) -> None:
    async with (
        running() as server,
        connected(server, "alice") as alice,
        connected(server, "bob") as bob,
    ):
        await alice.socket.send_str(orjson.dumps(message).decode())
        await bob.says_nothing_before(alice, "bob")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    messages=st.lists(
        st.binary(max_size=300)
        | JSON.map(orjson.dumps)
        | st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    [
                        "OFFER",
                        "ANSWER",
                        "CANDIDATE",
                        "LEAVE",
                        "HEARTBEAT",
                        "PROVE",
                        "OPEN",
                    ]
                )
            },
            optional={
                "dst": JSON | st.sampled_from(["carol", "CAROL", "nobody"]),
                "src": st.just("dave"),
                "payload": JSON,
            },
        ).map(orjson.dumps),
        max_size=8,
    )
)
def test_whatever_one_says_no_third_party_hears_it(messages: list[bytes]) -> None:
    async def run() -> None:
        async with (
            running(expire_timeout=0.0) as server,
            connected(server, "bob") as bob,
            connected(server, "carol") as carol,
        ):
            async with connected(server, "mallory") as mallory:
                for message in messages:
                    await mallory.socket.send_bytes(message)
                await mallory.socket.close()
            # Bob was never named.
            await bob.says_nothing_before(carol, "bob")
            await carol.say("CANDIDATE", dst="carol", payload={"last": 1})
            while (heard := await carol.hear()).get("payload") != {"last": 1} or heard[
                "src"
            ] != "carol":
                assert heard["src"] == "mallory"
                assert heard["dst"] == "carol"
                assert heard.keys() <= {"type", "src", "dst", "payload"}

    asyncio.run(run())
