"""The parts of a running engine: the library, and what an identity and the installed libraries allow beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib import import_module
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from .access.audience import Access
from .access.ticket import Ticket
from .capabilities import installed
from .catalogue.sender import Catalogue
from .core.errors import Unavailable
from .core.news import News
from .library import Library
from .media.reader import MediaReader
from .models import EngineConfig, SwarmStatus
from .transfers.cache import Cache, CacheSettings
from .transfers.downloads import Downloads

if TYPE_CHECKING:
    # They load libtorrent and aiortc, which may be missing.
    from .access.swarm import Swarm
    from .friends.friends import Friends
    from .net.identity import Identity
    from .net.link.frames import Ask
    from .rooms.rooms import Rooms

_LOGGER = logging.getLogger(__name__)


class Components:
    """What the API's routers call. A component that does not run raises Unavailable when it is asked for."""

    def __init__(
        self, *, data: Path, cache: Path, media: MediaReader, news: News
    ) -> None:
        """Prepare the components. They keep what must not get lost in `data`, everything else in `cache`."""
        self._data = data
        self._cache = cache
        self.news = news
        self.library = Library(
            data=data,
            cache=cache,
            media=media,
            on_change=self._library_changed,
            on_items=self._items_changed,
        )
        self.config = EngineConfig(home_name="")
        """The configuration that counts for whoever asks what it may have."""
        self._access = Access(self.library, lambda: self.config)
        self._catalogue = Catalogue(
            self.library.store,
            shares=lambda: self.library.configured,
            available=self.library.available,
            on_fault=self.library.changed,
        )
        self.capabilities: dict[str, str | None] = installed()
        """Version of each optional library, None where it is missing."""
        self.active_friends: Friends | None = None
        """None while this home has no identity or lacks a library for it."""
        self.active_rooms: Rooms | None = None
        """None while friends are."""
        self.active_swarm: Swarm | None = None
        """None while this home has no identity or libtorrent does not run."""
        self.active_downloads: Downloads | None = None
        """None while this home has no identity or its cache cannot be used."""
        self._available: set[str] = set()
        self._moved = 0, 0
        """Bytes received and sent by friends' links that ended, until the transfers end too: the sum must not fall in between."""
        self._has_logged_limits = False

    @property
    def friends(self) -> Friends:
        """Everything about other homes. Raises Unavailable."""
        if self.active_friends is None:
            raise Unavailable(
                "friends cannot be reached: this home has no identity, or lacks a library for it"
            )
        return self.active_friends

    @property
    def rooms(self) -> Rooms:
        """The rooms of guests. Raises Unavailable."""
        if self.active_rooms is None:
            raise Unavailable(
                "guests cannot come: this home has no identity, or lacks a library for it"
            )
        return self.active_rooms

    @property
    def downloads(self) -> Downloads:
        """Other homes' items. Raises Unavailable."""
        if self.active_downloads is None:
            raise Unavailable(
                "nothing can be fetched: this home has no identity, or no cache for it"
            )
        return self.active_downloads

    def swarm_status(self) -> SwarmStatus | None:
        """Return what moves between homes, by torrents and over links together; None if nothing can."""
        swarm, downloads = self.active_swarm, self.active_downloads
        if swarm is None and downloads is None:
            return None
        status = swarm.status() if swarm is not None else SwarmStatus()
        if downloads is not None:
            if swarm is None:
                rate = sum(downloads.rates().values())
                status = replace(status, download_rate=rate)
            status = replace(
                status,
                cache_used=downloads.usage.used,
                cache_quota=downloads.usage.quota,
                transfers=downloads.fetching,
            )
        friends = self.active_friends
        received, sent = self._moved if friends is None else friends.moved
        return replace(
            status,
            downloaded=status.downloaded + received,
            uploaded=status.uploaded + sent,
        )

    # Transfers.

    async def start_transfers(self, identity: Identity, config: EngineConfig) -> None:
        """Start what does not run yet of the swarm and the downloads; what runs gets the configuration.

        Without libtorrent there is no swarm, and items come over links alone. The library works without either.
        """
        if self.active_swarm is not None:
            self.active_swarm.apply(config)
        elif self.capabilities.get("libtorrent") is not None:
            await self._start_swarm(identity, config)
        settings = CacheSettings(
            quota=config.swarm.cache_quota, reserve=config.swarm.cache_reserve
        )
        if self.active_downloads is not None:
            self.active_downloads.apply(settings)
        else:
            await self._start_downloads(settings)

    async def _start_swarm(self, identity: Identity, config: EngineConfig) -> None:
        try:
            from .access.swarm import Swarm

            swarm = Swarm(
                home=identity.id,
                data=self._data,
                library=self.library,
                access=self._access,
                on_change=self.news.status_changed,
            )
            await swarm.start(config)
        except Exception:
            _LOGGER.exception("There are no torrents: the swarm does not start")
            return
        # Downloads that run without torrents start again with them.
        await self._stop_downloads()
        self.active_swarm = swarm

    async def _start_downloads(self, settings: CacheSettings) -> None:
        swarm = self.active_swarm
        try:
            downloads = Downloads(
                swarm.session if swarm is not None else None,
                Cache(self._cache / "downloads"),
                settings,
                introducer=swarm.relays if swarm is not None else None,
                renew=self._renew_ticket,
                ask=self._ask_friend,
                on_change=self.news.status_changed,
            )
            await downloads.start()
        except Exception:
            _LOGGER.exception("Nothing can be fetched from other homes")
            return
        self.active_downloads = downloads

    async def stop_transfers(self) -> None:
        """Stop the downloads and the swarm. May be called at any time."""
        self._moved = 0, 0
        await self._stop_downloads()
        swarm, self.active_swarm = self.active_swarm, None
        if swarm is not None:
            await swarm.stop()

    async def _stop_downloads(self) -> None:
        downloads, self.active_downloads = self.active_downloads, None
        if downloads is not None:
            await downloads.close()

    async def _renew_ticket(self, former: Ticket) -> Ticket:
        return await self.friends.renew(former)

    def _ask_friend(self, owner: str, ask: Ask, limit: int) -> AsyncIterator[bytes]:
        """Send a request for the downloads, which start before this home is configured: its owner may be a friend later."""
        if not self.friends.is_friend(owner):
            raise Unavailable("this home is not a friend")
        return self.friends.friend(owner).ask(ask, limit)

    # Friends.

    async def start_friends(self, identity: Identity, config: EngineConfig) -> None:
        """Start what friends need, or go on without."""
        try:
            # Takes a second of processor time at first.
            module = await asyncio.to_thread(
                import_module, ".friends.friends", __package__
            )
            friends: Friends = module.Friends(
                identity,
                data=self._data,
                cache=self._cache / "friends",
                library=self.library,
                catalogue=self._catalogue,
                access=self._access,
                swarm=lambda: self.active_swarm,
                downloads=lambda: self.active_downloads,
                news=self.news,
            )
            await friends.start(config)
        except ModuleNotFoundError as err:
            if self.capabilities.get(err.name or "", "") is not None:
                _LOGGER.exception("Friends cannot be reached")
            elif not self._has_logged_limits:
                # Until the engine's own environment is made. Home Assistant shows that to the user.
                self._has_logged_limits = True
                _LOGGER.info("Friends cannot be reached without %s", err.name)
            return
        except Exception:
            _LOGGER.exception("Friends cannot be reached")
            return
        self.active_friends = friends
        await self._start_rooms(identity, config, friends)

    async def _start_rooms(
        self, identity: Identity, config: EngineConfig, friends: Friends
    ) -> None:
        """Start what guests need, or go on without."""
        from .rooms.rooms import Rooms

        rooms = Rooms(
            identity.id,
            data=self._data,
            library=self.library,
            serving=friends.serving,
            servers=friends.connections.servers,
            factory=friends.connections.links.factory,
            total_rate=friends.connections.total_rate,
            news=self.news,
        )
        try:
            await rooms.start(config)
        except Exception:
            _LOGGER.exception("Guests cannot come: the rooms do not start")
            await rooms.stop()
            return
        self.active_rooms = rooms

    async def stop_friends(self) -> None:
        """Stop everything about guests and other homes. May be called at any time."""
        rooms, self.active_rooms = self.active_rooms, None
        if rooms is not None:
            await rooms.stop()
        friends, self.active_friends = self.active_friends, None
        if friends is not None:
            self._moved = friends.moved
            await friends.stop()

    # What the library reports.

    def _library_changed(self) -> None:
        self.news.status_changed()
        available = {share.id for share in self.library.shares if share.available}
        if available != self._available:
            # Friends see what cannot be reached greyed, too.
            self._available = available
            if self.active_friends is not None:
                self.active_friends.library_changed()

    def _items_changed(self, items: tuple[str, ...] | None) -> None:
        self.news.items_changed(items)
        if self.active_swarm is not None:
            self.active_swarm.items_changed(items)
        if self.active_friends is not None:
            self.active_friends.library_changed()
        if self.active_rooms is not None:
            self.active_rooms.library_changed()
