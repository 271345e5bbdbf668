"""Metainfo files (BEP 3): the one form that PeMuS makes and accepts.

A torrent of PeMuS holds one file, has version 1 (libtorrent's WebRTC peers support no other) and is private (BEP 27). Its info
dictionary has a salt of its own, so only one receiver knows the info-hash, which is all that a peer needs to be served. It
does not contain the file's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from typing import Final

from . import bencode

MIN_PIECE: Final = 256 * 1024
MAX_PIECE: Final = 2 * 1024 * 1024
DIGEST: Final = 20
"""Bytes of a piece's hash (SHA-1)."""
SALT: Final = 16
"""Bytes of the salt: as hard to guess as a key of 128 bits."""
MAX_METAINFO: Final = 8 * 1024 * 1024
"""Bytes of a metainfo file: enough for the pieces of 800 GB."""

_NAME: Final = b"item"
_KEYS: Final = frozenset(
    {b"length", b"name", b"piece length", b"pieces", b"private", b"x_salt"}
)
_BEFORE_INFO: Final = b"d4:info"


class BadMetainfo(Exception):
    """PeMuS would not make such metainfo. The message says why."""


@dataclass(frozen=True, slots=True)
class Metainfo:
    """The checked description of a torrent."""

    info_hash: str
    """40 hexadecimal digits."""
    size: int
    piece_length: int
    pieces: bytes
    """The concatenated hashes of all pieces."""
    salt: bytes

    @property
    def piece_count(self) -> int:
        """Return the number of pieces."""
        return len(self.pieces) // DIGEST

    def digest(self, index: int) -> bytes:
        """Return the hash of one piece."""
        return self.pieces[index * DIGEST : (index + 1) * DIGEST]

    def piece_size(self, index: int) -> int:
        """Return the size of one piece in bytes; the last one may be shorter."""
        return min(self.piece_length, self.size - index * self.piece_length)

    def encode(self) -> bytes:
        """Return the metainfo file."""
        return _encode(self.size, self.piece_length, self.pieces, self.salt)


def piece_length_for(size: int) -> int:
    """Return the length of a file's pieces. Short pieces arrive sooner; long ones make the list of hashes shorter."""
    if size <= 256 * 1024**2:
        return MIN_PIECE
    if size <= 4 * 1024**3:
        return 512 * 1024
    return 1024 * 1024 if size <= 64 * 1024**3 else MAX_PIECE


def make(size: int, pieces: bytes, salt: bytes) -> Metainfo:
    """Return the metainfo of a file from the hashes of its pieces, whose length is `piece_length_for(size)`."""
    return _checked(size, piece_length_for(size), pieces, salt)


def read(data: bytes, size: int) -> Metainfo:
    """Return the metainfo that another home sent for an item of `size` bytes. Raises BadMetainfo."""
    if len(data) > MAX_METAINFO:
        raise BadMetainfo("it is too long")
    try:
        root = bencode.decode(data)
    except ValueError:
        raise BadMetainfo("it is damaged") from None
    info = root.get(b"info") if isinstance(root, dict) else None
    if not isinstance(info, dict) or set(info) != _KEYS:
        raise BadMetainfo("it does not describe one private file")
    metainfo = _checked(size, info[b"piece length"], info[b"pieces"], info[b"x_salt"])
    # The encoding decides the info-hash: another key, order or size would be another torrent.
    if metainfo.encode() != data:
        raise BadMetainfo("it does not describe the item")
    return metainfo


def _encode(size: int, piece_length: int, pieces: bytes, salt: bytes) -> bytes:
    """Return the metainfo file in its only valid encoding."""
    info: bencode.Plain = {
        b"length": size,
        b"name": _NAME,
        b"piece length": piece_length,
        b"pieces": pieces,
        b"private": 1,
        b"x_salt": salt,
    }
    return bencode.encode({b"info": info})


def _checked(size: int, piece_length: object, pieces: object, salt: object) -> Metainfo:
    if (
        not isinstance(piece_length, int)
        or not MIN_PIECE <= piece_length <= MAX_PIECE
        or piece_length & (piece_length - 1)
    ):
        raise BadMetainfo("its pieces have an invalid length")
    if not isinstance(salt, bytes) or len(salt) != SALT:
        raise BadMetainfo("its salt is too short")
    if size <= 0 or not isinstance(pieces, bytes):
        raise BadMetainfo("it is empty")
    if len(pieces) != -(-size // piece_length) * DIGEST:
        raise BadMetainfo("its hashes do not fit its size")
    encoded = _encode(size, piece_length, pieces, salt)
    return Metainfo(
        info_hash=sha1(
            encoded[len(_BEFORE_INFO) : -1], usedforsecurity=False
        ).hexdigest(),
        size=size,
        piece_length=piece_length,
        pieces=pieces,
        salt=salt,
    )
