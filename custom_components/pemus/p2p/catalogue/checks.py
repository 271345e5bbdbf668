"""Checks of values in another home's catalogue.

Items are checked as the JSON that they arrive in: making dataclasses of a hundred thousand would take longer than all else.
A check is a function that tells whether a value is valid, whatever its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import re
from typing import Any, Final

from ..core.sanitize import is_media_type, is_shown
from ..library import photo_dates
from ..library.ids import NONCE_SIZE
from ..library.names import NO_KEY
from ..models import Kind

MAX_ROW: Final = 2**48 - 1
"""The highest row, because item ids have no room for more. The last part of a whole share ends with it."""
MAX_NUMBER: Final = 10**15 - 1
"""The highest number of a folder or share: node ids have no room for more digits."""
MAX_NAME: Final = 255
"""Characters of a name."""
MAX_TEXT: Final = 500
"""Characters of a fact."""
MAX_SUBTITLES: Final = 100
"""Subtitle files of one item."""
MAX_SIZE: Final = 2**50
"""Bytes of an item."""
MAX_ADDED: Final = 2.0**34
"""Seconds before or after the epoch."""
MIN_INT64: Final = -(2**63)
MAX_INT64: Final = 2**63 - 1

_MAX_COUNT: Final = 2**40
_MAX_DURATION: Final = 10 * 366 * 86400.0
_MAX_MOMENT: Final = 2.0**38
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}")

type Check = Callable[[Any], bool]


class Fields:
    """A check of objects, by a check for each of their fields. Unknown fields are ignored."""

    def __init__(
        self, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None
    ) -> None:
        """Check all `required` fields, and those of the `optional` ones that are there."""
        self._required = tuple(required.items())
        self._optional = tuple((optional or {}).items())

    def fault(self, value: Any) -> str | None:
        """Return the first field that is missing or invalid, None if there is none."""
        if not isinstance(value, dict):
            return "type"
        for name, is_valid in self._required:
            if name not in value or not is_valid(value[name]):
                return name
        for name, is_valid in self._optional:
            if name in value and not is_valid(value[name]):
                return name
        return None

    def fits(self, value: Any) -> bool:
        """Tell whether an object is valid."""
        return self.fault(value) is None


def whole(least: int, most: int) -> Check:
    """Return a check for whole numbers. True and false are none."""
    return lambda value: type(value) is int and least <= value <= most


def number(least: float, most: float) -> Check:
    """Return a check for numbers."""
    return lambda value: type(value) in (int, float) and least <= value <= most


def matching(pattern: str) -> Check:
    """Return a check for texts of one pattern."""
    matches = re.compile(pattern).fullmatch
    return lambda value: isinstance(value, str) and matches(value) is not None


def is_flag(value: Any) -> bool:
    """Tell whether a value is true or false."""
    return isinstance(value, bool)


def is_list(value: Any) -> bool:
    """Tell whether a value is a list."""
    return isinstance(value, list)


def is_text(value: Any) -> bool:
    """Tell whether a value can be shown as a fact."""
    return isinstance(value, str) and is_shown(value, MAX_TEXT)


def is_name(value: Any) -> bool:
    """Tell whether a value is the name of a file or folder."""
    return (
        isinstance(value, str)
        and value not in ("", ".", "..")
        and "/" not in value
        and is_shown(value, MAX_NAME)
    )


def is_language(value: Any) -> bool:
    """Tell whether a value is a language tag."""
    return isinstance(value, str) and _LANGUAGE.fullmatch(value) is not None


def _is_text_or_none(value: Any) -> bool:
    return value is None or is_text(value)


def _is_type(value: Any) -> bool:
    return isinstance(value, str) and is_media_type(value)


def _is_taken(value: Any) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= 32
        and value.isascii()
        and photo_dates.of_taken(value) is not None
    )


def _is_month(value: Any) -> bool:
    return type(value) is int and (
        value == photo_dates.UNKNOWN_MONTH
        or (101 <= value <= 999_912 and 1 <= value % 100 <= 12)
    )


def _are_subtitles(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_SUBTITLES
        and all(map(_SUBTITLE.fits, value))
    )


_is_count = whole(0, _MAX_COUNT)
_is_int64 = whole(MIN_INT64, MAX_INT64)
_is_size = whole(0, MAX_SIZE)
_is_group_key = matching(rf"[0-9a-f]{{20}}|{NO_KEY}")

FACTS: Final[Mapping[str, Check]] = {
    "content_type": _is_type,
    "duration": number(0, _MAX_DURATION),
    "taken": _is_taken,
    **dict.fromkeys(
        (
            *("title", "artist", "album", "album_artist", "genre"),
            *("video_codec", "audio_codec", "fault"),
        ),
        is_text,
    ),
    **dict.fromkeys(
        ("width", "height", "bit_rate", "track", "disc", "year"), _is_count
    ),
}
"""The facts of an item that are sent, each with its check."""

_SUBTITLE: Final = Fields(
    {"name": is_name, "size": _is_size, "mtime_ns": _is_int64},
    {"language": is_language},
)
_GROUP: Final = Fields(
    {
        **dict.fromkeys(("artist_key", "album_key"), _is_group_key),
        **dict.fromkeys(("artist_name", "album_name", "album_by"), _is_text_or_none),
        "position": _is_count,
    }
)

type Entry = dict[str, Any]
"""An item, which passed the check ENTRY."""
ENTRY: Final = Fields(
    {
        "row": whole(0, MAX_ROW),
        # The random part of its id, in hexadecimal digits.
        "nonce": matching(rf"[0-9a-f]{{{2 * NONCE_SIZE}}}"),
        "folder": whole(1, MAX_NUMBER),
        "kind": matching("|".join(Kind)),
        "name": is_name,
        "size": _is_size,
        "mtime_ns": _is_int64,
        # As a signed number, like in the index.
        "inode": _is_int64,
        "added": number(-MAX_ADDED, MAX_ADDED),
    },
    # What is not known is left out.
    {
        # Whether there is a picture of it, or probably is one.
        "pictured": is_flag,
        "facts": Fields({}, FACTS).fits,
        # The month in which the owner lists a photo, in the owner's local time. Photos without one are not in a month yet.
        "month": _is_month,
        "moment": number(-_MAX_MOMENT, _MAX_MOMENT),
        # Where the owner lists a song, as in `albums.Group`, which depends on the songs beside it. Songs without one are in
        # no list yet.
        "group": _GROUP.fits,
        # The subtitle files of a video. Their indexes are their positions.
        "subtitles": _are_subtitles,
    },
)
"""The check of an item."""
