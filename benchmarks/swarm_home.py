"""Measures films of another home through Home Assistant's view: how soon they start, and how fast they come.

Part of `script/bench swarm`, after `swarm.py`, whose figures of the same names are those of the engines alone. An owner
without a Home Assistant becomes a friend of a real one, and a client takes the film by a signed link, as a television
would. Each round has an owner that was never met before, so nothing is in the cache. The link of the friends helps where
the torrent is slower, as it always does.

- `play_mb_s.{pemus,pemus_webrtc}`: a whole film, and `cpu_s_per_gb` of all that took part: Home Assistant, its engine and
  the owner's;
- `first_byte_s`: from the first request to the first byte of the body, and from a seek to 80 % to its first byte: by
  TCP, by WebRTC, and with the owner limited to 10 MB/s;
- `shaped`: a film over a line of 20 or 100 Mbit/s, as a share of the line. The line is a pair of network namespaces,
  which only an administrator can make; without that the figures are absent;
- `loop_lag_ms_p99.{home_idle,home_hashing}`: how late Home Assistant's event loop is while its engine rests, and while
  it hashes files that are in memory.

For WebRTC, the owner's tickets name no address (`swarm_webrtc_owner.py`).
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
import json
import os
from pathlib import Path
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from stream_load import Client  # noqa: E402

from demo.home import HOST, Home, free_port  # noqa: E402
from demo.two_homes import remove_friends  # noqa: E402
from tests.lab.engine_home import MAIN, EngineHome  # noqa: E402
from tests.lab.friends import befriend, introduce  # noqa: E402

WEBRTC_OWNER = Path(__file__).parent / "swarm_webrtc_owner.py"
HASHING_TIMEOUT = 120.0
ENGINE_PYTHON = ROOT / ".venvs" / "engine" / "bin" / "python"
MB = 1_000_000
FIRST_BYTE_MB = 400
SETTLED = 1_600_000_000
"""When films were written, in seconds since the epoch."""
LIMIT = 10 * MB
LINES = {"mbit_20": 20, "mbit_100": 100}
SHAPED_SECONDS = 30
"""Length of the film on a line, in seconds of the line."""
LAG = "loop_lag"
IDLE_SECONDS = 10
HASHING_SECONDS = 2
HASHED_FILES = 8
HASHED_BYTES = 1_000 * MB
NAMESPACE = "pemus-bench"
NEAR, FAR = "10.213.7.1", "10.213.7.2"


def write_film(path: Path, size: int, seed: int) -> None:
    """Write a file of which no two are alike, as old as a film on a shelf.

    A scan leaves out what was changed a moment ago, as it may still be written to, and lists it two seconds later.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = random.Random(seed)
    with path.open("wb") as file:
        for at in range(0, size, 2**24):
            file.write(numbers.randbytes(min(2**24, size - at)))
    os.utime(path, (SETTLED, SETTLED))


