"""One friend: its list, its presence, and everything that moves between it and this home."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
import logging
import time
from typing import Final

import orjson

from ..catalogue.remote_library import RemoteLibrary
from ..core.errors import EngineError
from ..core.sqlite import StoreError
from ..core.tasks import Tasks
from ..core.throttle import Throttle
from ..models import NewMedia
from ..models.codec import encode
from ..models.homes import FriendConfig, FriendStatus
from ..net.link.frames import Ask, Note, Reasons
from ..net.link.link import Link, shown
from .catalogue_sync import FriendList
from .context import Context
from .items import Items
from .presence import Changed, Presence
from .relay import TorrentRelay
from .state import Seen
from .traffic import Traffic

MAX_LIST: Final = 512 * 1024**2
"""Bytes of a friend's whole list."""
CATALOGUE: Final = "catalogue"
"""Subject of the note that says: my list has changed."""

_LOGGER = logging.getLogger(__name__)


class Friend:
    """A home that the user made a friend."""

    def __init__(self, config: FriendConfig, context: Context) -> None:
        """Prepare to deal with a friend."""
        self.id = config.id
        self.config = config
        self.rate = Throttle(config.upload_limit)
        """Bounds what is sent to this friend."""
        self.unfriended = False
        """Whether it answered that this home is no friend of it any more."""
        self.says_superseded = False
        """Whether it says that another home uses the identity of this one."""
        self.presence = Presence(self.id, context.connections.messenger)
        self.list = FriendList(
            context.cache,
            self.id,
            fetch=lambda have: self.ask(Ask(do=CATALOGUE, have=have), MAX_LIST),
            is_online=lambda: self.is_online,
            on_change=context.news.status_changed,
            on_items=self._items_changed,
            on_news=self._tell_news,
        )
        self._tasks = Tasks()
        self.items = Items(context, self.id, self.list, self._tasks)
        self.relay = TorrentRelay(context, self.id, self._tasks)
        self.traffic = Traffic()
        self._context = context

    async def start(self) -> None:
        """Open the list, keep it up to date, and watch for the friend."""
        try:
            await self.list.open()
        except (StoreError, OSError) as err:
            _LOGGER.error("Cannot keep the list of %s: %s", self.config.name, err)
        except BaseException:
            # Nobody else could close it.
            await self.list.library.close()
            raise
        self._tasks.keep(self._watch, f"watch {self.config.name}")
        self._tasks.keep(self.list.keep, f"list {self.config.name}")

    async def stop(self) -> None:
        """End everything, and close the list."""
        await self._tasks.end()
        await self.list.library.close()

    def apply(self, config: FriendConfig) -> None:
        """Apply a configuration."""
        former, self.config = self.config, config
        self.rate.limit = config.upload_limit
        if set(former.shares) != set(config.shares):
            self._tasks.spawn(self._shares_changed(), "shares changed")

    async def _shares_changed(self) -> None:
        """Revoke what the friend may not have any more, and tell it."""
        if (swarm := self._context.swarm()) is not None:
            await swarm.tickets.review()
        self.tell_changed()

    def ask(self, ask: Ask, limit: int) -> AsyncIterator[bytes]:
        """Yield the parts of the friend's answer, at most `limit` bytes together. Raises EngineError."""
        return self._context.connections.ask(self.id, ask, limit)

    # State.

    @property
    def name(self) -> str:
        """What the friend calls itself; the configured name until it was met."""
        return (self.seen.name if self.seen else "") or self.config.name

    @property
    def seen(self) -> Seen | None:
        """The friend as it was when it was met last."""
        return self._context.state.seen.get(self.id)

    @property
    def is_online(self) -> bool:
        """Whether it can be reached."""
        return self.presence.online or self.link is not None

    @property
    def link(self) -> Link | None:
        """The link to it, if one is open."""
        return self._context.connections.links.present(self.id)

    def status(self, torrent_rates: tuple[int, int]) -> FriendStatus:
        """Return how the friend is. `torrent_rates` are bytes per second from and to it by torrents."""
        link = self.link
        seen = self.seen
        return FriendStatus(
            id=self.id,
            name=self.name,
            online=self.is_online,
            path=link.path if link is not None else None,
            rtt=self.traffic.rtt if link is not None else None,
            download_rate=self.traffic.rates[0] + torrent_rates[0],
            upload_rate=self.traffic.rates[1] + torrent_rates[1],
            lost=self.traffic.lost if link is not None else None,
            last_seen=seen.last_seen if seen else None,
            items=self.list.count,
            release=(seen.release if seen else "") or None,
            unfriended=self.unfriended,
            message=self.list.message,
        )

    def _items_changed(self, items: tuple[str, ...] | None) -> None:
        self._context.news.items_changed(items)
        self.items.changed(items)

    def _tell_news(self, count: int, titles: tuple[str, ...]) -> None:
        self._context.news.happened(
            NewMedia(home=self.id, name=self.name, count=count, titles=titles)
        )

    # The list of this home's library that it sees.

    def list_state(self) -> str:
        """Return a digest that changes whenever the list that the friend sees may have changed."""
        library = self._context.library
        shares = sorted(
            f"{share.id} {share.available}"
            for share in library.shares
            if share.id in self.config.shares
        )
        return sha256(orjson.dumps([library.revision, *shares])).hexdigest()[:32]

    def tell_changed(self) -> None:
        """Tell the friend that the list that it sees may have changed."""
        if (link := self.link) is not None:
            link.note(Note(about=CATALOGUE))
        else:
            changed = encode(Changed(state=self.list_state()))
            self._context.connections.messenger.send(self.id, "changed", changed)

    # What its link brings.

    def linked(self, link: Link) -> None:
        """Note that a link is ready."""
        self.traffic.begin()
        self.met(link.name, link.release)
        self.list.begin()
        self._tasks.spawn(self.relay.open(link), "meet torrents")

    def unlinked(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Note that a link has ended, or was refused."""
        if by_them and reason == Reasons.NOT_FRIENDS:
            self.unfriend()
        elif by_them and reason == Reasons.SUPERSEDED:
            if not self.says_superseded:
                _LOGGER.warning(
                    "%s says that another home uses the identity of this one", self.name
                )
            self.says_superseded = True
        self.relay.close(link)
        if reason in (Reasons.LOST, Reasons.SILENT, Reasons.STOPPING):
            self.presence.doubt()
        self._context.news.status_changed()

    def noted(self, note: Note) -> None:
        """Take in a note."""
        if note.about == CATALOGUE:
            self.list.doubt()

    # Presence.

    def met(self, name: str, release: str) -> None:
        """Note that the friend is there, with the name and the release that it states."""
        self.unfriended = False
        self.list.message = None
        self._context.state.seen[self.id] = Seen(
            home=self.id,
            name=shown(name) or self.config.name,
            release=shown(release),
            last_seen=round(time.time(), 1),
        )
        if self.presence.met():
            self._context.pairings.retry(self.id)
            self._context.state.changed()
            self._context.news.status_changed()

    def unfriend(self) -> None:
        """Note that this home is no friend of the other one any more, unless they are pairing."""
        if self.unfriended or self._context.pairings.is_pairing(self.id):
            return
        _LOGGER.info("%s is not a friend of this home any more", self.config.name)
        self.unfriended = True
        self.presence.online = False
        self._context.news.status_changed()

    async def _watch(self) -> None:
        """Find out again and again whether the friend is there."""
        while True:
            self.list.announce()
            link = self.link
            if link is not None:
                self.met(link.name, link.release)
            elif not await self.presence.ping() and self.presence.missed():
                self._context.news.status_changed()
            await self.presence.rest()


async def forget(home: str, context: Context) -> None:
    """Revoke what a home was granted, and remove what is known of it."""
    context.state.seen.pop(home, None)
    context.state.changed()
    context.pairings.estranged(home)
    steps = [context.connections.links.close(home, Reasons.NOT_FRIENDS)]
    if (swarm := context.swarm()) is not None:
        steps.append(swarm.tickets.revoke(home))
    if (downloads := context.downloads()) is not None:
        steps.append(downloads.remove(home))
    for result in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(result, EngineError):
            _LOGGER.error("Something of %s is left: %s", home, result)
    try:
        await RemoteLibrary(context.cache, home).remove()
    except OSError as err:
        _LOGGER.error("Cannot remove the list of %s: %s", home, err)
    await context.pictures.remove(home)
    context.news.status_changed()
