"""Friends as a whole: two homes of this machine with a library each, over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
import secrets
import time

import pytest

from p2p.access.audience import Access
from p2p.access.swarm import Swarm
from p2p.access.ticket import ItemFacts, Ticket
from p2p.core.errors import EngineError, Unavailable
from p2p.core.news import News
from p2p.core.throttle import TokenBucket
from p2p.friends import catalogue_sync as lists, state as module
from p2p.friends.friends import Friends
from p2p.friends.pairing import Request
from p2p.friends.presence import Presence
from p2p.friends.sas import commitment
from p2p.friends.state import FILE, load
from p2p.models import (
    Counts,
    EngineConfig,
    Item,
    Kind,
    LocalFile,
    NewMedia,
    ShareConfig,
    ShareStatus,
)
from p2p.models.codec import encode
from p2p.models.homes import FriendConfig, LanHome, PairingState
from p2p.net.identity import Identity
from p2p.net.link.frames import Ask, Note, Reasons
from p2p.net.link.link import Link
from p2p.net.messages import seal
from p2p.serving.requests import TTL
from p2p.transfers.downloads import Downloads
from tests.p2p.catalogue.friends import Owner
from tests.patience import failing_once, until

STRANGER = Identity.of(bytes([9] * 32))
FACTS = ItemFacts(
    id="c" * 26,
    kind=Kind.VIDEO,
    name="Film.mp4",
    title="Film",
    content_type="video/mp4",
    size=1,
    etag='"1"',
    modified=0.0,
)
TICKET = Ticket(
    owner="",
    owner_name="Bob",
    receiver="",
    item=FACTS,
    torrent=None,
    endpoints=(),
    expires=2e9,
)


class Server:
    """A signalling server that asks for proofs, and takes no messages."""

    is_lan = False
    tells_apart = True
    origin = "signal.example"

    def send(self, home: str, message: object, *, reply: bool) -> bool:
        return False


class Reported(News):
    """What a home reports."""

    def __init__(self) -> None:
        super().__init__()
        self.media: list[NewMedia] = []

    def happened(self, media: NewMedia) -> None:
        self.media.append(media)


class Home:
    """A home with one share, which all of its friends may see."""

    def __init__(self, name: str, folder: Path, seed: bytes | None = None) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir(exist_ok=True)
        shares = folder / f"shares {secrets.token_hex(4)}"
        shares.mkdir()
        (folder / "data").mkdir(exist_ok=True)
        self.identity = Identity.of(seed or secrets.token_bytes(32))
        self.owner = Owner(shares)
        self.share = self.owner.share("Films")
        self.told = 0
        """How often somebody asked for the list."""
        self.revision = 0
        self.news = Reported()
        share = ShareConfig(
            id=self.share.id, path=str(shares), name="Films", kinds=(Kind.VIDEO,)
        )
        self.config = EngineConfig(home_name=name, shares=(share,))
        self.swarm: Swarm | None = None
        self.downloads: Downloads | None = None
        self.friends = Friends(
            self.identity,
            data=folder / "data",
            cache=folder / "cache",
            library=self,  # type: ignore[arg-type]
            catalogue=self,  # type: ignore[arg-type]
            access=Access(self, lambda: self.config),  # type: ignore[arg-type]
            swarm=lambda: self.swarm,
            downloads=lambda: self.downloads,
            news=self.news,
        )

    @property
    def id(self) -> str:
        return self.identity.id

    def put(self, *names: str) -> None:
        """Have some films more."""
        for name in names:
            self.owner.put(self.share, f"{name}.mp4")
        self.owner.scan()
        self.revision += 1
        self.friends.library_changed()

    def sees(self, *others: Home) -> None:
        """Let mDNS show other homes."""
        self.friends.connections.show(
            [
                LanHome(
                    id=each.id,
                    name=each.name,
                    addresses=("127.0.0.1",),
                    port=each.friends.status().port,
                )
                for each in others
            ]
        )

    async def befriend(self, *homes: str) -> None:
        """Have these friends, and no others."""
        friends = tuple(
            FriendConfig(id=home, name=home[:4], shares=(self.share.id,))
            for home in homes
        )
        self.config = replace(self.config, friends=friends)
        await self.friends.apply(self.config)

    async def is_visible(self, visible: bool) -> None:
        """Be visible in the local network, or no longer."""
        self.config = replace(self.config, lan_visible=visible)
        await self.friends.apply(self.config)

    def link(self, other: Home) -> Link | None:
        """Return the link to another home, if it is open."""
        return self.friends.connections.links.present(other.id)

    @property
    def is_opening(self) -> bool:
        """Tell whether more links are being opened."""
        links = self.friends.connections.links
        slots = [links.slot(link.home) for link in links.all]
        return any(
            each.own_offers.is_active or each.their_offers.is_active for each in slots
        )

    def hears(self, kind: str, body: bytes, sender: Identity) -> None:
        """Let a message come, as if by a server."""
        message = seal(sender, self.id, kind, body)
        self.friends.connections.messenger.receive(message, Server(), sender.id)

    # Its library.

    @property
    def shares(self) -> tuple[ShareStatus, ...]:
        return (
            ShareStatus(
                id=self.share.id, available=True, scanning=False, counts=Counts()
            ),
        )

    def pages(self, shares: Collection[str], have: str) -> AsyncGenerator[bytes]:
        self.told += 1
        return self.owner.catalogue.pages(shares, have)

    async def item(self, item_id: str) -> Item:
        raise NotImplementedError

    async def file(self, item_id: str) -> LocalFile:
        raise NotImplementedError

    async def thumbnail(self, item_id: str) -> LocalFile:
        raise NotImplementedError

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        raise NotImplementedError


@asynccontextmanager
async def at_home(
    name: str, folder: Path, seed: bytes | None = None
) -> AsyncIterator[Home]:
    home = Home(name, folder / name, seed)
    await home.friends.start(home.config)
    try:
        yield home
    finally:
        await home.friends.stop()
        home.owner.store.close()


@pytest.fixture
async def ann(tmp_path: Path) -> AsyncIterator[Home]:
    async with at_home("Ann", tmp_path) as home:
        yield home


@pytest.fixture
async def bob(tmp_path: Path) -> AsyncIterator[Home]:
    async with at_home("Bob", tmp_path) as home:
        yield home


async def linked(ann: Home, bob: Home, *others: str) -> Link:
    """Let two homes be friends, and return Ann's link to Bob."""
    await ann.befriend(bob.id, *others)
    await bob.befriend(ann.id)
    ann.sees(bob)
    bob.sees(ann)
    # Both may have begun: one link takes the place of the other then.
    await until(
        lambda: (
            ann.link(bob)
            and bob.link(ann)
            and not any(home.is_opening for home in (ann, bob))
        )
    )
    link = ann.link(bob)
    assert link is not None
    return link


