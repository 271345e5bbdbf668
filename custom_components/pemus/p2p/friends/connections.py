"""How this home reaches others: through the local network, signalling servers, and links."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from aiohttp import ClientSession, DummyCookieJar

from ..core.errors import Unavailable
from ..core.news import News
from ..core.tasks import Tasks
from ..core.throttle import Throttle
from ..models import EngineConfig
from ..models.homes import LanHome
from ..net.lan import Lan
from ..net.link.frames import Ask, Note, Reasons
from ..net.link.link import Link
from ..net.link.links import Links
from ..net.messenger import Messenger
from ..serving.requests import Serving
from .pairings import Pairings
from .servers import Servers

if TYPE_CHECKING:
    # It loads libtorrent, which may be missing.
    from ..access.swarm import Swarm
    from .friend import Friend

LAN_PORT: Final = 43110
"""TCP port for homes in the local network, if it is free: a port that stays the same is found again sooner."""


class Connections:
    """Opens and closes connections as the configuration says, and hands what links bring to the friend it is from."""

    def __init__(
        self,
        messenger: Messenger,
        friends: Mapping[str, Friend],
        pairings: Pairings,
        serving: Serving,
        *,
        name: Callable[[], str],
        swarm: Callable[[], Swarm | None],
        news: News,
    ) -> None:
        """Prepare to connect to `friends`, and to homes that pair. `name` returns what this home calls itself."""
        self.messenger = messenger
        self.servers = Servers(
            messenger, on_change=news.status_changed, on_connected=self._connected
        )
        self.links = Links(
            messenger,
            self,
            name=name,
            is_friend=friends.__contains__,
            is_pairing=pairings.is_pairing,
            servers=self.servers.ice_servers,
            rates=self._rates,
            near=self._is_near,
            only_way=self._is_only_way,
        )
        self._friends = friends
        self._pairings = pairings
        self._serving = serving
        self._swarm = swarm
        self.total_rate = Throttle()
        """What is sent to all homes and guests together."""
        self._tasks = Tasks()

    async def start(self, parts: AsyncExitStack) -> None:
        """Start without a server or a port. `parts` gets what stops everything."""
        self._session = await parts.enter_async_context(
            ClientSession(cookie_jar=DummyCookieJar())
        )
        self.lan = Lan(self.messenger, self._session)
        parts.push_async_callback(self.lan.close)
        self.messenger.add(self.lan)
        self.links.start()
        parts.push_async_callback(self.links.stop)
        parts.push_async_callback(self.servers.stop)
        parts.push_async_callback(self._tasks.end)

    async def apply(self, config: EngineConfig) -> None:
        """Apply a configuration."""
        self.total_rate.limit = config.swarm.upload_limit
        self.total_rate.is_lan_exempt = config.swarm.lan_exempt
        await self.servers.apply(config.servers, self._session)
        await (self.lan.open(LAN_PORT) if config.lan_visible else self.lan.close())

    @property
    def port(self) -> int:
        """The port for homes in the local network, 0 if none is open."""
        return self.lan.port

    # Requests to friends.

    async def ask(self, home: str, ask: Ask, limit: int) -> AsyncIterator[bytes]:
        """Yield the parts of a friend's answer, at most `limit` bytes together. Raises EngineError."""
        link = await self._link(home)
        async for part in link.ask(ask, limit):
            yield part

    async def ask_whole(self, home: str, ask: Ask, limit: int) -> bytes:
        """Return a friend's whole answer, at most `limit` bytes. Raises EngineError."""
        link = await self._link(home)
        try:
            return await link.ask_whole(ask, limit)
        except Unavailable:
            if link.reason not in (Reasons.REPLACED, Reasons.IDLE):
                raise
        # The other end closed the link before the request arrived: for a better link, or because it was idle.
        link = await self._link(home)
        return await link.ask_whole(ask, limit)

    async def _link(self, home: str) -> Link:
        if self.links.present(home) is None:
            # Somebody waits: do not sit out a server's backoff.
            self.servers.connect()
        return await self.links.get(home)

    # What happens outside.

    def show(self, homes: Sequence[LanHome]) -> None:
        """Note all homes that the local network shows now."""
        for moved in self.lan.show(tuple(homes)):
            self.links.probe(moved)
        for home in homes:
            if (friend := self._friends.get(home.id)) is not None:
                friend.presence.check_soon()
                self.links.upgrade(home.id)
            self._pairings.retry(home.id)

    def network_changed(self) -> None:
        """Retry at once everything that waits for a connection."""
        self.lan.retry()
        self.links.probe()
        self.servers.wake()
        self._retry()

    def _connected(self) -> None:
        self._retry()
        self._tasks.spawn(self._use_stun(), "find a STUN server")

    def _retry(self) -> None:
        self._pairings.retry()
        for friend in self._friends.values():
            friend.presence.check_soon()

    async def _use_stun(self) -> None:
        server = await self.servers.stun_server()
        swarm = self._swarm()
        if server is not None and swarm is not None:
            swarm.set_stun(server)

    # What links bring: this is their host.

    def answer(self, link: Link, ask: Ask) -> AsyncGenerator[bytes]:
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
            self._tasks.spawn(link.close(Reasons.NOT_FRIENDS), "no friend")

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Tell the friend that a link has ended, or was refused."""
        if (friend := self._friends.get(link.home)) is not None:
            friend.unlinked(link, reason, by_them=by_them)

    # What links ask.

    def _rates(self, home: str) -> tuple[Throttle, ...]:
        friend = self._friends.get(home)
        return (self.total_rate, *([] if friend is None else [friend.rate]))

    def _is_near(self, home: str) -> bool:
        """Tell whether a home is probably in the local network."""
        return self.lan.knows(home)

    def _is_only_way(self, home: str) -> bool:
        """Tell whether a link to a home could not be opened again."""
        return not self.servers.is_connected and not self.lan.knows(home)
