"""A ticket is worth something for as long as it lives, and nothing from its end on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
import time

import pytest

from p2p.access import tickets as tickets_module
from p2p.access.audience import Access
from p2p.access.ticket import Ticket, endpoint, read
from p2p.access.tickets import MAX_TTL, Tickets
from p2p.core.errors import BadRequest, Busy, NotFound, Unavailable
from p2p.core.sqlite import StoreFull
from p2p.models import EngineConfig, Kind, LocalFile, ShareConfig
from p2p.models.homes import FriendConfig
from p2p.torrent import hash_queue
from p2p.torrent.metainfo import Metainfo
from p2p.torrent.seed import SeedState
from tests.p2p.torrent.owned import (
    ANN,
    BOB,
    FILM,
    Folder,
    Owner,
    fetching,
    item_id,
    owning,
)
from tests.patience import until

HOME = "H" * 28
ELSEWHERE = "192.0.2.9"
"""An address that this home has, as far as it tells its friends."""
SHARE = ShareConfig(id="share", path="/", name="Share", kinds=(Kind.VIDEO,))
STRANGERS = EngineConfig(home_name="Home", shares=(SHARE,))
"""One share, and no friends."""
CONFIG = replace(
    STRANGERS,
    friends=tuple(
        FriendConfig(id=home, name=name, shares=("share",))
        for home, name in ((ANN, "Ann"), (BOB, "Bob"))
    ),
)
"""Two friends who may see the share."""


@asynccontextmanager
async def issuing(tmp_path: Path) -> AsyncIterator[tuple[Owner, Tickets]]:
    """Run an owner's side that gives out tickets to two friends."""
    async with configured(tmp_path, CONFIG) as (owner, made, _):
        yield owner, made


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[tuple[Owner, Tickets]]:
    async with issuing(tmp_path) as made:
        yield made


def torrent_of(ticket: Ticket) -> Metainfo:
    meta = ticket.metainfo()
    assert meta is not None
    return meta


def served(owner: Owner) -> set[str]:
    """Return the info-hashes that libtorrent itself knows."""
    assert owner.session._session is not None
    handles = owner.session._session.get_torrents()
    return {str(handle.info_hashes().v1) for handle in handles}


async def test_with_a_ticket_alone_the_item_can_be_fetched(
    office: tuple[Owner, Tickets], tmp_path: Path
) -> None:
    owner, tickets = office
    path = owner.folder.put(FILM, "film.mp4")
    sent = (await tickets.issue(FILM, ANN, 60, wait=30)).encode()
    ticket = read(sent)
    assert (ticket.owner, ticket.owner_name, ticket.receiver) == (HOME, "Home", ANN)
    assert 50 < ticket.expires - time.time() <= 60
    facts, file = ticket.item, await owner.folder.file(FILM)
    assert (facts.id, facts.name, facts.size) == (FILM, "film.mp4", file.size)
    assert (facts.etag, facts.duration) == (file.etag, 60.0)
    (address,) = ticket.addresses()
    assert address == (ELSEWHERE, port := owner.session.port)
    async with fetching(tmp_path) as fetcher:
        assert await fetcher.fetch(torrent_of(ticket), port) == path.read_bytes()


async def test_a_large_file_has_a_ticket_before_it_is_hashed(
    office: tuple[Owner, Tickets],
) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4", 1_500_000_000)
    early = await tickets.issue(FILM, ANN, 60, wait=0)
    assert early.torrent is None
    assert early.item.size == 1_500_000_000
    late = await tickets.issue(FILM, ANN, 60, wait=60)
    assert torrent_of(late).size == 1_500_000_000
    assert tickets.live == 1


async def test_an_empty_file_has_a_ticket_without_a_torrent(
    office: tuple[Owner, Tickets],
) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4", 0)
    ticket = await tickets.issue(FILM, ANN, 60, wait=30)
    assert read(ticket.encode()) == ticket
    assert (ticket.item.size, ticket.torrent) == (0, None)


