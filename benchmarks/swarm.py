"""Measures the swarm beside plain libtorrent, npm's webtorrent and plain hashing, in one run and in turns.

    python benchmarks/swarm.py --json FILE [--rounds N] [--size-mb N] [--only PART ...]

Runs in the engine's environment. Owner and receiver are processes of their own (`swarm_peer.py`), the file lies on disk
and in the page cache, and every transfer starts with fresh processes. Here nothing goes through Home Assistant: what it
adds is measured by `swarm_home.py`, whose figures of the same name take the place of these.

- `first_byte_s`: from the ticket to the first verified byte, and from a seek to 80 % to the byte there; over TCP, over
  WebRTC, and at 10 MB/s;
- `play_mb_s`, `cpu_s_per_gb`: a whole file, over TCP and WebRTC: `raw_...` is plain libtorrent, `engine...` the engine's
  session and downloads, read in order; CPU seconds are those of both ends;
- `seeds_5000`: that many active seeds in one session: memory, seconds until they are ready, CPU while nothing happens;
- `hash_mb_s`: the engine's hasher, and hashlib in two threads; `loop_lag_ms_p99` of the event loop meanwhile;
- `webtorrent_hybrid`: npm's webtorrent in Node and PeMuS, each fetching from itself over TCP: CPU of both ends together,
  and the larger peak of memory of the two. PeMuS encrypts every byte with RC4, webtorrent by default the handshake alone:
  `webtorrent_rc4` does as PeMuS does, and `libtorrent_clear` is what PeMuS would cost without.

The figures are medians of the rounds. MB and GB are powers of ten, but for memory.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha1
import itertools
import json
import os
from pathlib import Path
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

from swarm_peer import LIMIT, describe

if TYPE_CHECKING:
    from custom_components.pemus.p2p.models import LocalFile
    from custom_components.pemus.p2p.torrent import metainfo
    from custom_components.pemus.p2p.torrent.hashing import Hasher
    from custom_components.pemus.p2p.torrent.store import SwarmStore
else:
    from p2p.models import LocalFile
    from p2p.torrent import metainfo
    from p2p.torrent.hashing import Hasher
    from p2p.torrent.store import SwarmStore

HERE = Path(__file__).parent
NPM = HERE.parent / ".venvs" / "npm"
TRACKER = HERE.parent / "tests" / "e2e" / "webtorrent" / "tracker.mjs"
NODE = {"node": 1, "node-rc4": 2}
SEEDS = 5000
PATIENCE = 900
MB = 1e6


class Process:
    """A process that answers each line with a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Speak to this process."""
        self._process = process

    async def hear(self) -> str:
        """Return its next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        if not line:
            raise SystemExit("a process ended while something was measured")
        return line.decode().strip()

    async def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Have something done, and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        await self._process.stdin.drain()
        answer: dict[str, Any] = json.loads(await self.hear())
        return answer


@asynccontextmanager
async def running(*command: object) -> AsyncIterator[Process]:
    """Run a process until its work is done."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield Process(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def peer(role: str) -> tuple[object, ...]:
    """Return the command of a peer. Either end of npm's webtorrent is "node", or "node-rc4" if it encrypts all."""
    if role in NODE:
        # Without its legacy provider, Node computes RC4 in JavaScript.
        options = ("--openssl-legacy-provider",)
        modules = NPM / "node_modules"
        return (
            NPM / "node",
            *options,
            HERE / "swarm_webtorrent.mjs",
            modules,
            NODE[role],
        )
    return sys.executable, HERE / "swarm_peer.py", role


