"""Which bytes of an item are in its file, and which are being removed from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..core.spans import Spans
from ..torrent.metainfo import Metainfo

DEFAULT_PIECE_LENGTH = 256 * 1024
"""Bytes that are removed together from an item that has no torrent."""


class Content:
    """The bytes of an item. Positions count from its start."""

    def __init__(self, size: int, meta: Metainfo | None) -> None:
        """Begin with no bytes."""
        self.size = size
        self.meta = meta
        """None until there is a torrent."""
        self.spans = Spans()
        """Verified, on disk, and not being removed."""
        self.unchecked = Spans()
        """Possibly on disk, left by an engine that crashed. Whole pieces."""
        self._leaving = Spans()

    @property
    def piece_length(self) -> int:
        """How many bytes are verified, and removed, together."""
        if self.meta is not None:
            return self.meta.piece_length
        return DEFAULT_PIECE_LENGTH

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there."""
        return self.spans.total == self.size

    @property
    def stored(self) -> int:
        """How many bytes the item takes on disk."""
        return self.spans.total + self.unchecked.total + self._leaving.total

    def has(self, start: int) -> bool:
        """Tell whether the byte at `start` is there."""
        return self.spans.run_from(start) > start

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the parts of a span that may be requested."""
        missing = list(self.spans.missing(start, stop))
        for others in (self.unchecked, self._leaving):
            if others.total:
                missing = [
                    part for low, high in missing for part in others.missing(low, high)
                ]
        return missing

    def arriving(self, start: int, stop: int, besides: Spans) -> list[tuple[int, int]]:
        """Return what arrives, besides other spans, if this span is requested. A torrent delivers whole pieces."""
        if self.meta is not None:
            length = self.piece_length
            start = start // length * length
            stop = min(self.size, -(-stop // length) * length)
        return [
            part
            for low, high in self.missing(start, stop)
            for part in besides.missing(low, high)
        ]

    def add(self, start: int, stop: int) -> int | None:
        """Add bytes that arrived. Return how many of them are new, or None if some are being removed."""
        if self._leaving.meets(start, stop):
            # Part of them may be gone already.
            return None
        self.unchecked.discard(start, stop)
        return self.spans.add(start, stop)

    def spare(self, kept: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        """Yield each whole piece outside the kept spans: its distance from them, its start and its stop."""
        length, kept = self.piece_length, tuple(kept)
        for index, there in enumerate(self.spans.whole(length, self.size)):
            start, stop = index * length, min(self.size, (index + 1) * length)
            if there and (far := distance(start, stop, kept)):
                yield far, start, stop

    def leave(
        self, most: int, kept: Iterable[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Choose about `most` bytes, the farthest from the kept spans first. They count as missing immediately.

        Call `left` when they are removed from the file.
        """
        chosen = Spans()
        for _, start, stop in sorted(self.spare(kept), reverse=True):
            if chosen.total >= most:
                break
            chosen.add(start, stop)
        for start, stop in chosen:
            self.spans.discard(start, stop)
            self._leaving.add(start, stop)
        return list(chosen)

    def left(self, spans: Iterable[tuple[int, int]]) -> None:
        """Note that bytes were removed. They may be fetched again."""
        for start, stop in spans:
            self._leaving.discard(start, stop)


def distance(start: int, stop: int, kept: Iterable[tuple[int, int]]) -> int:
    """Return how many bytes a span is away from the nearest kept span; 0 if they overlap."""
    return min(
        (max(0, low - stop + 1, start - high + 1) for low, high in kept),
        default=2**62,
    )
