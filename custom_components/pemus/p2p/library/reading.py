"""Reads new and changed files in the background: first what they say about themselves, then a picture of each.

What is to do stands in the index, so it goes on after a restart where it ended. Who asks for a picture does not wait for
this: the reader takes such requests first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
import errno
import logging
import sqlite3
import time

import orjson

from ..core import tasks
from ..core.errors import EngineError
from ..core.sqlite import StoreError
from ..core.threads import in_daemon
from ..media.facts import MediaFacts
from ..media.reader import MediaReader
from ..models import Kind
from . import photo_dates
from .aggregates import refresh
from .albums import group_songs
from .changes import SHOWN, Row
from .files import ItemSource, Located, is_as_known
from .migrations import FACTS, MUSIC, NUMBERS, PHOTO, PICTURE
from .names import sort_key, stem_of
from .picture_cache import BACKGROUND_SIZE, PictureCache
from .search_index import make_findable, renew_words
from .store import Store, raise_revision

BATCH = 100
"""Files that are read before the results are written, at most."""
BATCH_SECONDS = 2.0
SUMMARY_SECONDS = 5.0
"""Seconds after which the lists of artists, albums and months follow what was read."""
RETRY = 30
"""Seconds until the next try after the index or the cache could not be written."""

DISK_TIMEOUT = 10
"""Seconds that a disk may take to say what a file is."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    """A file that was read."""

    item: Located
    facts: MediaFacts


class Reading:
    """Works through what is to do, for the shares that are there."""

    def __init__(
        self,
        store: Store,
        media: MediaReader,
        pictures: PictureCache,
        *,
        shares: Callable[[], dict[int, str]],
        on_change: Callable[[], None],
        on_items: Callable[[list[Row]], None],
    ) -> None:
        """Prepare to read the files of `shares`, which are those at hand: the root of each by its number."""
        self.active = False
        """Whether there is something to do."""
        self.done = 0
        self.total = 0
        """How many steps there were in all since it last had nothing to do."""
        self.full = False
        """Whether a picture could not be written for want of room."""
        self._store = store
        self._media = media
        self._pictures = pictures
        self._shares = shares
        self._on_change = on_change
        self._on_items = on_items
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._summarized = 0.0
        self._stale: set[int] = set()

    def start(self) -> None:
        """Begin to work."""
        self._task = tasks.keep(self._run, "reading")

    async def stop(self) -> None:
        """End all work."""
        await tasks.end(self._task)
        self._task = None

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._work()
            except (StoreError, EngineError, OSError) as err:
                _LOGGER.warning("Reading files is put off: %s", err)
                await self._put_off()
            except Exception:
                _LOGGER.exception("Reading files failed")
                await self._put_off()

    async def _put_off(self) -> None:
        self.active = False
        self._on_change()
        await asyncio.sleep(RETRY)
        self._wake.set()

    async def _work(self) -> None:
        """Do all that is to do: what lets people find things first, pictures last, and what is new before what waits."""
        self.done = self.total = 0
        while True:
            await self._make_findable()
            if items := await in_daemon(self._next, FACTS, self._shares()):
                await self._read(items)
            elif self._pictures.size < BACKGROUND_SIZE and (
                items := await in_daemon(self._next, PICTURE, self._shares())
            ):
                await self._make_pictures(items)
            else:
                break
            self._on_change()
            if time.monotonic() - self._summarized > SUMMARY_SECONDS:
                await self._summarize()
        self.full = False
        await self._summarize()
        self.active = False
        self._on_change()

    async def _make_findable(self) -> None:
        shares = list(self._shares())
        found = False
        for share in shares:
            while await in_daemon(make_findable, self._store, share):
                self._begin()
                self._stale.add(share)
                found = True
        if found:
            await self._summarize()
        if found or not self.total:
            self.total = self.done + await in_daemon(self._count, shares)
        if self.total > self.done:
            self._begin()

    def _begin(self) -> None:
        if not self.active:
            self.active = True
            self._on_change()

    async def _read(self, items: list[Located]) -> None:
        found: list[_Read] = []
        skipped: list[Located] = []
        begun = time.monotonic()
        for item in items:
            facts = await self._facts(item)
            self.done += 1
            if facts is None:
                skipped.append(item)
            else:
                found.append(_Read(item, facts))
            if time.monotonic() - begun > BATCH_SECONDS:
                break
        await in_daemon(self._record, found, skipped)
        self._stale.update(each.item.share for each in found)
        self._on_items([(each.item.row, each.item.nonce) for each in found])

    async def _facts(self, item: Located) -> MediaFacts | None:
        """Read a file; return None if it is not the one that the index knows, before or after."""
        source = ItemSource(item, cover=item.kind is not Kind.PHOTO)
        facts = await self._media.read(source, item.kind)
        return facts if await _is_as_known(item) else None

    def _record(self, found: list[_Read], skipped: list[Located]) -> None:
        with self._store.write() as db:
            for each in found:
                record(db, each.item, each.facts, self._media.level)
            renew_words(db, [each.item.row for each in found])
            # The next scan finds what became of them, and then they are to be read again.
            db.executemany(
                "UPDATE items SET todo = NULL WHERE row = ?",
                [(item.row,) for item in skipped],
            )
            if found:
                raise_revision(db)

    async def _make_pictures(self, items: list[Located]) -> None:
        for item in items:
            made = await self._make_picture(item)
            self.done += 1
            self._stale.add(item.share)
            await in_daemon(self._record_picture, item, made)

    async def _make_picture(self, item: Located) -> bool | None:
        """Make a picture; return whether there is one, None if that is not known."""
        target = self._pictures.picture(item.id, item.etag)
        source = ItemSource(item, cover=item.kind is Kind.MUSIC)
        try:
            await in_daemon(self._pictures.prepare, target)
            made = await self._media.picture(source, item.kind, target)
        except OSError as err:
            self.full |= err.errno in (errno.ENOSPC, errno.EDQUOT)
            raise
        if made:
            await in_daemon(self._pictures.added, target)
            return True
        return False if await _is_as_known(item) else None

    def _record_picture(self, item: Located, made: bool | None) -> None:
        with self._store.write() as db:
            db.execute(
                "UPDATE items SET picture = ?, todo = NULL WHERE row = ? AND mtime_ns = ?",
                (made, item.row, item.mtime_ns),
            )

    async def _summarize(self) -> None:
        """Let lists and counts follow."""
        while await in_daemon(self._group):
            pass
        if not self._stale:
            return
        for share in self._stale & self._shares().keys():
            await in_daemon(refresh, self._store, share)
        self._stale.clear()
        self._summarized = time.monotonic()
        self._on_change()

    def _group(self) -> bool:
        with self._store.write() as db:
            return group_songs(db)

    def _count(self, shares: list[int]) -> int:
        with self._store.read() as db:
            # What is to be read has a picture to be made as well, or so it may.
            (total,) = db.execute(
                f"SELECT coalesce(sum(iif(todo = {FACTS}, 2, 1)), 0) FROM items"
                f" WHERE todo IS NOT NULL AND share IN ({','.join(map(str, shares))})"
            ).fetchone()
        return int(total)

    def _next(self, todo: int, shares: dict[int, str]) -> list[Located]:
        found: list[Located] = []
        with self._store.read() as db:
            for share, root in shares.items():
                found += [
                    Located.of(root, *values)
                    for values in db.execute(
                        f"SELECT {Located.COLUMNS} WHERE todo = ? AND items.share = ? AND items.gone IS NULL"
                        " ORDER BY items.row LIMIT ?",
                        (todo, share, BATCH - len(found)),
                    )
                ]
        return found


async def _is_as_known(item: Located) -> bool:
    """Tell whether a file is as the index says. One on a disk that does not answer is not."""
    try:
        async with asyncio.timeout(DISK_TIMEOUT):
            return await in_daemon(is_as_known, item)
    except TimeoutError:
        return False


def record(
    db: sqlite3.Connection, item: Located, facts: MediaFacts, level: str
) -> None:
    """Write what a file says about itself, unless the item changed meanwhile."""
    known = {
        name: value
        for name, value in asdict(facts).items()
        if value is not None and name not in ("kind", "has_picture")
    }
    kind = NUMBERS[facts.kind or item.kind]
    month = moment = None
    if kind == PHOTO:
        month, moment = (
            facts.taken and photo_dates.of_taken(facts.taken)
        ) or photo_dates.of_file(item.mtime_ns)
    title_sort = None
    if kind == MUSIC:
        title_sort = sort_key(facts.title or stem_of(item.name))
    db.execute(
        f"""
        UPDATE items SET level = ?, facts = ?, content_kind = ?, has_picture = ?, title_sort = ?, month = ?, moment = ?,
            artist_key = NULL, artist_name = NULL, album_key = NULL, album_name = NULL, album_by = NULL,
            album_position = NULL, picture = nullif(picture, 0),
            todo = iif(? AND picture IS NOT 1, {PICTURE}, NULL)
        WHERE row = ? AND size = ? AND mtime_ns = ?
        """,
        (
            level,
            orjson.dumps(known).decode(),
            None if facts.kind is None else kind,
            facts.has_picture,
            *(title_sort, month, moment),
            facts.has_picture,
            *(item.row, item.size, item.mtime_ns),
        ),
    )
    db.execute(f"UPDATE items SET {SHOWN} WHERE row = ?", (item.row,))


def read_again(store: Store, level: str) -> None:
    """Have all items read again that were read with less, or with more, than can be read now."""
    with store.write() as db:
        db.execute(
            f"UPDATE items SET todo = {FACTS} WHERE level IS NOT NULL AND level != ?",
            (level,),
        )
