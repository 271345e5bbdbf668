"""Whatever readers and sources do, and in whatever order: what a reader is told to be there is there, and right."""

from __future__ import annotations

import asyncio
from hashlib import sha1
import os
from pathlib import Path
import tempfile
from typing import Any

from hypothesis import example, given, settings, strategies as st
import pytest

from p2p.core.errors import DiskFull, Unavailable
from p2p.core.spans import Spans
from p2p.torrent.metainfo import Metainfo
from p2p.transfers import fetcher, planner, readers as reading
from p2p.transfers.sources.source import Wanted
from tests.p2p.transfers.receiving import Owner, content_of
from tests.p2p.transfers.test_download import Keeper, Script, left
from tests.patience import until

PIECE = 1024
PIECES = 40
SIZE = PIECES * PIECE - 100
CONTENT = content_of(SIZE, 5)
META = Metainfo(
    info_hash="0" * 40,
    size=SIZE,
    piece_length=PIECE,
    pieces=b"".join(
        sha1(CONTENT[at : at + PIECE]).digest() for at in range(0, SIZE, PIECE)
    ),
    salt=b"s" * 16,
)

readers = st.sampled_from("abc")
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"),
            readers,
            st.integers(0, SIZE - 1),
            st.sampled_from([1, 500, 3 * PIECE, SIZE]),
        ),
        st.tuples(st.just("go on"), readers),
        st.tuples(st.just("give up"), readers),
        st.tuples(st.just("release"), readers),
        st.tuples(st.just("deliver"), st.integers(0, 10)),
        st.tuples(st.just("deliver"), st.integers(0, 10)),
        st.tuples(st.just("unasked"), st.integers(0, PIECES - 1)),
        st.tuples(st.just("burst")),
        st.tuples(st.just("leave"), st.sampled_from([1, 5 * PIECE, SIZE, SIZE])),
        st.tuples(st.just("left")),
        st.tuples(
            st.just("room"), st.sampled_from([0, PIECE, 3 * PIECE, 2**40, 2**40])
        ),
        st.tuples(st.just("full")),
        st.tuples(st.just("fail")),
        st.tuples(st.just("pin"), st.booleans()),
    ),
    max_size=40,
)


async def turns() -> None:
    """Let every task do what it can do without waiting for time or a thread."""
    for _ in range(12):
        await asyncio.sleep(0)


