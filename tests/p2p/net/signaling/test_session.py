"""What a home and a server say to each other over a WebSocket: the servers here say whatever they like."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, Callable
import contextlib
import json
import socket
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import HealthCheck, given, settings, strategies as st
import pytest

from p2p.net.identity import Identity
from p2p.net.signaling import session as conversation
from p2p.net.signaling.session import (
    MAX_MESSAGE,
    MAX_PAUSE,
    MAX_QUEUED,
    MAX_READ,
    MAX_RECEIVED,
    Ended,
    SignalingSession,
    proof,
    shown,
)
from tests.patience import PATIENCE, until

from .servers import Script, acting, nothing_left, somebody

OPEN = {"type": "OPEN"}
OTHER = Identity.of(b"other".ljust(32))
"""Always the same one: it is in the names of tests, by which pytest's processes agree on them."""
NONCE = urlsafe_b64encode(bytes(range(32))).rstrip(b"=").decode()


class Talk:
    """A conversation with a server, and what came of it."""

    def __init__(
        self, ws: aiohttp.ClientWebSocketResponse, identity: Identity, origin: str
    ) -> None:
        self.opened = 0
        self.received: list[tuple[str, Any]] = []
        self.guests: list[tuple[str, Any]] = []
        self.missing: list[str] = []
        self.conversation = SignalingSession(
            ws,
            identity,
            origin,
            knocks=True,
            on_open=self._open,
            on_message=lambda home, sent: self.received.append((home, sent)),
            on_guest=lambda guest, sent: self.guests.append((guest, sent)),
            on_missing=self.missing.append,
        )

    def _open(self) -> None:
        self.opened += 1

    async def ended(self) -> Ended:
        """Go on until it is over, and return how it ended."""
        with pytest.raises(Ended) as caught:
            async with asyncio.timeout(PATIENCE):
                await self.conversation.run()
        return caught.value


@contextlib.asynccontextmanager
async def talking(script: Script) -> AsyncGenerator[Talk]:
    """Have a conversation, that is still to be run, with a server that follows a script."""
    async with acting(script) as stage, aiohttp.ClientSession() as session:
        ws = await session.ws_connect(
            f"{stage.url}peerjs",
            autoping=False,
            max_msg_size=MAX_READ,
            timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
        )
        yield Talk(ws, somebody(), stage.url.removesuffix("/"))
        await ws.close()


