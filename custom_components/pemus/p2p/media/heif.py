"""The size and the EXIF of HEIC photos, which no library here decodes, from the boxes they are built of (ISO 23008-12).

Phones write them by the thousand; without this they would have no place among the years and months.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_META = 4 * 1024 * 1024
"""Bytes of the box that describes everything; a phone's has a few thousand."""
MAX_EXIF = 1024 * 1024

_FULL = 4
"""Bytes of version and flags that some boxes begin with."""


class HeifError(ValueError):
    """The file is not built as it should be."""


@dataclass(frozen=True, slots=True)
class HeifFacts:
    """What the boxes say: dimensions as shown, and EXIF as a TIFF file."""

    width: int
    height: int
    exif: bytes | None


class _Bytes:
    """Bytes that are read one number after the other. All raise HeifError where they end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise HeifError("a box ends early")
        self._at += size
        return taken

    def rest(self) -> bytes:
        return self._data[self._at :]


def read_heif(file: BinaryIO) -> HeifFacts:
    """Read what the boxes of a HEIF file say. Raises HeifError or OSError."""
    meta = _meta(file)
    exif_item, turned = 0, False
    extents: dict[int, tuple[int, int]] = {}
    sizes: list[tuple[int, int]] = []
    for kind, content in _boxes(meta[_FULL:]):
        match kind:
            case b"iinf":
                exif_item = _exif_item(content)
            case b"iloc":
                extents = _extents(content)
            case b"iprp":
                sizes, turned = _properties(content)
    if not sizes:
        raise HeifError("it has no size")
    # A photo may be made of tiles and have a thumbnail, each with its size.
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if turned:
        width, height = height, width
    return HeifFacts(width, height, _exif(file, extents.get(exif_item)))


def _meta(file: BinaryIO) -> bytes:
    """Return the content of the file's first `meta` box."""
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"meta":
            if not 8 < length <= MAX_META:
                raise HeifError("its description is too large")
            return file.read(length - 8)
        if length < 8:
            break
        file.seek(length - 8, 1)
    raise HeifError("it has no description")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the content of each box."""
    rest = _Bytes(data)
    while len(rest.rest()) >= 8:
        length, kind = rest.number(4), rest.take(4)
        if length < 8:
            raise HeifError("a box has no length")
        yield kind, rest.take(length - 8)


def _exif_item(content: bytes) -> int:
    """Return the number of the item that is the EXIF; 0 if there is none."""
    entries = content[_FULL + (4 if content[:1] != b"\0" else 2) :]
    for kind, entry in _boxes(entries):
        info = _Bytes(entry)
        version = info.number(_FULL) >> 24
        if kind != b"infe" or version < 2:
            continue
        number = info.number(2 if version == 2 else 4)
        info.take(2)
        if info.take(4) == b"Exif":
            return number
    return 0


def _extents(content: bytes) -> dict[int, tuple[int, int]]:
    """Return place and length of those items that lie in one piece in the file."""
    table = _Bytes(content)
    version = table.number(_FULL) >> 24
    widths = table.number(2)
    offset_size, length_size = widths >> 12, widths >> 8 & 15
    base_size, index_size = widths >> 4 & 15, widths & 15 if version else 0
    found = {}
    for _ in range(table.number(4 if version == 2 else 2)):
        number = table.number(4 if version == 2 else 2)
        method = table.number(2) & 15 if version else 0
        table.take(2)
        base, count = table.number(base_size), table.number(2)
        pieces = [
            (
                table.number(index_size),
                table.number(offset_size),
                table.number(length_size),
            )
            for _ in range(count)
        ]
        if method == 0 and count == 1:
            found[number] = base + pieces[0][1], pieces[0][2]
    return found


def _properties(content: bytes) -> tuple[list[tuple[int, int]], bool]:
    """Return the sizes of all pictures, and whether they are shown turned to a side."""
    sizes: list[tuple[int, int]] = []
    turned = False
    for container, properties in _boxes(content):
        if container != b"ipco":
            continue
        for kind, value in _boxes(properties):
            fields = _Bytes(value)
            if kind == b"ispe":
                fields.take(_FULL)
                sizes.append((fields.number(4), fields.number(4)))
            elif kind == b"irot":
                turned = fields.number(1) & 1 == 1
    return sizes, turned


def _exif(file: BinaryIO, extent: tuple[int, int] | None) -> bytes | None:
    if extent is None or not 4 < extent[1] <= MAX_EXIF:
        return None
    file.seek(extent[0])
    block = file.read(extent[1])
    return block[4 + int.from_bytes(block[:4], "big") :] or None
