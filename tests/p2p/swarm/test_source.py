"""The swarm as a source: what is wanted sooner comes sooner, over a slow line between real sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
import os
from pathlib import Path
import time

from p2p.swarm.reading import Haste
from p2p.swarm.session import Session, SessionSettings
from p2p.swarm.source import Source, SwarmSource, Wanted
from p2p.swarm.spans import Spans

from .receiving import LOCAL, OWNER, PIECE, Silent, describe

PIECES = 32
SIZE = PIECES * PIECE
RATE = 1_500_000
"""Bytes per second of the line: about six pieces."""


class Part:
    """A download that only remembers when what came."""

    label = "film"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spans = Spans()
        self.order: list[int] = []
        self.news = asyncio.Event()

    def arrived(self, start: int, stop: int) -> None:
        self.spans.add(start, stop)
        self.order.append(start // PIECE)
        self.news.set()

    def source_failed(self, source: Source, message: str) -> None:
        raise AssertionError(message)

    async def until(self, *pieces: int) -> float:
        """Return the seconds until these pieces are there."""
        began = time.monotonic()
        async with asyncio.timeout(60):
            while not set(pieces) <= set(self.order):
                self.news.clear()
                await self.news.wait()
        return time.monotonic() - began


def span(piece: int, haste: Haste = Haste.LATER) -> Wanted:
    return Wanted(piece * PIECE, (piece + 1) * PIECE, haste)


@asynccontextmanager
async def slow_line(tmp_path: Path) -> AsyncGenerator[tuple[SwarmSource, Part]]:
    content = os.urandom(SIZE)
    film = tmp_path / "film.mp4"
    film.write_bytes(content)
    meta = describe(content)
    assert meta.piece_length == PIECE
    part = Part(tmp_path / "part")
    with part.path.open("wb") as file:
        file.truncate(SIZE)
    owner = await Session.open(
        SessionSettings(addresses=("127.0.0.1",), upload_limit=RATE, lan_exempt=False)
    )
    receiver = await Session.open(LOCAL)
    source = SwarmSource(receiver, meta, OWNER, [("127.0.0.1", owner.port)])
    try:
        await owner.seed(meta, film, "film", Silent())
        await source.start(part)
        yield source, part
    finally:
        await source.close()
        await receiver.close()
        await owner.close()


async def test_pieces_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    async with slow_line(tmp_path) as (source, part):
        source.want([span(0, Haste.NOW), *map(span, range(1, 12))])
        await part.until(*range(12))
        # Two neighbours are under way at once.
        assert all(abs(piece - place) <= 2 for place, piece in enumerate(part.order))


async def test_who_seeks_does_not_wait_for_what_was_wanted_before(
    tmp_path: Path,
) -> None:
    async with slow_line(tmp_path) as (source, part):
        source.want([span(0, Haste.NOW), *map(span, range(1, 24))])
        await part.until(0, 1)
        source.want([span(28, Haste.NOW), *map(span, range(29, 32))])
        await part.until(28)
        before = len(part.order)
        # All that was wanted before would take four seconds.
        assert before <= 8
        await part.until(29, 30, 31)
        assert len(part.order) <= before + 4


async def test_what_two_readers_need_soon_comes_before_what_either_needs_later(
    tmp_path: Path,
) -> None:
    async with slow_line(tmp_path) as (source, part):
        source.want(
            [
                span(0, Haste.NOW),
                span(20, Haste.NOW),
                *(span(piece, Haste.SOON) for piece in (1, 2, 21, 22)),
                *map(span, range(3, 16)),
                *map(span, range(23, 28)),
            ]
        )
        await part.until(0, 1, 2, 20, 21, 22)
        assert len(part.order) <= 9


async def test_what_is_awaited_too_long_is_hurried(tmp_path: Path) -> None:
    async with slow_line(tmp_path) as (source, part):
        wishes = [span(0, Haste.NOW), *map(span, range(1, PIECES))]
        source.want(wishes)
        await part.until(0)
        # A reader comes to the end of what is under way; the last piece would be there after five seconds.
        wishes[-1] = span(PIECES - 1, Haste.NOW)
        source.want(wishes)
        await part.until(PIECES - 1)
        assert len(part.order) < PIECES // 2


async def test_what_is_not_wanted_any_more_does_not_come(tmp_path: Path) -> None:
    async with slow_line(tmp_path) as (source, part):
        source.want([*map(span, range(PIECES))])
        await part.until(0, 1)
        source.want([])
        await asyncio.sleep(1)
        there = len(part.order)
        await asyncio.sleep(1)
        assert len(part.order) == there < PIECES
