"""The session: real libtorrent on both ends, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from hashlib import sha1
import os
from pathlib import Path
import random
import socket
import threading

import pytest

from p2p.torrent import metainfo
from p2p.torrent.faults import SessionError
from p2p.torrent.metainfo import Metainfo
from p2p.torrent.priority import Priority
from p2p.torrent.session import Session, SessionSettings, Torrent
from tests.patience import until

SIZE = 3_000_000
LOCAL = SessionSettings(addresses=("127.0.0.1",))


class Events:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.pieces: set[int] = set()
        self.peers = 0
        self.faults: list[str] = []
        self.news = asyncio.Event()

    def piece_finished(self, index: int) -> None:
        self.pieces.add(index)
        self.news.set()

    def peer_connected(self) -> None:
        self.peers += 1
        self.news.set()

    def peer_lost(self) -> None:
        self.peers -= 1
        self.news.set()

    def failed(self, message: str) -> None:
        self.faults.append(message)
        self.news.set()

    async def until(self, done: object) -> None:
        assert callable(done)
        async with asyncio.timeout(30):
            while not done():
                self.news.clear()
                await self.news.wait()


def count(folder: str) -> int:
    return len(list(Path(folder).iterdir()))


def foreign_threads() -> int:
    """Return how many threads there are that are not Python's."""
    return count("/proc/self/task") - threading.active_count()


def describe(content: bytes, salt: bytes | None = None) -> Metainfo:
    length = metainfo.piece_length_for(len(content))
    pieces = b"".join(
        sha1(content[at : at + length]).digest()
        for at in range(0, len(content), length)
    )
    return metainfo.make(len(content), pieces, salt or os.urandom(16))


