"""The identity of a home: an Ed25519 key (RFC 8032), from which its PeMuS ID is derived (`models/pemus_id`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
import os
from pathlib import Path
import stat
import time
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from ..core import atomic
from ..models.pemus_id import pemus_id

KEY_SIZE: Final = 32
"""Bytes of a private key, and of a public one."""
SIGNATURE_SIZE: Final = 64

_MAX_PATTERN: Final = 8
"""A private key with no more different bytes than these is not random."""
_EXAMPLES: Final = frozenset(
    bytes.fromhex(seed)
    # RFC 8032 section 7.1.
    for seed in (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
    )
)
_FIELD: Final = 2**255 - 19
_EIGHTH: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "little",
)
_SMALL: Final = frozenset(
    {0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _EIGHTH, _FIELD - _EIGHTH}
)
"""The y coordinates of all points of order 1, 2, 4 and 8, with their non-canonical encodings. With such a public key, one
signature is valid for many statements, and nobody needs a private key to make it."""


class IdentityError(Exception):
    """The key cannot be read or stored. The message says why."""


class IdentityLost(IdentityError):
    """The key of this home cannot be used. Only the user can decide to restore it, or to become another home."""


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
        """Return the identity of a private key. Raises ValueError unless it has 32 bytes."""
        private = Ed25519PrivateKey.from_private_bytes(seed)
        key = private.public_key().public_bytes_raw()
        return cls(private, key, pemus_id(key))

    def sign(self, *parts: bytes) -> bytes:
        """Return the signature of a statement with these parts."""
        return self.private.sign(statement(*parts))


def load(path: Path, *, first: bool) -> Identity:
    """Return the identity in a file, and make the file readable by its owner only.

    `first`: the home never had an identity, so one is made if there is no file. Otherwise only `renew` replaces an identity,
    when the user asks for it. Raises IdentityLost and IdentityError.
    """
    try:
        seed = _read(path)
    except FileNotFoundError:
        if first:
            return renew(path)
        raise IdentityLost("it is missing") from None
    except OSError as err:
        raise IdentityLost(f"it cannot be read: {err.strerror}") from err
    return Identity.of(seed)


def renew(path: Path) -> Identity:
    """Make a new identity that replaces the former one. A file without a usable key is kept beside it. Raises IdentityError."""
    made = Ed25519PrivateKey.generate()
    try:
        with _set_aside(path):
            atomic.write(path, made.private_bytes_raw())
    except OSError as err:
        raise IdentityError(f"{path} cannot be written: {err.strerror}") from err
    return Identity.of(made.private_bytes_raw())


def _read(path: Path) -> bytes:
    """Return the private key in a file. Raises OSError, IdentityLost."""
    # Opening a pipe would block otherwise.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(path, flags)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise IdentityLost("it is not a file")
        seed = os.read(file, KEY_SIZE + 1)
        if len(seed) != KEY_SIZE:
            raise IdentityLost(f"it has {found.st_size} bytes instead of {KEY_SIZE}")
        if _is_guessable(seed):
            raise IdentityLost("its key is not secret: anybody may know it")
        if found.st_mode & 0o077:
            # A restored backup may have lost the permissions.
            with suppress(OSError):
                os.fchmod(file, 0o600)
    finally:
        os.close(file)
    return seed


@contextmanager
def _set_aside(path: Path) -> Iterator[None]:
    """Rename a file without a usable key, and rename it back if the block fails with OSError. Raises OSError."""
    try:
        _read(path)
    except FileNotFoundError:
        yield
    except (OSError, IdentityLost):
        aside = path.with_name(f"{path.name}.broken-{int(time.time())}")
        path.rename(aside)
        try:
            yield
        except OSError:
            with suppress(OSError):
                aside.rename(path)
            raise
    else:
        yield


def _is_guessable(seed: bytes) -> bool:
    """Tell whether a private key is not random: erased memory, a pattern, or an example from a document."""
    steps = {(after - before) % 256 for before, after in pairwise(seed)}
    # A random key looks like this once in 10^34 times.
    return len(set(seed)) <= _MAX_PATTERN or len(steps) == 1 or seed in _EXAMPLES


def statement(*parts: bytes) -> bytes:
    """Return an unambiguous encoding of parts: each after its length in four bytes."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def is_signed(key: bytes, signature: bytes, *parts: bytes) -> bool:
    """Tell whether the owner of a public key signed a statement with these parts."""
    if len(key) != KEY_SIZE or len(signature) != SIGNATURE_SIZE or _is_small(key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, statement(*parts))
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_small(key: bytes) -> bool:
    return int.from_bytes(key, "little") & (2**255 - 1) in _SMALL