async def test_each_receiver_has_a_torrent_of_its_own(
    office: tuple[Owner, Tickets],
) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4")
    anns = torrent_of(await tickets.issue(FILM, ANN, 60, wait=30))
    bobs = torrent_of(await tickets.issue(FILM, BOB, 60, wait=30))
    again = torrent_of(await tickets.issue(FILM, ANN, 60, wait=30))
    assert anns == again
    assert anns.pieces == bobs.pieces
    assert anns.info_hash != bobs.info_hash
    assert served(owner) == {anns.info_hash, bobs.info_hash}


async def test_a_revoked_ticket_is_worth_nothing(
    office: tuple[Owner, Tickets], tmp_path: Path
) -> None:
    owner, tickets = office
    path = owner.folder.put(FILM, "film.mp4", 20_000_000)
    anns = torrent_of(await tickets.issue(FILM, ANN, 60, wait=30))
    bobs = torrent_of(await tickets.issue(FILM, BOB, 60, wait=30))
    present = owner.seeds.served(ANN, FILM)
    assert present is not None
    present.torrent.limit_upload(1_000_000)
    async with fetching(tmp_path) as fetcher:
        torrent, _, ann = await fetcher.begin(anns, owner.session.port)
        await until(lambda: bool(ann.finished))
        await tickets.revoke(ANN)
        assert served(owner) == {bobs.info_hash}
        await until(lambda: ann.lost > 0)
        got = len(ann.finished)
        # A new ticket works, and does not bring the old one back.
        renewed = torrent_of(await tickets.issue(FILM, ANN, 60, wait=30))
        assert renewed.info_hash not in {anns.info_hash, bobs.info_hash}
        content = await fetcher.fetch(renewed, owner.session.port)
        assert content == path.read_bytes()
        for _ in range(4):
            torrent.connect("127.0.0.1", owner.session.port)
            await asyncio.sleep(0.5)
        assert len(ann.finished) == got
        # What Ann got of Bob's would help her, so she does not get to know it: the salts are unrelated.
        assert len({anns.salt, bobs.salt, renewed.salt}) == 3


async def test_one_item_can_be_revoked_alone(office: tuple[Owner, Tickets]) -> None:
    owner, tickets = office
    song = item_id("song")
    owner.folder.put(FILM, "film.mp4")
    owner.folder.put(song, "song.mp3")
    await tickets.issue(FILM, ANN, 60, wait=30)
    kept = torrent_of(await tickets.issue(song, ANN, 60, wait=30))
    await tickets.revoke(ANN, FILM)
    assert served(owner) == {kept.info_hash}
    await tickets.revoke(ANN, FILM)
    await tickets.revoke(BOB)
    assert served(owner) == {kept.info_hash}
    assert tickets.live == 1


async def test_a_ticket_ends_with_its_time(office: tuple[Owner, Tickets]) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4")
    short = await tickets.issue(FILM, ANN, 2.0, wait=30)
    long = await tickets.issue(FILM, BOB, 60, wait=30)
    assert served(owner) == {
        torrent_of(short).info_hash,
        torrent_of(long).info_hash,
    }
    await until(lambda: served(owner) == {torrent_of(long).info_hash})
    assert time.time() >= short.expires
    # It is cut off first, and forgotten then.
    await until(lambda: [each.receiver for each in owner.store.grants()] == [BOB])
    after = torrent_of(await tickets.issue(FILM, ANN, 60, wait=30))
    assert after.salt != torrent_of(short).salt


async def test_asking_again_prolongs_a_ticket(office: tuple[Owner, Tickets]) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4")
    first = await tickets.issue(FILM, ANN, 1.5, wait=30)
    second = await tickets.issue(FILM, ANN, 60, wait=30)
    third = await tickets.issue(FILM, ANN, 1.5, wait=30)
    assert first.expires < second.expires == pytest.approx(third.expires)
    await asyncio.sleep(2)
    assert served(owner) == {torrent_of(first).info_hash}


