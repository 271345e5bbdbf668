"""Bounds how many things go on at a time, also those that nobody waits for any more: a thread cannot be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class BoundedTasks:
    """A number of things at a time. Others wait."""

    def __init__(self, number: int) -> None:
        """Have so many slots."""
        self._free = asyncio.Semaphore(number)

    async def run[T](self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something as soon as there is a slot for it. Raises what it raises.

        Who waits may be cancelled; what was begun then goes on by itself, and keeps its slot until it has ended.
        """
        await self._free.acquire()
        task = asyncio.ensure_future(work())
        task.add_done_callback(self._ended)
        await asyncio.wait((task,))
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._free.release()
        if not task.cancelled():
            # Nobody may ask for it any more.
            task.exception()
