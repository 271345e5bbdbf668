"""The library as the rest of the engine sees it: shares at work, and the answers to questions about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
import contextlib
import errno
import logging
import os
from pathlib import Path
import sqlite3
from typing import Any

from ..core import paths, tasks
from ..core.errors import EngineError, NoPicture, NotFound, Unavailable
from ..core.sqlite import StoreBroken, StoreError, fit, has_room
from ..core.threads import in_daemon
from ..media.reader import MediaReader
from ..models import (
    Counts,
    EngineConfig,
    Item,
    Kind,
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
    entity_tag,
)
from . import browse, items
from .aggregates import count_groups, counts, refresh, remove_share
from .artwork import PictureCache
from .changes import SHOWN, SHOWN_AS, Row, change, forget
from .files import (
    DescribedSource,
    ItemSource,
    Located,
    is_as_known,
    is_same,
    listed,
    locate,
    stat_all,
    stat_beside,
)
from .ids import item_id, parse_item_id
from .migrations import NUMBERS, PICTURE
from .moves import File
from .names import stem_of
from .reading import DISK_TIMEOUT, Reading, read_again
from .search import search
from .search_index import renew_words
from .share import Share
from .store import Store, raise_revision
from .watch import limit_value

DATABASE = "library.db"
NOTIFY_INTERVAL = 0.25
"""Seconds between two news about the state."""
ROOM_CHECK = 30.0
"""Seconds between two looks at whether a full disk has room again."""
MAX_NAMED_ITEMS = 500
"""Changed items that are named one by one."""

_READERS = 4
_FORGET_BATCH = 5000
_NO_ITEM = "there is no such item"
_NO_SHARE = "the shared folder is not available at present"
_NO_ANSWER = "the disk does not answer"
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
        self.store = Store(data / DATABASE)
        self._cache = cache
        self._pictures = PictureCache(cache)
        self._media = media
        self._on_change = on_change
        self._on_items = on_items
        self._config = EngineConfig(home_name="")
        self._shelves: dict[str, Share] = {}
        self._reading = Reading(
            self.store,
            media,
            self._pictures,
            shares=self._readable,
            on_change=self.changed,
            on_items=self._items_changed,
        )
        self._applying = asyncio.Lock()
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="library")
        self._notifier: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._surveyor: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._named: set[str] | None = set()
        self._making: dict[Path, asyncio.Task[None]] = {}
        self._cache_full = False
        self._revision = 0

    # State, for Status.

    @property
    def configured(self) -> tuple[ShareConfig, ...]:
        """The shares as they are configured."""
        return self._config.shares

    @property
    def scan_state(self) -> ScanState:
        """What the library is doing."""
        if any(shelf.scanning for shelf in self._shelves.values()):
            return ScanState.SCANNING
        return ScanState.READING if self._reading.active else ScanState.IDLE

    @property
    def progress(self) -> float | None:
        """Share of it that is done, 0 to 100; None if that is not known."""
        if scanning := [each for each in self._shelves.values() if each.scanning]:
            done = sum(shelf.seen for shelf in scanning)
            total = sum(_total(shelf.counts) for shelf in scanning)
            if any(shelf.last_scan is None for shelf in scanning):
                return None
        elif self._reading.active:
            done, total = self._reading.done, self._reading.total
        else:
            return None
        return min(100.0, 100 * done / total) if total else None

    @property
    def revision(self) -> int:
        """Grows with every change."""
        return self._revision

    @property
    def counts(self) -> Counts:
        """How many items there are."""
        each = [shelf.counts for shelf in self._shelves.values()]
        return Counts(
            video=sum(counts.video for counts in each),
            music=sum(counts.music for counts in each),
            photo=sum(counts.photo for counts in each),
            size=sum(counts.size for counts in each),
        )

    @property
    def shares(self) -> tuple[ShareStatus, ...]:
        """The state of each share, in the order of the configuration."""
        return tuple(
            ShareStatus(
                id=shelf.config.id,
                available=shelf.available,
                scanning=shelf.scanning,
                counts=shelf.counts,
                last_scan=shelf.last_scan,
            )
            for shelf in self._in_order()
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Lasting faults."""
        found = [
            Problem(
                key=shelf.problem,
                share=shelf.config.id,
                placeholders={"name": shelf.config.name, "path": shelf.config.path},
            )
            for shelf in self._in_order()
            if shelf.problem is not None
        ]
        if limits := {shelf.limited_by for shelf in self._in_order()} - {None}:
            setting = str(min(map(str, limits)))
            found.append(
                Problem(
                    key=ProblemKey.INOTIFY_LIMIT,
                    placeholders={"setting": setting, "limit": limit_value(setting)},
                )
            )
        for full, path in (
            (self.store.full, self.store.path.parent),
            (self._reading.full or self._cache_full, self._cache),
        ):
            if full:
                found.append(
                    Problem(key=ProblemKey.DISK_FULL, placeholders={"path": str(path)})
                )
        return tuple(found)

    # Life.

    async def start(self) -> None:
        """Open the index and begin to work; shares come with `apply`.

        Raises StoreError: the index cannot be opened.
        """
        await self._in_pool(self.store.open)
        try:
            await self._in_pool(self._prepare)
        except StoreBroken:
            await self._in_pool(self.store.replace)
            await self._in_pool(self._prepare)
        self._notifier = tasks.keep(self._notify, "library news")
        self._sweeper = tasks.spawn(self._sweep(), "library sweep")
        self._surveyor = tasks.keep(self._look_for_room, "library room")
        self._reading.start()

    async def stop(self) -> None:
        """End all work and close the index."""
        await tasks.end(
            self._notifier, self._sweeper, self._surveyor, *self._making.values()
        )
        self._notifier = self._sweeper = self._surveyor = None
        await self._reading.stop()
        await asyncio.gather(*(shelf.stop() for shelf in self._shelves.values()))
        self._shelves.clear()
        with contextlib.suppress(RuntimeError):
            await self._in_pool(self.store.close)
        self._pool.shutdown(wait=False)

    async def apply(self, config: EngineConfig) -> None:
        """Work with this configuration from now on; what is the same in it goes on undisturbed. Raises Unavailable."""
        try:
            await self._apply(config)
        except StoreError as err:
            raise Unavailable(f"the index cannot be written: {err}") from err
        finally:
            self.changed()

    async def _apply(self, config: EngineConfig) -> None:
        async with self._applying:
            before, self._config = self._config, config
            wanted = {share.id: share for share in config.shares}
            gone = await self._in_pool(self._foreign, wanted)
            stopped = [
                shelf
                for share, shelf in self._shelves.items()
                if share not in wanted or _differs(shelf.config, wanted[share])
            ]
            await asyncio.gather(*(shelf.stop() for shelf in stopped))
            for shelf in stopped:
                del self._shelves[shelf.config.id]
            for number in gone:
                await self._in_pool(self._remove, number)
            for share in config.shares:
                if (kept := self._shelves.get(share.id)) is not None:
                    kept.config = share
                    kept.rescan_interval = config.rescan_interval
                else:
                    await self._add(share)
            if before != config:
                await self._in_pool(self._raise_revision)
            # Whoever asks next is told what the index knows, not that there is nothing yet.
            with contextlib.suppress(StoreError):
                await self._in_pool(self._read_state)
            self.changed()

    def rescan(self, share: str | None = None) -> None:
        """Scan a share, or all, as soon as possible. Raises NotFound."""
        if share is not None and share not in self._shelves:
            raise NotFound("there is no such share")
        for name, shelf in self._shelves.items():
            if share in (None, name):
                shelf.rescan()

    # Questions.

    async def item(self, item_id: str) -> Item:
        """Return an item. Raises NotFound."""
        return await self._ask(
            lambda db: items.item(db, item_id, self._config.shares, self.available())
        )

    async def shares_of(self, item_ids: Collection[str]) -> dict[str, str]:
        """Return in which configured share each item lies; those that there are not are missing. Raises Unavailable."""
        return await self._ask(
            lambda db: items.shares_of(db, item_ids, self._config.shares)
        )

    async def browse(self, node: str) -> Listing:
        """Return what lies in a node. Raises BadRequest and NotFound."""
        return await self._ask(
            lambda db: browse.listing(db, node, self._config.shares, self.available())
        )

    async def search(self, query: SearchQuery) -> SearchResult:
        """Return what matches. Raises BadRequest and NotFound."""
        return await self._ask(
            lambda db: search(db, query, self._config.shares, self.available())
        )

    async def file(self, item_id: str) -> LocalFile:
        """Return the file of an item as it is on disk now; if it changed, the index follows.

        Raises:
            NotFound: there is no such item, or its file is gone.
            Unavailable: its share is not there at present, or does not answer.

        """
        located, item = await self._locate(item_id)
        found = await self._stat(located, located.name)
        if not is_same(located, found):
            await self._in_pool(self._write_changed, located, found)
            self._items_changed([(located.row, located.nonce)])
            self.changed()
        return located.described(item.content_type, found)

    async def files(
        self, item_ids: Collection[str]
    ) -> dict[str, LocalFile | EngineError]:
        """Return for each of many items what `file` returns or raises, with fewer looks than one for each."""
        roots = {shelf.number: shelf.root for shelf in self._shelves.values()}

        def find(db: sqlite3.Connection) -> dict[str, tuple[Located, Item]]:
            found = {}
            for name in item_ids:
                with contextlib.suppress(NotFound):
                    item = items.item(db, name, self._config.shares, self.available())
                    if (located := locate(db, name, roots)) is not None:
                        found[name] = located, item
            return found

        answers: dict[str, LocalFile | EngineError] = {
            name: NotFound(_NO_ITEM) for name in item_ids
        }
        try:
            found = await self._ask(find)
        except Unavailable as err:
            return dict.fromkeys(item_ids, err)
        by_root: dict[str, list[Located]] = {}
        for located, _ in found.values():
            by_root.setdefault(located.root, []).append(located)
        looked = await asyncio.gather(
            *(self._stat_all(root, each) for root, each in by_root.items())
        )
        for stats in looked:
            for name, stat in stats.items():
                located, item = found[name]
                if isinstance(stat, EngineError):
                    answers[name] = stat
                    continue
                if not isinstance(stat, OSError) and is_same(located, stat):
                    answers[name] = located.described(item.content_type, stat)
                    continue
                # Something is new about it, and the index has to follow.
                try:
                    answers[name] = await self.file(name)
                except EngineError as err:
                    answers[name] = err
        return answers

    async def _stat_all(
        self, root: str, located: list[Located]
    ) -> Mapping[str, os.stat_result | OSError | EngineError]:
        """Look at files of one share."""
        names = [each.id for each in located]
        shelf = next((each for each in self._in_order() if each.root == root), None)
        if shelf is None or not shelf.available:
            return dict.fromkeys(names, Unavailable(_NO_SHARE))
        try:
            async with asyncio.timeout(DISK_TIMEOUT):
                return await shelf.on_disk(stat_all, root, located)
        except TimeoutError:
            return dict.fromkeys(names, Unavailable(_NO_ANSWER))

    async def listed(self, after: int, limit: int) -> tuple[list[Listed], int | None]:
        """Return files of shares that are at hand, in a fixed order, and where to go on: 0 at first, None at the end.

        Raises Unavailable while the index cannot be read.
        """
        shares = {shelf.number for shelf in self._shelves.values() if shelf.available}
        return await self._ask(lambda db: listed(db, after, limit, shares))

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return the picture of an item, made first if need be.

        Raises:
            NotFound: there is no such item.
            NoPicture: there is none of it.
            Unavailable: it cannot be made at present.

        """
        located, item = await self._locate(item_id)
        # What was made before needs no file.
        if (made := await self._cached_picture(located)) is not None:
            return made
        if (await self.file(item_id)).etag != located.etag:
            located, item = await self._locate(item_id)
        target = self._pictures.picture(located.id, located.etag)
        if item.has_thumbnail:
            await self._once(target, lambda: self._make_picture(located, target))
            if (made := await self._cached_picture(located)) is not None:
                return made
        raise NoPicture("there is no picture of this file")

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
        found = await self._stat(located, chosen.name)
        target = self._pictures.subtitle(
            located.id, chosen.name, found.st_size, found.st_mtime_ns
        )
        name = f"{stem_of(chosen.name)}.vtt"
        if (made := await self._cached(target, name, "text/vtt")) is not None:
            return made
        path = paths.join(located.root, located.folder, chosen.name)
        source = DescribedSource(
            LocalFile.of(path, chosen.name, "", found, root=located.root)
        )
        await self._once(target, lambda: self._convert(source, target))
        if (made := await self._cached(target, name, "text/vtt")) is not None:
            return made
        raise Unavailable("the subtitles are gone again")

    # Help for the questions.

    async def _ask[T](self, question: Callable[[sqlite3.Connection], T]) -> T:
        def answer() -> T:
            with self.store.read() as db:
                return question(db)

        try:
            return await self._in_pool(answer)
        except StoreError as err:
            self.changed()
            raise Unavailable(f"the index cannot be read: {err}") from err

    async def _in_pool[**P, T](
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call what blocks for a short time at most: the database, the cache."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    async def _locate(self, item_id: str) -> tuple[Located, Item]:
        """Find an item and where its file is. Raises NotFound and Unavailable."""
        shelves = {shelf.number: shelf for shelf in self._shelves.values()}

        roots = {number: shelf.root for number, shelf in shelves.items()}

        def find(db: sqlite3.Connection) -> tuple[Located | None, Item]:
            item = items.item(db, item_id, self._config.shares, self.available())
            return locate(db, item_id, roots), item

        located, item = await self._ask(find)
        if located is None:
            raise NotFound(_NO_ITEM)
        return located, item

    async def _stat(self, located: Located, name: str) -> os.stat_result:
        """Look at an item's file, or at one beside it. Raises NotFound and Unavailable."""
        shelf = next(
            (each for each in self._in_order() if each.number == located.share), None
        )
        if shelf is None:
            raise NotFound(_NO_ITEM)
        if not shelf.available:
            raise Unavailable(_NO_SHARE)
        try:
            async with asyncio.timeout(DISK_TIMEOUT):
                return await shelf.on_disk(stat_beside, located, name)
        except TimeoutError:
            raise Unavailable(_NO_ANSWER) from None
        except OSError as err:
            shelf.look_at(located.folder)
            if paths.is_absence(err):
                raise NotFound("the file is no longer there") from err
            raise Unavailable(f"the file cannot be reached: {err.strerror}") from err

    async def _cached(
        self, target: Path, name: str, content_type: str
    ) -> LocalFile | None:
        try:
            found = await self._in_pool(target.stat)
        except OSError:
            return None
        return LocalFile.of(str(target), name, content_type, found)

    async def _cached_picture(self, located: Located) -> LocalFile | None:
        target = self._pictures.picture(located.id, located.etag)
        return await self._cached(target, f"{stem_of(located.name)}.jpg", "image/jpeg")

    async def _once(
        self, target: Path, make: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Have a file of the cache made, by one of those who ask for it at the same time. Raises Unavailable."""

        async def unless_made() -> None:
            if not await self._in_pool(target.exists):
                await self._in_pool(self._pictures.prepare, target)
                await make()

        task = self._making.get(target)
        if task is None:
            task = self._making[target] = asyncio.create_task(unless_made())
            task.add_done_callback(lambda done: self._made(target, done))
        try:
            await asyncio.shield(task)
        except OSError as err:
            self._cache_full = err.errno in (errno.ENOSPC, errno.EDQUOT)
            self.changed()
            raise Unavailable(f"the cache cannot be written: {err.strerror}") from err

    def _made(self, target: Path, task: asyncio.Task[None]) -> None:
        self._making.pop(target, None)
        # Nobody may wait for it any more.
        if not task.cancelled():
            task.exception()

    async def _make_picture(self, located: Located, target: Path) -> None:
        source = ItemSource(located, cover=located.kind is Kind.MUSIC)
        made = await self._media.picture(source, located.kind, target, priority=True)
        self._cache_full = False
        if made:
            await self._in_pool(self._pictures.added, target)
        if made or await in_daemon(is_as_known, located):
            await self._in_pool(self._write_picture, located, int(made))

    async def _convert(self, source: DescribedSource, target: Path) -> None:
        await self._media.subtitles(source, target)
        self._cache_full = False

    # What is written.

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

    def _write_picture(self, located: Located, made: int) -> None:
        with self.store.write() as db:
            db.execute(
                f"UPDATE items SET picture = ?, todo = nullif(todo, {PICTURE}) WHERE row = ? AND mtime_ns = ?",
                (made, located.row, located.mtime_ns),
            )

    def _prepare(self) -> None:
        read_again(self.store, self._media.level)
        self._read_state()

    def _raise_revision(self) -> None:
        with self.store.write() as db:
            raise_revision(db)

    def _foreign(self, wanted: Collection[str]) -> list[int]:
        """Return the numbers of shares that are no longer configured."""
        with self.store.read() as db:
            return [
                number
                for number, share in db.execute("SELECT number, id FROM shares")
                if share not in wanted
            ]

    def _remove(self, number: int) -> None:
        """Remove a share with all its items."""
        while True:
            with self.store.write() as db:
                found = db.execute(
                    "SELECT row, nonce FROM items WHERE folder IN (SELECT number FROM folders WHERE share = ?) LIMIT ?",
                    (number, _FORGET_BATCH),
                ).fetchall()
                forget(db, found)
                if not found:
                    count_groups(db)
                    remove_share(db, number)
                    raise_revision(db)
                    return
            self._pictures.remove(item_id(*each) for each in found)

    async def _add(self, share: ShareConfig) -> None:
        """Put a share to work."""
        number, scanned = await self._in_pool(self._register, share)
        shelf = Share(
            share,
            number,
            self.store,
            rescan_interval=self._config.rescan_interval,
            on_change=self._shelf_changed,
            on_items=self._items_changed,
            on_purge=self._purged,
        )
        shelf.last_scan = scanned
        self._shelves[share.id] = shelf
        shelf.start()

    def _register(self, share: ShareConfig) -> tuple[int, float | None]:
        """Note a share in the index; return its number there, and when it was last scanned."""
        kinds = sum(1 << NUMBERS[kind] for kind in set(share.kinds))
        with self.store.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO shares (id, path, kinds) VALUES (?, ?, ?)",
                (share.id, share.path, kinds),
            )
            number, path, before, scanned = db.execute(
                "SELECT number, path, kinds, scanned FROM shares WHERE id = ?",
                (share.id,),
            ).fetchone()
            db.execute(
                "UPDATE shares SET path = ?, kinds = ? WHERE number = ?",
                (share.path, kinds, number),
            )
            if path != share.path:
                # The user says where the files are now: also an empty folder is believed.
                db.execute(
                    "UPDATE folders SET device = NULL, inode = NULL WHERE share = ?",
                    (number,),
                )
        if kinds != before:
            while self._show_again(number):
                pass
        refresh(self.store, number)
        return number, scanned

    def _show_again(self, number: int) -> bool:
        """Let some items follow the kinds of their share; return whether there were any."""
        with self.store.write() as db:
            rows = [
                row
                for (row,) in db.execute(
                    f"SELECT row FROM items WHERE share = ? AND shown IS NOT {SHOWN_AS} LIMIT ?",
                    (number, _FORGET_BATCH),
                )
            ]
            db.executemany(
                f"UPDATE items SET {SHOWN} WHERE row = ?", ((row,) for row in rows)
            )
            renew_words(db, rows)
        return bool(rows)

    # News.

    def changed(self) -> None:
        """Take note that the state may be another one by now."""
        self._news.set()

    def _shelf_changed(self) -> None:
        self._reading.wake()
        self.changed()

    def _items_changed(self, rows: list[Row]) -> None:
        if self._named is not None:
            self._named.update(item_id(*each) for each in rows)
            if len(self._named) > MAX_NAMED_ITEMS:
                self._named = None
        self._news.set()

    def _purged(self, rows: list[Row]) -> None:
        ids = [item_id(*each) for each in rows]
        self._pool.submit(self._pictures.remove, ids)

    async def _notify(self) -> None:
        """Tell the news, a few times a second at most."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self.store.broken:
                await self._mend()
            with contextlib.suppress(StoreError):
                await self._in_pool(self._read_state)
            named, self._named = self._named, set()
            if named is None or named:
                self._on_items(None if named is None else tuple(sorted(named)))
            self._on_change()
            await asyncio.sleep(NOTIFY_INTERVAL)

    def _read_state(self) -> None:
        """Read revision and counts."""
        with self.store.read() as db:
            (self._revision,) = db.execute(
                "SELECT value FROM state WHERE key = 'revision'"
            ).fetchone()
            counted = counts(db)
        for shelf in list(self._shelves.values()):
            shelf.counts = counted.get(shelf.number, Counts())

    async def _mend(self) -> None:
        """Begin anew with an empty index after the present one was found to be damaged."""
        async with self._applying:
            await self._reading.stop()
            await asyncio.gather(*(shelf.stop() for shelf in self._shelves.values()))
            self._shelves.clear()
            try:
                await self._in_pool(self.store.replace)
                self._reading.start()
                for share in self._config.shares:
                    await self._add(share)
            except (StoreError, OSError):
                _LOGGER.exception("The index cannot be made again")
                return
            self._named = None

    async def _sweep(self) -> None:
        """Remove from the cache what nobody needs any more."""
        try:
            await in_daemon(self._pictures.sweep, self._current)
        except (StoreError, OSError) as err:
            _LOGGER.warning("The cache cannot be tidied up: %s", err)

    async def _look_for_room(self) -> None:
        """Find out when a disk that was full has room again, also if nobody wants to write anything."""
        while True:
            await asyncio.sleep(ROOM_CHECK)
            if self.store.full and await in_daemon(has_room, self.store.path.parent):
                self.store.full = False
                self.changed()
            if (self._reading.full or self._cache_full) and await in_daemon(
                has_room, self._cache
            ):
                self._reading.full = self._cache_full = False
                self.changed()

    def _current(self, ids: list[str]) -> dict[str, str]:
        """Return the entity tags of the items of these ids that there are."""
        tags: dict[str, str] = {}
        with self.store.read() as db:
            for name in ids:
                row, nonce = parse_item_id(name) or (0, b"")
                found = db.execute(
                    "SELECT size, mtime_ns, inode FROM items WHERE row = ? AND nonce = ?",
                    (row, nonce),
                ).fetchone()
                if found is not None:
                    size, mtime_ns, inode = found
                    tags[name] = entity_tag(size, mtime_ns, inode % 2**64)
        return tags

    # Small things.

    def _in_order(self) -> list[Share]:
        return [
            self._shelves[share.id]
            for share in self._config.shares
            if share.id in self._shelves
        ]

    def available(self) -> frozenset[str]:
        """Return the ids of the shares that can be reached at present."""
        return frozenset(
            name for name, shelf in self._shelves.items() if shelf.available
        )

    def _readable(self) -> dict[int, str]:
        return {
            shelf.number: shelf.root
            for shelf in self._shelves.values()
            if shelf.readable
        }


def _differs(before: ShareConfig, now: ShareConfig) -> bool:
    """Tell whether a share has to be scanned afresh."""
    return (before.path, set(before.kinds)) != (now.path, set(now.kinds))


def _total(counts: Counts) -> int:
    return counts.video + counts.music + counts.photo
