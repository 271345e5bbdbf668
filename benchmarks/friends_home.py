"""Measures whether Home Assistant notices that three films of friends play through it.

Part of `script/bench friends`, after `friends.py`. Three engines on this machine are friends of a real Home Assistant, over
a signalling server; three players take a film of each through the range view at 25 Mbit/s, as televisions do.

- `loop_lag_ms_p99.{idle,three_films}`: how late Home Assistant's event loop is while nothing plays, and meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
import json
from pathlib import Path
import statistics
import sys
import tempfile
import time
from typing import Any, Final

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from friends_options import IN_HOME_ASSISTANT, options, show  # noqa: E402
from stream_load import film  # noqa: E402
from swarm_home import LAG, loop_lag, write_film  # noqa: E402

from demo.home import HOST, Home, free_port  # noqa: E402
from demo.signaling import SignalingServer, use_servers  # noqa: E402
from tests.lab.engine_home import EngineHome  # noqa: E402
from tests.lab.friends import befriend  # noqa: E402

ENVS: Final = ROOT / ".venvs"
FRIENDS: Final = 3
SIZE: Final = 400_000_000
SECONDS: Final = 20.0
"""For each look at the event loop."""
SETTLE: Final = 10.0
"""Seconds after which what was begun is over."""
LEAST: Final = 0.9
"""Share of what a player should have got by then: films that do not come would not be felt."""
BYTES_PER_SECOND: Final = 25_000_000 / 8


async def _films(home: Home, friends: list[EngineHome]) -> list[dict[str, Any]]:
    """Return where a film of each friend is, as a player sees it."""
    found = []
    for friend in friends:
        (item,) = await friend.items()
        signed = await home.ask(
            "auth/sign_path",
            path=f"/api/pemus/stream/{friend.id}/{item}.mp4",
            expires=3600,
        )
        found.append(
            {"host": HOST, "port": home.port, "path": signed["path"], "size": SIZE}
        )
    return found


async def _round(
    home: Home, folder: Path, server: SignalingServer
) -> tuple[float, float]:
    """Return the lag of the event loop while nothing plays, and while a film of each of three new friends does."""
    async with AsyncExitStack() as stack:
        friends = []
        for number in range(FRIENDS):
            place = folder / f"friend-{number}"
            path = place / "Films" / "A film.mp4"
            await asyncio.to_thread(write_film, path, SIZE, number)
            friend = EngineHome(
                place / "engine",
                python=ENVS / "engine" / "bin" / "python",
                name=f"Friend {folder.name}-{number}",
            )
            await stack.enter_async_context(friend)
            await friend.share(path.parent, upload_limit=0)
            await friend.configure(servers=[server.url])
            await befriend(home, friend)
            friends.append(friend)
        films = await _films(home, friends)
        await asyncio.sleep(SETTLE)
        idle = await loop_lag(home, SECONDS)
        until = time.perf_counter() + SETTLE + SECONDS
        players = [
            asyncio.create_task(asyncio.to_thread(film, each, until)) for each in films
        ]
        await asyncio.sleep(SETTLE)
        busy = await loop_lag(home, SECONDS)
        taken = [sum(await player) for player in players]
    least = LEAST * BYTES_PER_SECOND * (SETTLE + SECONDS)
    if min(taken) < least:
        raise SystemExit(
            f"the films did not come: {[int(each / 1e6) for each in taken]} MB"
        )
    return idle, busy


async def _measure(path: Path, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pemus-bench-") as name:
        folder = Path(name)
        components = folder / "home" / "custom_components"
        components.mkdir(parents=True)
        (components / LAG).symlink_to(Path(__file__).parent / LAG)
        home = Home(
            folder / "home",
            port=free_port(18300),
            configuration=f"{LAG}:\n",
            environ={"PEMUS_ENGINE_ENVIRONMENT": str(ENVS / "engine")},
        )
        own = folder / "own"
        own.mkdir()
        async with (
            SignalingServer(
                folder / "server", ENVS / "signaling" / "bin" / "python"
            ) as server,
            home,
        ):
            await home.share(own, "Own films")
            await use_servers(home, server.url)
            found = [
                await _round(home, folder / str(number), server)
                for number in range(rounds)
            ]
    idle, busy = (statistics.median(each) for each in zip(*found, strict=True))
    result = {"loop_lag_ms_p99": {"idle": idle, "three_films": busy}}
    path.write_text(json.dumps(result, indent=2) + "\n")
    return result


def main() -> None:
    """Measure, and write the figures."""
    arguments = options(__doc__)
    if set(arguments.only) & set(IN_HOME_ASSISTANT):
        print("    loop_lag", file=sys.stderr)
        show(asyncio.run(_measure(arguments.json, arguments.rounds)))


if __name__ == "__main__":
    main()
