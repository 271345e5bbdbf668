"""Calls that happen later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """Calls a function after a delay. Starting it again replaces a call that has not happened."""

    def __init__(self, call: Callable[[], object]) -> None:
        """Prepare to call a function in the event loop."""
        self._call = call
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether a call is going to happen."""
        return self._handle is not None

    def start(self, delay: float) -> None:
        """Call after so many seconds."""
        self.cancel()
        self._handle = asyncio.get_running_loop().call_later(delay, self._run)

    def cancel(self) -> None:
        """Do not call."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _run(self) -> None:
        self._handle = None
        self._call()