class Bench:
    """The file and the folder that everything is measured with."""

    def __init__(self, folder: Path, size: int, rounds: int) -> None:
        """Write the file."""
        self.folder = folder
        self.rounds = rounds
        self.size = size
        # What the torrent calls its file, for npm's webtorrent, which calls it so on disk as well.
        self.film = folder / "shared" / "item"
        self.film.parent.mkdir()
        numbers = random.Random(3)
        with self.film.open("wb") as file:
            for at in range(0, size, 2**24):
                file.write(numbers.randbytes(min(2**24, size - at)))
        self.torrent = describe(self.film)
        self._count = itertools.count()

    def fresh(self) -> Path:
        """Return a new folder."""
        made = self.folder / f"part-{next(self._count)}"
        made.mkdir()
        return made

    async def _transfer(
        self, owner: str, receiver: str, what: str, *, webrtc: bool, limit: int = 0
    ) -> dict[str, float]:
        """Have one process fetch from another, and return what was measured and what it cost both."""
        folder = self.fresh()
        facts = {"torrent": self.torrent, "size": self.size}
        link: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            if webrtc and owner == "plain":
                tracker = running(NPM / "node", TRACKER, NPM / "node_modules")
                link["tracker"] = await (
                    await stack.enter_async_context(tracker)
                ).hear()
            elif webrtc:
                link["pipe"] = str(folder / "pipe")
            giving = await stack.enter_async_context(running(*peer(owner)))
            taking = await stack.enter_async_context(running(*peer(receiver)))
            seed = await giving.ask(
                "own",
                path=str(self.film),
                folder=str(self.film.parent),
                limit=limit,
                **facts,
                **link,
            )
            (folder / "cache").mkdir()
            await taking.ask("receive", folder=str(folder / "cache"), **link)
            # The connection of the channel, and what an idle engine does.
            await asyncio.sleep(1)
            before = [await end.ask("usage") for end in (giving, taking)]
            if not webrtc:
                link["port"] = seed["port"]
            result: dict[str, float] = await taking.ask(what, **facts, **link)
            after = [await end.ask("usage") for end in (giving, taking)]
        result["cpu_s"] = sum(each["cpu_s"] for each in after)
        result["cpu_s"] -= sum(each["cpu_s"] for each in before)
        result["rss_mb"] = max(each["rss_mb"] for each in after)
        shutil.rmtree(folder)
        return result

    async def _play(
        self, owner: str, receiver: str, *, webrtc: bool = False
    ) -> dict[str, float]:
        got = await self._transfer(owner, receiver, "play", webrtc=webrtc)
        return {
            "mb_s": self.size / MB / got["seconds"],
            "cpu_s_per_gb": got["cpu_s"] / (self.size / 1e9),
            "cpu_s": got["cpu_s"],
            "rss_mb": got["rss_mb"],
        }

    async def first_byte(self) -> dict[str, Any]:
        """Measure how soon something is there."""
        rounds = []
        for _ in range(self.rounds):
            figures = {}
            for prefix, webrtc, limit in (
                ("", False, 0),
                ("webrtc_", True, 0),
                ("limited_", False, LIMIT),
            ):
                got = await self._transfer(
                    "owner", "receiver", "first", webrtc=webrtc, limit=limit
                )
                for name in ("offset0", "seek80"):
                    figures[prefix + name] = got[name]
            rounds.append(figures)
        return {"first_byte_s": medians(rounds)}

    async def play(self) -> dict[str, Any]:
        """Measure how fast a whole file moves."""
        speeds, costs = [], []
        for _ in range(self.rounds):
            speed, cost = {}, {}
            for name, ends, webrtc in (
                ("raw_libtorrent", ("plain", "plain"), False),
                ("engine", ("owner", "receiver"), False),
                ("raw_webrtc", ("plain", "plain"), True),
                ("engine_webrtc", ("owner", "receiver"), True),
            ):
                got = await self._play(*ends, webrtc=webrtc)
                speed[name], cost[name] = got["mb_s"], got["cpu_s_per_gb"]
            speeds.append(speed)
            costs.append(cost)
        return {"play_mb_s": medians(speeds), "cpu_s_per_gb": medians(costs)}

    async def hybrid(self) -> dict[str, Any]:
        """Measure npm's webtorrent and PeMuS side by side."""
        rounds = []
        for _ in range(self.rounds):
            figures = {}
            for name, ends in (
                ("webtorrent", ("node", "node")),
                ("webtorrent_rc4", ("node-rc4", "node-rc4")),
                ("pemus", ("owner", "receiver")),
                ("libtorrent_clear", ("clear", "clear")),
            ):
                got = await self._play(*ends)
                for figure in ("mb_s", "cpu_s", "rss_mb"):
                    figures[f"{name}_{figure}"] = got[figure]
            rounds.append(figures)
        return {"webtorrent_hybrid": medians(rounds)}

    async def seeds(self) -> dict[str, Any]:
        """Measure what many seeds cost."""
        folder = self.fresh()
        for number in range(SEEDS):
            (folder / f"{number:05}").write_bytes(f"{number}".encode() * 1000)
        rounds = []
        for _ in range(self.rounds):
            async with running(*peer("owner")) as owner:
                rounds.append(
                    await owner.ask("many", folder=str(folder), settle=5, idle=10)
                )
        return {"seeds_5000": medians(rounds)}

    async def hash(self) -> dict[str, Any]:
        """Measure the hasher, and the event loop while it works."""
        status = self.film.stat()
        file = LocalFile.of(str(self.film), "film.mp4", "video/mp4", status)
        rounds: list[dict[str, float]] = []
        lags: list[float] = []
        for _ in range(self.rounds):
            plain = await asyncio.to_thread(seconds, lambda: hash_plainly(self.film))
            store = SwarmStore(self.fresh() / "swarm.db")
            await asyncio.to_thread(store.open)
            hasher = Hasher(store)
            watching = asyncio.create_task(watch_loop(lags))
            start = time.perf_counter()
            await hasher.hashes(file)
            ours = time.perf_counter() - start
            watching.cancel()
            await hasher.stop()
            await asyncio.to_thread(store.close)
            rounds.append(
                {
                    "pemus": self.size / MB / ours,
                    "hashlib_two_threads": self.size / MB / plain,
                    "pemus_to_hashlib": plain / ours,
                }
            )
        lag = statistics.quantiles(lags, n=100)[98] * 1000
        return {"hash_mb_s": medians(rounds), "loop_lag_ms_p99": {"engine": lag}}


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {
        name: statistics.median(each[name] for each in rounds) for name in rounds[0]
    }


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def hash_plainly(path: Path) -> None:
    """Hash the pieces of a file as plainly as two threads can."""
    size = path.stat().st_size
    length = metainfo.piece_length_for(size)
    places = list(range(0, size, length))
    descriptor = os.open(path, os.O_RDONLY)
    digests: dict[int, bytes] = {}

    def work(mine: list[int]) -> None:
        buffer = memoryview(bytearray(length))
        for place in mine:
            got = os.preadv(descriptor, [buffer], place)
            digests[place] = sha1(buffer[:got]).digest()

    threads = [threading.Thread(target=work, args=(places[n::2],)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(descriptor)


async def watch_loop(lags: list[float]) -> None:
    """Note how much later than asked for the event loop gets to something."""
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0.01)
        lags.append(time.perf_counter() - start - 0.01)


PARTS: tuple[str, ...] = ("first_byte", "play", "seeds", "hash", "hybrid")


async def measure(bench: Bench, parts: list[str]) -> dict[str, Any]:
    """Measure one part after the other."""
    result: dict[str, Any] = {}
    for part in parts:
        print(f"    {part}", file=sys.stderr)
        result |= await getattr(bench, part)()
    return result


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--size-mb", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pemus-bench-") as name:
        print("    writing the file", file=sys.stderr)
        bench = Bench(Path(name), int(arguments.size_mb * MB), arguments.rounds)
        result = asyncio.run(measure(bench, arguments.only))
    result["file_mb"] = arguments.size_mb
    result["rounds"] = arguments.rounds
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    for group, figures in result.items():
        for figure, value in figures.items() if isinstance(figures, dict) else ():
            print(f"    {group}.{figure:30} {value:10.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
