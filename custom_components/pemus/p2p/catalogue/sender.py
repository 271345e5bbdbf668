"""The owner's side of the catalogue: sends another home what changed in the shares that it may see.

Each share is sent separately: as a whole to a home that does not know it, and otherwise what the change log has after the
checkpoint that the home knows. The owner does not remember what it has sent to whom.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, replace
import sqlite3
from typing import Any, Final

import orjson

from ..core.errors import BadRequest, Unavailable
from ..core.sanitize import shown
from ..core.sqlite import StoreError
from ..core.threads import in_daemon
from ..library.aggregates import PICTURED
from ..library.migrations import KINDS, MUSIC, PHOTO
from ..library.store import Store
from ..models import Kind, ShareConfig
from .changelog import LISTED, has, is_usable, latest, up_to_date
from .checks import (
    FACTS,
    MAX_ADDED,
    MAX_NAME,
    MAX_ROW,
    MAX_SUBTITLES,
    MAX_TEXT,
    is_language,
    is_text,
)
from .wire import (
    BEFORE_ALL,
    FORMAT,
    MAX_DEPTH,
    MAX_SHARES,
    Checkpoint,
    Known,
    can_be_sent,
    pack,
    read_have,
)

_PAGE: Final = 2000
"""Items of a page. They are read in one transaction, and writers of the index wait meanwhile."""

_WHOLE: Final = """
    SELECT row, row FROM changes WHERE share = ? AND row > ? AND NOT gone ORDER BY row LIMIT ?
"""
_CHANGES: Final = """
    SELECT sequence, row FROM changes WHERE share = ? AND sequence > ? ORDER BY sequence LIMIT ?
"""
_COLUMNS: Final = (
    "row", "nonce", "folder", "name", "shown", "size", "mtime_ns", "inode", "added", "facts", "month", "moment",
    "artist_key", "artist_name", "album_key", "album_name", "album_by", "album_position",
)  # fmt: skip
_ITEMS: Final = f"""
    SELECT {", ".join(_COLUMNS)}, {PICTURED} IS NOT NULL
    FROM items WHERE row IN (SELECT value FROM json_each(?)) AND share = ? AND {LISTED}
"""

type _Plain = dict[str, Any]
"""A part of a page, as it goes into JSON."""
type _Chain = tuple[_Plain, ...]
"""A folder, preceded by the folders that it lies in, from the root on."""


@dataclass(slots=True)
class _Progress:
    """How far the other home knows a share."""

    share: int
    sequence: int
    row: int | None
    """The last row that it knows, while the share is sent as a whole."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one page has of a share."""

    share: int
    whole: bool
    after: int
    until: int
    changes: Sequence[tuple[int, int, _Plain | None]]
    """For each item its position between `after` and `until`, its row, and the item, None if it is no longer listed."""
    chains: dict[int, _Chain]

    @property
    def folders(self) -> dict[int, _Plain]:
        """The folders of its items, each preceded by those that it lies in."""
        inner = dict.fromkeys(item["folder"] for *_, item in self.changes if item)
        return {
            folder["number"]: folder
            for number in inner
            for folder in self.chains[number]
        }

    @property
    def plain(self) -> _Plain:
        """The part as it goes into a page."""
        plain: _Plain = {"share": self.share, "after": self.after, "until": self.until}
        if self.whole:
            plain["whole"] = True
        if items := [item for *_, item in self.changes if item]:
            plain["items"] = items
        if gone := [row for _, row, item in self.changes if not item]:
            plain["gone"] = gone
        return plain

    def halves(self) -> tuple[_Part, _Part]:
        """Return the two halves of the part."""
        middle = len(self.changes) // 2
        border, *_ = self.changes[middle - 1]
        return (
            replace(self, until=border, changes=self.changes[:middle]),
            replace(self, after=border, changes=self.changes[middle:]),
        )


@dataclass(slots=True)
class _Transfer:
    """What is still to be sent to another home."""

    begun: Checkpoint
    todo: list[_Progress]
    """The next one last."""
    header: _Plain | None
    """The content of the first page only; None once that is packed."""
    roots: dict[int, _Plain]


