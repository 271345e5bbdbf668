"""Waiting and the clock, on machines that have other things to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import functools
import inspect
import threading
import time
from types import TracebackType
from typing import Any, Self

import pytest

PATIENCE = 60.0
"""Seconds until something has to be so that takes no time worth mentioning on a machine with nothing else to do."""
LOOK = 0.01
TICK = 0.01


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is so, or what is asked for is. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if inspect.isawaitable(holds):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(LOOK)


class Stopwatch:
    """Measures how long something takes, without the time in which the machine did not let this process run.

    A thread does nothing but look at the clock. When it is kept from that for long, nobody else here could do anything
    either, and what they could have done does not count as slow.
    """

    def __init__(self) -> None:
        self._counted = 0.0
        self._last = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, name="stopwatch")

    def __enter__(self) -> Self:
        self._last = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning, or until the end."""
        if self._over.is_set():
            return self._counted
        return self._counted + min(time.monotonic() - self._last, 2 * TICK)

    def _count(self) -> None:
        while not self._over.wait(TICK):
            self._look()
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        self._counted += min(now - self._last, 2 * TICK)
        self._last = now


def failing_once(patch: pytest.MonkeyPatch, owner: object, name: str) -> list[str]:
    """Have a method raise an error when it is called the first time; return what notes each call."""
    whole = getattr(owner, name)
    calls: list[str] = []

    @functools.wraps(whole)
    def fail(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == 1:
            raise RuntimeError("a mistake of ours")
        return whole(*arguments, **options)

    patch.setattr(owner, name, fail)
    return calls
