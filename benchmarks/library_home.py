"""Measures browsing and searching a large library through Home Assistant's WebSocket API, and the engine's memory.

`script/bench library --json FILE` runs it after `library.py`. A real Home Assistant shares a tree of real, tiny files,
waits until the engine has read them all, and then asks for places and words in random order, one after the other, the
way a person at a screen does. Each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
import json
from pathlib import Path
import random
import statistics
import sys
import tempfile
import time
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import tree  # noqa: E402

from demo.home import Home, free_port  # noqa: E402

COUNTS = [f"sensor.demo_home_{kind}" for kind in ("videos", "songs", "photos")]
REQUESTS = 200
"""In each round, of either kind."""
PLACES = 600
"""So many places are known before they are asked for in random order."""
IDLE_SECONDS = 10
"""The engine is idle for a moment between finding files and reading them."""
READ_TIMEOUT = 1800
"""Seconds to read 100,000 files."""
MIB = 1024 * 1024


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] * 1000


async def _wait_until_read(home: Home, files: int) -> float:
    """Return how long it took until the engine had found and read all files, in seconds."""
    start = time.monotonic()
    scan, found = "", 0
    idle_since: float | None = None
    while time.monotonic() < start + READ_TIMEOUT:
        scan = (await home.get(f"/api/states/{home.scan_state}"))["state"]
        found = 0
        for sensor in COUNTS:
            count = (await home.get(f"/api/states/{sensor}"))["state"]
            found += int(count) if count.isdecimal() else 0
        now = time.monotonic()
        if scan != "idle" or found != files:
            idle_since = None
        elif idle_since is None:
            idle_since = now
        elif now - idle_since > IDLE_SECONDS:
            return idle_since - start
        # Home Assistant closes a WebSocket on which its pings are not answered, and they are answered while one reads.
        await home.ask("get_config")
        await asyncio.sleep(1)
    raise SystemExit(
        f"the library is still {scan} after {READ_TIMEOUT} s, with {found} of {files} items"
    )


async def _places(home: Home, chance: random.Random) -> list[str]:
    """Return the ids of places of all kinds, found by walking down from the root."""
    known: list[str] = [""]
    waiting = [""]
    while waiting and len(known) < PLACES:
        node = waiting.pop(chance.randrange(len(waiting)))
        below = [
            child["media_content_id"].removeprefix("media-source://pemus/")
            for child in (await home.browse(node))["children"]
            if child["can_expand"]
        ]
        # Not all thousand folders of one place, or the other kinds would hardly come up.
        below = chance.sample(below, min(len(below), 25))
        known += below
        waiting += below
    return known


async def _round(ask: Callable[[str], Awaitable[Any]], what: list[str]) -> list[float]:
    took = []
    for one in what:
        start = time.perf_counter()
        await ask(one)
        took.append(time.perf_counter() - start)
    return took


def _engine_rss(home: Home) -> dict[str, float]:
    """Return the resident memory of the engine, and of it with its children, in MiB."""
    engine = home.engine()
    if engine is None:
        raise SystemExit("there is no engine")
    own = engine.memory_info().rss
    children = sum(child.memory_info().rss for child in engine.children(recursive=True))
    return {
        "engine_rss_mb": own / MIB,
        "engine_with_children_rss_mb": (own + children) / MIB,
    }


async def _measure(folder: Path, files: int, rounds: int) -> dict[str, Any]:
    share = folder / "library"
    print(f"    writing {files} files", file=sys.stderr)
    words = await asyncio.to_thread(tree.make, share, files)
    environment = {"PEMUS_ENGINE_ENVIRONMENT": str(ROOT / ".venvs" / "engine")}
    home = Home(folder / "home", port=free_port(18200), environ=environment)
    async with home:
        await home.share(share, "Large library")
        print("    reading them", file=sys.stderr)
        read = await _wait_until_read(home, files)
        chance = random.Random(1)
        places = await _places(home, chance)

        async def search(text: str) -> None:
            await home.ask(
                "media_source/search_media",
                media_content_id="media-source://pemus",
                search_query=text,
            )

        browsing, searching = [], []
        for number in range(rounds):
            print(f"    round {number + 1} of {rounds}", file=sys.stderr)
            browsing.append(
                await _round(home.browse, chance.choices(places, k=REQUESTS))
            )
            searching.append(await _round(search, chance.choices(words, k=REQUESTS)))
        return {
            "files": files,
            "read_s": read,
            "places": len(places),
            "browse_ms_p50": statistics.median(
                statistics.median(took) for took in browsing
            )
            * 1000,
            "browse_ms_p95": statistics.median(map(_p95, browsing)),
            "search_ms_p50": statistics.median(
                statistics.median(took) for took in searching
            )
            * 1000,
            "search_ms_p95": statistics.median(map(_p95, searching)),
            **_engine_rss(home),
        }


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pemus-bench-") as folder:
        result = asyncio.run(_measure(Path(folder), arguments.files, arguments.rounds))
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"    {name:30} {value:10.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
