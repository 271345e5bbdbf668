"""Bencoding (BEP 3), as far as metainfo files need it. It works without libtorrent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

type Plain = int | bytes | dict[bytes, Plain]
"""Lists are neither read nor written."""

MAX_DEPTH: Final = 4
"""Levels of nested dictionaries."""
_MAX_DIGITS: Final = 20


def encode(value: int | bytes | Mapping[bytes, Plain]) -> bytes:
    """Return a value in its only valid encoding."""
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, int):
        return b"i%de" % value
    parts = (encode(key) + encode(value[key]) for key in sorted(value))
    return b"d" + b"".join(parts) + b"e"


def decode(data: bytes) -> Plain:
    """Return a decoded value. Raises ValueError for lists, and for invalid bencoding."""
    value, end = _value(data, 0, MAX_DEPTH)
    if end != len(data):
        raise ValueError("more data follows it")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Plain, int]:
    kind = data[at : at + 1]
    if kind == b"d":
        return _dictionary(data, at + 1, depth)
    if kind == b"i":
        return _number(data, at + 1, b"e")
    return _text(data, at)


def _dictionary(data: bytes, at: int, depth: int) -> tuple[Plain, int]:
    if not depth:
        raise ValueError("it is nested too deeply")
    found: dict[bytes, Plain] = {}
    while data[at : at + 1] != b"e":
        key, at = _text(data, at)
        found[key], at = _value(data, at, depth - 1)
    return found, at + 1


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    size, start = _number(data, at, b":")
    if not 0 <= size <= len(data) - start:
        raise ValueError("it ends too early")
    return data[start : start + size], start + size


def _number(data: bytes, at: int, mark: bytes) -> tuple[int, int]:
    end = data.find(mark, at, at + _MAX_DIGITS + 1)
    digits = data[at:end].removeprefix(b"-")
    if end < 0 or not digits.isdigit():
        raise ValueError("a number in it is invalid")
    return int(data[at:end]), end + 1
