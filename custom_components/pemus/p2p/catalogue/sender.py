"""The owner's side of the catalogue: tells another home what has changed in the shares that it may see.

To compare whole libraries would take as long as to tell them. So a digest of each bucket is kept in memory, for each
share by itself, as every friend may see other shares. Which digests hold no longer is noted by the database, with
triggers that live as long as its connection: whatever is written to an item, by whichever part of the engine, counts.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from hashlib import blake2b
import logging
from operator import itemgetter
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
from .wire import (
    BUCKET,
    DIGEST_SIZE,
    FORMAT,
    MAX_ADDED,
    MAX_BUCKETS,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_NAME,
    MAX_SHARES,
    MAX_SIZE,
    MAX_SUBTITLES,
    MAX_TEXT,
    bucket_rows,
    is_language,
    is_told,
    pack,
    read_have,
    told_facts,
)

_TOGETHER: Final = 4
"""Buckets that are read in one go. Who wants to write to the index waits meanwhile."""
_PAGE: Final = 640 * 1024
"""Bytes of JSON that make a page: compressed they mostly are much less than a page may have."""

_TRACKING: Final = (
    "CREATE TEMP TABLE stale_buckets (number INTEGER PRIMARY KEY)",
    f"INSERT INTO stale_buckets SELECT DISTINCT row / {BUCKET} FROM items",
    *(
        f"""
        CREATE TEMP TRIGGER {table}_stale_{number} AFTER {event} ON main.{table}
        BEGIN
            INSERT OR IGNORE INTO stale_buckets VALUES ({row} / {BUCKET});
        END
        """
        for table, column in (("items", "row"), ("subtitles", "item"))
        for number, (event, row) in enumerate(
            (
                ("INSERT", f"new.{column}"),
                ("UPDATE", f"new.{column}"),
                ("DELETE", f"old.{column}"),
            )
        )
    ),
)
"""Has the database note in which buckets something changes, as long as the connection lasts that writes to it."""

_ITEMS: Final = f"""
    SELECT row, nonce, share, folder, name, shown, size, mtime_ns, inode, added, {PICTURED} IS NOT NULL, facts,
        month, moment, artist_key, artist_name, album_key, album_name, album_by, album_position
    FROM items WHERE row BETWEEN ? AND ? AND shown IS NOT NULL AND size <= {MAX_SIZE} ORDER BY row
"""

type _Plain = dict[str, Any]
"""A part of a page, as it goes into JSON."""
type _Chain = tuple[_Plain, ...]
"""A folder, and before it those that it lies in, from the root on."""

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class _Part:
    """What a bucket has of one share."""

    chains: dict[int, _Chain] = field(default_factory=dict)
    """Of the folders that its items lie in."""
    entries: list[_Plain] = field(default_factory=list)
    """In the order of their rows."""
    size: int = 0
    """Bytes of JSON."""
    digest: bytes = b""

    def seal(self) -> None:
        """Say that this is all."""
        folders = [self.chains[number] for number in sorted(self.chains)]
        content = orjson.dumps([folders, self.entries])
        self.size = len(content)
        self.digest = blake2b(content, digest_size=DIGEST_SIZE).digest()


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of a part."""

    digest: bytes
    count: int


@dataclass(slots=True)
class _Span:
    """Rows of a bucket, to be told."""

    first: int
    last: int
    digest: bytes | None
    chains: dict[int, _Chain]
    entries: list[_Plain]
    size: int

    @property
    def folders(self) -> dict[int, _Plain]:
        """The folders that its items lie in, and those around them, which come first."""
        inner = dict.fromkeys(entry["folder"] for entry in self.entries)
        return {
            folder["number"]: folder
            for number in inner
            for folder in self.chains[number]
        }

    @property
    def plain(self) -> _Plain:
        """The span as it goes into a page."""
        plain: _Plain = {"first": self.first, "last": self.last}
        if self.digest is not None:
            plain["digest"] = self.digest.hex()
        if self.entries:
            plain["entries"] = self.entries
        return plain


