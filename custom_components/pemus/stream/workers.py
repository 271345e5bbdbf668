"""Threads that touch the disk, so that a disk that hangs never holds anything else.

A thread that waits for a dead network share cannot be stopped; it can only be left behind. So every file system has a
few threads of its own (a *lane*): when all of them are left behind, requests for that file system are refused at once,
while those for other disks, and all the rest of Home Assistant with its own pool, do not notice.

The pools of the standard library cannot be used for this: the interpreter waits for their threads before it exits, and
Home Assistant could not be stopped while a share hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
import logging
import queue
import threading
from typing import Any, Final

DISK_TIMEOUT: Final = 10.0
"""Seconds that a request waits for the disk."""
THREADS_PER_LANE: Final = 4
MAX_WAITING: Final = 512
"""Jobs of one file system that are waiting or running. Beyond that it is plainly overloaded."""
IDLE_SECONDS: Final = 10.0
"""A thread that had nothing to do for this long offers to go."""
CLOSE_SECONDS: Final = 1.0
"""How long closing waits for the threads that do not hang."""

_LOGGER = logging.getLogger(__name__)


class DiskStalled(Exception):
    """The file system does not answer in time, or too much is waiting for it already."""


class _Job[T]:
    """A call on its way through a lane."""

    __slots__ = ("discard", "function", "future", "hangs", "started", "timer")

    def __init__(
        self,
        function: Callable[[], T],
        future: asyncio.Future[T],
        discard: Callable[[T], object] | None,
    ) -> None:
        self.function = function
        self.future = future
        self.discard = discard
        self.started = False
        self.hangs = False
        self.timer: asyncio.TimerHandle | None = None

    def run(self) -> tuple[T | None, Exception | None]:
        """Run in the thread. What was given up before it began is left alone."""
        self.started = True
        if self.future.done():
            return None, asyncio.InvalidStateError()
        try:
            return self.function(), None
        except Exception as err:  # noqa: BLE001 - whatever it is, it belongs to the one who waits
            return None, err


class _Lane:
    """The threads of one file system. All but what begins with `_work` runs in the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        device: int,
        timeout: float,
        retired: Callable[[int], object],
    ) -> None:
        self.threads: list[threading.Thread] = []
        self._loop = loop
        self._device = device
        self._timeout = timeout
        self._retired = retired
        self._queue: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._active = 0
        self._hanging = 0
        self._stopped = False

    def start[T](
        self, function: Callable[[], T], discard: Callable[[T], object] | None
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        if self._hanging >= THREADS_PER_LANE or self._active >= MAX_WAITING:
            future.set_exception(DiskStalled("the disk does not answer"))
            return future
        job = _Job(function, future, discard)
        job.timer = self._loop.call_later(self._timeout, self._expire, job)
        self._put(job)
        return future

    def submit(self, function: Callable[[], object]) -> None:
        """Run without anybody waiting, even if it takes until the disk is back: this is how files are closed."""
        if self._stopped:
            _run_alone(function)
        else:
            self._put(_Job(function, self._loop.create_future(), None))

    def stop(self) -> None:
        """Have every thread go when it has nothing left to do."""
        self._stopped = True
        for _ in self.threads:
            self._queue.put(None)

    def _put(self, job: _Job[Any]) -> None:
        self._active += 1
        if self._active > len(self.threads) and len(self.threads) < THREADS_PER_LANE:
            thread = threading.Thread(
                target=self._work,
                name=f"pemus disk {self._device:x}-{len(self.threads)}",
                daemon=True,
            )
            self.threads.append(thread)
            thread.start()
        self._queue.put(job)

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Do one job, and return whether there may be another. Nothing of a job is held while waiting for the next."""
        try:
            job = self._queue.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return self._tell(self._retire)
        if job is None:
            return False
        result, error = job.run()
        return self._tell(partial(self._finish, job, result, error))

    def _tell(self, callback: Callable[[], object]) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False  # The loop is closed; nobody is left to tell.
        return True

    def _finish[T](
        self, job: _Job[T], result: T | None, error: Exception | None
    ) -> None:
        self._active -= 1
        if job.timer is not None:
            job.timer.cancel()
        if job.hangs:
            self._hanging -= 1
            if not self._hanging:
                _LOGGER.info("The disk of device %x answers again", self._device)
        if not job.future.done():
            if error is not None:
                job.future.set_exception(error)
                if job.timer is None:
                    job.future.exception()
            else:
                job.future.set_result(result)  # type: ignore[arg-type]
        elif error is None and job.discard is not None and result is not None:
            self.submit(partial(job.discard, result))

    def _expire(self, job: _Job[Any]) -> None:
        if job.future.done():
            return
        if job.started:
            job.hangs = True
            self._hanging += 1
            if self._hanging == 1:
                _LOGGER.warning(
                    "The disk of device %x did not answer for %g seconds",
                    self._device,
                    self._timeout,
                )
        job.future.set_exception(DiskStalled("the disk does not answer"))

    def _retire(self) -> None:
        if not self._active and self.threads:
            self.stop()
            self.threads = []
            self._retired(self._device)


class DiskWorkers:
    """Runs blocking calls, each in the lane of the file system that it touches."""

    def __init__(self, timeout: float = DISK_TIMEOUT) -> None:
        """Prepare to wait `timeout` seconds for each call. Threads are started when they are needed."""
        self._timeout = timeout
        self._lanes: dict[int, _Lane] = {}
        self._closed = False

    def start[T](
        self,
        device: int,
        function: Callable[[], T],
        discard: Callable[[T], object] | None = None,
    ) -> asyncio.Future[T]:
        """Start a call that touches the file system `device` (its st_dev), and return the future of its result.

        The future fails with DiskStalled when the time is up. `discard` is called with a result that arrives when the
        future was cancelled or has failed.
        """
        return self._lane(device).start(function, discard)

    async def run[T](
        self,
        device: int,
        function: Callable[[], T],
        discard: Callable[[T], object],
    ) -> T:
        """Wait for a call. Its result is either returned or given to `discard`, whatever happens meanwhile."""
        future = self.start(device, function, discard)
        try:
            return await future
        except asyncio.CancelledError:
            # The result may have come in the very moment in which the caller was cancelled.
            if not future.cancelled() and future.exception() is None:
                self.submit(device, partial(discard, future.result()))
            raise

    def submit(self, device: int, function: Callable[[], object]) -> None:
        """Start a call that nobody waits for, however long it takes."""
        if self._closed:
            _run_alone(function)
        else:
            self._lane(device).submit(function)

    async def close(self) -> None:
        """Let the threads go. Those that hang are left behind; they end when their disk answers."""
        lanes, self._lanes = list(self._lanes.values()), {}
        self._closed = True
        for lane in lanes:
            lane.stop()
        deadline = asyncio.get_running_loop().time() + CLOSE_SECONDS
        while any(thread.is_alive() for lane in lanes for thread in lane.threads):
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.005)

    def _lane(self, device: int) -> _Lane:
        if (lane := self._lanes.get(device)) is None:
            if self._closed:
                raise DiskStalled("Home Assistant stops")
            lane = self._lanes[device] = _Lane(
                asyncio.get_running_loop(), device, self._timeout, self._lanes.pop
            )
        return lane


def _run_alone(function: Callable[[], object]) -> None:
    threading.Thread(target=function, name="pemus disk", daemon=True).start()
