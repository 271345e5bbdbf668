"""Hashes the pieces of files (BEP 3), once for each version of a file, and stores the hashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
import logging
import time
from typing import Final

from ..core import tasks
from ..core.sqlite import StoreError
from ..core.threads import in_daemon
from ..models import LocalFile
from .hash_queue import FileChanged, HashingError, HashQueue, Job
from .metainfo import DIGEST, MAX_METAINFO, piece_length_for
from .priority import Priority
from .store import SwarmStore, Version

__all__ = ["FileChanged", "Hasher", "HashingError", "HashingProgress"]

SETTLED: Final = 2.0
"""Seconds since a change after which the next one certainly has another modification time: FAT counts in steps of two seconds."""
CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks whether disks answer."""
STOP_TIMEOUT: Final = 1.0
"""Seconds for threads to end. A thread that hangs on a dead disk ends with the process."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HashingProgress:
    """How much is being hashed."""

    files: int = 0
    """Files that are being hashed or waiting."""
    done_bytes: int = 0
    total_bytes: int = 0
    """Bytes of these files."""


@dataclass(slots=True, eq=False)
class _Hashing:
    """One version of a file that is being hashed, for all callers."""

    job: Job
    task: asyncio.Task[bytes]
    waiters: int = 0


class Hasher:
    """Hashes files, each version once."""

    def __init__(
        self, store: SwarmStore, *, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """Store hashes in `store`. `on_change` is called in the event loop after each file."""
        self._store = store
        self._on_change = on_change
        self._queue = HashQueue()
        self._running: dict[Version, _Hashing] = {}
        self._checking: asyncio.Task[None] | None = None
        self._is_stopped = False

    @property
    def progress(self) -> HashingProgress:
        """How much is being hashed now."""
        jobs = [each.job for each in self._running.values()]
        return HashingProgress(
            files=len(jobs),
            done_bytes=sum(job.done_bytes for job in jobs),
            total_bytes=sum(job.file.size for job in jobs),
        )

    def pause(self) -> None:
        """Pause files of priority LATER, because something streams."""
        self._queue.pause(True)

    def resume(self) -> None:
        """Resume all files."""
        self._queue.pause(False)

    async def hashes(self, file: LocalFile, priority: Priority = Priority.NOW) -> bytes:
        """Return the concatenated hashes of a file's pieces. They are computed unless they are known.

        The work ends when all callers are cancelled.

        Raises:
            FileChanged: the file differs from its description, or changed while it was hashed.
            HashingError: the file cannot be read.

        """
        if self._is_stopped:
            raise HashingError("the engine is stopping")
        if file.size == 0:
            return b""
        if -(-file.size // piece_length_for(file.size)) * DIGEST >= MAX_METAINFO:
            raise HashingError("the file is too large to be shared")
        version = Version.of(file)
        hashing = self._running.get(version)
        if hashing is None:
            job = Job(file, priority)
            task = asyncio.create_task(
                self._hash(version, job), name=f"hash {file.name}"
            )
            hashing = self._running[version] = _Hashing(job, task)
        else:
            self._queue.promote(hashing.job, priority)
        hashing.waiters += 1
        try:
            return await asyncio.shield(hashing.task)
        except asyncio.CancelledError:
            # The caller was cancelled, or `stop` ended the work.
            if hashing.task.cancelled():
                raise HashingError("the engine is stopping") from None
            raise
        finally:
            hashing.waiters -= 1
            if hashing.waiters == 0 and not hashing.task.done():
                self._running.pop(version, None)
                hashing.task.cancel()

    def promote(self, file: LocalFile, priority: Priority) -> None:
        """Raise the priority of a file that is being hashed."""
        if (hashing := self._running.get(Version.of(file))) is not None:
            self._queue.promote(hashing.job, priority)

    async def known(self, files: Collection[LocalFile]) -> dict[Version, bytes]:
        """Return the known hashes of files."""
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
        """Forget the hashes of a file, because they are wrong."""
        with suppress(StoreError):
            await self._store.run(self._store.forget_hashes, Version.of(file))

    async def stop(self) -> None:
        """End all work."""
        self._is_stopped = True
        await tasks.end(self._checking, *(each.task for each in self._running.values()))
        await in_daemon(self._queue.stop, STOP_TIMEOUT)

    async def _hash(self, version: Version, job: Job) -> bytes:
        try:
            known = await self.known([job.file])
            if version in known:
                return known[version]
            began = time.time()
            self._queue.add(job)
            if self._checking is None:
                self._checking = tasks.keep(self._check, "hash: check disks")
            pieces = await asyncio.wrap_future(job.result)
            # A file that changed a moment ago may change again with the same modification time.
            if abs(began - job.file.mtime_ns / 1e9) >= SETTLED:
                await self._keep(job, version, pieces)
            return pieces
        finally:
            job.result.cancel()
            if (running := self._running.get(version)) and running.job is job:
                del self._running[version]
            self._on_change()

    async def _keep(self, job: Job, version: Version, pieces: bytes) -> None:
        try:
            await self._store.run(
                self._store.keep_hashes, version, job.piece_length, pieces, time.time()
            )
        except StoreError as err:
            _LOGGER.warning("The hashes of %s cannot be stored: %s", job.file.name, err)

    async def _check(self) -> None:
        """Check whether disks answer, while there are files to hash."""
        while self._running:
            await asyncio.sleep(CHECK_INTERVAL)
            self._queue.check()
        self._checking = None