def items(home: Home) -> int:
    (friend,) = home.friends.status().friends
    return friend.items


def whole_list() -> Ask:
    return Ask(do="catalogue")


def requesting(home: Home) -> None:
    made = commitment(bytes(32), STRANGER.key).hex()
    request = Request(request="00" * 16, name="Eve", commitment=made)
    home.hears("request", encode(request), STRANGER)


async def test_a_request_that_came_as_a_friends_does_not_outlast_that(
    ann: Home,
) -> None:
    await ann.befriend(STRANGER.id)
    requesting(ann)
    assert ann.friends.pairings.pairings
    await ann.befriend()
    assert not ann.friends.pairings.pairings


class Moving:
    """Downloads, and a swarm with seeds, in which something moves. Each answer looks at every torrent."""

    def __init__(self, down: dict[str, int], up: dict[str, int]) -> None:
        self._down, self._up = down, up
        self.seeds = self
        self.asked: list[str] = []

    def rates(self) -> dict[str, int]:
        self.asked.append("down")
        return self._down

    def upload_rates(self) -> dict[str, int]:
        self.asked.append("up")
        return self._up


async def test_the_rates_of_all_friends_are_measured_together(
    ann: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [Identity.of(bytes([number] * 32)).id for number in range(10, 20)]
    await ann.befriend(*homes)
    moving = Moving({homes[3]: 1000}, {homes[3]: 200})
    ann.downloads = ann.swarm = moving  # type: ignore[assignment]
    friends = {each.id: each for each in ann.friends.status().friends}
    assert friends[homes[3]].download_rate == 1000
    assert friends[homes[3]].upload_rate == 200
    assert friends[homes[4]].download_rate == 0
    assert sorted(moving.asked) == ["down", "up"]


async def test_a_fault_of_the_loop_that_looks_for_a_friend_does_not_end_it(
    ann: Home, bob: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = failing_once(monkeypatch, Presence, "ping")
    await ann.befriend(bob.id)
    await bob.befriend(ann.id)
    await until(lambda: failed)
    ann.sees(bob)
    await until(lambda: ann.friends.status().friends[0].online)


async def test_a_message_that_was_held_back_ends_no_link(ann: Home, bob: Home) -> None:
    link = await linked(ann, bob)
    ann.hears("ping", b'{"nonce": "00", "instance": "former"}', bob.identity)
    ann.hears("ping", b'{"nonce": "00"}', bob.identity)
    # The link still carries requests.
    with pytest.raises(EngineError):
        await link.ask_whole(Ask(do="thumbnail", item="0" * 32), 1)
    assert link.is_ready
    assert ann.link(bob) is link


async def is_answered(port: int) -> bool:
    """Tell whether anything listens on a port of this machine."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_a_home_that_is_not_visible_has_no_port_and_keeps_its_links(
    ann: Home, bob: Home
) -> None:
    link = await linked(ann, bob)
    port = ann.friends.status().port
    assert await is_answered(port)

    await ann.is_visible(False)

    assert ann.friends.status().port == 0
    assert not await is_answered(port)
    assert await ann.friends.connections.ask_whole(bob.id, whole_list(), 10_000)
    assert ann.link(bob) is link
    # It finds nobody either.
    ann.sees(bob)
    assert not ann.friends.connections.lan.knows(bob.id)
    assert not ann.friends.connections.lan.send(bob.id, {})
    # And hears of others by servers.
    requesting(ann)
    assert ann.friends.pairings.pairings

    await ann.is_visible(True)
    assert await is_answered(ann.friends.status().port)
    assert ann.link(bob) is link


async def test_two_homes_pair_as_soon_as_both_are_visible(ann: Home, bob: Home) -> None:
    await ann.is_visible(False)
    bob.sees(ann)
    bob.friends.pairings.request(ann.id, trusted=True)
    await ann.is_visible(True)
    bob.sees(ann)
    await until(lambda: ann.friends.status().pairings)


async def test_what_is_changed_there_and_back_at_once_is_as_it_was_said_last(
    ann: Home,
) -> None:
    for visible in (True, False):
        await asyncio.gather(
            *(ann.is_visible(each) for each in (True, False, True, False, visible))
        )
        assert bool(ann.friends.status().port) is visible


@pytest.mark.parametrize("reason", [Reasons.REPLACED, Reasons.IDLE])
async def test_a_request_that_crosses_the_end_of_its_link_is_made_again(
    ann: Home, bob: Home, reason: str
) -> None:
    link = await linked(ann, bob)
    there = bob.link(ann)
    assert there is not None
    answer, _ = await asyncio.gather(
        ann.friends.connections.ask_whole(bob.id, whole_list(), 10_000),
        there.close(reason),
    )
    assert answer
    assert link.reason == reason


async def test_a_request_is_not_made_again_at_a_home_that_ends(
    ann: Home, bob: Home
) -> None:
    await linked(ann, bob)
    there = bob.link(ann)
    assert there is not None
    with pytest.raises(Unavailable, match="ended"):
        await asyncio.gather(
            ann.friends.connections.ask_whole(bob.id, whole_list(), 10_000),
            there.close(Reasons.STOPPING),
        )


async def test_one_of_several_friends_cannot_say_that_this_home_is_a_copy(
    ann: Home, bob: Home
) -> None:
    await linked(ann, bob, STRANGER.id)
    await bob.friends.connections.links.close(ann.id, Reasons.SUPERSEDED)
    await until(lambda: ann.friends.friend(bob.id).says_superseded)
    assert not ann.friends.status().superseded
    # If there is nobody else, there is nobody else to lose.
    await ann.befriend(bob.id)
    assert ann.friends.status().superseded


async def test_that_there_was_a_copy_is_forgotten_when_the_user_says_so(
    ann: Home, bob: Home
) -> None:
    await linked(ann, bob)
    await bob.friends.connections.links.close(ann.id, Reasons.SUPERSEDED)
    await until(lambda: ann.friends.status().superseded)
    before = ann.news.version
    ann.friends.resume()
    assert not ann.friends.status().superseded
    assert ann.news.version > before


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:8123", "[::1]:8123", "[::ffff:127.0.0.1]:8123"]
)
async def test_a_friend_does_not_have_this_home_call_itself(
    ann: Home, bob: Home, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    await linked(ann, bob)
    ticket = replace(TICKET, owner=bob.id, receiver=ann.id, endpoints=(endpoint,))

    async def answer(_home: str, _ask: Ask) -> AsyncIterator[bytes]:
        yield ticket.encode()

    monkeypatch.setattr(bob.friends.serving, "answer", answer)
    with pytest.raises(Unavailable, match="endpoints is not of a home elsewhere"):
        await ann.friends.renew(ticket)


class Held:
    """The downloads of a home that has a complete copy of one item."""

    def __init__(self, etag: str) -> None:
        self.tag = etag
        self.reading: tuple[str, ...] = ()

    def etag(self, owner: str, item: str) -> str:
        return self.tag

    def in_use(self, owner: str) -> tuple[str, ...]:
        return self.reading

    async def accept(self, ticket: Ticket) -> None:
        assert ticket.is_live(time.time())
        self.tag = ticket.item.etag


@dataclass
class Film:
    """A film of Bob's, as Ann's list has it, and as his file is."""

    bob: Home
    receiver: str
    id: str
    etag: str
    asked: int = 0
    expires: float = 2e9

    async def tickets(self, _home: str, ask: Ask) -> AsyncIterator[bytes]:
        self.asked += 1
        assert ask.item == self.id
        facts = replace(FACTS, id=ask.item, etag=self.etag)
        ticket = replace(
            TICKET,
            owner=self.bob.id,
            receiver=self.receiver,
            item=facts,
            expires=self.expires,
        )
        yield ticket.encode()


@pytest.fixture
async def film(ann: Home, bob: Home, monkeypatch: pytest.MonkeyPatch) -> Film:
    bob.put("Ocean")
    await linked(ann, bob)
    await until(lambda: items(ann) == 1)
    await until(lambda: ann.friends.friend(bob.id).list.was_listed)
    library = ann.friends.friend(bob.id).list.library
    listing = await library.browse("all/video/folders", online=True)
    item = await library.item(listing.children[0].id.removeprefix("item/"), online=True)
    made = Film(bob, ann.id, item.id, item.etag)
    monkeypatch.setattr(bob.friends.serving, "answer", made.tickets)
    return made


def holding(home: Home, etag: str) -> Held:
    held = Held(etag)
    home.downloads = held  # type: ignore[assignment]
    return held


async def test_what_is_here_as_it_is_listed_needs_no_ticket(
    ann: Home, bob: Home, film: Film
) -> None:
    holding(ann, film.etag)
    await ann.friends.friend(bob.id).items.prepare(film.id)
    assert film.asked == 0


async def test_a_copy_of_what_is_listed_as_another_one_is_not_used(
    ann: Home, bob: Home, film: Film
) -> None:
    held = holding(ann, '"former"')
    await ann.friends.friend(bob.id).items.prepare(film.id)
    assert (film.asked, held.tag) == (1, film.etag)
    held.tag = '"former"'
    await bob.friends.stop()
    with pytest.raises(Unavailable):
        await ann.friends.friend(bob.id).items.prepare(film.id)


async def test_a_ticket_that_is_newer_than_the_list_is_asked_for_once(
    ann: Home, bob: Home, film: Film
) -> None:
    listed, film.etag = film.etag, '"newer"'
    held = holding(ann, '"former"')
    for _ in range(3):
        await ann.friends.friend(bob.id).items.prepare(film.id)
    assert (film.asked, held.tag) == (1, '"newer"')
    # The list goes back and forth in the meantime, and the file, too.
    held.tag = '"former"'
    film.etag = listed
    await ann.friends.friend(bob.id).items.prepare(film.id)
    assert (film.asked, held.tag) == (2, listed)
    await ann.friends.friend(bob.id).items.prepare(film.id)
    assert film.asked == 2


@pytest.mark.parametrize("ahead", [-86400.0, -3600.0, 86400.0])
async def test_a_friend_whose_clock_is_wrong_gives_good_tickets(
    ann: Home, bob: Home, film: Film, ahead: float
) -> None:
    film.expires = time.time() + ahead + TTL
    held = holding(ann, '"former"')
    await ann.friends.friend(bob.id).items.prepare(film.id)
    assert held.tag == film.etag
    renewed = await ann.friends.renew(
        replace(TICKET, owner=bob.id, item=replace(FACTS, id=film.id))
    )
    assert renewed.expires == pytest.approx(time.time() + TTL, abs=60)


async def test_what_is_played_follows_the_list(
    ann: Home, bob: Home, film: Film
) -> None:
    held = holding(ann, '"former"')
    its = ann.friends.friend(bob.id).items
    its.changed((film.id,))
    held.reading = ("another",)
    its.changed((film.id,))
    assert film.asked == 0
    held.reading = (film.id,)
    its.changed(None)
    await until(lambda: held.tag == film.etag)


async def test_a_list_is_not_fetched_for_each_note(
    ann: Home, bob: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob.put("Ocean")
    await linked(ann, bob)
    await until(lambda: items(ann) == 1)
    before = bob.told
    link = bob.link(ann)
    assert link is not None
    for _ in range(40):
        link.note(Note(about="catalogue"))
        await asyncio.sleep(0.05)
    assert bob.told - before <= 2
    # What changes is there within seconds all the same.
    bob.put("Lake")
    await until(lambda: items(ann) == 2)


async def test_what_is_new_is_not_told_without_end(
    ann: Home, bob: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "GAP", 0.1)
    bob.put("Ocean")
    await linked(ann, bob)
    await until(lambda: items(ann) == 1)
    bobs = ann.friends.friend(bob.id).list
    await until(lambda: bobs.was_listed)
    said: list[bool] = []
    may_say = bobs.may_announce.take

    def say() -> bool:
        said.append(may_say())
        return said[-1]

    monkeypatch.setattr(bobs.may_announce, "take", say)
    for number in range(2, 6):
        bob.put(f"Film {number}")
        # It is listed a moment before anything is said about it.
        await until(
            lambda wanted=number: items(ann) == wanted and len(said) >= wanted - 1
        )
    assert [each.count for each in ann.news.media] == [1]
    assert not any(said[1:])
    monkeypatch.setattr(bobs, "may_announce", TokenBucket(1e9, 1))
    bob.put("Film 6")
    await until(lambda: len(ann.news.media) == 2)
    assert ann.news.media[1].count == 4
    assert len(ann.news.media[1].titles) == 4


async def test_a_list_that_could_not_be_kept_is_when_it_can_be(
    ann: Home, bob: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "PAUSE", 0.2)
    bob.put("Ocean")
    cache = ann.folder / "cache"
    cache.rmdir()
    cache.write_bytes(b"")
    await linked(ann, bob)
    await until(lambda: ann.friends.status().friends[0].message)
    cache.unlink()
    await until(lambda: items(ann) == 1)
    assert not ann.news.media


async def test_what_could_not_be_kept_is_kept_when_it_can_be(
    ann: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_DELAY", 0.1)
    path = ann.folder / "data" / FILE
    obstacle = path.with_name(f"{path.name}.new")
    obstacle.mkdir()
    ann.friends.pairings.request(STRANGER.id, trusted=True)
    with pytest.MonkeyPatch.context() as patch:
        failed = asyncio.Event()
        patch.setattr(module._LOGGER, "error", lambda *_: failed.set())
        async with asyncio.timeout(10):
            await failed.wait()
    obstacle.rmdir()
    await until(lambda: len(load(path).pairings) == 1)


async def test_requests_are_taken_back_before_a_home_becomes_another(
    tmp_path: Path, bob: Home
) -> None:
    async with at_home("Ann", tmp_path) as ann:
        ann.sees(bob)
        bob.sees(ann)
        ann.friends.pairings.request(bob.id, trusted=True)
        await until(lambda: bob.friends.status().pairings)
        await ann.friends.pairings.forget_all()
        assert not ann.friends.status().pairings
        (pairing,) = bob.friends.status().pairings
        assert pairing.state is PairingState.DENIED


async def test_requests_of_another_identity_are_not_gone_on_with(
    tmp_path: Path,
) -> None:
    async with at_home("Ann", tmp_path, bytes([1] * 32)) as ann:
        requesting(ann)
        ann.friends.pairings.request(STRANGER.id, trusted=True)
        ann.friends.pairings.answer(STRANGER.id, accept=False, block=True)
        ann.friends.pairings.request(Identity.of(bytes([7] * 32)).id, trusted=True)
    async with at_home("Ann", tmp_path, bytes([1] * 32)) as ann:
        assert len(ann.friends.status().pairings) == 2
    async with at_home("Ann", tmp_path, bytes([2] * 32)) as ann:
        assert not ann.friends.status().pairings
        assert ann.friends.status().blocked == (STRANGER.id,)
