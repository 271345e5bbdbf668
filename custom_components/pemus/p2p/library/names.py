"""What is done with names so that people find things: the order of lists, the words of the search, and which names are left out."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2s
import re
import unicodedata

LITTER = frozenset(
    {
        "@eaDir",
        "#recycle",
        "#snapshot",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "Thumbs.db",
        "desktop.ini",
    }
)
"""What operating systems and network disks leave lying about in folders."""

LAST = "\U0010ffff"
"""Sorts behind every name: the sort key of what has no name."""

NO_KEY = "_"
"""The key of the artist of songs without an artist, and of the album of songs without an album."""

_NUMBER = re.compile(r"(\d+)")
_WORD = re.compile(r"\w+")
# Scripts that are written without spaces: every character becomes a word, and a search for several is one for the phrase.
_UNSPACED = re.compile(
    "[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def is_left_out(name: str) -> bool:
    """Tell whether a file or folder of this name is not shared: hidden ones, and what systems leave behind."""
    return name[0] == "." or name in LITTER


def stem_of(name: str) -> str:
    """Return a file name without its extension."""
    stem, dot, _ = name.rpartition(".")
    return stem if stem and dot else name


def fold(text: str) -> str:
    """Return the text without differences of case, accents and Unicode forms."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def sort_key(text: str) -> str:
    """Return a text that sorts as people expect: without case and accents, and numbers by their value."""
    parts = _NUMBER.split(fold(text))
    if len(parts) == 1:
        return parts[0]
    # A longer number is a larger one, once leading zeros are gone.
    for at in range(1, len(parts), 2):
        digits = parts[at].lstrip("0")
        parts[at] = f"{len(digits):03d}{digits}"
    return "".join(parts)


def group_key(*parts: str) -> str:
    """Return a short opaque key [a-z0-9] of names, the same for spellings that differ in case, accents or spaces only."""
    folded = "\0".join(" ".join(fold(part).split()) for part in parts)
    return blake2s(folded.encode(), digest_size=10).hexdigest()


def spaced(text: str) -> str:
    """Return the text as it is put into the search index: with spaces where a script does without."""
    if text.isascii():
        return text
    return _UNSPACED.sub(r" \g<0> ", text)


def phrases(text: str, limit: int) -> list[str]:
    """Return what somebody looks for as phrases for the search index, quoted, at most `limit` of them."""
    found: Iterable[str] = (match[0] for match in _WORD.finditer(text))
    return [f'"{" ".join(spaced(word).split())}"' for word in list(found)[:limit]]
