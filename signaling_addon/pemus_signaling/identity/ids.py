"""PeMuS IDs: what they are made of, and how somebody proves to have one.

An ID is the beginning of the SHA-256 hash of an Ed25519 public key (RFC 8032), 130 bits in Crockford's base 32, and two
check characters: 28 characters, shown in groups of four. Case does not matter, nor does which dashes stand where; `O` is
read as `0`, `I` and `L` as `1`. The check is the rest of the 130 bits by 1021, so a wrong character, and two that
changed places, are found before anything is asked of anybody.
"""

from __future__ import annotations

from hashlib import sha256
import secrets
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
BODY: Final = 26
"""Characters that come from the key."""
LENGTH: Final = BODY + 2
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_PRIME: Final = 1021
_FIELD: Final = 2**255 - 19
_EIGHTH: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "little",
)
_SMALL: Final = frozenset(
    {0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _EIGHTH, _FIELD - _EIGHTH}
)
"""The y of all points of order 1, 2, 4 and 8, also written as no encoder writes them. For a public key of these, a fixed
signature fits many statements, or all, and nobody needs a private key."""
_READ: Final = {
    **{character: value for value, character in enumerate(ALPHABET)},
    **{character.lower(): value for value, character in enumerate(ALPHABET)},
    **dict.fromkeys("oO", 0),
    **dict.fromkeys("iIlL", 1),
}


def pemus_id(key: bytes) -> str:
    """Return the ID of a public key of 32 bytes, without dashes."""
    number = int.from_bytes(sha256(key).digest()) >> (256 - 5 * BODY)
    return _write(number, BODY) + _write(number % _PRIME, LENGTH - BODY)


def read_id(text: str) -> str | None:
    """Return an ID as `pemus_id` writes it, or None if the text is none: that is, if it has a typing error."""
    if len(text) > 2 * LENGTH:
        return None
    plain = text.replace("-", "").replace(" ", "")
    if len(plain) != LENGTH or not all(character in _READ for character in plain):
        return None
    number = 0
    for character in plain[:BODY]:
        number = number * 32 + _READ[character]
    check = _READ[plain[BODY]] * 32 + _READ[plain[BODY + 1]]
    if number % _PRIME != check:
        return None
    return _write(number, BODY) + _write(check, LENGTH - BODY)


def challenge() -> bytes:
    """Return a fresh nonce."""
    return secrets.token_bytes(NONCE_BYTES)


def statement(origin: str, nonce: bytes, identifier: str) -> bytes:
    """Return what is signed to prove an identity to a server.

    `origin` is the server's as its client sees it, so that no server can hand another's challenge on.
    """
    parts = (b"pemus signalling 1", origin.encode(), nonce, identifier.encode())
    return b"".join(len(part).to_bytes(2) + part for part in parts)


def is_signed(key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether the owner of a public key signed a message."""
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    if int.from_bytes(key, "little") & (2**255 - 1) in _SMALL:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _write(number: int, length: int) -> str:
    return "".join(
        ALPHABET[number >> (5 * place) & 31] for place in reversed(range(length))
    )
