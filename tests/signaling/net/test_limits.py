"""What one client may have of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import io
import os
from pathlib import Path
import socket
import struct

import aiohttp
from hypothesis import given, strategies as st
import pytest

from pemus_signaling.net import front
from pemus_signaling.net.limits import Places, Rates
from pemus_signaling.net.sockets import Close
from pemus_signaling.server import Server
from tests.patience import PATIENCE, until
from tests.signaling.clients import Client, connected, connecting
from tests.signaling.server import ADDRESS, http, running, ws


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_again() -> None:
    clock = Clock()
    rates = Rates(2, 4, clock=clock)
    assert [rates.allow("a") for _ in range(4)] == [0, 0, 0, 0]
    assert rates.allow("a") == 0.5
    assert rates.allow("b") == 0
    clock.now += 0.5
    assert rates.allow("a") == 0
    assert rates.allow("a") > 0
    clock.now += 1000
    assert [rates.allow("a") > 0 for _ in range(5)] == [False] * 4 + [True]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 5)), max_size=200))
def test_no_more_keys_are_remembered_than_may_be(
    asked: list[tuple[str, float]],
) -> None:
    clock = Clock()
    rates = Rates(1, 3, keys=4, clock=clock)
    for key, later in asked:
        clock.now += later
        assert rates.allow(key) >= 0
        assert len(rates._buckets) <= 4


@given(st.lists(st.sampled_from("abc")))
def test_places_are_given_back(keys: list[str]) -> None:
    places = Places(2)
    taken = [key for key in keys if places.take(key)]
    assert all(taken.count(key) <= 2 for key in keys)
    for key in taken:
        places.leave(key)
    assert not len(places)


def test_homes_behind_one_address_are_as_many_as_the_server_has_room_for() -> None:
    places = Places(2, capacity=3000)
    for _ in range(900):
        assert places.take("carrier")
        assert places.prove("carrier")
    assert places.take("carrier")


@given(st.lists(st.sampled_from("abcdefgh"), max_size=400))
def test_whoever_takes_many_leaves_some_to_every_newcomer(greedy: list[str]) -> None:
    places = Places(1, capacity=300)
    for address in greedy:
        if places.take(address) and not places.prove(address):
            places.leave(address)
    assert len(places) <= 300 * 8 / 10
    for _ in range(10):
        assert places.take("newcomer")
        assert places.prove("newcomer")


@given(st.lists(st.sampled_from("abc")))
def test_places_of_proven_sockets_are_given_back(keys: list[str]) -> None:
    places = Places(2, capacity=6)
    for key in keys:
        if places.take(key):
            places.leave(key, proven=places.prove(key))
    assert not len(places)


async def eventually(server: Server, sockets: int) -> None:
    await until(lambda: len(server.front.sockets.open) == sockets)


async def test_who_talks_too_much_is_hung_up_on() -> None:
    async with (
        running(messages_per_second=1.0) as server,
        connected(server, "alice") as alice,
    ):
        for _ in range(100):
            await alice.say("HEARTBEAT")
        assert await alice.end() == Close.TRY_LATER
        assert server.front.sockets.too_fast == 1


async def test_long_messages_count_for_more() -> None:
    async with (
        running(messages_per_second=1.0) as server,
        connected(server, "alice") as alice,
    ):
        for _ in range(3):
            await alice.say("OFFER", dst="alice", payload="x" * 60_000)
        assert await alice.end() == Close.TRY_LATER


async def test_pings_count_as_well() -> None:
    async with (
        running(messages_per_second=1.0) as server,
        connected(server, "alice") as alice,
    ):
        for _ in range(100):
            await alice.socket.ping()
        assert await alice.end() == Close.TRY_LATER


async def test_a_ping_is_answered() -> None:
    async with running() as server, aiohttp.ClientSession() as session:
        url = ws(server, "/peerjs?key=peerjs&token=t&id=alice")
        async with session.ws_connect(url, autoping=False) as alice:
            await alice.ping(b"there?")
            kinds = [await alice.receive(timeout=PATIENCE) for _ in range(2)]
            assert (kinds[1].type, kinds[1].data) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_a_message_may_be_as_long_as_it_may() -> None:
    async with (
        running(message_size=2048) as server,
        connected(server, "alice") as alice,
    ):
        empty = len('{"type":"OFFER","dst":"alice","payload":""}')
        await alice.say("OFFER", dst="alice", payload="x" * (2048 - empty))
        assert len((await alice.hear())["payload"]) == 2048 - empty
        await alice.say("OFFER", dst="alice", payload="x" * (2049 - empty))
        assert await alice.end() == Close.TOO_BIG


async def test_a_message_in_pieces_is_put_together() -> None:
    async with running() as server, frames(server) as (reader, writer):
        writer.write(
            frame(0x01, b'{"type":"OFFER",')
            + frame(0x89, b"ping")
            + frame(0x00, b'"dst":"alice",')
            + frame(0x80, b'"payload":1}')
        )
        assert await read_frame(reader) == (0x8A, b"ping")
        assert await read_frame(reader) == (
            0x81,
            b'{"type":"OFFER","src":"alice","dst":"alice","payload":1}',
        )
        writer.write(frame(0x82, b'{"type":"LEAVE","dst":"alice"}'))
        assert (await read_frame(reader))[0] == 0x81


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (b"\x80\x80aaaa", 1002),
        ("continuation without a beginning", 1002),
        ("beginning twice", 1002),
        ("reserved bit", 1002),
        ("second reserved bit", 1002),
        ("third reserved bit", 1002),
        ("unmasked", 1002),
        ("unknown kind", 1002),
        ("too long in pieces", 1009),
        ("too long in one", 1009),
        ("bad text", 1007),
    ],
)
async def test_frames_that_break_the_protocol_end_the_socket(
    wrong: str | bytes, code: int
) -> None:
    sent = {
        "continuation without a beginning": frame(0x80, b"x"),
        "beginning twice": frame(0x01, b"x") + frame(0x01, b"x"),
        "reserved bit": frame(0xC1, b"{}"),
        "second reserved bit": frame(0xA1, b"{}"),
        "third reserved bit": frame(0x91, b"{}"),
        "unmasked": b"\x81\x02{}",
        "unknown kind": frame(0x83, b"x"),
        "too long in pieces": frame(0x01, b"x" * 40_000) + frame(0x00, b"x" * 40_000),
        "too long in one": b"\x81\xff" + (2**62).to_bytes(8) + b"aaaa",
        "bad text": frame(0x81, b'{"type":"\xff"}'),
    }.get(wrong, wrong) if isinstance(wrong, str) else wrong  # fmt: skip
    assert isinstance(sent, bytes)
    async with running() as server, connected(server, "bob") as bob:
        async with frames(server) as (reader, writer):
            writer.write(sent)
            async with asyncio.timeout(PATIENCE):
                while (heard := await read_frame(reader))[0] != 0x88:
                    pass
            assert int.from_bytes(heard[1][:2]) == code
        await bob.says_nothing_before(bob, "bob")


@pytest.mark.parametrize(
    ("code", "answered"),
    [
        *((code, code) for code in (1000, 1001, 1003, 1007, 1011, 3000, 4999)),
        *((code, 1002) for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999)),
        *((code, 1002) for code in (5000, 65535)),
        (None, 1000),
    ],
)
async def test_a_close_is_answered_and_one_that_must_not_be_is_an_error(
    code: int | None, answered: int
) -> None:
    """RFC 6455, sections 5.5.1 and 7.4."""
    async with running() as server, frames(server) as (reader, writer):
        writer.write(frame(0x88, b"" if code is None else code.to_bytes(2)))
        first, payload = await read_frame(reader)
        assert (first, int.from_bytes(payload[:2])) == (0x88, answered)
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""


async def test_nobody_is_hung_up_on_for_what_others_send_him() -> None:
    async with (
        running(send_buffer=256 * 1024, messages_per_second=100_000.0) as server,
        frames(server) as (reader, _),
        connected(server, "bob") as bob,
    ):
        words = {"type": "OFFER", "dst": "alice", "payload": "x" * 60_000}
        async with asyncio.timeout(PATIENCE):
            # Alice reads nothing of what she is sent.
            while server.front.sockets.dropped < 10:
                await bob.socket.send_json(words)
            assert server.front.sockets.too_slow == 0
            while (heard := await read_frame(reader))[0] == 0x81:
                if server.front.sockets.messages and b"OFFER" in heard[1]:
                    break
        await eventually(server, 2)
        await bob.says_nothing_before(bob, "bob")


@pytest.mark.parametrize("pieces", ["one", "several", "a last one"])
async def test_who_is_sent_something_oversized_does_not_notice(pieces: str) -> None:
    """The whole of it arrives at once, before the socket it came over can be closed."""
    words = b'{"type":"OFFER","dst":"bob","payload":"%b"}' % (b"x" * 130_000)
    sent = {
        "one": frame(0x81, words),
        "several": b"".join(
            frame(first, words[at : at + 60_000])
            for first, at in zip(
                [0x01, 0x00, 0x80], range(0, len(words), 60_000), strict=True
            )
        ),
        "a last one": frame(0x01, words[:60_000]) + frame(0x80, words[60_000:]),
    }[pieces]
    async with (
        running(messages_per_second=100_000.0) as server,
        connected(server, "bob") as bob,
    ):
        async with frames(server) as (reader, writer):
            writer.write(sent)
            async with asyncio.timeout(PATIENCE):
                while (heard := await read_frame(reader))[0] != 0x88:
                    pass
            assert int.from_bytes(heard[1][:2]) == Close.TOO_BIG
        await eventually(server, 1)
        await bob.says_nothing_before(bob, "bob")
        assert server.front.sockets.too_slow == 0


async def test_what_grows_on_its_way_is_bounded() -> None:
    """Numbers may be written longer by the server than by who sends them."""
    async with (
        running(
            message_size=64 * 1024, send_buffer=256 * 1024, messages_per_second=10_000.0
        ) as server,
        connected(server, "bob") as bob,
        connected(server, "alice") as alice,
    ):
        numbers = ",".join(["1e15"] * 13_000)
        await alice.socket.send_str(
            f'{{"type":"OFFER","dst":"bob","payload":[{numbers}]}}'
        )
        await bob.says_nothing_before(alice, "bob")
        assert server.front.sockets.dropped == 1


async def test_nobody_is_hung_up_on_for_what_waited_for_him() -> None:
    async with (
        running(send_buffer=256 * 1024, messages_per_second=10_000.0) as server,
        connected(server, "alice") as alice,
    ):
        for number in range(50):
            await alice.say("OFFER", dst="bob", payload=f"{number} {'x' * 60_000}")
        await until(lambda: len(server.peers.waiting) == 50)
        async with connected(server, "bob") as bob:
            heard = [(await bob.hear())["payload"][:2] for _ in range(2)]
            assert heard == ["0 ", "1 "]
            await bob.says_nothing_before(alice, "bob")
            assert server.front.sockets.too_slow == 0


async def test_one_address_has_so_many_sockets() -> None:
    async with running(sockets_per_address=2) as server, connected(server, "alice"):
        async with connected(server, "bob"):
            with pytest.raises(aiohttp.ClientError):
                async with connecting(server, "carol"):
                    pass
        await eventually(server, 1)
        async with connected(server, "carol"):
            pass


async def test_a_proxy_speaks_for_many_addresses() -> None:
    async with (
        running(sockets_per_address=1, trusted_proxies=(f"{ADDRESS}/32",)) as server,
        aiohttp.ClientSession() as session,
    ):

        async def come(name: str, address: str) -> Client:
            url = ws(server, f"/peerjs?key=peerjs&token=t&id={name}")
            client = Client(
                await session.ws_connect(
                    url, headers={"X-Forwarded-For": f"6.6.6.6, {address}"}
                )
            )
            assert await client.hear() == {"type": "OPEN"}
            return client

        here = [await come("alice", "192.0.2.1"), await come("bob", "192.0.2.2")]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await come("carol", "192.0.2.1")
        assert refused.value.status == 429
        here.append(await come("dave", "2001:db8::1"))
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await come("erin", "2001:db8::2")
        for client in here:
            await client.socket.close()


async def test_a_head_has_to_end() -> None:
    async with running() as server:
        reader, writer = await asyncio.open_connection(ADDRESS, server.port)
        writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)
        assert (await reader.readline()).startswith(b"HTTP/1.1 431")
        writer.close()


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"GET /peerjs?key=pee",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST /room HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    ],
)
async def test_who_takes_too_long_to_ask_is_hung_up_on(
    half: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for timeout in ("HEAD_TIMEOUT", "HTTP_TIMEOUT"):
        monkeypatch.setattr(front, timeout, 0.1)
    monkeypatch.setattr(front, "SWEEP_INTERVAL", 0.1)
    async with running() as server:
        reader, writer = await asyncio.open_connection(ADDRESS, server.port)
        writer.write(half)
        async with asyncio.timeout(PATIENCE):
            try:
                while await reader.read(1000):
                    pass
            except ConnectionError:
                pass
        await until(lambda: not server.front.requests)
        writer.close()
        assert not len(server.front.sockets.places)


async def test_many_messages_at_once_do_not_make_a_large_buffer() -> None:
    """picows doubles its buffer whenever a read fills it; what the system keeps of a connection bounds that."""
    async with (
        running(messages_per_second=1_000_000.0) as server,
        frames(server) as (reader, writer),
    ):
        flood = frame(0x81, b'{"type":"HEARTBEAT"}') * 50_000
        before = rss()
        for _ in range(10):
            writer.write(flood)
            await writer.drain()
        writer.write(frame(0x81, b'{"type":"LEAVE","dst":"alice"}'))
        assert (await read_frame(reader))[0] == 0x81
        assert rss() - before < 64 * 2**20


@pytest.mark.parametrize("end", ["close", "reset", "half"])
async def test_nothing_is_left_of_who_goes_in_whatever_way(end: str) -> None:
    async with running() as server:
        async with frames(server) as (_, writer):
            await eventually(server, 1)
            if end == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            elif end == "half":
                writer.write(b"\x81\xfe\x10")
                await writer.drain()
        await eventually(server, 0)
        await until(
            lambda: (
                not (
                    server.peers.clients
                    or server.front.requests
                    or len(server.front.sockets.places)
                )
            )
        )


async def test_a_client_that_does_not_answer_a_close_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pemus_signaling.net.websocket.CLOSE_TIMEOUT", 0.1)
    async with running() as server, frames(server) as (reader, writer):
        writer.write(frame(0x81, b"nonsense"))
        assert (await read_frame(reader))[0] == 0x88
        # It says more, and never hangs up.
        writer.write(frame(0x81, b'{"type":"HEARTBEAT"}'))
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        await eventually(server, 0)


async def test_a_body_has_a_most() -> None:
    async with (
        running() as server,
        aiohttp.ClientSession() as session,
        session.post(
            http(server, "/room"), data=io.BytesIO(b"x" * 10_000_000)
        ) as answer,
    ):
        assert answer.status in (401, 413)


@asynccontextmanager
async def frames(
    server: Server,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Be alice, over a connection that says whatever it is told to."""
    reader, writer = await asyncio.open_connection(ADDRESS, server.port, limit=2**22)
    writer.write(
        b"GET /peerjs?key=peerjs&id=alice&token=t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert await read_frame(reader) == (0x81, b'{"type":"OPEN"}')
    try:
        yield reader, writer
    finally:
        writer.close()


def frame(first: int, payload: bytes) -> bytes:
    """Return a frame of a client's (RFC 6455, section 5.2)."""
    size = len(payload)
    length = (
        bytes((0x80 | size,))
        if size < 126
        else b"\xfe" + size.to_bytes(2)
        if size < 65536
        else b"\xff" + size.to_bytes(8)
    )
    mask = os.urandom(4)
    return (
        bytes((first,))
        + length
        + mask
        + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    )


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(PATIENCE):
        first, size = await reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2))
        return first, await reader.readexactly(size)


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )
