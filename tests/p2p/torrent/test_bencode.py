"""Bencoding: what libtorrent writes is read, and the other way round; whatever else comes is refused."""

from __future__ import annotations

import contextlib

from hypothesis import given, strategies as st
import libtorrent as lt
import pytest

from p2p.torrent.bencode import MAX_DEPTH, decode, encode

numbers = st.integers(-(2**63), 2**63 - 1)
plain = st.recursive(
    numbers | st.binary(max_size=20),
    lambda inner: st.dictionaries(st.binary(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.binary(max_size=8), numbers | st.binary(), max_size=5))
def test_libtorrent_agrees(value: dict[bytes, int | bytes]) -> None:
    written = encode(value)
    assert written == lt.bencode(value)
    assert decode(written) == value


def depth(value: object) -> int:
    """Return how many dictionaries lie in each other."""
    if not isinstance(value, dict):
        return 0
    return 1 + max(map(depth, value.values()), default=0)


@given(plain)
def test_what_is_written_is_read_unless_it_lies_too_deep(value: object) -> None:
    written = encode(value)  # type: ignore[arg-type]
    if depth(value) <= MAX_DEPTH:
        assert decode(written) == value
    else:
        with pytest.raises(ValueError, match="deep"):
            decode(written)


@given(st.binary(max_size=40))
def test_no_bytes_do_harm(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"i", b"ie", b"i-e", b"i--1e", b"i1", b"5:abcd", b"-1:a", b":"),
        *(b"d", b"d1:ae", b"di1ei2ee", b"le", b"i1ei2e", b"i" + b"9" * 40 + b"e"),
        *(b"99999999999999999999:a", b"d1:a" * 1000, b"i\xd9\xa1e"),
    ],
)
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="it"):
        decode(data)
