"""The format of a catalogue on the link: the list of items in the shares that another home may see.

Each share is sent separately: first all items in the order of their rows, and from then on only what changed, in the order
of the owner's change log (see `changelog`). The receiver states how far it knows each share (`Known`), so an interrupted
transfer continues where it ended.

A catalogue is sent in pages of compressed JSON. A page has parts of some shares. A part continues what the receiver knows
(`after`) and states how far the receiver knows the share then (`until`): rows while the share is sent as a whole, sequences
later. Folders and shares have their owner's numbers, so a node has the same id at both homes.

Pages come from another home. `read` checks everything that does not depend on earlier pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
import zlib

import orjson

from ..core.errors import EngineError
from ..core.sanitize import is_shown
from ..library.browse.scope import ALL
from ..library.items import ITEM
from ..models import ErrorKey, Kind
from ..models.codec import DecodeError, decode, from_plain
from .checks import (
    ENTRY,
    MAX_INT64,
    MAX_NAME,
    MAX_NUMBER,
    MAX_ROW,
    MIN_INT64,
    Entry,
    Fields,
    is_flag,
    is_list,
    is_name,
    matching,
    whole,
)

FORMAT: Final = 1
"""Increased when the format changes: everything known of other homes is then fetched again."""
BEFORE_ALL: Final = -1
"""The row that the first part of a whole share follows."""

MAX_PAGE: Final = 256 * 1024
"""Bytes of a page."""
MAX_UNPACKED: Final = 1024 * 1024
"""Bytes of JSON in a page."""
MAX_VALUES: Final = 128 * 1024
"""Values in a page, roughly. The smallest take thirty times as much memory as their JSON."""
MAX_ITEMS: Final = 1_000_000
"""Items of one home."""
MAX_SHARES: Final = 200
MAX_PATH: Final = 4096
"""Characters of a folder's path."""
MAX_PATHS: Final = 16 * 1024**2
"""Bytes of the paths of all folders in a page. A page has names only, but the index keeps each whole path."""
MAX_DEPTH: Final = 64
"""Folders in a folder's path."""

_RESERVED: Final = frozenset({ALL, ITEM, "home"})
"""First segments of node ids that name no share."""
_is_share = matching(r"[a-z0-9_-]{1,64}")
_is_int64 = whole(MIN_INT64, MAX_INT64)
_PART: Final = Fields(
    {"share": whole(1, MAX_NUMBER), "after": _is_int64, "until": whole(0, MAX_INT64)},
    {"whole": is_flag, "items": is_list, "gone": is_list},
)
_is_row = whole(0, MAX_ROW)


class BadCatalogue(EngineError):
    """A page is malformed or contradicts earlier ones. The message says why."""

    key = ErrorKey.UNAVAILABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A moment in the owner's history: the last sequence, and a random id."""

    sequence: int
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """How far a home knows a share."""

    share: int
    sequence: int
    """All changes up to this one are known, once all items are."""
    checkpoint: Checkpoint
    """The owner's last checkpoint when it sent the share. Nothing that is known is newer."""
    row: int | None = None
    """The last row that is known, while the share is sent as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Have:
    """How far a home knows each share."""

    shares: tuple[Known, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share that the receiver may see."""

    number: int
    id: str
    name: str
    kinds: tuple[Kind, ...]
    available: bool
    """Whether its files can be reached now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder: the root of a share, or one with a name in another one. A page names parents before what is in them."""

    number: int
    share: int | None = None
    """Of a root."""
    parent: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The next items of one share after those that the receiver knows.

    While the share is sent as a whole, these are all its items in the rows after `after`, up to `until`. Later, `after` and
    `until` are sequences, and these are the items that changed between them.
    """

    share: int
    whole: bool
    after: int
    until: int
    items: list[Entry]
    gone: list[int]
    """Rows of items that changed and are no longer listed in the share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The content of a page apart from its parts."""

    format: int
    checkpoint: Checkpoint
    """The owner's last checkpoint when the page was made."""
    shares: tuple[Share, ...] | None = None
    """All shares that the receiver may see, in the owner's order, in the first page."""
    folders: tuple[Folder, ...] = ()
    """All folders that items of this page lie in; in the first page also the roots of shares."""
    last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a catalogue."""

    head: Head
    parts: tuple[Part, ...] = ()
    size: int = 0
    """Bytes of its JSON."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of a page, with its path."""

    number: int
    share: int
    parent: int | None
    name: str
    path: str
    depth: int


def read_have(text: str) -> dict[int, Known]:
    """Return how far the other home knows each share, by number. Raises ValueError."""
    have = decode(Have, text) if text else Have()
    if len(have.shares) > MAX_SHARES:
        raise ValueError("there are too many shares")
    for known in have.shares:
        numbers = (known.sequence, known.checkpoint.sequence, known.checkpoint.id)
        if not all(map(_is_int64, numbers)):
            raise ValueError("there is no such checkpoint")
        if known.row is not None and not BEFORE_ALL <= known.row <= MAX_ROW:
            raise ValueError("there is no such row")
    return {known.share: known for known in have.shares}


def pack(page: Mapping[str, Any]) -> bytes | None:
    """Return a page, None if it would be too large."""
    unpacked = orjson.dumps(page)
    if len(unpacked) > MAX_UNPACKED or _values(unpacked) > MAX_VALUES:
        return None
    packed = zlib.compress(unpacked)
    return packed if len(packed) <= MAX_PAGE else None


