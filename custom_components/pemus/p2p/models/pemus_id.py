"""PeMuS IDs: what they are made of, and how people write them.

An ID is made of the first 130 bits of the SHA-256 hash of the public key, in Crockford's base 32, and of two check
characters, the same number modulo 1021: one wrong character, or two that changed places, are noticed before anything
is asked of anybody. Programs keep it in capitals without dashes; people see groups of four.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from .homes import ID_ALPHABET, ID_LENGTH

_CHECKS: Final = 2
_PRIME: Final = 1021
_HASHED: Final = 5 * (ID_LENGTH - _CHECKS)
_READ_AS: Final = str.maketrans("OIL", "011", "- ")


def pemus_id(key: bytes) -> str:
    """Return the ID of a public key, without dashes."""
    number = int.from_bytes(sha256(key).digest()) >> (256 - _HASHED)
    return _digits(number, ID_LENGTH - _CHECKS) + _digits(number % _PRIME, _CHECKS)


def read_id(text: str) -> str | None:
    """Return the ID that somebody typed as programs keep it, None if it is none: it has a typing error, or is no ID."""
    if len(text) > 3 * ID_LENGTH:
        return None
    plain = text.strip().upper().translate(_READ_AS)
    if len(plain) != ID_LENGTH or not set(plain) <= set(ID_ALPHABET):
        return None
    number = 0
    for character in plain[:-_CHECKS]:
        number = 32 * number + ID_ALPHABET.index(character)
    return plain if plain[-_CHECKS:] == _digits(number % _PRIME, _CHECKS) else None


def grouped(home: str) -> str:
    """Return an ID as people read it."""
    return "-".join(home[at : at + 4] for at in range(0, len(home), 4))


def _digits(number: int, length: int) -> str:
    return "".join(
        ID_ALPHABET[number >> (5 * place) & 31] for place in reversed(range(length))
    )
