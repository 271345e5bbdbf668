"""How messages between nodes lie in what the Redis publishes.

A publication begins with the name of the node that it comes from. Each message follows with its head: the lengths of its
topic and of itself, then the topic.
"""

from __future__ import annotations

from collections.abc import Iterator
import struct
from typing import Final

from .cluster import NODE_LENGTH

AT_ONCE: Final = 512 * 1024
"""Bytes after which a publication is long enough."""

_HEAD: Final = struct.Struct(">BI")


def head(topic: str, length: int) -> bytes:
    """Return the head of a message of this many bytes."""
    return _HEAD.pack(len(topic), length) + topic.encode()


def publications(node: bytes, parts: list[bytes]) -> Iterator[bytes]:
    """Put heads and messages together into a few publications of a node."""
    begun, length = 0, 0
    for at, part in enumerate(parts):
        # Only in front of a head.
        if length >= AT_ONCE and not at % 2:
            yield b"".join((node, *parts[begun:at]))
            begun, length = at, 0
        length += len(part)
    yield b"".join((node, *parts[begun:]))


def messages(publication: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return the topics and messages of a publication. Raises struct.error if it is cut off."""
    at, end = NODE_LENGTH, len(publication)
    unpack, size = _HEAD.unpack_from, _HEAD.size
    while at < end:
        topic, length = unpack(publication, at)
        begin = at + size + topic
        yield publication[at + size : begin], publication[begin : begin + length]
        at = begin + length
