"""All seeds, within a limit. Checks their files, and puts unused seeds to sleep.

A seed starts with its ticket, not with the receiver's first connection. libtorrent silently disconnects a peer that names an
info-hash which it does not have, so the torrent must exist before a receiver connects by TCP. A receiver asks for a ticket when
somebody is about to play, and connects within a second. After a restart, the tickets that expire last are seeded again, so that
transfers continue. A seed without a peer sleeps after half an hour, and its receiver's next request for a ticket wakes it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
import time
from typing import Final

from ..core import tasks
from ..core.errors import Busy
from ..core.opening import is_still_there
from ..core.threads import in_daemon
from ..core.timer import Timer
from ..models import LocalFile
from .file_lookup import BATCH, FileLookups, Many
from .hashing import Hasher
from .priority import Priority
from .seed import DISK_TIMEOUT, Key, Seed, SeedState, SeedTools, Served
from .session import Session, Torrent

LIMIT: Final = 500
"""Default limit of seeds at a time."""
IDLE: Final = 1800.0
"""Seconds without a peer after which a seed is put to sleep."""
CHECK_INTERVAL: Final = 5.0
"""Seconds between two checks of the file of a seed with peers."""
IDLE_CHECK_INTERVAL: Final = 30.0
"""Seconds between two checks of the file of a seed without peers."""
SWEEP_INTERVAL: Final = 5.0
"""Seconds between two checks of all seeds, when too many items changed to name them."""

_SOUND_AFTER: Final = 60.0
"""Seconds of serving after which a seed's former failures are forgotten."""


