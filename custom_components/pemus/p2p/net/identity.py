"""Who a home is: an Ed25519 key (RFC 8032), from which its PeMuS ID is derived (`models/pemus_id`)."""

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


_PATTERN: Final = 8
"""Different bytes that a private key has at most if it is no random one."""
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
"""The y of all points of order 1, 2, 4 and 8, also written as no encoder writes them. For a public key of these, a fixed
signature fits many statements, or all, and nobody needs a private key."""


class IdentityError(Exception):
    """The key cannot be read or kept. The message says why."""


class IdentityLost(IdentityError):
    """A key that this home had cannot be used. Only a user knows whether to bring it back or to become another home."""


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


def load(path: Path, *, first: bool) -> Identity:
    """Return the identity in a file, which only its owner may read from then on.

    With `first`, a home that never had an identity gets one if there is no file. Nothing else ever replaces an identity
    but `renew`, which a user asks for. Raises IdentityLost, IdentityError.
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
    """Make a new identity in the place of a former one; a file that holds none is kept beside it. Raises IdentityError."""
    made = Ed25519PrivateKey.generate()
    try:
        with _out_of_the_way(path):
            atomic.write(path, made.private_bytes_raw())
    except OSError as err:
        raise IdentityError(f"{path} cannot be written: {err.strerror}") from err
    return Identity.of(made.private_bytes_raw())


def _read(path: Path) -> bytes:
    """Return the private key in a file. Raises OSError, IdentityLost."""
    # A pipe would be waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(path, flags)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise IdentityLost("it is no file")
        seed = os.read(file, KEY_SIZE + 1)
        if len(seed) != KEY_SIZE:
            raise IdentityLost(f"it has {found.st_size} bytes instead of {KEY_SIZE}")
        if _is_guessable(seed):
            raise IdentityLost("it holds no secret key but one that anybody may know")
        if found.st_mode & 0o077:
            # A restored backup may have lost who may read it.
            with suppress(OSError):
                os.fchmod(file, 0o600)
    finally:
        os.close(file)
    return seed


@contextmanager
def _out_of_the_way(path: Path) -> Iterator[None]:
    """Set aside what is where the identity belongs and is none, for good if that works out. Raises OSError."""
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
    """Tell whether a private key was not drawn at random: erased memory, a pattern, an example out of a document."""
    steps = {(after - before) % 256 for before, after in pairwise(seed)}
    # At random, that happens once in 10^34 times.
    return len(set(seed)) <= _PATTERN or len(steps) == 1 or seed in _EXAMPLES


def statement(*parts: bytes) -> bytes:
    """Return parts in one piece that no other parts make: each after its length in four bytes."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def is_signed(key: bytes, signature: bytes, *parts: bytes) -> bool:
    """Tell whether the owner of a public key signed a statement of these parts."""
    if len(key) != KEY_SIZE or len(signature) != SIGNATURE_SIZE or _is_small(key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, statement(*parts))
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_small(key: bytes) -> bool:
    return int.from_bytes(key, "little") & (2**255 - 1) in _SMALL
