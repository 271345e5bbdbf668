"""The index, asked from the event loop: the database, and the threads that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import contextlib
from pathlib import Path
import sqlite3

from ..core.errors import Unavailable
from ..core.sqlite import StoreBroken, StoreError
from .store import Store, raise_revision

_THREADS = 4


class Index:
    """The database of the library."""

    def __init__(self, path: Path, on_fault: Callable[[], None]) -> None:
        """Prepare to open the database at a path. `on_fault` is called when it could not be read."""
        self.store = Store(path)
        self._on_fault = on_fault
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="library")

    async def open(self, prepare: Callable[[], None]) -> None:
        """Open the database and call `prepare`; do so with a new one if it is damaged. Raises StoreError."""
        await self.run(self.store.open)
        try:
            await self.run(prepare)
        except StoreBroken:
            await self.run(self.store.replace)
            await self.run(prepare)

    async def close(self) -> None:
        """Close the database. May be called more than once."""
        with contextlib.suppress(RuntimeError):
            await self.run(self.store.close)
        self._pool.shutdown(wait=False)

    async def run[**P, T](
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call what blocks for a short time at most: the database, the cache."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def submit(self, function: Callable[[], object]) -> None:
        """Call what blocks, and do not wait for it."""
        self._pool.submit(function)

    async def ask[T](self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return the answer to a question. Raises Unavailable, and what the question raises."""

        def answer() -> T:
            with self.store.read() as db:
                return question(db)

        try:
            return await self.run(answer)
        except StoreError as err:
            self._on_fault()
            raise Unavailable(f"the index cannot be read: {err}") from err

    async def raise_revision(self) -> None:
        """Note that something changed. Raises StoreError."""

        def write() -> None:
            with self.store.write() as db:
                raise_revision(db)

        await self.run(write)