class Seeds:
    """All seeds."""

    def __init__(
        self,
        session: Session,
        hasher: Hasher,
        files: Many,
        *,
        batch: int = BATCH,
        on_seed: Callable[[str, str, Torrent], None] = lambda *_: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to seed the files that `files` finds: for up to `batch` items, each file as it is now, or an error.

        `on_seed` is called with receiver, item and torrent when a torrent begins to be served, also again after its file was
        moved; `on_change` when the number of active seeds may have changed. Both are called in the event loop.
        """
        self.limit = LIMIT
        """Seeds at a time."""
        self.idle = IDLE
        """Seconds without a peer after which a seed is put to sleep."""
        self._lookups = FileLookups(files, hasher, batch=batch)
        self._tools = SeedTools(
            session, hasher, self._lookups, on_seed, on_change, self._forget
        )
        self._seeds: dict[Key, Seed] = {}
        self._of_item: dict[str, set[Key]] = {}
        self._hanging: set[int] = set()
        """Devices whose files are being checked."""
        self._tasks = tasks.Tasks()
        self._sweep = Timer(self._wake_all)
        self._swept = -SWEEP_INTERVAL
        self._is_stopped = False

    def start(self) -> None:
        """Start checking the files of seeds."""
        self._tasks.keep(self._watch, "seeds")

    async def stop(self) -> None:
        """End all work. The torrents end with the session."""
        self._is_stopped = True
        self._sweep.cancel()
        await self._tasks.end()
        await asyncio.gather(*(seed.stop() for seed in self._seeds.values()))
        await self._lookups.stop()
        self._seeds.clear()
        self._of_item.clear()

    # State.

    @property
    def active(self) -> int:
        """The number of torrents that are served."""
        return sum(seed.served is not None for seed in self._seeds.values())

    def torrents_of(self, receiver: str) -> tuple[Torrent, ...]:
        """Return the torrents that are served to a home."""
        return tuple(
            seed.served.torrent
            for seed in self._seeds.values()
            if seed.receiver == receiver and seed.served is not None
        )

    def upload_rates(self) -> Mapping[str, int]:
        """Return the bytes per second that go to each home, without those that get none."""
        rates: Counter[str] = Counter()
        for seed in self._seeds.values():
            if seed.served is not None:
                rates[seed.receiver] += seed.served.torrent.status.upload_rate
        return +rates

    def state(self, receiver: str, item: str) -> SeedState:
        """Return the state of a seed."""
        seed = self._seeds.get((receiver, item))
        return seed.state if seed is not None else SeedState.ASLEEP

    def served(self, receiver: str, item: str) -> Served | None:
        """Return what is served to a receiver now, if anything."""
        seed = self._seeds.get((receiver, item))
        return seed.serving if seed is not None else None

    # Wishes.

    def activate(
        self, receiver: str, item: str, salt: bytes, priority: Priority = Priority.NOW
    ) -> None:
        """Serve an item to a receiver from now on. If necessary, its file is hashed with this priority.

        Raises Busy when too many seeds are in use.
        """
        if self._is_stopped:
            raise Busy("the engine is stopping")
        key = receiver, item
        seed = self._seeds.get(key)
        if seed is None or not seed.is_wanted:
            self._make_room()
        if seed is None:
            seed = self._seeds[key] = Seed(self._tools, receiver, item)
            self._of_item.setdefault(item, set()).add(key)
        seed.want(salt, priority)

    async def ready(self, receiver: str, item: str, seconds: float) -> Served | None:
        """Wait until a seed is active or cannot be active now, for so many seconds at most. Return what is served."""
        seed = self._seeds.get((receiver, item))
        if seed is None or not seed.is_wanted:
            return None
        await seed.wait(seconds)
        # Another seed may have replaced it.
        return self.served(receiver, item)

    def deactivate(self, receiver: str, item: str | None = None) -> Awaitable[None]:
        """Stop serving an item, or all items, to a receiver. Awaiting the result waits until the transfers have ended."""
        if item is not None:
            found = self._seeds.get((receiver, item))
            chosen = [found] if found is not None else []
        else:
            chosen = [
                each for each in self._seeds.values() if each.receiver == receiver
            ]
        for seed in chosen:
            seed.sleep()

        async def wait() -> None:
            for seed in chosen:
                await seed.wait_asleep()

        return wait()

    def items_changed(self, items: Collection[str] | None) -> None:
        """Check the seeds of these items, or all seeds, because their files may have changed."""
        if items is not None:
            for item in items:
                for key in tuple(self._of_item.get(item, ())):
                    self._seeds[key].wake()
        elif not self._sweep.is_running and not self._is_stopped:
            # While a large share is scanned, this is called several times a second.
            delay = max(0.0, self._swept + SWEEP_INTERVAL - time.monotonic())
            self._sweep.start(delay)

    def _wake_all(self) -> None:
        self._swept = time.monotonic()
        for seed in self._seeds.values():
            seed.wake()

    def _make_room(self) -> None:
        """Put seeds to sleep, the least recently used first, to make room for one more.

        Raises Busy when too many are in use.
        """
        if len(self._seeds) < self.limit:
            return
        wanted = [seed for seed in self._seeds.values() if seed.is_wanted]
        unused = sorted(
            (seed for seed in wanted if not seed.peers), key=lambda seed: seed.used
        )
        excess = len(wanted) + 1 - self.limit
        if excess > len(unused):
            raise Busy("too many files are being shared at the same time")
        for seed in unused[: max(excess, 0)]:
            seed.sleep()

    def _forget(self, seed: Seed) -> None:
        if self._seeds.get(seed.key) is seed:
            del self._seeds[seed.key]
            keys = self._of_item[seed.item]
            keys.discard(seed.key)
            if not keys:
                del self._of_item[seed.item]

    # Checking files.

    async def _watch(self) -> None:
        """Check the files of seeds, and put unused seeds to sleep."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            for device, seeds in self._due().items():
                if device not in self._hanging:
                    self._tasks.spawn(self._check_files(device, seeds), "check seeds")

    def _due(self) -> dict[int, list[Seed]]:
        """Return the seeds whose files must be checked, by device."""
        now = time.monotonic()
        due: dict[int, list[Seed]] = {}
        for seed in list(self._seeds.values()):
            if (served := seed.served) is None:
                continue
            if has_peers := seed.peers > 0:
                seed.used = now
            elif now - seed.used > self.idle:
                seed.sleep()
                continue
            interval = CHECK_INTERVAL if has_peers else IDLE_CHECK_INTERVAL
            if now - seed.checked >= interval - 0.5:
                seed.checked = now
                due.setdefault(served.file.device, []).append(seed)
                if now - seed.since > _SOUND_AFTER:
                    seed.tries = 0
        return due

    async def _check_files(self, device: int, seeds: list[Seed]) -> None:
        """Wake the seeds whose files changed, or all if their disk does not answer."""
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
            # No thread can be started now.
            self._hanging.discard(device)
            return
        for seed in seeds:
            if seed.served is not None and seed.served.file in found:
                seed.wake()
