"""PeMuS IDs, and the signatures that prove them.

An ID has 28 characters, displayed in groups of four: the first 130 bits of the SHA-256 hash of an Ed25519 public key
(RFC 8032) in Crockford's base 32, and two check characters. Case and dashes do not matter. `O` is read as `0`, `I` and `L` as
`1`. The check is the 130 bits modulo 1021, which detects a wrong character and two swapped characters.
"""

from __future__ import annotations

from hashlib import sha256
import secrets
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
BODY: Final = 26
"""Characters without the check."""
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
"""The y coordinates of all points of order 1, 2, 4 and 8, including non-canonical encodings. If such a point is a public key,
anyone can create signatures that fit many messages."""
_READ: Final = {
    **{character: value for value, character in enumerate(ALPHABET)},
    **{character.lower(): value for value, character in enumerate(ALPHABET)},
    **dict.fromkeys("oO", 0),
    **dict.fromkeys("iIlL", 1),
}


def pemus_id(key: bytes) -> str:
    """Return the ID of a public key (32 bytes), without dashes."""
    number = int.from_bytes(sha256(key).digest()) >> (256 - 5 * BODY)
    return _write(number, BODY) + _write(number % _PRIME, LENGTH - BODY)


def read_id(text: str) -> str | None:
    """Return an ID in the form of `pemus_id`, or None if the text is not an ID, for example because of a typing error."""
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
    """Return a random nonce."""
    return secrets.token_bytes(NONCE_BYTES)


def statement(origin: str, nonce: bytes, identifier: str) -> bytes:
    """Return the message that a client signs to prove its identity.

    It contains the origin of the server, so that no server can use the challenge of another one.
    """
    parts = (b"pemus signalling 1", origin.encode(), nonce, identifier.encode())
    return b"".join(len(part).to_bytes(2) + part for part in parts)


def is_signed(key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a signature of a message is valid."""
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
