"""A priority queue of files to hash, and the two threads that work on it.

Workers ask the queue for each piece, so a file that somebody waits for overtakes the others within milliseconds. `hashlib`
releases the interpreter's lock while it hashes.
"""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
import ctypes
from functools import cache
from hashlib import sha1
from heapq import heappop, heappush
from itertools import count
import os
import platform
import threading
import time
from typing import Final

from ..core.opening import OtherFile, open_described
from ..core.paths import closed_on_error
from ..models import LocalFile
from .metainfo import DIGEST, piece_length_for
from .priority import Priority

WORKERS: Final = 2
SLOW: Final = 2.0
"""Seconds for one piece after which a disk counts as slow. Its files wait, and another thread works on other disks."""
STALL: Final = 60.0
"""Seconds for one piece after which a disk counts as dead. Its files fail."""

_SAMPLES: Final = 32
"""Bytes of a file that are probed to see whether it is in memory."""
_BACKGROUND_PAUSE: Final = 0.0001
"""Seconds that a thread of low priority sleeps after each piece. Without sleeping, it can delay waking threads by tens of
milliseconds."""
_NICE: Final = 10
# ioprio_set(2): "best effort", its lowest level.
_IO_LOWEST: Final = (2 << 13) | 7
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}


class HashingError(Exception):
    """The file cannot be hashed now. The message says why, and can be shown to a user."""


class FileChanged(HashingError):
    """The file differs from its description."""