class Catalogue:
    """Makes the catalogues of a library: one for each set of shares that a home may see."""

    def __init__(
        self,
        store: Store,
        *,
        shares: Callable[[], Sequence[ShareConfig]],
        available: Callable[[], Collection[str]],
        on_fault: Callable[[], None],
    ) -> None:
        """Prepare to send from an index.

        `shares` are the configured ones in the order to show, `available` the ids of those that can be reached now,
        and `on_fault` is called when the index could not be read.
        """
        self._store = store
        self._shares = shares
        self._available = available
        self._on_fault = on_fault

    async def pages(self, shares: Collection[str], have: str) -> AsyncIterator[bytes]:
        """Yield pages for a home that may see `shares` (ids) and knows `have` (see `RemoteLibrary.have`).

        There is at least one page. Changes during the transfer are sent in a later page or with the next transfer.

        Raises:
            BadRequest: `have` is malformed.
            Unavailable: the index cannot be read now.

        """
        try:
            known = read_have(have)
        except ValueError as err:
            raise BadRequest(str(err)) from None
        granted = [each for each in self._shares() if each.kinds and each.id in shares]
        available = frozenset(self._available())
        transfer = await self._ask(self._begin, granted[:MAX_SHARES], available, known)
        while transfer.header or transfer.todo:
            for page in await self._ask(self._next, transfer):
                yield page

    async def _ask[**P, T](
        self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            return await in_daemon(question, *args, **kwargs)
        except StoreError as err:
            self._on_fault()
            raise Unavailable(f"the index cannot be read: {err}") from err

    def _begin(
        self,
        granted: Sequence[ShareConfig],
        available: Collection[str],
        have: dict[int, Known],
    ) -> _Transfer:
        with up_to_date(self._store) as db:
            numbers = dict(db.execute("SELECT id, number FROM shares").fetchall())
            listed = [share for share in granted if share.id in numbers]
            checkpoint = latest(db)
            todo = []
            for number in sorted((numbers[share.id] for share in listed), reverse=True):
                known = have.get(number)
                if known is None or not is_usable(db, known):
                    todo.append(_Progress(number, 0, BEFORE_ALL))
                elif known.row is not None or known.sequence != checkpoint.sequence:
                    todo.append(_Progress(number, known.sequence, known.row))
            roots = {
                number: {"number": number, "share": share}
                for number, share in db.execute(
                    "SELECT number, share FROM folders WHERE path = ''"
                    f" AND share IN ({','.join(str(numbers[share.id]) for share in listed)})"
                )
            }
        shares = [
            {
                "number": numbers[share.id],
                "id": share.id,
                "name": shown(share.name, MAX_NAME),
                "kinds": sorted(set(share.kinds)),
                "available": share.id in available,
            }
            for share in listed
        ]
        return _Transfer(
            begun=checkpoint, todo=todo, header={"shares": shares}, roots=roots
        )

    def _next(self, transfer: _Transfer) -> list[bytes]:
        """Return the next pages of a transfer."""
        room = _PAGE
        parts = []
        with up_to_date(self._store) as db:
            if not has(db, transfer.begun):
                raise StoreError("it was rebuilt meanwhile")
            checkpoint = latest(db)
            while transfer.todo and room > 0:
                progress = transfer.todo[-1]
                part = _read(db, progress, checkpoint, room)
                parts.append(part)
                room -= len(part.changes)
                if progress.row is None and progress.sequence == checkpoint.sequence:
                    transfer.todo.pop()
        pages = _packed(
            {"format": FORMAT, "checkpoint": checkpoint, **(transfer.header or {})},
            transfer.roots,
            parts,
            last=not transfer.todo,
        )
        transfer.header, transfer.roots = None, {}
        return pages


def _read(
    db: sqlite3.Connection, progress: _Progress, checkpoint: Checkpoint, room: int
) -> _Part:
    """Return the next part of a share with at most `room` items, and note how far the share is sent then."""
    share, row = progress.share, progress.row
    after = progress.sequence if row is None else row
    found = db.execute(
        _CHANGES if row is None else _WHOLE, (share, after, room)
    ).fetchall()
    is_cut = len(found) == room
    if row is None:
        progress.sequence = until = found[-1][0] if is_cut else checkpoint.sequence
    else:
        until = found[-1][0] if is_cut else MAX_ROW
        progress.row = until if is_cut else None
        if row == BEFORE_ALL:
            progress.sequence = checkpoint.sequence
    rows = orjson.dumps([each for _, each in found]).decode()
    items = [
        (dict(zip(_COLUMNS, columns, strict=True)), bool(pictured))
        for *columns, pictured in db.execute(_ITEMS, (rows, share))
    ]
    chains = _chains(db, {columns["folder"] for columns, _ in items})
    subtitles = _subtitles(db, rows)
    told: dict[int, _Plain] = {}
    for columns, pictured in items:
        if columns["folder"] in chains:
            number = columns["row"]
            entry = told[number] = _entry(columns, pictured)
            if entry["kind"] is Kind.VIDEO and number in subtitles:
                entry["subtitles"] = subtitles[number][:MAX_SUBTITLES]
    changes = [
        (position, number, told.get(number))
        for position, number in found
        if row is None or number in told
    ]
    return _Part(share, row is not None, after, until, changes, chains)


def _chains(db: sqlite3.Connection, folders: Collection[int]) -> dict[int, _Chain]:
    """Return the chains of folders, except those that are nested too deeply to be sent."""
    found = {
        number: (parent, share, shown(name, MAX_NAME))
        for number, parent, share, name in db.execute(
            f"""
            WITH RECURSIVE up (number, parent, share, name) AS (
                SELECT number, parent, share, name FROM folders WHERE number IN ({",".join(map(str, folders))})
                UNION
                SELECT folders.number, folders.parent, folders.share, folders.name
                FROM up JOIN folders ON folders.number = up.parent
            )
            SELECT number, parent, share, name FROM up
            """
        )
    }
    chains: dict[int, _Chain] = {}
    for folder in folders:
        chain: list[_Plain] = []
        names: list[str] = []
        at: int | None = folder
        while at is not None and len(names) <= MAX_DEPTH:
            parent, share, name = found[at]
            if parent is None:
                chain.append({"number": at, "share": share})
            else:
                chain.append({"number": at, "parent": parent, "name": name})
                names.append(name)
            at = parent
        if at is None and can_be_sent("/".join(names), len(names)):
            chains[folder] = tuple(reversed(chain))
    return chains


def _subtitles(db: sqlite3.Connection, rows: str) -> dict[int, list[_Plain]]:
    """Return the subtitle files of items, by row."""
    found: dict[int, list[_Plain]] = {}
    for row, name, size, mtime_ns, language in db.execute(
        "SELECT item, name, size, mtime_ns, language FROM subtitles"
        " WHERE item IN (SELECT value FROM json_each(?)) ORDER BY item, position",
        (rows,),
    ):
        plain = {"name": shown(name, MAX_NAME), "size": size, "mtime_ns": mtime_ns}
        if language and is_language(language):
            plain["language"] = language
        found.setdefault(row, []).append(plain)
    return found


def _entry(columns: _Plain, pictured: bool) -> _Plain:
    """Return an item as it is sent (see `checks.ENTRY`), without what is not known."""
    kind = columns["shown"]
    entry: _Plain = {
        "row": columns["row"],
        "nonce": columns["nonce"].hex(),
        "folder": columns["folder"],
        "kind": KINDS[kind],
        "name": shown(columns["name"], MAX_NAME),
        "size": columns["size"],
        "mtime_ns": columns["mtime_ns"],
        "inode": columns["inode"],
        "added": min(max(columns["added"], -MAX_ADDED), MAX_ADDED),
    }
    if pictured:
        entry["pictured"] = True
    if columns["facts"] and (told := _facts(orjson.loads(columns["facts"]))):
        entry["facts"] = told
    if kind == PHOTO and columns["month"] is not None:
        entry["month"], entry["moment"] = columns["month"], columns["moment"]
    if kind == MUSIC and columns["artist_key"] is not None:
        names = {
            name: columns[name] and shown(columns[name], MAX_TEXT)
            for name in ("artist_name", "album_name", "album_by")
        }
        keys = {name: columns[name] for name in ("artist_key", "album_key")}
        entry["group"] = {**keys, **names, "position": columns["album_position"]}
    return entry


def _facts(known: dict[str, Any]) -> _Plain:
    """Return the facts of an item that are sent, without those that the receiver would not accept."""
    told = {}
    for name, value in known.items():
        check = FACTS.get(name)
        if check is is_text:
            told[name] = shown(value, MAX_TEXT)
        elif check is not None and check(value):
            told[name] = value
    return told


def _packed(
    head: _Plain, folders: dict[int, _Plain], parts: Sequence[_Part], *, last: bool
) -> list[bytes]:
    """Return parts in as many pages as are needed for none to be too large."""
    all_folders = dict(folders)
    for part in parts:
        all_folders |= part.folders
    page = pack(
        {
            **head,
            "folders": list(all_folders.values()),
            "parts": [part.plain for part in parts],
            "last": last,
        }
    )
    if page is not None:
        return [page]
    if len(parts) > 1:
        first, second = parts[: len(parts) // 2], parts[len(parts) // 2 :]
    else:
        first, second = ([half] for half in parts[0].halves())
    rest = {name: value for name, value in head.items() if name != "shares"}
    return [
        *_packed(head, folders, first, last=False),
        *_packed(rest, {}, second, last=last),
    ]