@contextlib.asynccontextmanager
async def running(talk: Talk) -> AsyncGenerator[None]:
    """Let a conversation go on meanwhile."""
    task = asyncio.create_task(talk.conversation.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncGenerator[None]:
    async with nothing_left():
        yield


def saying(*messages: object, close: int = 1000) -> Script:
    """Return a script: these messages, and the end."""

    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        for message in messages:
            if isinstance(message, bytes):
                await ws.send_bytes(message)
            elif isinstance(message, str):
                await ws.send_str(message)
            else:
                await ws.send_json(message)
        await ws.close(code=close)

    return script


def offer(**changes: object) -> dict[str, object]:
    return {"type": "OFFER", "src": OTHER.id, "payload": {"sdp": "x"}} | changes


# What is said


async def test_messages_are_taken_whatever_they_are_called() -> None:
    kinds = ("OFFER", "ANSWER", "CANDIDATE")
    async with talking(saying(OPEN, *[offer(type=kind) for kind in kinds])) as talk:
        await talk.ended()

    assert talk.received == [(OTHER.id, {"sdp": "x"})] * 3
    assert talk.opened == 1


async def test_binary_messages_mean_the_same() -> None:
    async with talking(
        saying(*[json.dumps(each).encode() for each in (OPEN, offer())])
    ) as talk:
        await talk.ended()

    assert talk.received == [(OTHER.id, {"sdp": "x"})]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "null",
        "[]",
        '"OFFER"',
        "NaN",
        "[" * 5000,
        b"\xff\xfe",
        {},
        {"type": None},
        {"type": ["OFFER"]},
        {"type": {"OFFER": 1}},
        {"type": "offer", "src": OTHER.id, "payload": {}},
        {"type": "UNKNOWN", "src": OTHER.id, "payload": {}},
        {"type": "LEAVE", "src": OTHER.id},
        {"type": "HEARTBEAT"},
        {"type": "OPEN"},
        {"type": "OPEN", "payload": {"session": "s"}},
        {"type": "SESSION", "payload": {"session": "s"}},
        {"type": "CHALLENGE", "payload": {}},
        {"type": "ERROR", "payload": {"msg": "late"}},
        {"type": "ID-TAKEN"},
        {"type": "EXPIRE"},
        {"type": "EXPIRE", "src": None},
        {"type": "EXPIRE", "src": "stranger"},
        offer(payload=None),
        offer(payload=[]),
        offer(payload="text"),
        offer(payload=7),
        offer(src=None),
        offer(src=7),
        offer(src=[OTHER.id]),
        offer(src=""),
        offer(src="stranger"),
        offer(src=OTHER.id.lower()),
        offer(src="-".join(OTHER.id)),
        offer(src=OTHER.id + "\n"),
        offer(src=OTHER.id[1:] + OTHER.id[0]),
        {"type": "OFFER", "src": OTHER.id},
        offer(payload={"sdp": "x" * MAX_RECEIVED}),
        b"\x00" * 1_000_000,
    ],
    ids=repr,
)
async def test_what_makes_no_sense_is_left_out(message: object) -> None:
    async with talking(saying(OPEN, message, offer())) as talk:
        ended = await talk.ended()

    assert talk.received == [(OTHER.id, {"sdp": "x"})]
    assert (talk.missing, talk.opened) == ([], 1)
    assert talk.conversation.session is None
    assert str(ended) == "The server closed the connection."


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["OPEN", "OFFER", "ANSWER", "CANDIDATE", "EXPIRE", "LEAVE", "SESSION", "CHALLENGE"]
        )
        | JSON,
        "src": st.just(OTHER.id) | JSON,
        "payload": st.fixed_dictionaries(
            {},
            optional={
                "session": JSON,
                "expires": JSON,
                "nonce": st.just(NONCE) | JSON,
                "origin": JSON,
                "knock": JSON,
            },
        )
        | JSON,
    },
)  # fmt: skip


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(MESSAGES | JSON, max_size=30))
def test_whatever_is_said_it_is_a_conversation(said: list[Any]) -> None:
    async def converse() -> None:
        async with talking(saying(OPEN, *said, offer(payload={"last": 1}))) as talk:
            ended = await talk.ended()
        assert str(ended) == "The server closed the connection."
        assert talk.received[-1] == (OTHER.id, {"last": 1})
        assert all(isinstance(sent, dict) for _, sent in talk.received)
        assert {home for home, _ in talk.received} | set(talk.missing) == {OTHER.id}

    asyncio.run(converse())


async def test_nothing_is_taken_before_this_home_has_its_id() -> None:
    expire = {"type": "EXPIRE", "src": OTHER.id}
    async with talking(saying(offer(), expire)) as talk:
        await talk.ended()

    assert (talk.received, talk.missing, talk.opened) == ([], [], 0)


async def test_who_is_not_there_is_told() -> None:
    async with talking(saying(OPEN, {"type": "EXPIRE", "src": OTHER.id})) as talk:
        await talk.ended()

    assert talk.missing == [OTHER.id]
    assert talk.received == []


async def test_the_largest_message_that_others_may_send_is_taken() -> None:
    payload = {"sdp": ""}
    payload["sdp"] = "x" * (MAX_MESSAGE - len(json.dumps(offer(payload=payload))))
    whole = json.dumps(offer(payload=payload))
    assert len(whole) == MAX_MESSAGE
    async with talking(saying(OPEN, whole)) as talk:
        await talk.ended()

    assert talk.received == [(OTHER.id, payload)]


async def test_a_message_that_is_larger_than_anything_ends_it() -> None:
    async with talking(saying(OPEN, "x" * (MAX_READ + 1))) as talk:
        ended = await talk.ended()

    assert str(ended) == "The server sent something invalid."


