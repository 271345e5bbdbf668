"""Who a home is: an Ed25519 key (RFC 8032), and the PeMuS ID that is derived from it.

An ID is made of the first 130 bits of the SHA-256 hash of the public key, in Crockford's base 32, and of two check
characters, the same number modulo 1021: one wrong character, or two that changed places, are noticed before anything
is asked of anybody. Programs keep it in capitals without dashes; people see groups of four.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
import logging
import os
from pathlib import Path
import time
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from .facts import ID_ALPHABET, ID_LENGTH

KEY_SIZE: Final = 32
"""Bytes of a private key, and of a public one."""
SIGNATURE_SIZE: Final = 64

_CHECKS: Final = 2
_PRIME: Final = 1021
_HASHED: Final = 5 * (ID_LENGTH - _CHECKS)
_READ_AS: Final = str.maketrans("OIL", "011", "- ")

_LOGGER = logging.getLogger(__name__)


class IdentityError(Exception):
    """The key cannot be read or kept. The message says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A home's key."""

    private: Ed25519PrivateKey
    key: bytes
    """The public key."""
    id: str
    """The PeMuS ID, without dashes."""

    @classmethod
    def of(cls, seed: bytes) -> Identity:
        """Return the identity that 32 bytes of a private key make. Raises ValueError for another number of bytes."""
        private = Ed25519PrivateKey.from_private_bytes(seed)
        key = private.public_key().public_bytes_raw()
        return cls(private, key, pemus_id(key))

    def sign(self, *parts: bytes) -> bytes:
        """Return the signature over a statement of these parts."""
        return self.private.sign(statement(*parts))


def load(path: Path) -> Identity:
    """Return the identity in a file that only its owner may read; make one at the first start.

    A damaged file is set aside and not overwritten: what is left of it may be what a user needs. Raises IdentityError.
    """
    try:
        seed = path.read_bytes()
    except FileNotFoundError:
        return renew(path)
    except OSError as err:
        raise IdentityError(f"{path} cannot be read: {err.strerror}") from err
    if len(seed) != KEY_SIZE:
        aside = path.with_name(f"{path.name}.broken-{int(time.time())}")
        _LOGGER.error(
            "%s is damaged and kept as %s: this home gets a new identity, which its friends do not know",
            path,
            aside.name,
        )
        with suppress(OSError):
            path.rename(aside)
        return renew(path)
    if path.stat().st_mode & 0o077:
        # A restored backup may have lost who may read it.
        with suppress(OSError):
            path.chmod(0o600)
    return Identity.of(seed)


def renew(path: Path) -> Identity:
    """Make a new identity in the place of any former one. Raises IdentityError."""
    made = Ed25519PrivateKey.generate()
    fresh = path.with_name(f"{path.name}.new")
    try:
        with suppress(FileNotFoundError):
            fresh.unlink()
        file = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(file, made.private_bytes_raw())
            os.fsync(file)
        finally:
            os.close(file)
        fresh.replace(path)
    except OSError as err:
        raise IdentityError(f"{path} cannot be written: {err.strerror}") from err
    return Identity.of(made.private_bytes_raw())


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


def statement(*parts: bytes) -> bytes:
    """Return parts in one piece that no other parts make: each after its length in four bytes."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def is_signed(key: bytes, signature: bytes, *parts: bytes) -> bool:
    """Tell whether the owner of a public key signed a statement of these parts."""
    if len(key) != KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, statement(*parts))
    except (InvalidSignature, ValueError):
        return False
    return True


def _digits(number: int, length: int) -> str:
    return "".join(
        ID_ALPHABET[number >> (5 * place) & 31] for place in reversed(range(length))
    )
