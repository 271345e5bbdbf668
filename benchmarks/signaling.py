"""Measures the signalling server beside npm's PeerServer and bittorrent-tracker, in one run and in turns.

    python benchmarks/signaling.py --json FILE [--rounds N] [--seconds S] [--only PART ...]

Runs in the signalling server's environment. Each server is a fresh process, and so is the load generator, which is the
same for both (`signaling_load.py`). A generator fills a core before a good server does, so rates count by the server's own
CPU time. PeMuS checks, bounds and counts as ever; only the limits that one address has are raised, since all clients have
the same one here.

- `relay_msgs_per_cpu_s`: 400 clients in pairs, each answering a message of 1.2 kB with one, as fast as it goes;
- `relay_p99_ms`: the same clients at an equal load of 4,000 messages a second: how long a message is under way;
- `idle_10k`: 10,000 clients connect and stay: memory of the server, and how many connect in a second;
- `tracker_...`: see `signaling_tracker.py`;
- `scale`: two nodes that a Redis makes one, and the same clients as in `relay`: partners at the same node, and partners at
  different ones. The CPU time is that of both nodes; `..._with_redis` counts the Redis, too.

The figures are medians of the rounds. MB are powers of two.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
import json
from pathlib import Path
import re
import resource
import shutil
import statistics
import sys
import tempfile
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from signaling_load import WARM_UP, cpu_seconds
import signaling_tracker

HERE = Path(__file__).parent
NPM = HERE.parent / ".venvs" / "npm"
PATIENCE = 300
IDLE = 10_000
RATE = 4000
"""Messages a second, which neither server finds hard."""
ANNOUNCES = 20_000
SERVERS = ("pemus", "peerjs_server")
PARTS = ("relay", "idle", "tracker", "scale")


@asynccontextmanager
async def serving(name: str, *more: str) -> AsyncIterator[tuple[int, int]]:
    """Run a server, with more arguments. Yields its process id and its port."""
    many = "10000000"
    command = {
        "pemus": (
            sys.executable,
            "-m",
            "pemus_signaling",
            *("--host", "127.0.0.1", "--port", "0", "--concurrent-limit", many),
            *("--sockets-per-address", many, "--messages-per-second", "1000000"),
        ),
        "peerjs_server": (
            str(NPM / "node"),
            str(HERE / "signaling_peer.mjs"),
            str(NPM / "node_modules"),
        ),
    }[name]
    process = await asyncio.create_subprocess_exec(
        *command,
        *more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            line = await process.stdout.readline()
        port = re.search(rb"(\d+)\D*$", line)
        if port is None:
            raise SystemExit(f"{name} did not start: {line.decode()}")
        yield process.pid, int(port[1])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def load(name: str, part: str, **options: object) -> dict[str, float]:
    """Run the load generator against a fresh server, and return what it says."""
    async with serving(name) as server:
        arguments = [
            str(word) for key, value in options.items() for word in (f"--{key}", value)
        ]
        return await generate(name, part, [server], *arguments)


async def generate(
    name: str, part: str, servers: list[tuple[int, int]], *arguments: str
) -> dict[str, float]:
    """Run the load generator against the processes and ports of servers, and return what it says."""
    generator = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / "signaling_load.py"), part, *arguments),
        *("--port", *(str(port) for _, port in servers)),
        *("--pid", *(str(pid) for pid, _ in servers)),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        said, _ = await generator.communicate()
    if generator.returncode:
        raise SystemExit(f"the load generator failed against {name}")
    seen: dict[str, float] = json.loads(said)
    print(
        f"{name:14} {part:6} {', '.join(f'{key} {value:.5g}' for key, value in seen.items())}",
        file=sys.stderr,
    )
    return seen


async def scale(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure two nodes."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise SystemExit(
            "redis-server is missing (on Debian: apt install redis-server)"
        )
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="pemus-") as folder:
        path = Path(folder) / "redis.sock"
        redis = await asyncio.create_subprocess_exec(
            *(program, "--port", "0", "--unixsocket", str(path), "--save", ""),
            *("--appendonly", "no", "--dir", folder),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                while not path.exists():
                    await asyncio.sleep(0.05)
            process = psutil.Process(redis.pid)
            shared = ("--redis", f"unix://{path}")
            for _ in range(rounds):
                for name, option in (("local", ()), ("cross_node", ("--cross",))):
                    async with (
                        serving("pemus", *shared) as here,
                        serving("pemus", *shared) as there,
                    ):
                        # Until each knows of the other.
                        await asyncio.sleep(2)
                        before = cpu_seconds(process)
                        arguments = ("--seconds", str(seconds), *option)
                        one = await generate(name, "relay", [here, there], *arguments)
                        # The generator looks at the nodes for so long; Redis works a little longer.
                        taken = (
                            (cpu_seconds(process) - before)
                            * seconds
                            / (seconds + WARM_UP)
                        )
                        rate, each = one["messages_per_s"], one["messages_per_cpu_s"]
                        seen.setdefault(f"{name}_msgs_per_cpu_s", []).append(each)
                        seen.setdefault(f"{name}_msgs_per_s", []).append(rate)
                        seen.setdefault(f"{name}_msgs_per_cpu_s_with_redis", []).append(
                            rate / (rate / each + taken / seconds)
                        )
        finally:
            redis.terminate()
            await redis.wait()
    return {"scale": {name: statistics.median(each) for name, each in seen.items()}}


async def in_turns(
    rounds: int, part: str, **options: object
) -> dict[str, dict[str, float]]:
    """Return the medians of what is seen, by what it is and by server."""
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in SERVERS}
    for number in range(rounds):
        for name in SERVERS[:: 1 if number % 2 == 0 else -1]:
            seen[name].append(await load(name, part, **options))
    return {
        figure: {
            name: statistics.median(each[figure] for each in seen[name])
            for name in SERVERS
        }
        for figure in seen[SERVERS[0]][0]
    }


async def relay(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure messages."""
    fast = await in_turns(rounds, "relay", seconds=seconds)
    even = await in_turns(rounds, "paced", seconds=seconds, rate=RATE)
    return {
        "relay_msgs_per_cpu_s": fast["messages_per_cpu_s"],
        "relay_msgs_per_s": fast["messages_per_s"],
        "relay_p50_ms": even["p50_ms"],
        "relay_p99_ms": even["p99_ms"],
    }


async def idle(rounds: int) -> dict[str, Any]:
    """Measure sockets."""
    seen = await in_turns(rounds, "idle", clients=IDLE)
    return {
        "idle_10k": {
            figure: seen[figure]
            for figure in ("rss_mb", "connect_per_s", "connect_per_cpu_s")
        }
    }


async def measure(rounds: int, seconds: float, parts: list[str]) -> dict[str, Any]:
    """Measure everything that is asked for."""
    work: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "relay": lambda: relay(rounds, seconds),
        "idle": lambda: idle(rounds),
        "tracker": lambda: signaling_tracker.measure(rounds, ANNOUNCES),
        "scale": lambda: scale(rounds, seconds),
    }
    result: dict[str, Any] = {}
    for part in parts:
        result |= await work[part]()
    return result


def main() -> None:
    """Measure, and write the figures down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < IDLE + 500:
        raise SystemExit(
            f"{IDLE} sockets need more open files than the {most} that this system allows"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    result = asyncio.run(measure(options.rounds, options.seconds, list(options.only)))
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
