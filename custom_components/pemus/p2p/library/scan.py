"""Walks a share and finds what is different from the index: names, sizes and times, without opening a file.

A scan compares folder by folder, so it needs little memory however large the share. It runs in a thread of its own,
because a network disk that hangs would hang it too, and ends soon after it is told to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2s
import logging
import os
import sqlite3
import stat
import threading
import time

import orjson

from ..core import paths
from ..core.sqlite import fit
from ..media.types import EXTENSIONS, SUBTITLE_EXTENSIONS
from ..models import Kind
from .changes import Folder, Row, ScanChanges, forget
from .migrations import FACTS, NUMBERS
from .moves import File, MoveDetection
from .names import LITTER
from .sidecars import Sidecar, signature
from .store import Store, raise_revision

SETTLE = 2.0
"""Seconds that a new or changed file must have been left alone before it is taken: it may still be copied."""
BATCH = 10_000
"""Differences that are written in one transaction at most, and ..."""
BATCH_SECONDS = 2.0
"""... how long they wait at most, so that a slow disk's files show up one by one."""

_RECHECK = 0.1
_MAX_INTEGER = 2**63 - 1
_LOGGER = logging.getLogger(__name__)


class RootUnavailable(Exception):
    """The root of the share is not there, or is not what it was. The message says why."""


class Stopped(Exception):
    """The scan was told to end. What it wrote so far is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is scanned."""

    number: int
    """The share's number in the index."""
    path: str
    """The real path of the root: no link in it is followed."""
    kinds: tuple[Kind, ...]


@dataclass(slots=True)
class Outcome:
    """What came of a scan."""

    items: int = 0
    """Media files that were seen."""
    unsettled: dict[str, float] = field(default_factory=dict)
    """Folders to look at again, and when."""
    folders_changed: bool = False
    """Whether there are other folders than before."""
    differs: bool = False
    """Whether anything in the index changed."""
    purged: list[Row] = field(default_factory=list)
    """Items that were forgotten."""


type _Facts = tuple[str, int, int, int, int]
"""Name, size, time of change in nanoseconds, inode and kind: a file that has the same is the same."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder, as the index knows it if it does."""

    number: int
    path: str
    known: bool = False
    device: int | None = None
    inode: int | None = None
    sidecars: str = ""
    listing: bytes | None = None
    gone: bool = False


_PLACE = "number, path, 1, device, inode, sidecars, listing, gone"


@dataclass(slots=True)
class _Listing:
    """What is in a folder, as far as it matters here."""

    empty: bool = True
    files: list[_Facts] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    sidecars: list[Sidecar] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    """Names of which nothing can be said."""


