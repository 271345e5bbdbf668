"""Other homes as the rest of the engine sees them: who they are, whether they are there, and what they share."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
import logging
from pathlib import Path
import random
import secrets
import time
from typing import Final, Protocol

from aiohttp import ClientSession, DummyCookieJar
import orjson

from ..access import ticket as tickets
from ..access.ticket import BadTicket, Ticket
from ..catalogue.remote_library import RemoteLibrary, homes_in
from ..catalogue.sender import Catalogue
from ..core import tasks
from ..core.errors import EngineError, NotFound, Unavailable
from ..core.sqlite import StoreError
from ..core.throttle import Throttle, TokenBucket
from ..models import EngineConfig, Item, Listing, NewMedia, SearchQuery, SearchResult
from ..models.codec import DecodeError, decode, encode
from ..models.homes import (
    ConnectionStats,
    FriendConfig,
    FriendStatus,
    LanHomes,
    PairingAnswer,
    PairingQuery,
    PairingStatus,
    PeersStatus,
)
from ..models.servers import server_url
from ..models.version import VERSION
from ..net.identity import Identity
from ..net.lan import Lan
from ..net.link import links as linking
from ..net.link.frames import Ask, Note, Reasons
from ..net.link.link import Link, shown
from ..net.link.links import Links
from ..net.messages import Envelope
from ..net.messenger import Message, Messenger
from ..net.signaling.client import SignalingServer
from ..net.webrtc.ice import IceServer
from ..serving.requests import TTL, LibraryView, Serving
from . import pairing as pairings, state as memories
from .artwork import Pictures
from .catalogue_sync import FriendList
from .pairing import Pairings
from .state import FILE, Seen, StoredState, recall

LAN_PORT: Final = 43110
"""TCP port for homes in the local network, unless somebody else has it: one that stays the same is found again sooner."""
PRESENCE: Final = 45.0
"""Seconds between two looks at whether a friend is there."""
PATIENCE: Final = 6.0
"""Seconds for its answer."""
PING_PAUSE: Final = 0.3
"""Seconds between two questions, at least."""
MISSED: Final = 2
"""Looks in a row without an answer after which it is away."""
SOON: Final = 1.5
"""Seconds between two looks while something changes."""
FAREWELL: Final = 0.5
"""Seconds for what is said last to leave."""
GATHER: Final = 1.0
"""How long changes of the library are gathered after friends were told of one, in seconds."""
SAVE: Final = 2.0
"""Seconds between a change and its being kept, or two attempts at that."""
QUIET: Final = 3600.0
"""Seconds between two lines in the log about a disk that takes nothing."""
SHOW: Final = 2.0
"""Seconds between two looks at rates and paths."""
MAX_TICKET: Final = tickets.MAX_TICKET
MAX_LIST: Final = 512 * 1024**2
"""Bytes of a friend's whole list."""
MAX_DIFFERING: Final = 1000
"""Items of a friend of which it is remembered that list and ticket differ."""
NOT_HERE: Final = "this home is not a friend"
CATALOGUE: Final = "catalogue"
"""What a note is about that says: my list has changed."""

_NONCE: Final = 8
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """A question: is the other home there."""

    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """The answer that it is."""

    nonce: str
    name: str
    release: str
    state: str
    """Changes whenever the list of what this friend may see may have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The list may have changed."""

    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """The answer that the other home is no friend of this one."""

    nonce: str


KINDS: Final = ("ping", "pong", "changed", "stranger")


class Channel(Protocol):
    """Where introductions of torrents go in and out."""

    def receive(self, message: bytes) -> None:
        """Take in what the other home's torrents say."""


class Torrents(Protocol):
    """The swarm, as far as friends have to do with it. Without libtorrent it fetches over links alone."""

    has_torrents: bool
    """Whether items can be fetched and shared by torrents, too."""

    async def issue_to(
        self, item: str, receiver: str, ttl: float, wait: float
    ) -> Ticket:
        """Make a ticket."""

    async def accept(self, payload: bytes) -> object:
        """Take a ticket."""

    async def revoke(self, receiver: str, item: str | None) -> None:
        """Make tickets worthless."""

    async def review(self) -> None:
        """Make those tickets worthless whose items a receiver may not have any more."""

    async def forget(self, owner: str) -> None:
        """Forget what was fetched from a home."""

    def has_ticket(self, owner: str, item: str) -> bool:
        """Tell whether there is a ticket that is good."""

    def is_complete(self, owner: str, item: str) -> bool:
        """Tell whether all of an item is here."""

    def etag(self, owner: str, item: str) -> str | None:
        """Return the entity tag of the version that there is a ticket for, or a copy of."""

    def in_use(self, owner: str) -> tuple[str, ...]:
        """Return the items of a home that are read here, or are to be kept."""

    async def meet(
        self, home: str, send: Callable[[bytes], Coroutine[None, None, None]]
    ) -> Channel:
        """Introduce torrents over a channel to a home."""

    async def part(self, home: str, channel: Channel) -> None:
        """Use a channel no longer."""

    def rates(self) -> Mapping[str, tuple[int, int]]:
        """Return what comes from each home and goes there, in bytes per second. Looks at all that moves."""

    def set_stun(self, server: str) -> None:
        """Use a STUN server: `host:port`."""


