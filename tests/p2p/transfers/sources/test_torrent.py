"""The swarm as a source: what is wanted sooner comes sooner, over a slow line between real sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
import itertools
import os
from pathlib import Path
import socket
import time

import pytest

from p2p.core.spans import Spans
from p2p.torrent.priority import Priority
from p2p.torrent.session import Session, SessionSettings, Torrent
from p2p.transfers.sources import torrent as source_module
from p2p.transfers.sources.source import Wanted
from p2p.transfers.sources.torrent import SwarmSource
from tests.p2p.transfers.receiving import LOCAL, OWNER, PIECE, Silent, describe
from tests.patience import until

PIECES = 32
SIZE = PIECES * PIECE
RATE = 1_500_000
"""Bytes per second of the line: about six pieces."""


class Part:
    """A download that only remembers when what came."""

    label = "film"

    def __init__(self, path: Path, content: bytes) -> None:
        self.entry = self
        self.content = content
        self.path = path
        self.spans = Spans()
        self.order: list[int] = []
        self.news = asyncio.Event()

    def arrived(self, start: int, stop: int) -> None:
        self.spans.add(start, stop)
        self.order.append(start // PIECE)
        self.news.set()

    def outdated(self) -> None:
        raise AssertionError("no version is told of")

    def source_failed(self, message: str) -> None:
        raise AssertionError(message)

    async def until(self, *pieces: int) -> float:
        """Return the seconds until these pieces are there."""
        began = time.monotonic()
        async with asyncio.timeout(60):
            while not set(pieces) <= set(self.order):
                self.news.clear()
                await self.news.wait()
        return time.monotonic() - began


def span(piece: int, priority: Priority = Priority.LATER) -> Wanted:
    return Wanted(piece * PIECE, (piece + 1) * PIECE, priority)


class Line:
    """A TCP connection's way to the owner, which can break, or die without a word."""

    _server: asyncio.Server

    def __init__(self, port: int) -> None:
        self._to = port
        self._here: set[asyncio.StreamWriter] = set()
        self._there: set[asyncio.StreamWriter] = set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        await self.mend()
        try:
            yield
        finally:
            self.leave()

    async def mend(self) -> None:
        """Let everybody connect, at the same port as before."""
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def leave(self) -> None:
        """Break what is connected, and refuse whoever calls."""
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Break what is connected at present."""
        for writer in (*self._here, *self._there):
            writer.close()
        self._here.clear()
        self._there.clear()

    def freeze(self) -> None:
        """Break what is connected at present for the owner alone; the receiver hears nothing of it."""
        self._frozen |= self._here
        for writer in self._there:
            writer.close()
        self._there.clear()

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._to)
        self._here.add(writer)
        self._there.add(there)
        await asyncio.gather(
            self._pass(reader, there), self._pass(there_reader, writer)
        )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        if writer not in self._frozen:
            writer.close()


@contextmanager
def deaf() -> Iterator[int]:
    """Have a port that never answers, as an address in somebody else's network does: all its room for callers is taken."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        ExitStack() as stack,
    ):
        port = int(server.getsockname()[1])
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        yield port


class SignalingRelay:
    """Remembers who is to be introduced."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.count = 0
        self.losses = 0

    def introduce(self, owner: str, torrent: Torrent) -> None:
        self.begun.set()
        self.count += 1

    def dismiss(self, owner: str, torrent: Torrent) -> None: ...

    def lost(self, owner: str, torrent: Torrent) -> None:
        assert (owner, torrent.is_removed) == (OWNER, False)
        self.losses += 1


def calls_of(patch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which each port is added that a torrent calls."""
    connect, ports = Torrent.connect, []

    def call(self: Torrent, host: str, port: int) -> None:
        ports.append(port)
        connect(self, host, port)

    patch.setattr(Torrent, "connect", call)
    return ports


async def rests(part: Part, seconds: float = 1.0) -> int:
    """Wait until nothing has come for so long, and return how many pieces there are."""
    there, since = -1, 0.0

    def is_resting() -> bool:
        nonlocal there, since
        now = time.monotonic()
        if len(part.order) != there:
            there, since = len(part.order), now
        return now - since >= seconds

    await until(is_resting)
    return there