@pytest.fixture
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def film(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "shared" / "A film (ü, #1).mp4"
    path.parent.mkdir()
    path.write_bytes(content)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "part"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


@asynccontextmanager
async def two() -> AsyncGenerator[tuple[Session, Session]]:
    owner = await Session.open(LOCAL)
    receiver = await Session.open(LOCAL)
    try:
        yield owner, receiver
    finally:
        await receiver.close()
        await owner.close()


@pytest.fixture
async def sessions() -> AsyncGenerator[tuple[Session, Session]]:
    async with two() as both:
        yield both


async def fetching(
    sessions: tuple[Session, Session],
    meta: Metainfo,
    film: Path,
    target: Path,
) -> tuple[Torrent, Torrent, Events, Events]:
    served, got = Events(), Events()
    seed = await sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", served)
    torrent = await sessions[1].fetch(meta, target, "film", got)
    torrent.connect("127.0.0.1", sessions[0].port)
    return seed, torrent, served, got


async def test_a_file_arrives_and_every_finished_piece_can_be_read(
    sessions: tuple[Session, Session], content: bytes, film: Path, target: Path
) -> None:
    meta = describe(content)
    checked: set[int] = set()

    class Reading(Events):
        def piece_finished(self, index: int) -> None:
            at = index * meta.piece_length
            piece = target.read_bytes()[at : at + meta.piece_size(index)]
            assert sha1(piece).digest() == meta.digest(index)
            checked.add(index)
            super().piece_finished(index)

    got = Reading()
    await sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", Events())
    torrent = await sessions[1].fetch(meta, target, "film", got)
    torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
    torrent.connect("127.0.0.1", sessions[0].port)
    await got.until(lambda: len(checked) == meta.piece_count)
    assert target.read_bytes() == content
    assert film.read_bytes() == content


async def test_only_what_is_wanted_arrives(
    sessions: tuple[Session, Session], content: bytes, film: Path, target: Path
) -> None:
    meta = describe(content)
    _, torrent, _, got = await fetching(sessions, meta, film, target)
    await got.until(lambda: got.peers)
    torrent.want({7: Priority.NOW})
    await got.until(lambda: got.pieces)
    await asyncio.sleep(0.5)
    assert got.pieces == {7}
    torrent.want({2: Priority.LATER, 3: Priority.SOON})
    await got.until(lambda: len(got.pieces) == 3)
    assert got.pieces == {7, 2, 3}
    assert list(target.parent.iterdir()) == [target]


async def test_what_is_there_already_is_not_fetched_again(
    sessions: tuple[Session, Session], content: bytes, film: Path, target: Path
) -> None:
    meta = describe(content)
    half = meta.piece_count // 2
    with target.open("r+b") as file:
        file.write(content[: half * meta.piece_length])
    got = Events()
    await sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", Events())
    torrent = await sessions[1].fetch(
        meta,
        target,
        "film",
        got,
        [index < half for index in range(meta.piece_count)],
    )
    torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
    torrent.connect("127.0.0.1", sessions[0].port)
    await got.until(lambda: len(got.pieces) == meta.piece_count - half)
    assert min(got.pieces) == half
    assert target.read_bytes() == content
    rest = SIZE - half * meta.piece_length
    await until(lambda: torrent.status.downloaded >= rest)
    assert torrent.status.downloaded <= rest + 16 * 1024


async def test_removing_a_seed_cuts_its_receiver_and_leaves_another_alone(
    tmp_path: Path, content: bytes, film: Path, target: Path
) -> None:
    other = tmp_path / "cache" / "other"
    with other.open("wb") as file:
        file.truncate(SIZE)
    async with two() as (owner, receiver):
        mine, his = describe(content), describe(content)
        got, got_too = Events(), Events()
        seed = await owner.seed(mine, os.open(film, os.O_RDONLY), "film", Events())
        await owner.seed(his, os.open(film, os.O_RDONLY), "film", Events())
        first = await receiver.fetch(mine, target, "film", got)
        second = await receiver.fetch(his, other, "film", got_too)
        first.connect("127.0.0.1", owner.port)
        second.connect("127.0.0.1", owner.port)
        first.want({0: Priority.NOW})
        await got.until(lambda: got.pieces)
        await seed.remove()
        await got.until(lambda: not got.peers)
        first.want(dict.fromkeys(range(1, mine.piece_count), Priority.LATER))
        first.connect("127.0.0.1", owner.port)
        second.want(dict.fromkeys(range(his.piece_count), Priority.LATER))
        await got_too.until(lambda: len(got_too.pieces) == his.piece_count)
        assert got.pieces == {0}
        assert other.read_bytes() == content


async def test_a_seed_never_writes_to_a_file_that_was_edited(
    content: bytes, film: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer with the right content offers it; libtorrent would gladly repair the user's edit."""
    pack = SessionSettings.pack
    monkeypatch.setattr(
        SessionSettings,
        "pack",
        lambda settings: pack(settings) | {"optimistic_disk_retry": 1},
    )
    meta = describe(content)
    edited = content[:1000] + b"the user's edit" + content[1015:]
    film.write_bytes(edited)
    full = target.with_name("full")
    full.write_bytes(content)
    async with two() as (owner, receiver):
        hostile = await Session.open(LOCAL)
        try:
            seed = await owner.seed(meta, os.open(film, os.O_RDONLY), "film", Events())
            giving = await hostile.seed(
                meta, os.open(full, os.O_RDONLY), "film", Events()
            )
            got = Events()
            torrent = await receiver.fetch(meta, target, "film", got)
            torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
            torrent.connect("127.0.0.1", owner.port)
            await got.until(lambda: got.peers)
            for _ in range(8):
                seed.connect("127.0.0.1", hostile.port)
                giving.connect("127.0.0.1", owner.port)
                await asyncio.sleep(0.5)
            assert film.read_bytes() == edited
            assert 0 not in got.pieces
        finally:
            await hostile.close()
    assert film.read_bytes() == edited


async def test_a_peer_without_the_capability_gets_nothing(
    sessions: tuple[Session, Session], content: bytes, film: Path, target: Path
) -> None:
    """It knows everything but the salt; and another does not encrypt."""
    meta, guessed = describe(content), describe(content)
    await sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", Events())
    got = Events()
    torrent = await sessions[1].fetch(guessed, target, "film", got)
    torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
    torrent.connect("127.0.0.1", sessions[0].port)
    reader, writer = await asyncio.open_connection("127.0.0.1", sessions[0].port)
    writer.write(
        b"\x13BitTorrent protocol"
        + bytes(8)
        + bytes.fromhex(meta.info_hash)
        + b"-XX0000-123456789012"
    )
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    writer.close()
    assert got.pieces == set()
    assert target.read_bytes() == bytes(SIZE)


async def test_a_seed_whose_file_is_cut_short_says_so(
    sessions: tuple[Session, Session], content: bytes, film: Path, target: Path
) -> None:
    meta = describe(content)
    _, torrent, served, _ = await fetching(sessions, meta, film, target)
    os.truncate(film, 0)
    torrent.want({0: Priority.NOW})
    await served.until(lambda: served.faults)


async def test_a_seed_serves_the_file_that_was_opened_whatever_becomes_of_its_path(
    sessions: tuple[Session, Session], content: bytes, film: Path, target: Path
) -> None:
    meta = describe(content)
    _, torrent, served, got = await fetching(sessions, meta, film, target)
    film.unlink()
    film.write_bytes(bytes(SIZE))
    torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
    await until(lambda: len(got.pieces) == meta.piece_count)
    assert target.read_bytes() == content
    assert not served.faults


def descriptors_of(film: Path) -> int:
    """Return how often this process has a file open."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += str(link.readlink()).startswith(str(film))
    return found


async def test_a_file_is_open_for_as_long_as_it_is_seeded(
    sessions: tuple[Session, Session], content: bytes, film: Path
) -> None:
    meta = describe(content)
    other = describe(content, b"y" * 16)
    for _ in range(2):
        seed = await sessions[0].seed(
            meta, os.open(film, os.O_RDONLY), "film", Events()
        )
        assert descriptors_of(film) == 1
        # What is not added is not left open, and what is added stays.
        with pytest.raises(SessionError):
            await sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", Events())
        await until(lambda: descriptors_of(film) == 1)
        await seed.remove()
        await until(lambda: descriptors_of(film) == 0)
    # One that is given up while it is being added, and one that the session's end takes down.
    adding = asyncio.create_task(
        sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", Events())
    )
    await asyncio.sleep(0)
    adding.cancel()
    await asyncio.gather(adding, return_exceptions=True)
    await until(lambda: descriptors_of(film) == 0)
    await sessions[0].seed(other, os.open(film, os.O_RDONLY), "film", Events())
    await sessions[0].close()
    await until(lambda: descriptors_of(film) == 0)


async def test_limits_hold_and_can_be_lifted(
    tmp_path: Path, target: Path, film: Path
) -> None:
    content = os.urandom(SIZE)
    film.write_bytes(content)
    meta = describe(content)
    limited = SessionSettings(
        addresses=("127.0.0.1",), upload_limit=500_000, lan_exempt=False
    )
    owner = await Session.open(limited)
    receiver = await Session.open(LOCAL)
    try:
        _, torrent, _, got = await fetching((owner, receiver), meta, film, target)
        torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
        await got.until(lambda: got.peers)
        await asyncio.sleep(1.5)
        # 3 MB at 500 kB/s take 6 s.
        assert len(got.pieces) < meta.piece_count
        owner.apply(SessionSettings(addresses=("127.0.0.1",)))
        await got.until(lambda: len(got.pieces) == meta.piece_count)
    finally:
        await receiver.close()
        await owner.close()


async def test_peers_of_the_local_network_are_exempt(
    content: bytes, film: Path, target: Path
) -> None:
    meta = describe(content)
    limited = SessionSettings(
        addresses=("127.0.0.1",), upload_limit=20_000, lan_exempt=True
    )
    owner = await Session.open(limited)
    receiver = await Session.open(LOCAL)
    try:
        _, torrent, _, got = await fetching((owner, receiver), meta, film, target)
        torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
        # Two and a half minutes at the limit.
        await got.until(lambda: len(got.pieces) == meta.piece_count)
    finally:
        await receiver.close()
        await owner.close()


async def test_rates_and_counts_are_told(
    sessions: tuple[Session, Session], content: bytes, film: Path, target: Path
) -> None:
    meta = describe(content)
    seed, torrent, _, got = await fetching(sessions, meta, film, target)
    torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
    await got.until(lambda: len(got.pieces) == meta.piece_count)
    await until(lambda: sessions[0].stats.uploaded >= SIZE)
    await until(lambda: torrent.status.downloaded >= SIZE)
    await until(lambda: seed.status.uploaded >= SIZE)


async def test_the_same_torrent_twice_is_refused(
    sessions: tuple[Session, Session], content: bytes, film: Path
) -> None:
    meta = describe(content)
    await sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", Events())
    with pytest.raises(SessionError):
        await sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", Events())


async def test_a_removed_torrent_can_be_added_again(
    sessions: tuple[Session, Session], content: bytes, film: Path
) -> None:
    meta = describe(content)
    for _ in range(5):
        seed = await sessions[0].seed(
            meta, os.open(film, os.O_RDONLY), "film", Events()
        )
        await seed.remove()
        await seed.remove()
        seed.connect("127.0.0.1", 1)
        seed.want({0: Priority.NOW})


async def test_a_name_that_is_no_text_is_refused(
    sessions: tuple[Session, Session], content: bytes, film: Path
) -> None:
    with pytest.raises(SessionError):
        await sessions[0].fetch(
            describe(content),
            film.with_name(os.fsdecode(b"\xff.mp4")),
            "film",
            Events(),
        )


@pytest.mark.parametrize(
    ("host", "port"), [("host.example", 1), ("", 1), ("127.0.0.1", 0), ("::1", 65536)]
)
async def test_only_addresses_are_connected_to(
    sessions: tuple[Session, Session],
    content: bytes,
    film: Path,
    host: str,
    port: int,
) -> None:
    seed = await sessions[0].seed(
        describe(content), os.open(film, os.O_RDONLY), "film", Events()
    )
    with pytest.raises(ValueError):
        seed.connect(host, port)


async def test_another_kind_of_disk_access_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "p2p.torrent.session.session._DISK_IO", "posix_disk_constructor"
    )
    with pytest.raises(SessionError):
        await Session.open(LOCAL)


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = SessionSettings(addresses=("127.0.0.1",), port=port)
        session = await Session.open(settings)
        try:
            assert session.port != 0
        finally:
            await session.close()


async def is_closed(port: int) -> bool:
    """Tell whether nothing listens on a port of this machine."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def test_a_port_is_closed_and_opened_without_cutting_what_runs(
    sessions: tuple[Session, Session], content: bytes, film: Path, target: Path
) -> None:
    meta = describe(content)
    _, torrent, served, got = await fetching(sessions, meta, film, target)
    owner, port = sessions[0], sessions[0].port
    await got.until(lambda: got.peers)
    torrent.want({0: Priority.NOW})
    await got.until(lambda: got.pieces)

    owner.apply(replace(LOCAL, addresses=()))
    assert owner.port == 0
    assert await owner.listening() == 0
    await until(lambda: is_closed(port), 10)
    torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
    await got.until(lambda: len(got.pieces) == meta.piece_count)
    assert (served.peers, got.peers) == (1, 1)
    assert owner.port == 0

    owner.apply(LOCAL)
    assert not await is_closed(await owner.listening())


async def test_a_session_without_addresses_opens_no_port_and_connects_to_others(
    content: bytes, film: Path, target: Path
) -> None:
    owner = await Session.open(LOCAL)
    receiver = await Session.open(replace(LOCAL, addresses=()))
    try:
        assert receiver.port == await receiver.listening() == 0
        meta = describe(content)
        _, torrent, _, got = await fetching((owner, receiver), meta, film, target)
        torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
        await got.until(lambda: len(got.pieces) == meta.piece_count)
    finally:
        await receiver.close()
        await owner.close()


async def test_closing_leaves_no_thread_and_no_file(
    content: bytes, film: Path, target: Path
) -> None:
    async with two():  # What is loaded once stays.
        pass
    descriptors, threads = count("/proc/self/fd"), foreign_threads()
    async with two() as sessions:
        await fetching(sessions, describe(content), film, target)
    assert count("/proc/self/fd") == descriptors
    # The system takes a moment to clear away a thread that has ended.
    await until(lambda: foreign_threads() <= threads, 10)


async def test_a_torrent_that_is_none_leaves_no_file_open(
    sessions: tuple[Session, Session],
    content: bytes,
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_content: bytes) -> None:
        raise RuntimeError("broken")

    descriptors = count("/proc/self/fd")
    monkeypatch.setattr("libtorrent.torrent_info", broken)
    with pytest.raises(RuntimeError, match="broken"):
        await sessions[0].seed(
            describe(content), os.open(film, os.O_RDONLY), "film", Events()
        )
    await until(lambda: count("/proc/self/fd") == descriptors, 10)


async def test_who_gives_up_adding_leaves_no_torrent_and_can_come_back_at_once(
    sessions: tuple[Session, Session], content: bytes, film: Path
) -> None:
    meta = describe(content)
    for patience in (1, 2, 1, 5, 1):
        adding = asyncio.create_task(
            sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", Events()),
            name="adding",
        )
        for _ in range(patience):
            await asyncio.sleep(0)
        adding.cancel()
        # It may have been added before it could be told.
        with suppress(asyncio.CancelledError):
            await (await adding).remove()
    seed = await sessions[0].seed(meta, os.open(film, os.O_RDONLY), "film", Events())
    await seed.remove()
    assert sessions[0]._session is not None
    assert sessions[0]._session.get_torrents() == []


@pytest.mark.parametrize("salt", range(4))
async def test_adding_and_giving_up_in_any_order_loses_no_torrent(
    sessions: tuple[Session, Session], content: bytes, film: Path, salt: int
) -> None:
    meta = describe(content)
    chance = random.Random(salt)

    async def add_and_remove() -> None:
        opened = os.open(film, os.O_RDONLY)
        with suppress(SessionError):
            await (await sessions[0].seed(meta, opened, "film", Events())).remove()

    for _ in range(100):
        adding = []
        for _ in range(chance.randrange(2, 5)):
            adding.append(asyncio.create_task(add_and_remove(), name="adding"))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if chance.random() < 0.6:
                chance.choice(adding).cancel()
        for task in adding:
            if chance.random() < 0.5:
                task.cancel()
        # None of them is left waiting for an answer that never comes, which would take ten seconds.
        async with asyncio.timeout(5):
            await asyncio.wait(adding)
            opened = os.open(film, os.O_RDONLY)
            seed = await sessions[0].seed(meta, opened, "film", Events())
            await seed.remove()
    await until(lambda: descriptors_of(film) == 0)
