"""The engine as a whole: what its parts do when one of them fails, or when the home becomes another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
import contextlib
from dataclasses import replace
import errno
import os
from pathlib import Path
import tempfile

import pytest

from p2p.access import endpoints, swarm
from p2p.access.ticket import Ticket
from p2p.core import atomic
from p2p.core.errors import Unavailable
from p2p.core.sqlite import StoreFull
from p2p.engine import Engine
from p2p.friends.catalogue_sync import FriendList
from p2p.friends.friends import Friends
from p2p.friends.pairings import Pairings
from p2p.library import Library
from p2p.library.shares import Shares
from p2p.models import (
    EngineConfig,
    Item,
    Kind,
    Problem,
    ProblemKey,
    SearchQuery,
    ShareConfig,
)
from p2p.models.homes import FriendConfig
from p2p.net.identity import Identity
from p2p.net.lan import Lan
from p2p.torrent import background
from p2p.torrent.faults import SessionError
from p2p.torrent.session import Session
from tests.p2p.media.make import film
from tests.patience import until

FRIEND = Identity.of(bytes([9] * 32)).id


CONFIG = EngineConfig(home_name="Ann")
BEFRIENDED = EngineConfig(
    home_name="Ann", friends=(FriendConfig(id=FRIEND, name="Bob"),)
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of its own, short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="pemus-") as name:
        yield Path(name)


def made(folder: Path, *, awaits_config: bool = False) -> Engine:
    return Engine(
        data=folder / "data",
        cache=folder / "cache",
        socket=folder / "socket",
        awaits_config=awaits_config,
    )


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[Engine]:
    running = made(folder)
    async with running.running(CONFIG):
        yield running


def ports(engine: Engine) -> tuple[int, int]:
    """Return the ports for homes in the local network, and for torrents."""
    status = engine.home.status()
    assert status.peers is not None
    assert status.swarm is not None
    return status.peers.port, status.swarm.port


async def test_no_port_is_open_before_it_is_known_what_the_user_wants(
    folder: Path,
) -> None:
    engine = made(folder)
    async with engine.running():
        assert ports(engine) == (0, 0)
        await engine.home.configure(EngineConfig(home_name="Ann", lan_visible=False))
        assert ports(engine) == (0, 0)
        await engine.home.configure(EngineConfig(home_name="Ann"))
        assert ports(engine)[0]
        assert ports(engine)[1] == 0


async def test_torrents_have_a_port_with_a_friend_only(engine: Engine) -> None:
    friend = FriendConfig(id=FRIEND, name="Bob")
    await engine.home.configure(EngineConfig(home_name="Ann", friends=(friend,)))
    await until(lambda: ports(engine)[1])
    await engine.home.configure(EngineConfig(home_name="Ann"))
    assert ports(engine)[1] == 0


def sharing(folder: Path, friend: str = FRIEND) -> EngineConfig:
    """Return the configuration of a home that shares a film with a friend."""
    folder.mkdir(parents=True)
    film(folder / "Lighthouse.mp4", seconds=1)
    share = ShareConfig(id="s", path=str(folder), name="Films", kinds=(Kind.VIDEO,))
    grant = FriendConfig(id=friend, name="Bob", shares=("s",))
    return EngineConfig(home_name="Ann", shares=(share,), friends=(grant,))


async def ticket_for(engine: Engine, item: str, receiver: str) -> Ticket:
    """Return a ticket with a torrent."""
    swarm = engine.components.active_swarm
    assert swarm is not None
    ticket = await swarm.issue(item, receiver, ttl=3600, wait=30)
    assert ticket.torrent is not None
    return ticket


async def the_film(engine: Engine) -> str:
    """Return the id of the one film that a home shares, once it is found: it is counted a moment before."""

    async def found() -> tuple[Item, ...]:
        return (
            await engine.components.library.search(SearchQuery(text="Lighthouse"))
        ).items

    await until(found)
    (item,) = await found()
    return item.id


def seeds(engine: Engine) -> int:
    status = engine.home.status().swarm
    return 0 if status is None else status.active_seeds


async def test_a_home_that_is_itself_again_serves_for_its_tickets(
    folder: Path,
) -> None:
    config = sharing(folder / "Films")
    key = folder / "data" / "identity"
    engine = made(folder)
    async with engine.running(CONFIG):
        await engine.home.configure(config)
        item = await the_film(engine)
        await ticket_for(engine, item, FRIEND)
        await until(lambda: seeds(engine))
    kept = key.read_bytes()
    key.write_bytes(b"half a key")
    engine = made(folder)
    async with engine.running(config):
        assert lost(engine)
        key.write_bytes(kept)
        await engine.home.restore_identity()
        await until(lambda: seeds(engine), 20)


async def test_torrents_that_did_not_start_do_with_the_next_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted meanwhile is then fetched by torrent."""

    async def broken(*arguments: object, **options: object) -> Session:
        raise SessionError("libtorrent does not start")

    # Both engines are on one machine.
    monkeypatch.setattr(endpoints, "is_elsewhere", lambda _address: True)
    monkeypatch.setattr(swarm, "is_elsewhere", lambda _address: False)
    engine, owner = made(folder), made(folder / "owner")
    with monkeypatch.context() as patch:
        patch.setattr(Session, "open", broken)
        running = engine.running(CONFIG)
        await running.__aenter__()
    try:
        async with owner.running(CONFIG):
            await owner.home.configure(sharing(folder / "Films", engine.home.id))
            assert engine.components.active_swarm is None
            item = await the_film(owner)
            ticket = await ticket_for(owner, item, engine.home.id)
            assert ticket.endpoints
            await engine.components.downloads.accept(ticket)
            await engine.home.configure(BEFRIENDED)
            assert engine.components.active_swarm is not None
            downloads = engine.components.downloads
            path = (await downloads.file(owner.home.id, item)).path
            async with asyncio.timeout(20):
                assert await downloads.wait(
                    owner.home.id, item, "player", 0, 1, path=path
                )
    finally:
        await running.__aexit__(None, None, None)


