"""Pictures and subtitles of items, made when somebody asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
import errno
import logging
import os
from pathlib import Path
from typing import Any

from ..core import paths, tasks
from ..core.errors import NoPicture, Unavailable
from ..core.sqlite import StoreError
from ..core.threads import in_daemon
from ..media.reader import MediaReader
from ..models import Item, Kind, LocalFile, entity_tag
from .files import DescribedSource, ItemSource, Located, is_as_known
from .ids import parse_item_id
from .index import Index
from .migrations import PICTURE
from .names import stem_of
from .picture_cache import PictureCache

_LOGGER = logging.getLogger(__name__)


class Artwork:
    """Makes each file of the cache once, however many ask for it at the same time."""

    def __init__(
        self,
        index: Index,
        media: MediaReader,
        cache: PictureCache,
        on_change: Callable[[], None],
    ) -> None:
        """Prepare. `on_change` is called when `is_full` may have changed."""
        self.is_full = False
        """Whether the disk of the cache had no room for the last file."""
        self._index = index
        self._media = media
        self._cache = cache
        self._on_change = on_change
        self._making: dict[Path, asyncio.Task[None]] = {}
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Remove from the cache what nobody needs any more."""
        self._sweeper = tasks.spawn(self._sweep(), "library sweep")

    async def stop(self) -> None:
        """End all work."""
        await tasks.end(self._sweeper, *self._making.values())
        self._sweeper = None

    async def made_picture(self, located: Located) -> LocalFile | None:
        """Return the picture of an item in this version, None if it was not made yet."""
        target = self._cache.picture(located.id, located.etag)
        return await self._cached(target, f"{stem_of(located.name)}.jpg", "image/jpeg")

    async def picture(self, located: Located, item: Item) -> LocalFile:
        """Return the picture of an item, made first if need be. Raises NoPicture, Unavailable."""
        if item.has_thumbnail:
            target = self._cache.picture(located.id, located.etag)
            await self._once(target, lambda: self._make_picture(located, target))
            if (made := await self.made_picture(located)) is not None:
                return made
        raise NoPicture("there is no picture of this file")

    async def subtitles(
        self, located: Located, name: str, found: os.stat_result
    ) -> LocalFile:
        """Return a subtitle file beside an item as WebVTT, converted first if need be. Raises NotFound, Unavailable.

        `name` is that of the file, and `found` what it is now.
        """
        target = self._cache.subtitle(
            located.id, name, found.st_size, found.st_mtime_ns
        )
        shown = f"{stem_of(name)}.vtt"
        if (made := await self._cached(target, shown, "text/vtt")) is not None:
            return made
        path = paths.join(located.root, located.folder, name)
        source = DescribedSource(LocalFile.of(path, name, "", found, root=located.root))
        await self._once(target, lambda: self._convert(source, target))
        if (made := await self._cached(target, shown, "text/vtt")) is not None:
            return made
        raise Unavailable("the subtitles are gone again")

    async def _cached(
        self, target: Path, name: str, content_type: str
    ) -> LocalFile | None:
        try:
            found = await self._index.run(target.stat)
        except OSError:
            return None
        return LocalFile.of(str(target), name, content_type, found)

    async def _once(
        self, target: Path, make: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Have a file made by the first of those who ask for it at the same time. Raises Unavailable."""

        async def unless_made() -> None:
            if not await self._index.run(target.exists):
                await self._index.run(self._cache.prepare, target)
                await make()

        task = self._making.get(target)
        if task is None:
            task = self._making[target] = asyncio.create_task(unless_made())
            task.add_done_callback(lambda done: self._made(target, done))
        try:
            await asyncio.shield(task)
        except OSError as err:
            self.is_full = err.errno in (errno.ENOSPC, errno.EDQUOT)
            self._on_change()
            raise Unavailable(f"the cache cannot be written: {err.strerror}") from err

    def _made(self, target: Path, task: asyncio.Task[None]) -> None:
        self._making.pop(target, None)
        # Nobody may wait for it any more.
        if not task.cancelled():
            task.exception()

    async def _make_picture(self, located: Located, target: Path) -> None:
        source = ItemSource(located, cover=located.kind is Kind.MUSIC)
        made = await self._media.picture(source, located.kind, target, priority=True)
        self.is_full = False
        if made:
            await self._index.run(self._cache.added, target)
        if made or await in_daemon(is_as_known, located):
            await self._index.run(self._record, located, int(made))

    async def _convert(self, source: DescribedSource, target: Path) -> None:
        await self._media.subtitles(source, target)
        self.is_full = False

    def _record(self, located: Located, made: int) -> None:
        with self._index.store.write() as db:
            db.execute(
                f"UPDATE items SET picture = ?, todo = nullif(todo, {PICTURE}) WHERE row = ? AND mtime_ns = ?",
                (made, located.row, located.mtime_ns),
            )

    async def _sweep(self) -> None:
        try:
            await in_daemon(self._cache.sweep, self._present_tags)
        except (StoreError, OSError) as err:
            _LOGGER.warning("The cache cannot be tidied up: %s", err)

    def _present_tags(self, ids: list[str]) -> dict[str, str]:
        """Return the entity tags of those of the items that exist."""
        tags: dict[str, str] = {}
        with self._index.store.read() as db:
            for name in ids:
                found = db.execute(
                    "SELECT size, mtime_ns, inode FROM items WHERE row = ? AND nonce = ?",
                    parse_item_id(name) or (0, b""),
                ).fetchone()
                if found is not None:
                    size, mtime_ns, inode = found
                    tags[name] = entity_tag(size, mtime_ns, inode % 2**64)
        return tags
