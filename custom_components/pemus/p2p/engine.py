"""The engine as a whole: puts library, media reader and API together, and ends them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import replace
import fcntl
from functools import partial
from importlib import import_module
import logging
import os
from pathlib import Path
import time
from typing import TYPE_CHECKING, cast

from . import homes
from .api import ApiServer
from .capabilities import installed
from .catalogue.sender import Catalogue
from .core import tasks
from .core.errors import EngineError, NotFound, Unavailable
from .library import Library
from .media.reader import MediaReader
from .models import (
    API_VERSION,
    EngineConfig,
    Item,
    Listing,
    LocalFile,
    Problem,
    ProblemKey,
    SearchQuery,
    SearchResult,
    Status,
    SwarmStatus,
    TicketQuery,
    WaitQuery,
)
from .models.transfers import RemoteItem, Transfers, TransferStatus
from .models.version import VERSION

if TYPE_CHECKING:
    # They load libtorrent and aiortc, which may be missing.
    from .access.ticket import Ticket
    from .friends.peers import Peers
    from .models.homes import LanHomes, PairingAnswer, PairingQuery, PairingStatus
    from .net.identity import Identity
    from .transfers.receiver import Receiver
    from .transfers.sources.torrent import Source
    from .transfers.swarm import Swarm

IDENTITY = "identity"
"""File with this home's private key."""
LOCK_TIMEOUT = 7
"""Seconds to wait for the engine before this one, which may be stopping, to let go of the data folder."""

_LOCK_RETRY = 0.1
_LOGGER = logging.getLogger(__name__)


class FolderInUseError(Exception):
    """Another engine works with this data folder."""