class Model:
    """A download, its readers, and what each of them was promised."""

    def __init__(self, path: Path, damaged: set[int], unchecked: Spans) -> None:
        self.path = path
        self.keeper = Keeper()
        self.keeper.window = 6 * PIECE
        owner = Owner(path.parent)
        owner.port = 4242
        owner.contents["i" * 26] = CONTENT
        ticket = owner.ticket("i" * 26, None)
        data = bytearray(SIZE)
        for start, stop in unchecked:
            data[start:stop] = CONTENT[start:stop]
        for index in damaged:
            data[index * PIECE] ^= 1
        path.write_bytes(data)
        self.download = self.keeper.download(ticket, META, path)
        self.content = self.download.entry.content
        self.content.unchecked = Spans(unchecked)
        self.asking: dict[str, tuple[int, int, asyncio.Task[int]]] = {}
        self.promises: dict[str, tuple[int, int]] = {}
        self.leaving: list[list[tuple[int, int]]] = []

    @property
    def source(self) -> Script | None:
        for source in self.download.fetcher.sources:
            assert isinstance(source, Script)
            source.content = CONTENT
            return source if source.target is not None else None
        return None

    async def settle(self) -> None:
        await turns()
        await until(lambda: not self.download.checker.is_running)
        await turns()
        for name, (start, stop, task) in list(self.asking.items()):
            if self.content.has(start):
                # Whoever goes on reading is answered with a batch, for which a moment is waited.
                await asyncio.wait((task,), timeout=10)
            if not task.done():
                # Nobody is left waiting for what is there.
                assert not self.content.has(start)
                continue
            del self.asking[name]
            try:
                end = task.result()
            except (DiskFull, asyncio.CancelledError):
                continue
            assert start < end <= stop
            self.promises[name] = (start, end)

    def ask(self, name: str, start: int, length: int) -> None:
        if name in self.asking:
            return
        stop = min(SIZE, start + length)
        # As it asks, it has sent what it was promised before.
        self.promises.pop(name, None)
        task = asyncio.create_task(self.download.wait(name, start, stop, 60))
        self.asking[name] = (start, stop, task)

    def missing(self, source: Script) -> list[Wanted]:
        """Return what is wanted of a source that it did not deliver yet."""
        spans = self.download.spans
        return [
            each for each in source.wanted if not spans.covers(each.start, each.stop)
        ]

    def deliverable(self) -> bool:
        """Tell whether a source could deliver something."""
        return self.source is not None and bool(self.missing(self.source))

    async def step(self, what: str, *arguments: Any) -> None:  # noqa: C901 - a table
        source = self.source
        match what, *arguments:
            case "ask", name, start, length:
                self.ask(name, start, length)
            case "go on", name:
                if (promise := self.promises.get(name)) and promise[1] < SIZE:
                    self.ask(name, promise[1], SIZE)
            case "give up", name:
                if name in self.asking:
                    self.asking[name][2].cancel()
            case "release", name:
                if name not in self.asking:
                    self.download.release(name)
                    self.promises.pop(name, None)
            case "deliver", number:
                if source is not None and (missing := self.missing(source)):
                    wanted = missing[min(number, len(missing) - 1)]
                    index = wanted.start // PIECE
                    # Like the swarm, which knows whole pieces only.
                    source.deliver(index * PIECE, min(SIZE, (index + 1) * PIECE))
            case ("burst",):
                for wanted in self.missing(source) if source is not None else ():
                    await self.step("unasked", wanted.start // PIECE)
            case "unasked", index:
                if source is not None:
                    start, stop = index * PIECE, min(SIZE, (index + 1) * PIECE)
                    if not self.is_leaving(start, stop):
                        source.deliver(start, stop)
            case "leave", most:
                if spans := self.download.leave(most):
                    self.punch(spans)
                    self.leaving.append(spans)
            case ("left",):
                if self.leaving:
                    left(self.download, self.leaving.pop(0))
            case "room", room:
                self.keeper.room = room
                self.download.roomier()
                self.download.replan()
            case ("full",):
                self.download.full("no room")
            case ("fail",):
                if source is not None:
                    self.download.source_failed("broken")
            case "pin", pinned:
                self.download.pin(pinned=pinned)

    def is_leaving(self, start: int, stop: int) -> bool:
        """Tell whether some of these bytes are being taken away."""
        spans = Spans(each for spans in self.leaving for each in spans)
        return spans.meets(start, stop)

    def punch(self, spans: list[tuple[int, int]]) -> None:
        file = os.open(self.path, os.O_WRONLY)
        for start, stop in spans:
            os.pwrite(file, bytes(stop - start), start)
        os.close(file)

    def check(self) -> None:
        data = self.path.read_bytes()
        for start, stop in [*self.download.spans, *self.promises.values()]:
            assert data[start:stop] == CONTENT[start:stop]
        source = self.source
        if source is None:
            return
        asked = source.asked
        assert asked.total <= self.keeper.room
        if self.keeper.room > SIZE and not self.leaving and not source.closed:
            for start, _, task in self.asking.values():
                # What somebody waits for is on its way.
                assert task.cancelling() or asked.meets(start, start + 1)

    async def finish(self) -> None:
        """Let everything arrive after all."""
        while self.leaving:
            left(self.download, self.leaving.pop())
        self.keeper.room = 2**40
        self.download.roomier()
        self.download.replan()
        for _ in range(500):
            await self.settle()
            if not self.asking:
                return
            if self.deliverable():
                await self.step("deliver", 0)
            else:
                asking = [task for _, _, task in self.asking.values()]
                await until(
                    lambda: self.deliverable() or any(each.done() for each in asking)  # noqa: B023
                )
        raise AssertionError("somebody waits forever")


@example(
    steps=[
        ("ask", "a", 0, SIZE),
        ("burst",),
        ("ask", "b", 20 * PIECE, SIZE),
        ("burst",),
        ("go on", "a"),
        ("leave", SIZE),
        ("left",),
        ("ask", "c", 0, SIZE),
    ],
    damaged=set(),
    left=set(),
)
@given(
    steps=steps,
    damaged=st.sets(st.integers(0, PIECES - 1), max_size=5),
    left=st.sets(st.integers(0, PIECES - 1), max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_what_is_promised_is_there_and_right(
    steps: list[tuple[Any, ...]], damaged: set[int], left: set[int]
) -> None:
    unchecked = Spans((each * PIECE, min(SIZE, (each + 1) * PIECE)) for each in left)

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            model = Model(Path(folder) / "part", damaged & left, unchecked)
            try:
                for step in steps:
                    await model.step(*step)
                    await model.settle()
                    model.check()
                await model.finish()
                model.check()
            finally:
                await model.download.close(Unavailable("over"))
                await asyncio.gather(
                    *(task for _, _, task in model.asking.values()),
                    return_exceptions=True,
                )
            assert not asyncio.all_tasks() - {asyncio.current_task()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "MIN_WINDOW", 4 * PIECE)
        patch.setattr(reading, "BEHIND", 2 * PIECE)
        patch.setattr(fetcher, "RETRY_DELAYS", (0.0,))
        patch.setattr(planner, "COPY_WINDOW", 16 * PIECE)
        asyncio.run(run())
