"""Shares this home's items by torrents: one libtorrent session, what it seeds, and the tickets that allow it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from ipaddress import ip_address
import logging
from pathlib import Path
import socket
from typing import Final

from ..core import descriptors
from ..core.timer import Timer
from ..library import Library
from ..models import EngineConfig, SwarmConfig, SwarmStatus
from ..torrent.background import Background
from ..torrent.hashing import Hasher
from ..torrent.seeds import Seeds
from ..torrent.session import ADDRESSES, Session, SessionSettings, Torrent
from ..torrent.signaling_relay import SignalingRelays
from ..torrent.store import SwarmStore
from ..torrent.tracker import LoopbackTracker
from .audience import Access
from .endpoints import is_elsewhere
from .ticket import Ticket, endpoint
from .tickets import Tickets

DATABASE: Final = "swarm.db"
STREAMING_RATE: Final = 10_000
"""Hashing pauses while more bytes per second than this are sent or received."""
PLAYBACK_TIMEOUT: Final = 15.0
"""How long hashing pauses after `streaming`, in seconds. It is called every few seconds while an item plays."""

# Documentation addresses. A connected datagram socket sends nothing; it only tells which local address would be used.
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

_LOGGER = logging.getLogger(__name__)


class Swarm:
    """The session and everything that depends on it. Callers use `session`, `relays`, `seeds` and `tickets` directly."""

    session: Session
    relays: SignalingRelays
    seeds: Seeds
    tickets: Tickets

    def __init__(
        self,
        *,
        home: str,
        data: Path,
        library: Library,
        access: Access,
        on_change: Callable[[], None],
    ) -> None:
        """Prepare the swarm of the home with this id. `data` is an existing folder for hashes and tickets.

        `access` decides who may have what of `library`. `on_change` is called in the event loop when rates or progress may have changed.
        """
        self._home = home
        self._data = data
        self._library = library
        self._access = access
        self._on_change = on_change
        self._config = EngineConfig(home_name="")
        self._parts = AsyncExitStack()
        self._played = float("-inf")
        """When an item of this home was last being played, by the event loop's clock."""
        self._resuming = Timer(self._pause_or_resume)
        self._stun = ""

    async def start(self, config: EngineConfig) -> None:
        """Start everything. Raises SessionError, StoreError, OSError."""
        self._config = config
        async with AsyncExitStack() as parts:
            store = SwarmStore(self._data / DATABASE)
            await asyncio.to_thread(store.open)
            parts.push_async_callback(asyncio.to_thread, store.close)
            self.session = await Session.open(
                self._session_settings(), on_stats=self._on_stats
            )
            parts.push_async_callback(self.session.close)
            tracker = LoopbackTracker()
            await tracker.start()
            parts.push_async_callback(tracker.stop)
            self.relays = SignalingRelays(tracker)
            parts.push_async_callback(self.relays.stop)
            self._hasher = Hasher(store, on_change=self._on_change)
            parts.push_async_callback(self._hasher.stop)
            parts.callback(self._resuming.cancel)
            self.seeds = Seeds(
                self.session,
                self._hasher,
                self._library.files,
                on_seed=self._seeded,
                on_change=self._on_change,
            )
            self.seeds.limit = _active_seeds(config.swarm)
            self.seeds.start()
            parts.push_async_callback(self.seeds.stop)
            self._background = Background(store, self._hasher, self._library)
            self._background.start()
            parts.push_async_callback(self._background.stop)
            self.tickets = Tickets(
                store,
                self.seeds,
                self._access,
                owner=self._home,
                owner_name=lambda: self._config.home_name,
                files=self._library.file,
                endpoints=self._endpoints,
            )
            await self.tickets.start()
            parts.push_async_callback(self.tickets.stop)
            self._parts = parts.pop_all()

    async def stop(self) -> None:
        """Stop everything. May be called at any time."""
        await self._parts.aclose()

    def apply(self, config: EngineConfig) -> None:
        """Apply the differences between `config` and what runs. Transfers continue."""
        self._config = config
        self._apply_session()
        self.seeds.limit = _active_seeds(config.swarm)
        for friend in config.friends:
            for torrent in self.seeds.torrents_of(friend.id):
                torrent.limit_upload(friend.upload_limit)

    def items_changed(self, items: tuple[str, ...] | None) -> None:
        """Check the seeds and tickets of these items, or of all items (None)."""
        self.seeds.items_changed(items)
        self.tickets.items_changed(items)
        self._background.items_changed()

    def streaming(self) -> None:
        """Pause hashing: bytes of an item that is being played have just been sent."""
        self._played = asyncio.get_running_loop().time()
        self._resuming.start(PLAYBACK_TIMEOUT)
        self._pause_or_resume()

    def status(self) -> SwarmStatus:
        """Return what the session does, and how much of the library is hashed."""
        stats, hashing = self.session.stats, self._background.progress
        return SwarmStatus(
            port=self.session.port,
            upload_rate=stats.upload_rate,
            download_rate=stats.download_rate,
            uploaded=stats.uploaded,
            downloaded=stats.downloaded,
            peers=stats.peers,
            active_seeds=self.seeds.active,
            hashed=hashing.hashed_size,
            hashable=hashing.size,
        )

    async def issue(
        self, item: str, receiver: str, ttl: float, *, wait: float
    ) -> Ticket:
        """Return a ticket that is valid for `ttl` seconds; it has a torrent if that is ready within `wait` seconds.

        Raises what `Tickets.issue` raises.
        """
        # The ticket contains the port, which may be opening at this moment.
        await self.session.listening()
        return await self.tickets.issue(item, receiver, ttl, wait=wait)

    def set_stun(self, server: str) -> None:
        """Learn this home's public address for WebRTC from a STUN server, `host:port`."""
        self._stun = server
        self._apply_session()

    def _seeded(self, receiver: str, item: str, torrent: Torrent) -> None:
        """Connect a new seed with its receiver, within the receiver's upload limit."""
        for friend in self._config.friends:
            if friend.id == receiver:
                torrent.limit_upload(friend.upload_limit)
        self.relays.seeded(receiver, item, torrent)

    def _on_stats(self) -> None:
        self._pause_or_resume()
        self._on_change()

    def _pause_or_resume(self) -> None:
        """Pause hashing while an item plays or a transfer runs."""
        stats = self.session.stats
        rate = max(stats.upload_rate, stats.download_rate)
        # A paused player keeps its connection and takes no bytes.
        played = asyncio.get_running_loop().time() - self._played
        if played < PLAYBACK_TIMEOUT or rate > STREAMING_RATE:
            self._hasher.pause()
        else:
            self._hasher.resume()

    def _apply_session(self) -> None:
        self.session.apply(self._session_settings())

    def _session_settings(self) -> SessionSettings:
        config = self._config.swarm
        return SessionSettings(
            # Without friends nobody may connect.
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
        if self.session.port:
            for address in _addresses():
                yield endpoint(address, self.session.port)


def _active_seeds(config: SwarmConfig) -> int:
    """Return how many files may be seeded at a time. Each needs an open descriptor."""
    if config.active_seeds <= (possible := descriptors.for_sharing()):
        return config.active_seeds
    _LOGGER.warning(
        "Only %s files are shared at a time instead of %s: the system limits this process's open files",
        possible,
        config.active_seeds,
    )
    return possible


def _addresses() -> list[str]:
    """Return this machine's addresses in its networks, or loopback if it has no network."""
    found = []
    for family, elsewhere in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            address = ip_address(probe.getsockname()[0])
            if is_elsewhere(address):
                found.append(str(address))
    return found or ["127.0.0.1"]