# Proofs


def asking(
    challenge: Callable[[str], object],
    told: list[dict[str, Any]],
    *more: object,
) -> Script:
    """Return a script that asks for a proof, and then says more."""

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        payload = challenge(f"http://{request.host}")
        await ws.send_json({"type": "CHALLENGE", "payload": payload})
        message = await ws.receive()
        if message.type is WSMsgType.TEXT:
            told.append(json.loads(message.data))
            for each in more:
                await ws.send_json(each)
        await ws.close()

    return script


def challenge(origin: str) -> dict[str, str]:
    return {"nonce": NONCE, "origin": origin}


def bytes_of(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_a_home_signs_who_it_is_and_where() -> None:
    told: list[dict[str, Any]] = []
    opened = {"type": "OPEN", "payload": {"session": "abc.def", "expires": 1}}
    async with talking(asking(challenge, told, opened)) as talk:
        await talk.ended()

    identity, origin = talk.conversation._identity, talk.conversation._origin
    payload = told[0]["payload"]
    key = bytes_of(payload["key"])
    assert key == identity.key
    signed = proof(origin, bytes(range(32)), identity.id)
    Ed25519PublicKey.from_public_bytes(key).verify(
        bytes_of(payload["signature"]), signed
    )
    assert (
        signed
        == b"\x00\x12pemus signalling 1"
        + len(origin).to_bytes(2)
        + origin.encode()
        + b"\x00\x20"
        + bytes(range(32))
        + b"\x00\x1c"
        + identity.id.encode()
    )
    assert talk.conversation.session == "abc.def"
    assert talk.conversation.is_proven


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://another.example"},
        {"origin": ""},
        {"origin": None},
        {"origin": ["http://127.0.0.1"]},
        {"nonce": ""},
        {"nonce": None},
        {"nonce": 7},
        {"nonce": NONCE[:-2]},
        {"nonce": NONCE * 2},
        {"nonce": "\u00e4" * 43},
        {"nonce": "=" * 44},
    ],
    ids=repr,
)
async def test_nothing_else_is_signed(change: dict[str, object]) -> None:
    told: list[dict[str, Any]] = []
    async with talking(asking(lambda origin: challenge(origin) | change, told)) as talk:
        ended = await talk.ended()

    assert told == []
    assert "by its own account" in str(ended) or "unknown way" in str(ended)


@pytest.mark.parametrize("payload", [None, [], "text", 7])
async def test_a_challenge_that_is_none_is_not_answered(payload: object) -> None:
    told: list[dict[str, Any]] = []
    async with talking(asking(lambda _: payload, told)) as talk:
        ended = await talk.ended()

    assert told == []
    assert "address is unknown by its own account" in str(ended)


async def test_a_proof_is_given_once() -> None:
    told: list[dict[str, Any]] = []

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        payload = challenge(f"http://{request.host}")
        for _ in range(5):
            await ws.send_json({"type": "CHALLENGE", "payload": payload})
        await ws.send_json(OPEN)
        await ws.send_json({"type": "CHALLENGE", "payload": payload})
        await ws.ping()
        while (message := await ws.receive()).type is not WSMsgType.PONG:
            told.append(json.loads(message.data))
        await ws.close()

    async with talking(script) as talk:
        await talk.ended()

    assert [each["type"] for each in told].count("PROVE") <= 1


@pytest.mark.parametrize(
    "session", [None, 7, "", "a b", "a\r\nX: y", "\u00e4", "x" * 5000, ["s"]], ids=repr
)
async def test_a_session_that_makes_no_sense_is_none(session: object) -> None:
    opened = {"type": "OPEN", "payload": {"session": session, "expires": 1}}
    async with talking(asking(challenge, [], opened)) as talk:
        await talk.ended()

    assert talk.opened == 1
    assert talk.conversation.session is None


