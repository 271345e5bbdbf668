"""Finds the file of an item on disk, now, and without leaving its share."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
import os
import sqlite3
from typing import ClassVar

from ..core import paths
from ..core.opening import OtherFile, open_described
from ..core.sqlite import fit
from ..media.covers import folder_cover
from ..media.source import Opened
from ..models import Kind, Listed, LocalFile, entity_tag
from .ids import item_id, parse_item_id
from .migrations import KINDS


@dataclass(frozen=True, slots=True)
class Located:
    """An item with all that is needed to reach its file."""

    COLUMNS: ClassVar[str] = """
        items.row, items.nonce, items.share, folders.path, items.name, items.size, items.mtime_ns, items.inode,
        coalesce(items.content_kind, items.kind)
        FROM items JOIN folders ON folders.number = items.folder
    """

    root: str
    """Real path of the share's root."""
    row: int
    nonce: bytes
    share: int
    folder: str
    name: str
    size: int
    mtime_ns: int
    inode: int
    kind: Kind

    @classmethod
    def of(
        cls,
        root: str,
        row: int,
        nonce: bytes,
        share: int,
        folder: str,
        name: str,
        size: int,
        mtime_ns: int,
        inode: int,
        kind: int,
    ) -> Located:
        """Make one out of a row of COLUMNS."""
        return cls(
            root, row, nonce, share, folder, name, size, mtime_ns, inode, KINDS[kind]
        )

    @property
    def id(self) -> str:
        """The item's id."""
        return item_id(self.row, self.nonce)

    @property
    def path(self) -> str:
        """The path of its file."""
        return paths.join(self.root, self.folder, self.name)

    def described(self, content_type: str, found: os.stat_result) -> LocalFile:
        """Describe its file as it was found."""
        return LocalFile.of(self.path, self.name, content_type, found, root=self.root)

    @property
    def etag(self) -> str:
        """The entity tag of the version that the index knows."""
        return entity_tag(self.size, self.mtime_ns, self.inode % 2**64)


def listed(
    db: sqlite3.Connection, after: int, limit: int, shares: Collection[int]
) -> tuple[list[Listed], int | None]:
    """Return listed files of some shares in the order of their rows, from behind the row `after` on.

    The second part of the answer is where to go on, None at the end.
    """
    rows = db.execute(
        "SELECT row, nonce, share, size, mtime_ns, inode FROM items WHERE row > ? AND shown IS NOT NULL ORDER BY row LIMIT ?",
        (after, limit),
    ).fetchall()
    found = [
        Listed(item_id(row, nonce), size, mtime_ns, inode % 2**64)
        for row, nonce, share, size, mtime_ns, inode in rows
        if share in shares
    ]
    return found, rows[-1][0] if len(rows) == limit else None


def locate(db: sqlite3.Connection, item: str, roots: dict[int, str]) -> Located | None:
    """Return the item of that id if it is listed and its share is among `roots`."""
    parsed = parse_item_id(item)
    if parsed is None:
        return None
    found = db.execute(
        f"SELECT {Located.COLUMNS} WHERE items.row = ? AND items.nonce = ? AND items.shown IS NOT NULL",
        parsed,
    ).fetchone()
    if found is None or found[2] not in roots:
        return None
    return Located.of(roots[found[2]], *found)


@dataclass(frozen=True, slots=True)
class ItemSource:
    """An item's file, as it is opened for the reader if it is the version that the index knows."""

    item: Located
    cover: bool
    """Whether the cover in its folder is opened along."""

    @property
    def path(self) -> str:
        """Its path, for the log."""
        return self.item.path

    def open(self) -> Opened:
        """Open it. Raises OtherFile and OSError."""
        item = self.item
        with (
            paths.opened_root(item.root) as root,
            paths.opened_folder(root, item.folder) as folder,
        ):
            file = paths.open_in(folder, item.name)
            with paths.closed_on_error(file):
                if not is_same(item, os.fstat(file)):
                    raise OtherFile
                return Opened(file, _opened_cover(folder) if self.cover else None)


def _opened_cover(folder: int) -> int | None:
    """Open the cover in an open folder, if there is one that can be opened."""
    with suppress(OSError):
        if (name := folder_cover(folder)) is not None:
            return paths.open_in(folder, name)
    return None


@dataclass(frozen=True, slots=True)
class DescribedSource:
    """A file that was described, as it is opened for the reader."""

    file: LocalFile

    @property
    def path(self) -> str:
        """Its path, for the log."""
        return self.file.path

    def open(self) -> Opened:
        """Open it. Raises OtherFile and OSError."""
        return Opened(open_described(self.file))


def stat_beside(item: Located, name: str) -> os.stat_result:
    """Return the facts of an item's file, or of one in the same folder, as it is now. Raises OSError."""
    with paths.opened_root(item.root) as root:
        return paths.stat_file(root, item.folder, name)


def stat_all(
    root: str, located: Iterable[Located]
) -> dict[str, os.stat_result | OSError]:
    """Return the facts of the files of items of one share as they are now, or why they cannot be had, by the items' ids."""
    answers: dict[str, os.stat_result | OSError] = {}
    try:
        with paths.opened_root(root) as opened:
            for each in located:
                try:
                    answers[each.id] = paths.stat_file(opened, each.folder, each.name)
                except OSError as err:
                    answers[each.id] = err
    except OSError as err:
        for each in located:
            answers.setdefault(each.id, err)
    return answers


def is_as_known(item: Located) -> bool:
    """Tell whether an item's file is there, and is what the index says."""
    try:
        found = stat_beside(item, item.name)
    except OSError:
        return False
    return is_same(item, found)


def is_same(item: Located, found: os.stat_result) -> bool:
    """Tell whether a file is what the index says."""
    return (
        found.st_size == item.size
        and fit(found.st_mtime_ns) == item.mtime_ns
        and fit(found.st_ino) == item.inode
    )
