"""Fetching from a real owner: two libtorrent sessions over loopback, real files, a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import closing
from dataclasses import replace
import os
from pathlib import Path
import random
import signal
import sqlite3
import sys
import threading
import time

import pytest

from p2p.access.ticket import Ticket, armored
from p2p.core.errors import BadRequest, DiskFull, Gone, NotFound, Replaced, Unavailable
from p2p.core.spans import Spans
from p2p.models import ProblemKey
from p2p.models.transfers import TransferState
from p2p.torrent.session import SessionSettings
from p2p.transfers import checker, collection, fetcher, readers as reading, renewal
from p2p.transfers.cache import DATABASE, Cache, CacheSettings
from p2p.transfers.downloads import Downloads
from tests.p2p.transfers.receiving import (
    OWNER,
    PIECE,
    ROOMY,
    Home,
    Owner,
    content_of,
    describe,
    pair,
    read,
)
from tests.patience import until

ENGINE_PATH = Path(__file__).parents[3] / ".venvs" / "engine-path"
SIZE = 24 * PIECE + 12_345
ITEM = "i" * 26
OTHER = "k" * 26


@pytest.fixture
async def both(tmp_path: Path) -> AsyncGenerator[tuple[Owner, Home]]:
    threads = threading.active_count()
    async with pair(tmp_path) as made:
        yield made
    # Nothing is left behind.
    assert not asyncio.all_tasks() - {asyncio.current_task()}
    assert threading.active_count() <= threads + 8


def set_clock(patch: pytest.MonkeyPatch, ahead: float) -> None:
    """Set the clock ahead of what it is now, in seconds."""
    real = time.time
    patch.setattr(time, "time", lambda: real() + ahead)


def count_rounds(patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return what tells how often the downloads were looked after. Each time, the disk is measured first."""
    free, rounds = Cache.free, 0

    def count(self: Cache) -> int:
        nonlocal rounds
        rounds += 1
        return free(self)

    patch.setattr(Cache, "free", count)
    return lambda: rounds


async def accepted(
    owner: Owner, home: Home, size: int = SIZE, **facts: object
) -> Ticket:
    ticket = await owner.share(content_of(size), **facts)  # type: ignore[arg-type]
    await home.downloads.accept(ticket)
    return ticket


def done(downloads: Downloads, item: str = ITEM) -> int:
    return next((each.done for each in downloads.list() if each.item == item), 0)


def is_complete(home: Home) -> bool:
    return any(each.state is TransferState.COMPLETE for each in home.downloads.list())


def disk_use(folder: Path) -> int:
    return sum(
        each.stat().st_blocks * 512
        for each in folder.iterdir()
        if each.name.startswith(OWNER)
    )


def files(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.name.startswith(OWNER)]


# Reading.


async def test_a_file_arrives_as_its_owner_has_it(both: tuple[Owner, Home]) -> None:
    owner, home = both
    ticket = await owner.share(content_of(SIZE))
    await home.downloads.accept(ticket)
    assert home.downloads.etag(OWNER, ITEM) == '"1"'
    assert home.downloads.list() == ()
    facts = await home.downloads.file(OWNER, ITEM)
    assert (facts.size, facts.etag, facts.arriving) == (SIZE, '"1"', True)
    assert not is_complete(home)
    assert facts.content_type == "video/mp4"
    assert await read(home.downloads, ticket, 0, SIZE) == content_of(SIZE)
    facts = await home.downloads.file(OWNER, ITEM)
    assert is_complete(home)
    assert Path(facts.path).read_bytes() == content_of(SIZE)
    (status,) = home.downloads.list()
    assert (status.state, status.done) == (TransferState.COMPLETE, SIZE)
    assert home.downloads.usage.used == SIZE