async def test_after_a_restart_live_tickets_are_served_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song, photo = item_id("song"), item_id("photo")
    async with issuing(tmp_path) as (owner, tickets):
        for item in (FILM, song, photo):
            owner.folder.put(item, f"{item}.mp4")
        kept = torrent_of(await tickets.issue(FILM, ANN, 60, wait=30))
        await tickets.issue(song, ANN, 60, wait=30)
        await tickets.issue(photo, ANN, 1.0, wait=30)
        await tickets.revoke(ANN, song)
        files = owner.folder.names
        await tickets.stop()
    await asyncio.sleep(1)
    (tmp_path / "share").rename(tmp_path / "kept")
    async with owning(tmp_path) as owner:
        (tmp_path / "share").rmdir()
        (tmp_path / "kept").rename(tmp_path / "share")
        owner.folder.names = files
        # A restart hashes nothing.
        monkeypatch.setattr(hash_queue, "open_described", None)
        tickets = Tickets(
            owner.store,
            owner.seeds,
            Access(owner.folder, lambda: CONFIG),
            owner=HOME,
            owner_name=lambda: "Home",
            files=owner.folder.file,
            endpoints=list,
        )
        await tickets.start()
        assert served(owner) == set()
        await tickets.review()
        assert await owner.meta() == kept
        await until(lambda: len(owner.store.grants()) == 1)
        assert served(owner) == {kept.info_hash}
        assert torrent_of(await tickets.issue(FILM, ANN, 60, wait=30)) == kept
        await tickets.stop()


async def test_what_is_revoked_while_it_is_issued_stays_revoked(
    office: tuple[Owner, Tickets],
) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4", 300_000)
    refused = 0
    for number in range(60):
        issuing = asyncio.create_task(tickets.issue(FILM, ANN, 60, wait=30))
        for _ in range(number % 20):
            await asyncio.sleep(0)
        await asyncio.sleep(number % 7 / 1000)
        await tickets.revoke(ANN)
        try:
            ticket = await issuing
        except Unavailable:
            refused += 1
        else:
            # Either it was issued after all, or before: then it is dead.
            meta = ticket.metainfo()
            if meta is not None and tickets.live == 0:
                assert meta.info_hash not in served(owner)
        await tickets.revoke(ANN)
        assert served(owner) == set()
        assert owner.store.grants() == []
        assert owner.seeds.state(ANN, FILM) is SeedState.ASLEEP
    assert refused


