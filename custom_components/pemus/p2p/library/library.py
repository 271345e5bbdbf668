"""The library as the rest of the engine sees it: questions about items and files, and the state of all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
import contextlib
import logging
import os
from pathlib import Path
import sqlite3

from ..core import tasks
from ..core.errors import EngineError, NotFound, Unavailable
from ..core.sqlite import StoreError, fit, has_room
from ..core.threads import in_daemon
from ..media.reader import MediaReader
from ..models import (
    Counts,
    EngineConfig,
    Item,
    Listed,
    Listing,
    LocalFile,
    Problem,
    ProblemKey,
    ScanState,
    SearchQuery,
    SearchResult,
    ShareConfig,
    ShareStatus,
)
from ..models.rooms import RoomFolder
from . import browse, items
from .aggregates import counts
from .artwork import Artwork
from .changes import Row, change
from .files import Located, is_same, listed, locate
from .ids import item_id
from .index import Index
from .moves import File
from .picture_cache import PictureCache
from .reading import Reading, read_again
from .search import search
from .search_index import renew_words
from .shares import Shares
from .store import Store, raise_revision

DATABASE = "library.db"
NOTIFY_INTERVAL = 0.25
"""Seconds between two calls of `on_change`."""
ROOM_CHECK = 30.0
"""Seconds between two looks at whether a full disk has room again."""
MAX_NAMED_ITEMS = 500
"""Changed items that are named one by one."""

_NO_ITEM = "there is no such item"
_LOGGER = logging.getLogger(__name__)


class Library:
    """All shares with their items."""

    def __init__(
        self,
        *,
        data: Path,
        cache: Path,
        media: MediaReader,
        on_change: Callable[[], None],
        on_items: Callable[[tuple[str, ...] | None], None],
    ) -> None:
        """Prepare a library with its index in `data` and its pictures in `cache`; both folders exist.

        `media` is started before the library, and stopped after it. `on_change` is called in the event loop when
        anything of the state changed, and `on_items` with the ids of items that changed or went away, None for many.
        """
        self._cache = cache
        self._media = media
        self._on_change = on_change
        self._on_items = on_items
        self._index = Index(data / DATABASE, self.changed)
        pictures = PictureCache(cache)
        self._shares = Shares(
            self._index,
            pictures,
            on_change=self._share_changed,
            on_items=self._items_changed,
        )
        self._artwork = Artwork(self._index, media, pictures, self.changed)
        self._reading = Reading(
            self.store,
            media,
            pictures,
            shares=self._shares.readable,
            on_change=self.changed,
            on_items=self._items_changed,
        )
        self._applying = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._named: set[str] | None = set()
        self.revision = 0
        """Grows with every change."""

    # State.

    @property
    def store(self) -> Store:
        """The index, for the catalogue that friends are told."""
        return self._index.store

    @property
    def configured(self) -> tuple[ShareConfig, ...]:
        """The shares as they are configured."""
        return self._shares.config.shares

    @property
    def shares(self) -> tuple[ShareStatus, ...]:
        """The state of each share, in the order of the configuration."""
        return self._shares.statuses

    def available(self) -> frozenset[str]:
        """Return the ids of the shares that can be reached at present."""
        return self._shares.available

    @property
    def counts(self) -> Counts:
        """How many items there are."""
        return self._shares.counts

    @property
    def scan_state(self) -> ScanState:
        """What the library is doing."""
        if self._shares.is_scanning:
            return ScanState.SCANNING
        return ScanState.READING if self._reading.active else ScanState.IDLE

    @property
    def progress(self) -> float | None:
        """Percentage of that which is done; None if that is not known."""
        if self._shares.is_scanning:
            progress = self._shares.scanned
        elif self._reading.active:
            progress = self._reading.done, self._reading.total
        else:
            return None
        if progress is None or not progress[1]:
            return None
        return min(100.0, 100 * progress[0] / progress[1])

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Lasting faults."""
        found = self._shares.problems
        for full, path in (
            (self.store.full, self.store.path.parent),
            (self._reading.full or self._artwork.is_full, self._cache),
        ):
            if full:
                found.append(
                    Problem(key=ProblemKey.DISK_FULL, placeholders={"path": str(path)})
                )
        return tuple(found)

    # Life.

    async def start(self) -> None:
        """Open the index and begin to work; shares come with `apply`. Raises StoreError if the index cannot be opened."""
        await self._index.open(self._prepare)
        self._tasks = [
            tasks.keep(self._notify, "library news"),
            tasks.keep(self._look_for_room, "library room"),
        ]
        self._artwork.start()
        self._reading.start()

    def _prepare(self) -> None:
        read_again(self.store, self._media.level)
        self._read_state()

    async def stop(self) -> None:
        """End all work and close the index."""
        await tasks.end(*self._tasks)
        await self._artwork.stop()
        await self._reading.stop()
        await self._shares.stop()
        await self._index.close()

    async def apply(self, config: EngineConfig) -> None:
        """Work with this configuration from now on. Raises Unavailable."""
        try:
            async with self._applying:
                await self._shares.apply(config)
                # Whoever asks next is told what the index knows, not that there is nothing yet.
                with contextlib.suppress(StoreError):
                    await self._index.run(self._read_state)
        except StoreError as err:
            raise Unavailable(f"the index cannot be written: {err}") from err
        finally:
            self.changed()

    def rescan(self, share: str | None = None) -> None:
        """Scan a share, or all, as soon as possible. Raises NotFound."""
        self._shares.rescan(share)

    # Questions.

    async def item(self, item_id: str) -> Item:
        """Return an item. Raises NotFound."""
        return await self._index.ask(
            lambda db: items.item(db, item_id, self.configured, self.available())
        )

    async def shares_of(self, item_ids: Collection[str]) -> dict[str, str]:
        """Return in which configured share each item lies, without those that do not exist. Raises Unavailable."""
        return await self._index.ask(
            lambda db: items.shares_of(db, item_ids, self.configured)
        )

    async def chosen(
        self, item_ids: Collection[str], folders: Collection[RoomFolder], limit: int
    ) -> list[Item]:
        """Return single items, and those of whole folders, at most `limit`. Raises Unavailable."""
        return await self._index.ask(
            lambda db: items.chosen(
                db, item_ids, folders, self.configured, self.available(), limit
            )
        )

    async def folder(self, node: str) -> RoomFolder:
        """Return the folder that a node shows. Raises BadRequest for another kind of node, and NotFound."""
        return await self._index.ask(
            lambda db: browse.folder(db, node, self.configured)
        )

    async def browse(self, node: str) -> Listing:
        """Return what lies in a node. Raises BadRequest and NotFound."""
        return await self._index.ask(
            lambda db: browse.listing(db, node, self.configured, self.available())
        )

    async def search(self, query: SearchQuery) -> SearchResult:
        """Return what matches. Raises BadRequest and NotFound."""
        return await self._index.ask(
            lambda db: search(db, query, self.configured, self.available())
        )

    async def listed(self, after: int, limit: int) -> tuple[list[Listed], int | None]:
        """Return files of shares that are at hand, in a fixed order, and where to go on: 0 at first, None at the end.

        Raises Unavailable while the index cannot be read.
        """
        shares = self._shares.available_numbers
        return await self._index.ask(lambda db: listed(db, after, limit, shares))

    async def file(self, item_id: str) -> LocalFile:
        """Return the file of an item as it is on disk now; if it changed, the index follows.

        Raises:
            NotFound: there is no such item, or its file is gone.
            Unavailable: its share is not there at present, or does not answer.

        """
        located, item = await self._locate(item_id)
        found = await self._shares.stat(located, located.name)
        if not is_same(located, found):
            await self._index.run(self._write_changed, located, found)
            self._items_changed([(located.row, located.nonce)])
        return located.described(item.content_type, found)

    async def files(
        self, item_ids: Collection[str]
    ) -> dict[str, LocalFile | EngineError]:
        """Return for each of many items what `file` returns or raises, with one look at each disk."""
        try:
            found = await self._index.ask(lambda db: self._find(db, item_ids))
        except Unavailable as err:
            return dict.fromkeys(item_ids, err)
        answers: dict[str, LocalFile | EngineError] = {
            name: NotFound(_NO_ITEM) for name in item_ids
        }
        looked = await self._shares.stat_all(located for located, _ in found.values())
        for name, stat in looked.items():
            located, item = found[name]
            if isinstance(stat, EngineError):
                answers[name] = stat
            elif isinstance(stat, os.stat_result) and is_same(located, stat):
                answers[name] = located.described(item.content_type, stat)
            else:
                # Something is new about it, and the index has to follow.
                try:
                    answers[name] = await self.file(name)
                except EngineError as err:
                    answers[name] = err
        return answers

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return the picture of an item, made first if need be.

        Raises:
            NotFound: there is no such item.
            NoPicture: there is none of it.
            Unavailable: it cannot be made at present.

        """
        located, item = await self._locate(item_id)
        # What was made before needs no file.
        if (made := await self._artwork.made_picture(located)) is not None:
            return made
        if (await self.file(item_id)).etag != located.etag:
            located, item = await self._locate(item_id)
        return await self._artwork.picture(located, item)

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        """Return a subtitle file of an item as WebVTT, converted first if need be.

        Raises:
            NotFound: there is none, or it cannot be converted.
            Unavailable: its share is not there at present.

        """
        located, item = await self._locate(item_id)
        chosen = next((each for each in item.subtitles if each.index == index), None)
        if chosen is None:
            raise NotFound("there are no such subtitles")
        found = await self._shares.stat(located, chosen.name)
        return await self._artwork.subtitles(located, chosen.name, found)

    async def _locate(self, item_id: str) -> tuple[Located, Item]:
        """Find an item and where its file is. Raises NotFound and Unavailable."""
        found = await self._index.ask(lambda db: self._find(db, (item_id,)))
        if item_id not in found:
            raise NotFound(_NO_ITEM)
        return found[item_id]

    def _find(
        self, db: sqlite3.Connection, item_ids: Iterable[str]
    ) -> dict[str, tuple[Located, Item]]:
        roots, found = self._shares.roots, {}
        for name in item_ids:
            with contextlib.suppress(NotFound):
                item = items.item(db, name, self.configured, self.available())
                if (located := locate(db, name, roots)) is not None:
                    found[name] = located, item
        return found

    def _write_changed(self, located: Located, found: os.stat_result) -> None:
        with self.store.write() as db:
            known = db.execute(
                "SELECT folder, kind FROM items WHERE row = ? AND nonce = ?",
                (located.row, located.nonce),
            ).fetchone()
            if known is None:
                return
            file = File(
                known[0],
                located.name,
                found.st_size,
                fit(found.st_mtime_ns),
                fit(found.st_ino),
                known[1],
            )
            change(db, located.row, file)
            renew_words(db, [located.row])
            raise_revision(db)

    # News.

    def changed(self) -> None:
        """Note that the state may have changed."""
        self._news.set()

    def _share_changed(self) -> None:
        self._reading.wake()
        self.changed()

    def _items_changed(self, rows: Iterable[Row]) -> None:
        if self._named is not None:
            self._named.update(item_id(*each) for each in rows)
            if len(self._named) > MAX_NAMED_ITEMS:
                self._named = None
        self.changed()

    async def _notify(self) -> None:
        """Tell the news, a few times a second at most."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self.store.broken:
                await self._mend()
            with contextlib.suppress(StoreError):
                await self._index.run(self._read_state)
            named, self._named = self._named, set()
            if named is None or named:
                self._on_items(None if named is None else tuple(sorted(named)))
            self._on_change()
            await asyncio.sleep(NOTIFY_INTERVAL)

    def _read_state(self) -> None:
        """Read revision and counts. Raises StoreError."""
        with self.store.read() as db:
            (self.revision,) = db.execute(
                "SELECT value FROM state WHERE key = 'revision'"
            ).fetchone()
            counted = counts(db)
        self._shares.counted(counted)

    async def _mend(self) -> None:
        """Begin anew with an empty index after the present one was found to be damaged."""
        async with self._applying:
            await self._reading.stop()
            await self._shares.stop()
            try:
                await self._index.run(self.store.replace)
                self._reading.start()
                await self._shares.begin_again()
            except (StoreError, OSError):
                _LOGGER.exception("The index cannot be made again")
                return
            self._named = None

    async def _look_for_room(self) -> None:
        """Find out when a disk that was full has room again, also if nobody wants to write anything."""
        while True:
            await asyncio.sleep(ROOM_CHECK)
            if self.store.full and await in_daemon(has_room, self.store.path.parent):
                self.store.full = False
                self.changed()
            is_full = self._reading.full or self._artwork.is_full
            if is_full and await in_daemon(has_room, self._cache):
                self._reading.full = self._artwork.is_full = False
                self.changed()