async def test_many_read_one_file_at_different_places(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await accepted(owner, home)
    content = content_of(SIZE)
    numbers = random.Random(7)
    ranges = []
    for _ in range(40):
        start = numbers.randrange(SIZE)
        ranges.append((start, min(SIZE, start + numbers.randrange(1, 700_000))))
    found = await asyncio.gather(
        *(
            read(home.downloads, ticket, start, stop, f"r{number}")
            for number, (start, stop) in enumerate(ranges)
        )
    )
    for (start, stop), data in zip(ranges, found, strict=True):
        assert data == content[start:stop]


async def test_only_what_is_read_is_fetched(both: tuple[Owner, Home]) -> None:
    owner, home = both
    ticket = await accepted(owner, home, 400 * PIECE)
    content = content_of(400 * PIECE)
    for number, piece in enumerate((300, 100, 200, 399, 0), start=1):
        start = piece * PIECE + 5
        assert (
            await read(home.downloads, ticket, start, start + 10)
            == content[start : start + 10]
        )
        # The owner answers in order: what else had been asked for would have come before this.
        assert done(home.downloads) == number * PIECE


async def test_an_empty_file_needs_nobody(both: tuple[Owner, Home]) -> None:
    owner, home = both
    ticket = await accepted(owner, home, 0)
    facts = await home.downloads.file(OWNER, ITEM)
    assert is_complete(home)
    assert Path(facts.path).read_bytes() == b""
    with pytest.raises(BadRequest):
        await home.downloads.wait(OWNER, ITEM, "a", 0, 1)
    assert ticket.torrent is None


async def test_nobody_delivers(both: tuple[Owner, Home]) -> None:
    owner, home = both
    ticket = await accepted(owner, home, seed=False)
    with pytest.raises(Unavailable):
        await read(home.downloads, ticket, 0, 10, timeout=0.5)
    # Then somebody does.
    meta = ticket.metainfo()
    assert meta is not None
    await owner.seed(ITEM, meta)
    assert await read(home.downloads, ticket, 0, SIZE) == content_of(SIZE)


async def test_a_port_that_answers_nonsense_is_no_owner(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 1000)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ticket = await owner.share(content_of(SIZE), seed=False)
    ticket = replace(ticket, endpoints=(f"127.0.0.1:{port}",))
    await home.downloads.accept(ticket)
    with pytest.raises(Unavailable):
        await read(home.downloads, ticket, 0, 10, timeout=0.5)
    server.close()


async def test_an_owner_who_dies_and_comes_back(both: tuple[Owner, Home]) -> None:
    owner, home = both
    ticket = await accepted(owner, home)
    content = content_of(SIZE)
    assert await read(home.downloads, ticket, 0, 10) == content[:10]
    await owner.stop()
    missing = next(Spans([(0, done(home.downloads))]).missing(0, SIZE), None)
    if missing is not None:
        with pytest.raises(Unavailable):
            await read(home.downloads, ticket, SIZE - 10, SIZE, timeout=0.5)
    await owner.start()
    assert await read(home.downloads, ticket, 0, SIZE) == content


async def test_an_owner_who_was_away_while_somebody_waited(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await accepted(owner, home, 400 * PIECE)
    content = content_of(400 * PIECE)
    await read(home.downloads, ticket, 0, PIECE)
    await owner.stop()
    # It is called often enough in vain for libtorrent to give up.
    with pytest.raises(Unavailable):
        await read(home.downloads, ticket, 399 * PIECE, 400 * PIECE, timeout=6)
    await owner.start()
    data = await read(home.downloads, ticket, 399 * PIECE, 400 * PIECE)
    assert data == content[399 * PIECE :]


async def test_an_owner_whose_file_was_edited_delivers_nothing_wrong(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    content = content_of(SIZE)
    ticket = await accepted(owner, home)
    with (owner.folder / ITEM).open("r+b") as file:
        file.seek(10 * PIECE)
        file.write(b"edited")
    assert await read(home.downloads, ticket, 0, PIECE) == content[:PIECE]
    with pytest.raises(Unavailable):
        await read(home.downloads, ticket, 10 * PIECE, 11 * PIECE, timeout=0.5)


# Tickets.


async def test_what_there_is_no_ticket_for(both: tuple[Owner, Home]) -> None:
    _, home = both
    with pytest.raises(NotFound):
        await home.downloads.file(OWNER, ITEM)
    with pytest.raises(NotFound):
        await home.downloads.wait(OWNER, ITEM, "a", 0, 1)
    with pytest.raises(NotFound):
        await home.downloads.pin(OWNER, ITEM)
    with pytest.raises(NotFound):
        await home.downloads.unpin(OWNER, ITEM)
    home.downloads.release(OWNER, ITEM, "a")
    await home.downloads.remove(OWNER, ITEM)


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "../../../../../../../etc/x"},
        {"owner": ""},
        {"torrent": "AAAA"},
        {"torrent": "%"},
        {"endpoints": ("example.com:4242",)},
        {"endpoints": ("127.0.0.1:22",)},
        {"expires": float("nan")},
        {"expires": float("inf")},
    ],
)
async def test_a_hostile_ticket_is_refused(
    both: tuple[Owner, Home], change: dict[str, object]
) -> None:
    owner, home = both
    ticket = await owner.share(content_of(PIECE), seed=False)
    with pytest.raises(BadRequest):
        await home.downloads.accept(replace(ticket, **change))  # type: ignore[arg-type]
    for facts in ({"id": "../x"}, {"size": 2**60}, {"size": PIECE - 1}, {"etag": "x"}):
        item = replace(ticket.item, **facts)  # type: ignore[arg-type]
        with pytest.raises(BadRequest):
            await home.downloads.accept(replace(ticket, item=item))
    assert home.downloads.list() == ()
    assert files(home.folder) == []


