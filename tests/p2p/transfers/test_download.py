"""One download and its readers, with a source that delivers exactly when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
import os
from pathlib import Path
import time
from typing import Any

import pytest

from p2p.access.ticket import Ticket
from p2p.core.errors import BadRequest, DiskFull, Gone, Unavailable
from p2p.core.spans import Spans
from p2p.models.transfers import TransferState
from p2p.torrent.metainfo import Metainfo
from p2p.torrent.priority import Priority
from p2p.transfers import fetcher, planner, readers as reading
from p2p.transfers.content import distance
from p2p.transfers.download import Download
from p2p.transfers.entry import Entry
from p2p.transfers.readers import Reader, play_rate
from p2p.transfers.sources.source import Source, SourceStatus, Wanted
from tests.p2p.transfers.receiving import PIECE, Owner, content_of, describe
from tests.patience import failing_once, until

PIECES = 400
SIZE = PIECES * PIECE - 1000
CONTENT = content_of(SIZE)
META = describe(CONTENT, b"s" * 16)


class Script:
    """A source that does what it is told."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.status = SourceStatus()
        self.wanted: list[Wanted] = []
        self.wishes = 0
        self.target: Download | None = None
        self.closed = False
        self.refusal: Exception | None = None

    async def start(self, target: Download) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.target = target

    def want(self, spans: Sequence[Wanted]) -> None:
        self.wanted = list(spans)
        self.wishes += 1

    async def close(self) -> None:
        self.closed = True

    def deliver(self, start: int, stop: int) -> None:
        assert self.target is not None
        assert not self.closed
        file = os.open(self.target.entry.path, os.O_WRONLY)
        os.pwrite(file, self.content[start:stop], start)
        os.close(file)
        self.target.arrived(start, stop)

    def deliver_next(self) -> Wanted:
        wanted = self.wanted.pop(0)
        self.deliver(wanted.start, wanted.stop)
        return wanted

    @property
    def asked(self) -> Spans:
        return Spans((each.start, each.stop) for each in self.wanted)


class Trickle(Script):
    """A source to which a little has come whenever somebody looks."""

    received = 0

    @property
    def status(self) -> SourceStatus:
        self.received += 1
        return SourceStatus(received=self.received, peers=1)

    @status.setter
    def status(self, status: SourceStatus) -> None: ...


class Keeper:
    """The room and the sources of one download."""

    def __init__(self) -> None:
        self.room = 2**40
        self.window = 2**40
        self.sources: list[Script] = []
        self.next: list[Script] = []
        self.nudged = asyncio.Event()
        self.has_changed = False
        self.pressed = False
        self.events: list[str] = []

    def room_for(self, entry: Entry) -> int:
        return self.room

    def window_for(self, entry: Entry) -> int:
        return self.window

    def is_pressed(self, entry: Entry) -> bool:
        return self.pressed

    def can_fetch(self, ticket: Ticket, meta: Metainfo | None) -> bool:
        return meta is not None

    def of(self, ticket: Ticket, meta: Metainfo | None) -> Sequence[Source]:
        script = self.next.pop(0) if self.next else Script()
        self.sources.append(script)
        return (script,)

    def download(self, ticket: Ticket, meta: Metainfo | None, path: Path) -> Download:
        entry = NotedEntry(self.events, ticket, meta, path)
        return Download(entry, self, self)  # type: ignore[arg-type]

    @property
    def source(self) -> Script:
        return self.sources[-1]

    async def opened(self) -> Script:
        await until(lambda: bool(self.sources) and self.source.target is not None)
        return self.source


class NotedEntry(Entry):
    """An entry without a database. It notes when its file is said to change, and to rest."""

    def __init__(
        self, events: list[str], ticket: Ticket, meta: Metainfo | None, path: Path
    ) -> None:
        super().__init__(None, ticket, meta, path)  # type: ignore[arg-type]
        self.events = events

    async def unseal(self) -> None:
        self.events.append("writing")

    async def seal(self) -> None:
        self.events.append("rested")


def ticket_of(
    tmp_path: Path, meta: Metainfo | None = META, ttl: float = 3600, **facts: Any
) -> Ticket:
    owner = Owner(tmp_path)
    owner.port = 4242
    owner.contents["i" * 26] = CONTENT
    return owner.ticket("i" * 26, meta, ttl=ttl, **facts)


