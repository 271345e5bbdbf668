"""The shares at work: which there are by the configuration, and what is done to the index when one comes or goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
import os

from ..core import paths
from ..core.errors import EngineError, NotFound, Unavailable
from ..models import Counts, EngineConfig, Problem, ProblemKey, ShareConfig, ShareStatus
from .aggregates import count_groups, refresh, remove_share
from .changes import SHOWN, SHOWN_AS, Row, forget
from .files import Located, stat_all, stat_beside
from .ids import item_id
from .index import Index
from .migrations import NUMBERS
from .picture_cache import PictureCache
from .reading import DISK_TIMEOUT
from .search_index import renew_words
from .share import Share
from .store import raise_revision
from .watch import limit_value

_BATCH = 5000
"""Items that are changed or removed in one transaction."""
_NO_SHARE = "the shared folder is not available at present"
_NO_ANSWER = "the disk does not answer"


class Shares:
    """All shares of the library."""

    def __init__(
        self,
        index: Index,
        pictures: PictureCache,
        *,
        on_change: Callable[[], None],
        on_items: Callable[[Iterable[Row]], None],
    ) -> None:
        """Prepare to work without any share.

        `on_change` is called when the state of a share changed, `on_items` with items that changed or went away.
        """
        self.config = EngineConfig(home_name="")
        self._index = index
        self._pictures = pictures
        self._on_change = on_change
        self._on_items = on_items
        self._at_work: dict[str, Share] = {}

    async def apply(self, config: EngineConfig) -> None:
        """Work with the shares of a configuration. A share that is the same in it goes on undisturbed. Raises StoreError."""
        before, self.config = self.config, config
        wanted = {share.id: share for share in config.shares}
        gone = await self._index.run(self._not_in, wanted)
        stopped = [
            share
            for id_, share in self._at_work.items()
            if id_ not in wanted or _differs(share.config, wanted[id_])
        ]
        await asyncio.gather(*(share.stop() for share in stopped))
        for share in stopped:
            del self._at_work[share.config.id]
        for number in gone:
            await self._index.run(self._remove, number)
        for each in config.shares:
            if (kept := self._at_work.get(each.id)) is not None:
                kept.config = each
                kept.rescan_interval = config.rescan_interval
            else:
                await self._add(each)
        if before != config:
            await self._index.raise_revision()

    async def begin_again(self) -> None:
        """Put all shares to work with an index that is new. Raises StoreError."""
        for share in self.config.shares:
            await self._add(share)

    async def stop(self) -> None:
        """End the work of all shares."""
        await asyncio.gather(*(share.stop() for share in self._at_work.values()))
        self._at_work.clear()

    def rescan(self, share: str | None) -> None:
        """Scan a share, or all, as soon as possible. Raises NotFound."""
        if share is not None and share not in self._at_work:
            raise NotFound("there is no such share")
        for id_, each in self._at_work.items():
            if share in (None, id_):
                each.rescan()

    # State.

    def get(self, id_: str) -> Share | None:
        """Return a share at work."""
        return self._at_work.get(id_)

    @property
    def all(self) -> list[Share]:
        """The shares at work, in the order of the configuration."""
        return [
            self._at_work[share.id]
            for share in self.config.shares
            if share.id in self._at_work
        ]

    @property
    def statuses(self) -> tuple[ShareStatus, ...]:
        """The state of each share, in the order of the configuration."""
        return tuple(
            ShareStatus(
                id=share.config.id,
                available=share.available,
                scanning=share.scanning,
                counts=share.counts,
                last_scan=share.last_scan,
            )
            for share in self.all
        )

    @property
    def problems(self) -> list[Problem]:
        """Lasting faults."""
        found = [
            Problem(
                key=share.problem,
                share=share.config.id,
                placeholders={"name": share.config.name, "path": share.config.path},
            )
            for share in self.all
            if share.problem is not None
        ]
        if limits := {share.limited_by for share in self.all} - {None}:
            setting = str(min(map(str, limits)))
            found.append(
                Problem(
                    key=ProblemKey.INOTIFY_LIMIT,
                    placeholders={"setting": setting, "limit": limit_value(setting)},
                )
            )
        return found

    @property
    def counts(self) -> Counts:
        """How many items there are in all shares."""
        each = [share.counts for share in self._at_work.values()]
        return Counts(
            video=sum(counts.video for counts in each),
            music=sum(counts.music for counts in each),
            photo=sum(counts.photo for counts in each),
            size=sum(counts.size for counts in each),
        )

    def counted(self, counts: Mapping[int, Counts]) -> None:
        """Note how many items there are in each share, by its number."""
        for share in list(self._at_work.values()):
            share.counts = counts.get(share.number, Counts())

    @property
    def is_scanning(self) -> bool:
        """Whether a whole share is being scanned."""
        return any(share.scanning for share in self._at_work.values())

    @property
    def scanned(self) -> tuple[int, int] | None:
        """How many items the running scans met, and how many they will probably meet; None if that is not known."""
        scanning = [share for share in self._at_work.values() if share.scanning]
        if any(share.last_scan is None for share in scanning):
            return None
        counts = [share.counts for share in scanning]
        total = sum(each.video + each.music + each.photo for each in counts)
        return sum(share.seen for share in scanning), total

    @property
    def available(self) -> frozenset[str]:
        """The ids of the shares that can be reached at present."""
        return frozenset(id_ for id_, share in self._at_work.items() if share.available)

    @property
    def available_numbers(self) -> set[int]:
        """The same by the numbers that they have in the index."""
        return {share.number for share in self._at_work.values() if share.available}

    @property
    def roots(self) -> dict[int, str]:
        """The real path of each share, by its number."""
        return {share.number: share.root for share in self._at_work.values()}

    def readable(self) -> dict[int, str]:
        """Return the same of those whose files it is time to read."""
        return {
            share.number: share.root
            for share in self._at_work.values()
            if share.readable
        }

    # Their disks.

    async def stat(self, located: Located, name: str) -> os.stat_result:
        """Look at an item's file, or at one beside it. Raises NotFound, Unavailable."""
        for share in self._at_work.values():
            if share.number == located.share:
                break
        else:
            raise NotFound("there is no such item")
        if not share.available:
            raise Unavailable(_NO_SHARE)
        try:
            async with asyncio.timeout(DISK_TIMEOUT):
                return await share.on_disk(stat_beside, located, name)
        except TimeoutError:
            raise Unavailable(_NO_ANSWER) from None
        except OSError as err:
            share.look_at(located.folder)
            if paths.is_absence(err):
                raise NotFound("the file is no longer there") from err
            raise Unavailable(f"the file cannot be reached: {err.strerror}") from err

    async def stat_all(
        self, located: Iterable[Located]
    ) -> dict[str, os.stat_result | OSError | EngineError]:
        """Look at many items' files, and return what was found of each by its id."""
        by_share: dict[int, list[Located]] = {}
        for each in located:
            by_share.setdefault(each.share, []).append(each)
        looks = (self._stat_in(number, each) for number, each in by_share.items())
        found = await asyncio.gather(*looks)
        return dict(chain.from_iterable(each.items() for each in found))

    async def _stat_in(
        self, number: int, located: list[Located]
    ) -> Mapping[str, os.stat_result | OSError | EngineError]:
        names = [each.id for each in located]
        share = next((each for each in self.all if each.number == number), None)
        if share is None or not share.available:
            return dict.fromkeys(names, Unavailable(_NO_SHARE))
        try:
            async with asyncio.timeout(DISK_TIMEOUT):
                return await share.on_disk(stat_all, share.root, located)
        except TimeoutError:
            return dict.fromkeys(names, Unavailable(_NO_ANSWER))

    # What is written when one comes or goes.

    async def _add(self, config: ShareConfig) -> None:
        """Put a share to work."""
        number, scanned = await self._index.run(self._register, config)
        share = Share(
            config,
            number,
            self._index.store,
            rescan_interval=self.config.rescan_interval,
            on_change=self._on_change,
            on_items=self._on_items,
            on_purge=self._purged,
        )
        share.last_scan = scanned
        self._at_work[config.id] = share
        share.start()

    def _purged(self, rows: list[Row]) -> None:
        ids = [item_id(*each) for each in rows]
        self._index.submit(lambda: self._pictures.remove(ids))

    def _not_in(self, wanted: Collection[str]) -> list[int]:
        """Return the numbers of the shares in the index that are not wanted."""
        with self._index.store.read() as db:
            return [
                number
                for number, share in db.execute("SELECT number, id FROM shares")
                if share not in wanted
            ]

    def _remove(self, number: int) -> None:
        """Remove a share with all its items."""
        while True:
            with self._index.store.write() as db:
                found = db.execute(
                    "SELECT row, nonce FROM items WHERE folder IN (SELECT number FROM folders WHERE share = ?) LIMIT ?",
                    (number, _BATCH),
                ).fetchall()
                forget(db, found)
                if not found:
                    count_groups(db)
                    remove_share(db, number)
                    raise_revision(db)
                    return
            self._pictures.remove(item_id(*each) for each in found)

    def _register(self, share: ShareConfig) -> tuple[int, float | None]:
        """Note a share in the index; return its number there, and when it was last scanned."""
        kinds = sum(1 << NUMBERS[kind] for kind in set(share.kinds))
        with self._index.store.write() as db:
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
        refresh(self._index.store, number)
        return number, scanned

    def _show_again(self, number: int) -> bool:
        """Let some items follow the kinds of their share; return whether there were any."""
        with self._index.store.write() as db:
            rows = [
                row
                for (row,) in db.execute(
                    f"SELECT row FROM items WHERE share = ? AND shown IS NOT {SHOWN_AS} LIMIT ?",
                    (number, _BATCH),
                )
            ]
            db.executemany(
                f"UPDATE items SET {SHOWN} WHERE row = ?", ((row,) for row in rows)
            )
            renew_words(db, rows)
        return bool(rows)


def _differs(before: ShareConfig, now: ShareConfig) -> bool:
    """Tell whether a share has to be scanned afresh."""
    return (before.path, set(before.kinds)) != (now.path, set(now.kinds))
