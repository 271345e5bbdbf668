"""The parts of a running engine: the library, and what an identity and the installed libraries allow beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from importlib import import_module
import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .access.audience import Access
from .capabilities import installed
from .catalogue.sender import Catalogue
from .core.errors import Unavailable
from .core.news import News
from .library import Library
from .media.reader import MediaReader
from .models import EngineConfig, SwarmStatus

if TYPE_CHECKING:
    # They load libtorrent and aiortc, which may be missing.
    from .access.ticket import Ticket
    from .friends.friends import Friends
    from .net.identity import Identity
    from .net.link.frames import Ask
    from .transfers.receiver import Receiver
    from .transfers.sources.torrent import Source
    from .transfers.swarm import Swarm

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
        self.active_transfers: Receiver | None = None
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
    def transfers(self) -> Receiver:
        """What is fetched from other homes. Raises Unavailable."""
        if self.active_transfers is None:
            raise Unavailable(
                "nothing can be fetched: this home has no identity, or no cache for it"
            )
        return self.active_transfers

    @property
    def torrents(self) -> Swarm:
        """The transfers, if they use torrents. Raises Unavailable."""
        if self.active_transfers is None or not self.active_transfers.has_torrents:
            raise Unavailable("there are no torrents: libtorrent does not run")
        return cast("Swarm", self.active_transfers)

    def swarm_status(self) -> SwarmStatus | None:
        """Return what moves between homes, by torrents and over links together; None without transfers."""
        if self.active_transfers is None:
            return None
        status = self.active_transfers.status()
        friends = self.active_friends
        received, sent = self._moved if friends is None else friends.moved
        return replace(
            status,
            downloaded=status.downloaded + received,
            uploaded=status.uploaded + sent,
        )

    # Transfers.

    async def start_transfers(self, identity: Identity, config: EngineConfig) -> None:
        """Start the transfers: with torrents, or over links alone, or not at all. The library works without."""
        if self.capabilities.get("libtorrent") is not None:
            try:
                from .transfers.swarm import Swarm

                swarm: Receiver = Swarm(
                    home=identity.id,
                    data=self._data,
                    cache=self._cache / "downloads",
                    library=self.library,
                    access=self._access,
                    on_change=self.news.status_changed,
                    renew=self._renew_ticket,
                    beside=self._link_source,
                )
                await swarm.start(config)
            except Exception:
                _LOGGER.exception("There are no torrents: the swarm does not start")
            else:
                self.active_transfers = swarm
                return
        try:
            from .transfers.receiver import Receiver

            swarm = Receiver(
                home=identity.id,
                cache=self._cache / "downloads",
                on_change=self.news.status_changed,
                renew=self._renew_ticket,
                beside=self._link_source,
            )
            await swarm.start(config)
        except Exception:
            _LOGGER.exception("Nothing can be fetched from other homes")
            return
        self.active_transfers = swarm

    async def stop_transfers(self) -> None:
        """Stop the transfers. May be called at any time."""
        transfers, self.active_transfers = self.active_transfers, None
        self._moved = 0, 0
        if transfers is not None:
            await transfers.stop()

    @property
    def lacks_torrents(self) -> bool:
        """Whether transfers run without torrents although libtorrent is installed: it did not start, and may do so now."""
        transfers = self.active_transfers
        return (
            transfers is not None
            and not transfers.has_torrents
            and self.capabilities.get("libtorrent") is not None
        )

    async def _renew_ticket(self, former: Ticket) -> Ticket:
        return await self.friends.renew(former)

    def _link_source(self, ticket: Ticket, swarm: Source | None) -> Source | None:
        """Return a source over the link to the owner of an item, None where the libraries for links are missing.

        The owner need not be a friend yet: kept items are fetched from the start on, before this home is configured.
        """
        try:
            from .transfers.sources.link import LinkSource
        except ModuleNotFoundError:
            return None
        return LinkSource(ticket, partial(self._ask_friend, ticket.owner), swarm)

    def _ask_friend(self, owner: str, ask: Ask, limit: int) -> AsyncIterator[bytes]:
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
                transfers=lambda: self.active_transfers,
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

    async def stop_friends(self) -> None:
        """Stop everything about other homes. May be called at any time."""
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
        if self.active_transfers is not None:
            self.active_transfers.items_changed(items)
        if self.active_friends is not None:
            self.active_friends.library_changed()
