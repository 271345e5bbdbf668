"""Compares what a crashed engine left with its hashes, beginning with the pieces that somebody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha1
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..core import tasks
from ..core.spans import Spans
from ..torrent.metainfo import Metainfo

if TYPE_CHECKING:
    from .download import Download

BATCH: Final = 8 * 1024**2
"""Bytes that are compared at a time while nobody waits for any."""

_LOGGER = logging.getLogger(__name__)


class Checker:
    """Checks the file of one download."""

    def __init__(self, download: Download) -> None:
        """Prepare to check. Nothing happens before `start`."""
        self._download = download
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def is_running(self) -> bool:
        """Whether a check is in progress."""
        return self._task is not None

    def start(self) -> None:
        """Check what is unchecked, unless that is in progress."""
        unchecked = self._download.entry.content.unchecked.total
        if unchecked and self._task is None and not self._is_closed:
            self._task = asyncio.create_task(
                self._run(), name=f"check {self._download.label}"
            )
            self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop."""
        self._is_closed = True
        await tasks.end(self._task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (err := task.exception()) is not None:
            _LOGGER.error("%s: the check failed", self._download.label, exc_info=err)
            self._download.entry.content.unchecked = Spans()
        self._download.replan()

    async def _run(self) -> None:
        download, entry = self._download, self._download.entry
        content = entry.content
        while content.unchecked.total:
            if (meta := content.meta) is None:
                # Without hashes nothing can be trusted.
                content.unchecked = Spans()
                return
            indices = self._next(meta.piece_length)
            right = await asyncio.to_thread(check_pieces, entry.path, meta, indices)
            is_wrong = False
            for index in indices:
                start = index * meta.piece_length
                stop = start + meta.piece_size(index)
                if content.unchecked.discard(start, stop) and index in right:
                    download.arrived(start, stop)
                else:
                    is_wrong = True
            if is_wrong:
                download.replan()
        if not download.fetcher.is_active:
            await entry.seal()

    def _next(self, length: int) -> Sequence[int]:
        """Return the pieces to check next."""
        unchecked = self._download.entry.content.unchecked
        for span in self._download.readers.needed(self._download.window):
            for start, _ in unchecked.within(*span):
                return [start // length]
        start, stop = next(iter(unchecked))
        last = min(-(-stop // length), start // length + BATCH // length)
        return range(start // length, last)


def check_pieces(path: Path, meta: Metainfo, indices: Sequence[int]) -> set[int]:
    """Return those pieces whose bytes in the file match their hashes. Blocks."""
    right = set()
    buffer = bytearray(meta.piece_length)
    try:
        with path.open("rb") as file:
            for index in indices:
                view = memoryview(buffer)[: meta.piece_size(index)]
                file.seek(index * meta.piece_length)
                if file.readinto(view) == len(view):
                    digest = sha1(view, usedforsecurity=False).digest()
                    if digest == meta.digest(index):
                        right.add(index)
    except OSError as err:
        _LOGGER.warning("Cannot check %s: %s", path, err)
    return right
