"""Looks up the files of many items at once: requests of the same moment become one.

After a start, thousands of seeds look up their files. A request to the library, a thread and a query for each would take longer
than everything else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..core import tasks
from ..core.errors import EngineError
from ..models import LocalFile
from .hashing import Hasher
from .store import Version

BATCH: Final = 32
"""Items in one request. All of them are seeded at once, which must not block the event loop for long."""
QUESTIONS: Final = 4
"""Requests at a time. A slow disk delays one of them."""
SMALL: Final = 4 * 1024**3
"""Bytes of the largest file whose hashes are looked up along with it. Dozens of larger ones would take too much memory."""

Many = Callable[[Sequence[str]], Awaitable[Mapping[str, LocalFile | EngineError]]]


@dataclass(frozen=True, slots=True)
class Look:
    """A file as it is now."""

    file: LocalFile
    pieces: bytes | None
    """The hashes of its pieces, if they are known and the file is not larger than SMALL."""


class FileLookups:
    """Gathers look-ups."""

    def __init__(self, many: Many, hasher: Hasher, *, batch: int = BATCH) -> None:
        """Ask `many` for up to `batch` files at a time, and `hasher` for their known hashes."""
        self._many = many
        self._hasher = hasher
        self._batch = batch
        self._waiting: deque[tuple[str, asyncio.Future[Look]]] = deque()
        self._asking: set[asyncio.Task[None]] = set()
        self._called = False

    async def look(self, item: str) -> Look:
        """Return an item's file as it is now. Raises EngineError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Look] = loop.create_future()
        self._waiting.append((item, future))
        if not self._called:
            self._called = True
            loop.call_soon(self._send)
        return await future

    async def stop(self) -> None:
        """End all work. Callers that still wait are cancelled."""
        await tasks.end(*self._asking)
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()

    def _send(self) -> None:
        self._called = False
        while self._waiting and len(self._asking) < QUESTIONS:
            asked: list[tuple[str, asyncio.Future[Look]]] = []
            while self._waiting and len(asked) < self._batch:
                item, future = self._waiting.popleft()
                if not future.done():
                    asked.append((item, future))
            if asked:
                task = asyncio.create_task(self._ask(asked), name="seed files")
                self._asking.add(task)
                task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            self._send()

    async def _ask(self, asked: list[tuple[str, asyncio.Future[Look]]]) -> None:
        try:
            answers = await self._many(list(dict.fromkeys(item for item, _ in asked)))
            known = await self._hasher.known(
                [
                    answer
                    for answer in answers.values()
                    if isinstance(answer, LocalFile) and answer.size <= SMALL
                ]
            )
            for item, future in asked:
                if future.done():
                    continue
                answer = answers[item]
                if isinstance(answer, LocalFile):
                    future.set_result(Look(answer, known.get(Version.of(answer))))
                else:
                    future.set_exception(answer)
        except Exception as err:  # noqa: BLE001 - it is raised where the answer is awaited
            for _, future in asked:
                if not future.done():
                    future.set_exception(err)
        finally:
            for _, future in asked:
                future.cancel()
