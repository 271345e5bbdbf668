"""Measures how long the engine takes to scan a large share, beside a plain walk of the same folders.

    python benchmarks/library.py --json FILE [--files N] [--rounds N]

Runs in the engine's environment, with the engine's own library and reader. In each round:

- `walk_baseline_s`: `os.scandir` and the stat of every file, before and after the scans, and nothing else;
- `scan_cold_s`: from the moment the share is configured until its scan ended, with an empty index: names and stat;
- `scan_indexed_s`: until all of that is in the search index and in the lists as well;
- `scan_warm_s`: a rescan that finds nothing new.

The figures are medians of the rounds. No file is read.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
import json
import os
from pathlib import Path
import random
import resource
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, cast

ROOT = Path(__file__).parent.parent

if TYPE_CHECKING:
    from custom_components.pemus.p2p.home import resident_memory
    from custom_components.pemus.p2p.library import Library
    from custom_components.pemus.p2p.media.facts import MediaFacts
    from custom_components.pemus.p2p.models import EngineConfig, Kind, ShareConfig
else:
    sys.path.insert(0, str(ROOT / ".venvs" / "engine-path"))

    from p2p.home import resident_memory
    from p2p.library import Library
    from p2p.models import EngineConfig, Kind, ShareConfig

EXTENSIONS = ("jpg",) * 5 + ("mp3",) * 4 + ("mp4", "mkv")
SETTLED = 1_600_000_000
_SYLLABLES = ("ba", "do", "el", "fa", "in", "ju", "lo", "mi", "nar", "ost", "pe", "ru", "sol", "ta", "vi", "zen")  # fmt: skip


class NothingRead:
    """Stands in the place of the media reader: what is measured is the scan, and no file is opened meanwhile."""

    capabilities: dict[str, str | None] = {}
    level = "nothing"

    async def read(self, path: str, kind: Kind, **_: Any) -> MediaFacts:
        """Never come to an end with the first file."""
        await asyncio.Event().wait()
        raise AssertionError


def make_names(root: Path, files: int) -> None:
    """Write about as many tiny files as asked for, in folders of all sizes, with names as people give them."""
    chance = random.Random(7)

    def word() -> str:
        return "".join(chance.choices(_SYLLABLES, k=chance.randint(1, 4)))

    made = 0
    while made < files:
        folder = (
            root
            / word().title()
            / f"{word()} {chance.randint(1, 99)}"
            / f"{word()} {made}"
        )
        folder.mkdir(parents=True)
        for number in range(min(chance.choice((5, 12, 20, 60, 200)), files - made)):
            name = f"{number:03} {word()} {word()}.{chance.choice(EXTENSIONS)}"
            descriptor = os.open(folder / name, os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, name.encode())
            os.utime(descriptor, (SETTLED + made, SETTLED + made))
            os.close(descriptor)
            made += 1


def walk(root: str) -> int:
    """Look at every file as plainly as can be."""
    count = 0
    waiting = [root]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    count += 1
    return count


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


async def measure_round(folder: Path, share: Path, files: int) -> dict[str, float]:
    """Scan with an empty index, and once more."""
    for name in ("data", "cache"):
        (folder / name).mkdir(parents=True)
    library = Library(
        data=folder / "data",
        cache=folder / "cache",
        media=cast(Any, NothingRead()),
        on_change=lambda: None,
        on_items=lambda items: None,
    )
    config = EngineConfig(
        home_name="Benchmark",
        shares=(
            ShareConfig(id="share", path=str(share), name="Share", kinds=tuple(Kind)),
        ),
    )
    walks = [timed(lambda: walk(str(share)))]
    await library.start()
    try:
        start = time.perf_counter()
        await library.apply(config)
        await _until(lambda: library.shares[0].last_scan is not None)
        cold = time.perf_counter() - start
        total = 0

        def everything_listed() -> bool:
            nonlocal total
            counts = library.counts
            total = counts.video + counts.music + counts.photo
            return total == files and _indexed(library)

        while not everything_listed():
            await asyncio.sleep(0.1)
        indexed = time.perf_counter() - start
        # The watcher's start and what it makes be looked at again are over before the next scan is measured.
        await asyncio.sleep(2)
        walks.append(timed(lambda: walk(str(share))))
        scanned = library.shares[0].last_scan
        start = time.perf_counter()
        library.rescan()
        await _until(lambda: library.shares[0].last_scan != scanned)
        warm = time.perf_counter() - start
        walks.append(timed(lambda: walk(str(share))))
    finally:
        await library.stop()
    return {
        "walk_baseline_s": statistics.mean(walks),
        "scan_cold_s": cold,
        "scan_indexed_s": indexed,
        "scan_warm_s": warm,
    }


def _indexed(library: Library) -> bool:
    with library.store.read() as db:
        found = db.execute(
            "SELECT 1 FROM shares WHERE worded < (SELECT max(row) FROM items)"
        ).fetchone()
    return found is None


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory(prefix="pemus-bench-") as name:
        folder = Path(name)
        print(f"    writing {arguments.files} files", file=sys.stderr)
        make_names(folder / "share", arguments.files)
        for number in range(arguments.rounds):
            print(f"    round {number + 1} of {arguments.rounds}", file=sys.stderr)
            rounds.append(
                asyncio.run(
                    measure_round(
                        folder / f"round-{number}", folder / "share", arguments.files
                    )
                )
            )
    result: dict[str, float] = {
        name: statistics.median(each[name] for each in rounds) for name in rounds[0]
    }
    for name in ("cold", "warm"):
        result[f"scan_{name}_to_walk"] = statistics.median(
            each[f"scan_{name}_s"] / each["walk_baseline_s"] for each in rounds
        )
    result["scan_files"] = arguments.files
    result["scan_rss_mb"] = resident_memory() / 2**20
    result["scan_peak_rss_mb"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"    {name:30} {value:10.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
