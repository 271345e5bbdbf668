"""PeerServer's protocol over several nodes, without the sockets and the store between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
import contextlib
from contextlib import asynccontextmanager
import struct
from typing import Any

from hypothesis import given, settings, strategies as st
import orjson

from pemus_signaling.identity.sessions import Sessions
from pemus_signaling.net.sockets import Close, Listener, Refusal, Upgrade
from pemus_signaling.peers.client import MessageError
from pemus_signaling.peers.peers import MAX_LOCATING, Peers, pack
from pemus_signaling.settings import Settings
from tests.patience import PATIENCE, until
from tests.signaling.nodes import Node, Nodes


class Named(Node):
    """A node of a cluster in which names belong to nodes."""

    names: dict[str, str]

    async def claim(self, name: str, *, take: bool, owner: str = "") -> bool:
        await asyncio.sleep(0)
        former = self.names.get(name)
        if former not in (None, self.node):
            if not take:
                return False
            self.send(former, "superseded", name.encode())
        self.names[name] = self.node
        return True

    def release(self, name: str) -> None:
        if self.names.get(name) == self.node:
            del self.names[name]

    async def locate(self, name: str) -> str | None:
        await asyncio.sleep(0)
        return self.names.get(name)


class Sink:
    """A socket, and the one who sits at its other end."""

    def __init__(self, peers: Peers, identifier: str, token: str = "t") -> None:
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.code: Close | None = None
        self.closed = asyncio.Event()
        listener = peers.accept(
            Upgrade(
                {"key": "peerjs", "id": identifier, "token": token},
                "192.0.2.1",
                "",
            )
        )
        assert not isinstance(listener, Refusal)
        self.listener: Listener = listener
        listener.opened(self)

    def send(self, message: bytes) -> None:
        self.heard.put_nowait(orjson.loads(message))

    relay = send

    def close(self, code: Close, reason: str = "") -> None:
        if self.code is None:
            self.code = code
            self.closed.set()
            self.listener.closed()

    def say(self, kind: str, **more: Any) -> None:
        self.listener.received(orjson.dumps({"type": kind, **more}))

    async def hear(self) -> dict[str, Any]:
        """Return the next message."""
        return await asyncio.wait_for(self.heard.get(), PATIENCE)

    async def end(self) -> Close:
        """Return the close code, once the socket is closed."""
        await asyncio.wait_for(self.closed.wait(), PATIENCE)
        assert self.code is not None
        return self.code


def hear(peers: Peers, message: bytes) -> None:
    """Let a node receive a message from another one."""
    assert isinstance(peers.cluster, Node)
    peers.cluster.hear("node-1", "peers", message)


@asynccontextmanager
async def nodes(count: int, expire_timeout: float = 60.0) -> AsyncIterator[list[Peers]]:
    together = Nodes()
    names: dict[str, str] = {}
    made = []
    for number in range(count):
        node = Named(together, f"node-{number}")
        node.names = names
        made.append(
            Peers(
                node,
                Sessions(),
                Settings(expire_timeout=expire_timeout),
            )
        )
        await node.start()
    for peers in made:
        await peers.start()
    yield made
    for peers in made:
        await peers.close()


async def test_messages_to_another_node_keep_their_order() -> None:
    async with nodes(3) as (one, two, _):
        alice, bob = Sink(one, "alice"), Sink(two, "bob")
        assert [(await sink.hear())["type"] for sink in (alice, bob)] == [
            "OPEN",
            "OPEN",
        ]
        for number in range(100):
            alice.say("CANDIDATE", dst="bob", payload=number)
        assert [(await bob.hear())["payload"] for _ in range(100)] == list(range(100))


async def test_what_is_said_before_the_id_is_claimed_is_said_after() -> None:
    async with nodes(2) as (one, two):
        bob = Sink(two, "bob")
        await bob.hear()
        alice = Sink(one, "alice")
        alice.say("OFFER", dst="bob", payload=1)
        assert alice.heard.empty()
        assert (await bob.hear())["src"] == "alice"
        assert (await alice.hear())["type"] == "OPEN"


async def test_who_says_too_much_before_is_hung_up_on() -> None:
    async with nodes(2) as (one, _):
        alice = Sink(one, "alice")
        for _ in range(100):
            alice.say("HEARTBEAT")
        assert await alice.end() == Close.TRY_LATER
        assert not one.entering
        assert not one.clients
        # The id that was claimed for it is free.
        assert (await Sink(one, "alice", "another").hear())["type"] == "OPEN"


async def test_messages_wait_wherever_the_receiver_comes() -> None:
    async with nodes(4) as everywhere:
        alice = Sink(everywhere[0], "alice")
        await alice.hear()
        # Their ids belong to different nodes.
        for number in range(12):
            alice.say("OFFER", dst=f"bob-{number}", payload=number)
        await until(lambda: sum(len(peers.waiting) for peers in everywhere) >= 12)
        assert sum(len(peers.waiting) > 0 for peers in everywhere) > 1
        for number in range(12):
            bob = Sink(everywhere[number % 4], f"bob-{number}")
            assert [(await bob.hear()).get("payload") for _ in range(2)] == [
                None,
                number,
            ]


async def test_who_waits_in_vain_for_somebody_elsewhere_is_told() -> None:
    async with nodes(4, expire_timeout=0.05) as everywhere:
        alice = Sink(everywhere[0], "alice")
        await alice.hear()
        for number in range(8):
            alice.say("OFFER", dst=f"bob-{number}")
        told = [await alice.hear() for _ in range(8)]
        assert {message["src"] for message in told} == {
            f"bob-{number}" for number in range(8)
        }
        assert {message["type"] for message in told} == {"EXPIRE"}


async def test_a_client_that_comes_back_to_another_node_is_let_in_with_its_token_alone() -> (
    None
):
    async with nodes(2) as (one, two):
        alice = Sink(one, "alice", "mine")
        await alice.hear()
        thief = Sink(two, "alice", "another")
        assert (await thief.hear())["type"] == "ID-TAKEN"
        assert await thief.end() == Close.POLICY
        assert alice.code is None
        again = Sink(two, "alice", "mine")
        assert (await again.hear())["type"] == "OPEN"
        assert await alice.end() == Close.SUPERSEDED


async def test_who_goes_while_its_id_is_claimed_leaves_nothing() -> None:
    async with nodes(2) as (one, two):
        alice = Sink(one, "alice")
        alice.listener.closed()
        # Its claim comes before the one of another client.
        assert (await Sink(one, "marker").hear())["type"] == "OPEN"
        assert list(one.clients) == ["marker"] and not one.entering
        assert (await Sink(two, "alice").hear())["type"] == "OPEN"


async def test_what_waits_for_an_answer_of_the_store_is_bounded() -> None:
    async with nodes(2) as (one, _):
        alice = Sink(one, "alice")
        await alice.hear()
        for number in range(300):
            alice.say("OFFER", dst=f"bob-{number}", payload="x" * 60_000)
        assert 0 < one.locating_bytes <= MAX_LOCATING
        await until(lambda: one.locating_bytes == 0)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.binary(max_size=60)
        | st.binary(max_size=20).map(
            lambda data: b"D" + len(data).to_bytes(2) + bytes(2) + data
        ),
        max_size=5,
    )
)
def test_half_a_message_of_another_node_harms_nobody(messages: list[bytes]) -> None:
    async def run() -> None:
        async with nodes(2) as (one, two):
            alice = Sink(one, "alice")
            await alice.hear()
            for message in messages:
                # The cluster logs what is raised, and goes on.
                with contextlib.suppress(
                    UnicodeDecodeError, MessageError, struct.error
                ):
                    hear(one, message)
            bob = Sink(two, "bob")
            await bob.hear()
            bob.say("OFFER", dst="alice", payload="still here")
            while (await alice.hear()).get("payload") != "still here":
                pass

    asyncio.run(run())


async def test_what_cannot_be_read_before_the_id_is_granted_ends_the_socket() -> None:
    async with nodes(2) as (one, two):
        alice = Sink(one, "alice")
        alice.say("OFFER", dst=["x"])
        assert await alice.end() is Close.UNREADABLE
        bob = Sink(two, "bob")
        assert (await bob.hear())["type"] == "OPEN"


async def test_a_farewell_that_missed_its_receiver_does_not_wait() -> None:
    async with nodes(2) as (one, two):
        said = orjson.dumps({"type": "LEAVE", "src": "alice", "dst": "bob"})
        hear(one, pack(b"T", b"bob", b"alice", said))
        offer = orjson.dumps({"type": "OFFER", "src": "alice", "dst": "bob"})
        hear(one, pack(b"D", b"bob", b"alice", offer))
        # The offer comes last.
        await until(lambda: len(one.waiting) + len(two.waiting))
        assert len(one.waiting) + len(two.waiting) == 1


async def test_what_nobody_is_to_wait_for_crosses_nodes_as_such() -> None:
    async with nodes(2) as (one, two):
        alice, bob = Sink(one, "alice"), Sink(two, "bob")
        assert [(await each.hear())["type"] for each in (alice, bob)] == ["OPEN"] * 2
        told: list[bytes] = []
        two.cluster.on("peers", lambda _node, message: told.append(message[:1]))
        alice.say("LEAVE", dst="bob")
        alice.say("OFFER", dst="bob")
        await until(lambda: len(told) >= 2)
        assert told == [b"T", b"D"]


async def test_who_was_answered_is_not_told_that_nobody_came() -> None:
    async with nodes(2) as (one, two):
        alice, bob = Sink(one, "alice"), Sink(two, "bob")
        carl = Sink(two, "carl")
        for sink in (alice, bob, carl):
            assert (await sink.hear())["type"] == "OPEN"
        for receiver, name in ((bob, "bob"), (carl, "carl")):
            alice.say("OFFER", dst=name, payload=1)
            await receiver.hear()
        bob.say("ANSWER", dst="alice", payload=2)
        await alice.hear()
        await two.cluster.close()
        assert (await alice.hear())["src"] == "carl"
        assert alice.heard.empty()
