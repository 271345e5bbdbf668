"""Tasks that do not die silently: loops go on after a fault, and what runs once says how it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
import logging
import time
from typing import Any, Final

FIRST_PAUSE: Final = 1.0
"""Seconds after a fault until the work begins again; twice as many after each further one."""
LONGEST_PAUSE: Final = 60.0
LASTING: Final = 60.0
"""Seconds of work after which former faults are forgotten."""

type Work = Callable[[], Coroutine[Any, Any, None]]

_LOGGER = logging.getLogger(__name__)


def keep(work: Work, name: str) -> asyncio.Task[None]:
    """Run a coroutine function in a task, and again after each fault, until it returns or the task is cancelled.

    A fault is logged with its traceback, but only once while the same one comes back.
    """
    return asyncio.create_task(_keep(work, name), name=name)


def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run a coroutine once in a task. A fault is logged with its traceback."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_note_fault)
    return task


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks, and wait until they are over, however they end."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


class Tasks:
    """The tasks of one component, which end with it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._running: set[asyncio.Task[None]] = set()

    def keep(self, work: Work, name: str) -> asyncio.Task[None]:
        """Run a coroutine function as `keep` does."""
        return self._add(keep(work, name))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine once as `spawn` does."""
        return self._add(spawn(work, name))

    def cancel(self) -> None:
        """Have all end soon, but for the one that says so."""
        for task in self._running - {asyncio.current_task()}:
            task.cancel()

    async def end(self) -> None:
        """Cancel all, and wait until they are over."""
        await end(*self._running)

    def _add(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


async def _keep(work: Work, name: str) -> None:
    pause, told = FIRST_PAUSE, ""
    while True:
        begun = time.monotonic()
        try:
            await work()
        except asyncio.CancelledError as err:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this task was cancelled, but something that the work waits for.
            fault: BaseException = err
        except Exception as err:  # noqa: BLE001 - whatever it is, it is logged and the work goes on
            fault = err
        else:
            return
        if time.monotonic() - begun > LASTING:
            pause, told = FIRST_PAUSE, ""
        if told != repr(fault):
            told = repr(fault)
            _LOGGER.error("%s failed and begins again", name, exc_info=fault)
        else:
            _LOGGER.debug("%s failed in the same way again", name)
        del fault
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _note_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (err := task.exception()) is not None:
        _LOGGER.error("%s failed", task.get_name(), exc_info=err)
