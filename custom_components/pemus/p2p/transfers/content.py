"""What of an item is in its file, and what of it is on its way there or away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..core.spans import Spans
from ..torrent.metainfo import Metainfo

DEFAULT_PIECE = 256 * 1024
"""Bytes that are taken away together of an item without a torrent."""


class Content:
    """The bytes of an item. All positions are bytes from its beginning."""

    def __init__(self, size: int, meta: Metainfo | None) -> None:
        """Begin without any byte."""
        self.size = size
        self.meta = meta
        """None as long as there is no torrent."""
        self.spans = Spans()
        """Verified, on disk, and not about to be taken away."""
        self.unchecked = Spans()
        """On disk, perhaps: left by an engine that did not end cleanly. Whole pieces."""
        self._leaving = Spans()

    @property
    def piece_length(self) -> int:
        """Return the bytes that are verified, and taken away, together."""
        return self.meta.piece_length if self.meta is not None else DEFAULT_PIECE

    @property
    def is_complete(self) -> bool:
        """Tell whether all of it is there."""
        return self.spans.total == self.size

    @property
    def stored(self) -> int:
        """Return the bytes that it takes on disk."""
        return self.spans.total + self.unchecked.total

    def has(self, start: int) -> bool:
        """Tell whether the byte at `start` is there."""
        return self.spans.run_from(start) > start

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the parts of a span that may be asked for."""
        missing = list(self.spans.missing(start, stop))
        for others in (self.unchecked, self._leaving):
            if others.total:
                missing = [
                    part for low, high in missing for part in others.missing(low, high)
                ]
        return missing

    def arriving(self, start: int, stop: int, besides: Spans) -> list[tuple[int, int]]:
        """Return what arrives besides other spans if one is asked for: with a torrent, all of the pieces that it meets."""
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
        """Note bytes that arrived; return how many are new, None if they are just being taken away."""
        if self._leaving.meets(start, stop):
            # Part of it may be gone.
            return None
        self.unchecked.discard(start, stop)
        return self.spans.add(start, stop)

    def spare(self, kept: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        """Yield the whole pieces that meet none of the spans that are kept: how far they are from these, start, and stop."""
        length, kept = self.piece_length, tuple(kept)
        for index, there in enumerate(self.spans.whole(length, self.size)):
            start, stop = index * length, min(self.size, (index + 1) * length)
            if there and (far := distance(start, stop, kept)):
                yield far, start, stop

    def leave(
        self, most: int, kept: Iterable[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Choose about `most` bytes, those farthest from what is kept, and count them as missing at once.

        `left` is to be called when their room is free.
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
        """Note that bytes were taken away; from now on they may be fetched again."""
        for start, stop in spans:
            self._leaving.discard(start, stop)


def distance(start: int, stop: int, kept: Iterable[tuple[int, int]]) -> int:
    """Return how far a span is from what is kept; 0 if it meets any of that."""
    return min(
        (max(0, low - stop + 1, start - high + 1) for low, high in kept),
        default=2**62,
    )
