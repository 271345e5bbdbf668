"""All friends of this home, and the connections that lead to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack
import logging
from pathlib import Path
from typing import Final

from aiohttp import ClientSession, DummyCookieJar

from ..access.ticket import Ticket
from ..catalogue.remote_library import RemoteLibrary, homes_in
from ..catalogue.sender import Catalogue
from ..core.errors import NotFound, Unavailable
from ..core.throttle import Throttle
from ..library import Library
from ..models import EngineConfig, NewMedia
from ..models.codec import DecodeError
from ..models.homes import FriendConfig, LanHomes, PeersStatus
from ..net.identity import Identity
from ..net.lan import Lan
from ..net.link.frames import Ask, Note, Reasons
from ..net.link.handshake import KINDS as LINK_KINDS
from ..net.link.link import Link
from ..net.link.links import Links
from ..net.messenger import Message, Messenger
from ..serving.requests import Serving
from . import pairing, presence
from .artwork import Pictures
from .context import Context, Transfers
from .friend import Friend, forget
from .pairings import Pairings
from .presence import PresenceMessages
from .servers import Servers
from .state import FILE, State
from .traffic import TrafficMeter

LAN_PORT: Final = 43110
"""TCP port for homes in the local network, if it is free: a port that stays the same is found again sooner."""
CHANGE_INTERVAL: Final = 1.0
"""Seconds over which further changes of the library are gathered after friends were told of one."""

_LOGGER = logging.getLogger(__name__)


class Friends:
    """Adds and removes friends as the user configures them, and hands to each what comes from it.

    All methods are called in the event loop, and none blocks it.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        data: Path,
        cache: Path,
        library: Library,
        catalogue: Catalogue,
        transfers: Callable[[], Transfers | None],
        on_change: Callable[[], None],
        on_items: Callable[[tuple[str, ...] | None], None],
        on_media: Callable[[NewMedia], None],
    ) -> None:
        """Prepare to deal with friends as an identity.

        `data` is the folder for what must not get lost, `cache` the folder for friends' lists and pictures. `catalogue` is
        what friends are told of the library. `on_change` is called when `status` may have changed, `on_items` with items of
        friends that changed, None for many, and `on_media` when a friend has something new.
        """
        self._friends: dict[str, Friend] = {}
        self._total_rate = Throttle()
        self._on_change = on_change
        self._library_changed = asyncio.Event()
        self._parts = AsyncExitStack()
        self._messenger = Messenger(
            identity, self._received, is_expected=self._is_expected
        )
        self.pairings = Pairings(
            self._messenger,
            name=lambda: self._context.config.home_name,
            is_friend=self.is_friend,
            on_change=self._changed,
        )
        servers = Servers(
            self._messenger, on_change=self._changed, on_connected=self._connected
        )
        self._links = Links(
            self._messenger,
            self,
            name=lambda: self._context.config.home_name,
            is_friend=self.is_friend,
            is_pairing=self.pairings.is_pairing,
            servers=servers.ice_servers,
            rates=self._rates,
            near=self._is_near,
            only_way=self._is_only_way,
        )
        self._context = Context(
            identity=identity,
            library=library,
            messenger=self._messenger,
            links=self._links,
            servers=servers,
            pairings=self.pairings,
            pictures=Pictures(cache / "pictures"),
            state=State(data / FILE, identity.id, self.pairings),
            cache=cache,
            transfers=transfers,
            on_change=self._changed,
            on_items=on_items,
            on_media=on_media,
        )
        self._presence = PresenceMessages(self._context, self._friends)
        self._traffic = TrafficMeter(self._links, self._friends, on_change)
        self._serving = Serving(
            library,
            catalogue,
            self._shares_of,
            self._issue,
            self._revoke,
            owner=identity.id,
            owner_name=lambda: self._context.config.home_name,
        )

    async def start(self, config: EngineConfig) -> None:
        """Start everything. Raises OSError, with nothing left running."""
        context = self._context
        context.config = config
        await context.state.load()
        await asyncio.to_thread(context.cache.mkdir, 0o700, True, True)
        async with AsyncExitStack() as parts:
            self._session = await parts.enter_async_context(
                ClientSession(cookie_jar=DummyCookieJar())
            )
            self._lan = Lan(self._messenger, self._session)
            parts.push_async_callback(self._lan.close)
            self._messenger.add(self._lan)
            self.pairings.start()
            parts.push_async_callback(self.pairings.stop)
            self._links.start()
            parts.push_async_callback(self._close_friends)
            parts.push_async_callback(self._links.stop)
            parts.push_async_callback(context.tasks.end)
            context.tasks.keep(context.state.save_changes, "save friends' state")
            context.tasks.keep(self._tell_changes, "tell friends")
            context.tasks.keep(self._traffic.run, "measure links")
            parts.push_async_callback(context.servers.stop)
            await self.apply(config)
            self._parts = parts.pop_all()

    async def stop(self) -> None:
        """Stop everything. May be called at any time."""
        await self._parts.aclose()
        await self._context.state.save()

    async def apply(self, config: EngineConfig) -> None:
        """Apply the differences between a configuration and what runs."""
        # All of it counts at once for those who ask; what it takes away is ended below.
        self._context.config = config
        self._total_rate.limit = config.swarm.upload_limit
        await self._context.servers.apply(config.servers, self._session)
        await (self._lan.open(LAN_PORT) if config.lan_visible else self._lan.close())
        wanted = {each.id: each for each in config.friends}
        wanted.pop(self._context.identity.id, None)
        for home in [each for each in self._friends if each not in wanted]:
            await self._remove(home)
        for home, friend in wanted.items():
            present = self._friends.get(home)
            if present is None:
                await self._add(friend)
            elif present.config != friend:
                present.apply(friend)
        self.pairings.befriended()
        self._changed()

    async def _add(self, config: FriendConfig) -> None:
        friend = Friend(config, self._context)
        await friend.open()
        self._friends[friend.id] = friend
        friend.start()

    async def _remove(self, home: str) -> None:
        friend = self._friends.pop(home)
        await friend.end()
        await forget(home, friend.list.library, self._context)

    async def forget_former(self) -> None:
        """Forget homes that are no friends by the present configuration: they were removed while no engine ran."""
        cache, pictures = self._context.cache, self._context.pictures
        known = await asyncio.to_thread(lambda: homes_in(cache) | pictures.homes())
        for home in known | self._context.state.seen.keys():
            if home not in self._friends:
                _LOGGER.debug("%s is forgotten", home)
                await forget(home, RemoteLibrary(cache, home), self._context)

    async def _close_friends(self) -> None:
        for friend in self._friends.values():
            await friend.close()

    # State.

    def status(self) -> PeersStatus:
        """Return everything about other homes."""
        transfers = self._context.transfers()
        rates = transfers.rates() if transfers is not None else {}
        return PeersStatus(
            id=self._context.identity.id,
            port=self._lan.port,
            friends=tuple(
                friend.status(rates.get(friend.id, (0, 0))) for friend in self.all
            ),
            pairings=self.pairings.statuses,
            servers=self._context.servers.statuses,
            blocked=self.pairings.blocked,
            superseded=self._is_superseded or self._context.servers.superseded,
        )

    @property
    def all(self) -> tuple[Friend, ...]:
        """The friends, in the order of the configuration."""
        homes = (each.id for each in self._context.config.friends)
        return tuple(self._friends[home] for home in homes if home in self._friends)

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes received and sent over links since the start."""
        return self._traffic.moved

    @property
    def _is_superseded(self) -> bool:
        """Whether friends say that another home uses this identity. One of many alone could cut this home off from all others."""
        count = sum(friend.says_superseded for friend in self._friends.values())
        return count > 0 and count >= min(2, len(self._friends))

    def is_friend(self, home: str) -> bool:
        """Tell whether a home is a friend."""
        return home in self._friends

    def friend(self, home: str) -> Friend:
        """Return a friend. Raises NotFound."""
        if (friend := self._friends.get(home)) is None:
            raise NotFound("there is no such home")
        return friend

    async def renew(self, former: Ticket) -> Ticket:
        """Return a new ticket for one that ended or has no torrent yet. Raises EngineError."""
        if (friend := self._friends.get(former.owner)) is None:
            raise Unavailable("this home is not a friend")
        return await friend.items.ticket(former.item.id)

    # What happens outside.

    def library_changed(self) -> None:
        """Tell friends that this home's library has changed."""
        self._library_changed.set()

    def lan_homes(self, homes: LanHomes) -> None:
        """Take note of all homes that the local network shows now."""
        for moved in self._lan.show(homes.homes):
            self._links.probe(moved)
        for home in homes.homes:
            if (friend := self._friends.get(home.id)) is not None:
                friend.presence.check_soon()
                self._links.upgrade(home.id)
            self.pairings.retry(home.id)

    def network_changed(self) -> None:
        """Retry at once everything that waits for a connection."""
        self._lan.retry()
        self._links.probe()
        self._context.servers.wake()
        self._retry()

    def resume(self) -> None:
        """Use the identity again after another home took it over."""
        for friend in self._friends.values():
            friend.says_superseded = False
        self._context.servers.resume()
        self._changed()
        self.network_changed()

    def _connected(self) -> None:
        self._retry()
        self._context.tasks.spawn(self._use_stun(), "find a STUN server")

    def _retry(self) -> None:
        self.pairings.retry()
        for friend in self._friends.values():
            friend.presence.check_soon()

    async def _use_stun(self) -> None:
        server = await self._context.servers.stun_server()
        transfers = self._context.transfers()
        if server is not None and transfers is not None:
            transfers.set_stun(server)

    async def _tell_changes(self) -> None:
        """Tell friends of a change at once, and of those that follow together."""
        while True:
            await self._library_changed.wait()
            self._library_changed.clear()
            for friend in tuple(self._friends.values()):
                friend.tell_changed()
            await asyncio.sleep(CHANGE_INTERVAL)

    def _received(self, message: Message) -> None:
        kind = message.envelope.kind
        if kind in pairing.KINDS:
            self.pairings.receive(message)
        elif kind in LINK_KINDS:
            self._links.receive(message)
        elif kind in presence.KINDS:
            try:
                self._presence.receive(message)
            except DecodeError as err:
                _LOGGER.debug("Ignored a malformed message: %s", err)

    # What links bring: this is their host.

    def answer(self, link: Link, ask: Ask) -> AsyncIterator[bytes]:
        """Answer a friend's request."""
        return self._serving.answer(link.home, ask)

    def noted(self, link: Link, note: Note) -> None:
        """Hand a note to the friend that it is from."""
        if (friend := self._friends.get(link.home)) is not None:
            friend.noted(note)

    def introduced(self, link: Link, message: bytes) -> None:
        """Hand on what a friend's torrent sends."""
        if (friend := self._friends.get(link.home)) is not None:
            friend.relay.receive(message)

    def ready(self, link: Link) -> None:
        """Hand a link to the friend that it leads to."""
        if (friend := self._friends.get(link.home)) is not None:
            friend.linked(link)
        else:
            self._context.tasks.spawn(link.close(Reasons.NOT_FRIENDS), "no friend")

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Tell the friend that a link has ended, or was refused."""
        if (friend := self._friends.get(link.home)) is None:
            return
        before = self._is_superseded
        friend.unlinked(link, reason, by_them=by_them)
        if self._is_superseded and not before:
            _LOGGER.error("Another home uses the identity of this one")

    # What components below ask.

    def _changed(self) -> None:
        if self._friends or self.pairings.is_active:
            # Loads what links are made of. Without friends, its memory and half a second are saved.
            self._links.prepare()
        self._context.state.changed()
        self._on_change()

    def _shares_of(self, home: str) -> Collection[str]:
        if home not in self._friends:
            return ()
        return self._context.config.shares_of(home) or ()

    async def _issue(
        self, item: str, home: str, ttl: float, wait: float
    ) -> Ticket | None:
        transfers = self._context.transfers()
        if transfers is None or not transfers.has_torrents:
            return None
        return await transfers.issue_to(item, home, ttl, wait)

    async def _revoke(self, item: str, home: str) -> None:
        if (transfers := self._context.transfers()) is not None:
            await transfers.revoke(home, item)

    def _rates(self, home: str) -> tuple[Throttle, ...]:
        friend = self._friends.get(home)
        return (
            (self._total_rate,) if friend is None else (self._total_rate, friend.rate)
        )

    def _is_expected(self, home: str) -> bool:
        """Tell whether messages of a home must get through a flood."""
        return home in self._friends or self.pairings.is_expected(home)

    def _is_near(self, home: str) -> bool:
        """Tell whether the local network shows a home."""
        return self._lan.knows(home)

    def _is_only_way(self, home: str) -> bool:
        """Tell whether a link to a home could not be opened again."""
        return not self._context.servers.is_connected and not self._lan.knows(home)