# Ends


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (1000, "closed the connection"),
        (1001, "stopping or restarting"),
        (1008, "rejects this home"),
        (1009, "too big"),
        (1013, "overloaded"),
        (4001, "uses this home's ID"),
        (4002, "heard nothing from this home"),
        (4004, "rejected this home's proof"),
        (4321, "closed the connection"),
    ],
)
async def test_a_close_code_is_told_in_words(code: int, message: str) -> None:
    async with talking(saying(OPEN, close=code)) as talk:
        ended = await talk.ended()

    assert message in str(ended)
    # Nobody proved anything here, so no other can have proven to be this home.
    assert not ended.superseded


@pytest.mark.parametrize(
    ("reason", "pause"),
    [
        ("4.2", 4.2),
        ("0", 0),
        ("999999", MAX_PAUSE),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("inf", 0),
        ("nan", 0),
        ("1e9", 0),
        ("9" * 100, 0),
        ("\u0664", 0),
    ],
)
async def test_a_server_that_stops_says_for_how_long(reason: str, pause: float) -> None:
    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        await ws.close(code=1001, message=reason.encode())

    async with talking(script) as talk:
        ended = await talk.ended()

    assert ended.pause == pause


async def test_only_another_proof_supersedes() -> None:
    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        payload = challenge(f"http://{request.host}")
        await ws.send_json({"type": "CHALLENGE", "payload": payload})
        await ws.receive()
        await ws.send_json(OPEN)
        await ws.close(code=4001)

    async with talking(script) as talk:
        ended = await talk.ended()

    assert ended.superseded


async def test_what_a_server_complains_of_is_told_without_its_tricks() -> None:
    complaint = "No \u202eroom\x00\n\x1b[31m" + "x" * 1000
    message = {"type": "ERROR", "payload": {"msg": complaint}}
    async with talking(saying(message)) as talk:
        ended = await talk.ended()

    said = str(ended)
    assert said.startswith("The server rejects this home: No room[31mxxx")
    assert len(said) < 300
    assert said.isprintable()


@pytest.mark.parametrize("payload", [None, {}, {"msg": 7}, "text"])
async def test_a_complaint_without_words_is_one(payload: object) -> None:
    async with talking(saying({"type": "ERROR", "payload": payload})) as talk:
        assert "rejects this home" in str(await talk.ended())


async def test_an_id_that_somebody_has_is_told() -> None:
    async with talking(saying({"type": "ID-TAKEN", "payload": {"msg": "x"}})) as talk:
        assert "has this home's ID" in str(await talk.ended())


async def test_a_connection_that_is_reset_is_told() -> None:
    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        await ws.send_json(OPEN)
        transport = request.transport
        assert transport is not None
        wire = transport.get_extra_info("socket")
        # Closing resets it.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        transport.abort()

    async with talking(script) as talk:
        assert str(await talk.ended()) == "The connection to the server broke."


async def test_who_never_lets_this_home_in_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        while not ws.closed:
            await ws.send_json({"type": "HEARTBEAT"})
            await asyncio.sleep(0.02)

    monkeypatch.setattr(conversation, "OPEN_TIMEOUT", 0.3)
    async with talking(script) as talk:
        assert "did not answer in time" in str(await talk.ended())


# Floods


def frame(text: str) -> bytes:
    """Return a message as it goes over the wire (RFC 6455, section 5.2)."""
    data = text.encode()
    if len(data) < 126:
        return bytes((0x81, len(data))) + data
    return b"\x81\x7f" + len(data).to_bytes(8) + data