@asynccontextmanager
async def made(
    tmp_path: Path, meta: Metainfo | None = META, **facts: Any
) -> AsyncGenerator[tuple[Download, Keeper]]:
    keeper, path = Keeper(), tmp_path / "part"
    with path.open("wb") as file:
        file.truncate(SIZE)
    # One second of play is one piece.
    ticket = ticket_of(tmp_path, meta, **{"bit_rate": PIECE * 8} | facts)
    download = keeper.download(ticket, meta, path)
    try:
        yield download, keeper
    finally:
        await download.close(Unavailable("the test is over"))
        assert not asyncio.all_tasks() - {asyncio.current_task()}
        assert all(each.closed for each in keeper.sources)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncGenerator[tuple[Download, Keeper]]:
    async with made(tmp_path) as pair:
        yield pair


def left(download: Download, spans: list[tuple[int, int]]) -> None:
    """Tell a download that the disk has given these bytes up."""
    download.entry.content.left(spans)
    download.replan()


def asking(
    download: Download, start: int, name: str = "a", stop: int = SIZE, t: float = 20
) -> asyncio.Task[int]:
    return asyncio.create_task(download.wait(name, start, stop, t))


async def waits(download: Download, questions: int = 1) -> None:
    """Wait until so many questions wait for bytes."""
    await until(
        lambda: sum(each.waiting for each in download.readers.active) == questions
    )