class Engine:
    """Everything that runs in the engine's process. The API's backend."""

    def __init__(
        self, *, data: Path, cache: Path, socket: Path, awaits_config: bool = False
    ) -> None:
        """Prepare an engine that keeps its index in `data`, what can be made anew in `cache`, and listens at `socket`.

        With `awaits_config` somebody is going to configure it, who knows whether this home has friends: it is given no
        identity before that.
        """
        self._data = data
        self._cache = cache
        self._started = time.time()
        self._serial = 0
        self._media = MediaReader()
        self._api = ApiServer(self, socket)
        self._library = Library(
            data=data,
            cache=cache,
            media=self._media,
            on_change=self._library_changed,
            on_items=self._items_changed,
        )
        # Nothing is opened in the local network before the user's wish is known.
        self._config = EngineConfig(home_name="", lan_visible=False)
        self._catalogue = Catalogue(
            self._library.store,
            shares=lambda: self._library.configured,
            available=self._library.available,
            on_fault=self._library.changed,
        )
        self._available: set[str] = set()
        self._changing = asyncio.Lock()
        """Held by whoever changes who this home is, or with whom it has to do."""
        self._changes: set[asyncio.Task[None]] = set()
        self._awaits_config = awaits_config
        self._is_configured = False
        """Whether a configuration was applied, also to the library."""
        self._identity: Identity | None = None
        self._identity_fault: str | None = None
        """Why this home cannot be who it was, in plain English."""
        self._swarm: Receiver | None = None
        self._peers: Peers | None = None
        self._moved = 0, 0
        """What peers that ended moved, until the swarm ends, too: the sum of both does not fall before both begin anew."""
        self._capabilities: dict[str, str | None] = installed()
        self._told_of_limits = False

    @asynccontextmanager
    async def running(self, config: EngineConfig | None = None) -> AsyncGenerator[None]:
        """Run all parts; in the end they are stopped in reverse order, whatever happened.

        Raises OSError for folders that cannot be used, FolderInUseError, SocketError.
        """
        for folder in (self._data, self._cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with AsyncExitStack() as parts:
            await parts.enter_async_context(_sole_use_of(self._data))
            parts.push_async_callback(self._media.stop)
            await self._media.start()
            self._capabilities |= self._media.capabilities
            parts.push_async_callback(self._library.stop)
            await self._library.start()
            parts.push_async_callback(self._stop_swarm)
            parts.push_async_callback(self._stop_peers)
            parts.push_async_callback(self._stop_changes)
            if config is not None:
                await self._configure(config)
            else:
                await self._find_identity()
            # Last, so that who connects finds everything ready.
            parts.push_async_callback(self._api.stop)
            await self._api.start()
            _LOGGER.info("PeMuS engine %s is ready", VERSION)
            yield
            _LOGGER.debug("The engine is stopping")

    def status(self) -> Status:
        """Return the present state."""
        library = self._library
        self._serial += 1
        return Status(
            api_version=API_VERSION,
            version=VERSION,
            pid=os.getpid(),
            started=self._started,
            rss=resident_memory(),
            scan_state=library.scan_state,
            progress=library.progress,
            revision=library.revision,
            counts=library.counts,
            shares=library.shares,
            problems=self._problems,
            capabilities=self._capabilities,
            swarm=self._swarm_status(),
            peers=self._peers.status() if self._peers else None,
            serial=self._serial,
        )

    def _swarm_status(self) -> SwarmStatus | None:
        if self._swarm is None:
            return None
        status = self._swarm.status()
        received, sent = self._moved if self._peers is None else self._peers.moved
        return replace(
            status,
            downloaded=status.downloaded + received,
            uploaded=status.uploaded + sent,
        )

    async def configure(self, config: EngineConfig) -> None:
        """Apply the differences between `config` and what runs, after those that were said before.

        Raises Unavailable, with all done that could be.
        """
        await self._finish(self._configure(config), "configure")

    async def _configure(self, config: EngineConfig) -> None:
        # Each part, whatever becomes of the others; but nothing more once the engine stops, which cancels this.
        faults: list[Exception] = []
        for apply in (self._apply_to_homes, self._library.apply, self._review):
            try:
                await apply(config)
            except Exception as err:  # noqa: BLE001 - it is raised in the end
                faults.append(err)
        if faults:
            raise faults[-1]

    async def _apply_to_homes(self, config: EngineConfig) -> None:
        """Apply what has to do with other homes. It comes first, as somebody may have to lose access."""
        async with self._changing:
            self._config = config
            self._awaits_config = False
            if self._identity is None:
                await self._load_identity()
            if (
                self._swarm is not None
                and not self._swarm.has_torrents
                and self._capabilities.get("libtorrent") is not None
            ):
                # It did not start, and may do so now.
                await self._stop_swarm()
            if self._swarm is None:
                await self._start_swarm()
            else:
                self._swarm.apply(config)
            if self._peers is None:
                await self._start_peers()
            else:
                await self._peers.apply(config)
            if self._peers is not None:
                await self._peers.forget_former()

    async def _review(self, _config: EngineConfig) -> None:
        """Serve for tickets what the configuration allows, now that all of it was applied."""
        self._is_configured = True
        if self._swarm is not None:
            await self._swarm.review()
            # What was not to be found while its share was not known may be found now.
            self._swarm.items_changed(None)

    async def _finish(self, change: Coroutine[None, None, None], name: str) -> None:
        """Make a change to its end, also when whoever wants it does not wait that long."""
        task = asyncio.create_task(change, name=name)
        self._changes.add(task)
        task.add_done_callback(self._finished)
        await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._changes.discard(task)
        if task.cancelled() or (err := task.exception()) is None:
            return
        if isinstance(err, EngineError):
            # Whoever waits for it is told, and tries again.
            _LOGGER.debug("%s failed: %s", task.get_name(), err)
        else:
            _LOGGER.error("%s failed", task.get_name(), exc_info=err)

    async def _stop_changes(self) -> None:
        await tasks.end(*self._changes)

    def rescan(self, share: str | None) -> None:
        """Begin to scan a share, or all of them."""
        self._library.rescan(share)

    async def item(self, item_id: str) -> Item:
        """Return an item."""
        return await self._library.item(item_id)

    async def file(self, item_id: str) -> LocalFile:
        """Return an item's file as it is on disk now."""
        return await self._library.file(item_id)

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return an item's picture, made first if need be."""
        return await self._library.thumbnail(item_id)

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        """Return one of an item's subtitles as WebVTT, converted first if need be."""
        return await self._library.subtitles(item_id, index)

    async def browse(self, node: str) -> Listing:
        """Return what lies in a node."""
        remote = self._swarm.items() if self._swarm else ()
        friends = self._peers.friends if self._peers else ()
        if node.startswith(homes.PREFIX):
            owner, inner = homes.divided(node)
            for friend in friends:
                if friend.id == owner:
                    listing = await self._the_peers.browse(owner, inner)
                    return homes.of_friend(listing, friend)
            return homes.listing(node, remote, self._library.revision)
        listing = await self._library.browse(node)
        return homes.add_to(listing, friends, remote) if node == "" else listing

    async def search(self, query: SearchQuery) -> SearchResult:
        """Return what matches."""
        if not query.below.startswith(homes.PREFIX):
            return await self._library.search(query)
        owner, inner = homes.divided(query.below)
        found = await self._the_peers.search(owner, replace(query, below=inner))
        nodes = tuple(homes.moved(node, owner) for node in found.nodes)
        return replace(found, nodes=nodes)

    def streaming(self) -> None:
        """Take note that bytes of something that is played have just left."""
        if self._swarm is not None:
            self._swarm.streaming()

    # What other homes have, and what they may have of this one.

    def home(self) -> str:
        """Return this home's id."""
        if self._identity is None:
            raise Unavailable("this home has no identity at present")
        return self._identity.id

    async def issue(self, query: TicketQuery) -> bytes:
        """Return a ticket for one of this home's items, as JSON."""
        return (await self._the_torrents.issue(query)).encode()

    async def revoke(self, receiver: str, item: str | None) -> None:
        """Make a home's ticket for an item, or all its tickets, worthless."""
        await self._the_torrents.revoke(receiver, item)

    async def accept(self, ticket: bytes) -> RemoteItem:
        """Take another home's ticket, which a user gave to this engine."""
        return await self._the_swarm.accept(ticket, by_hand=True)

    def transfers(self) -> Transfers:
        """Return how far remote items have arrived."""
        return self._the_swarm.transfers()

    async def remote_item(self, owner: str, item_id: str) -> Item:
        """Return what is known of another home's item: from a friend's list, or else from a ticket."""
        if self._peers is not None and self._peers.is_friend(owner):
            with suppress(NotFound):
                return await self._peers.item(owner, item_id)
        tickets = self._swarm.items() if self._swarm else ()
        return homes.item_of(tickets, owner, item_id)

    async def remote_file(self, owner: str, item_id: str) -> LocalFile:
        """Return the file that another home's item arrives in."""
        if self._peers is not None and self._peers.is_friend(owner):
            await self._peers.prepare(owner, item_id)
        return await self._the_swarm.file(owner, item_id)

    async def wait(self, owner: str, item_id: str, query: WaitQuery) -> int:
        """Wait for bytes of another home's item; return the end of those that are there."""
        return await self._the_swarm.wait(owner, item_id, query)

    def release(self, owner: str, item_id: str, reader: str) -> None:
        """Take note that somebody does not read any more."""
        self._the_swarm.release(owner, item_id, reader)

    async def pin(self, owner: str, item_id: str, *, pinned: bool) -> TransferStatus:
        """Keep another home's item whole, or no longer."""
        return await self._the_swarm.pin(owner, item_id, pinned=pinned)

    async def remote_thumbnail(self, owner: str, item_id: str) -> LocalFile:
        """Return the picture of another home's item, fetched first if need be."""
        item = await self._the_peers.item(owner, item_id)
        path = await self._the_peers.thumbnail(owner, item)
        return _local(path, f"{item.title}.jpg", "image/jpeg")

    async def remote_subtitles(self, owner: str, item_id: str, index: int) -> LocalFile:
        """Return one of the subtitles of another home's item as WebVTT, fetched first if need be."""
        item = await self._the_peers.item(owner, item_id)
        path = await self._the_peers.subtitles(owner, item, index)
        return _local(path, f"{item.title}.vtt", "text/vtt; charset=utf-8")

    # Friends.

    async def restore_identity(self) -> str:
        """Be who this home was, now that its key may have been brought back; return its id. Raises Unavailable."""
        await self._finish(self._restore_identity(), "restore identity")
        if self._identity is None and self._identity_fault is not None:
            raise Unavailable(self._identity_fault)
        return self.home()

    async def _restore_identity(self) -> None:
        async with self._changing:
            if self._identity is None:
                await self._find_identity()

    async def new_identity(self) -> str:
        """Become another home, which no friend knows; return its id. Raises Unavailable."""
        await self._finish(self._new_identity(), "new identity")
        return self.home()

    async def _new_identity(self) -> None:
        from .net import identity

        async with self._changing:
            if self._peers is not None:
                await self._peers.forget_requests()
            try:
                await self._stop_peers()
                await self._stop_swarm()
                await asyncio.to_thread(identity.renew, self._data / IDENTITY)
            except identity.IdentityError as err:
                raise Unavailable(str(err)) from None
            finally:
                await self._find_identity()
        _LOGGER.warning("This home has a new identity")

    async def request_pairing(self, query: PairingQuery) -> PairingStatus:
        """Ask another home to become a friend."""
        return self._the_peers.request(query)

    async def answer_pairing(self, home: str, answer: PairingAnswer) -> None:
        """Say yes or no to a pairing."""
        self._the_peers.answer_request(home, answer)

    async def forget_pairing(self, home: str) -> None:
        """Take a request back, or forget how a pairing ended."""
        self._the_peers.forget_request(home)

    async def unblock(self, home: str) -> None:
        """Show a home's requests again."""
        self._the_peers.unblock(home)

    def lan_homes(self, homes: LanHomes) -> None:
        """Take note of all homes that the local network shows now."""
        self._the_peers.lan_homes(homes)

    def network_changed(self) -> None:
        """Try everything again at once that waits for a connection, also after another home used the same identity."""
        self._the_peers.resume()

    def channel(
        self, home: str, send: Callable[[bytes], Awaitable[None]]
    ) -> AbstractAsyncContextManager[Callable[[bytes], None]]:
        """Introduce WebRTC peers over a channel to a home; what comes out of it goes to the function that is entered."""
        return self._the_torrents.channel(home, send)

    @property
    def _the_peers(self) -> Peers:
        if self._peers is None:
            lack = "identity" if self._identity is None else "libraries for that"
            raise Unavailable(f"friends cannot be reached: this home has no {lack}")
        return self._peers

    @property
    def _the_swarm(self) -> Receiver:
        if self._swarm is None:
            lack = "identity" if self._identity is None else "cache for that"
            raise Unavailable(f"nothing can be fetched: this home has no {lack}")
        return self._swarm

    @property
    def _the_torrents(self) -> Swarm:
        if self._swarm is None or not self._swarm.has_torrents:
            raise Unavailable("there are no torrents: libtorrent does not run")
        return cast("Swarm", self._swarm)

    @property
    def _problems(self) -> tuple[Problem, ...]:
        problems = self._library.problems
        if self._swarm is not None:
            problems += self._swarm.problems
        if self._identity_fault is not None:
            lost = {"path": str(self._data / IDENTITY), "error": self._identity_fault}
            problems += (Problem(key=ProblemKey.IDENTITY_LOST, placeholders=lost),)
        return problems

    async def _find_identity(self) -> None:
        """Find out who this home is, and begin what takes an identity."""
        await self._load_identity()
        await self._start_swarm()
        await self._start_peers()
        if self._is_configured:
            # Nobody says it once more to the parts that have just begun.
            if self._peers is not None:
                await self._peers.forget_former()
            await self._review(self._config)
        self._api.events.status_changed()

    async def _load_identity(self) -> None:
        """Find out who this home is; without that it is of use by itself."""
        try:
            from .friends import state as memory
            from .net import identity
        except ImportError as err:
            _LOGGER.warning("There is no identity: %s", err)
            return
        path = self._data / IDENTITY
        # What is remembered of other homes is kept from the first start on.
        had_one = bool(self._config.friends) or await asyncio.to_thread(
            os.path.lexists, self._data / memory.FILE
        )
        if (
            self._awaits_config
            and not had_one
            and not await asyncio.to_thread(os.path.lexists, path)
        ):
            # Whether it had one is not known yet.
            return
        before, self._identity, self._identity_fault = self._identity_fault, None, None
        try:
            self._identity = await asyncio.to_thread(
                identity.load, path, first=not had_one
            )
        except identity.IdentityLost as err:
            self._identity_fault = str(err)
            if before != self._identity_fault:
                _LOGGER.error("This home has lost its identity, %s: %s", path, err)
        except identity.IdentityError as err:
            _LOGGER.error("There is no identity: %s", err)

    async def _start_peers(self) -> None:
        """Start what friends need, or go on without."""
        if self._identity is None:
            return
        try:
            # A second of work, the first time.
            module = await asyncio.to_thread(
                import_module, ".friends.peers", __package__
            )
            peers: Peers = module.Peers(
                self._identity,
                data=self._data,
                cache=self._cache / "friends",
                shelves=self._library,
                catalogue=self._catalogue,
                revision=lambda: self._library.revision,
                torrents=lambda: self._swarm,
                on_change=self._api.events.status_changed,
                on_items=self._api.events.items_changed,
                on_media=self._api.events.new_media,
            )
            await peers.start(self._config)
        except ModuleNotFoundError as err:
            if self._capabilities.get(err.name or "", "") is not None:
                _LOGGER.exception("Friends cannot be reached")
            elif not self._told_of_limits:
                # As it is until the engine's own environment is made; Home Assistant tells of that.
                self._told_of_limits = True
                _LOGGER.info("Friends cannot be reached without %s", err.name)
            return
        except Exception:
            _LOGGER.exception("Friends cannot be reached")
            return
        self._peers = peers

    async def _stop_peers(self) -> None:
        peers, self._peers = self._peers, None
        if peers is not None:
            self._moved = peers.moved
            await peers.stop()

    async def _start_swarm(self) -> None:
        """Start the swarm, or what works of it without libtorrent, or go on without: the library is of use by itself."""
        if self._identity is None:
            return
        if self._capabilities.get("libtorrent") is not None:
            try:
                from .transfers.swarm import Swarm

                swarm: Receiver = Swarm(
                    home=self._identity.id,
                    data=self._data,
                    cache=self._cache / "downloads",
                    library=self._library,
                    on_change=self._api.events.status_changed,
                    renew=self._renew_ticket,
                    beside=self._beside,
                )
                await swarm.start(self._config)
            except Exception:
                _LOGGER.exception("There are no torrents: the swarm does not start")
            else:
                self._swarm = swarm
                return
        try:
            from .transfers.receiver import Receiver

            swarm = Receiver(
                home=self._identity.id,
                cache=self._cache / "downloads",
                on_change=self._api.events.status_changed,
                renew=self._renew_ticket,
                beside=self._beside,
            )
            await swarm.start(self._config)
        except Exception:
            _LOGGER.exception("Nothing can be fetched from other homes")
            return
        self._swarm = swarm

    async def _stop_swarm(self) -> None:
        swarm, self._swarm = self._swarm, None
        self._moved = 0, 0
        if swarm is not None:
            await swarm.stop()

    async def _renew_ticket(self, former: Ticket) -> Ticket:
        return await self._the_peers.renew(former)

    def _beside(self, ticket: Ticket, swarm: Source | None) -> Source | None:
        """Return a source over the link to the owner of an item, None if that is not a friend."""
        if self._peers is None or not self._peers.is_friend(ticket.owner):
            return None
        from .transfers.sources.link import LinkSource

        return LinkSource(ticket, partial(self._peers.ask, ticket.owner), swarm)

    def _library_changed(self) -> None:
        self._api.events.status_changed()
        available = {share.id for share in self._library.shares if share.available}
        if available != self._available:
            # Friends see what cannot be reached greyed, too.
            self._available = available
            if self._peers is not None:
                self._peers.library_changed()

    def _items_changed(self, items: tuple[str, ...] | None) -> None:
        self._api.events.items_changed(items)
        if self._swarm is not None:
            self._swarm.items_changed(items)
        if self._peers is not None:
            self._peers.library_changed()


def _local(path: Path, name: str, content_type: str) -> LocalFile:
    """Return a file of the cache as the view sends it. Raises Unavailable."""
    try:
        return LocalFile.of(str(path), name, content_type, path.stat())
    except OSError as err:
        raise Unavailable(f"it is gone: {err.strerror}") from None


def resident_memory() -> int:
    """Return the bytes of memory that this process has in use; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def _sole_use_of(data: Path) -> AsyncGenerator[None]:
    """Hold the data folder's lock. The system frees it when the process ends, however it ends."""
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            async with asyncio.timeout(LOCK_TIMEOUT):
                while True:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        await asyncio.sleep(_LOCK_RETRY)
        except TimeoutError:
            raise FolderInUseError(f"another engine uses {data}") from None
        yield
    finally:
        os.close(lock)
