"""URL paths, and media types and file names that are safe in headers."""

from __future__ import annotations

import mimetypes
import re
from typing import Final
from urllib.parse import quote

from custom_components.pemus.p2p.models.items import ItemRef

STREAM_PATH: Final = "/api/pemus/stream"
THUMBNAIL_PATH: Final = "/api/pemus/thumbnail"
SUBTITLES_PATH: Final = "/api/pemus/subtitles"

ITEM_PATTERN: Final = "[a-z2-7]{26}"
OWNER_PATTERN: Final = "[0-9A-HJKMNP-TV-Z]{28}"
EXTENSION_PATTERN: Final = "[a-z0-9]{1,8}"

UNKNOWN_TYPE: Final = "application/octet-stream"

_EXTENSION = re.compile(EXTENSION_PATTERN)
_STREAMED = re.compile(
    rf"{STREAM_PATH}/((?P<owner>{OWNER_PATTERN})/)?(?P<item>{ITEM_PATTERN})\.{EXTENSION_PATTERN}"
)
_CONTENT_TYPE = re.compile(
    r"[a-z0-9]+/[a-z0-9][a-z0-9.+-]*(; ?charset=[a-z0-9-]+)?", re.IGNORECASE
)
_PASSIVE = re.compile(r"(audio|video)/.*|image/(?!svg)[a-z0-9.-]+|text/vtt\b.*")
"""Types that cannot contain scripts. SVG and other XML can."""
_UNSAFE_IN_FALLBACK = re.compile(r'[^ -~]|["\\%/]')
_ATTRIBUTE_CHARS: Final = "!#$&+-.^_`|~"
"""Characters that need no encoding in an extended value, besides letters and digits (RFC 8187 section 3.2.1)."""


def stream_path(ref: ItemRef, name: str, content_type: str = "") -> str:
    """Return the path of an item's bytes. It has no query string, because Home Assistant does not sign those.

    Some players need the extension. It comes from the file name, or otherwise from the type.
    """
    return f"{STREAM_PATH}/{_below(ref)}.{_extension(name, content_type)}"


def streamed_item(path: str) -> ItemRef | None:
    """Return the item of a stream path, or None if it is not one."""
    found = _STREAMED.fullmatch(path)
    return None if found is None else ItemRef(found["owner"], found["item"])


def thumbnail_path(ref: ItemRef) -> str:
    """Return the path of an item's picture."""
    return f"{THUMBNAIL_PATH}/{_below(ref)}"


def subtitles_path(ref: ItemRef, index: int) -> str:
    """Return the path of an item's subtitles, as WebVTT."""
    return f"{SUBTITLES_PATH}/{_below(ref)}/{index}.vtt"


def _below(ref: ItemRef) -> str:
    return ref.id if ref.owner is None else f"{ref.owner}/{ref.id}"


def _extension(name: str, content_type: str) -> str:
    for candidate in (
        name.rpartition(".")[2] if "." in name else "",
        mimetypes.guess_extension(content_type) or "",
    ):
        if _EXTENSION.fullmatch(extension := candidate.lower().lstrip(".")):
            return extension
    return "bin"


def safe_content_type(content_type: str) -> str:
    """Return a media type that is safe in a header."""
    return content_type if _CONTENT_TYPE.fullmatch(content_type) else UNKNOWN_TYPE


def is_passive(content_type: str) -> bool:
    """Return whether a browser can open a file of this type without running scripts in it."""
    return _PASSIVE.fullmatch(content_type.lower()) is not None


def content_disposition(name: str, *, attachment: bool) -> str:
    """Return the Content-Disposition for a file name with any characters (RFC 6266)."""
    kind = "attachment" if attachment else "inline"
    fallback = _UNSAFE_IN_FALLBACK.sub("_", name)
    disposition = f'{kind}; filename="{fallback}"'
    if fallback != name:
        encoded = quote(name.encode(errors="replace"), safe=_ATTRIBUTE_CHARS)
        disposition += f"; filename*=UTF-8''{encoded}"
    return disposition