@pytest.mark.parametrize(
    "message",
    [
        json.dumps(offer()),
        json.dumps(offer(payload={"sdp": "x" * 60_000})),
        "",
        "nonsense",
        "x" * (MAX_RECEIVED + 1),
    ],
    ids=["small", "large", "empty", "nonsense", "too large"],
)
async def test_who_says_too_much_at_once_is_made_to_wait(
    message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wires: list[asyncio.Transport] = []
    flood = frame(message) * (16 * MAX_READ // len(frame(message)))

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        await ws.send_json(OPEN)
        assert isinstance(request.transport, asyncio.Transport)
        request.transport.write(flood)
        wires.append(request.transport)
        await ws.receive()

    monkeypatch.setattr(conversation, "RECEIVE_RATE", 0.001)
    monkeypatch.setattr(conversation, "RECEIVE_BURST", 10.0)
    async with talking(script) as talk:
        reader = talk.conversation._ws._response.connection.protocol
        async with running(talk):
            await until(lambda: talk.opened and reader._reading_paused)
            await until(lambda: wires)
            waiting = wires[0].get_write_buffer_size()

            # What is sent while it is made to wait stays where it comes from.
            assert len(talk.received) <= 10
            assert waiting > MAX_READ
            assert reader._reading_paused


async def test_who_asks_for_signs_of_life_without_end_is_made_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = 0

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        nonlocal answers
        await ws.send_json(OPEN)
        assert isinstance(request.transport, asyncio.Transport)
        request.transport.write((b"\x89\x7d" + b"x" * 125) * 10_000)
        while (message := await ws.receive()).type in (WSMsgType.PONG, WSMsgType.TEXT):
            answers += message.type is WSMsgType.PONG

    monkeypatch.setattr(conversation, "RECEIVE_RATE", 0.001)
    monkeypatch.setattr(conversation, "RECEIVE_BURST", 10.0)
    async with talking(script) as talk:
        reader = talk.conversation._ws._response.connection.protocol
        async with running(talk):
            await until(lambda: answers >= 9 and reader._reading_paused)

            assert answers <= 11


async def test_others_have_their_turn_while_much_is_said() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    before = []

    async with talking(saying(OPEN, *[offer()] * 100)) as talk:
        talk.conversation._on_message = lambda home, sent: before.append(turns)
        await talk.ended()
    task.cancel()

    assert len(before) == 100
    assert before == sorted(set(before))


# What this home says


async def heard(ws: web.WebSocketResponse, kind: str) -> dict[str, Any]:
    """Return the next message of a kind."""
    while True:
        message: dict[str, Any] = json.loads((await ws.receive()).data)
        if message["type"] == kind:
            return message


async def test_what_is_sent_arrives_as_it_is() -> None:
    told: list[dict[str, Any]] = []

    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        await ws.send_json(OPEN)
        told.append(await heard(ws, "OFFER"))
        told.append(await heard(ws, "ANSWER"))

    async with talking(script) as talk, running(talk):
        assert not talk.conversation.send(OTHER.id, {"sdp": "early"}, reply=False)
        await until(lambda: talk.opened)
        assert talk.conversation.send(OTHER.id, {"sdp": "\u00fc"}, reply=False)
        assert talk.conversation.send(OTHER.id, {"n": [1, None]}, reply=True)
        await until(lambda: len(told) == 2)

    assert told == [
        {"type": "OFFER", "dst": OTHER.id, "payload": {"sdp": "\u00fc"}},
        {"type": "ANSWER", "dst": OTHER.id, "payload": {"n": [1, None]}},
    ]


async def quiet(ws: web.WebSocketResponse, _: web.Request) -> None:
    """Let this home in, and listen."""
    await ws.send_json(OPEN)
    while not ws.closed:
        await ws.receive()


async def test_what_is_too_large_is_not_sent() -> None:
    async with talking(quiet) as talk, running(talk):
        await until(lambda: talk.opened)

        assert not talk.conversation.send(
            OTHER.id, {"sdp": "x" * MAX_MESSAGE}, reply=False
        )
        assert not talk.conversation.send(
            OTHER.id, {"sdp": "\u00fc" * (MAX_MESSAGE // 2)}, reply=False
        )


async def test_more_than_can_be_sent_is_dropped() -> None:
    async with talking(quiet) as talk, running(talk):
        await until(lambda: talk.opened)

        sent = [
            talk.conversation.send(OTHER.id, {"n": number}, reply=False)
            for number in range(MAX_QUEUED + 10)
        ]

        assert sent == [True] * MAX_QUEUED + [False] * 10
        await until(
            lambda: talk.conversation.send(OTHER.id, {"later": True}, reply=False)
        )


async def test_heartbeats_go_on_while_much_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds: list[str] = []

    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        await ws.send_json(OPEN)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                kinds.append(json.loads(message.data)["type"])

    monkeypatch.setattr(conversation, "FIRST_HEARTBEAT_DELAY", 0.01)
    monkeypatch.setattr(conversation, "HEARTBEAT_INTERVAL", 0.01)
    monkeypatch.setattr(conversation, "SEND_RATE", 1e6)
    async with talking(script) as talk, running(talk):
        await until(lambda: talk.opened)
        while kinds.count("HEARTBEAT") < 5:
            while talk.conversation.send(OTHER.id, {"n": 1}, reply=False):
                pass
            await asyncio.sleep(0)

    assert kinds.count("OFFER") > 5


async def test_who_sends_much_keeps_to_what_servers_put_up_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = 0

    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        nonlocal offers
        await ws.send_json(OPEN)
        async for message in ws:
            offers += "OFFER" in str(message.data)

    monkeypatch.setattr(conversation, "SEND_RATE", 0.001)
    monkeypatch.setattr(conversation, "SEND_BURST", 10.0)
    async with talking(script) as talk, running(talk):
        await until(lambda: talk.opened)
        for number in range(40):
            talk.conversation.send(OTHER.id, {"n": number}, reply=False)
        await until(lambda: offers == 11)

        assert talk.conversation._outgoing.qsize() == 40 - 11


async def test_who_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        await ws.send_json(OPEN)
        assert isinstance(request.transport, asyncio.Transport)
        request.transport.pause_reading()
        while True:
            await ws.send_json({"type": "HEARTBEAT"})
            await asyncio.sleep(0.05)

    monkeypatch.setattr(conversation, "SEND_TIMEOUT", 0.5)
    monkeypatch.setattr(conversation, "SEND_RATE", 1e6)
    async with talking(script) as talk:
        task = asyncio.create_task(talk.ended())
        await until(lambda: talk.opened)
        while not task.done():
            talk.conversation.send(OTHER.id, {"sdp": "x" * 60_000}, reply=False)
            await asyncio.sleep(0)

        assert str(await task) == "The connection to the server broke."


async def test_a_fault_of_its_own_ends_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(self: SignalingSession) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(SignalingSession, "_beat", failing)
    monkeypatch.setattr(conversation, "FIRST_HEARTBEAT_DELAY", 0.01)
    async with talking(quiet) as talk:
        await talk.ended()

    assert "ZeroDivisionError" in caplog.text


async def test_who_does_not_answer_the_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = asyncio.Event()

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        await ws.send_json(OPEN)
        assert isinstance(request.transport, asyncio.Transport)
        request.transport.pause_reading()
        await released.wait()

    monkeypatch.setattr(conversation, "CLOSE_TIMEOUT", 0.1)
    async with talking(script) as talk:
        async with running(talk):
            await until(lambda: talk.opened)
        released.set()


async def test_a_knock_of_somebody_else_opens_nothing() -> None:
    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        for payload in ({"knock": None}, {"knock": "x"}, {}):
            await ws.send_json(
                {"type": "CANDIDATE", "src": talk.conversation._identity.id}
                | {"payload": payload}
            )
        await ws.close()

    async with talking(script) as talk:
        await talk.ended()

    assert talk.opened == 0


async def test_a_home_that_is_let_in_without_a_word_finds_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        knock = await heard(ws, "CANDIDATE")
        await ws.send_json(knock | {"src": knock["dst"]})
        await ws.send_json(offer())
        await ws.close()

    monkeypatch.setattr(conversation, "FIRST_HEARTBEAT_DELAY", 0.01)
    async with talking(script) as talk:
        await talk.ended()

    assert talk.opened == 1
    assert talk.received == [(OTHER.id, {"sdp": "x"})]
    assert not talk.conversation.is_proven


def test_texts_of_a_server_are_shown_plainly() -> None:
    assert shown(" a\u200bb\x07c ") == "abc"
    assert shown(None) == ""
    assert shown({"a": 1}) == ""
