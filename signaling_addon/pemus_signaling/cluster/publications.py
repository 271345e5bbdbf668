"""The format of publications, which contain messages between nodes.

A publication starts with the name of the sending node. The messages follow, each with a head: the length of the topic, the
length of the message, and the topic.
"""

from __future__ import annotations

from collections.abc import Iterator
import struct
from typing import Final

from .cluster import NODE_LENGTH

AT_ONCE: Final = 512 * 1024
"""Bytes after which the next message starts another publication."""

_HEAD: Final = struct.Struct(">BI")


def head(topic: str, length: int) -> bytes:
    """Return the head of a message of this many bytes."""
    return _HEAD.pack(len(topic), length) + topic.encode()


def publications(node: bytes, parts: list[bytes]) -> Iterator[bytes]:
    """Join heads and messages to publications of a node."""
    begun, length = 0, 0
    for at, part in enumerate(parts):
        # A publication starts with a head.
        if length >= AT_ONCE and not at % 2:
            yield b"".join((node, *parts[begun:at]))
            begun, length = at, 0
        length += len(part)
    yield b"".join((node, *parts[begun:]))


def messages(publication: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return the topics and messages of a publication. Raises struct.error if it is truncated."""
    at, end = NODE_LENGTH, len(publication)
    unpack, size = _HEAD.unpack_from, _HEAD.size
    while at < end:
        topic, length = unpack(publication, at)
        begin = at + size + topic
        yield publication[at + size : begin], publication[begin : begin + length]
        at = begin + length
