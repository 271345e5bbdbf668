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

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
import re
from typing import Any, Final, NotRequired, TypedDict, cast
import zlib

import orjson

from ..core.errors import EngineError
from ..core.sanitize import is_media_type, is_shown, shown
from ..library import photo_dates
from ..library.browse.scope import ALL
from ..library.ids import NONCE_SIZE
from ..library.items import ITEM
from ..library.names import NO_KEY
from ..models import ErrorKey, Kind
from ..models.codec import DecodeError, decode, from_plain

FORMAT: Final = 1
"""Increased when the format changes: everything known of other homes is then fetched again."""
BEFORE_ALL: Final = -1
"""The row that the first part of a whole share follows."""
MAX_ROW: Final = 2**48 - 1
"""The highest row, because item ids have no room for more. The last part of a whole share ends with it."""

MAX_PAGE: Final = 256 * 1024
"""Bytes of a page."""
MAX_UNPACKED: Final = 1024 * 1024
"""Bytes of JSON in a page."""
MAX_VALUES: Final = 128 * 1024
"""Values in a page, roughly: the smallest take thirty times as much memory as their JSON."""
MAX_ITEMS: Final = 1_000_000
"""Items of one home."""
MAX_SHARES: Final = 200
MAX_NAME: Final = 255
"""Characters of a name."""
MAX_PATH: Final = 4096
"""Characters of a folder's path."""
MAX_PATHS: Final = 16 * 1024**2
"""Bytes of the paths of all folders in a page. A page has names only, but the index keeps each whole path."""
MAX_DEPTH: Final = 64
"""Folders in a folder's path."""
MAX_TEXT: Final = 500
"""Characters of a fact."""
MAX_SUBTITLES: Final = 100
"""Subtitle files of one item."""
MAX_SIZE: Final = 2**50
"""Bytes of an item."""
MAX_ADDED: Final = 2.0**34
"""Seconds from the epoch, before it or after."""

_MAX_NUMBER: Final = 10**15 - 1
"""The highest number of a folder or share: node ids have no room for more digits."""
_MAX_WHOLE: Final = 2**40
_MAX_DURATION: Final = 10 * 366 * 86400.0
_MAX_MOMENT: Final = 2.0**38
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_KINDS: Final = frozenset(kind.value for kind in Kind)

_SHARE: Final = re.compile(r"[a-z0-9_-]{1,64}")
_RESERVED: Final = frozenset({ALL, ITEM, "home"})
"""First segments of node ids that name no share."""
_NONCE: Final = re.compile(rf"[0-9a-f]{{{2 * NONCE_SIZE}}}")
_GROUP: Final = re.compile(rf"[0-9a-f]{{20}}|{NO_KEY}")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}")


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


# Items are looked at as the JSON that they come in: to make dataclasses of a hundred thousand takes longer than all else.


class SubtitleFile(TypedDict):
    """A subtitle file of a video. Its index is its position in the list."""

    name: str
    size: int
    mtime_ns: int
    language: NotRequired[str]


class Group(TypedDict):
    """Where a song is listed, as in `albums.Group`."""

    artist_key: str
    artist_name: str | None
    album_key: str
    album_name: str | None
    album_by: str | None
    position: int