class Job:
    """A file to hash. Only the queue changes it, under its lock."""

    def __init__(self, file: LocalFile, priority: Priority) -> None:
        """Prepare to hash a file."""
        self.file = file
        self.priority = priority
        self.piece_length = piece_length_for(file.size)
        self.piece_count = -(-file.size // self.piece_length)
        self.digests = bytearray(self.piece_count * DIGEST)
        self.next = 0
        """The piece that is hashed next."""
        self.done_bytes = 0
        self.result: Future[bytes] = Future()
        """Gets the hashes of all pieces, or HashingError. Cancelling it ends the job."""

    @property
    def is_over(self) -> bool:
        """Whether no piece is left to hash."""
        return self.next == self.piece_count or self.result.done()

    def piece(self, index: int) -> tuple[int, int]:
        """Return where a piece starts, and its length."""
        start = index * self.piece_length
        return start, min(self.piece_length, self.file.size - start)

    def fail(self, error: HashingError) -> None:
        """End with an error, unless it has ended."""
        with suppress(InvalidStateError):
            self.result.set_exception(error)


class _Worker:
    """A thread, and the piece that it hashes."""

    def __init__(self, *, is_background: bool) -> None:
        self.is_background = is_background
        """Whether it runs at low priority, for files that nobody waits for. A thread cannot raise its priority again."""
        self.job: Job
        self.index = 0
        self.since = 0.0
        """When it began the piece, by the monotonic clock."""
        self.is_slow = False
        """Whether its disk is slow. Another worker has replaced it, so it ends after this piece."""
        self.thread: threading.Thread | None = None


class HashQueue:
    """Hashes files by priority, then the one with the least left first. Files in the background are hashed in order of arrival."""

    def __init__(self) -> None:
        """Start with an empty queue. Threads run only while there is work."""
        self._lock = threading.Lock()
        self._heap: list[tuple[int, int, int, Job]] = []
        """Negative priority, bytes left, number, job. Entries with a former priority of their job are ignored."""
        self._numbers = count()
        self._aside: dict[int, list[Job]] = {}
        """Jobs that wait for a slow disk, by its device number."""
        self._workers: set[_Worker] = set()
        self._is_paused = False
        self._is_stopped = False

    def add(self, job: Job) -> None:
        """Hash a file. Raises HashingError if its disk does not answer."""
        with self._lock:
            if any(self._is_dead(each, job.file.device) for each in self._workers):
                raise HashingError("the disk does not answer")
            self._push(job)
            self._start_workers()

    def promote(self, job: Job, priority: Priority) -> None:
        """Raise the priority of a job, if it is lower."""
        with self._lock:
            if priority > job.priority:
                job.priority = priority
                if not job.is_over:
                    self._push(job)
                    self._start_workers()

    def pause(self, paused: bool) -> None:
        """Pause or resume hashing in the background."""
        with self._lock:
            self._is_paused = paused
            self._start_workers()

    def check(self) -> None:
        """Find slow and dead disks. Must be called about once a second while there are jobs."""
        failed: list[Job] = []
        with self._lock:
            limit = time.monotonic() - SLOW
            for worker in self._workers:
                device = worker.job.file.device
                if worker.since < limit:
                    worker.is_slow = True
                    self._aside.setdefault(device, [])
                if self._is_dead(worker, device):
                    failed += [worker.job, *self._aside[device]]
                    self._aside[device].clear()
            self._start_workers()
        for job in failed:
            job.fail(HashingError("the disk does not answer"))

    def stop(self, seconds: float) -> None:
        """Begin no more pieces, and wait for those that are being hashed, for so many seconds at most. Blocks."""
        end = time.monotonic() + seconds
        with self._lock:
            self._is_stopped = True
            workers = list(self._workers)
        for worker in workers:
            if worker.thread is not None:
                worker.thread.join(max(0.0, end - time.monotonic()))

    # With the lock held.

    @staticmethod
    def _is_dead(worker: _Worker, device: int) -> bool:
        return (
            worker.job.file.device == device and worker.since < time.monotonic() - STALL
        )

    def _push(self, job: Job) -> None:
        is_background = job.priority is Priority.LATER
        left = job.file.size - job.next * job.piece_length
        entry = -job.priority, 0 if is_background else left, next(self._numbers), job
        heappush(self._heap, entry)

    def _first(self) -> Job | None:
        """Return the job whose turn it is."""
        while self._heap and not self._is_stopped:
            rank, _, _, job = self._heap[0]
            if job.is_over or rank != -job.priority:
                heappop(self._heap)
            elif (aside := self._aside.get(job.file.device)) is not None:
                heappop(self._heap)
                aside.append(job)
            elif self._is_paused and job.priority is Priority.LATER:
                return None
            else:
                return job
        return None

    def _take(self, worker: _Worker) -> bool:
        """Give a worker its next piece; return False if there is none for it."""
        job = self._first()
        if worker.is_slow or job is None:
            return False
        if worker.is_background != (job.priority is Priority.LATER):
            return False
        worker.job, worker.index, worker.since = job, job.next, time.monotonic()
        rank, _, number, _ = heappop(self._heap)
        job.next += 1
        if not job.is_over:
            left = job.file.size - job.next * job.piece_length
            heappush(self._heap, (rank, left if rank < -1 else 0, number, job))
        return True

    def _start_workers(self) -> None:
        while sum(not each.is_slow for each in self._workers) < WORKERS:
            job = self._first()
            if job is None:
                return
            worker = _Worker(is_background=job.priority is Priority.LATER)
            self._take(worker)
            worker.thread = threading.Thread(
                target=self._work, args=(worker,), name="hash", daemon=True
            )
            try:
                worker.thread.start()
            except RuntimeError as err:
                job.fail(HashingError(f"the file cannot be read: {err}"))
            else:
                self._workers.add(worker)

    def _leave(self, worker: _Worker) -> None:
        """End a worker. If it was the last one that its disk delayed, the disk answers again."""
        self._workers.discard(worker)
        device = worker.job.file.device
        if worker.is_slow and not any(
            each.is_slow and each.job.file.device == device for each in self._workers
        ):
            for job in self._aside.pop(device, []):
                self._push(job)
        self._start_workers()

    # In threads.

    def _work(self, worker: _Worker) -> None:
        if worker.is_background:
            _lower_priority()
        reader: _Reader | None = None
        has_work = True
        while has_work:
            job = worker.job
            try:
                if reader is None or reader.job is not job:
                    if reader is not None:
                        reader.close()
                    # Opening may fail, and then nothing may be left open.
                    reader = None
                    reader = _Reader(job, is_background=worker.is_background)
                digest = reader.hash(worker.index)
                self._finished(job, worker.index, digest, reader)
            except HashingError as err:
                job.fail(err)
            except Exception as err:  # noqa: BLE001 - raised where the result is awaited
                reason = getattr(err, "strerror", None) or err
                job.fail(HashingError(f"the file cannot be read: {reason}"))
            if worker.is_background:
                time.sleep(_BACKGROUND_PAUSE)
            with self._lock:
                has_work = self._take(worker)
                if not has_work and reader is None:
                    self._leave(worker)
        if reader is not None:
            # On a network disk, even closing may block.
            reader.close()
            with self._lock:
                self._leave(worker)

    def _finished(self, job: Job, index: int, digest: bytes, reader: _Reader) -> None:
        with self._lock:
            job.digests[index * DIGEST : (index + 1) * DIGEST] = digest
            job.done_bytes += job.piece(index)[1]
            is_complete = job.done_bytes == job.file.size
        if is_complete:
            reader.check()
            with suppress(InvalidStateError):
                job.result.set_result(bytes(job.digests))


class _Reader:
    """A worker's view of an open file. Each worker opens the file itself, so that no one waits for another to close it."""

    def __init__(self, job: Job, *, is_background: bool) -> None:
        self.job = job
        try:
            self._descriptor = open_described(job.file)
        except OtherFile:
            raise FileChanged("the file has changed") from None
        with closed_on_error(self._descriptor):
            self._buffer = memoryview(bytearray(job.piece_length))
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            # Reading in the background must not displace pages that others need.
            self._forgets = is_background and not _is_in_memory(
                self._descriptor, job.file.size
            )

    def hash(self, index: int) -> bytes:
        """Return the hash of a piece. Raises FileChanged, OSError."""
        start, length = self.job.piece(index)
        piece = self._buffer[:length]
        filled = 0
        while filled < length:
            read = os.preadv(self._descriptor, [piece[filled:]], start + filled)
            if read == 0:
                raise FileChanged("the file has become shorter")
            filled += read
        digest = sha1(piece, usedforsecurity=False).digest()
        if self._forgets:
            os.posix_fadvise(self._descriptor, start, length, os.POSIX_FADV_DONTNEED)
        return digest

    def check(self) -> None:
        """Compare the file with its description. Raises FileChanged, OSError."""
        if not self.job.file.is_still(os.fstat(self._descriptor)):
            raise FileChanged("the file has changed")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _is_in_memory(descriptor: int, size: int) -> bool:
    """Tell whether others use the file now, so that its pages should stay in memory."""
    probe = bytearray(1)
    found = 0
    for number in range(_SAMPLES):
        with suppress(OSError):
            found += os.preadv(
                descriptor, [probe], size * number // _SAMPLES, os.RWF_NOWAIT
            )
    return found > _SAMPLES // 4


def _lower_priority() -> None:
    """Give the calling thread low priority for processor and disk."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    if (number := _IOPRIO_SET.get(platform.machine())) is not None:
        _libc().syscall(number, 1, 0, _IO_LOWEST)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
