"""The receiver's side of the swarm: what others share comes in. Without libtorrent it comes over links alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..access import ticket as tickets
from ..access.ticket import BadTicket, Ticket
from ..core.errors import BadRequest, Unavailable
from ..models import (
    EngineConfig,
    LocalFile,
    Problem,
    SwarmConfig,
    SwarmStatus,
    WaitQuery,
)
from ..models.transfers import Transfers, TransferStatus
from .cache import Cache, CacheSettings
from .downloads import Downloads, OtherSources
from .renewal import Renew

if TYPE_CHECKING:
    # They load libtorrent.
    from ..torrent.session import Session
    from ..torrent.signaling_relay import SignalingRelays
    from ..torrent.tracker import SignalingRelay

NO_TORRENTS = "other homes cannot be reached by torrents: libtorrent does not run"


class Receiver:
    """What comes in of other homes' items."""

    has_torrents = False
    """Whether items can be fetched and shared by torrents, too."""

    def __init__(
        self,
        *,
        home: str,
        cache: Path,
        on_change: Callable[[], None],
        renew: Renew | None = None,
        beside: OtherSources | None = None,
    ) -> None:
        """Prepare to keep remote files of a home, by its id, in the folder `cache`.

        `on_change` is called in the event loop when `status` may have changed; `renew` and `beside` are for `Downloads`.
        """
        self._cache = cache
        self._on_change = on_change
        self._renew = renew
        self._beside = beside
        self._config = EngineConfig(home_name="")
        self._parts = AsyncExitStack()
        self.home = home
        """This home's id."""

    async def start(self, config: EngineConfig) -> None:
        """Bring everything up. Raises CacheError."""
        self._config = config
        async with AsyncExitStack() as parts:
            await self._start_downloads(parts)
            self._parts = parts.pop_all()

    async def stop(self) -> None:
        """Take everything down. May be called at any time."""
        await self._parts.aclose()

    def apply(self, config: EngineConfig) -> None:
        """Apply the differences to what runs; transfers go on."""
        self._config = config
        self._downloads.apply(_cache_settings(config.swarm))

    async def _start_downloads(
        self,
        parts: AsyncExitStack,
        session: Session | None = None,
        channels: SignalingRelays | None = None,
    ) -> None:
        self._downloads = Downloads(
            session,
            Cache(self._cache),
            _cache_settings(self._config.swarm),
            introducer=channels,
            renew=self._renew,
            beside=self._beside,
            on_change=self._on_change,
        )
        await self._downloads.start()
        parts.push_async_callback(self._downloads.close)

    # State.

    def status(self) -> SwarmStatus:
        """Return what is going on."""
        usage = self._downloads.usage
        return SwarmStatus(
            port=0,
            upload_rate=0,
            download_rate=sum(self._downloads.rates().values()),
            uploaded=0,
            downloaded=0,
            peers=0,
            active_seeds=0,
            hashed=0,
            hashable=0,
            cache_used=usage.used,
            cache_quota=usage.quota,
            transfers=self._downloads.fetching,
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return the lasting faults."""
        return self._downloads.problems

    # What takes torrents.

    def items_changed(self, items: tuple[str, ...] | None) -> None:
        """Look after what is seeded of these items, or of all of them."""

    def streaming(self) -> None:
        """Take note that bytes of this home's were played just now."""

    async def issue_to(
        self, item: str, receiver: str, ttl: float, wait: float
    ) -> Ticket:
        """Return a ticket with a torrent. Raises Unavailable."""
        raise Unavailable(NO_TORRENTS)

    async def review(self) -> None:
        """Make tickets worthless that are not allowed any more: for none is anything served."""

    async def revoke(self, receiver: str, item: str | None) -> None:
        """Make tickets worthless: for none is anything served, and those of before are reviewed when torrents are there again."""

    async def meet(
        self, home: str, send: Callable[[bytes], Awaitable[None]]
    ) -> SignalingRelay:
        """Introduce torrents over a channel to a home. Raises Unavailable."""
        raise Unavailable(NO_TORRENTS)

    async def part(self, home: str, channel: SignalingRelay) -> None:
        """Use a channel no longer."""

    def set_stun(self, server: str) -> None:
        """Have torrents learn this home's public address from a STUN server, `host:port`."""

    # What comes in.

    async def accept(self, payload: bytes) -> None:
        """Take a ticket as another engine sent it. Raises BadRequest, Gone, Unavailable."""
        try:
            ticket = await asyncio.to_thread(tickets.read, payload)
        except BadTicket as err:
            raise BadRequest(f"that is no ticket that could be used: {err}") from None
        if ticket.receiver != self.home:
            raise BadRequest("the ticket is for another home")
        if ticket.owner == self.home:
            raise BadRequest("the ticket is for an item of this home itself")
        await self._downloads.accept(ticket)

    def has_ticket(self, owner: str, item: str) -> bool:
        """Tell whether there is a ticket for a remote item that is still good."""
        return self._downloads.has(owner, item)

    def is_complete(self, owner: str, item: str) -> bool:
        """Tell whether all of a remote item is here."""
        return self._downloads.is_complete(owner, item)

    def etag(self, owner: str, item: str) -> str | None:
        """Return the entity tag of the version of a remote item that there is a ticket for, or a copy of."""
        return self._downloads.etag(owner, item)

    def in_use(self, owner: str) -> tuple[str, ...]:
        """Return the items of another home that are read here, or are to be kept."""
        return self._downloads.in_use(owner)

    async def forget(self, owner: str) -> None:
        """Forget everything of another home."""
        await self._downloads.remove(owner)

    def transfers(self) -> Transfers:
        """Return how far remote items have arrived."""
        return Transfers(items=self._downloads.list())

    async def file(self, owner: str, item: str) -> LocalFile:
        """Return the file that a remote item arrives in. Raises what `Downloads.file` raises."""
        return await self._downloads.file(owner, item)

    async def wait(self, owner: str, item: str, query: WaitQuery) -> int:
        """Wait for bytes of a remote item. Raises what `Downloads.wait` raises."""
        return await self._downloads.wait(
            owner, item, query.reader, query.start, query.stop, path=query.path
        )

    def release(self, owner: str, item: str, reader: str) -> None:
        """Forget a reader."""
        self._downloads.release(owner, item, reader)

    async def pin(self, owner: str, item: str, *, pinned: bool) -> TransferStatus:
        """Keep a remote item whole, or no longer. Raises NotFound, DiskFull, Unavailable."""
        if pinned:
            await self._downloads.pin(owner, item)
        else:
            await self._downloads.unpin(owner, item)
        return self._downloads.status(owner, item)

    def rates(self) -> Mapping[str, tuple[int, int]]:
        """Return what comes from each home and goes there, in bytes per second."""
        return {home: (rate, 0) for home, rate in self._downloads.rates().items()}


def _cache_settings(config: SwarmConfig) -> CacheSettings:
    return CacheSettings(quota=config.cache_quota, reserve=config.cache_reserve)