def read(payload: bytes) -> Page:
    """Return a page that another home sent.

    `places` checks its folders. Whether shares and folders are known is checked when the page is written.

    Raises:
        BadCatalogue: it is no page, or an engine would not send it.

    """
    unpacked = _unpacked(payload)
    try:
        plain = orjson.loads(unpacked)
        parts = plain.pop("parts", []) if isinstance(plain, dict) else []
        head = from_plain(Head, plain)
    except (orjson.JSONDecodeError, DecodeError, RecursionError) as err:
        raise BadCatalogue(f"it cannot be read: {err}") from None
    if head.format != FORMAT:
        raise BadCatalogue("it has another format")
    _expect(
        0 <= head.checkpoint.sequence <= MAX_INT64 and _is_int64(head.checkpoint.id),
        "its checkpoint is invalid",
    )
    if head.shares is not None:
        _check_shares(head.shares)
    _expect(is_list(parts), "its parts are no list")
    return Page(
        head=head,
        parts=tuple(_part(each, head.checkpoint.sequence) for each in parts),
        size=len(unpacked),
    )


def places(folders: Iterable[Folder]) -> Iterator[Place]:
    """Return the folders of a page with their places, parents first. Raises BadCatalogue."""
    found: dict[int, Place] = {}
    size = 0
    for folder in folders:
        _expect(
            1 <= folder.number <= MAX_NUMBER and folder.number not in found,
            "two of its folders have the same number, or one has none",
        )
        if folder.parent is None:
            _expect(
                folder.share is not None and not folder.name, "a root folder is invalid"
            )
            assert folder.share is not None
            place = Place(folder.number, folder.share, None, "", "", 0)
        else:
            above = found.get(folder.parent)
            if above is None or folder.share is not None:
                raise BadCatalogue("one of its folders lies nowhere")
            _expect(is_name(folder.name), "a folder of it has an invalid name")
            path = f"{above.path}/{folder.name}" if above.path else folder.name
            place = Place(
                folder.number,
                above.share,
                above.number,
                folder.name,
                path,
                above.depth + 1,
            )
            _expect(can_be_sent(path, place.depth), "one of its folders lies too deep")
        size += len(place.path.encode())
        _expect(size <= MAX_PATHS, "the paths of its folders are too long")
        found[folder.number] = place
        yield place


def can_be_sent(path: str, depth: int) -> bool:
    """Tell whether a folder with a path of so many folders can be sent."""
    return depth <= MAX_DEPTH and len(path) <= MAX_PATH


def _unpacked(payload: bytes) -> bytes:
    if len(payload) > MAX_PAGE:
        raise BadCatalogue("a page of it is too long")
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(payload, MAX_UNPACKED + 1)
    except zlib.error:
        raise BadCatalogue("a page of it is not compressed") from None
    if len(unpacked) > MAX_UNPACKED:
        raise BadCatalogue("a page of it becomes too long")
    if not unpacking.eof or unpacking.unused_data:
        raise BadCatalogue("a page of it is cut off, or has data after its end")
    if _values(unpacked) > MAX_VALUES:
        raise BadCatalogue("a page of it has too many values")
    return unpacked


def _values(unpacked: bytes) -> int:
    """Return an upper limit of the number of values in some JSON. Separators inside texts are counted, too."""
    return sum(map(unpacked.count, (b",", b"[", b"{")))


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise BadCatalogue(otherwise)


def _check_shares(shares: tuple[Share, ...]) -> None:
    _expect(len(shares) <= MAX_SHARES, "it has too many shares")
    _expect(
        len({share.id for share in shares})
        == len({share.number for share in shares})
        == len(shares),
        "it has a share twice",
    )
    for share in shares:
        _expect(
            1 <= share.number <= MAX_NUMBER
            and _is_share(share.id)
            and share.id not in _RESERVED,
            "a share of it has no id",
        )
        _expect(is_shown(share.name, MAX_NAME), "a share's name cannot be shown")
        _expect(
            0 < len(share.kinds) == len(set(share.kinds)),
            "a share of it has no kinds of media",
        )


def _part(plain: Any, latest: int) -> Part:
    """Return a part that another home sent, `latest` being the last sequence of its log."""
    if (fault := _PART.fault(plain)) is not None:
        raise BadCatalogue(f"the {fault} of a part of it is invalid")
    part = Part(
        share=plain["share"],
        whole=plain.get("whole", False),
        after=plain["after"],
        until=plain["until"],
        items=plain.get("items", []),
        gone=plain.get("gone", []),
    )
    if part.whole:
        is_in_order = BEFORE_ALL <= part.after < part.until <= MAX_ROW and not part.gone
    else:
        is_empty = not part.items and not part.gone
        is_in_order = 0 <= part.after < part.until + is_empty <= latest + is_empty
    _expect(is_in_order and all(map(_is_row, part.gone)), "a part is not in order")
    rows = set(part.gone)
    last = part.after
    for entry in part.items:
        if (fault := ENTRY.fault(entry)) is not None:
            raise BadCatalogue(f"the {fault} of an item is invalid")
        _expect("month" not in entry or "moment" in entry, "a photo has no moment")
        row = entry["row"]
        _expect(
            row not in rows and (not part.whole or last < row <= part.until),
            "an item is not where it belongs",
        )
        rows.add(row)
        last = row
    return part