@dataclass(slots=True)
class _Transfer:
    """How far somebody was told."""

    shares: tuple[int, ...]
    """Numbers of the shares that he may see, ascending."""
    had: dict[int, bytes]
    todo: list[int]
    """Buckets to look at, the next one last."""
    room: int
    """How many items may still be told."""
    buckets: int
    """How many buckets may still be told."""
    header: _Plain | None
    """What only the first page has; None once that is packed."""
    roots: dict[int, _Plain]
    spans: list[_Span] = field(default_factory=list)
    """What waits to be packed."""
    is_cut: bool = False
    """Whether there is more than may be told."""

    @property
    def size(self) -> int:
        """Bytes of JSON that wait to be packed."""
        return sum(span.size for span in self.spans)


class Catalogue:
    """The catalogues of a library: one for each set of shares that somebody may see."""

    def __init__(
        self,
        store: Store,
        *,
        shares: Callable[[], Sequence[ShareConfig]],
        available: Callable[[], Collection[str]],
        on_fault: Callable[[], None],
    ) -> None:
        """Prepare to tell of an index.

        `shares` are the configured ones in the order to show, `available` the ids of those that can be reached at
        present, and `on_fault` is called when the index could not be read.
        """
        self._store = store
        self._shares = shares
        self._available = available
        self._on_fault = on_fault
        # By bucket and number of the share. Only looked at by who holds the index for writing.
        self._known: dict[int, dict[int, _Known]] = {}

    async def pages(self, shares: Collection[str], have: bytes) -> AsyncIterator[bytes]:
        """Yield what somebody has to be told who may see `shares` (ids) and has `have` (`RemoteLibrary.have`).

        There is one page at least. What changes while they are made is told the next time, if not in them.

        Raises:
            BadRequest: `have` is not what an engine makes.
            Unavailable: the index cannot be read at present.

        """
        try:
            had = read_have(have)
        except ValueError as err:
            raise BadRequest(str(err)) from None
        granted = [each for each in self._shares() if each.kinds and each.id in shares]
        transfer = await self._ask(
            self._begin, granted[:MAX_SHARES], frozenset(self._available()), had
        )
        while transfer.header or transfer.todo:
            for page in await self._ask(self._next, transfer):
                yield page
        if transfer.is_cut:
            _LOGGER.warning(
                "Another home is told of %s items at most, and not of all in %s shares",
                MAX_ITEMS,
                len(granted),
            )

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
        had: dict[int, bytes],
    ) -> _Transfer:
        with self._store.write() as db:
            self._track(db)
            stale = {number for (number,) in db.execute("SELECT * FROM stale_buckets")}
            numbers = {
                id_: number
                for number, id_ in db.execute("SELECT number, id FROM shares")
            }
            listed = [share for share in granted if share.id in numbers]
            shares = tuple(sorted(numbers[share.id] for share in listed))
            (revision,) = db.execute(
                "SELECT value FROM state WHERE key = 'revision'"
            ).fetchone()
            roots = {
                number: {"number": number, "share": share}
                for number, share in db.execute(
                    "SELECT number, share FROM folders WHERE path = ''"
                    f" AND share IN ({','.join(map(str, shares))})"
                )
            }
            settled = {
                bucket: sum(known[share].count for share in shares if share in known)
                for bucket, known in self._known.items()
                if bucket not in stale and had.get(bucket) == _combined(known, shares)
            }
            todo = self._known.keys() | had.keys() | stale
        return _Transfer(
            shares=shares,
            had=had,
            todo=sorted(todo - settled.keys(), reverse=True),
            room=MAX_ITEMS - sum(settled.values()),
            buckets=MAX_BUCKETS - sum(map(bool, settled.values())),
            header={
                "revision": revision,
                "shares": [
                    {
                        "number": numbers[share.id],
                        "id": share.id,
                        "name": shown(share.name, MAX_NAME),
                        "kinds": sorted(set(share.kinds)),
                        "available": share.id in available,
                    }
                    for share in listed
                ],
            },
            roots=roots,
        )

    def _track(self, db: sqlite3.Connection) -> None:
        """See to it that changes are noted. After the index was opened, nothing is known any more."""
        if not db.execute(
            "SELECT 1 FROM sqlite_temp_schema WHERE name = 'stale_buckets'"
        ).fetchone():
            self._known.clear()
            for statement in _TRACKING:
                db.execute(statement)

    def _next(self, transfer: _Transfer) -> list[bytes]:
        """Go on with a transfer; return the pages that are complete with that."""
        buckets = [
            transfer.todo.pop() for _ in range(min(_TOGETHER, len(transfer.todo)))
        ]
        for bucket, parts in self._read(buckets).items():
            self._tell(transfer, bucket, parts)
        if transfer.todo and transfer.size < _PAGE:
            return []
        pages = _packed(
            transfer.header, transfer.roots, transfer.spans, last=not transfer.todo
        )
        transfer.header, transfer.roots, transfer.spans = None, {}, []
        return pages

    def _tell(self, transfer: _Transfer, bucket: int, parts: dict[int, _Part]) -> None:
        """Add a bucket to what waits to be packed, if it is not what the receiver has."""
        seen = [parts[share] for share in transfer.shares if share in parts]
        entries = [entry for part in seen for entry in part.entries]
        digest = _combined(parts, transfer.shares)
        if transfer.buckets < 1 or transfer.room < len(entries):
            digest, seen, entries = None, [], []
            transfer.is_cut = True
        elif digest is not None:
            transfer.room -= len(entries)
            transfer.buckets -= 1
        if digest == transfer.had.get(bucket):
            return
        chains: dict[int, _Chain] = {}
        for part in seen:
            chains |= part.chains
        size = sum(part.size for part in seen)
        entries.sort(key=itemgetter("row"))
        transfer.spans.append(
            _Span(*bucket_rows(bucket), digest, chains, entries, size)
        )

    def _read(self, buckets: Sequence[int]) -> dict[int, dict[int, _Part]]:
        """Read buckets, and remember their digests."""
        with self._store.write() as db:
            found = {
                bucket: db.execute(_ITEMS, bucket_rows(bucket)).fetchall()
                for bucket in buckets
            }
            chains = _chains(db, {row[3] for rows in found.values() for row in rows})
            read = {
                bucket: _parts(rows, chains, _subtitles(db, bucket))
                for bucket, rows in found.items()
            }
            for bucket, parts in read.items():
                self._known.pop(bucket, None)
                if parts:
                    self._known[bucket] = {
                        share: _Known(part.digest, len(part.entries))
                        for share, part in parts.items()
                    }
            db.executemany(
                "DELETE FROM stale_buckets WHERE number = ?",
                ((bucket,) for bucket in buckets),
            )
        return read