async def test_a_home_shares_though_its_cache_cannot_be_used(folder: Path) -> None:
    (folder / "cache").mkdir()
    cache = folder / "cache" / "downloads"
    cache.write_text("not a folder")
    engine = made(folder)
    async with engine.running(CONFIG):
        await engine.home.configure(sharing(folder / "Films"))
        await ticket_for(engine, await the_film(engine), FRIEND)
        await until(lambda: seeds(engine))
        with pytest.raises(Unavailable, match="no cache"):
            _ = engine.components.downloads
        # It is tried again with each configuration, and nothing else starts anew.
        swarm = engine.components.active_swarm
        cache.unlink()
        await engine.home.configure(engine.components.config)
        assert engine.components.downloads.list() == ()
        assert engine.components.active_swarm is swarm


def friends(engine: Engine) -> list[str]:
    peers = engine.home.status().peers
    assert peers is not None
    return [each.id for each in peers.friends]


async def test_who_was_removed_is_no_friend_even_if_the_library_cannot_be_written(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    friend = FriendConfig(id=FRIEND, name="Bob")
    await engine.home.configure(EngineConfig(home_name="Ann", friends=(friend,)))
    assert friends(engine) == [FRIEND]

    async def full(_self: Shares, _config: EngineConfig) -> None:
        raise StoreFull("no room")

    monkeypatch.setattr(Shares, "apply", full)
    with pytest.raises(Unavailable):
        await engine.home.configure(EngineConfig(home_name="Ann"))
    assert not friends(engine)
    # And not the other way round either.
    monkeypatch.undo()
    applied = asyncio.Event()
    whole = engine.components.library.apply

    async def noted(config: EngineConfig) -> None:
        await whole(config)
        applied.set()

    async def broken(_config: EngineConfig) -> None:
        raise OSError("broken")

    monkeypatch.setattr(engine.components.library, "apply", noted)
    monkeypatch.setattr(engine.components.active_friends, "apply", broken)
    with pytest.raises(OSError, match="broken"):
        await engine.home.configure(EngineConfig(home_name="Ann"))
    assert applied.is_set()


async def test_a_home_that_becomes_another_asks_nobody_any_more(engine: Engine) -> None:
    former = engine.home.id
    engine.components.friends.pairings.request(FRIEND, trusted=True)
    assert await engine.home.new_identity() != former
    peers = engine.home.status().peers
    assert peers is not None
    assert not peers.pairings


def lost(engine: Engine) -> Problem | None:
    """Return what the engine says of the identity it does not have."""
    for problem in engine.home.status().problems:
        if problem.key is ProblemKey.IDENTITY_LOST:
            return problem
    return None


async def works_alone(engine: Engine) -> None:
    """See that the library answers, and that nobody pretends to be a home."""
    assert (await engine.components.library.browse("")).node.id == ""
    assert engine.home.status().peers is None
    with pytest.raises(Unavailable):
        _ = engine.home.id


async def test_a_home_that_lost_its_key_waits_for_its_user_and_works_alone(
    folder: Path,
) -> None:
    key = folder / "data" / "identity"
    async with made(folder).running(CONFIG):
        pass
    kept = key.read_bytes()
    key.unlink()
    # Nobody is its friend any more, but somebody was asked or refused: the file says that there were others.
    for config in (CONFIG, BEFRIENDED):
        engine = made(folder)
        async with engine.running(config):
            problem = lost(engine)
            assert problem is not None
            assert problem.placeholders == {"path": str(key), "error": "it is missing"}
            await works_alone(engine)
            await engine.home.configure(config)
            assert not key.exists()
            with pytest.raises(Unavailable, match="it is missing"):
                await engine.home.restore_identity()
    engine = made(folder)
    async with engine.running(BEFRIENDED):
        key.write_bytes(kept)
        home = await engine.home.restore_identity()
        assert home == Identity.of(kept).id
        assert lost(engine) is None
        assert friends(engine) == [FRIEND]
        # There is nothing to bring back any more.
        assert await engine.home.restore_identity() == home


async def test_a_home_that_lost_its_key_becomes_another_if_its_user_says_so(
    folder: Path,
) -> None:
    key = folder / "data" / "identity"
    async with made(folder).running(CONFIG):
        pass
    key.write_bytes(b"half a key")
    engine = made(folder)
    async with engine.running(BEFRIENDED):
        assert lost(engine) is not None
        home = await engine.home.new_identity()
        assert lost(engine) is None
        assert engine.home.status().peers is not None
    (aside,) = key.parent.glob("identity.broken-*")
    assert aside.read_bytes() == b"half a key"
    engine = made(folder)
    async with engine.running(BEFRIENDED):
        assert engine.home.id == home


async def test_a_home_that_lost_all_its_data_makes_no_identity_before_it_hears_of_its_friends(
    folder: Path,
) -> None:
    key = folder / "data" / "identity"
    engine = made(folder, awaits_config=True)
    async with engine.running():
        await works_alone(engine)
        assert lost(engine) is None
        await engine.home.configure(BEFRIENDED)
        assert lost(engine) is not None
        assert not key.exists()
        # It was told that it has none by now, after it lost its only one.
        await engine.home.configure(CONFIG)
        assert lost(engine) is None
        home = engine.home.id
    async with made(folder, awaits_config=True).running():
        pass
    assert Identity.of(key.read_bytes()).id == home


async def test_a_new_home_has_an_identity_once_it_is_configured(folder: Path) -> None:
    engine = made(folder, awaits_config=True)
    async with engine.running():
        await engine.home.configure(CONFIG)
        assert lost(engine) is None
        assert engine.home.id


async def test_a_disk_that_is_full_at_the_first_start_gives_no_identity_but_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    engine = made(folder)
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", full)
        async with engine.running(CONFIG):
            await works_alone(engine)
            patch.undo()
            await engine.home.configure(CONFIG)
            assert engine.home.id


async def test_hashing_waits_while_bytes_are_played_and_not_for_a_player_that_is_paused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm, "PLAYBACK_TIMEOUT", 1.0)
    monkeypatch.setattr(background, "PAUSE", 0.1)
    films = folder / "films"
    films.mkdir()
    film = films / "film.mp4"
    film.write_bytes(bytes(3_000_000))
    os.utime(film, (1_600_000_000, 1_600_000_000))
    share = ShareConfig(id="s", path=str(films), name="Films", kinds=tuple(Kind))
    engine = made(folder)

    def progress() -> tuple[int, int]:
        status = engine.home.status().swarm
        assert status is not None
        return status.hashed, status.hashable

    def play() -> None:
        assert engine.components.active_swarm is not None
        engine.components.active_swarm.streaming()

    def playing() -> tuple[int, int]:
        play()
        return progress()

    async with engine.running(CONFIG):
        play()
        await engine.home.configure(replace(CONFIG, shares=(share,)))
        await until(lambda: playing()[1] == 3_000_000)
        with contextlib.suppress(TimeoutError):
            # Longer than it takes, and than what was played before counts.
            await until(lambda: playing()[0], 2)
        assert progress() == (0, 3_000_000)
        # The player is paused, or the engine was started again and nobody plays any more: nobody says so.
        await until(lambda: progress() == (3_000_000, 3_000_000))


