"""Several processes on one port, so that a server uses all cores of a machine. Redis makes them act as one.

The kernel distributes new connections among them. The main process only starts the workers, restarts those that end, and
stops them when it stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
import ctypes
import logging
import os
import secrets
import signal
import sys
import time
from typing import Final

from pemus_signaling.settings import PREFIX, Settings, SettingsError

WORKER: Final = PREFIX + "WORKER"
"""The environment variable with the number of a worker, from 0."""
READY: Final = PREFIX + "READY"
"""The environment variable with the descriptor of a pipe. A worker writes to it when it is ready."""
EARLY: Final = 5.0
"""A worker that ends within this time ended early, in seconds."""
FIRST_PAUSE: Final = 0.5
"""Seconds before a worker restarts. They double each time it ends early, up to `LAST_PAUSE`."""
LAST_PAUSE: Final = 30.0
STOP_TIMEOUT: Final = 20.0
"""How long to wait for workers to stop, in seconds."""

_PARENT: Final = PREFIX + "PARENT"
_DEATH_SIGNAL: Final = 1

_LOGGER = logging.getLogger(__name__)


def worker_number(environment: Mapping[str, str]) -> int | None:
    """Return the number of this worker, or None if it is not a worker. Exits if the parent is already gone."""
    if (number := environment.get(WORKER)) is None:
        return None
    # Linux sends the signal when the parent dies after this call.
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)
    if str(os.getppid()) != environment.get(_PARENT):
        sys.exit(1)
    return int(number)


def say_ready(environment: Mapping[str, str]) -> None:
    """Tell the main process, if there is one, that this worker is ready."""
    if (descriptor := environment.get(READY)) is not None:
        with suppress(OSError), os.fdopen(int(descriptor), "wb") as pipe:
            pipe.write(b"1")


class Workers:
    """The main process of several workers."""

    def __init__(self, settings: Settings, arguments: Sequence[str]) -> None:
        """Prepare to start workers with the arguments of this process. Raises SettingsError."""
        if settings.port == 0:
            raise SettingsError("port: must not be 0 with several workers")
        self._number = settings.workers
        self.command = (
            sys.executable,
            "-m",
            __package__.partition(".")[0],
            *arguments,
        )
        self._environment = {**os.environ, _PARENT: str(os.getpid())}
        if settings.turn and settings.turn_secret is None:
            # One of them runs coturn, and all issue credentials for it.
            secret = secrets.token_urlsafe(32)
            self._environment[PREFIX + "TURN_SECRET"] = secret
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._worked = False

    async def run(self, stopped: asyncio.Event) -> bool:
        """Run the workers until `stopped`. Return False if one ended early and none was ever ready."""
        keepers = [
            asyncio.create_task(self._keep(number), name=f"worker {number}")
            for number in range(self._number)
        ]
        waiting = asyncio.create_task(stopped.wait(), name="workers: wait")
        try:
            await asyncio.wait((waiting, *keepers), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, *keepers):
                task.cancel()
            await asyncio.gather(waiting, *keepers, return_exceptions=True)
            await self._stop()
        return self._worked or stopped.is_set()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all workers."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, number: int) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                status = await self._run(number)
            except OSError as error:
                # The machine may lack processes or memory for a while.
                _LOGGER.error(
                    "Worker %d cannot be started: %s", number, type(error).__name__
                )
                status = -1
            if time.monotonic() - began >= EARLY:
                pause = FIRST_PAUSE
            elif not self._worked:
                return
            _LOGGER.error("Worker %d ended with status %d", number, status)
            await asyncio.sleep(pause)
            pause = min(LAST_PAUSE, pause * 2)

    async def _run(self, number: int) -> int:
        """Run a worker, and return its exit status."""
        loop = asyncio.get_running_loop()
        hears, says = os.pipe()
        # A child of the worker may keep the other end open.
        os.set_blocking(hears, False)
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    env={**self._environment, WORKER: str(number), READY: str(says)},
                    pass_fds=(says,),
                )
            finally:
                os.close(says)
            self._processes[number] = process
            loop.add_reader(hears, self._hear, hears)
            try:
                status = await process.wait()
            finally:
                loop.remove_reader(hears)
            # It may have become ready just before it ended.
            self._hear(hears)
            return status
        finally:
            os.close(hears)

    def _hear(self, pipe: int) -> None:
        """Note that a worker is ready."""
        with suppress(BlockingIOError):
            if os.read(pipe, 1):
                self._worked = True
        asyncio.get_running_loop().remove_reader(pipe)

    async def _stop(self) -> None:
        self.signal(signal.SIGTERM)
        running = [
            process
            for process in self._processes.values()
            if process.returncode is None
        ]
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await asyncio.gather(*(process.wait() for process in running))
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await asyncio.gather(*(process.wait() for process in running))
