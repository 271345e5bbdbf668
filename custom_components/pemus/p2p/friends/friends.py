"""All friends of this home."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..access.audience import Access
from ..access.ticket import Ticket
from ..catalogue.remote_library import homes_in
from ..catalogue.sender import Catalogue
from ..core.errors import NotFound, Unavailable
from ..core.news import News
from ..core.tasks import Tasks
from ..library import Library
from ..models import EngineConfig
from ..models.homes import PeersStatus
from ..net.identity import Identity
from ..net.link.handshake import KINDS as LINK_KINDS
from ..net.messenger import Message, Messenger
from ..serving.requests import Serving
from ..transfers.downloads import Downloads
from . import pairing, presence
from .artwork import Pictures
from .connections import Connections
from .context import Context
from .friend import Friend, forget
from .pairings import Pairings
from .presence import PresenceMessages
from .state import FILE, State
from .traffic import TrafficMeter

if TYPE_CHECKING:
    # It loads libtorrent, which may be missing.
    from ..access.swarm import Swarm

CHANGE_INTERVAL: Final = 1.0
"""Seconds over which further changes of the library are gathered after friends were told of one."""

_LOGGER = logging.getLogger(__name__)


class Friends:
    """Adds and removes friends as the user configures them, and hands to each the messages that come from it.

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
        access: Access,
        swarm: Callable[[], Swarm | None],
        downloads: Callable[[], Downloads | None],
        news: News,
    ) -> None:
        """Prepare to deal with friends as an identity.

        `data` is the folder for what must not get lost, `cache` the folder for friends' lists and pictures. `catalogue` is
        what friends are told of the library, and `access` decides what each of them may have. `swarm` and `downloads`
        return these components, if they run.
        """
        self._config = EngineConfig(home_name="")
        self._friends: dict[str, Friend] = {}
        self._swarm = swarm
        self._downloads = downloads
        self._news = news
        self._library_changed = asyncio.Event()
        self._parts = AsyncExitStack()
        self._tasks = Tasks()
        messenger = Messenger(identity, self._received, is_expected=self._is_expected)
        self.pairings = Pairings(
            messenger,
            name=self._name,
            is_friend=self.is_friend,
            on_change=self._changed,
        )
        self.serving = Serving(
            library,
            catalogue,
            access,
            swarm,
            owner=identity.id,
            owner_name=self._name,
        )
        self.connections = Connections(
            messenger,
            self._friends,
            self.pairings,
            self.serving,
            name=self._name,
            swarm=swarm,
            news=news,
        )
        self._context = Context(
            library=library,
            connections=self.connections,
            pairings=self.pairings,
            pictures=Pictures(cache / "pictures"),
            state=State(data / FILE, identity.id, self.pairings),
            cache=cache,
            swarm=swarm,
            downloads=downloads,
            news=news,
        )
        self._presence = PresenceMessages(
            messenger, self._friends, self.pairings, name=self._name
        )
        self._traffic = TrafficMeter(self._friends, news)

    async def start(self, config: EngineConfig) -> None:
        """Start everything. Raises OSError, with nothing left running."""
        state = self._context.state
        await state.load()
        await asyncio.to_thread(self._context.cache.mkdir, 0o700, True, True)
        async with AsyncExitStack() as parts:
            parts.push_async_callback(self._stop_friends)
            await self.connections.start(parts)
            self.pairings.start()
            parts.push_async_callback(self.pairings.stop)
            parts.push_async_callback(self._tasks.end)
            self._tasks.keep(state.save_changes, "save friends' state")
            self._tasks.keep(self._tell_changes, "tell friends")
            self._tasks.keep(self._traffic.run, "measure links")
            await self.apply(config)
            self._parts = parts.pop_all()

    async def stop(self) -> None:
        """Stop everything. May be called at any time."""
        await self._parts.aclose()
        await self._context.state.save()

    async def _stop_friends(self) -> None:
        for friend in self._friends.values():
            await friend.stop()

    async def apply(self, config: EngineConfig) -> None:
        """Apply the differences between a configuration and what runs."""
        own = self.connections.messenger.identity.id
        wanted = {each.id: each for each in config.friends if each.id != own}
        # All of it counts at once for those who ask; what it takes away is ended below.
        self._config = config
        for home in self._friends.keys() & wanted.keys():
            self._friends[home].apply(wanted[home])
        await self.connections.apply(config)
        for home in self._friends.keys() - wanted.keys():
            await self._friends.pop(home).stop()
            await forget(home, self._context)
        for home, friend_config in wanted.items():
            friend = self._friends.pop(home, None)
            if friend is None:
                friend = Friend(friend_config, self._context)
                await friend.start()
            friend.rate.is_lan_exempt = config.swarm.lan_exempt
            # In the order of the configuration.
            self._friends[home] = friend
        self.pairings.befriended()
        self._changed()

    async def forget_former(self) -> None:
        """Forget homes that are no friends by the present configuration: they were removed while no engine ran."""
        cache, pictures = self._context.cache, self._context.pictures
        known = await asyncio.to_thread(lambda: homes_in(cache) | pictures.homes())
        for home in known | self._context.state.seen.keys():
            if home not in self._friends:
                _LOGGER.debug("%s is forgotten", home)
                await forget(home, self._context)

    # State.

    def status(self) -> PeersStatus:
        """Return everything about other homes."""
        swarm, downloads = self._swarm(), self._downloads()
        down = downloads.rates() if downloads is not None else {}
        up = swarm.seeds.upload_rates() if swarm is not None else {}
        servers = self.connections.servers
        return PeersStatus(
            id=self.connections.messenger.identity.id,
            port=self.connections.port,
            friends=tuple(
                friend.status((down.get(friend.id, 0), up.get(friend.id, 0)))
                for friend in self.all
            ),
            pairings=self.pairings.statuses,
            servers=servers.statuses,
            blocked=self.pairings.blocked,
            superseded=self._is_superseded or servers.superseded,
        )

    @property
    def all(self) -> tuple[Friend, ...]:
        """The friends, in the order of the configuration."""
        return tuple(self._friends.values())

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes received and sent over links since the start."""
        return self._traffic.moved

    @property
    def _is_superseded(self) -> bool:
        """Whether friends say that another home uses this identity. One of many alone could cut this home off from all others."""
        count = sum(friend.says_superseded for friend in self.all)
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

    def resume(self) -> None:
        """Use the identity again after another home took it over."""
        for friend in self.all:
            friend.says_superseded = False
        self.connections.servers.resume()
        self._news.status_changed()
        self.connections.network_changed()

    async def _tell_changes(self) -> None:
        """Tell friends of a change at once, and of those that follow together."""
        while True:
            await self._library_changed.wait()
            self._library_changed.clear()
            for friend in self.all:
                friend.tell_changed()
            await asyncio.sleep(CHANGE_INTERVAL)

    def _received(self, message: Message) -> None:
        kind = message.envelope.kind
        if kind in pairing.KINDS:
            self.pairings.receive(message)
        elif kind in LINK_KINDS:
            self.connections.links.receive(message)
        elif kind in presence.KINDS:
            self._presence.receive(message)

    # What components below ask.

    def _name(self) -> str:
        return self._config.home_name

    def _changed(self) -> None:
        if self._friends or self.pairings.is_active:
            # Loads what links are made of. Without friends, its memory and half a second are saved.
            self.connections.links.prepare()
        self._context.state.changed()
        self._news.status_changed()

    def _is_expected(self, home: str) -> bool:
        """Tell whether messages of a home must get through a flood."""
        return home in self._friends or self.pairings.is_expected(home)