def tasks(name: str) -> list[str]:
    """Return the names of the tasks that begin like this."""
    return [
        task.get_name()
        for task in asyncio.all_tasks()
        if task.get_name().startswith(name)
    ]


class Slow:
    """Something that takes as long as a test wants."""

    def __init__(
        self, patch: pytest.MonkeyPatch, owner: type[object], name: str
    ) -> None:
        self.begun = 0
        self.go_on = asyncio.Event()
        whole = getattr(owner, name)

        async def slowed(*arguments: object, **options: object) -> object:
            self.begun += 1
            await self.go_on.wait()
            return await whole(*arguments, **options)

        patch.setattr(owner, name, slowed)


async def test_a_slow_configuration_is_not_applied_twice_by_the_next_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch, FriendList, "open")
    first = asyncio.create_task(engine.home.configure(BEFRIENDED))
    await until(lambda: slow.begun)
    # Whoever sent it lost patience and sends it again, as Home Assistant does.
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    again = asyncio.create_task(engine.home.configure(BEFRIENDED))
    with contextlib.suppress(TimeoutError):
        await until(lambda: slow.begun > 1, 0.5)
    slow.go_on.set()
    await again
    assert friends(engine) == [FRIEND]
    assert slow.begun == 1
    assert tasks("watch ") == ["watch Bob"]
    assert tasks("list ") == ["list Bob"]
    await engine.home.configure(CONFIG)
    assert not tasks("watch ")