class Bench:
    """The home, and the owners that it meets."""

    def __init__(self, home: Home, folder: Path, rounds: int, size: int) -> None:
        """Measure with films of `size` bytes."""
        self.home = home
        self.folder = folder
        self.rounds = rounds
        self.size = size
        self._count = 0

    @asynccontextmanager
    async def film(
        self,
        size: int,
        *,
        webrtc: bool = False,
        limit: int = 0,
        prefix: tuple[str, ...] = (),
    ) -> AsyncGenerator[Film]:
        """Have a new owner share a film, and yield it; not a byte of it was fetched.

        The owner sends at most `limit` bytes per second, and is started by the command `prefix`.
        """
        self._count += 1
        folder = self.folder / f"owner-{self._count}"
        path = folder / "Films" / "A film.mp4"
        await asyncio.to_thread(write_film, path, size, self._count)
        try:
            async with EngineHome(
                folder,
                python=ENGINE_PYTHON,
                prefix=prefix,
                name=f"Owner {self._count}",
                main=WEBRTC_OWNER if webrtc else MAIN,
            ) as owner:
                await owner.share(path.parent, upload_limit=limit, lan_exempt=not limit)
                (item,) = await owner.items()

                async def hashed() -> bool:
                    swarm = (await owner.ask("GET", "status"))["swarm"]
                    return int(swarm["hashed"]) >= size

                await owner.until(hashed, "hashing", HASHING_TIMEOUT)
                if prefix:
                    await introduce(self.home, owner, NEAR, FAR)
                else:
                    await introduce(self.home, owner)
                await befriend(self.home, owner)
                signed = await self.home.ask(
                    "auth/sign_path",
                    path=f"/api/pemus/stream/{owner.id}/{item}.mp4",
                    expires=3600,
                )
                # Whatever the engines had to do after their start is done.
                await asyncio.sleep(2)
                target = {
                    "host": HOST,
                    "port": self.home.port,
                    "path": signed["path"],
                    "size": size,
                }
                assert owner.process is not None
                yield Film(target, psutil.Process(owner.process.pid))
            await remove_friends(self.home)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def first_byte(self) -> dict[str, Any]:
        """Measure how soon something is there."""
        found: dict[str, list[float]] = {}
        for _ in range(self.rounds):
            for prefix, webrtc, limit in (
                ("", False, 0),
                ("webrtc_", True, 0),
                ("limited_", False, LIMIT),
            ):
                size = FIRST_BYTE_MB * MB
                async with self.film(size, webrtc=webrtc, limit=limit) as film:
                    start = await asyncio.to_thread(film.first_byte, 0)
                    seek = await asyncio.to_thread(film.first_byte, size * 4 // 5)
                found.setdefault(f"{prefix}offset0", []).append(start)
                found.setdefault(f"{prefix}seek80", []).append(seek)
        return {"first_byte_s": _medians(found)}

    async def play(self) -> dict[str, Any]:
        """Measure how fast a whole film comes."""
        rates: dict[str, list[float]] = {}
        costs: dict[str, list[float]] = {}
        for _ in range(self.rounds):
            for name, webrtc in (("pemus", False), ("pemus_webrtc", True)):
                async with self.film(self.size, webrtc=webrtc) as film:
                    used = self.cpu(film)
                    rate = await asyncio.to_thread(film.whole)
                    used = self.cpu(film) - used
                rates.setdefault(name, []).append(rate / MB)
                costs.setdefault(name, []).append(used / (self.size / 1e9))
        return {"play_mb_s": _medians(rates), "cpu_s_per_gb": _medians(costs)}

    def cpu(self, film: Film) -> float:
        """Return the seconds of processor time of both homes up to now."""
        assert self.home.process is not None
        home, engine = psutil.Process(self.home.process.pid), self.home.engine()
        assert engine is not None
        return cpu_seconds(home, engine, film.owner)

    async def shaped(self) -> dict[str, Any]:
        """Measure how much of a line is used."""
        found: dict[str, list[float]] = {}
        for _ in range(self.rounds):
            for name, mbit in LINES.items():
                line = mbit * MB / 8
                size = int(line * SHAPED_SECONDS)
                with shaped_line(mbit) as prefix:
                    if prefix is None:
                        return {}
                    async with self.film(size, prefix=prefix) as film:
                        rate = await asyncio.to_thread(film.whole)
                found.setdefault(name, []).append(rate / line)
        return {"shaped": _medians(found)}

    async def hashing(self) -> dict[str, Any]:
        """Measure whether Home Assistant notices that the engine hashes."""
        idle = await loop_lag(self.home, IDLE_SECONDS)
        folder = self.folder / "hashed"
        folder.mkdir()
        for number in range(HASHED_FILES):
            path = folder / f"{number}.mp4"
            await asyncio.to_thread(write_film, path, HASHED_BYTES, number)
        await asyncio.to_thread(os.sync)
        await self.home.share(folder, "Hashed")
        await self._engine_works()
        before = self.cpu_of_engine()
        busy = await loop_lag(self.home, HASHING_SECONDS)
        hashed = self.cpu_of_engine() - before
        if hashed < HASHING_SECONDS / 2:
            raise SystemExit(f"the engine did not hash: it took {hashed:.1f} s of CPU")
        return {"loop_lag_ms_p99": {"home_idle": idle, "home_hashing": busy}}

    async def _engine_works(self) -> None:
        """Wait until the engine is busy; it looks through its library now and then."""
        async with asyncio.timeout(120):
            while True:
                before = self.cpu_of_engine()
                await asyncio.sleep(0.5)
                if self.cpu_of_engine() - before > 0.4:
                    return

    def cpu_of_engine(self) -> float:
        """Return the seconds of processor time of the engine up to now."""
        engine = self.home.engine()
        assert engine is not None
        return cpu_seconds(engine)


class Film:
    """A film of another home, as a player sees it."""

    def __init__(self, target: dict[str, Any], owner: psutil.Process) -> None:
        """Know where it is, and the process of its owner's engine."""
        self.owner = owner
        self._target = target

    def first_byte(self, start: int) -> float:
        """Return the seconds from the question until a byte of the body was there."""
        client = Client(self._target)
        since = time.perf_counter()
        client.ask(f"Range: bytes={start}-\r\n")
        client.drop(1)
        took = time.perf_counter() - since
        client.close()
        return took

    def whole(self) -> float:
        """Take all of it; return the bytes per second."""
        client = Client(self._target)
        begin = time.perf_counter()
        size = client.ask()
        client.drop(size)
        took = time.perf_counter() - begin
        client.close()
        return size / took


@contextmanager
def shaped_line(mbit: int) -> Iterator[tuple[str, ...] | None]:
    """Make a network namespace at the other end of a slow line; yield what runs a command in it, None where none can be made."""

    def ip(*arguments: str) -> None:
        subprocess.run(("ip", *arguments), check=True, capture_output=True)

    try:
        ip("netns", "add", NAMESPACE)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        inside = ("netns", "exec", NAMESPACE)
        ip("link", "add", "pemus-near", "type", "veth", "peer", "name", "pemus-far")
        ip("link", "set", "pemus-far", "netns", NAMESPACE)
        ip("addr", "add", f"{NEAR}/30", "dev", "pemus-near")
        ip("link", "set", "pemus-near", "up")
        ip(*inside, "ip", "addr", "add", f"{FAR}/30", "dev", "pemus-far")
        for device in ("lo", "pemus-far"):
            ip(*inside, "ip", "link", "set", device, "up")
        ip(*inside, "ip", "route", "add", "default", "via", NEAR)
        shape = ("rate", f"{mbit}mbit", "burst", "32kb", "latency", "100ms")
        ip(*inside, "tc", "qdisc", "add", "dev", "pemus-far", "root", "tbf", *shape)
        yield ("ip", *inside)
    finally:
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", "pemus-near")
        ip("netns", "del", NAMESPACE)


async def loop_lag(home: Home, seconds: float) -> float:
    """Return the 99th percentile of how late Home Assistant's event loop is, in milliseconds."""
    async with home.session.get("/api/loop_lag"):
        pass
    await asyncio.sleep(seconds)
    async with home.session.get("/api/loop_lag") as answer:
        return float((await answer.json())["p99"])


def cpu_seconds(*processes: psutil.Process) -> float:
    """Return the processor time that processes have taken."""
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def _medians(found: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in found.items()}


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start the home, and measure one part after the other."""
    with tempfile.TemporaryDirectory(prefix="pemus-bench-") as name:
        folder = Path(name)
        environment = {"PEMUS_ENGINE_ENVIRONMENT": str(ROOT / ".venvs" / "engine")}
        own = folder / "own"
        own.mkdir()
        components = folder / "home" / "custom_components"
        components.mkdir(parents=True)
        (components / LAG).symlink_to(Path(__file__).parent / LAG)
        home = Home(
            folder / "home",
            port=free_port(18300),
            configuration=f"{LAG}:\n",
            environ=environment,
        )
        result: dict[str, Any] = {}
        async with home:
            await home.share(own, "Own films")
            bench = Bench(home, folder, options.rounds, options.size_mb * MB)
            for part in options.only:
                print(f"    {part}", file=sys.stderr)
                try:
                    result |= await getattr(bench, part)()
                    # What was found stays if a later part fails.
                    options.json.write_text(json.dumps(result, indent=2) + "\n")
                except (OSError, aiohttp.ClientError):
                    print(home.last_lines(), file=sys.stderr)
                    raise
        return result


PARTS: tuple[str, ...] = ("first_byte", "play", "shaped", "hashing")


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--size-mb", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    result = asyncio.run(measure(options))
    for group, figures in result.items():
        for name, value in figures.items():
            print(f"    {group}.{name:30} {value:10.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