async def test_a_huge_item_takes_no_room_before_it_arrives(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await owner.share(b"x", seed=False)
    item = replace(ticket.item, size=2**42)
    await home.downloads.accept(replace(ticket, item=item, torrent=None))
    try:
        facts = await home.downloads.file(OWNER, ITEM)
    except DiskFull:
        return
    assert facts.size == 2**42
    assert disk_use(home.folder) < 2**20
    assert home.downloads.usage.used == 0


async def test_an_expired_ticket_fetches_nothing(
    both: tuple[Owner, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, home = both
    ticket = await accepted(owner, home, 400 * PIECE, seed=True)
    content = content_of(400 * PIECE)
    await read(home.downloads, ticket, 0, PIECE)
    with pytest.raises(Gone):
        await home.downloads.accept(replace(ticket, expires=1.0))
    set_clock(monkeypatch, 2 * 3600)
    # What is there is still there.
    assert await read(home.downloads, ticket, 0, PIECE) == content[:PIECE]
    with pytest.raises(Gone, match="expired"):
        await read(home.downloads, ticket, 399 * PIECE, 400 * PIECE)
    assert home.downloads.etag(OWNER, ITEM) is None


async def test_a_new_ticket_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "RENEWAL_INTERVAL", 1.0)
    asked: list[Ticket] = []

    async def renew(ticket: Ticket) -> Ticket:
        asked.append(ticket)
        if len(asked) == 1:
            raise Unavailable("Anna does not answer")
        return replace(await_this, expires=time.time() + 3600)

    async with pair(tmp_path, renew=renew) as (owner, home):
        await_this = await owner.share(content_of(SIZE))
        # At first the owner has not hashed it.
        unready = replace(await_this, torrent=None)
        await home.downloads.accept(unready)
        with pytest.raises(Unavailable, match="not got"):
            await read(home.downloads, unready, 0, 10, timeout=0.3)
        assert len(asked) == 1
        # It is asked again, but not at once.
        assert await read(home.downloads, unready, 0, SIZE) == content_of(SIZE)
        assert len(asked) == 2
        # And then it ends, and the file is gone.
        (path,) = files(home.folder)
        path.unlink()
        set_clock(monkeypatch, 2 * 3600)

        async def is_read() -> bool:
            try:
                data = await read(home.downloads, unready, 0, 10)
            except Gone:
                return False
            return data == content_of(SIZE)[:10]

        await until(is_read)
        assert len(asked) == 3


@pytest.mark.parametrize(("jump", "renewals"), [(-3600.0, 0), (86400.0, 1)])
async def test_a_clock_that_is_set_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float, renewals: int
) -> None:
    asked: list[Ticket] = []
    content = content_of(400 * PIECE)

    async def renew(ticket: Ticket) -> Ticket:
        asked.append(ticket)
        return replace(given, expires=time.time() + 3600)

    async with pair(tmp_path, renew=renew) as (owner, home):
        given = replace(await owner.share(content), expires=time.time() + 3600)
        await home.downloads.accept(given)
        assert await read(home.downloads, given, 0, PIECE) == content[:PIECE]
        set_clock(monkeypatch, jump)
        end = len(content) - PIECE
        assert await read(home.downloads, given, end, len(content)) == content[end:]
        assert len(asked) == renewals


async def test_another_version_replaces_the_former_one(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await accepted(owner, home)
    facts = await home.downloads.file(OWNER, ITEM)
    await read(home.downloads, ticket, 0, SIZE)
    await owner.unseed(ITEM)
    content = content_of(SIZE, 2)
    newer = await owner.share(content, etag='"2"')
    await home.downloads.accept(newer)
    with pytest.raises(Replaced):
        await home.downloads.wait(OWNER, ITEM, "a", 0, 1, path=facts.path)
    assert await read(home.downloads, newer, 0, SIZE) == content
    await until(lambda: not Path(facts.path).exists())
    assert home.downloads.usage.used == SIZE


async def test_other_hashes_are_another_version_whatever_the_tag_says(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await accepted(owner, home)
    await read(home.downloads, ticket, 0, SIZE)
    await owner.unseed(ITEM)
    content = content_of(SIZE, 2)
    await home.downloads.accept(await owner.share(content))
    assert await read(home.downloads, ticket, 0, SIZE) == content


async def test_a_new_salt_goes_on_where_the_old_one_was(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await accepted(owner, home, 400 * PIECE)
    content = content_of(400 * PIECE)
    await read(home.downloads, ticket, 0, 10 * PIECE)
    facts = await home.downloads.file(OWNER, ITEM)
    await owner.unseed(ITEM)
    meta = describe(content)
    await owner.seed(ITEM, meta)
    before = done(home.downloads)
    await home.downloads.accept(replace(ticket, torrent=armored(meta)))
    assert done(home.downloads) == before
    data = await read(home.downloads, ticket, 0, 400 * PIECE)
    assert data == content
    assert (await home.downloads.file(OWNER, ITEM)).inode == facts.inode


async def test_what_is_not_shared_any_more_is_removed(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await accepted(owner, home, seed=False)
    waiting = asyncio.create_task(home.downloads.wait(OWNER, ITEM, "a", 0, 1, 20))
    await until(lambda: bool(files(home.folder)))
    await home.downloads.remove(OWNER)
    with pytest.raises(Gone):
        await waiting
    assert files(home.folder) == []
    with pytest.raises(NotFound):
        await home.downloads.file(ticket.owner, ITEM)


async def test_tickets_that_nothing_is_done_with_are_bounded(
    both: tuple[Owner, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "MAX_UNUSED", 5)
    owner, home = both
    ticket = await owner.share(content_of(PIECE), seed=False)
    for char in "abcdefgh":
        item = replace(ticket.item, id=char * 26)
        await home.downloads.accept(replace(ticket, item=item))
    assert sum(bool(home.downloads.etag(OWNER, each * 26)) for each in "abcdefgh") == 5
    await home.downloads.file(OWNER, "h" * 26)
    with pytest.raises(NotFound):
        await home.downloads.file(OWNER, "a" * 26)


async def test_a_file_that_somebody_removes_is_made_anew(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await accepted(owner, home)
    await read(home.downloads, ticket, 0, SIZE)
    facts = await home.downloads.file(OWNER, ITEM)
    Path(facts.path).unlink()
    again = await home.downloads.file(OWNER, ITEM)
    assert again.path != facts.path
    assert not is_complete(home)
    assert await read(home.downloads, ticket, 0, SIZE) == content_of(SIZE)
    await asyncio.gather(
        *(home.downloads.file(OWNER, ITEM) for _ in range(5)),
        *(read(home.downloads, ticket, 0, 5, str(each)) for each in range(5)),
    )
    assert len(files(home.folder)) == 1


# Restarts.


async def test_after_a_clean_end_nothing_is_fetched_again(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await accepted(owner, home)
    await read(home.downloads, ticket, 0, 10 * PIECE)
    before = done(home.downloads)
    assert before >= 10 * PIECE
    await home.stop()
    await owner.stop()
    await home.start()
    (status,) = home.downloads.list()
    assert status.done == before
    assert status.state == TransferState.IDLE
    content = content_of(SIZE)
    assert (
        await read(home.downloads, ticket, 0, before // PIECE * PIECE)
        == (content[: before // PIECE * PIECE])
    )
    # And the rest is fetched as before.
    await owner.start()
    assert await read(home.downloads, ticket, 0, SIZE) == content


async def test_after_a_crash_everything_is_checked(both: tuple[Owner, Home]) -> None:
    owner, home = both
    ticket = await accepted(owner, home)
    content = content_of(SIZE)
    await read(home.downloads, ticket, 0, SIZE)
    await home.crash()
    await owner.stop()
    (path,) = files(home.folder)
    with path.open("r+b") as file:
        file.seek(5 * PIECE + 100)
        file.write(b"damage")
    await home.start()
    assert await read(home.downloads, ticket, 20 * PIECE, SIZE) == content[20 * PIECE :]
    await until(lambda: done(home.downloads) == SIZE - PIECE)
    with pytest.raises(Unavailable):
        await read(home.downloads, ticket, 5 * PIECE, 6 * PIECE, timeout=0.5)
    await owner.start()
    assert await read(home.downloads, ticket, 0, SIZE) == content
    # What was checked is believed the next time.
    await home.stop()
    await owner.stop()
    await home.start()
    assert done(home.downloads) == SIZE


async def test_a_file_that_was_touched_while_the_engine_was_away_is_checked(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    ticket = await accepted(owner, home)
    await read(home.downloads, ticket, 0, SIZE)
    await home.stop()
    (path,) = files(home.folder)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    await home.start()
    assert await read(home.downloads, ticket, 0, SIZE) == content_of(SIZE)


def is_sealed(folder: Path) -> bool:
    """Tell whether the database says that nothing writes to the only file any more."""
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        rows = database.execute("SELECT mtime_ns FROM downloads").fetchall()
    return rows[0][0] is not None


async def test_what_lies_idle_needs_no_check_even_after_a_crash(
    both: tuple[Owner, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "IDLE_TIMEOUT", 0.1)
    owner, home = both
    ticket = await accepted(owner, home)
    await read(home.downloads, ticket, 0, SIZE)
    await until(lambda: is_sealed(home.folder))
    await home.crash()
    # Whatever is checked is wrong.
    monkeypatch.setattr(checker, "check_pieces", lambda *_: set())
    await owner.stop()
    await home.start()
    assert done(home.downloads) == SIZE
    assert await read(home.downloads, ticket, 0, SIZE) == content_of(SIZE)


# Room.


async def test_the_least_recently_used_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = 16 * 4 * PIECE
    async with pair(tmp_path, CacheSettings(quota=quota, reserve=0)) as (owner, home):
        tickets = []
        for char in "abc":
            ticket = await owner.share(content_of(15 * PIECE, ord(char)), char * 26)
            await home.downloads.accept(ticket)
            await read(home.downloads, ticket, 0, 15 * PIECE)
            tickets.append(ticket)
        await home.downloads.pin(OWNER, "b" * 26)
        # Nobody has read them for long.
        set_clock(monkeypatch, 2 * reading.LEASE)
        # One more, and one more reader of the oldest.
        held = await home.downloads.wait(OWNER, "a" * 26, "held", 0, 10)
        assert held == 10
        ticket = await owner.share(content_of(30 * PIECE, 9), "d" * 26)
        await home.downloads.accept(ticket)
        assert await read(home.downloads, ticket, 0, 30 * PIECE) == content_of(
            30 * PIECE, 9
        )
        await until(lambda: not done(home.downloads, "c" * 26))
        assert done(home.downloads, "a" * 26) == 15 * PIECE
        assert done(home.downloads, "b" * 26) == 15 * PIECE
        assert home.downloads.usage.used <= quota
        # It can be fetched again without another ticket.
        home.downloads.release(OWNER, "a" * 26, "held")
        assert (
            await read(home.downloads, tickets[2], 0, PIECE)
            == content_of(15 * PIECE, ord("c"))[:PIECE]
        )


async def test_a_film_larger_than_the_cache_plays_and_seeks(tmp_path: Path) -> None:
    size, quota = 160 * PIECE, 48 * PIECE
    async with pair(tmp_path, CacheSettings(quota=quota, reserve=0)) as (owner, home):
        await accepted(owner, home, size)
        content = content_of(size)
        facts = await home.downloads.file(OWNER, ITEM)
        most = 0
        file = os.open(facts.path, os.O_RDONLY)
        for begin in (0, 80 * PIECE, 10 * PIECE, 0):
            at, stop = begin, begin + 60 * PIECE
            while at < stop:
                end = await home.downloads.wait(
                    OWNER, ITEM, "a", at, stop, 20, path=facts.path
                )
                assert os.pread(file, end - at, at) == content[at:end]
                at = end
                most = max(most, home.downloads.usage.used)
        os.close(file)
        assert most <= quota
        assert disk_use(home.folder) <= quota + 4 * PIECE


async def test_a_slow_disk_is_not_a_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    punch = Cache.punch

    def slowly(self: Cache, path: Path, spans: Sequence[tuple[int, int]]) -> None:
        time.sleep(0.2)
        punch(self, path, spans)

    monkeypatch.setattr(Cache, "punch", slowly)
    size, quota = 90 * PIECE, 48 * PIECE
    async with pair(tmp_path, CacheSettings(quota=quota, reserve=0)) as (owner, home):
        ticket = await accepted(owner, home, size)
        # It is read as fast as it comes: what is made free is taken while the disk is still at it.
        assert await read(home.downloads, ticket, 0, size) == content_of(size)
        assert home.downloads.usage.used <= quota
        assert home.downloads.problems == ()


async def test_an_offline_copy_is_fetched_and_kept_across_restarts(
    both: tuple[Owner, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = count_rounds(monkeypatch)
    owner, home = both
    await accepted(owner, home, 100 * PIECE)
    await home.downloads.pin(OWNER, ITEM)
    await until(lambda: done(home.downloads) > 0)
    await home.stop()
    await home.start()
    (status,) = home.downloads.list()
    assert status.pinned
    await until(lambda: done(home.downloads) == 100 * PIECE)
    (path,) = files(home.folder)
    assert path.read_bytes() == content_of(100 * PIECE)
    assert home.downloads.usage.pinned == 100 * PIECE
    # Not even a quota of nothing takes it.
    set_clock(monkeypatch, 2 * reading.LEASE)
    for quota in (1, 2, 3):
        # Each round begins when the one before has ended.
        before = rounds()
        home.downloads.apply(CacheSettings(quota=quota, reserve=0))
        await until(lambda: rounds() > before)  # noqa: B023
    assert done(home.downloads) == 100 * PIECE
    await home.downloads.unpin(OWNER, ITEM)
    home.downloads.apply(CacheSettings(quota=4, reserve=0))
    await until(lambda: not files(home.folder))
    assert home.downloads.usage.used == 0


@pytest.mark.parametrize("kept", [True, False], ids=["an offline copy", "a reader"])
async def test_who_waits_for_room_does_not_keep_the_house_busy(
    both: tuple[Owner, Home], monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    owner, home = both
    if kept:
        # The disk is full.
        monkeypatch.setattr(Cache, "free", lambda self: 0)
        await home.stop()
        await home.start()
    rounds = count_rounds(monkeypatch)
    ticket = await accepted(owner, home)
    if kept:
        await home.downloads.pin(OWNER, ITEM)
        await until(lambda: home.downloads.list()[0].state is TransferState.FULL)
    else:
        # All that is there was promised to somebody, and is too much by now.
        await read(home.downloads, ticket, 0, SIZE)
        await home.downloads.wait(OWNER, ITEM, "tv", 0, SIZE)
        home.downloads.apply(CacheSettings(quota=PIECE, reserve=0))
        seen = rounds()
        await until(lambda: rounds() > seen)
    before = rounds()
    await asyncio.sleep(2)
    assert rounds() - before <= 4


async def test_an_offline_copy_that_does_not_fit_is_refused(
    both: tuple[Owner, Home],
) -> None:
    owner, home = both
    await accepted(owner, home)
    home.downloads.apply(CacheSettings(quota=SIZE, reserve=0))
    with pytest.raises(DiskFull):
        await home.downloads.pin(OWNER, ITEM)
    assert not home.downloads.list()


async def test_a_byte_takes_the_room_of_its_piece(tmp_path: Path) -> None:
    quota = 3 * PIECE + PIECE // 2
    async with pair(tmp_path, CacheSettings(quota=quota, reserve=0)) as (owner, home):
        film = await owner.share(content_of(3 * PIECE))
        song = await owner.share(content_of(PIECE, 1), "b" * 26)
        for ticket in (film, song):
            await home.downloads.accept(ticket)
        home.cache.can_punch = False
        facts = await home.downloads.file(OWNER, ITEM)
        for piece in range(3):
            start = piece * PIECE
            # Somebody who is still there.
            await home.downloads.wait(
                OWNER, ITEM, "tv", start, start + PIECE, path=facts.path
            )
        assert home.downloads.usage.used == 3 * PIECE
        with pytest.raises(DiskFull):
            await read(home.downloads, song, 0, 1)
        assert home.downloads.usage.used == 3 * PIECE


async def test_a_full_disk_is_one_problem_and_ends_with_its_cause(
    tmp_path: Path,
) -> None:
    changes = 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    async with pair(tmp_path, on_change=changed) as (owner, home):
        ticket = await accepted(owner, home)
        home.downloads.apply(CacheSettings(quota=2**40, reserve=2**50))
        with pytest.raises(DiskFull):
            await read(home.downloads, ticket, 0, 10)
        (problem,) = home.downloads.problems
        assert problem.key == ProblemKey.DISK_FULL
        assert problem.placeholders == {"path": str(home.folder)}
        assert home.downloads.list()[0].state == TransferState.FULL
        await until(lambda: changes > 0)
        home.downloads.apply(ROOMY)
        await until(lambda: not home.downloads.problems)
        assert await read(home.downloads, ticket, 0, SIZE) == content_of(SIZE)


async def test_a_small_disk_of_its_own_fills_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "cache"
    disk.mkdir()
    mounting = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    if await mounting.wait():
        pytest.skip("no disk can be mounted here")
    try:
        # The measure of what is free is taken as wrong, so that the write itself fails.
        monkeypatch.setattr(Cache, "free", lambda self: 2**40)
        async with pair(tmp_path) as (owner, home):
            ticket = await accepted(owner, home)
            with pytest.raises(DiskFull):
                await read(home.downloads, ticket, 0, SIZE)
            content = content_of(SIZE)
            # What arrived is right, and still given.
            there, given = done(home.downloads), 0
            for start in range(0, SIZE, PIECE):
                stop = min(SIZE, start + PIECE)
                try:
                    data = await read(home.downloads, ticket, start, stop, timeout=1)
                except (DiskFull, Unavailable):
                    continue
                assert data == content[start:stop]
                given += len(data)
            assert 0 < there <= given < SIZE
    finally:
        ending = await asyncio.create_subprocess_exec("umount", "-l", str(disk))
        await ending.wait()


# Everything at once.


@pytest.mark.parametrize("seed", range(3))
async def test_every_byte_is_right_whatever_happens(  # noqa: C901 - a table of mishaps
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads, seeks, stalls, dying peers, clean and unclean restarts, a small cache: against the files themselves."""
    monkeypatch.setattr(reading, "LEASE", 0.5)
    monkeypatch.setattr(fetcher, "IDLE_TIMEOUT", 0.3)
    numbers = random.Random(seed)
    quota = 40 * PIECE
    slow = SessionSettings(
        addresses=("127.0.0.1",), download_limit=20_000_000, lan_exempt=False
    )
    async with pair(
        tmp_path, CacheSettings(quota=quota, reserve=0), session_settings=slow
    ) as (owner, home):
        tickets = []
        for number, char in enumerate("abc"):
            size = (24 + number * 8) * PIECE + number
            tickets.append(await owner.share(content_of(size, number), char * 26))
            await home.downloads.accept(tickets[-1])
        served = failed = 0

        async def play(name: str, ticket: Ticket, start: int, stop: int) -> None:
            nonlocal served, failed
            content = owner.contents[ticket.item.id]
            try:
                data = await read(
                    home.downloads, ticket, start, stop, name, timeout=1.5
                )
            except (Unavailable, Gone, DiskFull):
                failed += 1
            else:
                assert data == content[start:stop]
                served += 1

        for step in range(14):
            readers = []
            for number in range(numbers.randrange(1, 5)):
                ticket = numbers.choice(tickets)
                start = numbers.randrange(ticket.item.size)
                length = numbers.choice([1, 1000, PIECE, 10 * PIECE, 2**40])
                stop = min(ticket.item.size, start + length)
                readers.append(
                    asyncio.create_task(play(f"{step}.{number}", ticket, start, stop))
                )
            await asyncio.sleep(numbers.random() * 0.3)
            match numbers.randrange(6):
                case 0:
                    await owner.stop()
                    await asyncio.sleep(numbers.random() * 0.5)
                    await owner.start()
                case 1:
                    await home.stop()
                case 2:
                    await home.crash()
                case 3:
                    numbers.choice(readers).cancel()
                case 4:
                    set_clock(monkeypatch, 100)
            await asyncio.gather(*readers, return_exceptions=True)
            for each in readers:
                if not each.cancelled() and (err := each.exception()) is not None:
                    raise err
            if home.running is None:
                await home.start()
                for ticket in tickets:
                    await home.downloads.accept(ticket)
                # What lay half there when it was killed counts as well now, and others make room for it.
                await until(lambda: home.downloads.usage.used <= quota)
            assert home.downloads.usage.used <= quota
        # In the end all of it can be had.
        for ticket in tickets:
            data = await read(home.downloads, ticket, 0, ticket.item.size, "last")
            assert data == owner.contents[ticket.item.id]
        assert served


FETCHING = """
import asyncio, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from pathlib import Path
from p2p.access import ticket as tickets
from receiving import Home, read

async def main():
    home = Home(Path(sys.argv[3]))
    downloads = await home.start()
    ticket = tickets.read(Path(sys.argv[4]).read_bytes(), kept=True)
    await downloads.accept(ticket)
    await read(downloads, ticket, 0, int(sys.argv[5]))
    print("read", flush=True)
    await read(downloads, ticket, 0, ticket.item.size)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_after_kill_9_every_byte_is_right(tmp_path: Path) -> None:
    async with pair(tmp_path) as (owner, home):
        await home.stop()
        size = 200 * PIECE
        content = content_of(size)
        ticket = await owner.share(content)
        saved = tmp_path / "ticket"
        saved.write_bytes(ticket.encode())
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FETCHING, str(ENGINE_PATH), str(Path(__file__).parent),
            str(home.folder), str(saved), str(20 * PIECE),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        assert await asyncio.wait_for(child.stdout.readline(), 60) == b"read\n"
        child.send_signal(signal.SIGKILL)
        await child.wait()
        (path,) = files(home.folder)
        # Besides what the kill left half written, bytes that never were right.
        with path.open("r+b") as file:
            file.seek(3 * PIECE)
            file.write(b"damage")
        await owner.stop()
        await home.start()
        assert (
            await read(home.downloads, ticket, 4 * PIECE, 20 * PIECE)
            == (content[4 * PIECE : 20 * PIECE])
        )
        with pytest.raises(Unavailable):
            await read(home.downloads, ticket, 3 * PIECE, 4 * PIECE, timeout=0.5)
        await owner.start()
        assert await read(home.downloads, ticket, 0, size) == content