class Entry(TypedDict):
    """An item. What is not known is left out."""

    row: int
    nonce: str
    """The random part of its id, in hexadecimal."""
    folder: int
    kind: str
    name: str
    size: int
    mtime_ns: int
    inode: int
    """As a signed number, as the index has it."""
    added: float
    pictured: NotRequired[bool]
    """Whether there is a picture of it, or likely to be one."""
    facts: NotRequired[dict[str, Any]]
    """What is known of its content: those of FACTS."""
    month: NotRequired[int]
    """The month in which the owner lists a photo, in the owner's local time. A photo without one is not listed by month yet."""
    moment: NotRequired[float]
    group: NotRequired[Group]
    """Of a song: where the owner lists it, which depends on what was beside it before. One without is in no list yet."""
    subtitles: NotRequired[list[SubtitleFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The next items of one share after those that the receiver knows.

    While the share is told as a whole, these are all that it has in the rows behind `after`, up to `until`. Later, `after`
    and `until` are sequences, and these are the items that changed between them.
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
    """A folder of a page, and where it lies."""

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
        if not all(_is_whole(number, _LEAST, _MOST) for number in numbers):
            raise ValueError("there is no such checkpoint")
        if known.row is not None and not _is_whole(known.row, BEFORE_ALL, MAX_ROW):
            raise ValueError("there is no such row")
    return {known.share: known for known in have.shares}


# What the owner says.


def told_facts(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of an item that `read` accepts."""
    told = {}
    for name, value in known.items():
        check = FACTS.get(name)
        if check is _is_text:
            told[name] = shown(value, MAX_TEXT)
        elif check is not None and check(value):
            told[name] = value
    return told


def pack(page: Mapping[str, Any]) -> bytes | None:
    """Return a page, None if it would be too large."""
    unpacked = orjson.dumps(page)
    if len(unpacked) > MAX_UNPACKED or _values(unpacked) > MAX_VALUES:
        return None
    packed = zlib.compress(unpacked)
    return packed if len(packed) <= MAX_PAGE else None


# What the receiver believes.


def read(payload: bytes) -> Page:
    """Return a page that another home sent.

    Whether its shares and folders are known is not looked at here; `places` checks the folders.

    Raises:
        BadCatalogue: it is none, or something in it is not as an engine makes it.

    """
    unpacked = _unpacked(payload)
    try:
        plain = orjson.loads(unpacked)
        parts = plain.pop("parts", []) if isinstance(plain, dict) else []
        head = from_plain(Head, plain)
    except (orjson.JSONDecodeError, DecodeError, RecursionError) as err:
        raise BadCatalogue(f"it cannot be read: {err}") from None
    if head.format != FORMAT:
        raise BadCatalogue("it is of another release")
    _expect(
        0 <= head.checkpoint.sequence <= _MOST
        and _LEAST <= head.checkpoint.id <= _MOST,
        "its checkpoint is none",
    )
    if head.shares is not None:
        _check_shares(head.shares)
    _expect(isinstance(parts, list), "its parts are none")
    return Page(
        head=head,
        parts=tuple(_part(each, head.checkpoint.sequence) for each in parts),
        size=len(unpacked),
    )


def places(folders: Iterable[Folder]) -> Iterator[Place]:
    """Return the folders of a page with their places, parents first. Raises BadCatalogue."""
    found: dict[int, Place] = {}
    told = 0
    for folder in folders:
        _expect(
            1 <= folder.number <= _MAX_NUMBER and folder.number not in found,
            "two of its folders have the same number, or one has none",
        )
        if folder.parent is None:
            _expect(
                folder.share is not None and not folder.name, "a root of it is none"
            )
            assert folder.share is not None
            place = Place(folder.number, folder.share, None, "", "", 0)
        else:
            above = found.get(folder.parent)
            if above is None or folder.share is not None:
                raise BadCatalogue("one of its folders lies nowhere")
            _check_name(folder.name)
            path = f"{above.path}/{folder.name}" if above.path else folder.name
            place = Place(
                folder.number,
                above.share,
                above.number,
                folder.name,
                path,
                above.depth + 1,
            )
            _expect(is_told(path, place.depth), "one of its folders lies too deep")
        told += len(place.path.encode())
        _expect(told <= MAX_PATHS, "the paths of its folders are too long")
        found[folder.number] = place
        yield place


def is_told(path: str, depth: int) -> bool:
    """Tell whether a folder with a path of so many folders can be in a catalogue."""
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
        raise BadCatalogue("a page of it has no end, or more after it")
    if _values(unpacked) > MAX_VALUES:
        raise BadCatalogue("there is too much in a page of it")
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
            1 <= share.number <= _MAX_NUMBER
            and _SHARE.fullmatch(share.id) is not None
            and share.id not in _RESERVED,
            "a share of it has no id",
        )
        _expect(is_shown(share.name, MAX_NAME), "a share's name cannot be shown")
        _expect(
            0 < len(share.kinds) == len(set(share.kinds)),
            "a share of it has no kinds of media",
        )


def _part(plain: Any, latest: int) -> Part:
    _expect(isinstance(plain, dict), "a part of it is none")
    part = Part(
        share=plain.get("share"),
        whole=plain.get("whole", False),
        after=plain.get("after"),
        until=plain.get("until"),
        items=plain.get("items", []),
        gone=plain.get("gone", []),
    )
    _expect(
        _is_whole(part.share, 1, _MAX_NUMBER)
        and isinstance(part.whole, bool)
        and isinstance(part.items, list)
        and isinstance(part.gone, list)
        and all(_is_whole(row, 0, MAX_ROW) for row in part.gone),
        "a part of it is none",
    )
    if part.whole:
        _expect(
            _is_whole(part.after, BEFORE_ALL, MAX_ROW)
            and _is_whole(part.until, part.after + 1, MAX_ROW)
            and not part.gone,
            "its rows are not in order",
        )
    else:
        is_empty = not part.items and not part.gone
        _expect(
            _is_whole(part.after, 0, latest)
            and _is_whole(part.until, part.after + (not is_empty), latest),
            "its changes are not in order",
        )
    rows = set(part.gone)
    least = part.after + 1 if part.whole else 0
    for entry in part.items:
        try:
            _check_entry(entry)
        except (KeyError, TypeError, AttributeError):
            raise BadCatalogue("an item of it is none") from None
        row = entry["row"]
        _expect(
            least <= row <= (part.until if part.whole else MAX_ROW) and row not in rows,
            "an item of it is not where it belongs",
        )
        rows.add(row)
        if part.whole:
            least = row + 1
    return part


def _check_entry(entry: Entry) -> None:
    """Check an item. Raises BadCatalogue, or any exception that a value of the wrong type causes."""
    _expect(
        type(entry["row"]) is int
        and type(entry["folder"]) is int
        and _NONCE.fullmatch(entry["nonce"]) is not None
        and entry["kind"] in _KINDS,
        "an item of it has no id",
    )
    _check_name(entry["name"])
    _expect(
        _is_whole(entry["size"], 0, MAX_SIZE)
        and _is_whole(entry["mtime_ns"], _LEAST, _MOST)
        and _is_whole(entry["inode"], _LEAST, _MOST)
        and _is_number(entry["added"], -MAX_ADDED, MAX_ADDED)
        and entry.get("pictured", False) in (True, False),
        "an item's version is none",
    )
    for name, value in entry.get("facts", {}).items():
        check = FACTS.get(name)
        if check is not None and not check(value):
            raise BadCatalogue(f"an item's {name} is none")
    if "month" in entry:
        month = entry["month"]
        _expect(
            (
                _is_whole(month, photo_dates.UNKNOWN_MONTH, photo_dates.UNKNOWN_MONTH)
                or (_is_whole(month, 101, 999_912) and 1 <= month % 100 <= 12)
            )
            and _is_number(entry["moment"], -_MAX_MOMENT, _MAX_MOMENT),
            "an item's month is none",
        )
    if "group" in entry:
        _check_group(entry["group"])
    if "subtitles" in entry:
        _check_subtitles(entry["subtitles"])


def _check_group(group: Group) -> None:
    _expect(
        _GROUP.fullmatch(group["artist_key"]) is not None
        and _GROUP.fullmatch(group["album_key"]) is not None
        and all(
            text is None or _is_text(text)
            for text in (group["artist_name"], group["album_name"], group["album_by"])
        )
        and _is_whole(group["position"], 0, _MAX_WHOLE),
        "a song's place is none",
    )


def _check_subtitles(subtitles: list[SubtitleFile]) -> None:
    _expect(
        isinstance(subtitles, list) and len(subtitles) <= MAX_SUBTITLES,
        "an item has too many subtitles",
    )
    for each in subtitles:
        _check_name(each["name"])
        _expect(
            _is_whole(each["size"], 0, MAX_SIZE)
            and _is_whole(each["mtime_ns"], _LEAST, _MOST)
            and ("language" not in each or is_language(each["language"])),
            "an item's subtitles are none",
        )


def _check_name(name: str) -> None:
    if (
        not isinstance(name, str)
        or name in ("", ".", "..")
        or "/" in name
        or not is_shown(name, MAX_NAME)
    ):
        raise BadCatalogue("a name in it is not one of a file")


def is_language(text: str) -> bool:
    """Tell whether a text is a language tag."""
    return _LANGUAGE.fullmatch(text) is not None


def _is_whole(value: object, least: int, most: int) -> bool:
    # What is true or false is a whole number too, but not here.
    return type(value) is int and least <= value <= most


def _is_number(value: object, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= cast(float, value) <= most


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_shown(value, MAX_TEXT)


def _is_count(value: object) -> bool:
    return _is_whole(value, 0, _MAX_WHOLE)


def _is_duration(value: object) -> bool:
    return _is_number(value, 0, _MAX_DURATION)


def _is_taken(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= 32
        and value.isascii()
        and photo_dates.of_taken(value) is not None
    )


def _is_type(value: object) -> bool:
    return isinstance(value, str) and is_media_type(value)


FACTS: Final[Mapping[str, Callable[[object], bool]]] = {
    "content_type": _is_type,
    "duration": _is_duration,
    "taken": _is_taken,
    **dict.fromkeys(
        (
            *("title", "artist", "album", "album_artist", "genre"),
            *("video_codec", "audio_codec", "fault"),
        ),
        _is_text,
    ),
    **dict.fromkeys(
        ("width", "height", "bit_rate", "track", "disc", "year"), _is_count
    ),
}
"""The facts of an item that are sent, each with its check."""