@dataclass(slots=True, eq=False)
class _Friend:
    """What is known of a friend."""

    config: FriendConfig
    media: FriendList
    rate: Throttle
    seen: Seen | None = None
    online: bool = False
    missed: int = 0
    nonce: str = ""
    unfriended: bool = False
    look: asyncio.Event = field(default_factory=asyncio.Event)
    channel: Channel | None = None
    channel_link: Link | None = None
    meeting: asyncio.Lock = field(default_factory=asyncio.Lock)
    stats: tuple[float, ConnectionStats] = (0.0, ConnectionStats())
    rates: tuple[int, int] = (0, 0)
    lost: float | None = None
    differs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Items whose ticket came after the list that names another version: entity tags in the list and in the ticket."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Peers:
    """Everything about other homes. All methods are called in the event loop, and none blocks it."""

    def __init__(
        self,
        identity: Identity,
        *,
        data: Path,
        cache: Path,
        shelves: LibraryView,
        catalogue: Catalogue,
        revision: Callable[[], int],
        torrents: Callable[[], Torrents | None],
        on_change: Callable[[], None],
        on_items: Callable[[tuple[str, ...] | None], None],
        on_media: Callable[[NewMedia], None],
    ) -> None:
        """Prepare to speak as an identity.

        What must not get lost is kept in `data`, and friends' lists in `cache`. `shelves` is this home's library, with its
        `revision`, and `catalogue` what friends are told of it. `torrents` is the swarm, if it runs. `on_change` is called when `status` may have changed, `on_items`
        with items of friends that changed, None for many, and `on_media` when a friend has something new.
        """
        self.identity = identity
        self._path = data / FILE
        self._cache = cache
        self._shelves = shelves
        self._revision = revision
        self._torrents = torrents
        self._on_change = on_change
        self._on_items = on_items
        self._on_media = on_media
        self._config = EngineConfig(home_name="")
        self._friends: dict[str, _Friend] = {}
        self._seen: dict[str, Seen] = {}
        self._servers: dict[str, SignalingServer] = {}
        self._total = Throttle()
        self._received_bytes = 0
        self._sent_bytes = 0
        self._superseded_by: set[str] = set()
        """Friends that say that there are two homes with this identity."""
        self._dirty = asyncio.Event()
        self._may_log = TokenBucket.every(QUIET)
        self._told = asyncio.Event()
        self._parts = AsyncExitStack()
        self._tasks = tasks.Tasks()
        self._stranger_to: dict[str, float] = {}
        self._messenger = Messenger(
            identity, self._received, is_expected=self._is_expected
        )
        self._pairings = Pairings(
            self._messenger,
            name=lambda: self._config.home_name,
            is_friend=self._friends.__contains__,
            on_change=self._note_change,
        )
        self._links = Links(
            self._messenger,
            self,
            name=lambda: self._config.home_name,
            is_friend=self._friends.__contains__,
            is_pairing=self._pairings.is_pairing,
            servers=self._ice_servers,
            rates=self._rates,
            near=self._is_near,
            only_way=self._is_only_way,
        )
        self._serving = Serving(
            shelves,
            catalogue,
            self._shares_of,
            self._issue,
            self._revoke,
            owner=identity.id,
            owner_name=lambda: self._config.home_name,
        )
        self._pictures = Pictures(cache / "pictures")

    async def start(self, config: EngineConfig) -> None:
        """Bring everything up. Raises OSError, with nothing left of it."""
        self._config = config
        memory = await asyncio.to_thread(recall, self._path)
        await asyncio.to_thread(self._cache.mkdir, 0o700, True, True)
        self._seen = {each.home: each for each in memory.friends}
        is_same = memory.home == self.identity.id
        self._pairings.restore(memory.pairings if is_same else (), memory.blocked)
        async with AsyncExitStack() as parts:
            self._session = await parts.enter_async_context(
                ClientSession(cookie_jar=DummyCookieJar())
            )
            self._lan = Lan(self._messenger, self._session)
            parts.push_async_callback(self._lan.close)
            self._messenger.add(self._lan)
            self._pairings.start()
            parts.push_async_callback(self._pairings.stop)
            self._links.start()
            parts.push_async_callback(self._stop_friends)
            parts.push_async_callback(self._links.stop)
            parts.push_async_callback(self._tasks.end)
            self._tasks.keep(self._save_changes, "keep peers")
            self._tasks.keep(self._tell_changes, "tell friends")
            self._tasks.keep(self._measure, "measure links")
            parts.push_async_callback(self._stop_servers)
            await self.apply(config)
            self._parts = parts.pop_all()

    async def stop(self) -> None:
        """Take everything down. May be called at any time."""
        await self._parts.aclose()
        if self._dirty.is_set():
            await self._save()

    async def apply(self, config: EngineConfig) -> None:
        """Apply the differences to what runs."""
        self._config = config
        limit = config.swarm.upload_limit
        self._total.limit = limit
        await self._apply_servers(config.servers)
        await (self._lan.open(LAN_PORT) if config.lan_visible else self._lan.close())
        wanted = {each.id: each for each in config.friends}
        wanted.pop(self.identity.id, None)
        if wanted:
            self._links.prepare()
        for home in [each for each in self._friends if each not in wanted]:
            await self._remove_friend(home)
        for home, friend in wanted.items():
            present = self._friends.get(home)
            if present is None:
                await self._add_friend(friend)
            elif present.config != friend:
                former, present.config = present.config, friend
                present.rate.limit = friend.upload_limit
                if set(former.shares) != set(friend.shares):
                    self._tasks.spawn(self._shares_changed(home), "shares changed")
        self._pairings.befriended()
        self._note_change()

    def library_changed(self) -> None:
        """Take note that this home's library is another one by now."""
        self._told.set()

    # State.

    def status(self) -> PeersStatus:
        """Return everything about other homes."""
        swarm = self._torrents()
        rates = swarm.rates() if swarm is not None else {}
        return PeersStatus(
            id=self.identity.id,
            port=self._lan.port,
            friends=tuple(
                self._status_of(self._friends[each.id], rates.get(each.id, (0, 0)))
                for each in self._config.friends
                if each.id in self._friends
            ),
            pairings=self._pairings.statuses,
            servers=tuple(server.status for server in self._servers.values()),
            blocked=self._pairings.blocked,
            superseded=self._is_superseded
            or any(server.superseded for server in self._servers.values()),
        )

    @property
    def _is_superseded(self) -> bool:
        """Whether friends say so; not one of many alone, who could make this home part from all others."""
        by = self._superseded_by & self._friends.keys()
        return bool(by) and len(by) >= min(2, len(self._friends))

    def _status_of(self, friend: _Friend, rates: tuple[int, int]) -> FriendStatus:
        link = self._links.present(friend.config.id)
        seen = friend.seen
        stats = friend.stats[1]
        return FriendStatus(
            id=friend.config.id,
            name=_name_of(friend),
            online=friend.online or link is not None,
            path=link.path if link is not None else None,
            rtt=stats.rtt if link is not None else None,
            download_rate=friend.rates[0] + rates[0],
            upload_rate=friend.rates[1] + rates[1],
            lost=friend.lost if link is not None else None,
            last_seen=seen.last_seen if seen else None,
            items=friend.media.count,
            release=(seen.release if seen else "") or None,
            unfriended=friend.unfriended,
            message=friend.media.message,
        )

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes that came over links, and that went over them, since this began; the last moments of a link are not counted."""
        return self._received_bytes, self._sent_bytes

    @property
    def friends(self) -> tuple[FriendStatus, ...]:
        """The friends as they are, in the order of the configuration."""
        return self.status().friends

    def is_friend(self, home: str) -> bool:
        """Tell whether a home is a friend."""
        return home in self._friends

    # What users do.

    def request(self, query: PairingQuery) -> PairingStatus:
        """Ask a home to become a friend. Raises what `Pairings.request` raises."""
        self._links.prepare()
        return self._pairings.request(query.home, trusted=query.trusted)

    def answer_request(self, home: str, answer: PairingAnswer) -> None:
        """Say yes or no to a pairing. Raises what `Pairings.answer` raises."""
        self._links.prepare()
        self._pairings.answer(
            home, accept=answer.accept, block=answer.block, words=answer.words
        )

    def forget_request(self, home: str) -> None:
        """Take a request back. Raises NotFound."""
        self._pairings.forget(home)

    async def forget_requests(self) -> None:
        """Take all requests back, and let the other homes know: this one is going to be another."""
        for pairing in self._pairings.pairings:
            self._pairings.forget(pairing.home)
        await asyncio.sleep(FAREWELL)

    def unblock(self, home: str) -> None:
        """Show a home's requests again. Raises NotFound."""
        self._pairings.unblock(home)

    def lan_homes(self, homes: LanHomes) -> None:
        """Take note of all homes that the local network shows now."""
        for moved in self._lan.show(homes.homes):
            self._links.probe(moved)
        for home in homes.homes:
            if (friend := self._friends.get(home.id)) is not None:
                friend.look.set()
                self._links.upgrade(home.id)
            self._pairings.retry(home.id)

    def network_changed(self) -> None:
        """Try everything again at once that waits for a connection."""
        self._lan.retry()
        self._links.probe()
        for server in self._servers.values():
            server.wake()
        self._pairings.retry()
        for friend in self._friends.values():
            friend.look.set()

    def resume(self) -> None:
        """Use the identity again, after another home with the same one took it over."""
        self._superseded_by.clear()
        for server in self._servers.values():
            server.resume()
        self._note_change()
        self.network_changed()

    # Their media.

    async def browse(self, home: str, node: str) -> Listing:
        """Return what lies in a node of a friend's library. Raises NotFound, BadRequest."""
        friend = self._friend(home)
        return await friend.media.library.browse(node, self._is_online(friend))

    async def search(self, home: str, query: SearchQuery) -> SearchResult:
        """Search a friend's library. Raises NotFound, BadRequest."""
        friend = self._friend(home)
        return await friend.media.library.search(query, self._is_online(friend))

    async def item(self, home: str, item_id: str) -> Item:
        """Return an item of a friend. Raises NotFound."""
        friend = self._friend(home)
        return await friend.media.library.item(item_id, self._is_online(friend))

    async def prepare(self, home: str, item_id: str) -> None:
        """See to it that a friend's item can be fetched. Raises NotFound, Unavailable, and what its owner refuses with."""
        friend = self._friend(home)
        listed = None
        if friend.media.was_listed or friend.media.is_current:
            listed = (await friend.media.library.item(item_id, online=True)).etag
        swarm = self._swarm()
        here = swarm.etag(home, item_id)
        is_right = listed in (None, here) or friend.differs.get(item_id) == (
            listed,
            here,
        )
        if is_right and (
            swarm.is_complete(home, item_id) or swarm.has_ticket(home, item_id)
        ):
            return
        ticket = await self._ticket(home, item_id)
        await swarm.accept(ticket.encode())
        friend.differs.pop(item_id, None)
        if listed is not None and listed != ticket.item.etag:
            # Its owner has looked at the file, and the list follows.
            while len(friend.differs) >= MAX_DIFFERING:
                del friend.differs[next(iter(friend.differs))]
            friend.differs[item_id] = listed, ticket.item.etag

    async def renew(self, former: Ticket) -> Ticket:
        """Return a new ticket in the place of one that ended or has no torrent yet. Raises EngineError."""
        if former.owner not in self._friends:
            raise Unavailable(NOT_HERE)
        return await self._ticket(former.owner, former.item.id)

    async def thumbnail(self, home: str, item: Item) -> Path:
        """Return the file with the picture of a friend's item, fetched first if need be. Raises EngineError."""
        return await self._pictures.get(
            home,
            item.etag,
            lambda limit: self._ask_whole(
                home, Ask(do="thumbnail", item=item.id), limit
            ),
            f"{item.id}",
        )

    async def subtitles(self, home: str, item: Item, index: int) -> Path:
        """Return the file with subtitles of a friend's item as WebVTT, fetched first if need be. Raises EngineError."""
        return await self._pictures.get(
            home,
            item.etag,
            lambda limit: self._ask_whole(
                home, Ask(do="subtitles", item=item.id, index=index), limit
            ),
            f"{item.id}.{index}",
        )

    async def _ticket(self, home: str, item_id: str) -> Ticket:
        body = await self._ask_whole(home, Ask(do="ticket", item=item_id), MAX_TICKET)
        try:
            ticket = await asyncio.to_thread(tickets.read, body)
        except BadTicket as err:
            raise Unavailable(f"the other home gave no ticket: {err}") from None
        if (ticket.owner, ticket.receiver, ticket.item.id) != (
            home,
            self.identity.id,
            item_id,
        ):
            raise Unavailable("the other home gave a ticket for something else")
        # It has just been made. The clock of the other home need not be right, nor this one's.
        return replace(ticket, expires=time.time() + TTL)

    async def ask(self, home: str, ask: Ask, limit: int) -> AsyncIterator[bytes]:
        """Yield the parts of a friend's answer, of at most `limit` bytes together. Raises EngineError."""
        link = await self._link(home)
        async for part in link.ask(ask, limit):
            yield part

    async def _ask_whole(self, home: str, ask: Ask, limit: int) -> bytes:
        link = await self._link(home)
        try:
            return await link.ask_whole(ask, limit)
        except Unavailable:
            if link.reason not in (Reasons.REPLACED, Reasons.IDLE):
                raise
        # The other end closed it for a better one, or because nothing was going on, before it got the request.
        link = await self._link(home)
        return await link.ask_whole(ask, limit)

    async def _link(self, home: str) -> Link:
        """Return the link to a friend. Raises Unavailable."""
        if self._links.present(home) is None:
            for server in self._servers.values():
                if not server.status.connected:
                    # Somebody waits.
                    server.wake()
        return await self._links.get(home)

    # What links bring: this is their host.

    def answer(self, link: Link, ask: Ask) -> AsyncIterator[bytes]:
        """Answer a friend's request."""
        return self._serving.answer(link.home, ask)

    def noted(self, link: Link, note: Note) -> None:
        """Take note of what a friend says."""
        friend = self._friends.get(link.home)
        if friend is not None and note.about == CATALOGUE:
            friend.media.doubt()

    def introduced(self, link: Link, message: bytes) -> None:
        """Hand on what a friend's torrent says."""
        friend = self._friends.get(link.home)
        if friend is not None and friend.channel is not None:
            friend.channel.receive(message)

    def ready(self, link: Link) -> None:
        """Take note that a friend is there."""
        friend = self._friends.get(link.home)
        if friend is None:
            self._tasks.spawn(link.close(Reasons.NOT_FRIENDS), "no friend")
            return
        friend.stats = (time.monotonic(), ConnectionStats())
        friend.lost = None
        self._met(friend, link.name, link.release)
        friend.media.begin()
        self._tasks.spawn(self._meet(friend, link), "meet torrents")

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Take note that a link ended, or was refused."""
        friend = self._friends.get(link.home)
        if friend is None:
            return
        if by_them and reason == Reasons.NOT_FRIENDS:
            self._estranged(friend)
        elif by_them and reason == Reasons.SUPERSEDED:
            self._was_superseded(link.home)
        if friend.channel_link is link and friend.channel is not None:
            channel, friend.channel, friend.channel_link = friend.channel, None, None
            if (swarm := self._torrents()) is not None:
                self._tasks.spawn(swarm.part(link.home, channel), "part torrents")
        if reason in (Reasons.LOST, Reasons.SILENT, Reasons.STOPPING):
            # Is it there at all?
            friend.missed = max(friend.missed, MISSED - 1)
            friend.look.set()
        self._note_change()

    def _was_superseded(self, home: str) -> None:
        if home not in self._superseded_by:
            before = self._is_superseded
            self._superseded_by.add(home)
            if self._is_superseded and not before:
                _LOGGER.error("Another home uses the identity of this one")

    async def _meet(self, friend: _Friend, link: Link) -> None:
        async def send(message: bytes) -> None:
            await link.introduce(message)

        async with friend.meeting:
            swarm = self._torrents()
            # Another link may have come meanwhile, which then is the one to meet over.
            if swarm is None or not swarm.has_torrents:
                return
            if self._links.present(link.home) is not link:
                return
            channel = await swarm.meet(link.home, send)
            if link.reason is not None:
                await swarm.part(link.home, channel)
                return
            friend.channel, friend.channel_link = channel, link

    # What comes by post.

    def _received(self, letter: Message) -> None:
        kind = letter.envelope.kind
        if kind in pairings.KINDS:
            self._pairings.receive(letter)
        elif kind in linking.KINDS:
            self._links.receive(letter)
        elif kind in KINDS:
            try:
                self._presence(letter, letter.envelope)
            except DecodeError as err:
                _LOGGER.debug("A message is left out: %s", err)

    def _presence(self, letter: Message, envelope: Envelope) -> None:
        home = envelope.sender
        friend = self._friends.get(home)
        if envelope.kind == "ping":
            ping = decode(Ping, envelope.body)
            if friend is None:
                self._say_stranger(letter, ping)
                return
            pong = Pong(
                nonce=ping.nonce[:64],
                name=self._config.home_name,
                release=VERSION,
                state=self._state_for(home),
            )
            self._messenger.send(home, "pong", encode(pong), way=letter.way)
            if (link := self._links.present(home)) is not None:
                # It would not ask if it saw the link: it was started again, and nobody told, or the link is dead. Or this
                # ping was held back on its way for long, and the link is fine.
                link.probe()
            if not friend.online:
                # It has just come.
                friend.look.set()
        elif friend is None:
            return
        elif envelope.kind == "pong":
            pong = decode(Pong, envelope.body)
            if pong.nonce and pong.nonce == friend.nonce:
                friend.nonce = ""
                self._met(friend, pong.name, pong.release)
                friend.media.compare(pong.state)
        elif envelope.kind == "changed":
            friend.media.compare(decode(Changed, envelope.body).state)
        elif decode(Stranger, envelope.body).nonce == friend.nonce != "":
            self._estranged(friend)

    def _say_stranger(self, letter: Message, ping: Ping) -> None:
        """Tell a home that it is no friend any more; not too often, and not while that is just being changed."""
        home, now = letter.envelope.sender, time.monotonic()
        if self._pairings.is_pairing(home):
            return
        if now - self._stranger_to.get(home, float("-inf")) < PRESENCE / 2:
            return
        if len(self._stranger_to) > 1000:
            self._stranger_to.clear()
        self._stranger_to[home] = now
        stranger = Stranger(nonce=ping.nonce[:64])
        self._messenger.send(home, "stranger", encode(stranger), way=letter.way)

    def _estranged(self, friend: _Friend) -> None:
        if not friend.unfriended and not self._pairings.is_pairing(friend.config.id):
            _LOGGER.info("%s is not a friend of this home any more", friend.config.name)
            friend.unfriended = True
            friend.online = False
            self._note_change()

    def _met(self, friend: _Friend, name: str, release: str) -> None:
        """Take note that a friend is there now."""
        home = friend.config.id
        friend.missed = 0
        friend.unfriended = False
        friend.media.message = None
        came = not friend.online
        friend.online = True
        friend.seen = self._seen[home] = Seen(
            home=home,
            name=shown(name) or friend.config.name,
            release=shown(release),
            last_seen=round(time.time(), 1),
        )
        if came:
            self._pairings.retry(home)
            self._note_change()

    def _state_for(self, home: str) -> str:
        """Return what changes with the list that a friend may see."""
        granted = set(self._shares_of(home))
        shares = sorted(
            f"{share.id} {share.available}"
            for share in self._shelves.shares
            if share.id in granted
        )
        return sha256(orjson.dumps([self._revision(), *shares])).hexdigest()[:32]

    # Friends.

    def _friend(self, home: str) -> _Friend:
        if (friend := self._friends.get(home)) is None:
            raise NotFound("there is no such home")
        return friend

    def _is_online(self, friend: _Friend) -> bool:
        return friend.online or self._links.present(friend.config.id) is not None

    async def _add_friend(self, config: FriendConfig) -> None:
        home = config.id
        kept = FriendList(
            self._cache,
            home,
            fetch=lambda have: self.ask(home, Ask(do=CATALOGUE, have=have), MAX_LIST),
            is_online=lambda: self._is_online(self._friends[home]),
            on_change=self._note_change,
            on_items=partial(self._listed, home),
            on_news=partial(self._tell_news, home),
        )
        friend = _Friend(config, kept, Throttle(config.upload_limit))
        try:
            await kept.open()
        except (StoreError, OSError) as err:
            _LOGGER.error("The list of %s cannot be kept: %s", config.name, err)
        except BaseException:
            # Nobody knows of this friend yet who could close it.
            await kept.library.close()
            raise
        friend.seen = self._seen.get(config.id)
        self._friends[config.id] = friend
        friend.tasks = [
            tasks.keep(partial(self._watch, friend), f"watch {config.name}"),
            tasks.keep(kept.keep, f"list {config.name}"),
        ]

    async def _remove_friend(self, home: str) -> None:
        """End everything with a friend at once."""
        friend = self._friends.pop(home)
        self._superseded_by.discard(home)
        await tasks.end(*friend.tasks)
        await self._forget(home, friend.media.library)

    async def forget_former(self) -> None:
        """Forget friends that are none any more by the present configuration: they were removed while no engine ran."""
        kept = await asyncio.to_thread(
            lambda: homes_in(self._cache) | self._pictures.homes()
        )
        for home in kept | self._seen.keys():
            if home not in self._friends:
                _LOGGER.debug("%s is forgotten", home)
                await self._forget(home, RemoteLibrary(self._cache, home))

    async def _forget(self, home: str, library: RemoteLibrary) -> None:
        """Take back what a friend was let do, and remove what is known of it."""
        self._seen.pop(home, None)
        self._pairings.estranged(home)
        swarm = self._torrents()
        endings = [self._links.close(home, Reasons.NOT_FRIENDS)]
        if swarm is not None:
            endings += [swarm.revoke(home, None), swarm.forget(home)]
        for ended in await asyncio.gather(*endings, return_exceptions=True):
            if isinstance(ended, EngineError):
                _LOGGER.error("Something of %s is left: %s", home, ended)
        try:
            await library.remove()
        except OSError as err:
            _LOGGER.error("The list of %s cannot be removed: %s", home, err)
        await self._pictures.remove(home)
        self._note_change()

    async def _stop_servers(self) -> None:
        for server in self._servers.values():
            await server.stop()
        self._servers.clear()

    async def _stop_friends(self) -> None:
        for friend in self._friends.values():
            await tasks.end(*friend.tasks)
            await friend.media.library.close()

    async def _shares_changed(self, home: str) -> None:
        """Cut what a friend may not have any more, and tell it."""
        if (swarm := self._torrents()) is not None:
            await swarm.review()
        self._tell_changed(home)

    def _tell_changed(self, home: str) -> None:
        if (link := self._links.present(home)) is not None:
            link.note(Note(about=CATALOGUE))
        else:
            changed = Changed(state=self._state_for(home))
            self._messenger.send(home, "changed", encode(changed))

    async def _watch(self, friend: _Friend) -> None:
        """Find out again and again whether a friend is there."""
        home = friend.config.id
        while True:
            friend.look.clear()
            friend.media.announce()
            if self._links.present(home) is not None:
                self._met(friend, self._link_name(home), self._link_release(home))
                friend.look.clear()
            elif not await self._ping(friend):
                friend.missed += 1
                if friend.missed >= MISSED and friend.online:
                    friend.online = False
                    self._note_change()
            pause = PRESENCE * random.uniform(0.8, 1.2)
            if friend.online and friend.missed:
                pause = SOON
            # Whatever wakes this does not do it without end.
            await asyncio.sleep(SOON)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await friend.look.wait()

    async def _ping(self, friend: _Friend) -> bool:
        """Ask a friend whether it is there; once more if something happens that makes an answer likelier."""
        friend.nonce = nonce = secrets.token_hex(_NONCE)
        end = time.monotonic() + PATIENCE
        again = 0.0
        while (now := time.monotonic()) < end:
            if friend.nonce != nonce:
                return True
            if now >= again:
                friend.look.clear()
                ping = encode(Ping(nonce=nonce))
                if not self._messenger.send(friend.config.id, "ping", ping):
                    break
                again = now + PATIENCE / 2
            elif friend.look.is_set():
                again = min(again, now + PING_PAUSE)
                friend.look.clear()
            await asyncio.sleep(0.05)
        friend.nonce = ""
        return False

    def _link_name(self, home: str) -> str:
        link = self._links.present(home)
        return link.name if link else ""

    def _link_release(self, home: str) -> str:
        link = self._links.present(home)
        return link.release if link else ""

    def _listed(self, home: str, items: tuple[str, ...] | None) -> None:
        """Take note of items that are others in a friend's list: what is read or kept of them follows."""
        self._on_items(items)
        if (swarm := self._torrents()) is not None:
            for item in swarm.in_use(home):
                if items is None or item in items:
                    self._tasks.spawn(self._follow(home, item), "follow a changed item")

    async def _follow(self, home: str, item: str) -> None:
        try:
            await self.prepare(home, item)
        except EngineError as err:
            # Whoever asks for it the next time is told.
            _LOGGER.debug("%s of %s cannot be followed: %s", item, home, err)

    def _tell_news(self, home: str, count: int, titles: tuple[str, ...]) -> None:
        name = _name_of(self._friends[home])
        self._on_media(NewMedia(home=home, name=name, count=count, titles=titles))

    # Servers.

    async def _apply_servers(self, urls: Sequence[str]) -> None:
        wanted = dict.fromkeys(filter(None, map(_normal, urls)))
        for url in [each for each in self._servers if each not in wanted]:
            server = self._servers.pop(url)
            self._messenger.remove(server)
            await server.stop()
        for url in wanted:
            if url in self._servers:
                continue
            server = SignalingServer(
                url,
                self.identity,
                on_message=partial(self._from_server, url),
                on_missing=partial(_LOGGER.debug, "%s is not at a signalling server"),
                on_change=partial(self._server_changed, url),
                session=self._session,
            )
            self._servers[url] = server
            self._messenger.add(server)
            server.start()

    def _from_server(self, url: str, source: str, message: object) -> None:
        if (server := self._servers.get(url)) is None:
            return
        if server.status.identity and not (
            isinstance(message, dict) and message.get("sender") == source
        ):
            # A server that asks for proofs knows who said it. Nobody else may use up what that home has to say.
            return
        self._messenger.receive(message, server, source)

    def _server_changed(self, url: str) -> None:
        server = self._servers.get(url)
        if server is not None and server.status.connected:
            self._pairings.retry()
            for friend in self._friends.values():
                friend.look.set()
            self._tasks.spawn(self._use_stun(), "find a STUN server")
        self._note_change()

    async def _use_stun(self) -> None:
        swarm = self._torrents()
        for server in await self._ice_servers():
            for url in server.urls:
                if swarm is not None and url.startswith("stun:"):
                    swarm.set_stun(url.removeprefix("stun:"))
                    return

    async def _ice_servers(self) -> Sequence[IceServer]:
        """Return the STUN and TURN servers of the first signalling server that has any."""
        for server in self._servers.values():
            if server.status.connected and (found := await server.ice_servers()):
                return found
        return ()

    # Small things.

    def _swarm(self) -> Torrents:
        if (swarm := self._torrents()) is None:
            raise Unavailable(
                "nothing can be fetched: the download cache does not work"
            )
        return swarm

    async def _issue(
        self, item: str, home: str, ttl: float, wait: float
    ) -> Ticket | None:
        swarm = self._torrents()
        if swarm is None or not swarm.has_torrents:
            return None
        return await swarm.issue_to(item, home, ttl, wait)

    async def _revoke(self, item: str, home: str) -> None:
        if (swarm := self._torrents()) is not None:
            await swarm.revoke(home, item)

    def _shares_of(self, home: str) -> Collection[str]:
        # All of a new configuration counts at once, whatever is still being done about it.
        return self._config.shares_of(home) or () if home in self._friends else ()

    def _rates(self, home: str) -> tuple[Throttle, ...]:
        friend = self._friends.get(home)
        return (self._total,) if friend is None else (self._total, friend.rate)

    def _is_expected(self, home: str) -> bool:
        """Tell whether no flood is to keep a home out."""
        return home in self._friends or self._pairings.is_expected(home)

    def _is_near(self, home: str) -> bool:
        return self._lan.knows(home)

    def _is_only_way(self, home: str) -> bool:
        """Tell whether a link could not be opened again if it were closed."""
        servers = any(server.status.connected for server in self._servers.values())
        return not servers and not self._lan.knows(home)

    async def _measure(self) -> None:
        """Look at what links do."""
        while True:
            await asyncio.sleep(SHOW)
            now, shown_again = time.monotonic(), False
            for friend in self._friends.values():
                link = self._links.present(friend.config.id)
                if link is None:
                    shown_again |= friend.rates != (0, 0)
                    friend.rates = (0, 0)
                    continue
                then, former = friend.stats
                stats = link.stats
                friend.stats = now, stats
                seconds = max(0.1, now - then)
                # A link that took the place of another one begins to count anew.
                received = max(0, stats.received - former.received)
                sent = max(0, stats.sent - former.sent)
                friend.rates = int(received / seconds), int(sent / seconds)
                self._received_bytes += received
                self._sent_bytes += sent
                if chunks := stats.chunks - former.chunks:
                    friend.lost = (stats.repeated - former.repeated) / max(1, chunks)
                shown_again = True
            if shown_again:
                self._on_change()

    async def _tell_changes(self) -> None:
        """Tell friends of a change at once, and of what follows after a pause."""
        while True:
            await self._told.wait()
            self._told.clear()
            for home in tuple(self._friends):
                self._tell_changed(home)
            await asyncio.sleep(GATHER)

    def _note_change(self) -> None:
        self._dirty.set()
        self._on_change()

    async def _save_changes(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(SAVE)
            await self._save()

    async def _save(self) -> None:
        self._dirty.clear()
        memory = StoredState(
            home=self.identity.id,
            pairings=self._pairings.pairings,
            blocked=self._pairings.blocked,
            friends=tuple(self._seen.values()),
        )
        try:
            await asyncio.to_thread(memories.keep, self._path, memory)
        except OSError as err:
            if self._may_log.take():
                _LOGGER.error("What is known of other homes cannot be kept: %s", err)
            self._dirty.set()


def _name_of(friend: _Friend) -> str:
    """Return what a friend calls itself, or is called here as long as it was never met."""
    return (friend.seen.name if friend.seen else "") or friend.config.name


def _normal(url: str) -> str | None:
    """Return a server's address as there is only one of it, None for what is none."""
    try:
        return server_url(url)
    except ValueError as err:
        _LOGGER.error("%s is no signalling server: %s", url, err)
        return None