async def test_the_awaited_piece_is_asked_for_first_and_ends_the_wait(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    waiting = asking(download, 10 * PIECE + 5)
    source = await keeper.opened()
    await until(lambda: bool(source.wanted))
    assert source.wanted[0] == Wanted(10 * PIECE + 5, 11 * PIECE, Priority.NOW)
    # Thirty seconds of play ahead, in their order.
    assert list(source.asked) == [(10 * PIECE + 5, 40 * PIECE + 5)]
    assert source.wanted == sorted(source.wanted, key=lambda each: each.start)
    other = asking(download, 12 * PIECE, "b", 13 * PIECE)
    await waits(download, 2)
    source.deliver(12 * PIECE, 13 * PIECE)
    assert await other == 13 * PIECE
    assert not waiting.done()
    source.deliver(10 * PIECE, 11 * PIECE)
    assert await waiting == 11 * PIECE
    # What is there is told at once, and only up to where it is.
    assert await download.wait("a", 10 * PIECE + 5, 10 * PIECE + 7) == 10 * PIECE + 7
    assert await download.wait("a", 10 * PIECE + 6, SIZE) == 11 * PIECE


async def test_the_window_moves_with_the_reader(both: tuple[Download, Keeper]) -> None:
    download, keeper = both
    waiting = asking(download, 0)
    source = await keeper.opened()
    source.deliver(0, 20 * PIECE)
    assert await waiting == 20 * PIECE
    assert list(source.asked) == [(20 * PIECE, 50 * PIECE)]
    # Small steps need no new wishes, and larger ones do.
    source.deliver(20 * PIECE, 30 * PIECE)
    wishes = source.wishes
    assert await download.wait("a", 20 * PIECE, 22 * PIECE) == 22 * PIECE
    assert source.wishes == wishes
    assert await download.wait("a", 22 * PIECE, SIZE) == 30 * PIECE
    assert source.wishes == wishes + 1
    assert list(source.asked) == [(30 * PIECE, 60 * PIECE)]


async def test_a_seek_drops_what_was_wanted_before(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    first = asking(download, 0)
    source = await keeper.opened()
    source.deliver(0, PIECE)
    await first
    second = asking(download, 300 * PIECE)
    await until(lambda: source.asked.meets(300 * PIECE, 301 * PIECE))
    assert not source.asked.meets(0, 300 * PIECE)
    assert source.wanted[0].priority is Priority.NOW
    source.deliver(300 * PIECE, 301 * PIECE)
    await second


async def test_readers_at_different_places_are_served_in_turn(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    waiting = [asking(download, at * PIECE, f"r{at}") for at in (0, 100, 200)]
    source = await keeper.opened()
    await until(lambda: len(source.wanted) == 90)
    # First what each waits for, then what each needs a second later, and so on.
    order = [each.start // PIECE for each in source.wanted]
    assert order[:6] == [0, 100, 200, 1, 101, 201]
    assert [each.priority for each in source.wanted[:4]] == [
        *[Priority.NOW] * 3,
        Priority.SOON,
    ]
    assert source.wanted[-1].priority is Priority.LATER
    download.release("r100")
    assert not source.asked.meets(101 * PIECE, 200 * PIECE)
    for at in (0, 100, 200):
        source.deliver(at * PIECE, (at + 1) * PIECE)
    assert await asyncio.gather(*waiting) == [PIECE, 101 * PIECE, 201 * PIECE]


async def test_a_range_is_not_read_beyond_its_end(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    waiting = asking(download, 5 * PIECE, stop=5 * PIECE + 10)
    source = await keeper.opened()
    await until(lambda: bool(source.wanted))
    assert source.wanted == [Wanted(5 * PIECE, 5 * PIECE + 10, Priority.NOW)]
    source.deliver(5 * PIECE, 6 * PIECE)
    assert await waiting == 5 * PIECE + 10
    # The last byte, which is in a shorter piece.
    waiting = asking(download, SIZE - 1)
    await until(lambda: bool(source.wanted))
    source.deliver((PIECES - 1) * PIECE, SIZE)
    assert await waiting == SIZE


async def test_who_stalls_gets_more_ahead_up_to_a_limit(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    at, windows = 0, []
    waiting = asking(download, at)
    source = await keeper.opened()
    for _ in range(6):
        await until(lambda at=at: source.asked.meets(at, at + 1))
        windows.append(source.asked.total // PIECE)
        source.deliver(at, at + PIECE)
        at = await waiting
        waiting = asking(download, at)
        await waits(download)
    assert windows == [30, 60, 120, 240, 240, 240]
    # A seek forgives.
    waiting.cancel()
    other = asking(download, 300 * PIECE)
    await until(lambda: source.asked.meets(300 * PIECE, 301 * PIECE))
    assert source.asked.total == 30 * PIECE
    other.cancel()
    await asyncio.gather(waiting, other, return_exceptions=True)


@pytest.mark.parametrize(
    ("start", "stop"), [(-1, 5), (0, 0), (5, 4), (0, SIZE + 1), (SIZE, SIZE + 1)]
)
async def test_there_are_no_other_bytes(
    both: tuple[Download, Keeper], start: int, stop: int
) -> None:
    download, keeper = both
    with pytest.raises(BadRequest):
        await download.wait("a", start, stop)
    assert not keeper.sources


async def test_nothing_arrives_in_time(both: tuple[Download, Keeper]) -> None:
    download, keeper = both
    with pytest.raises(Unavailable, match="Anna cannot be reached"):
        await download.wait("a", 0, SIZE, 0.2)
    keeper.source.status = SourceStatus(peers=1)
    with pytest.raises(Unavailable, match="does not deliver"):
        await download.wait("a", 0, SIZE, 0.2)
    assert download.state == TransferState.FETCHING
    # It may still come.
    waiting = asking(download, 0)
    await waits(download)
    keeper.source.deliver(0, PIECE)
    assert await waiting == PIECE


async def test_bytes_that_trickle_in_are_waited_for_but_not_forever(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    keeper.next = [Trickle()]
    waiting = asking(download, 0, t=0.2)
    await keeper.opened()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await waiting
    assert time.monotonic() - began >= 0.7


async def test_who_gives_up_leaves_nothing_behind(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    waiting = asking(download, 0)
    await keeper.opened()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not download.readers.are_waiting
    download.release("a")
    assert keeper.source.wanted == []
    assert download.state == TransferState.IDLE


async def test_ending_tells_all_who_wait(both: tuple[Download, Keeper]) -> None:
    download, keeper = both
    waiting = [asking(download, at * PIECE, str(at)) for at in range(3)]
    await keeper.opened()
    await download.close(Gone("it is another one"))
    for each in waiting:
        with pytest.raises(Gone, match="another one"):
            await each
    with pytest.raises(Gone):
        await download.wait("a", 0, 1)
    assert keeper.source.closed
    assert keeper.events == ["writing", "rested"]


async def test_a_source_that_fails_is_opened_again(
    both: tuple[Download, Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "RETRY_DELAYS", (0.05,))
    download, keeper = both
    refusing = Script()
    refusing.refusal = RuntimeError("no")
    keeper.next = [refusing]
    waiting = asking(download, 0)
    await until(lambda: len(keeper.sources) == 2)
    source = await keeper.opened()
    assert refusing.closed
    assert source.wanted
    download.source_failed("broken")
    await until(lambda: len(keeper.sources) == 3)
    assert source.closed
    source = await keeper.opened()
    source.deliver(0, PIECE)
    assert await waiting == PIECE
    assert download.entry.message is None


async def test_a_mistake_while_sources_are_opened_is_made_good_in_time_and_ends_at_once(
    both: tuple[Download, Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "RETRY_DELAYS", (0.2,))
    download, keeper = both
    tries = failing_once(monkeypatch, keeper, "of")
    waiting = asking(download, 0)
    await until(lambda: tries)
    with suppress(TimeoutError):
        # Without a breath it would be tried again by now.
        await until(lambda: len(tries) > 1, 0.1)
    assert len(tries) == 1
    (await keeper.opened()).deliver(0, PIECE)
    assert await waiting == PIECE
    # Before the next try it can be closed all the same.
    monkeypatch.setattr(fetcher, "RETRY_DELAYS", (3600.0,))
    tries.clear()
    failed = asking(download, PIECE)
    download.source_failed("broken")
    await until(lambda: keeper.source.closed)
    async with asyncio.timeout(5):
        await download.close(Unavailable("the test is over"))
    with pytest.raises(Unavailable):
        await failed


async def test_what_went_wrong_is_told(
    both: tuple[Download, Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "RETRY_DELAYS", (60.0,))
    download, keeper = both
    waiting = asking(download, 0, t=0.5)
    await keeper.opened()
    download.source_failed("the file is broken")
    with pytest.raises(Unavailable, match="the file is broken"):
        await waiting


async def test_without_room_nothing_is_asked_for(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    keeper.room = 2 * PIECE
    waiting = asking(download, 0)
    source = await keeper.opened()
    assert list(source.asked) == [(0, 2 * PIECE)]
    assert download.is_starved
    keeper.nudged.clear()
    download.replan()
    assert keeper.nudged.is_set()
    keeper.room = 0
    source.deliver(0, PIECE)
    assert await waiting == PIECE
    waiting = asking(download, PIECE)
    await until(lambda: source.wanted == [])
    download.full("there is no room")
    with pytest.raises(DiskFull, match="no room"):
        await waiting
    assert download.state == TransferState.FULL
    # What is there is still given.
    assert await download.wait("a", 5, 10) == 10
    keeper.room = 2**40
    download.roomier()
    waiting = asking(download, PIECE)
    await waits(download)
    source.deliver(PIECE, 2 * PIECE)
    assert await waiting == 2 * PIECE


async def test_a_full_disk_looks_like_a_broken_file(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    waiting = asking(download, 0)
    await keeper.opened()
    keeper.nudged.clear()
    download.source_failed("No space left on device")
    with pytest.raises(DiskFull):
        await waiting
    assert keeper.nudged.is_set()


async def test_the_window_is_no_larger_than_the_cache_allows(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    keeper.window = 3 * PIECE
    waiting = asking(download, 0)
    source = await keeper.opened()
    assert list(source.asked) == [(0, 3 * PIECE)]
    source.deliver(0, 3 * PIECE)
    assert await waiting == 3 * PIECE


async def test_an_offline_copy_comes_piece_after_piece(
    both: tuple[Download, Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "COPY_WINDOW", 16 * PIECE)
    download, keeper = both
    download.pin(pinned=True)
    source = await keeper.opened()
    assert list(source.asked) == [(0, 16 * PIECE)]
    # Whoever waits comes first, and alone.
    waiting = asking(download, 200 * PIECE)
    await until(lambda: source.asked.meets(200 * PIECE, 201 * PIECE))
    assert not source.asked.meets(0, 200 * PIECE)
    source.deliver(200 * PIECE, 201 * PIECE)
    await waiting
    download.release("a")
    assert source.asked.total == 16 * PIECE
    # Others who wait come first as well.
    keeper.pressed = True
    download.replan()
    assert source.wanted == []
    download.tick()
    assert source.wanted == []
    keeper.pressed = False
    download.tick()
    while source.wanted:
        source.deliver_next()
    assert download.entry.content.is_complete
    assert download.state == TransferState.COMPLETE
    assert download.entry.path.read_bytes() == CONTENT


async def test_leaving_an_offline_copy_ends_the_fetching(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    download.pin(pinned=True)
    source = await keeper.opened()
    download.pin(pinned=False)
    assert source.wanted == []


async def test_readers_that_are_not_heard_of_are_forgotten(
    both: tuple[Download, Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LEASE", 0.1)
    monkeypatch.setattr(fetcher, "IDLE_TIMEOUT", 0.1)
    download, keeper = both
    waiting = asking(download, 0)
    source = await keeper.opened()
    source.deliver(0, PIECE)
    await waiting
    assert source.wanted

    def wants_nothing() -> bool:
        download.tick()
        return source.wanted == []

    await until(wants_nothing)
    # Nobody wants anything: the sources end too, and what is there is noted.
    await until(lambda: not download.fetcher.is_active)
    assert source.closed
    assert keeper.events == ["writing", "rested"]
    # What was promised is kept for much longer than that, for a player that was paused.
    assert download.readers.kept(download.window) == [(0, PIECE)]
    assert download.leave(SIZE) == []
    monkeypatch.setattr(reading, "PROMISE_TIMEOUT", 0.1)
    download.tick()
    assert download.readers.kept(download.window) == []
    # And it goes on where it was.
    waiting = asking(download, PIECE)
    await until(lambda: len(keeper.sources) == 2)
    (await keeper.opened()).deliver(PIECE, 2 * PIECE)
    assert await waiting == 2 * PIECE


async def test_room_is_given_where_nobody_reads(both: tuple[Download, Keeper]) -> None:
    download, keeper = both
    keeper.window = 4 * PIECE
    waiting = asking(download, 0)
    source = await keeper.opened()
    source.deliver(0, 100 * PIECE)
    assert await waiting == 4 * PIECE
    assert await download.wait("a", 50 * PIECE, SIZE) == 54 * PIECE
    # Farthest from the reader first, and never what it was promised or will soon read.
    spans = download.leave(4 * PIECE)
    assert spans == [(0, 4 * PIECE)]
    assert not download.entry.content.has(0)
    everything = download.leave(SIZE)
    assert everything == [(4 * PIECE, 46 * PIECE), (58 * PIECE, 100 * PIECE)]
    # It may not come back before it has gone.
    waiting = asking(download, 0, "b")
    await waits(download)
    assert not source.asked.meets(0, PIECE)
    source.deliver(0, PIECE)
    other = asking(download, 100 * PIECE, "c", 101 * PIECE)
    await waits(download, 2)
    source.deliver(100 * PIECE, 101 * PIECE)
    assert await other == 101 * PIECE
    assert not waiting.done()
    left(download, spans)
    left(download, everything)
    assert source.asked.covers(0, PIECE)
    source.deliver(0, PIECE)
    assert await waiting == PIECE


async def test_what_a_reader_still_sends_while_it_asks_for_more_stays(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    waiting = asking(download, 0)
    source = await keeper.opened()
    source.deliver(0, 390 * PIECE)
    start = 200 * PIECE
    await waiting
    keeper.window = 50 * PIECE
    stop = await download.wait("a", start, SIZE)
    assert stop == 230 * PIECE
    # It asks for what comes next, asks again, and waits in vain for what is not there.
    for _ in range(2):
        assert await download.wait("a", stop, SIZE) == 260 * PIECE
        left(download, download.leave(SIZE))
        assert download.spans.covers(start, 290 * PIECE)
    # Only now it has certainly sent the first part.
    assert await download.wait("a", 260 * PIECE, SIZE) == 290 * PIECE
    left(download, download.leave(SIZE))
    assert list(download.spans) == [(228 * PIECE, 290 * PIECE)]


async def test_what_was_left_is_checked_before_it_is_served(
    both: tuple[Download, Keeper],
) -> None:
    download, keeper = both
    damaged = bytearray(CONTENT)
    damaged[50 * PIECE + 7] ^= 1
    download.entry.path.write_bytes(damaged[: 100 * PIECE])
    os.truncate(download.entry.path, SIZE)
    download.entry.content.unchecked = Spans([(0, 100 * PIECE)])
    assert not download.entry.content.has(0)
    assert await download.wait("a", 60 * PIECE, 61 * PIECE) == 61 * PIECE
    assert await download.wait("a", 0, PIECE) == PIECE
    waiting = asking(download, 50 * PIECE)
    source = await keeper.opened()
    await until(lambda: source.asked.covers(50 * PIECE, 51 * PIECE))
    assert not waiting.done()
    source.deliver(50 * PIECE, 51 * PIECE)
    assert await waiting > 50 * PIECE
    await until(lambda: not download.entry.content.unchecked.total)
    assert list(download.spans) == [(0, 100 * PIECE)]


async def test_without_hashes_nothing_that_was_left_is_believed(
    tmp_path: Path,
) -> None:
    async with made(tmp_path, None) as (download, keeper):
        download.entry.content.unchecked = Spans([(0, 100 * PIECE)])
        with pytest.raises(Unavailable, match="not got"):
            await download.wait("a", 0, SIZE, 0.3)
        assert not download.entry.content.stored
        assert not keeper.sources
        # As soon as there are hashes, it is fetched.
        waiting = asking(download, 0)
        await waits(download)
        download.renew(ticket_of(tmp_path), META)
        (await keeper.opened()).deliver(0, PIECE)
        assert await waiting == PIECE


async def test_another_ticket_takes_over(
    both: tuple[Download, Keeper], tmp_path: Path
) -> None:
    download, keeper = both
    waiting = asking(download, 0)
    first = await keeper.opened()
    meta = describe(CONTENT)
    download.renew(ticket_of(tmp_path, meta), meta)
    await until(lambda: len(keeper.sources) == 2)
    second = await keeper.opened()
    assert first.closed
    second.deliver(0, PIECE)
    assert await waiting == PIECE
    # The same one again changes nothing.
    download.renew(ticket_of(tmp_path, meta), meta)
    waiting = asking(download, PIECE)
    await waits(download)
    second.deliver(PIECE, 2 * PIECE)
    assert await waiting == 2 * PIECE
    assert not second.closed


async def test_there_are_only_so_many_readers(
    both: tuple[Download, Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_READERS", 3)
    download, keeper = both
    waiting = asking(download, 0)
    (await keeper.opened()).deliver(0, PIECE)
    await waiting
    for name in "bc":
        await download.wait(name, 0, 1)
    with pytest.raises(Unavailable, match="too many"):
        await download.wait("d", 0, 1)
    # One that was not heard of makes room.
    monkeypatch.setattr(reading, "LEASE", 0.0)
    await download.wait("d", 0, 1)
    assert len(download.readers.kept(download.window)) == 3


@pytest.mark.parametrize(
    ("size", "duration", "bit_rate", "rate"),
    [
        (10**9, None, 8_000_000, 1_000_000),
        (10**9, 100.0, None, 10_000_000),
        (10**9, None, None, 1_000_000),
        (10**9, 0.0, 0, 1_000_000),
        (10**9, None, 1, 4_000),
        (10**9, 1e-300, None, 64_000_000),
        (1, 10**8, None, 4_000),
        (10**9, None, 2**40, 64_000_000),
    ],
)
def test_the_rate_of_play_is_within_reason(
    size: int, duration: float | None, bit_rate: int | None, rate: float
) -> None:
    assert play_rate(size, duration, bit_rate) == rate


def test_distances_are_measured_to_what_is_kept() -> None:
    kept = [(10, 20), (40, 50)]
    assert distance(12, 15, kept) == 0
    assert distance(5, 11, kept) == 0
    assert distance(20, 21, kept) == 1
    assert distance(0, 10, kept) == 1
    assert distance(0, 5, kept) == 6
    assert distance(30, 35, kept) == 6
    assert distance(0, 5, []) > 2**60
    assert Reader(rate=1.0, seen=0.0).window(10**9) == (0, 0)
