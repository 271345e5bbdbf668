"""Hashes the pieces of files (BEP 3), once per version of a file.

The hashes are computed by `hashlib` in two threads per file, which let go of Python's lock meanwhile; who waits for a
file comes first, the shortest rest first of all, and what is done in the background waits for that and for streams. At
each piece a thread asks whether it is its turn, so a change of order is a matter of milliseconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
import ctypes
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from heapq import heappop, heappush
from itertools import count
import logging
import os
import platform
import threading
import time
from typing import Final

from ..core.opening import OtherFile, open_described
from ..core.sqlite import StoreError
from ..core.threads import in_daemon
from ..models import LocalFile
from .metainfo import DIGEST, MAX_METAINFO, piece_length_for
from .store import SwarmStore, Version

THREADS: Final = 2
URGENT_JOBS: Final = 8
"""Files that are waited for and being worked on; others queue."""
STALL: Final = 60.0
"""Seconds for which a disk may not answer."""
SETTLED: Final = 2.0
"""Seconds since the last change, from which on another change is sure to show in the time of change (FAT counts in
steps of two)."""

_WATCH: Final = 1.0
_SLOW: Final = 2.0
_LARGE: Final = 8 * 1024 * 1024
"""Bytes from which on a second thread pays."""
_STOP_TIMEOUT: Final = 1.0
_SAMPLES: Final = 32
# Seconds between two pieces.
_BREATH: Final = 0.0001
_NICE: Final = 10
# ioprio_set(2): "best effort", its lowest level.
_IO_LOWEST: Final = (2 << 13) | 7
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}

_LOGGER = logging.getLogger(__name__)


class HashingError(Exception):
    """The file cannot be hashed at present. The message says why, and is fit to be shown."""


class FileChanged(HashingError):
    """The file is not, or no longer, the one that was described."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HashingProgress:
    """What is being hashed."""

    files: int = 0
    """Files that are being hashed or wait for it."""
    done_bytes: int = 0
    total_bytes: int = 0
    """Of these files."""
    paused: bool = False
    """Whether what is not urgent waits."""