def _combined(
    parts: Mapping[int, _Part] | Mapping[int, _Known], shares: Iterable[int]
) -> bytes | None:
    """Return the digest of what a bucket has of some shares, None if it has nothing of them."""
    seen = [
        share.to_bytes(8) + parts[share].digest for share in shares if share in parts
    ]
    if not seen:
        return None
    return blake2b(bytes([FORMAT]) + b"".join(seen), digest_size=DIGEST_SIZE).digest()


def _chains(db: sqlite3.Connection, folders: Collection[int]) -> dict[int, _Chain]:
    """Return the chains of folders, without those that lie too deep to be told of."""
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
        if at is None and is_told("/".join(names), len(names)):
            chains[folder] = tuple(reversed(chain))
    return chains


def _subtitles(db: sqlite3.Connection, bucket: int) -> dict[int, list[_Plain]]:
    """Return the subtitle files of the items in a bucket, by row."""
    found: dict[int, list[_Plain]] = {}
    for row, name, size, mtime_ns, language in db.execute(
        "SELECT item, name, size, mtime_ns, language FROM subtitles"
        " WHERE item BETWEEN ? AND ? ORDER BY item, position",
        bucket_rows(bucket),
    ):
        plain = {"name": shown(name, MAX_NAME), "size": size, "mtime_ns": mtime_ns}
        if language and is_language(language):
            plain["language"] = language
        found.setdefault(row, []).append(plain)
    return found


