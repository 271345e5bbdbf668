"""A copy of another home's library, which is browsed and searched as quickly as this home's own.

It is a cache. A database that is damaged, or was written by a newer release, is discarded, and the list fetched again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
import logging
from pathlib import Path
import sqlite3
import threading
import time
from typing import Final

from ..core.errors import DiskFull, Unavailable
from ..core.sqlite import StoreBroken, StoreError, StoreFull
from ..library import browse, items
from ..library.aggregates import counts, refresh
from ..library.ids import item_id
from ..library.migrations import NUMBERS
from ..library.search import search
from ..library.store import Store, raise_revision
from ..models import Counts, Item, Kind, Listing, SearchQuery, SearchResult, ShareConfig
from ..models.codec import encode
from ..models.homes import is_home
from .receiver import REMOVAL, TABLES, CatalogueReceiver, distrust, known, take
from .wire import FORMAT, MAX_ITEMS, BadCatalogue, Page, read

__all__ = ["Applied", "BadCatalogue", "RemoteLibrary"]

MAX_NAMED_ITEMS: Final = 500
"""Changed items of a page that are reported one by one."""
MAX_NEW_ITEMS: Final = 20
"""New items of a page that are reported with their titles."""
MAX_UNCOUNTED: Final = 500
"""Folders that are counted one by one. It is quicker to count all if more have changed."""
SUMMARY: Final = 16
"""Work per item of the library of updating counts and lists."""
MAX_DATABASE: Final = 2 * 1024**3
"""Bytes that the copy of one library may take."""
SUMMARY_SECONDS: Final = 5.0
"""Seconds between two updates of lists and counts while pages arrive."""

_SUMMARY_SHARE: Final = 10
"""While pages arrive, updates of lists and counts take at most one part in so many of the time."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a page of a catalogue changed."""

    new: tuple[tuple[str, str], ...] = ()
    """Id and title of the first few new items. Empty until the whole catalogue has arrived for the first time: until then
    everything is new."""
    count_new: int = 0
    changed_ids: tuple[str, ...] | None = ()
    """Items that were changed or removed; None for many."""
    done: bool = False
    """Whether this was the last page."""
    work: int = 0
    """What the page cost, in bytes of a page; other work is converted."""