class Scan:
    """One scan of a share. Use it once, in one thread."""

    def __init__(
        self,
        store: Store,
        ground: Ground,
        *,
        faults: set[str] | None = None,
        arrivals: MoveDetection | None = None,
        stop: threading.Event | None = None,
        progress: Callable[[int], None] = lambda seen: None,
        touched: Callable[[list[Row]], None] = lambda items: None,
    ) -> None:
        """Prepare a scan.

        `faults`, the paths that could not be read and were logged, and `arrivals` are kept from scan to scan.
        `progress` is told how many items were seen, and `touched` which ones changed or went away, both in the scan's
        thread.
        """
        self._store = store
        self._ground = ground
        self._faults = set() if faults is None else faults
        self._arrivals = MoveDetection() if arrivals is None else arrivals
        self._stop = stop or threading.Event()
        self._progress = progress
        self._touched = touched
        self._outcome = Outcome()
        self._kinds = {
            extension: NUMBERS[kind]
            for extension, (kind, _) in EXTENSIONS.items()
            if kind in ground.kinds
        }
        self._subtitles: Iterable[str] = (
            SUBTITLE_EXTENSIONS if Kind.VIDEO in ground.kinds else ()
        )
        self._written = time.monotonic()
        self._whole = True
        self._changes: ScanChanges
        self._db: sqlite3.Connection
        self._root: int
        self._root_device: int | None

    def everything(self) -> Outcome:
        """Scan the whole share, and forget what stayed missing since the scan before.

        Raises:
            RootUnavailable: nothing was changed.
            Stopped: it was told to end.
            StoreError: the index cannot be written.

        """
        return self._run([""], deep=True)

    def folders(self, folders: Iterable[str]) -> Outcome:
        """Scan some folders without those below them, except new ones, which are scanned in full. Raises as above."""
        return self._run(sorted(set(folders)), deep=False)

    def _run(self, folders: list[str], *, deep: bool) -> Outcome:
        try:
            with (
                paths.opened_root(self._ground.path) as self._root,
                self._store.watch() as self._db,
            ):
                self._begin()
                for place in {self._place(folder) for folder in folders}:
                    self._walk(place, deep=deep)
                self._end(deep=deep)
        except OSError as err:
            raise RootUnavailable(err.strerror or str(err)) from err
        return self._outcome

    def _begin(self) -> None:
        number = self._ground.number
        scanned, known, self._root_device = self._db.execute(
            "SELECT scanned, EXISTS (SELECT 1 FROM items JOIN folders ON folders.number = items.folder"
            " WHERE folders.share = shares.number),"
            " (SELECT device FROM folders WHERE folders.share = shares.number AND path = '')"
            " FROM shares WHERE number = ?",
            (number,),
        ).fetchone()
        self._changes = ScanChanges(
            share=number,
            now=time.time(),
            first=scanned is None,
            known=bool(known),
            arrivals=self._arrivals,
        )

    def _end(self, *, deep: bool) -> None:
        self._write()
        changes = self._changes
        with self._store.write() as db:
            changes.reconcile(db)
            if deep:
                # What could not be read when it was its turn may be readable now.
                db.execute(
                    f"UPDATE items SET todo = {FACTS} WHERE share = ? AND level IS NULL AND todo IS NULL AND gone IS NULL"
                    " AND row <= (SELECT worded FROM shares WHERE number = items.share)",
                    (self._ground.number,),
                )
                if self._whole:
                    self._outcome.purged = purge(db, self._ground.number, changes.now)
                db.execute(
                    "UPDATE shares SET scanned = ? WHERE number = ?",
                    (time.time(), self._ground.number),
                )
        self._tell()
        self._outcome.differs = changes.differs

    def _walk(self, start: _Place, *, deep: bool) -> None:
        """Scan a folder, and those below it that are new, or all of them."""
        stack = [start]
        while stack:
            if self._stop.is_set():
                self._write()
                self._tell()
                raise Stopped
            stack += self._folder(stack.pop(), deep=deep)
            if (
                self._changes.size >= BATCH
                or time.monotonic() - self._written > BATCH_SECONDS
            ):
                self._write()
                self._tell()

    def _place(self, folder: str) -> _Place:
        """Return the folder of that path; where it is not known, its parent, whose scan will find it."""
        found = self._db.execute(
            f"SELECT {_PLACE} FROM folders WHERE share = ? AND path = ? AND NOT gone",
            (self._ground.number, folder),
        ).fetchone()
        if found is not None:
            return _Place(*found)
        if folder:
            return self._place(folder.rpartition("/")[0])
        return _Place(self._store.new_folder_number(), "")

    def _folder(self, place: _Place, *, deep: bool) -> list[_Place]:
        """Compare a folder with the index; return which ones to scan next."""
        try:
            with paths.opened_folder(self._root, place.path) as descriptor:
                status = os.fstat(descriptor)
                with os.scandir(descriptor) as entries:
                    # A folder that cannot be read to its end raises here, before anything counts as missing.
                    listing = self._list(place, entries)
        except OSError as err:
            if not place.path:
                raise
            if paths.is_absence(err):
                self._lose(place)
            else:
                self._fault(place.path, err)
            return []
        below = self._known_folders(place)
        identity = (fit(status.st_dev), fit(status.st_ino))
        if listing.empty and self._is_unplugged(place, identity, below):
            if not place.path:
                raise RootUnavailable(
                    "the folder is empty, and not the one it was: its disk is not mounted"
                )
            self._fault(place.path, "it is empty: its disk is not mounted")
            return []
        self._faults.discard(place.path)
        if not place.known and not place.path:
            self._changes.folders.append(Folder(place.number, None, "", "", *identity))
        elif (place.device, place.inode) != identity or place.gone:
            self._changes.identities.append((*identity, place.number))
        self._outcome.items += len(listing.files)
        differs = self._compare(place, listing)
        now = signature(listing.sidecars)
        if now != place.sidecars or (now and differs):
            self._changes.sidecars[place.number] = listing.sidecars
        return self._next(place, listing.folders, below, deep=deep)

    def _is_unplugged(
        self, place: _Place, identity: tuple[int, int], below: list[_Place]
    ) -> bool:
        """Tell whether an empty folder is where a disk was mounted, and not one that was emptied.

        The root must be the very folder it was. One below it counts as a mount point if it was on another disk than
        the root: people do replace folders by empty ones of the same name.
        """
        if place.device is None or (place.device, place.inode) == identity:
            return False
        if place.path and place.device in (self._root_device, identity[0]):
            return False
        return bool(self._known_files(place)) or not all(each.gone for each in below)

    def _list(self, place: _Place, entries: Iterable[os.DirEntry[str]]) -> _Listing:
        """Read what is in a folder. Links and special files count as absent."""
        listing = _Listing()
        files, kinds = listing.files, self._kinds
        for entry in entries:
            name = entry.name
            if name[0] == "." or name in LITTER:
                continue
            listing.empty = False
            dot = name.rfind(".")
            try:
                kind = kinds.get(name[dot + 1 :].lower()) if dot > 0 else None
                if kind is not None:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        size, mtime_ns = status.st_size, status.st_mtime_ns
                        files.append((name, size, mtime_ns, status.st_ino, kind))
                        continue
                if entry.is_dir(follow_symlinks=False):
                    if self._is_usable(place, name):
                        listing.folders.append(name)
                elif dot > 0 and name[dot + 1 :].lower() in self._subtitles:
                    self._add_sidecar(place, entry, listing)
            except FileNotFoundError:
                continue
            except OSError as err:
                listing.unreadable.add(name)
                self._fault(_join(place.path, name), err)
        return listing

    def _add_sidecar(
        self, place: _Place, entry: os.DirEntry[str], listing: _Listing
    ) -> None:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and self._is_usable(place, entry.name):
            listing.sidecars.append(
                Sidecar(entry.name, status.st_size, fit(status.st_mtime_ns))
            )

    def _known_folders(self, place: _Place) -> list[_Place]:
        if not place.known:
            return []
        return [
            _Place(*found)
            for found in self._db.execute(
                f"SELECT {_PLACE} FROM folders WHERE parent = ?", (place.number,)
            )
        ]

    def _known_files(self, place: _Place) -> set[_Facts]:
        if not place.known:
            return set()
        return set(
            self._db.execute(
                "SELECT name, size, mtime_ns, inode, kind FROM items WHERE folder = ? AND gone IS NULL",
                (place.number,),
            )
        )

    def _compare(self, place: _Place, listing: _Listing) -> bool:
        """Note how the files of a folder differ from those in the index; return whether they do.

        Most folders are as they were, and that is told by one signature, without asking the index for each file.
        """
        described = _described(listing)
        if described is not None and described == place.listing:
            return False
        found, known = set(listing.files), self._known_files(place)
        settled = self._note_all(place, found - known, known - found, listing)
        if described is not None and settled:
            self._changes.listings.append((described, place.number))
        return found != known

    def _note_all(
        self,
        place: _Place,
        found: set[_Facts],
        known: set[_Facts],
        listing: _Listing,
    ) -> bool:
        """Note what differs in a folder; return whether all of it can be taken already."""
        rows: dict[str, tuple[int, _Facts, bool]] = {}
        if place.known and (found or known):
            for *facts, row, gone in self._db.execute(
                "SELECT name, size, mtime_ns, inode, kind, row, gone IS NOT NULL FROM items WHERE folder = ?",
                (place.number,),
            ):
                # An item that is gone matters only where none took its place.
                if not gone or facts[0] not in rows:
                    rows[facts[0]] = (row, tuple(facts), bool(gone))
        missing = {name for name, *_ in known} - listing.unreadable
        settled = True
        now = time.time()
        other = [facts for facts in listing.files if facts in found]
        if not rows:
            new, other = self._plainly_new(place, other, now)
            self._changes.new += new
        for facts in other:
            missing.discard(facts[0])
            settled &= self._note(place, facts, rows.get(facts[0]), now)
        self._changes.missing += [rows[name][0] for name in missing]
        return settled

    def _plainly_new(
        self, place: _Place, files: list[_Facts], now: float
    ) -> tuple[list[File], list[_Facts]]:
        """Return the files of a new folder, and those of them that need a closer look."""
        latest = int((now - SETTLE) * 1e9)
        # At most four bytes make a character.
        above = 4 * (len(self._ground.path) + len(place.path) + 2)
        new, other = [], []
        for facts in files:
            name, _, mtime_ns, inode, _ = facts
            if (
                name.isascii()
                and mtime_ns < latest
                and inode <= _MAX_INTEGER
                and above + len(name) < paths.MAX_PATH
            ):
                new.append(tuple.__new__(File, (place.number, *facts)))
            else:
                other.append(facts)
        return new, other

    def _note(
        self,
        place: _Place,
        facts: _Facts,
        before: tuple[int, _Facts, bool] | None,
        now: float,
    ) -> bool:
        """Note a file that is new, changed or back again; return False if it has to settle first."""
        name, size, mtime_ns, inode, kind = facts
        if inode > _MAX_INTEGER or mtime_ns > _MAX_INTEGER:
            inode, mtime_ns = fit(inode), fit(mtime_ns)
            facts = (name, size, mtime_ns, inode, kind)
        if before is not None and before[1] == facts:
            if before[2]:
                self._changes.revived.append(before[0])
            return True
        if before is None and not self._is_usable(place, name):
            return True
        file = File(place.number, name, size, mtime_ns, inode, kind)
        if -SETTLE < now - mtime_ns / 1e9 < SETTLE:
            self._look_again(place.path, file)
            if before is None or before[2]:
                self._changes.unsettled.append((before[0] if before else None, file))
            return False
        if before is None:
            self._changes.new.append(file)
        elif before[2]:
            self._changes.returning.append((before[0], file))
        else:
            self._changes.changed.append((before[0], file))
        return True

    def _look_again(self, folder: str, file: File) -> None:
        due = min(file.mtime_ns / 1e9, time.time()) + SETTLE + _RECHECK
        self._outcome.unsettled[folder] = max(
            due, self._outcome.unsettled.get(folder, due)
        )

    def _is_usable(self, place: _Place, name: str) -> bool:
        """Tell whether a name can be kept and sent: it must be UTF-8, and its path one that can be opened."""
        try:
            length = len(name) if name.isascii() else len(name.encode())
        except UnicodeEncodeError:
            self._fault(_join(place.path, name), "its name is not UTF-8")
            return False
        above = len(place.path.encode()) + len(self._ground.path.encode())
        if above + length + 2 > paths.MAX_PATH:
            self._fault(_join(place.path, name), "its path is too long")
            return False
        return True

    def _next(
        self, place: _Place, present: list[str], known: list[_Place], *, deep: bool
    ) -> list[_Place]:
        """Note which folders came and went; return those to scan."""
        following = []
        missing = {each.path: each for each in known}
        for name in present:
            path = _join(place.path, name)
            before = missing.pop(path, None)
            if before is None:
                number = self._store.new_folder_number()
                self._changes.folders.append(
                    Folder(number, place.number, name, path, None, None)
                )
                following.append(_Place(number, path))
            elif before.gone or deep:
                following.append(before)
            self._outcome.folders_changed |= before is None or before.gone
        for lost in missing.values():
            if not lost.gone:
                self._lose(lost)
        return following

    def _lose(self, place: _Place) -> None:
        self._changes.lost_folders.append(place.path)
        self._outcome.folders_changed = True

    def _fault(self, path: str, reason: OSError | str) -> None:
        """Log once that something cannot be read. It keeps what the index knows of it."""
        self._whole = False
        if path not in self._faults:
            self._faults.add(path)
            if isinstance(reason, OSError):
                reason = reason.strerror or str(reason)
            _LOGGER.warning(
                "%r in %s is left as it is: %s", path, self._ground.path, reason
            )

    def _write(self) -> None:
        self._written = time.monotonic()
        self._progress(self._outcome.items)
        changes = self._changes
        if not changes.size:
            return
        with self._store.write() as db:
            changes.write(db)
        changes.clear()

    def _tell(self) -> None:
        if touched := self._changes.take_touched():
            self._touched(touched)


def purge(db: sqlite3.Connection, share: int, before: float) -> list[Row]:
    """Forget the items of a share that are gone since before a time, and the folders without any; return the items."""
    gone = db.execute(
        "SELECT row, nonce FROM items WHERE share = ? AND gone < ?", (share, before)
    ).fetchall()
    forget(db, gone)
    db.execute(
        """
        DELETE FROM folders WHERE share = ? AND gone
            AND NOT EXISTS (SELECT 1 FROM items WHERE items.folder = folders.number)
            AND NOT EXISTS (
                SELECT 1 FROM folders AS below JOIN items ON items.folder = below.number
                WHERE below.share = folders.share AND below.path > folders.path || '/' AND below.path < folders.path || '0'
            )
        """,
        (share,),
    )
    if gone:
        raise_revision(db)
    return gone


def _described(listing: _Listing) -> bytes | None:
    """Return a signature of all the media files in a folder, None if not all of them can be seen or kept."""
    if listing.unreadable:
        return None
    try:
        return blake2s(orjson.dumps(listing.files), digest_size=12).digest()
    except orjson.JSONEncodeError:
        return None


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
