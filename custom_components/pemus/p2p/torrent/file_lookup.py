"""Looks at the files of many items at once: what all ask for in the same moment goes out as one question.

After a start thousands of seeds want to know what their files are. A question to the library, a thread and a look into
the database for each would take longer than all the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..core.errors import EngineError
from ..models import LocalFile
from .hashing import Hasher
from .store import Version

BATCH: Final = 32
"""Items in one question. All of them are seeded in one go, so they must not be so many that the event loop is held up."""
QUESTIONS: Final = 4
"""Questions at a time: a disk that takes its time holds up one of them."""
SMALL: Final = 4 * 1024**3
"""Bytes of files whose hashes are fetched along with them; those of larger ones take too much room by the dozen."""

Many = Callable[[Sequence[str]], Awaitable[Mapping[str, LocalFile | EngineError]]]


@dataclass(frozen=True, slots=True)
class Look:
    """A file as it is now."""

    file: LocalFile
    pieces: bytes | None
    """The hashes of its pieces where they are known and short."""


class FileLookups:
    """Gathers questions."""

    def __init__(self, many: Many, hasher: Hasher, *, batch: int = BATCH) -> None:
        """Prepare to ask `many` for up to `batch` files at a time, and `hasher` for what it knows of them."""
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
        """End all work. Who still waits is cancelled."""
        asking = tuple(self._asking)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
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
