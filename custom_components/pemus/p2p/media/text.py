"""Text out of files made by strangers, in a state fit to be stored, searched and shown."""

from __future__ import annotations

import re
import unicodedata

MAX_LENGTH = 500
"""Characters kept of a text: more than any honest title, little enough for a list of thousands."""

_MAX_RAW = 8 * MAX_LENGTH
"""Characters looked at. Composing characters and dropping controls only makes a text shorter."""
_DROPPED = frozenset({"Cc", "Cs", "Cn", "Co"})
"""Unicode categories that no title needs: control characters, lone surrogates, unassigned and private ones."""
_YEAR = re.compile(r"(?<!\d)(1\d{3}|2\d{3})(?!\d)")
_NUMBER = re.compile(r"\s*(\d{1,5})(?!\d)")


def clean(value: object) -> str | None:
    """Return the text on one line without what cannot be shown, at most `MAX_LENGTH` characters; None if nothing is left."""
    if isinstance(value, bytes):
        value = value[: 4 * _MAX_RAW].decode("utf-8", "replace")
    text = _decode_again(str(value)[:_MAX_RAW])
    text = "".join(
        " " if char.isspace() else char
        for char in unicodedata.normalize("NFC", text)
        if char.isspace() or unicodedata.category(char) not in _DROPPED
    )
    return " ".join(text.split())[:MAX_LENGTH].rstrip() or None


def year_in(value: object) -> int | None:
    """Return the first year of four digits in a date that may be written in any way."""
    found = _YEAR.search(str(value)[:_MAX_RAW])
    return int(found[1]) if found else None


def number_in(value: object) -> int | None:
    """Return the number that a text like "3", "03/12" or "3 of 12" begins with; None if that is 0 or no number."""
    found = _NUMBER.match(str(value)[:_MAX_RAW])
    return (int(found[1]) or None) if found else None


def _decode_again(text: str) -> str:
    """Put right what was decoded with the wrong one of the two usual encodings.

    UTF-8 mistaken for Latin-1 ("JosÃ©") is read once more: real Latin-1 is hardly ever valid UTF-8. Bytes that were no
    UTF-8, which Python keeps as surrogates, are most likely cp1252.
    """
    if text.isascii():
        return text
    for mistaken, errors, right in (
        ("latin-1", "strict", "utf-8"),
        ("utf-8", "surrogateescape", "utf-8"),
        ("utf-8", "surrogateescape", "cp1252"),
    ):
        try:
            return text.encode(mistaken, errors).decode(right)
        except UnicodeError:
            continue
    return text
