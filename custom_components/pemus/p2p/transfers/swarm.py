"""The swarm as the rest of the engine sees it: what is shared goes out by tickets, what others share comes in by them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from ipaddress import ip_address
import logging
from pathlib import Path
import socket
from typing import Final, Protocol

from ..access import ticket as tickets
from ..access.audience import Access
from ..access.endpoints import is_elsewhere
from ..access.ticket import Ticket
from ..access.tickets import Tickets
from ..core import descriptors
from ..core.errors import EngineError
from ..models import (
    EngineConfig,
    Item,
    LocalFile,
    ShareStatus,
    SwarmConfig,
    SwarmStatus,
)
from ..torrent import background
from ..torrent.background import Background
from ..torrent.hashing import Hasher
from ..torrent.seeds import Seeds
from ..torrent.session import ADDRESSES, Session, SessionSettings, Torrent
from ..torrent.signaling_relay import SignalingRelays
from ..torrent.store import SwarmStore
from ..torrent.tracker import LoopbackTracker, Send, SignalingRelay
from .downloads import OtherSources
from .receiver import Receiver
from .renewal import Renew

DATABASE: Final = "swarm.db"
STREAMING_RATE: Final = 10_000
"""Bytes per second, in or out, from which on something streams and hashing waits."""
PLAYING: Final = 15.0
"""Seconds for which hashing waits after bytes were played. Whoever sends them says so every few seconds."""

# Never sent to: a datagram socket that is connected only tells which address would be used.
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

_LOGGER = logging.getLogger(__name__)


class Library(background.Source, Protocol):
    """What is shared."""

    async def item(self, item_id: str) -> Item:
        """Return an item. Raises NotFound."""

    @property
    def shares(self) -> tuple[ShareStatus, ...]:
        """The state of each share."""

    async def shares_of(self, item_ids: Collection[str]) -> Mapping[str, str]:
        """Return in which share each item lies; those that there are not are missing. Raises Unavailable."""

    async def files(
        self, item_ids: Collection[str]
    ) -> dict[str, LocalFile | EngineError]:
        """Return for each of many items what `file` returns or raises, with fewer looks than one for each."""


class Swarm(Receiver):
    """One session with all that hangs on it."""

    has_torrents = True

    def __init__(
        self,
        *,
        home: str,
        data: Path,
        cache: Path,
        library: Library,
        access: Access,
        on_change: Callable[[], None],
        renew: Renew | None = None,
        beside: OtherSources | None = None,
    ) -> None:
        """Prepare the swarm of a home, by its id, that keeps hashes and tickets in `data`, and remote files in `cache`; both folders exist.

        `library` is what is shared, and `access` decides with whom. `on_change` is called in the event loop when `status` may have changed.
        """
        super().__init__(
            home=home, cache=cache, on_change=on_change, renew=renew, beside=beside
        )
        self._data = data
        self._library = library
        self._access = access
        self._played = float("-inf")
        """When bytes of this home's were played last."""
        self._resuming: asyncio.TimerHandle | None = None
        self._stun = ""

    async def start(self, config: EngineConfig) -> None:
        """Bring everything up. Raises SessionError, CacheError, StoreError, OSError."""
        self._config = config
        async with AsyncExitStack() as parts:
            store = SwarmStore(self._data / DATABASE)
            await asyncio.to_thread(store.open)
            parts.push_async_callback(asyncio.to_thread, store.close)
            self._session = await Session.open(
                self._session_settings(),
                on_stats=self._on_stats,
            )
            parts.push_async_callback(self._session.close)
            tracker = LoopbackTracker()
            await tracker.start()
            parts.push_async_callback(tracker.stop)
            self._channels = SignalingRelays(tracker)
            parts.push_async_callback(self._channels.stop)
            self._hasher = Hasher(store, on_change=self._on_change)
            parts.push_async_callback(self._hasher.stop)
            parts.callback(self._resume_no_more)
            self._seeds = Seeds(
                self._session,
                self._hasher,
                self._library.file,
                files=self._library.files,
                on_seed=self._seeded,
                on_change=self._on_change,
            )
            self._seeds.limit = _active_seeds(config.swarm)
            self._seeds.start()
            parts.push_async_callback(self._seeds.stop)
            self._background = Background(store, self._hasher, self._library)
            self._background.start()
            parts.push_async_callback(self._background.stop)
            self._tickets = Tickets(
                store,
                self._seeds,
                self._access,
                owner=self.home,
                owner_name=lambda: self._config.home_name,
                files=self._library.file,
                endpoints=self._endpoints,
            )
            await self._tickets.start()
            parts.push_async_callback(self._tickets.stop)
            await self._start_downloads(parts, self._session, self._channels)
            self._parts = parts.pop_all()

    def apply(self, config: EngineConfig) -> None:
        """Apply the differences to what runs; transfers go on."""
        super().apply(config)
        self._apply_session()
        self._seeds.limit = _active_seeds(config.swarm)
        for friend in config.friends:
            for torrent in self._seeds.torrents_of(friend.id):
                torrent.limit_upload(friend.upload_limit)

    def items_changed(self, items: tuple[str, ...] | None) -> None:
        """Look after what is seeded of these items, or of all of them."""
        self._seeds.items_changed(items)
        self._tickets.items_changed(items)
        self._background.items_changed()

    def streaming(self) -> None:
        """Take note that bytes of something that is played have just left."""
        loop = asyncio.get_running_loop()
        self._played = loop.time()
        self._resume_no_more()
        self._resuming = loop.call_later(PLAYING, self._give_way)
        self._give_way()

    # State.

    def status(self) -> SwarmStatus:
        """Return what the swarm does."""
        stats, usage = self._session.stats, self._downloads.usage
        hashing = self._background.progress
        return SwarmStatus(
            port=self._session.port,
            upload_rate=stats.upload_rate,
            download_rate=stats.download_rate,
            uploaded=stats.uploaded,
            downloaded=stats.downloaded,
            peers=stats.peers,
            active_seeds=self._seeds.active,
            hashed=hashing.hashed_size,
            hashable=hashing.size,
            cache_used=usage.used,
            cache_quota=usage.quota,
            transfers=self._downloads.fetching,
        )

    # The owner's side.

    async def issue_to(
        self, item: str, receiver: str, ttl: float, wait: float
    ) -> Ticket:
        """Return a ticket, with a torrent if it is there within so many seconds. Raises what `Tickets.issue` raises."""
        # The ticket names the port, which may be just being opened.
        await self._session.listening()
        return await self._tickets.issue(item, receiver, ttl, wait=wait)

    async def review(self) -> None:
        """Make all tickets worthless that the present configuration does not allow.

        Only from the first time on is anything served for the tickets that a former engine gave: what was applied before
        has to be a configuration, not the want of one.
        """
        await self._tickets.review()

    async def revoke(self, receiver: str, item: str | None) -> None:
        """Make tickets worthless. Raises Unavailable."""
        await self._tickets.revoke(receiver, item)

    # Channels.

    def rates(self) -> Mapping[str, tuple[int, int]]:
        """Return what comes from each home and goes there, in bytes per second."""
        down, up = self._downloads.rates(), self._seeds.upload_rates()
        return {
            home: (down.get(home, 0), up.get(home, 0))
            for home in down.keys() | up.keys()
        }

    def set_stun(self, server: str) -> None:
        """Have WebRTC learn this home's public address from a STUN server, `host:port`."""
        self._stun = server
        self._apply_session()

    async def meet(self, home: str, send: Send) -> SignalingRelay:
        """Introduce WebRTC peers over a channel to a home, in the place of a former one, until `part`."""
        return await self._channels.open(home, send)

    async def part(self, home: str, channel: SignalingRelay) -> None:
        """Use a channel no longer."""
        await self._channels.close(home, channel)

    # Inside.

    def _seeded(self, receiver: str, item: str, torrent: Torrent) -> None:
        """Have a torrent that begins to be served meet its receiver, within that one's limit."""
        for friend in self._config.friends:
            if friend.id == receiver:
                torrent.limit_upload(friend.upload_limit)
        self._channels.seeded(receiver, item, torrent)

    def _on_stats(self) -> None:
        self._give_way()
        self._on_change()

    def _give_way(self) -> None:
        """Have hashing in the background wait while something streams."""
        stats = self._session.stats
        rate = max(stats.upload_rate, stats.download_rate)
        # A player that was paused keeps its connection and takes nothing.
        played = asyncio.get_running_loop().time() - self._played
        if played < PLAYING or rate > STREAMING_RATE:
            self._hasher.pause()
        else:
            self._hasher.resume()

    def _resume_no_more(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None

    def _apply_session(self) -> None:
        self._session.apply(self._session_settings())

    def _session_settings(self) -> SessionSettings:
        config = self._config.swarm
        return SessionSettings(
            # Nobody else may connect.
            addresses=ADDRESSES if self._config.friends else (),
            port=config.port,
            upload_limit=config.upload_limit,
            download_limit=config.download_limit,
            connections=config.connections,
            lan_exempt=config.lan_exempt,
            own_addresses=tuple(_addresses()),
            port_mapping=config.port_mapping,
            stun_server=self._stun,
        )

    def _endpoints(self) -> Iterator[str]:
        if self._session.port:
            for address in _addresses():
                yield tickets.endpoint(address, self._session.port)


def _active_seeds(config: SwarmConfig) -> int:
    """Return how many files may be seeded at a time. Each of them is open."""
    if config.active_seeds <= (possible := descriptors.for_sharing()):
        return config.active_seeds
    _LOGGER.warning(
        "%s files are shared at a time instead of %s: the system lets this process open no more",
        possible,
        config.active_seeds,
    )
    return possible


def _addresses() -> list[str]:
    """Return the addresses under which this machine is known in its networks; loopback where it has no network."""
    found = []
    for family, elsewhere in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            address = ip_address(probe.getsockname()[0])
            if is_elsewhere(address):
                found.append(str(address))
    return found or ["127.0.0.1"]