@asynccontextmanager
async def slow_line(
    tmp_path: Path,
    *more_ports: int,
    only: Sequence[int] = (),
    introducer: SignalingRelay | None = None,
) -> AsyncGenerator[tuple[SwarmSource, Part, Line]]:
    """Have a source whose owner is at the end of a line, and not at the other ports, which are tried before.

    With `only`, these ports are all that the source knows.
    """
    content = os.urandom(SIZE)
    film = tmp_path / "film.mp4"
    film.write_bytes(content)
    meta = describe(content)
    assert meta.piece_length == PIECE
    part = Part(tmp_path / "part", content)
    with part.path.open("wb") as file:
        file.truncate(SIZE)
    owner = await Session.open(
        SessionSettings(addresses=("127.0.0.1",), upload_limit=RATE, lan_exempt=False)
    )
    receiver = await Session.open(LOCAL)
    line = Line(owner.port)
    try:
        await owner.seed(meta, os.open(film, os.O_RDONLY), "film", Silent())
        async with line.open():
            ports = only or (*more_ports, line.port)
            addresses = [("127.0.0.1", port) for port in ports]
            source = SwarmSource(receiver, meta, OWNER, addresses, introducer)
            await source.start(part)
            try:
                yield source, part, line
            finally:
                await source.close()
    finally:
        await receiver.close()
        await owner.close()


async def test_pieces_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    async with slow_line(tmp_path) as (source, part, _):
        source.want([span(0, Priority.NOW), *map(span, range(1, 12))])
        await part.until(*range(12))
        # Two neighbours are under way at once.
        assert all(abs(piece - place) <= 2 for place, piece in enumerate(part.order))


async def test_who_seeks_does_not_wait_for_what_was_wanted_before(
    tmp_path: Path,
) -> None:
    async with slow_line(tmp_path) as (source, part, _):
        source.want([span(0, Priority.NOW), *map(span, range(1, 24))])
        await part.until(0, 1)
        source.want([span(28, Priority.NOW), *map(span, range(29, 32))])
        await part.until(28)
        before = len(part.order)
        # All that was wanted before would take four seconds.
        assert before <= 8
        await part.until(29, 30, 31)
        assert len(part.order) <= before + 4


async def test_what_two_readers_need_soon_comes_before_what_either_needs_later(
    tmp_path: Path,
) -> None:
    async with slow_line(tmp_path) as (source, part, _):
        source.want(
            [
                span(0, Priority.NOW),
                span(20, Priority.NOW),
                *(span(piece, Priority.SOON) for piece in (1, 2, 21, 22)),
                *map(span, range(3, 16)),
                *map(span, range(23, 28)),
            ]
        )
        await part.until(0, 1, 2, 20, 21, 22)
        assert len(part.order) <= 9


async def test_what_is_awaited_too_long_is_hurried(tmp_path: Path) -> None:
    async with slow_line(tmp_path) as (source, part, _):
        wishes = [span(0, Priority.NOW), *map(span, range(1, PIECES))]
        source.want(wishes)
        await part.until(0)
        # A reader comes to the end of what is under way; the last piece would be there after five seconds.
        wishes[-1] = span(PIECES - 1, Priority.NOW)
        source.want(wishes)
        await part.until(PIECES - 1)
        assert len(part.order) < PIECES // 2


async def test_what_is_not_wanted_any_more_does_not_come(tmp_path: Path) -> None:
    async with slow_line(tmp_path) as (source, part, _):
        source.want([*map(span, range(PIECES))])
        await part.until(0, 1)
        source.want([])
        # All of it would take five seconds more, and come without a pause.
        assert await rests(part) < PIECES // 2


async def test_a_connection_that_breaks_is_replaced_at_once(tmp_path: Path) -> None:
    async with slow_line(tmp_path) as (source, part, line):
        source.want([*map(span, range(PIECES))])
        await part.until(0, 1)
        line.cut()
        there = len(part.order)
        # Six pieces a second, from the second connection on.
        assert await part.until(there, there + 1) < 2


async def test_pieces_that_were_removed_come_again(tmp_path: Path) -> None:
    async with slow_line(tmp_path) as (source, part, _):
        source.want([*map(span, range(4))])
        await part.until(*range(4))
        with part.path.open("r+b") as file:
            file.write(bytes(2 * PIECE))
        part.spans.discard(0, 2 * PIECE)
        part.order.clear()
        source.want([*map(span, (0, 1, 4))])
        await part.until(0, 1, 4)
        assert part.path.read_bytes()[: 5 * PIECE] == part.content[: 5 * PIECE]
        # What stayed there did not come again.
        assert set(part.order) == {0, 1, 4}


async def test_an_owner_is_told_of_a_connection_that_broke(tmp_path: Path) -> None:
    introductions = SignalingRelay()
    async with slow_line(tmp_path, introducer=introductions) as (source, part, line):
        source.want([*map(span, range(PIECES))])
        await part.until(0, 1)
        assert not introductions.losses
        line.cut()
        await until(lambda: introductions.losses, 20)