async def test_a_revocation_that_cannot_be_kept_is_tried_again(
    office: tuple[Owner, Tickets], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4")
    await tickets.issue(FILM, ANN, 60, wait=30)
    monkeypatch.setattr(tickets_module, "_INTERVAL", 0.2)

    def full(grants: object) -> None:
        raise StoreFull("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(owner.store, "revoke", full)
        with pytest.raises(Unavailable):
            await tickets.revoke(ANN)
        # The transfer is cut all the same.
        assert served(owner) == set()
        assert len(owner.store.grants()) == 1
    await tickets.issue(FILM, BOB, 60, wait=30)
    await until(lambda: [each.receiver for each in owner.store.grants()] == [BOB])


async def test_a_ticket_is_given_although_it_cannot_be_kept(
    office: tuple[Owner, Tickets], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4")

    def full(grant: object) -> None:
        raise StoreFull("no space left")

    monkeypatch.setattr(owner.store, "grant", full)
    ticket = await tickets.issue(FILM, ANN, 60, wait=30)
    assert served(owner) == {torrent_of(ticket).info_hash}


async def test_an_edited_item_has_another_ticket(office: tuple[Owner, Tickets]) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4")
    before = await tickets.issue(FILM, ANN, 60, wait=30)
    owner.folder.put(FILM, "film.mp4", 2_000_000)
    owner.seeds.items_changed([FILM])
    await until(lambda: torrent_of(before).info_hash not in served(owner))
    now = await tickets.issue(FILM, ANN, 60, wait=30)
    assert now.item.etag != before.item.etag
    assert now.item.size == torrent_of(now).size == 2_000_000
    assert served(owner) == {torrent_of(now).info_hash}


@pytest.mark.parametrize(
    "receiver", ["", "ann", "a" * 28, "A" * 29, "A" * 27 + "\n", "../" + "A" * 25]
)
async def test_only_homes_get_tickets(
    office: tuple[Owner, Tickets], receiver: str
) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4")
    with pytest.raises(BadRequest):
        await tickets.issue(FILM, receiver, 60)
    assert owner.store.grants() == []


@pytest.mark.parametrize("ttl", [0, -1, MAX_TTL + 1, float("nan"), float("inf")])
async def test_a_ticket_lives_for_a_bounded_time(
    office: tuple[Owner, Tickets], ttl: float
) -> None:
    owner, tickets = office
    owner.folder.put(FILM, "film.mp4")
    with pytest.raises(BadRequest):
        await tickets.issue(FILM, ANN, ttl)
    assert owner.store.grants() == []


async def test_what_is_not_there_has_no_ticket(office: tuple[Owner, Tickets]) -> None:
    owner, tickets = office
    for item in (FILM, "", "../../etc/passwd"):
        with pytest.raises(NotFound):
            await tickets.issue(item, ANN, 60)
    owner.folder.put(FILM, "film.mp4")
    owner.folder.root.rename(owner.folder.root.with_name("unplugged"))
    with pytest.raises(Unavailable):
        await tickets.issue(FILM, ANN, 60)
    assert (owner.store.grants(), owner.seeds.active) == ([], 0)
    owner.folder.root.with_name("unplugged").rename(owner.folder.root)


async def test_nobody_gets_any_number_of_tickets(
    office: tuple[Owner, Tickets], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, tickets = office
    monkeypatch.setattr(tickets_module, "MAX_GRANTS", 2)
    items = [item_id(f"i{letter}") for letter in "abc"]
    for item in items:
        owner.folder.put(item, f"{item}.mp4", 1000)
    for item in items[:2]:
        await tickets.issue(item, ANN, 60, wait=30)
    with pytest.raises(Busy):
        await tickets.issue(items[2], ANN, 60)
    await tickets.issue(items[0], ANN, 60, wait=30)
    await tickets.issue(items[2], BOB, 60, wait=30)
    assert (await tickets.issue(items[1], ANN, 60, wait=30)).torrent


def friend(*shares: str) -> EngineConfig:
    """Return a configuration by which Ann is the only friend and may see these shares."""
    ann = FriendConfig(id=ANN, name="Ann", shares=shares)
    return replace(CONFIG, friends=(ann,))


def both_friends(*shares: str) -> EngineConfig:
    """Return a configuration by which Ann may see these shares, and Bob all."""
    return replace(CONFIG, friends=(*friend(*shares).friends, CONFIG.friends[1]))


@asynccontextmanager
async def configured(
    tmp_path: Path, config: EngineConfig, times: Times | None = None
) -> AsyncIterator[tuple[Owner, Tickets, list[EngineConfig]]]:
    """Run an owner's side with a configuration that can be exchanged, and perhaps a time of its own."""
    configs = [config]
    told = (
        {}
        if times is None
        else {
            "clock": lambda: times.clock,
            "passed": lambda: times.passed,
        }
    )
    async with owning(tmp_path) as owner:
        made = Tickets(
            owner.store,
            owner.seeds,
            Access(owner.folder, lambda: configs[-1]),
            owner=HOME,
            owner_name=lambda: "Home",
            files=owner.folder.file,
            endpoints=lambda: [
                endpoint(host, owner.session.port) for host in (ELSEWHERE, "127.0.0.1")
            ],
            **told,  # type: ignore[arg-type]
        )
        await made.start()
        try:
            yield owner, made, configs
        finally:
            await made.stop()


async def test_a_friend_has_tickets_only_for_what_it_may_see(tmp_path: Path) -> None:
    config = both_friends("other")
    async with configured(tmp_path, config) as (owner, tickets, configs):
        owner.folder.put(FILM, "film.mp4")
        with pytest.raises(NotFound, match="no such item"):
            await tickets.issue(FILM, ANN, 60)
        assert tickets.live == 0
        await tickets.issue(FILM, BOB, 60, wait=30)
        configs.append(both_friends("share"))
        await tickets.issue(FILM, ANN, 60, wait=30)
        assert len(served(owner)) == 2
        configs.append(both_friends())
        await tickets.review()
        assert [each.receiver for each in owner.store.grants()] == [BOB]
        assert len(served(owner)) == 1


async def test_what_is_moved_into_another_share_is_not_served_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets_module, "_GATHER", 0.05)
    private = replace(SHARE, id="private")
    both = replace(friend("share"), shares=(SHARE, private))
    async with configured(tmp_path, both) as (owner, tickets, _):
        owner.folder.put(FILM, "film.mp4")
        await tickets.review()
        await tickets.issue(FILM, ANN, 60, wait=30)
        owner.folder.share = "private"
        tickets.items_changed([FILM])
        await until(lambda: served(owner) == set())
        await until(lambda: owner.store.grants() == [])


async def test_what_moves_while_its_first_ticket_is_made_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets_module, "_GATHER", 0.05)
    private = replace(SHARE, id="private")
    both = replace(friend("share"), shares=(SHARE, private))
    find, looks = Folder.file, 0

    async def moved(folder: Folder, item: str) -> LocalFile:
        """Return the file, which is moved once its share was told."""
        nonlocal looks
        looks += 1
        found = await find(folder, item)
        if looks == 2:
            folder.share = "private"
            tickets.items_changed([item])
        return found

    monkeypatch.setattr(Folder, "file", moved)
    async with configured(tmp_path, both) as (owner, tickets, _):
        owner.folder.put(FILM, "film.mp4")
        await tickets.review()
        with suppress(Unavailable):
            await tickets.issue(FILM, ANN, 60, wait=30)
        await until(lambda: not tickets.live, 10)
        await until(lambda: served(owner) == set())


async def test_a_ticket_ends_with_the_friendship(tmp_path: Path) -> None:
    async with configured(tmp_path, friend("share")) as (owner, tickets, configs):
        owner.folder.put(FILM, "film.mp4")
        await tickets.issue(FILM, ANN, 60, wait=30)
        await tickets.review()
        assert len(served(owner)) == 1
        configs.append(STRANGERS)
        await tickets.review()
        assert (served(owner), owner.store.grants()) == (set(), [])


async def test_a_home_that_is_no_friend_gets_no_ticket(tmp_path: Path) -> None:
    async with configured(tmp_path, friend("share")) as (owner, tickets, _):
        owner.folder.put(FILM, "film.mp4")
        with pytest.raises(NotFound, match="no such item"):
            await tickets.issue(FILM, BOB, 60)
        assert tickets.live == 0


async def test_what_cannot_be_told_is_neither_served_nor_forgotten(
    tmp_path: Path,
) -> None:
    async with configured(tmp_path, CONFIG) as (owner, tickets, _):
        path = owner.folder.put(FILM, "film.mp4")
        meta = torrent_of(await tickets.issue(FILM, ANN, 60, wait=30))
    content = path.read_bytes()
    path.unlink()
    path.parent.rmdir()
    async with configured(tmp_path, CONFIG) as (owner, tickets, _):
        # The library has not got the share yet.
        owner.folder.share = "another"
        await tickets.review()
        assert (served(owner), tickets.live) == (set(), 1)
        owner.folder.share = "share"
        path.write_bytes(content)
        owner.folder.names[FILM] = path.name
        await tickets.review()
        assert (await owner.meta()).salt == meta.salt


async def test_before_the_first_review_news_of_the_library_decide_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets_module, "_GATHER", 0.0)
    async with configured(tmp_path, CONFIG) as (owner, tickets, _):
        owner.folder.put(FILM, "film.mp4")
        await tickets.issue(FILM, ANN, 60, wait=30)
    (tmp_path / "share").rename(tmp_path / "kept")
    async with configured(tmp_path, EngineConfig(home_name="")) as (
        owner,
        tickets,
        configs,
    ):
        tickets.items_changed(None)
        tickets.items_changed([FILM])
        for _ in range(20):
            await asyncio.sleep(0)
        assert (served(owner), tickets.live) == (set(), 1)
        configs.append(CONFIG)
        await tickets.review()
        assert (tickets.live, owner.store.grants()) == (0, [])


async def test_no_friend_is_sent_to_its_own_machine(tmp_path: Path) -> None:
    async with configured(tmp_path, CONFIG) as (owner, tickets, _):
        owner.folder.put(FILM, "film.mp4")
        told = (await tickets.issue(FILM, ANN, 60, wait=30)).endpoints
        assert told == (endpoint(ELSEWHERE, owner.session.port),)


HOUR, DAY = 3600.0, 86400.0


class Times:
    """A clock that somebody sets, and time that passes."""

    def __init__(self) -> None:
        self.clock = time.time()
        self.passed = 1000.0

    def wait(self, seconds: float) -> None:
        self.clock += seconds
        self.passed += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    # Nobody wakes who waits for a time that a test sets.
    monkeypatch.setattr(tickets_module, "_INTERVAL", 0.02)
    return Times()


async def test_a_clock_that_is_set_back_prolongs_no_ticket(
    tmp_path: Path, times: Times
) -> None:
    async with configured(tmp_path, CONFIG, times) as (owner, tickets, _):
        owner.folder.put(FILM, "film.mp4")
        await tickets.issue(FILM, ANN, 600, wait=30)
        times.clock -= HOUR
        times.wait(500)
        # Asking again does not either: it is good for so long from now on.
        again = await tickets.issue(FILM, ANN, 200, wait=30)
        assert again.expires == pytest.approx(times.clock + 200)
        times.wait(201)
        await until(lambda: served(owner) == set())
        await until(lambda: owner.store.grants() == [])


async def test_a_clock_that_is_set_ahead_ends_no_ticket_that_was_just_given(
    tmp_path: Path, times: Times
) -> None:
    async with configured(tmp_path, CONFIG, times) as (owner, tickets, _):
        owner.folder.put(FILM, "film.mp4")
        given = torrent_of(await tickets.issue(FILM, ANN, 600, wait=30))
        times.clock += DAY
        times.wait(300)
        again = await tickets.issue(FILM, ANN, 600, wait=30)
        assert torrent_of(again) == given
        assert again.expires == pytest.approx(times.clock + 600)
        times.clock -= DAY
        times.wait(599)
        later = await tickets.issue(FILM, ANN, 1, wait=30)
        assert torrent_of(later) == given
        times.wait(2)
        await until(lambda: served(owner) == set())


@pytest.mark.parametrize(("jump", "is_left"), [(-HOUR, True), (DAY, False)])
async def test_after_a_restart_only_the_clock_tells(
    tmp_path: Path, times: Times, jump: float, is_left: bool
) -> None:
    async with configured(tmp_path, CONFIG, times) as (owner, tickets, _):
        owner.folder.put(FILM, "film.mp4")
        await tickets.issue(FILM, ANN, 600, wait=30)
        names = owner.folder.names
    (tmp_path / "share").rename(tmp_path / "kept")
    times.clock += jump
    async with configured(tmp_path, CONFIG, times) as (owner, tickets, _):
        owner.folder.root.rmdir()
        (tmp_path / "kept").rename(owner.folder.root)
        owner.folder.names = names
        await tickets.review()
        assert tickets.live == is_left
        if is_left:
            await owner.meta()
            # As soon as the clock is right again, it counts.
            times.clock += HOUR + 601
        await until(lambda: (served(owner), owner.store.grants()) == (set(), []))


async def test_no_clock_makes_a_former_ticket_live_longer_than_any_may(
    tmp_path: Path, times: Times
) -> None:
    async with configured(tmp_path, CONFIG, times) as (owner, tickets, _):
        owner.folder.put(FILM, "film.mp4")
        await tickets.issue(FILM, ANN, 600, wait=30)
    (tmp_path / "share").rename(tmp_path / "kept")
    times.clock = 0.0
    async with configured(tmp_path, CONFIG, times) as (owner, tickets, _):
        assert tickets.live == 1
        times.passed += MAX_TTL + 1
        await until(lambda: tickets.live == 0)


async def test_a_review_that_is_given_up_is_made_none_the_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets_module, "_GATHER", 0.0)
    async with configured(tmp_path, friend("share")) as (owner, tickets, configs):
        owner.folder.put(FILM, "film.mp4")
        await tickets.issue(FILM, ANN, 60, wait=30)
        configs.append(friend())
        look, asked = owner.folder.shares_of, asyncio.Event()

        async def hanging(items: Collection[str]) -> dict[str, str]:
            asked.set()
            await asyncio.sleep(3600)
            return await look(items)

        with monkeypatch.context() as patch:
            patch.setattr(owner.folder, "shares_of", hanging)
            reviewing = asyncio.create_task(tickets.review())
            await asked.wait()
        reviewing.cancel()
        await until(lambda: (served(owner), owner.store.grants()) == (set(), []))