class _Job:
    """One file to hash. What threads share is changed by them under the lock of `_Turns` only."""

    def __init__(self, file: LocalFile, version: Version) -> None:
        self.file = file
        self.version = version
        self.piece_length = piece_length_for(file.size)
        self.count = -(-file.size // self.piece_length)
        self.digests = bytearray(self.count * DIGEST)
        self.urgent = False
        self.stopped = False
        self.next = 0
        self.done_bytes = 0
        self.waiters = 0
        self.admitted = asyncio.Event()
        self.task: asyncio.Task[bytes] | None = None
        self.busy_since: dict[int, float] = {}
        """When each thread that is not waiting for its turn began what it does, by the thread's id."""
        self.descriptor = -1
        self.users = 0
        """Threads that have the file open; the last one closes it."""
        self.hanging = 0
        """Those of them that were given up on."""
        self.passing = False
        """Whether to have the system forget what was read."""
        self.opening = threading.Lock()

    @property
    def left_bytes(self) -> int:
        return self.file.size - self.done_bytes

    def span(self, index: int) -> tuple[int, int]:
        """Return where a piece starts and how long it is."""
        start = index * self.piece_length
        return start, min(self.piece_length, self.file.size - start)


class _Turns:
    """Decides, piece by piece, whose turn it is."""

    def __init__(self) -> None:
        self.paused = False
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()

    def enter(self, job: _Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def leave(self, job: _Job) -> None:
        with self._changed:
            job.stopped = True
            if job in self._jobs:
                self._jobs.remove(job)
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        with self._changed:
            self.paused = paused
            self._changed.notify_all()

    def promote(self, job: _Job) -> None:
        with self._changed:
            job.urgent = True
            self._changed.notify_all()

    def take(self, job: _Job, urgent: bool) -> int | None:
        """Wait for the turn of a job and return its next piece; None when the thread has nothing more to do for it.

        A thread of low priority leaves a job that has become urgent to others.
        """
        me = threading.get_ident()
        with self._changed:
            job.busy_since.pop(me, None)
            try:
                while True:
                    if job.stopped or job.next >= job.count or job.urgent != urgent:
                        return None
                    if self._current() is job:
                        index = job.next
                        job.next += 1
                        if job.next == job.count:
                            self._changed.notify_all()
                        return index
                    self._changed.wait(_WATCH)
            finally:
                job.busy_since[me] = time.monotonic()

    def finished(self, job: _Job, index: int, size: int, digest: bytes) -> None:
        """Note the hash of a piece that was taken."""
        with self._changed:
            job.digests[index * DIGEST : (index + 1) * DIGEST] = digest
            job.done_bytes += size

    def begin(self, job: _Job) -> None:
        """Note that this thread works for a job."""
        with self._changed:
            job.busy_since[threading.get_ident()] = time.monotonic()

    def end(self, job: _Job) -> None:
        """Note that it does no longer."""
        with self._changed:
            job.busy_since.pop(threading.get_ident(), None)

    def stalled(self, job: _Job, seconds: float) -> bool:
        """Tell whether a thread has been at the same piece for so long."""
        with self._changed:
            return self._stalled(job, seconds)

    @staticmethod
    def _stalled(job: _Job, seconds: float) -> bool:
        limit = time.monotonic() - seconds
        return any(since < limit for since in job.busy_since.values())

    def _current(self) -> _Job | None:
        # A disk that takes its time holds up nobody else.
        waiting = [
            job
            for job in self._jobs
            if job.next < job.count and not self._stalled(job, _SLOW)
        ]
        if urgent := [job for job in waiting if job.urgent]:
            return min(urgent, key=lambda job: job.left_bytes)
        return waiting[0] if waiting and not self.paused else None


class Hasher:
    """Hashes files, one version of each only once."""

    def __init__(
        self, store: SwarmStore, *, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """Keep the results in `store`. `on_change` is called in the event loop when work begins, pauses or ends."""
        self._store = store
        self._on_change = on_change
        self._jobs: dict[Version, _Job] = {}
        self._turns = _Turns()
        self._urgent: list[tuple[int, int, _Job]] = []
        """Heap of what waits to begin, the shortest first."""
        self._others: deque[_Job] = deque()
        self._running: set[_Job] = set()
        self._count = count()
        self._threads = 0
        self._stuck: dict[int, int] = {}
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def progress(self) -> HashingProgress:
        """What is being hashed at present."""
        jobs = self._jobs.values()
        return HashingProgress(
            files=len(jobs),
            done_bytes=sum(job.done_bytes for job in jobs),
            total_bytes=sum(job.file.size for job in jobs),
            paused=self._turns.paused,
        )

    def pause(self) -> None:
        """Let wait what is not urgent, because something streams."""
        if not self._turns.paused:
            self._turns.pause(True)
            self._on_change()

    def resume(self) -> None:
        """Go on with what is not urgent."""
        if self._turns.paused:
            self._turns.pause(False)
            self._on_change()

    async def hashes(self, file: LocalFile, *, urgent: bool) -> bytes:
        """Return the hashes of a file's pieces, one after the other; they are computed unless they are known.

        Who waits no longer should cancel: what nobody waits for is not continued.

        Raises:
            FileChanged: the file is not what was described, or changed meanwhile.
            HashingError: it cannot be read.

        """
        if self._stopped:
            raise HashingError("the engine is stopping")
        if file.size == 0:
            return b""
        if -(-file.size // piece_length_for(file.size)) * DIGEST >= MAX_METAINFO:
            raise HashingError("the file is too large to be shared")
        version = Version.of(file)
        job = self._jobs.get(version)
        if job is None:
            job = self._jobs[version] = _Job(file, version)
            job.urgent = urgent
            job.task = asyncio.create_task(self._run(job), name=f"hash {file.name}")
        elif urgent and not job.urgent:
            self._turns.promote(job)
            self._queue(job)
        assert job.task is not None
        job.waiters += 1
        try:
            return await asyncio.shield(job.task)
        except asyncio.CancelledError:
            # Either who asked gave up, or `stop` ended the job.
            if job.task.cancelled():
                raise HashingError("the engine is stopping") from None
            raise
        finally:
            job.waiters -= 1
            if job.waiters == 0 and not job.task.done():
                self._drop(job)
                job.task.cancel()

    async def known(self, files: Collection[LocalFile]) -> dict[Version, bytes]:
        """Return the hashes of those files whose hashes are known already."""
        wanted = {Version.of(file): piece_length_for(file.size) for file in files}
        if not wanted:
            return {}
        try:
            found = await self._store.run(self._store.hashes_of, wanted)
        except StoreError as err:
            _LOGGER.warning("Hashes cannot be looked up: %s", err)
            return {}
        return {
            version: pieces
            for version, pieces in found.items()
            if len(pieces) == -(-version.size // wanted[version]) * DIGEST
        }

    async def forget(self, file: LocalFile) -> None:
        """Forget the hashes of a file because they turned out not to be right."""
        with suppress(StoreError):
            await self._store.run(self._store.forget_hashes, Version.of(file))

    async def stop(self) -> None:
        """End all work."""
        self._stopped = True
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A thread ends with its piece; one that hangs on a dead disk ends with the process.
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT):
                while self._threads:
                    await asyncio.sleep(0.01)

    # Jobs.

    async def _run(self, job: _Job) -> bytes:
        try:
            known = await self._look_up(job)
            if known is not None:
                return known
            self._queue(job)
            await job.admitted.wait()
            self._on_change()
            began = time.time()
            await self._read(job)
            pieces = bytes(job.digests)
            # What changed a moment ago may change once more without another time of change.
            if abs(began - job.file.mtime_ns / 1e9) >= SETTLED:
                await self._keep(job, pieces)
            return pieces
        finally:
            self._drop(job)
            self._turns.leave(job)
            self._running.discard(job)
            self._admit()
            self._on_change()

    def _drop(self, job: _Job) -> None:
        if self._jobs.get(job.version) is job:
            del self._jobs[job.version]

    def _queue(self, job: _Job) -> None:
        """Let a job wait for its time, or no longer behind what is not urgent."""
        if job.urgent:
            heappush(self._urgent, (job.file.size, next(self._count), job))
        else:
            self._others.append(job)
        self._admit()

    def _admit(self) -> None:
        """Let those jobs begin whose time has come."""
        while self._urgent and sum(job.urgent for job in self._running) < URGENT_JOBS:
            self._begin(heappop(self._urgent)[2])
        while self._others and all(job.urgent for job in self._running):
            self._begin(self._others.popleft())

    def _begin(self, job: _Job) -> None:
        # It may have been promoted, and be in both queues, or have ended in one.
        if not job.stopped and not job.admitted.is_set():
            self._running.add(job)
            job.admitted.set()
            self._turns.enter(job)

    async def _look_up(self, job: _Job) -> bytes | None:
        try:
            known = await self._store.run(
                self._store.hashes, job.version, job.piece_length
            )
        except StoreError as err:
            _LOGGER.warning("Hashes cannot be looked up: %s", err)
            return None
        return known if known is not None and len(known) == len(job.digests) else None

    async def _keep(self, job: _Job, pieces: bytes) -> None:
        try:
            await self._store.run(
                self._store.keep_hashes,
                job.version,
                job.piece_length,
                pieces,
                time.time(),
            )
        except StoreError as err:
            _LOGGER.warning("The hashes of %s cannot be kept: %s", job.file.name, err)

    async def _read(self, job: _Job) -> None:
        """Have threads hash all pieces of a file."""
        while job.done_bytes < job.file.size:
            if self._stuck.get(job.file.device):
                raise HashingError("the disk does not answer")
            urgent = job.urgent
            threads = THREADS if job.left_bytes >= _LARGE else 1
            workers = {
                asyncio.create_task(in_daemon(self._work, job, urgent))
                for _ in range(threads)
            }
            try:
                while workers:
                    done, workers = await asyncio.wait(
                        workers, timeout=_WATCH, return_when=asyncio.FIRST_EXCEPTION
                    )
                    for worker in done:
                        worker.result()
                    if self._turns.stalled(job, STALL):
                        self._give_up_on(job)
                        raise HashingError("the disk does not answer")
            except (OSError, RuntimeError) as err:
                raise HashingError(
                    f"the file cannot be read: {getattr(err, 'strerror', None) or err}"
                ) from err
            finally:
                if workers:
                    self._turns.leave(job)
                for worker in workers:
                    worker.cancel()

    def _give_up_on(self, job: _Job) -> None:
        """Ask no more of a disk until the threads that hang on it come back."""
        with self._lock:
            job.hanging = job.users
            device = job.file.device
            self._stuck[device] = self._stuck.get(device, 0) + job.hanging

    # In threads.

    def _work(self, job: _Job, urgent: bool) -> None:
        with self._lock:
            self._threads += 1
            job.users += 1
        self._turns.begin(job)
        try:
            if not urgent:
                _lower_priority()
            self._hash(job, urgent)
        finally:
            self._turns.end(job)
            opened = -1
            with self._lock:
                self._threads -= 1
                job.users -= 1
                if job.users == 0:
                    opened, job.descriptor = job.descriptor, -1
                if job.hanging:
                    job.hanging -= 1
                    self._stuck[job.file.device] -= 1
            # On a network disk even this may hang.
            if opened >= 0:
                os.close(opened)

    def _hash(self, job: _Job, urgent: bool) -> None:
        with job.opening:
            # One descriptor for all threads, so that the system sees that the file is read from front to back.
            if job.descriptor < 0:
                try:
                    job.descriptor = open_described(job.file)
                except OtherFile:
                    raise FileChanged("the file has changed") from None
                os.posix_fadvise(job.descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
                # What is read for the future must not push out of memory what others need.
                job.passing = not urgent and not _is_in_memory(
                    job.descriptor, job.file.size
                )
        descriptor = job.descriptor
        buffer = memoryview(bytearray(job.piece_length))
        while (index := self._turns.take(job, urgent)) is not None:
            start, length = job.span(index)
            piece = buffer[:length]
            _fill(descriptor, piece, start)
            digest = sha1(piece, usedforsecurity=False).digest()
            self._turns.finished(job, index, length, digest)
            if job.passing and not job.urgent:
                os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)
            if not urgent:
                # A thread of low priority that never sleeps can still hold up one that wakes, for tens of milliseconds.
                time.sleep(_BREATH)
        _check(job.file, descriptor)


def _check(file: LocalFile, descriptor: int) -> None:
    if not file.is_still(os.fstat(descriptor)):
        raise FileChanged("the file has changed")


def _fill(descriptor: int, buffer: memoryview, start: int) -> None:
    """Read as many bytes as fit into the buffer. Raises FileChanged where the file ends before."""
    filled = 0
    while filled < len(buffer):
        count = os.preadv(descriptor, [buffer[filled:]], start + filled)
        if count == 0:
            raise FileChanged("the file has become shorter")
        filled += count


def _is_in_memory(descriptor: int, size: int) -> bool:
    """Tell whether others use the file at present, so that its pages should stay."""
    probe = bytearray(1)
    found = 0
    for number in range(_SAMPLES):
        with suppress(OSError):
            found += os.preadv(
                descriptor, [probe], size * number // _SAMPLES, os.RWF_NOWAIT
            )
    return found > _SAMPLES // 4


def _lower_priority() -> None:
    """Let everything else go first that wants processor or disk. It is the calling thread that this is about."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    if (number := _IOPRIO_SET.get(platform.machine())) is not None:
        _libc().syscall(number, 1, 0, _IO_LOWEST)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
