"""Measures homes that are friends: how soon they are, how soon something of the other one plays, and how fast it comes.

    python benchmarks/friends.py --json FILE [--rounds N] [--only PART ...]

Runs in the engine's environment, and for what happens between homes behind routers as an administrator: these are in
network namespaces (`tests/lab/netlab.py`). Without that, those figures are absent. `friends_home.py` measures Home Assistant
meanwhile. Three pairs of homes are there at the same time, one for each path: `lan`, `nat_direct` (WebRTC between two
port-restricted NATs) and `turn` (relayed, between two symmetric ones); see `friends_lab.py`.

- `pair_to_first_frame_s`: from a request, which the other home accepts at once, to the first 256 KiB of one of its films;
- `resolve_to_first_byte_s`: from asking for a film to its first byte, with no link open before; with one that is open
  (`..._linked_s`);
- `play_mb_s` beside `raw_mb_s`: a whole film over a link that is open, read in order; the same bytes by plain libtorrent
  over TCP (`lan`) and over WebRTC (`nat_direct`), and by plain aiortc (`turn`). Unlimited, so that both share this
  machine's processors with the network; `play_to_raw` is the former divided by the latter;
- `shaped_20` beside `shaped_20_raw`: from the first byte on, as a share of a line of 20 Mbit/s;
- `list_100k_s`: from the moment that two homes on one machine count each other among their friends until one has the list
  of the other's 100,000 items; `list_delta_ms`: from a new file in the list of its own home to that in the other one's;
- `rss_mb`: an engine with links to 20 friends at the same time; `rss_alone_mb`: the same without any.

The figures are medians of the rounds; what is compared is measured in turns. MB are powers of ten, but for memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
import json
import os
from pathlib import Path
import shutil
import statistics
import sys
import tempfile
import time
from typing import Any, Final

from friends_lab import (
    AGE,
    HERE,
    LINE,
    LOOK,
    PYTHON,
    SETTLE,
    Couple,
    Film,
    Town,
    make_film,
    town,
)
from friends_options import IN_THE_LAB, ON_ONE_MACHINE, options, show
from library import make_names
from swarm import running
from swarm_peer import HOST

from tests.lab.engine_home import SHARE, EngineHome
from tests.lab.netlab import obstacle

LONG: Final = 200_000_000
RELAYED: Final = 40_000_000
SHAPED: Final = 100_000_000
SHORT: Final = 25_000_000
"""Bytes of films: a whole one, one that is relayed, one for a line of 20 Mbit/s, and any other."""
LISTED: Final = 100_000
CHANGES: Final = 3
"""Files that are added one after the other."""
CROWD: Final = 20
CROWD_LIST: Final = 100
"""Items that each of many friends has."""
PATIENCE: Final = 300.0
MB: Final = 1e6


class Bench:
    """Everything that is measured."""

    def __init__(self, folder: Path, rounds: int, keep: Callable[[], None]) -> None:
        """Measure in a folder. `keep` is called when there is something new in `result`."""
        self.folder = folder
        self.rounds = rounds
        self.result: dict[str, Any] = {}
        self._keep = keep
        self._rounds: dict[str, dict[str, list[float]]] = {}
        self._films: dict[int, Film] = {}
        self._town: Town
        self._are_friends = False

    def note(self, name: str, part: str, value: float) -> None:
        """Take down a figure; the median of all of the same name counts."""
        found = self._rounds.setdefault(name, {}).setdefault(part, [])
        found.append(value)
        median = statistics.median(found)
        if part:
            self.result.setdefault(name, {})[part] = median
        else:
            self.result[name] = median
        self._keep()

    async def run(self, parts: list[str]) -> None:
        """Measure some parts."""
        lab = [part for part in IN_THE_LAB if part in parts]
        others = [part for part in ON_ONE_MACHINE if part in parts]
        if lab and (why := obstacle()) is not None:
            print(f"    There is no lab: {why}", file=sys.stderr)
            lab = []
        async with AsyncExitStack() as stack:
            if lab:
                await self._build(stack)
            # What needs links to be closed comes last: that takes minutes, in which the others are measured.
            order = [*lab, *others]
            if "first_byte" in lab:
                order.remove("first_byte")
                order.append("first_byte")
            for part in order:
                print(f"    {part}", file=sys.stderr)
                work: Callable[[], Awaitable[None]] = getattr(self, part)
                await work()

    # In the lab.

    async def _build(self, stack: AsyncExitStack) -> None:
        """Make the films, and the lab with all homes in it."""
        print("    making films", file=sys.stderr)
        shop = self.folder / "films"
        shop.mkdir()
        for size in (LONG, RELAYED, SHAPED, SHORT):
            path = self.folder / f"{size}.mp4"
            self._films[size] = await asyncio.to_thread(make_film, path, size)
        for number in range(self.rounds):
            for title, size in (
                ("pair", SHORT),
                ("linked", SHORT),
                ("play", LONG),
                ("relayed", RELAYED),
                ("shaped", SHAPED),
                ("first", SHORT),
            ):
                copy = shop / f"{title} {number}.mp4"
                await asyncio.to_thread(shutil.copyfile, self._films[size].path, copy)
                os.utime(copy, (time.time() - AGE,) * 2)
        print("    building the lab", file=sys.stderr)
        self._town = await stack.enter_async_context(
            town(self.folder, shop, self._films[LONG], self._films[RELAYED])
        )

    async def _befriend(self) -> None:
        """See to it that all couples are friends, with links that are open."""
        if not self._are_friends:
            for couple in self._town.couples:
                await couple.pair()
                await couple.first_frame("pair 0")
            self._are_friends = True
            await asyncio.sleep(SETTLE)

    async def pair(self) -> None:
        """Measure how soon two homes are friends that play something."""
        for number in range(self.rounds):
            for couple in self._town.couples:
                if number:
                    await couple.part()
                    await asyncio.sleep(SETTLE)
                start = time.perf_counter()
                await couple.pair()
                await couple.first_frame(f"pair {number}")
                took = time.perf_counter() - start
                self.note("pair_to_first_frame_s", couple.name, took)
                await asyncio.sleep(SETTLE)
        self._are_friends = True

    async def linked(self) -> None:
        """Measure how soon something plays over links that are open."""
        await self._befriend()
        for number in range(self.rounds):
            for couple in self._town.couples:
                took = await couple.first_byte(f"linked {number}")
                self.note("resolve_to_first_byte_linked_s", couple.name, took)
                await asyncio.sleep(SETTLE)

    async def first_byte(self) -> None:
        """Measure how soon something plays where links are to be opened first."""
        await self._befriend()
        for number in range(self.rounds):
            for couple in self._town.couples:
                await couple.until_unlinked()
            for couple in self._town.couples:
                took = await couple.first_byte(f"first {number}")
                self.note("resolve_to_first_byte_s", couple.name, took)
                await asyncio.sleep(SETTLE)

    async def play(self) -> None:
        """Measure how fast a whole film comes."""
        await self._befriend()
        for number in range(self.rounds):
            for couple in self._town.couples:
                plain = await self._town.plain(couple, couple.film)
                self.note(
                    "raw_mb_s", couple.name, couple.film.size / MB / plain.seconds
                )
                title = "relayed" if couple.path == "relayed" else "play"
                ours = await self._play(couple, f"{title} {number}", couple.film)
                self.note(
                    "play_mb_s", couple.name, couple.film.size / MB / ours.seconds
                )
                self.note("play_to_raw", couple.name, plain.seconds / ours.seconds)

    async def shaped(self) -> None:
        """Measure how much of a line is used."""
        await self._befriend()
        film = self._films[SHAPED]
        for number in range(self.rounds):
            for couple in self._town.couples:
                with couple.line.shaped():
                    plain = await self._town.plain(couple, film)
                    ours = await self._play(couple, f"shaped {number}", film)
                self.note("shaped_20", couple.name, ours.rate / (LINE / 8))
                self.note("shaped_20_raw", couple.name, plain.rate / (LINE / 8))

    # On one machine.

    async def list(self) -> None:
        """Measure how a long list gets to a friend."""
        share = self.folder / "listed"
        await asyncio.to_thread(make_names, share, LISTED)
        for number in range(self.rounds):
            folder = self.folder / f"list-{number}"
            count = LISTED + number * CHANGES
            async with AsyncExitStack() as stack:
                owner = EngineHome(
                    folder / "owner",
                    python=PYTHON,
                    name="Owner",
                    prefix=(str(PYTHON), str(HERE / "friends_unread.py")),
                )
                receiver = EngineHome(folder / "receiver", python=PYTHON, name="Friend")
                for home in (owner, receiver):
                    await stack.enter_async_context(home)
                    home.look = LOOK
                await self._fill(owner, share, count)
                for home, other in ((owner, receiver), (receiver, owner)):
                    await home.sees(other)
                await receiver.agree(owner)
                start = time.perf_counter()
                await owner.befriend(receiver)
                await receiver.befriend(owner)
                await self._list_of(receiver, owner, count)
                self.note("list_100k_s", "", time.perf_counter() - start)
                await asyncio.sleep(SETTLE)
                for _ in range(CHANGES):
                    count += 1
                    delta = await self._change(owner, receiver, share, count)
                    self.note("list_delta_ms", "", delta * 1000)
            await asyncio.to_thread(shutil.rmtree, folder)

    @staticmethod
    async def _fill(owner: EngineHome, share: Path, count: int) -> None:
        """Share a folder of so many files, and wait until all are found and read, and the engine rests."""
        # Nothing is hashed while something plays.
        await owner.ask("PUT", "streaming")
        await owner.configure(
            shares=[
                {
                    "id": SHARE,
                    "path": str(share),
                    "name": "Share",
                    "kinds": ["video", "music", "photo"],
                }
            ]
        )
        revision, since = -1, 0.0

        async def rests() -> bool:
            nonlocal revision, since
            state = await owner.ask("GET", "status")
            is_done = state["scan_state"] == "idle" and _count(state["counts"]) == count
            if not is_done or state["revision"] != revision:
                revision, since = state["revision"], time.monotonic()
            return time.monotonic() - since > 2 * SETTLE

        owner.look = 0.5
        await owner.until(rests, f"a library of {count} items", PATIENCE)
        owner.look = LOOK

    @staticmethod
    async def _list_of(receiver: EngineHome, owner: EngineHome, count: int) -> None:
        async def listed() -> bool:
            return bool((await receiver.friend(owner))["items"] >= count)

        await receiver.until(listed, f"a list of {count} items", PATIENCE)

    async def _change(
        self, owner: EngineHome, receiver: EngineHome, share: Path, count: int
    ) -> float:
        """Add a file, which makes so many, and return the seconds from its owner's list to the receiver's."""

        async def found() -> bool:
            return _count((await owner.ask("GET", "status"))["counts"]) >= count

        (share / f"a new song {count}.mp3").write_bytes(b"new")
        await owner.until(found, "a new file", PATIENCE)
        start = time.perf_counter()
        await self._list_of(receiver, owner, count)
        took = time.perf_counter() - start
        await asyncio.sleep(SETTLE)
        return took

    async def memory(self) -> None:
        """Measure the memory of an engine with many friends."""
        for number in range(self.rounds):
            folder = self.folder / f"crowd-{number}"
            await asyncio.to_thread(make_names, folder / "share", CROWD_LIST)
            async with (
                EngineHome(folder / "engine", python=PYTHON, name="Engine") as engine,
                running(PYTHON, HERE / "friends_crowd.py") as crowd,
            ):
                settled = await crowd.ask(
                    "settle",
                    folder=str(folder / "crowd"),
                    share=str(folder / "share"),
                    count=CROWD,
                )
                homes = settled["homes"]
                await asyncio.sleep(SETTLE)
                self.note("rss_alone_mb", "", await _memory_of(engine))
                await crowd.ask("meet", home=engine.id, port=engine.port)
                near = [{**home, "addresses": [HOST]} for home in homes]
                await engine.ask("PUT", "lan", {"homes": near})
                await engine.configure(
                    friends=[
                        {"id": home["id"], "name": home["name"], "shares": []}
                        for home in homes
                    ]
                )

                async def linked(engine: EngineHome = engine) -> bool:
                    friends = (await engine.peers())["friends"]
                    return all(
                        friend["path"] is not None and friend["items"] == CROWD_LIST
                        for friend in friends
                    )

                await engine.until(linked, f"links to {CROWD} friends", PATIENCE)
                await asyncio.sleep(2 * SETTLE)
                if not await linked():
                    raise SystemExit("a link was closed while memory was measured")
                self.note("rss_mb", "", await _memory_of(engine))

    @staticmethod
    async def _play(couple: Couple, title: str, film: Film) -> Any:
        played = await couple.play(title, film)
        # Until what was begun beside it is over.
        await asyncio.sleep(SETTLE)
        return played


def _count(counts: dict[str, int]) -> int:
    return counts["video"] + counts["music"] + counts["photo"]


async def _memory_of(engine: EngineHome) -> float:
    """Return the resident memory of an engine, in MiB."""
    return float((await engine.ask("GET", "status"))["rss"] / 2**20)


async def _measure(path: Path, parts: list[str], rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pemus-bench-") as name:
        bench = Bench(
            Path(name),
            rounds,
            # What was found stays if a later part fails.
            lambda: _write(path, bench.result),
        )
        await bench.run(parts)
        bench.result["rounds"] = rounds
        _write(path, bench.result)
        return bench.result


def _write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    """Measure, and write the figures."""
    arguments = options(__doc__)
    show(asyncio.run(_measure(arguments.json, arguments.only, arguments.rounds)))


if __name__ == "__main__":
    main()
