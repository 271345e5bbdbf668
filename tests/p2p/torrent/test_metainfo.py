"""Metainfo files: only what PeMuS itself would write is accepted."""

from __future__ import annotations

from hashlib import sha1
import os
from typing import Any

from hypothesis import given, strategies as st
import libtorrent as lt
import pytest

from p2p.torrent import metainfo
from p2p.torrent.metainfo import BadMetainfo

SIZE = 1_000_000
SALT = bytes(range(16))


def hashes(size: int) -> bytes:
    count = -(-size // metainfo.piece_length_for(size))
    return b"".join(sha1(bytes([index])).digest() for index in range(count))


def made(size: int = SIZE) -> metainfo.Metainfo:
    return metainfo.make(size, hashes(size), SALT)


def changed(**changes: Any) -> bytes:
    """A metainfo file with other things in its info dictionary."""
    info: dict[bytes, Any] = lt.bdecode(made().encode())[b"info"]  # type: ignore[index,assignment]
    for key, value in changes.items():
        name = key.replace("_", " ").encode() if key != "x_salt" else b"x_salt"
        if value is None:
            del info[name]
        else:
            info[name] = value
    return lt.bencode({b"info": info})


def test_what_is_made_can_be_read() -> None:
    assert metainfo.read(made().encode(), SIZE) == made()


def test_libtorrent_agrees_on_everything() -> None:
    info = lt.torrent_info(made().encode())
    assert str(info.info_hashes().v1) == made().info_hash
    assert not info.info_hashes().has_v2()
    assert info.total_size() == SIZE
    assert info.num_files() == 1
    assert info.priv()
    assert info.num_pieces() == made().piece_count == 4
    assert info.piece_size(3) == made().piece_size(3)
    assert info.hash_for_piece(2) == made().digest(2)


def test_another_salt_is_another_torrent() -> None:
    other = metainfo.make(SIZE, hashes(SIZE), os.urandom(16))
    assert other.info_hash != made().info_hash
    assert other.pieces == made().pieces


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (1, 256 * 1024),
        (700 * 10**6, 512 * 1024),
        (40 * 10**9, 1024 * 1024),
        (200 * 10**9, 2 * 1024 * 1024),
    ],
)
def test_pieces_grow_with_the_file(size: int, length: int) -> None:
    assert metainfo.piece_length_for(size) == length


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"de",
        b"i1e",
        b"d4:infode" + b"e",
        made().encode()[:-1],
        made().encode() + b"e",
        b"d" * 5000,
        b"l" * 100_000 + b"e" * 100_000,
        changed(length=SIZE + 1),
        changed(length=b"long"),
        changed(length=-1),
        changed(name=b"../../etc/passwd"),
        changed(piece_length=16 * 1024),
        changed(piece_length=4 * 1024 * 1024),
        changed(piece_length=300_000),
        changed(piece_length=0),
        changed(piece_length=2**62),
        changed(pieces=b"short"),
        changed(pieces=5),
        changed(pieces=None),
        changed(private=0),
        changed(private=None),
        changed(x_salt=b"short"),
        changed(x_salt=None),
        changed(files=[{b"length": SIZE, b"path": [b"a"]}]),
        changed(meta_version=2),
        lt.bencode(
            {b"info": lt.bdecode(made().encode())[b"info"], b"announce": b"http://a/"}
        ),  # type: ignore[index,dict-item]
        lt.bencode(
            {b"info": lt.bdecode(made().encode())[b"info"], b"url-list": b"http://a/"}
        ),  # type: ignore[index,dict-item]
        b"x" * (metainfo.MAX_METAINFO + 1),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(BadMetainfo):
        metainfo.read(data, SIZE)


def test_a_torrent_of_another_size_is_refused() -> None:
    with pytest.raises(BadMetainfo):
        metainfo.read(made().encode(), SIZE + 1)
    with pytest.raises(BadMetainfo):
        metainfo.read(made(0 + 1).encode(), 0)


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data: bytes) -> None:
    with pytest.raises(BadMetainfo):
        metainfo.read(data, SIZE)


@given(st.integers(0, len(made().encode()) - 1), st.integers(0, 255))
def test_one_wrong_byte_is_refused_or_is_another_torrent(at: int, value: int) -> None:
    data = bytearray(made().encode())
    if data[at] == value:
        return
    data[at] = value
    try:
        read = metainfo.read(bytes(data), SIZE)
    except BadMetainfo:
        return
    assert read.info_hash != made().info_hash