async def test_an_owner_that_left_while_nothing_was_wanted_is_called_when_something_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = calls_of(monkeypatch)
    async with slow_line(tmp_path) as (source, part, line):
        source.want([span(0)])
        await part.until(0)
        line.leave()
        await until(lambda: not source.status.peers)
        before = len(calls)
        source.want([span(1)])
        # libtorrent calls by itself sometimes, which is not what is looked at.
        await until(lambda: len(calls) > before)
        await line.mend()
        await part.until(1)


async def test_a_call_that_waits_for_its_time_does_not_hold_up_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after several attempts, the last one of which was answered.
    monkeypatch.setattr(source_module, "MIN_DIAL_INTERVAL", 60.0)
    monkeypatch.setattr(source_module, "MAX_DIAL_INTERVAL", 60.0)
    async with slow_line(tmp_path) as (source, part, line):
        source.want([*map(span, range(PIECES))])
        await part.until(0, 1)
        line.cut()
        there = len(part.order)
        assert await part.until(there, there + 1) < 2


async def test_a_connection_that_says_nothing_any_more_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MIN_SILENCE", 1.0)
    async with slow_line(tmp_path) as (source, part, line):
        source.want([*map(span, range(PIECES))])
        await part.until(0, 1)
        line.freeze()
        there = await rests(part, 0.5)
        source.want([span(there, Priority.NOW), *map(span, range(there + 1, PIECES))])
        assert await part.until(there, there + 1) < 6


async def test_attempts_begin_anew_though_something_new_is_wanted_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MIN_DIAL_INTERVAL", 0.1)
    monkeypatch.setattr(source_module, "RESTART_DIAL_INTERVAL", 0.4)
    introductions = SignalingRelay()
    pieces = itertools.cycle(range(PIECES))
    with deaf() as port:
        async with slow_line(tmp_path, only=[port], introducer=introductions) as (
            source,
            *_,
        ):

            def want_another() -> bool:
                """Want something else all the time, as when another source delivers."""
                source.want([span(next(pieces), Priority.NOW)])
                return introductions.count >= 3

            await until(want_another, 20)


async def test_an_owner_that_delivers_otherwise_is_called_anew_though_nobody_waits(
    tmp_path: Path,
) -> None:
    async with slow_line(tmp_path) as (source, part, line):
        source.want([*map(span, range(PIECES))])
        await part.until(0, 1)
        line.freeze()
        there = await rests(part)

        def delivers_again() -> bool:
            source.owner_delivered()
            return len(part.order) > there + 1

        # Long before libtorrent would take note.
        await until(delivers_again, 20)


async def test_a_peer_that_delivers_is_not_disturbed_when_its_owner_delivers_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = calls_of(monkeypatch)
    async with slow_line(tmp_path) as (source, part, _):
        source.want([*map(span, range(PIECES))])
        await part.until(0)
        before = len(calls)
        for piece in range(1, 6):
            source.owner_delivered()
            await part.until(piece)
        assert len(calls) == before


async def test_an_address_that_never_answers_does_not_hold_up_the_next_one(
    tmp_path: Path,
) -> None:
    with deaf() as port:
        async with slow_line(tmp_path, port) as (source, part, _):
            source.want([span(0, Priority.NOW)])
            await part.until(0)


async def test_an_address_that_never_answers_does_not_hold_up_introductions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = calls_of(monkeypatch)
    introductions = SignalingRelay()
    with deaf() as port, deaf() as other:
        async with slow_line(
            tmp_path, only=[port, other], introducer=introductions
        ) as (source, *_):
            source.want([span(0, Priority.NOW)])
            async with asyncio.timeout(10):
                await introductions.begun.wait()
            assert calls[:2] == [port, other]


def refusing() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_an_address_that_refuses_is_not_given_the_time_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "NEXT_ADDRESS_DELAY", 300.0)
    async with slow_line(tmp_path, refusing(), refusing()) as (source, part, _):
        source.want([span(0, Priority.NOW)])
        await part.until(0)


async def test_where_all_addresses_refuse_introductions_begin_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MIN_DIAL_INTERVAL", 300.0)
    monkeypatch.setattr(source_module, "RESTART_DIAL_INTERVAL", 1000.0)
    introductions = SignalingRelay()
    ports = [refusing(), refusing()]
    async with slow_line(tmp_path, only=ports, introducer=introductions) as (
        source,
        *_,
    ):
        source.want([span(0, Priority.NOW)])
        async with asyncio.timeout(20):
            await introductions.begun.wait()