def _parts(
    rows: Iterable[tuple[Any, ...]],
    chains: Mapping[int, _Chain],
    subtitles: Mapping[int, list[_Plain]],
) -> dict[int, _Part]:
    """Return what a bucket has of each share."""
    parts: dict[int, _Part] = {}
    for row, nonce, share, folder, *values in rows:
        if folder in chains:
            part = parts.setdefault(share, _Part())
            part.chains[folder] = chains[folder]
            entry = _entry(row, nonce, folder, *values)
            if entry["kind"] is Kind.VIDEO and row in subtitles:
                entry["subtitles"] = subtitles[row][:MAX_SUBTITLES]
            part.entries.append(entry)
    for part in parts.values():
        part.seal()
    return parts


def _entry(
    row: int,
    nonce: bytes,
    folder: int,
    name: str,
    kind: int,
    size: int,
    mtime_ns: int,
    inode: int,
    added: float,
    pictured: int,
    facts: str | None,
    month: int | None,
    moment: float | None,
    artist_key: str | None,
    artist_name: str | None,
    album_key: str | None,
    album_name: str | None,
    album_by: str | None,
    position: int | None,
) -> _Plain:
    """Return an item as it is told: an `Entry` without what is not known."""
    entry: _Plain = {
        "row": row,
        "nonce": nonce.hex(),
        "folder": folder,
        "kind": KINDS[kind],
        "name": shown(name, MAX_NAME),
        "size": size,
        "mtime_ns": mtime_ns,
        "inode": inode,
        "added": min(max(added, -MAX_ADDED), MAX_ADDED),
    }
    if pictured:
        entry["pictured"] = True
    if facts is not None and (told := told_facts(orjson.loads(facts))):
        entry["facts"] = told
    if kind == PHOTO and month is not None:
        entry["month"], entry["moment"] = month, moment
    if kind == MUSIC and artist_key is not None:
        entry["group"] = {
            "artist_key": artist_key,
            "artist_name": artist_name and shown(artist_name, MAX_TEXT),
            "album_key": album_key,
            "album_name": album_name and shown(album_name, MAX_TEXT),
            "album_by": album_by and shown(album_by, MAX_TEXT),
            "position": position,
        }
    return entry


def _packed(
    header: _Plain | None,
    roots: dict[int, _Plain],
    spans: list[_Span],
    *,
    last: bool,
) -> list[bytes]:
    """Return the pages that spans make: as many as are needed for none to be too large."""
    folders = dict(roots)
    for span in spans:
        folders |= span.folders
    page = pack(
        {
            "format": FORMAT,
            **(header or {}),
            "folders": list(folders.values()),
            "spans": [span.plain for span in spans],
            "last": last,
        }
    )
    if page is not None:
        return [page]
    first, second = _halves(spans)
    return [
        *_packed(header, roots, first, last=False),
        *_packed(None, {}, second, last=last),
    ]


def _halves(spans: list[_Span]) -> tuple[list[_Span], list[_Span]]:
    """Return the halves of a list of spans, or of the only one in it."""
    if len(spans) > 1:
        middle = len(spans) // 2
        return spans[:middle], spans[middle:]
    (whole,) = spans
    middle = len(whole.entries) // 2
    border = whole.entries[middle]["row"]
    return (
        [replace(whole, last=border - 1, digest=None, entries=whole.entries[:middle])],
        [replace(whole, first=border, entries=whole.entries[middle:])],
    )
