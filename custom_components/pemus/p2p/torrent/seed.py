"""One seed: a torrent for one receiver and item, while it is wanted and the file is what was hashed.

Each event (the seed is wanted or revoked; its file is edited, moved or unplugged; libtorrent reports an error) raises the seed's
generation and wakes its only task, which makes the torrent match the present state. So one task alone changes the torrent, and
events during its work are handled afterwards.

A seed whose file changed is removed, never repaired: libtorrent would read the whole file, and must not write to it.

A torrent reads from a descriptor of the hashed file, which stays open while it is served. So a file or folder that replaces it
is never sent, even before the change is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import contextlib
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
import logging
import time
from typing import Any, Final

from ..core import tasks
from ..core.daemon import close_in_daemon, open_in_daemon
from ..core.errors import EngineError
from ..core.opening import OtherFile, open_described
from ..core.timer import Timer
from ..models import LocalFile
from .faults import SessionError
from .file_lookup import FileLookups, Look
from .hashing import FileChanged, Hasher, HashingError
from .metainfo import BadMetainfo, Metainfo, make
from .priority import Priority
from .session import Session, Torrent
from .store import Version

RETRY: Final = 5.0
"""Seconds until a seed that cannot be served is retried; twice as long each time."""
MAX_RETRY: Final = 300.0
DISK_TIMEOUT: Final = 10.0
"""Seconds for a disk to open a file."""

_LOGGER = logging.getLogger(__name__)

Key = tuple[str, str]
"""Receiver and item."""


class SeedState(StrEnum):
    """The state of a seed."""

    PREPARING = "preparing"
    """Its file is looked up or hashed."""
    ACTIVE = "active"
    UNAVAILABLE = "unavailable"
    """Its file is missing or cannot be served now. It is retried."""
    ASLEEP = "asleep"
    """There is no such seed: nobody asked for it, or it was unused for long."""


@dataclass(frozen=True, slots=True)
class Served:
    """A file with the torrent that serves it."""

    file: LocalFile
    meta: Metainfo
    torrent: Torrent


@dataclass(frozen=True, slots=True)
class SeedTools:
    """The components that all seeds use."""

    session: Session
    hasher: Hasher
    lookups: FileLookups
    on_seed: Callable[[str, str, Torrent], None]
    """Called with receiver, item and torrent when a torrent is served."""
    on_change: Callable[[], None]
    """Called when the number of active seeds may have changed."""
    on_end: Callable[[Seed], None]
    """Called when an unwanted seed has stopped serving."""


class Seed:
    """One seed. It starts asleep; `want` wakes it."""

    def __init__(self, tools: SeedTools, receiver: str, item: str) -> None:
        """Prepare to serve an item to a receiver."""
        self.receiver = receiver
        self.item = item
        self.is_wanted = False
        self.served: Served | None = None
        self.used = self.checked = self.since = 0.0
        """When it was last used, when its file was last checked, and since when it is served, by the monotonic clock."""
        self.tries = 0
        """How many times in a row it could not be served."""
        self._tools = tools
        self._salt = b""
        self._priority = Priority.LATER
        self._generation = 0
        self._settled = -1
        self._listener: _Listener | None = None
        self._fault: str | None = None
        """Why the present torrent stopped serving."""
        self._is_suspect = False
        """Whether the fault is that the file differs from its hashes."""
        self._is_available = True
        self._logged: str | None = None
        """The last warning about it in the log."""
        self._changed = asyncio.Event()
        self._ready = asyncio.Event()
        """Set when the seed is active, or cannot be active now."""
        self._hashing: tuple[Version, asyncio.Task[bytes]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._retrying = Timer(self.wake)
        self._is_stopped = False

    # State.

    @property
    def key(self) -> Key:
        """Receiver and item."""
        return self.receiver, self.item

    @property
    def peers(self) -> int:
        """The number of connected peers."""
        return self.served.torrent.status.peers if self.served is not None else 0

    @property
    def serving(self) -> Served | None:
        """What is served now, if anything."""
        return self.served if self.is_wanted and self._fault is None else None

    @property
    def state(self) -> SeedState:
        """Its state."""
        if not self.is_wanted:
            return SeedState.ASLEEP
        if self.served is not None:
            return SeedState.ACTIVE
        return SeedState.PREPARING if self._is_available else SeedState.UNAVAILABLE

    # Wishes.

    def want(self, salt: bytes, priority: Priority) -> None:
        """Serve from now on, as a torrent with this salt."""
        self.used = time.monotonic()
        if self.is_wanted and self._salt == salt and self.served is not None:
            # Its file is checked regularly.
            return
        if not self.is_wanted:
            self._priority = priority
        self._priority = max(self._priority, priority)
        self._salt = salt
        self.is_wanted = True
        self._ready.clear()
        self.wake()

    def sleep(self) -> None:
        """Stop serving."""
        self.is_wanted = False
        self.wake()

    def wake(self) -> None:
        """Check the present state, because something may have changed."""
        if self._is_stopped:
            return
        self._generation += 1
        self._changed.set()
        self._retrying.cancel()
        if self._task is None:
            self._task = tasks.spawn(self._settle(), f"seed {self.item}")

    async def wait(self, seconds: float) -> Served | None:
        """Wait until it is active or cannot be active now, for so many seconds at most. Return what is served."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ready.wait()
        return self.serving

    async def wait_asleep(self) -> None:
        """Wait until it has stopped serving, or is wanted again."""
        while self._task is not None and not self.is_wanted and not self._is_stopped:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """End all work. The torrent ends with the session."""
        self._is_stopped = True
        self._retrying.cancel()
        hashing = self._hashing[1] if self._hashing is not None else None
        await tasks.end(self._task, hashing)

    # All of this runs in the seed's task.

    async def _settle(self) -> None:
        """Follow the state until nothing happened meanwhile."""
        try:
            while self._settled != self._generation:
                generation = self._generation
                self._changed.clear()
                try:
                    await self._follow()
                except Exception:
                    _LOGGER.exception("A seed failed")
                    self._set_aside()
                self._settled = generation
        finally:
            self._task = None
        if not self.is_wanted:
            self._tools.on_end(self)
        self._tools.on_change()

    async def _follow(self) -> None:
        """Make the torrent match the present state. Returns early when something changes."""
        if not self.is_wanted:
            await self._take_down()
            self._stop_hashing()
            self._ready.set()
            return
        if self._fault is not None:
            await self._take_down()
            if self.tries:
                # A retry failed already.
                self._set_aside()
                return
            self.tries = 1
        looking = asyncio.ensure_future(self._tools.lookups.look(self.item))
        try:
            if not await self._unless_changed(looking):
                return
            look = looking.result()
        except EngineError:
            await self._take_down()
            self._stop_hashing()
            # The file may come back, for example when a disk is plugged in.
            self._set_aside()
            return
        finally:
            looking.cancel()
        if self.served is not None and (
            self.served.file != look.file or self.served.meta.salt != self._salt
        ):
            await self._take_down()
        if self.served is None:
            self._ready.clear()
            await self._put_up(look)

    async def _put_up(self, look: Look) -> None:
        """Start serving a file."""
        file, pieces = look.file, look.pieces
        if self._is_suspect:
            self._is_suspect = False
            await self._tools.hasher.forget(file)
            pieces = None
        try:
            if pieces is None:
                pieces = await self._hashes(file)
                if pieces is None:
                    return
            meta = make(file.size, pieces, self._salt)
            listener = _Listener(self._faulty)
            async with asyncio.timeout(DISK_TIMEOUT):
                opened = await open_in_daemon(
                    partial(open_described, file), close_in_daemon
                )
            torrent = await self._tools.session.seed(meta, opened, file.name, listener)
        except (FileChanged, OtherFile):
            # The next look-up finds what the file is now.
            self._set_aside()
            return
        except (HashingError, BadMetainfo, SessionError, OSError, TimeoutError) as err:
            message = f"{file.name} cannot be shared: {err}"
            is_known = message == self._logged
            _LOGGER.log(logging.DEBUG if is_known else logging.WARNING, message)
            self._logged = message
            self._set_aside()
            return
        self.served = Served(file, meta, torrent)
        self._listener = listener
        self._is_available = True
        self._logged = None
        self.since = self.checked = time.monotonic()
        self._ready.set()
        self._tools.on_change()
        if self.is_wanted:
            self._tools.on_seed(self.receiver, self.item, torrent)

    async def _hashes(self, file: LocalFile) -> bytes | None:
        """Return the hashes of a file; None if something happens before, and then hashing continues."""
        hasher, version = self._tools.hasher, Version.of(file)
        if self._hashing is not None and self._hashing[0] != version:
            self._stop_hashing()
        if self._hashing is None:
            job = asyncio.create_task(hasher.hashes(file, self._priority))
            self._hashing = version, job
        else:
            hasher.promote(file, self._priority)
        _, hashing = self._hashing
        if not await self._unless_changed(hashing):
            return None
        self._hashing = None
        return hashing.result()

    def _stop_hashing(self) -> None:
        if self._hashing is not None:
            self._hashing[1].cancel()
            self._hashing = None

    async def _take_down(self) -> None:
        """End the transfer."""
        served, self.served = self.served, None
        self._listener = None
        self._fault = None
        if served is not None:
            try:
                await served.torrent.remove()
            except RuntimeError as err:
                # libtorrent has removed it.
                _LOGGER.debug("%s is gone already: %s", served.file.name, err)
            self._tools.on_change()

    def _set_aside(self) -> None:
        """Retry later, because the file cannot be served now."""
        self._is_available = False
        self._ready.set()
        # A change meanwhile is handled first.
        if not self.is_wanted or self._is_stopped or self._changed.is_set():
            return
        delay = min(RETRY * 2.0**self.tries, MAX_RETRY)
        self.tries = min(self.tries + 1, 20)
        self._retrying.start(delay)

    def _faulty(self, listener: _Listener, message: str, *, is_suspect: bool) -> None:
        """Handle an error of the present torrent."""
        if self._listener is not listener or self._fault is not None:
            return
        assert self.served is not None
        _LOGGER.warning("%s is not shared any more: %s", self.served.file.name, message)
        self._fault = message
        self._is_suspect = is_suspect
        self.wake()

    async def _unless_changed(self, work: asyncio.Future[Any]) -> bool:
        """Wait for some work. Returns False if something happens to the seed before it ends."""
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait((work, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        return work.done()


class _Listener:
    """Listens to one torrent of a seed. Each torrent has its own listener, so events of a former one are ignored."""

    def __init__(self, faulty: Callable[..., None]) -> None:
        self._faulty = faulty

    def piece_finished(self, index: int) -> None:
        """Handle that libtorrent checks pieces. With a seed, it does so only after finding a wrong one."""
        self._faulty(self, "it is not what was hashed", is_suspect=True)

    def peer_connected(self) -> None:
        """Do nothing: `Torrent.status` tells how many peers there are."""

    def peer_lost(self) -> None:
        """Do nothing, as for `peer_connected`."""

    def failed(self, message: str) -> None:
        """Handle that the file cannot be read."""
        self._faulty(self, message, is_suspect=False)
