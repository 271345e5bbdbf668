"""Several processes on one port, so that all cores of a machine are used. A Redis makes them act as one.

The system deals new connections out among them. The process that was started serves nobody: it starts the others, starts
one anew that ends, and ends them with itself.
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
"""The environment variable that tells a process which worker it is, from 0."""
READY: Final = PREFIX + "READY"
"""The environment variable that tells a worker the descriptor of a pipe, to which it writes once it serves."""
EARLY: Final = 5.0
"""Seconds within which the end of a worker is an early one."""
FIRST_PAUSE: Final = 0.5
"""Seconds before a worker is started anew. They double with each early end, up to `LAST_PAUSE`."""
LAST_PAUSE: Final = 30.0
STOP_PATIENCE: Final = 20.0
"""Seconds that workers have to say good-bye to their clients."""

_PARENT: Final = PREFIX + "PARENT"
_DEATH_SIGNAL: Final = 1

_LOGGER = logging.getLogger(__name__)


def worker_number(environment: Mapping[str, str]) -> int | None:
    """Return which worker this process is, None if it is none. One whose parent is gone already ends."""
    if (number := environment.get(WORKER)) is None:
        return None
    # Linux alone ends a process with its parent, and only one that outlives this line.
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)
    if str(os.getppid()) != environment.get(_PARENT):
        sys.exit(1)
    return int(number)


def say_ready(environment: Mapping[str, str]) -> None:
    """Tell the process that started this worker, if any did, that it serves."""
    if (descriptor := environment.get(READY)) is not None:
        with suppress(OSError), os.fdopen(int(descriptor), "wb") as pipe:
            pipe.write(b"1")


class Workers:
    """The processes that serve."""

    def __init__(self, settings: Settings, arguments: Sequence[str]) -> None:
        """Prepare as many as are set, with the arguments that this process was started with. Raises SettingsError."""
        if settings.port == 0:
            raise SettingsError("port: workers need one that all of them know")
        self._number = settings.workers
        self._command = (
            sys.executable,
            "-m",
            __package__.partition(".")[0],
            *arguments,
        )
        self._environment = {**os.environ, _PARENT: str(os.getpid())}
        if settings.turn and settings.turn_secret is None:
            # One of them runs coturn, and all hand out credentials for it.
            secret = secrets.token_urlsafe(32)
            self._environment[PREFIX + "TURN_SECRET"] = secret
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._worked = False

    async def run(self, stopped: asyncio.Event) -> bool:
        """Keep them running until `stopped`. Return False if they never worked: what is wrong is wrong with all."""
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
        """Hand a signal on to all of them."""
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
                # A machine that is short of processes or memory is so for a while.
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
        """Run a worker, and return the status that it ends with."""
        loop = asyncio.get_running_loop()
        hears, says = os.pipe()
        # What a worker leaves behind may keep the other end open.
        os.set_blocking(hears, False)
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
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
            # It may have spoken and ended in the same moment.
            self._hear(hears)
            return status
        finally:
            os.close(hears)

    def _hear(self, pipe: int) -> None:
        """Take note that a worker serves."""
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
            async with asyncio.timeout(STOP_PATIENCE):
                await asyncio.gather(*(process.wait() for process in running))
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await asyncio.gather(*(process.wait() for process in running))
