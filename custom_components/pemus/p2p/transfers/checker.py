"""Compares with its hashes what an engine left that did not end cleanly, those pieces first that somebody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha1
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..core.spans import Spans
from ..torrent.metainfo import Metainfo

if TYPE_CHECKING:
    from .download import Download

_AT_ONCE: Final = 8 * 1024**2
"""Bytes that are compared at a time while nobody waits for any."""

_LOGGER = logging.getLogger(__name__)


class Checker:
    """Checks one file."""

    def __init__(self, download: Download) -> None:
        """Prepare to check the file of a download."""
        self._download = download
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Tell whether something is being checked."""
        return self._task is not None

    def start(self) -> None:
        """Check what is left to check, unless that is under way."""
        if self._download.content.unchecked.total and self._task is None:
            self._task = asyncio.create_task(
                self._run(), name=f"check {self._download.label}"
            )
            self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop."""
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (err := task.exception()) is not None:
            _LOGGER.error("%s: checking it broke", self._download.label, exc_info=err)
            self._download.content.unchecked = Spans()
        self._download.replan()

    async def _run(self) -> None:
        content, path = self._download.content, self._download.path
        while content.unchecked.total:
            if (meta := content.meta) is None:
                # Without hashes nothing is known of it.
                content.unchecked = Spans()
                return
            indices = self._next(meta.piece_length)
            right = await asyncio.to_thread(check_pieces, path, meta, indices)
            is_wrong = False
            for index in indices:
                start = index * meta.piece_length
                stop = start + meta.piece_size(index)
                if content.unchecked.discard(start, stop) and index in right:
                    self._download.arrived(start, stop)
                else:
                    is_wrong = True
            if is_wrong:
                self._download.replan()
        await self._download.was_checked()

    def _next(self, length: int) -> Sequence[int]:
        """Return the pieces to check next."""
        unchecked = self._download.content.unchecked
        for span in self._download.needed_first():
            for start, _ in unchecked.within(*span):
                return [start // length]
        start, stop = next(iter(unchecked))
        last = min(-(-stop // length), start // length + _AT_ONCE // length)
        return range(start // length, last)


def check_pieces(path: Path, meta: Metainfo, indices: Sequence[int]) -> set[int]:
    """Return those pieces whose bytes in the file are what their hashes say. Blocks."""
    right = set()
    buffer = bytearray(meta.piece_length)
    try:
        with path.open("rb", buffering=0) as file:
            for index in indices:
                view = memoryview(buffer)[: meta.piece_size(index)]
                if read_fully(file.fileno(), view, index * meta.piece_length):
                    digest = sha1(view, usedforsecurity=False).digest()
                    if digest == meta.digest(index):
                        right.add(index)
    except OSError as err:
        _LOGGER.warning("%s cannot be checked: %s", path, err)
    return right


def read_fully(file: int, view: memoryview, offset: int) -> bool:
    """Fill `view` from an offset of a file, and tell whether there was enough. Raises OSError."""
    done = 0
    while done < len(view):
        count = os.preadv(file, [view[done:]], offset + done)
        if not count:
            return False
        done += count
    return True
