"""A seed is what it should be within seconds, whatever happens to its file, and never harms it."""

from __future__ import annotations

import asyncio
import errno
from hashlib import sha1
import os
from pathlib import Path
import random
import shutil

import libtorrent as lt
import pytest

from p2p.core.errors import Busy
from p2p.torrent import hash_queue, seed as seed_module, seeds as seeds_module
from p2p.torrent.hash_queue import HashQueue, Job
from p2p.torrent.metainfo import Metainfo, make, piece_length_for
from p2p.torrent.seed import SeedState
from p2p.torrent.session import Session
from tests.p2p.torrent.owned import (
    ANN,
    BOB,
    FILM,
    LOCAL,
    LONG_AGO,
    Fetcher,
    Owner,
    Quiet,
    fetching,
    item_id,
    owning,
)
from tests.patience import until

SALT, OTHER_SALT = b"a" * 16, b"b" * 16


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files looked at often."""
    monkeypatch.setattr(seeds_module, "CHECK_INTERVAL", 0.6)
    monkeypatch.setattr(seeds_module, "IDLE_CHECK_INTERVAL", 0.6)
    monkeypatch.setattr(seed_module, "RETRY", 0.2)


def torrents(session: Session) -> set[str]:
    """Return the info-hashes that libtorrent itself knows."""
    assert session._session is not None
    return {str(each.info_hashes().v1) for each in session._session.get_torrents()}


def describe(content: bytes, salt: bytes = SALT) -> Metainfo:
    """Return the metainfo of some content, made without the code under test."""
    length = piece_length_for(len(content))
    pieces = b"".join(
        sha1(content[start : start + length], usedforsecurity=False).digest()
        for start in range(0, len(content), length)
    )
    return make(len(content), pieces, salt)


async def test_what_is_activated_can_be_fetched(owner: Owner, fetcher: Fetcher) -> None:
    path = owner.folder.put(FILM, "film.mp4")
    assert owner.seeds.state(ANN, FILM) is SeedState.ASLEEP
    owner.seeds.activate(ANN, FILM, SALT)
    assert owner.seeds.state(ANN, FILM) is SeedState.PREPARING
    served = await owner.seeds.ready(ANN, FILM, 30)
    assert served is not None
    assert served.meta == describe(path.read_bytes())
    assert owner.seeds.state(ANN, FILM) is SeedState.ACTIVE
    assert owner.seeds.active == 1
    assert owner.seeded == [(ANN, FILM, served.torrent)]
    content = await fetcher.fetch(served.meta, owner.session.port)
    assert content == path.read_bytes()


async def test_a_seed_can_never_be_managed_by_libtorrent(owner: Owner) -> None:
    owner.folder.put(FILM, "film.mp4")
    owner.seeds.activate(ANN, FILM, SALT)
    await owner.meta()
    assert owner.session._session is not None
    (handle,) = owner.session._session.get_torrents()
    assert handle.flags() & lt.torrent_flags.upload_mode
    assert not handle.flags() & lt.torrent_flags.auto_managed


async def test_a_seed_that_is_no_longer_wanted_cuts_its_receiver_off_alone(
    owner: Owner, fetcher: Fetcher
) -> None:
    path = owner.folder.put(FILM, "film.mp4", 40_000_000)
    owner.seeds.activate(ANN, FILM, SALT)
    owner.seeds.activate(BOB, FILM, OTHER_SALT)
    anns, bobs = await owner.meta(ANN), await owner.meta(BOB)
    assert anns.info_hash != bobs.info_hash
    for receiver in (ANN, BOB):
        served = owner.seeds.served(receiver, FILM)
        assert served is not None
        served.torrent.limit_upload(3_000_000)
    _, _, ann = await fetcher.begin(anns, owner.session.port)
    bobs_torrent, bobs_path, bob = await fetcher.begin(bobs, owner.session.port)
    await until(lambda: bool(ann.finished) and bool(bob.finished))
    await owner.seeds.deactivate(ANN)
    assert torrents(owner.session) == {bobs.info_hash}
    await until(lambda: ann.lost > 0)
    got = len(ann.finished)
    served = owner.seeds.served(BOB, FILM)
    assert served is not None
    served.torrent.limit_upload(0)
    await until(lambda: len(bob.finished) == bobs.piece_count, 60)
    assert bobs_path.read_bytes() == path.read_bytes()
    # What Ann learnt is worth nothing any more, also where she is introduced anew.
    async with asyncio.timeout(30):
        for _ in range(3):
            for torrent in fetcher.torrents:
                torrent.connect("127.0.0.1", owner.session.port)
            await asyncio.sleep(0.5)
    assert len(ann.finished) == got < anns.piece_count
    assert bobs_torrent.status.downloaded >= bobs.size


@pytest.mark.parametrize("told", [True, False], ids=["told", "found out"])
async def test_an_edited_file_is_served_as_it_is_now(
    owner: Owner, fetcher: Fetcher, watchful: None, told: bool
) -> None:
    path = owner.folder.put(FILM, "film.mp4")
    owner.seeds.activate(ANN, FILM, SALT)
    before = await owner.meta()
    with path.open("r+b") as opened:
        opened.seek(1_000_000)
        opened.write(b"edited")
    os.utime(path, (LONG_AGO, LONG_AGO + 60))
    if told:
        owner.seeds.items_changed([FILM])
    await until(lambda: before.info_hash not in torrents(owner.session))
    now = await owner.meta()
    assert now == describe(path.read_bytes())
    assert torrents(owner.session) == {now.info_hash}
    assert await fetcher.fetch(now, owner.session.port) == path.read_bytes()


async def test_a_replaced_file_is_served_as_it_is_now(
    owner: Owner, fetcher: Fetcher
) -> None:
    owner.folder.put(FILM, "film.mp4")
    owner.seeds.activate(ANN, FILM, SALT)
    before = await owner.meta()
    path = owner.folder.put(FILM, "film.mp4", 5_000_000)
    owner.seeds.items_changed(None)
    await until(lambda: before.info_hash not in torrents(owner.session))
    now = await owner.meta()
    assert await fetcher.fetch(now, owner.session.port) == path.read_bytes()


async def test_a_renamed_file_goes_on_as_the_same_torrent(
    owner: Owner, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = owner.folder.put(FILM, "film.mp4")
    content = path.read_bytes()
    owner.seeds.activate(ANN, FILM, SALT)
    meta = await owner.meta()
    path.rename(owner.folder.root / "other.mp4")
    owner.folder.names[FILM] = "other.mp4"
    # It is not read again.
    monkeypatch.setattr(hash_queue, "open_described", None)
    owner.seeds.items_changed([FILM])
    await until(lambda: len(owner.seeded) == 2)
    assert await owner.meta() == meta
    assert await fetcher.fetch(meta, owner.session.port) == content


async def test_a_deleted_file_is_served_no_more_until_it_is_back(
    owner: Owner, fetcher: Fetcher
) -> None:
    path = owner.folder.put(FILM, "film.mp4")
    owner.seeds.activate(ANN, FILM, SALT)
    meta = await owner.meta()
    path.rename(path.with_name("away"))
    owner.seeds.items_changed([FILM])
    await until(lambda: not torrents(owner.session))
    assert owner.seeds.state(ANN, FILM) is SeedState.UNAVAILABLE
    assert owner.seeds.served(ANN, FILM) is None
    path.with_name("away").rename(path)
    owner.seeds.items_changed([FILM])
    assert await owner.meta() == meta
    assert await fetcher.fetch(meta, owner.session.port) == path.read_bytes()


async def test_an_unplugged_disk_comes_back(owner: Owner, watchful: None) -> None:
    owner.folder.put(FILM, "film.mp4")
    owner.seeds.activate(ANN, FILM, SALT)
    meta = await owner.meta()
    away = owner.folder.root.with_name("unplugged")
    owner.folder.root.rename(away)
    # Nobody says so: it is found out, and so is that it is back.
    await until(lambda: not torrents(owner.session))
    away.rename(owner.folder.root)
    assert await owner.meta() == meta


async def test_a_file_that_changes_while_it_is_hashed_is_hashed_again(
    owner: Owner, watchful: None
) -> None:
    path = owner.folder.put(FILM, "film.mp4", 300_000_000)
    owner.seeds.activate(ANN, FILM, SALT)
    await until(lambda: owner.hasher.progress.done_bytes > 0)
    with path.open("r+b") as opened:
        opened.write(b"edited")
    os.utime(path, (LONG_AGO, LONG_AGO + 60))
    owner.seeds.items_changed([FILM])
    assert await owner.meta() == describe(path.read_bytes())


async def test_news_that_change_nothing_do_not_begin_anew(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = owner.folder.put(FILM, "film.mp4", 300_000_000)
    jobs = []
    add = HashQueue.add

    def note(queue: HashQueue, job: Job) -> None:
        jobs.append(job)
        add(queue, job)

    monkeypatch.setattr(HashQueue, "add", note)
    owner.seeds.activate(ANN, FILM, SALT)
    await until(lambda: owner.hasher.progress.done_bytes > 0)
    while owner.seeds.served(ANN, FILM) is None:
        owner.seeds.items_changed([FILM])
        await asyncio.sleep(0.02)
    for _ in range(20):
        owner.seeds.items_changed([FILM])
        await asyncio.sleep(0.01)
    assert len(jobs) == 1
    assert len(owner.seeded) == 1
    assert await owner.meta() == describe(path.read_bytes())


async def test_what_is_revoked_while_it_is_hashed_is_not_hashed_on(
    owner: Owner,
) -> None:
    owner.folder.put(FILM, "film.mp4", 1_000_000_000)
    owner.seeds.activate(ANN, FILM, SALT)
    await until(lambda: owner.hasher.progress.done_bytes > 0)
    await owner.seeds.deactivate(ANN, FILM)
    await until(lambda: owner.hasher.progress.files == 0)
    assert owner.seeds.state(ANN, FILM) is SeedState.ASLEEP
    assert not torrents(owner.session)


async def test_a_transfer_is_cut_although_the_disk_hangs(owner: Owner) -> None:
    owner.folder.put(FILM, "film.mp4")
    owner.seeds.activate(ANN, FILM, SALT)
    await owner.meta()
    owner.folder.hanging = True
    owner.seeds.items_changed([FILM])
    await until(lambda: owner.folder.waiting)
    async with asyncio.timeout(5):
        await owner.seeds.deactivate(ANN)
    assert not torrents(owner.session)


async def test_a_new_salt_is_another_torrent(owner: Owner) -> None:
    owner.folder.put(FILM, "film.mp4")
    owner.seeds.activate(ANN, FILM, SALT)
    before = await owner.meta()
    cut = owner.seeds.deactivate(ANN, FILM)
    # It is wanted again before the former torrent is gone.
    owner.seeds.activate(ANN, FILM, OTHER_SALT)
    await cut
    await until(lambda: torrents(owner.session) not in (set(), {before.info_hash}))
    now = await owner.meta()
    assert now.salt == OTHER_SALT
    assert torrents(owner.session) == {now.info_hash}


async def test_a_file_whose_name_is_no_text_is_served(
    owner: Owner, fetcher: Fetcher
) -> None:
    path = owner.folder.put(FILM, os.fsdecode(b"caf\xe9.mp4"))
    owner.seeds.activate(ANN, FILM, SALT)
    meta = await owner.meta()
    assert await fetcher.fetch(meta, owner.session.port) == path.read_bytes()


async def test_what_cannot_be_served_is_told_once(
    owner: Owner,
    watchful: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = []

    def refuse(file: object) -> int:
        refused.append(file)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    owner.folder.put(FILM, "film.mp4")
    opening = seed_module.open_described
    monkeypatch.setattr(seed_module, "open_described", refuse)
    owner.seeds.activate(ANN, FILM, SALT)
    assert await owner.seeds.ready(ANN, FILM, 30) is None
    assert owner.seeds.state(ANN, FILM) is SeedState.UNAVAILABLE
    await until(lambda: len(refused) >= 4)
    assert sum(record.levelname == "WARNING" for record in caplog.records) == 1
    (warning,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "Too many open files" in warning.message
    # Once there is room it is served.
    monkeypatch.setattr(seed_module, "open_described", opening)
    await owner.meta()


async def test_there_are_never_more_seeds_than_allowed(
    owner: Owner, fetcher: Fetcher
) -> None:
    items = [item_id(f"i{letter}") for letter in "abc"]
    for number, item in enumerate(items):
        owner.folder.put(item, f"{number}.mp4", 30_000_000)
    owner.seeds.limit = 2
    for item in items[:2]:
        owner.seeds.activate(ANN, item, SALT)
        await owner.meta(ANN, item)
    # The first is in use, so it is the second that has to go.
    served = owner.seeds.served(ANN, items[0])
    assert served is not None
    served.torrent.limit_upload(100_000)
    await fetcher.begin(served.meta, owner.session.port)
    await until(lambda: served.torrent.status.peers > 0)
    owner.seeds.activate(ANN, items[2], SALT)
    third = await owner.meta(ANN, items[2])
    await until(
        lambda: torrents(owner.session) == {served.meta.info_hash, third.info_hash}
    )
    assert owner.seeds.state(ANN, items[1]) is SeedState.ASLEEP
    owner.seeds.limit = 1
    with pytest.raises(Busy):
        owner.seeds.activate(BOB, items[1], SALT)
    assert owner.seeds.state(ANN, items[0]) is SeedState.ACTIVE


async def test_a_seed_that_nobody_uses_falls_asleep(
    owner: Owner, fetcher: Fetcher, watchful: None
) -> None:
    path = owner.folder.put(FILM, "film.mp4")
    owner.seeds.idle = 1.0
    owner.seeds.activate(ANN, FILM, SALT)
    meta = await owner.meta()
    await until(lambda: not torrents(owner.session))
    assert owner.seeds.state(ANN, FILM) is SeedState.ASLEEP
    owner.seeds.activate(ANN, FILM, SALT)
    assert await owner.meta() == meta
    # As long as somebody is there it stays awake.
    served = owner.seeds.served(ANN, FILM)
    assert served is not None
    served.torrent.limit_upload(300_000)
    assert await fetcher.fetch(meta, owner.session.port) == path.read_bytes()
    assert torrents(owner.session) == {meta.info_hash}


# What a seed must never do.


def edit_unnoticed(path: Path) -> bytes:
    """Change a file without changing its time, and return what is in it now."""
    before = path.stat()
    with path.open("r+b") as opened:
        opened.seek(1_000_000)
        opened.write(b"the user's edit")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return path.read_bytes()


async def attack(meta: Metainfo, original: Path, port: int, tmp_path: Path) -> None:
    """Have two hostile peers at a seed: one that makes it look at its pieces, and one that has what it misses."""
    async with fetching(tmp_path) as reader, fetching(tmp_path) as writer:
        listener = Quiet()
        giving = await writer.session.seed(
            meta, os.open(original, os.O_RDONLY), "original", listener
        )
        giving.connect("127.0.0.1", port)
        reading, *_ = await reader.begin(meta, port)
        for _ in range(16):
            reading.connect("127.0.0.1", port)
            giving.connect("127.0.0.1", port)
            await asyncio.sleep(0.5)


async def test_an_edited_file_is_never_overwritten_by_a_peer(
    owner: Owner, tmp_path: Path
) -> None:
    path = owner.folder.put(FILM, "film.mp4")
    original = tmp_path / "original"
    shutil.copy(path, original)
    assert owner.session._session is not None
    owner.session._session.apply_settings({"optimistic_disk_retry": 1})
    # Served by the session alone, so that nobody takes the seed down when it turns out to be wrong.
    listener = Quiet()
    meta = describe(path.read_bytes())
    await owner.session.seed(meta, os.open(path, os.O_RDONLY), "film", listener)
    edited = edit_unnoticed(path)
    await attack(meta, original, owner.session.port, tmp_path)
    # It was noticed, so the attack did reach what it is about.
    assert listener.finished
    assert path.read_bytes() == edited
    assert [each.name for each in owner.folder.root.iterdir()] == ["film.mp4"]


async def test_the_attack_is_real(tmp_path: Path) -> None:
    """Without upload mode the user's edit is lost: so the test above proves something."""
    path = tmp_path / "film.mp4"
    path.write_bytes(os.urandom(3_000_000))
    original = tmp_path / "original"
    shutil.copy(path, original)
    session = await Session.open(LOCAL)
    try:
        listener = Quiet()
        meta = describe(path.read_bytes())
        torrent = await session.seed(meta, os.open(path, os.O_RDONLY), "film", listener)
        torrent._handle.unset_flags(lt.torrent_flags.upload_mode)
        edited = edit_unnoticed(path)
        await attack(meta, original, session.port, tmp_path)
        assert path.read_bytes() != edited
    finally:
        await session.close()


