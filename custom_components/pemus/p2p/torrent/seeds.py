"""What is seeded: one torrent for each receiver and item, for as long as it is wanted and the file is what was hashed.

Everything that happens to a seed (it is wanted, revoked, its file is edited, moved, unplugged, libtorrent finds a fault)
raises the seed's generation and wakes its one task, which looks at how things are now and makes the torrent follow. So
there is never more than one hand on a torrent, and whatever happens while the task is at work is looked at again.

A seed whose file changed is taken down, never repaired: libtorrent would read it whole, and must not write it.

A torrent reads from a descriptor of the file that was hashed, held open for as long as it is served. Whatever takes the
place of the file, or of a folder above it, is not sent in the moments until it is noticed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
import contextlib
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
import logging
import time
from typing import Any, Final

from ..core import tasks
from ..core.daemon import close_in_daemon, open_in_daemon
from ..core.errors import Busy, EngineError
from ..core.opening import OtherFile, is_still_there, open_described
from ..core.threads import in_daemon
from ..models import LocalFile
from .faults import SessionError
from .file_lookup import FileLookups, Look, Many, one_by_one
from .hashing import FileChanged, Hasher, HashingError
from .metainfo import BadMetainfo, Metainfo, make
from .session import Session, Torrent
from .store import Version

LIMIT: Final = 500
"""Seeds at a time, unless another limit is set."""
IDLE: Final = 1800.0
"""Seconds without a peer after which a seed is put to sleep."""
CHECK: Final = 5.0
"""Seconds between two looks at the file of a seed that has peers."""
CHECK_IDLE: Final = 30.0
"""The same, of one that has none."""
RETRY: Final = 5.0
"""Seconds until a seed that cannot be served is tried again; they double each time."""
MAX_RETRY: Final = 300.0
SETTLE: Final = 5.0
"""Seconds between two looks at all seeds because too many items changed to name them."""
DISK_TIMEOUT: Final = 10.0

_WELL: Final = 60.0
"""Seconds after which a seed that is served counts as sound."""
_LOGGER = logging.getLogger(__name__)

Key = tuple[str, str]
"""Receiver and item."""


class SeedState(StrEnum):
    """What a seed does."""

    PREPARING = "preparing"
    """Its file is looked at or hashed."""
    ACTIVE = "active"
    UNAVAILABLE = "unavailable"
    """Its file is not there or cannot be served at present; it is tried again."""
    ASLEEP = "asleep"
    """There is no such seed: it was not asked for, or for long not used."""


@dataclass(frozen=True, slots=True)
class Served:
    """A file with the torrent that serves it."""

    file: LocalFile
    meta: Metainfo
    torrent: Torrent


class _Seed:
    """What is known of one seed. It listens to its torrent."""

    def __init__(self, receiver: str, item: str, salt: bytes) -> None:
        self.receiver = receiver
        self.item = item
        self.salt = salt
        self.wanted = True
        self.generation = 0
        self.settled = -1
        self.served: Served | None = None
        self.listener: _Listener | None = None
        self.fault: str | None = None
        """Why the present torrent serves no more."""
        self.suspect = False
        """Whether the fault is that the file is not what its hashes say."""
        self.available = True
        self.tries = 0
        """How often in a row it could not be served."""
        self.told: str | None = None
        """The last thing that the log was told of it."""
        self.used = time.monotonic()
        self.since = 0.0
        """Since when it has been served, as is `checked`, when its file was last looked at, and `used`."""
        self.checked = 0.0
        self.changed = asyncio.Event()
        self.ready = asyncio.Event()
        """Set when the seed is active or cannot be for now: when waiting for it makes no sense."""
        self.hashing: tuple[Version, asyncio.Task[bytes]] | None = None
        self.task: asyncio.Task[None] | None = None
        self.retry: asyncio.TimerHandle | None = None

    @property
    def key(self) -> Key:
        return self.receiver, self.item


class _Listener:
    """Hears about one torrent of a seed. Each torrent has its own, so news of a former one count for nothing."""

    def __init__(self, faulty: Callable[[_Listener, str, bool], None]) -> None:
        self._faulty = faulty

    def piece_finished(self, index: int) -> None:
        """Take note that libtorrent checks the pieces, which it does with a seed only when one turned out to be wrong."""
        self._faulty(self, "it is not what was hashed", True)

    def peer_connected(self) -> None:
        """Nothing depends on single peers."""

    def peer_lost(self) -> None:
        """Nothing depends on single peers."""

    def failed(self, message: str) -> None:
        """Take note that the file cannot be read."""
        self._faulty(self, message, False)


class Seeds:
    """All seeds."""

    def __init__(
        self,
        session: Session,
        hasher: Hasher,
        file: Callable[[str], Awaitable[LocalFile]],
        *,
        files: Many | None = None,
        on_seed: Callable[[str, str, Torrent], None] = lambda *_: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to seed what `file` finds: the file of an item as it is now, or NotFound, or Unavailable.

        `files` finds those of several items at once, which makes starts with many seeds quick.

        `on_seed` is called with receiver, item and torrent whenever a torrent begins to be served, also again after its
        file was moved; `on_change` when the number of active seeds may have changed. Both are called in the event loop.
        """
        self.limit = LIMIT
        """Seeds at a time."""
        self.idle = IDLE
        """Seconds without a peer after which a seed is put to sleep."""
        self._session = session
        self._hasher = hasher
        self._on_seed = on_seed
        self._on_change = on_change
        self._seeds: dict[Key, _Seed] = {}
        self._of_item: dict[str, set[Key]] = {}
        self._looks = (
            FileLookups(one_by_one(file), hasher, batch=1)
            if files is None
            else FileLookups(files, hasher)
        )
        self._hanging: set[int] = set()
        self._checks: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._swept = -SETTLE
        self._stopped = False

    def start(self) -> None:
        """Begin to look after the files of seeds."""
        self._watcher = tasks.keep(self._watch, "seeds")

    async def stop(self) -> None:
        """End all work. The torrents end with the session."""
        self._stopped = True
        if self._sweep is not None:
            self._sweep.cancel()
        running = [self._watcher, *self._checks]
        for seed in self._seeds.values():
            self._cancel_retry(seed)
            running.append(seed.task)
        await tasks.end(*running)
        await self._looks.stop()
        hashing = [seed.hashing[1] for seed in self._seeds.values() if seed.hashing]
        for job in hashing:
            job.cancel()
        await asyncio.gather(*hashing, return_exceptions=True)
        self._seeds.clear()
        self._of_item.clear()

    # State.

    @property
    def active(self) -> int:
        """How many torrents are served."""
        return sum(seed.served is not None for seed in self._seeds.values())

    def torrents_of(self, receiver: str) -> tuple[Torrent, ...]:
        """Return what is served to a home."""
        return tuple(
            seed.served.torrent
            for seed in self._seeds.values()
            if seed.receiver == receiver and seed.served is not None
        )

    def upload_rates(self) -> Mapping[str, int]:
        """Return how many bytes per second go to each home that gets any."""
        rates: Counter[str] = Counter()
        for seed in self._seeds.values():
            if seed.served is not None:
                rates[seed.receiver] += seed.served.torrent.status.upload_rate
        return +rates

    def state(self, receiver: str, item: str) -> SeedState:
        """Return what a seed does."""
        seed = self._seeds.get((receiver, item))
        if seed is None or not seed.wanted:
            return SeedState.ASLEEP
        if seed.served is not None:
            return SeedState.ACTIVE
        return SeedState.PREPARING if seed.available else SeedState.UNAVAILABLE

    def served(self, receiver: str, item: str) -> Served | None:
        """Return what is served to a receiver, None if it is not at present."""
        seed = self._seeds.get((receiver, item))
        if seed is None or not seed.wanted or seed.fault is not None:
            return None
        return seed.served

    def all_served(self) -> list[Served]:
        """Return all that is served."""
        return [seed.served for seed in self._seeds.values() if seed.served is not None]

    # Wishes.

    def activate(self, receiver: str, item: str, salt: bytes) -> None:
        """Serve an item to a receiver from now on. Raises Busy where there are too many seeds that are in use."""
        if self._stopped:
            raise Busy("the engine is stopping")
        key = receiver, item
        seed = self._seeds.get(key)
        if seed is not None and seed.wanted:
            seed.used = time.monotonic()
            if seed.salt == salt and seed.served is not None:
                # Whether its file changed is looked after anyway.
                return
        else:
            self._make_room()
        if seed is None:
            seed = self._seeds[key] = _Seed(receiver, item, salt)
            self._of_item.setdefault(item, set()).add(key)
        seed.salt = salt
        seed.wanted = True
        seed.used = time.monotonic()
        seed.ready.clear()
        self._wake(seed)

    async def ready(self, receiver: str, item: str, seconds: float) -> Served | None:
        """Wait until a seed is active, or turns out not to get so; return it if it is."""
        seed = self._seeds.get((receiver, item))
        if seed is None or not seed.wanted:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await seed.ready.wait()
        return self.served(receiver, item)

    def deactivate(self, receiver: str, item: str | None = None) -> Awaitable[None]:
        """Serve an item, or all, no longer to a receiver. What is returned waits until the transfers are cut."""
        if item is None:
            chosen = [
                each for each in self._seeds.values() if each.receiver == receiver
            ]
        else:
            found = self._seeds.get((receiver, item))
            chosen = [found] if found is not None else []
        for seed in chosen:
            self._sleep(seed)
        return self._asleep(chosen)

    async def _asleep(self, seeds: list[_Seed]) -> None:
        for seed in seeds:
            while seed.task is not None and not seed.wanted and not self._stopped:
                await asyncio.wait([seed.task])

    def items_changed(self, items: Collection[str] | None) -> None:
        """Look after the seeds of these items, or of all: something about their files changed."""
        if items is not None:
            for item in items:
                for key in tuple(self._of_item.get(item, ())):
                    self._wake(self._seeds[key])
        elif self._sweep is None and not self._stopped:
            # While a large share is scanned this comes several times a second.
            delay = max(0.0, self._swept + SETTLE - time.monotonic())
            self._sweep = asyncio.get_running_loop().call_later(delay, self._wake_all)

    # Following.

    def _wake_all(self) -> None:
        self._sweep = None
        self._swept = time.monotonic()
        for seed in self._seeds.values():
            self._wake(seed)

    def _wake(self, seed: _Seed) -> None:
        """Have a seed's task look at how things are."""
        if self._stopped:
            return
        seed.generation += 1
        seed.changed.set()
        self._cancel_retry(seed)
        if seed.task is None:
            name = f"seed {seed.item}"
            seed.task = tasks.spawn(self._settle(seed), name)

    def _retry(self, seed: _Seed) -> None:
        delay = min(RETRY * 2.0**seed.tries, MAX_RETRY)
        seed.tries = min(seed.tries + 1, 20)
        self._cancel_retry(seed)
        loop = asyncio.get_running_loop()
        seed.retry = loop.call_later(delay, self._wake, seed)

    @staticmethod
    def _cancel_retry(seed: _Seed) -> None:
        if seed.retry is not None:
            seed.retry.cancel()
            seed.retry = None

    async def _settle(self, seed: _Seed) -> None:
        """Follow until nothing happened meanwhile."""
        try:
            while seed.settled != seed.generation:
                generation = seed.generation
                seed.changed.clear()
                try:
                    await self._follow(seed)
                except Exception:
                    _LOGGER.exception("A seed cannot be looked after")
                    self._set_aside(seed)
                seed.settled = generation
        finally:
            seed.task = None
        if not seed.wanted:
            self._forget(seed)
        self._on_change()

    async def _follow(self, seed: _Seed) -> None:
        """Make the torrent what it should be as things are now; return early when they change once more."""
        if not seed.wanted:
            await self._take_down(seed)
            self._stop_hashing(seed)
            seed.ready.set()
            return
        if seed.fault is not None:
            await self._take_down(seed)
            if seed.tries:
                # It was tried again already, to no avail.
                self._set_aside(seed)
                return
            seed.tries = 1
        looking = asyncio.ensure_future(self._looks.look(seed.item))
        try:
            if not await _unless_changed(seed, looking):
                return
            look = looking.result()
        except EngineError:
            await self._take_down(seed)
            self._stop_hashing(seed)
            # Also what is gone may come back, when a disk is plugged in.
            self._set_aside(seed)
            return
        finally:
            looking.cancel()
        if seed.served is not None and (
            seed.served.file != look.file or seed.served.meta.salt != seed.salt
        ):
            await self._take_down(seed)
        if seed.served is None:
            seed.ready.clear()
            await self._put_up(seed, look)

    async def _put_up(self, seed: _Seed, look: Look) -> None:
        file, pieces = look.file, look.pieces
        if seed.suspect:
            seed.suspect = False
            await self._hasher.forget(file)
            pieces = None
        try:
            if pieces is None:
                pieces = await self._hashes(seed, file)
                if pieces is None:
                    return
            meta = make(file.size, pieces, seed.salt)
            listener = _Listener(lambda *news: self._faulty(seed, *news))
            async with asyncio.timeout(DISK_TIMEOUT):
                opened = await open_in_daemon(
                    partial(open_described, file), close_in_daemon
                )
            torrent = await self._session.seed(meta, opened, file.name, listener)
        except (FileChanged, OtherFile):
            # The library finds out what it is now, when it is asked.
            self._set_aside(seed)
            return
        except (HashingError, BadMetainfo, SessionError, OSError, TimeoutError) as err:
            message = f"{file.name} cannot be shared: {err}"
            _LOGGER.log(
                logging.DEBUG if message == seed.told else logging.WARNING, message
            )
            seed.told = message
            self._set_aside(seed)
            return
        seed.served = Served(file, meta, torrent)
        seed.listener = listener
        seed.available = True
        seed.told = None
        seed.since = seed.checked = time.monotonic()
        seed.ready.set()
        self._on_change()
        if seed.wanted:
            self._on_seed(seed.receiver, seed.item, torrent)

    async def _hashes(self, seed: _Seed, file: LocalFile) -> bytes | None:
        """Return the hashes of a file; None when something happens meanwhile, and the hashing goes on."""
        version = Version.of(file)
        if seed.hashing is not None and seed.hashing[0] != version:
            self._stop_hashing(seed)
        if seed.hashing is None:
            job = asyncio.create_task(self._hasher.hashes(file, urgent=True))
            seed.hashing = version, job
        _, hashing = seed.hashing
        if not await _unless_changed(seed, hashing):
            return None
        seed.hashing = None
        return hashing.result()

    @staticmethod
    def _stop_hashing(seed: _Seed) -> None:
        if seed.hashing is not None:
            seed.hashing[1].cancel()
            seed.hashing = None

    async def _take_down(self, seed: _Seed) -> None:
        """Cut the transfer."""
        served, seed.served = seed.served, None
        seed.listener = None
        seed.fault = None
        if served is not None:
            try:
                await served.torrent.remove()
            except RuntimeError as err:
                # libtorrent gave it up by itself.
                _LOGGER.debug("%s is gone already: %s", served.file.name, err)
            self._on_change()

    def _set_aside(self, seed: _Seed) -> None:
        """Try a seed again later, whose file cannot be served now."""
        seed.available = False
        seed.ready.set()
        # What woke it meanwhile is looked at first.
        if seed.wanted and not self._stopped and not seed.changed.is_set():
            self._retry(seed)

    def _faulty(
        self, seed: _Seed, listener: _Listener, message: str, suspect: bool
    ) -> None:
        """Take note of what libtorrent found wrong with a seed's present torrent."""
        if seed.listener is not listener or seed.fault is not None:
            return
        assert seed.served is not None
        _LOGGER.warning("%s is not shared any more: %s", seed.served.file.name, message)
        seed.fault = message
        seed.suspect = suspect
        self._wake(seed)

    def _forget(self, seed: _Seed) -> None:
        if self._seeds.get(seed.key) is seed:
            del self._seeds[seed.key]
            keys = self._of_item[seed.item]
            keys.discard(seed.key)
            if not keys:
                del self._of_item[seed.item]

    # Looking after.

    def _make_room(self) -> None:
        """Put seeds to sleep, those first that have not been used for longest, so that there may be one more.

        Raises Busy where too many are in use.
        """
        if len(self._seeds) < self.limit:
            return
        wanted = [seed for seed in self._seeds.values() if seed.wanted]
        unused = sorted(
            (seed for seed in wanted if not _peers(seed)), key=lambda seed: seed.used
        )
        excess = len(wanted) + 1 - self.limit
        if excess > len(unused):
            raise Busy("too many files are being shared at the same time")
        for seed in unused[: max(excess, 0)]:
            self._sleep(seed)

    def _sleep(self, seed: _Seed) -> None:
        seed.wanted = False
        self._wake(seed)

    async def _watch(self) -> None:
        """Look after the files of seeds, and put those to sleep that nobody uses."""
        while True:
            await asyncio.sleep(CHECK)
            for device, seeds in self._due().items():
                if device not in self._hanging:
                    task = tasks.spawn(self._check_files(device, seeds), "check seeds")
                    self._checks.add(task)
                    task.add_done_callback(self._checks.discard)

    def _due(self) -> dict[int, list[_Seed]]:
        """Return the seeds whose files should be looked at, by the device that these are on."""
        now = time.monotonic()
        due: dict[int, list[_Seed]] = {}
        for seed in list(self._seeds.values()):
            if (served := seed.served) is None:
                continue
            busy = _peers(seed) > 0
            if busy:
                seed.used = now
            elif now - seed.used > self.idle:
                self._sleep(seed)
                continue
            if now - seed.checked >= (CHECK if busy else CHECK_IDLE) - 0.5:
                seed.checked = now
                due.setdefault(served.file.device, []).append(seed)
                if now - seed.since > _WELL:
                    seed.tries = 0
        return due

    async def _check_files(self, device: int, seeds: list[_Seed]) -> None:
        """Wake those seeds whose files are not what they were, all if their disk does not answer."""
        files = [seed.served.file for seed in seeds if seed.served is not None]
        self._hanging.add(device)

        def changed() -> set[LocalFile]:
            try:
                return {file for file in files if not is_still_there(file)}
            finally:
                self._hanging.discard(device)

        try:
            async with asyncio.timeout(DISK_TIMEOUT):
                found = await in_daemon(changed)
        except TimeoutError:
            found = set(files)
        except RuntimeError:
            # There cannot be one more thread at present.
            self._hanging.discard(device)
            return
        for seed in seeds:
            if seed.served is not None and seed.served.file in found:
                self._wake(seed)


async def _unless_changed(seed: _Seed, work: asyncio.Future[Any]) -> bool:
    """Wait for some work on a seed to end; return False when something happens to the seed before."""
    changed = asyncio.create_task(seed.changed.wait())
    try:
        await asyncio.wait((work, changed), return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()
    return work.done()


def _peers(seed: _Seed) -> int:
    return seed.served.torrent.status.peers if seed.served is not None else 0
