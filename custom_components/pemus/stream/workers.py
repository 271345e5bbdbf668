"""Threads for disk access, so that a hanging disk affects nothing else.

A thread that waits for a dead network share cannot be stopped, only abandoned. So each file system has a few threads of
its own (a *lane*). When all of them hang, requests for that file system fail immediately. Other disks and Home Assistant's
own thread pool are not affected.

The thread pools of the standard library are not suitable: the interpreter waits for their threads at exit, so Home
Assistant could not stop while a share hangs.
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
"""How long a request waits for the disk, in seconds."""
THREADS_PER_LANE: Final = 4
MAX_WAITING: Final = 512
"""Maximum number of waiting and running jobs of one file system."""
IDLE_TIMEOUT: Final = 10.0
"""How long a lane is idle before its threads end, in seconds."""
CLOSE_TIMEOUT: Final = 1.0
"""How long closing waits for threads that do not hang, in seconds."""

_LOGGER = logging.getLogger(__name__)


class DiskStalled(Exception):
    """The file system does not answer in time, or has too many waiting jobs."""


class _Job[T]:
    """A call in a lane."""

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
        """Run the call in the thread, unless it was cancelled before it started."""
        self.started = True
        if self.future.done():
            return None, asyncio.InvalidStateError()
        try:
            return self.function(), None
        except Exception as err:  # noqa: BLE001 - passed to the caller
            return None, err


class _Lane:
    """The threads of one file system. Only `_work` and `_work_once` run in the threads."""

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
        """Run a call without a result or a timeout, such as closing a file."""
        if self._stopped:
            _run_alone(function)
        else:
            self._put(_Job(function, self._loop.create_future(), None))

    def stop(self) -> None:
        """End each thread after the queued jobs."""
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
        """Run one job. Return whether to continue. A separate method, so that no job is referenced while waiting."""
        try:
            job = self._queue.get(timeout=IDLE_TIMEOUT)
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
            return False  # The event loop is closed.
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
    """Runs blocking calls in the lanes of their file systems."""

    def __init__(self, timeout: float = DISK_TIMEOUT) -> None:
        """Create the workers. `timeout`: of each call, in seconds. Threads start on demand."""
        self._timeout = timeout
        self._lanes: dict[int, _Lane] = {}
        self._closed = False

    def start[T](
        self,
        device: int,
        function: Callable[[], T],
        discard: Callable[[T], object] | None = None,
    ) -> asyncio.Future[T]:
        """Start a call that uses the file system `device` (st_dev). Return the future of its result.

        The future fails with DiskStalled after the timeout. `discard` is called with a result that arrives after the
        future was cancelled or failed.
        """
        return self._lane(device).start(function, discard)

    async def run[T](
        self,
        device: int,
        function: Callable[[], T],
        discard: Callable[[T], object],
    ) -> T:
        """Run a call and wait for it. If cancelled, pass its result to `discard`."""
        future = self.start(device, function, discard)
        try:
            return await future
        except asyncio.CancelledError:
            # The result may have arrived just before the cancellation.
            if not future.cancelled() and future.exception() is None:
                self.submit(device, partial(discard, future.result()))
            raise

    def submit(self, device: int, function: Callable[[], object]) -> None:
        """Start a call without a result or a timeout."""
        if self._closed:
            _run_alone(function)
        else:
            self._lane(device).submit(function)

    async def close(self) -> None:
        """End the threads. Hanging threads are abandoned, and end when their disk answers."""
        lanes, self._lanes = list(self._lanes.values()), {}
        self._closed = True
        for lane in lanes:
            lane.stop()
        deadline = asyncio.get_running_loop().time() + CLOSE_TIMEOUT
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