async def test_a_file_that_is_not_what_was_hashed_is_hashed_again(
    owner: Owner, tmp_path: Path
) -> None:
    path = owner.folder.put(FILM, "film.mp4")
    original = tmp_path / "original"
    shutil.copy(path, original)
    owner.seeds.activate(ANN, FILM, SALT)
    meta = await owner.meta()
    edited = edit_unnoticed(path)
    await attack(meta, original, owner.session.port, tmp_path)
    assert path.read_bytes() == edited
    now = await owner.meta()
    assert now == describe(edited)
    assert torrents(owner.session) == {now.info_hash}


class Chaos:
    """Does anything to the files and wishes of a home, in an order that a number determines."""

    def __init__(self, owner: Owner, number: int) -> None:
        self.owner = owner
        self.chance = random.Random(number)
        self.items = [item_id(f"i{letter}") for letter in "abc"]
        self.wanted: dict[tuple[str, str], bytes] = {}
        self.cutting: list[asyncio.Future[None]] = []
        for item in self.items:
            owner.folder.put(item, f"{item}.mp4", 400_000)

    def act(self) -> None:
        item = self.chance.choice(self.items)
        if self.chance.randrange(3):
            self.touch(item)
        else:
            self.wish(item, self.chance.choice((ANN, BOB)))

    def wish(self, item: str, receiver: str) -> None:
        key = receiver, item
        if self.chance.randrange(3):
            salt = self.wanted.setdefault(key, self.chance.randbytes(16))
            self.owner.seeds.activate(receiver, item, salt)
        else:
            self.wanted.pop(key, None)
            cut = self.owner.seeds.deactivate(receiver, item)
            self.cutting.append(asyncio.ensure_future(cut))

    def touch(self, item: str) -> None:
        folder, chance = self.owner.folder, self.chance
        path = folder.path(item)
        match chance.randrange(6):
            case 0 if path.exists():
                with path.open("r+b") as opened:
                    opened.seek(chance.randrange(300_000))
                    opened.write(chance.randbytes(100))
            case 1:
                size = chance.choice((1, 300_000, 700_000))
                folder.put(item, path.name, size, LONG_AGO + chance.random())
            case 2:
                path.unlink(missing_ok=True)
            case 3 if path.exists():
                name = f"{chance.randrange(10**9)}.mp4"
                path.rename(path.with_name(name))
                folder.names[item] = name
            case 4:
                self.owner.seeds.items_changed([item])
            case 5:
                self.owner.seeds.items_changed(None)

    async def end(self) -> dict[str, tuple[str, str]]:
        """Let all files be there again, and return what is to be served of them."""
        folder = self.owner.folder
        for item in self.items:
            if not folder.path(item).exists():
                folder.put(item, f"{item}.mp4", 400_000)
            os.utime(folder.path(item), (LONG_AGO, LONG_AGO + 5000))
        self.owner.seeds.items_changed(self.items)
        await asyncio.gather(*self.cutting)
        return {
            describe(folder.path(key[1]).read_bytes(), salt).info_hash: key
            for key, salt in self.wanted.items()
        }


@pytest.mark.parametrize("number", range(6))
async def test_whatever_happens_in_whatever_order_ends_well(
    tmp_path: Path, fetcher: Fetcher, watchful: None, number: int
) -> None:
    async with owning(tmp_path, batches=bool(number % 2)) as owner:
        chaos = Chaos(owner, number)
        for _ in range(150):
            chaos.act()
            if chaos.chance.random() < 0.6:
                await asyncio.sleep(chaos.chance.choice((0, 0.001, 0.01, 0.05)))
        expected = await chaos.end()
        await until(lambda: torrents(owner.session) == set(expected), 40)
        for receiver, item in chaos.wanted:
            meta = await owner.meta(receiver, item)
            content = owner.folder.path(item).read_bytes()
            assert await fetcher.fetch(meta, owner.session.port) == content
        for receiver in (ANN, BOB):
            await owner.seeds.deactivate(receiver)
        assert not torrents(owner.session)
        for item in chaos.items:
            assert owner.seeds.state(ANN, item) is SeedState.ASLEEP
