"""Slugs, the names of rooms: short, easy to read aloud, and impossible to guess.

A slug is a random number of 48 bits, written as eight syllables of a consonant and a vowel in four groups, for example
`baku-timo-rosa-lufi`. Each syllable has six bits. Of letters that sound alike, slugs contain only one, and readers accept
the others for it: `c` and `q` are read as `k`, `w` as `v`, `y` as `j`, `e` as `i`. Case, dashes and spaces are ignored.
"""

from __future__ import annotations

import secrets
from typing import Final

CONSONANTS: Final = "bdfghjklmnprstvz"
VOWELS: Final = "aiou"
SYLLABLES: Final = 8
BITS: Final = 6 * SYLLABLES

_GROUP: Final = 4
"""Letters per group."""
_LETTERS: Final = 2 * SYLLABLES
_LONGEST: Final = 2 * _LETTERS
_READ: Final = str.maketrans("cqwye", "kkvji", "- ")


def new_slug() -> str:
    """Return a random slug."""
    return write_slug(secrets.randbits(BITS))


def write_slug(number: int) -> str:
    """Return the slug of a number of 48 bits."""
    syllables = (number >> 6 * place & 63 for place in reversed(range(SYLLABLES)))
    letters = "".join(CONSONANTS[value >> 2] + VOWELS[value & 3] for value in syllables)
    return "-".join(letters[at : at + _GROUP] for at in range(0, _LETTERS, _GROUP))


def read_slug(text: str) -> str | None:
    """Return a slug in the form of `write_slug`, or None if the text is not a slug."""
    if len(text) > _LONGEST or not text.isascii():
        return None
    letters = text.lower().translate(_READ)
    if len(letters) != _LETTERS:
        return None
    number = 0
    for consonant, vowel in zip(letters[::2], letters[1::2], strict=True):
        high, low = CONSONANTS.find(consonant), VOWELS.find(vowel)
        if high < 0 or low < 0:
            return None
        number = number << 6 | high << 2 | low
    return write_slug(number)