async def test_of_two_configurations_the_later_one_counts(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch, FriendList, "open")
    former = asyncio.create_task(engine.home.configure(BEFRIENDED))
    await until(lambda: slow.begun)
    later = asyncio.create_task(engine.home.configure(CONFIG))
    await asyncio.sleep(0)
    slow.go_on.set()
    await asyncio.gather(former, later)
    assert friends(engine) == []
    assert not tasks("watch ")


async def test_a_new_identity_is_finished_also_when_nobody_waits_for_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = engine.home.id
    slow = Slow(monkeypatch, Friends, "stop")
    renewing = asyncio.create_task(engine.home.new_identity())
    await until(lambda: slow.begun)
    # The time for an answer is over.
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    # What is said meanwhile is for the new home.
    configuring = asyncio.create_task(engine.home.configure(BEFRIENDED))
    slow.go_on.set()
    await configuring
    assert friends(engine) == [FRIEND]
    assert engine.home.id != former


async def test_the_bytes_moved_do_not_fall_while_a_home_becomes_another(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer of them, and not none, would be taken for a correction and not for a new count."""
    monkeypatch.setattr(Friends, "moved", property(lambda _self: (500, 700)))
    slow = Slow(monkeypatch, Friends, "stop")
    renewing = asyncio.create_task(engine.home.new_identity())
    await until(lambda: slow.begun)
    status = engine.home.status().swarm
    slow.go_on.set()
    await renewing
    assert status is not None
    assert (status.downloaded, status.uploaded) == (500, 700)


async def test_an_engine_that_stops_in_the_middle_of_a_change_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    engine = made(folder)
    with monkeypatch.context() as patch:
        async with engine.running(CONFIG):
            slow = Slow(patch, FriendList, "open")
            configuring = asyncio.create_task(engine.home.configure(BEFRIENDED))
            await until(lambda: slow.begun)
    await asyncio.gather(configuring, return_exceptions=True)
    assert asyncio.all_tasks() == before


async def test_an_engine_that_stops_does_not_go_on_with_a_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = made(folder)
    with monkeypatch.context() as patch:
        async with engine.running(CONFIG):
            library = Slow(patch, Library, "apply")
            library.go_on.set()
            friends = Slow(patch, Friends, "apply")
            configuring = asyncio.create_task(engine.home.configure(BEFRIENDED))
            await until(lambda: friends.begun)
    await asyncio.gather(configuring, return_exceptions=True)
    assert library.begun == 0


async def test_friends_that_cannot_begin_leave_nothing_and_begin_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = made(folder)
    ports: list[int] = []
    whole = Lan.open

    async def noted(self: Lan, port: int) -> None:
        await whole(self, port)
        ports.append(self.port)

    def broken(_self: Pairings) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(Lan, "open", noted)
        patch.setattr(Pairings, "befriended", broken)
        async with engine.running(CONFIG):
            assert engine.home.status().peers is None
            assert not tasks("pairings")
            assert not tasks("save friends")
            assert ports[0]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", ports[0])
            patch.undo()
            await engine.home.configure(BEFRIENDED)
            assert friends(engine) == [FRIEND]