class RemoteStore(Store):
    """The index of another home's library."""

    what = "the copy of another home's library"

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Bring the index up to date. What arrived in another format is fetched again."""
        super().prepare(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not _has_tables(connection):
                for statement in TABLES:
                    connection.execute(statement)
            if _state(connection, "format") != FORMAT:
                distrust(connection)
                _note(connection, "format", FORMAT)
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise

    def _set_aside(self, reason: str, *, newer: bool = False) -> None:
        _LOGGER.warning(
            "%s cannot be used (%s), and is fetched again", self.path, reason
        )
        self.remove()

    def remove(self) -> None:
        """Remove the files. Raises OSError."""
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


class RemoteLibrary:
    """The copy of one other home's library."""

    def __init__(self, folder: Path, home: str) -> None:
        """Prepare to keep the library of `home` (PeMuS ID) in `folder`, which is created if it is missing.

        Raises ValueError for an invalid id, because it becomes a file name.
        """
        if not is_home(home):
            raise ValueError("that is no PeMuS ID")
        self.home = home
        self._store = RemoteStore(folder / f"{home}.db")
        # Pages are written one after the other, and counts are not updated meanwhile.
        self._taking = threading.Lock()
        self._items = 0
        self._counts = Counts()
        self._revision = 0
        self._next_summary = 0.0
        self._begun: set[int] = set()
        """Shares that the present transfer has sent from the beginning."""
        self._uncounted: set[int] | None = None
        """Folders whose items changed since they were counted; None if all have to be counted."""

    # State. While a page is written, it is the state before it.

    @property
    def counts(self) -> Counts:
        """The number of known items."""
        return self._counts

    @property
    def revision(self) -> int:
        """Grows with every change of the copy."""
        return self._revision

    @property
    def full(self) -> bool:
        """Whether something could not be written because the disk is full."""
        return self._store.full

    # Life.

    async def open(self) -> None:
        """Open the copy, and update lists and counts. Raises StoreError."""
        await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """Close the copy, after the page that is being written. Queries that are still running fail."""
        await asyncio.to_thread(self._close)

    async def remove(self) -> None:
        """Close and remove the copy. Raises OSError."""
        await self.close()
        await asyncio.to_thread(self._store.remove)

    # Transfers.

    async def have(self) -> str:
        """Begin a transfer: return the `have` that the owner needs for `Catalogue.pages`. Raises Unavailable."""
        self._begun = set()
        have = await self._ask(known)
        return encode(have).decode()

    async def distrust(self) -> None:
        """Request everything again, because the last page contradicts what is known here. Raises Unavailable."""
        await self._in_thread(lambda: self._mending(self._distrust))

    async def apply(self, payload: bytes) -> Applied:
        """Write a page of the catalogue: all of it or, with an error, nothing. This also holds if the caller is cancelled.

        Raises:
            BadCatalogue: it is invalid, or does not continue the earlier pages.
            DiskFull: the disk is full.
            Unavailable: it cannot be written now.

        """
        return await self._in_thread(self._apply, payload)

    # Queries.

    async def browse(self, node: str, online: bool) -> Listing:
        """Return the content of a node, which has the owner's id. Raises BadRequest, NotFound and Unavailable.

        `online` states whether the home can be reached now. If not, none of its items is available.
        """
        return await self._ask(
            lambda db: browse.listing(db, node, *_shares(db, online=online))
        )

    async def search(self, query: SearchQuery, online: bool) -> SearchResult:
        """Return the items that match. Raises BadRequest, NotFound and Unavailable."""
        return await self._ask(
            lambda db: search(db, query, *_shares(db, online=online))
        )

    async def item(self, item_id: str, online: bool) -> Item:
        """Return an item. Raises NotFound and Unavailable."""
        return await self._ask(
            lambda db: items.item(db, item_id, *_shares(db, online=online))
        )

    async def _ask[T](self, question: Callable[[sqlite3.Connection], T]) -> T:
        def answer() -> T:
            with self._store.read() as db:
                return question(db)

        return await self._in_thread(lambda: self._mending(answer))

    async def _in_thread[**P, T](
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except StoreFull as err:
            raise DiskFull(
                f"the disk is too full for {self._store.what}: {err}"
            ) from err
        except StoreError as err:
            raise Unavailable(f"{self._store.what} cannot be used: {err}") from err

    # In threads.

    def _open(self) -> None:
        with self._taking:
            try:
                self._store.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._store.open()
            except OSError as err:
                raise StoreError(err.strerror) from err
            try:
                self._look()
            except StoreBroken:
                self._store.replace()
                self._look()

    def _look(self) -> None:
        """Read the state after the copy was opened."""
        self._summarize()
        self._read_state()

    def _close(self) -> None:
        with self._taking:
            self._store.close()

    def _mending[T](self, work: Callable[[], T]) -> T:
        """Run a function, with an empty index if the present one turns out to be damaged."""
        try:
            return work()
        except StoreBroken:
            self._mend()
            return work()

    def _mend(self) -> None:
        with self._taking:
            # Another thread may have repaired it meanwhile.
            if self._store.broken:
                self._store.replace()
                self._look()

    def _distrust(self) -> None:
        with self._taking, self._store.write() as db:
            distrust(db)

    def _apply(self, payload: bytes) -> Applied:
        page = read(payload)
        is_summarized = False
        try:
            with self._taking:
                intake, was_complete = self._take(page)
                if page.head.last or time.monotonic() > self._next_summary:
                    self._summarize()
                    is_summarized = bool(intake)
                self._read_state()
        except StoreBroken:
            # The rest of the transfer builds on what is gone.
            self._mend()
            raise
        changed = intake.changed
        return Applied(
            new=tuple(
                (item_id(*row), title) for row, title in intake.added[:MAX_NEW_ITEMS]
            )
            if was_complete
            else (),
            count_new=len(intake.added) if was_complete else 0,
            changed_ids=None
            if intake.shares_changed or len(changed) > MAX_NAMED_ITEMS
            else tuple(sorted({item_id(*row) for row in changed})),
            done=page.head.last,
            work=page.size
            + intake.written
            + REMOVAL * max(0, -intake.growth)
            + SUMMARY * (self._items if is_summarized else 0),
        )

    def _take(self, page: Page) -> tuple[CatalogueReceiver, bool]:
        """Write a page. Return what changed, and whether the whole catalogue had arrived before."""
        with self._store.write() as db:
            was_complete = _state(db, "complete") is not None
            intake = take(db, page, self._begun)
            if self._items + intake.growth > MAX_ITEMS:
                raise BadCatalogue("it has too many items")
            if _size(db) > MAX_DATABASE:
                raise BadCatalogue("it takes too much disk space")
            if intake:
                raise_revision(db)
            if page.head.last:
                _note(db, "complete", 1)
        self._items += intake.growth
        if self._uncounted is not None:
            self._uncounted |= intake.folders
            if intake.folders_lost or len(self._uncounted) > MAX_UNCOUNTED:
                self._uncounted = None
        return intake, was_complete

    def _summarize(self) -> None:
        """Update lists and counts."""
        begun = time.monotonic()
        with self._store.read() as db:
            stale = [
                share
                for (share,) in db.execute(
                    "SELECT share FROM remote_shares WHERE stale"
                )
            ]
        for share in stale:
            refresh(self._store, share, self._uncounted)
            with self._store.write() as db:
                db.execute(
                    """
                    DELETE FROM folders WHERE share = ? AND parent IS NOT NULL
                        AND NOT EXISTS (SELECT 1 FROM folder_kinds WHERE folder = number)
                    """,
                    (share,),
                )
                db.execute(
                    "UPDATE remote_shares SET stale = 0 WHERE share = ?", (share,)
                )
        self._uncounted = set()
        ended = time.monotonic()
        pause = max(SUMMARY_SECONDS, _SUMMARY_SHARE * (ended - begun))
        self._next_summary = ended + pause

    def _read_state(self) -> None:
        with self._store.read() as db:
            (self._items,) = db.execute("SELECT count(*) FROM items").fetchone()
            self._revision = _state(db, "revision") or 0
            each = counts(db).values()
        self._counts = Counts(
            video=sum(share.video for share in each),
            music=sum(share.music for share in each),
            photo=sum(share.photo for share in each),
            size=sum(share.size for share in each),
        )


def homes_in(folder: Path) -> set[str]:
    """Return the homes whose libraries have copies in a folder. Blocks."""
    try:
        found = [path.name.partition(".db")[0] for path in folder.glob("*.db*")]
    except OSError:
        return set()
    return {name for name in found if is_home(name)}


def _shares(
    db: sqlite3.Connection, *, online: bool
) -> tuple[list[ShareConfig], Collection[str]]:
    """Return the shares in the owner's order, and the ids of those whose files can be reached now."""
    configured, available = [], set()
    for id_, name, kinds, is_available in db.execute(
        "SELECT id, name, kinds, available FROM shares JOIN remote_shares ON share = number ORDER BY position"
    ):
        its = tuple(kind for kind in Kind if kinds >> NUMBERS[kind] & 1)
        configured.append(ShareConfig(id=id_, path="", name=name, kinds=its))
        if online and is_available:
            available.add(id_)
    return configured, available


def _has_tables(db: sqlite3.Connection) -> bool:
    return (
        db.execute(
            "SELECT 1 FROM sqlite_schema WHERE name = 'remote_shares'"
        ).fetchone()
        is not None
    )


def _state(db: sqlite3.Connection, key: str) -> int | None:
    found = db.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
    return None if found is None else int(found[0])


def _note(db: sqlite3.Connection, key: str, value: int) -> None:
    db.execute("INSERT OR REPLACE INTO state (key, value) VALUES (?, ?)", (key, value))


def _size(db: sqlite3.Connection) -> int:
    """Return the bytes that the database uses."""
    pages, unused, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - unused) * size)
