"""What other homes say, and whether it can be shown: texts that do not steer what shows them, types that no browser runs."""

from __future__ import annotations

import re
from typing import Final
import unicodedata

# Nothing that a browser would run: with "+", an image could be a document with scripts (image/svg+xml).
_MEDIA_TYPE: Final = re.compile(
    r"(?:audio|image|video)/[a-z0-9][a-z0-9.-]{0,63}|application/octet-stream"
)
# They are not shown themselves, but words of Persian and Hindi, and many emoji, are not right without them.
_JOINERS: Final = "\u200c\u200d"
_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that end lines, change the direction of writing, or stand for nothing alone."""


def shown(text: str, length: int) -> str:
    """Return as much of a text as may be kept, with something harmless for each character that steers what shows it."""
    text = text[:length]
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in _JOINERS
        else " "
        if char.isspace()
        else "\ufffd"
        for char in text
    )


def is_shown(text: str, length: int) -> bool:
    """Tell whether a text that somebody sent is short enough, and does not steer what shows it.

    A character that this release's Unicode does not know yet may be one that the sender's does, and is let through.
    """
    return len(text) <= length and (
        text.isprintable()
        or not any(
            unicodedata.category(char) in _STEERING and char not in _JOINERS
            for char in text
        )
    )


def is_media_type(text: str) -> bool:
    """Tell whether a content type is one of media, and of nothing that a browser would run."""
    return _MEDIA_TYPE.fullmatch(text) is not None
