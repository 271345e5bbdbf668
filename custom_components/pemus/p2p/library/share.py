"""One share at work: decides when it is scanned, watches its folders, and knows whether its root is there.

Each share has its own thread while it is scanned, so that one on a disk that hangs holds up no other. Such a thread
cannot be ended; it is left behind, and ends with the process if not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import contextlib
from functools import partial
import logging
import os
import threading
import time

from ..core import paths, tasks
from ..core.bounded import BoundedTasks
from ..core.sqlite import StoreError
from ..core.threads import in_daemon
from ..models import Counts, ProblemKey, ShareConfig
from . import watch
from .aggregates import refresh
from .changes import Row
from .moves import MoveDetection
from .names import is_left_out
from .scan import Ground, Outcome, RootUnavailable, Scan
from .store import Store

PROBE_INTERVAL = 10
"""Seconds between two looks at the root, which show that a disk was unplugged or came back."""
PROBE_TIMEOUT = 20
"""Seconds after which a root that does not answer counts as unavailable."""
RETRY = 60
"""Seconds until the next try when the index could not be written or folders not be watched."""
STOP_TIMEOUT = 5
"""Seconds that a scan may take to end when it is told to."""
WATCH_TIMEOUT = 10
"""Seconds that a scan waits for the watcher, which may have to look at many folders."""
SCAN_ALONE = 30
"""Seconds for which a scan of the whole share is left alone before the files it found so far are read beside it."""

LOOKS = 8
"""Files of a share that are looked at at a time."""
_SUMMARY_INTERVAL = 5
_LOGGER = logging.getLogger(__name__)

type _Identity = tuple[str, int, int, bool] | None
"""Real path, device and inode of a root, and whether there is anything in it; None if it is not there."""


class Share:
    """A share with its items. All methods are called in the event loop."""

    def __init__(
        self,
        config: ShareConfig,
        number: int,
        store: Store,
        *,
        rescan_interval: int,
        on_change: Callable[[], None],
        on_items: Callable[[list[Row]], None],
        on_purge: Callable[[list[Row]], None],
    ) -> None:
        """Prepare a share that the index knows as `number`.

        `on_change` is called whenever something of its state changed, `on_items` with items that changed or went away,
        and `on_purge` with those that were forgotten.
        """
        self.config = config
        self.number = number
        self.rescan_interval = rescan_interval
        self.available = False
        self.scanning = False
        """Whether the whole share is being scanned."""
        self.seen = 0
        """How many items this scan met so far."""
        self.counts = Counts()
        self.last_scan: float | None = None
        self.problem: ProblemKey | None = None
        self.limited_by: str | None = None
        """The system's setting that keeps the folders from being watched."""
        self._looks = BoundedTasks(LOOKS)
        self._store = store
        self._on_change = on_change
        self._on_items = on_items
        self._on_purge = on_purge
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stop = threading.Event()
        self._faults: set[str] = set()
        self._arrivals = MoveDetection()
        self._watcher: watch.Watcher | None = None
        self._watching = asyncio.Event()
        self._unwatched_because = ""
        self._full = True
        self._due: dict[str, float] = {}
        self._next_full = 0.0
        self._next_watch = 0.0
        self.root = config.path
        """The real path of the root, as far as it is known."""
        self._real: str | None = None
        """The same once it was there, and from then on: no link that takes its place later is followed."""
        self._identity: _Identity = None
        self._silent = False
        self._scan_begun = 0.0
        self._folders_changed = True

    @property
    def readable(self) -> bool:
        """Whether it is time to read files of this share."""
        return self.available and (
            not self.scanning or time.monotonic() > self._scan_begun + SCAN_ALONE
        )

    def start(self) -> None:
        """Begin to work."""
        self._task = tasks.keep(self._run, f"share {self.config.name}")

    async def stop(self) -> None:
        """End all work."""
        self._stop.set()
        self._unwatch()
        await tasks.end(self._task)
        self._task = None

    def rescan(self) -> None:
        """Scan the whole share as soon as possible."""
        self._full = True
        self._wake.set()

    async def on_disk[**P, T](
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call what looks at files of the share; a few at a time, also if nobody waits for them any more. Raises what it raises."""
        return await self._looks.run(partial(in_daemon, function, *args, **kwargs))

    def look_at(self, folder: str) -> None:
        """Scan a folder as soon as possible."""
        self._due[folder] = 0.0
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._step()
            except StoreError as err:
                _LOGGER.error("Scanning %s failed: %s", self.config.path, err)
                await self._retry()
            except Exception:
                _LOGGER.exception("Scanning %s failed", self.config.path)
                await self._retry()

    async def _retry(self) -> None:
        self._full = True
        self._on_change()
        await asyncio.sleep(RETRY)

    async def _step(self) -> None:
        now = time.time()
        if self._full or now >= self._next_full:
            await self._scan_everything()
        elif self.available and (
            due := [folder for folder, when in self._due.items() if when <= now]
        ):
            await self._scan_folders(due)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause(now)):
                    await self._wake.wait()
                    self._wake.clear()
                    return
            await self._probe()
        if self.available and self._folders_changed and time.time() > self._next_watch:
            await self._rewatch()

    def _pause(self, now: float) -> float:
        times = [self._next_full - now, PROBE_INTERVAL]
        if self.available:
            times += [when - now for when in self._due.values()]
            if self._folders_changed:
                times.append(self._next_watch - now)
        return max(0.01, min(times))

    async def _probe(self) -> None:
        """See whether the root is still the same; if not, the disk was unplugged or came back."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                identity = await in_daemon(_identity, self.config.path, self._real)
        except TimeoutError:
            self._silent = True
            self._set_available(False, "it does not answer")
            return
        if identity != self._identity or self._silent:
            self._silent = False
            self._full = True
            # The folders that are watched are those of the disk that was there before.
            self._unwatch()

    async def _scan_everything(self) -> None:
        self._full = False
        self._next_full = time.time() + self.rescan_interval
        self._identity = await in_daemon(_identity, self.config.path, self._real)
        if self._identity is not None:
            self.root, _, _, is_filled = self._identity
            self._real = self.root
            if is_filled:
                # Files can be sent and browsed while they are compared with the index. Whether an empty root is one
                # that was unplugged, the scan will tell.
                self._set_available(True)
            if self._watcher is None:
                await self._watch_before_scan()
        self._due.clear()
        self._scan_begun = time.monotonic()
        self.scanning = True
        self.seen = 0
        self._on_change()
        try:
            outcome = await self._in_thread(Scan.everything)
        finally:
            self.scanning = False
            self._on_change()
        if outcome is not None:
            self.last_scan = time.time()
            # What could not be watched may be by now.
            self._folders_changed |= self._watcher is None

    async def _watch_before_scan(self) -> None:
        """Watch the folders that are known from before, so that they need not be scanned once more afterwards."""
        await self._rewatch()
        if self._watcher is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_TIMEOUT):
                    await self._watching.wait()

    async def _scan_folders(self, folders: list[str]) -> None:
        for folder in folders:
            del self._due[folder]
        outcome = await self._in_thread(lambda scan: scan.folders(folders))
        if outcome is not None and outcome.differs:
            self._on_change()

    async def _in_thread(self, work: Callable[[Scan], Outcome]) -> Outcome | None:
        """Run a scan; return what came of it, None if the root is not there. Raises StoreError."""
        stop = self._stop = threading.Event()
        running = asyncio.ensure_future(in_daemon(self._scan, work, stop))
        # Nobody asks one that is left behind how it ended.
        running.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            outcome = await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([running], timeout=STOP_TIMEOUT)
            raise
        except RootUnavailable as err:
            self._unwatch()
            self._set_available(False, str(err))
            return None
        self._set_available(True)
        for folder, when in outcome.unsettled.items():
            self._due[folder] = max(when, self._due.get(folder, 0.0))
        self._folders_changed |= outcome.folders_changed
        if outcome.purged:
            self._on_purge(outcome.purged)
        return outcome

    def _scan(self, work: Callable[[Scan], Outcome], stop: threading.Event) -> Outcome:
        """Scan and count, in the scan's thread."""
        counted = time.monotonic()

        def progress(seen: int) -> None:
            nonlocal counted
            self.seen = seen
            if time.monotonic() > counted + _SUMMARY_INTERVAL:
                refresh(self._store, self.number)
                counted = time.monotonic()
            self._in_loop(self._on_change)

        scan = Scan(
            self._store,
            Ground(number=self.number, path=self.root, kinds=self.config.kinds),
            faults=self._faults,
            arrivals=self._arrivals,
            stop=stop,
            progress=progress,
            touched=lambda rows: self._in_loop(lambda: self._on_items(rows)),
        )
        try:
            outcome = work(scan)
        except BaseException:
            # Also what was found before it ended early is to be seen.
            with contextlib.suppress(StoreError):
                refresh(self._store, self.number)
            raise
        if outcome.differs:
            refresh(self._store, self.number)
        return outcome

    def _in_loop(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def _set_available(self, available: bool, reason: str = "") -> None:
        problem = None if available else ProblemKey.SHARE_UNAVAILABLE
        if (self.available, self.problem) == (available, problem):
            return
        if available:
            _LOGGER.info("The share %s is there", self.config.path)
        else:
            _LOGGER.warning(
                "The share %s is not available: %s", self.config.path, reason
            )
            self._unwatch()
        self.available = available
        self.problem = problem
        self._on_change()

    async def _rewatch(self) -> None:
        """Watch the folders that there are now."""
        folders = await in_daemon(self._known_folders)
        if not folders or not watch.IS_POSSIBLE:
            return
        self._next_watch = time.time() + RETRY
        self._folders_changed = False
        before = self._watcher.folders if self._watcher else frozenset()
        if self._watcher is not None and folders == before:
            return
        old, current = self._watcher, None
        self._watching.clear()

        def ready() -> None:
            if self._watcher is current:
                self._watching.set()
                self._unwatched_because = ""
                self.limited_by = None
                # What happened there until now was not seen.
                for folder in folders - before:
                    self._due.setdefault(folder, 0.0)
                self._next_watch = 0.0
                self._wake.set()
            if old is not None:
                old.stop()

        def changed(touched: set[str]) -> None:
            for folder in touched:
                self.look_at(folder)

        def failed(err: OSError) -> None:
            if self._watcher is current:
                setting, reason = watch.limit_of(err), str(err)
                if reason != self._unwatched_because:
                    _LOGGER.warning(
                        "Changes in %s are not noticed at once: %s",
                        self.config.path,
                        reason,
                    )
                self._unwatched_because = reason
                self._watching.set()
                self._watcher = None
                self.limited_by = setting
                self._folders_changed = setting is None
                self._on_change()

        current = self._watcher = watch.Watcher(
            self.root,
            folders,
            ready=lambda: self._in_loop(ready),
            changed=lambda touched: self._in_loop(lambda: changed(touched)),
            failed=lambda err: self._in_loop(lambda: failed(err)),
        )
        current.start()

    def _known_folders(self) -> frozenset[str]:
        with self._store.read() as db:
            return frozenset(
                path
                for (path,) in db.execute(
                    "SELECT path FROM folders WHERE share = ? AND NOT gone",
                    (self.number,),
                )
            )

    def _unwatch(self) -> None:
        watcher, self._watcher = self._watcher, None
        self._folders_changed = True
        self._next_watch = 0.0
        if watcher is not None:
            watcher.stop()


def _identity(path: str, real: str | None) -> _Identity:
    """Look at a root by its real path; it is found out from the configured one as long as it is not known."""
    try:
        real = real or os.path.realpath(path, strict=True)
        with paths.opened_root(real) as descriptor:
            status = os.fstat(descriptor)
            with os.scandir(descriptor) as entries:
                is_filled = any(not is_left_out(entry.name) for entry in entries)
    except OSError:
        return None
    return real, status.st_dev, status.st_ino, is_filled
