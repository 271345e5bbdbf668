"""A real Home Assistant that serves one folder twice: as its own local media, and through PeMuS's range view.

It prints one JSON line when it is up: the signed address of each file under either name. After that it measures how late
its event loop is: the line `start` on its standard input starts a measurement, `stop` ends it and prints the result.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
import json
import os
from pathlib import Path
import sys

from homeassistant import bootstrap, runner
from homeassistant.components.http.auth import async_sign_path
from homeassistant.components.http.config import async_get_and_load_store
from homeassistant.core import HomeAssistant
from homeassistant.helpers.start import async_at_started

sys.path.insert(0, str(Path(__file__).parent.parent))
# Only now can they be found.
from custom_components.pemus import stream
from custom_components.pemus.p2p.models import LocalFile, WaitQuery
from custom_components.pemus.p2p.models.items import ItemRef, Wanted

TICK = 0.01


class FolderSource:
    """Knows the files of a folder; the id of each is made from its place in the list."""

    def __init__(self, files: list[Path]) -> None:
        """Give each file an id."""
        self.paths = {
            f"{'a' * 25}{'abcdefgh'[i]}": path for i, path in enumerate(files)
        }

    async def locate(self, wanted: Wanted) -> LocalFile:
        """Look at the file now. There are no pictures or subtitles here."""
        path = self.paths[wanted.item.id]
        status = await asyncio.to_thread(path.stat)
        return LocalFile.of(str(path), path.name, "video/mp4", status)

    async def wait(self, ref: ItemRef, query: WaitQuery) -> int:
        """Return that all of it is there."""
        return (await self.locate(Wanted(ref))).size

    async def release(self, ref: ItemRef, reader: str) -> None:
        """Take no note of readers."""

    async def streaming(self) -> None:
        """Take no note of it."""


class LagMeter:
    """Sleeps for ten milliseconds again and again, and notes how much later it wakes up."""

    def __init__(self) -> None:
        """Measure nothing yet."""
        self._late: list[float] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._late = []
        self._task = asyncio.create_task(self._tick())

    def stop(self) -> dict[str, float]:
        """End, and return what was seen, in milliseconds."""
        assert self._task is not None
        self._task.cancel()
        late = sorted(self._late)
        return {
            "count": len(late),
            "p50": late[len(late) // 2] * 1000,
            "p99": late[int(len(late) * 0.99)] * 1000,
            "max": late[-1] * 1000,
        }

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asleep = loop.time()
            await asyncio.sleep(TICK)
            self._late.append(loop.time() - asleep - TICK)


async def serve(config: Path, port: int, files: list[Path]) -> int:
    """Run until it is told to stop."""
    folders = sorted({str(path.parent) for path in files})
    media_dirs = "\n".join(
        f"    m{index}: {folder}" for index, folder in enumerate(folders)
    )
    (config / "configuration.yaml").write_text(
        f"homeassistant:\n  media_dirs:\n{media_dirs}\nhttp:\n  server_host: 127.0.0.1\n  server_port: {port}\n"
        "media_source:\n"
    )
    hass = await bootstrap.async_setup_hass(
        runner.RuntimeConfig(config_dir=str(config), skip_pip=True, verbose=False)
    )
    assert hass is not None
    # A new port is on trial until somebody confirms it: after five minutes Home Assistant would restart without it.
    store = await async_get_and_load_store(hass)
    if store.pending is not None:
        await store.async_promote_pending()
    addresses = publish(hass, files, folders)

    async def started(_: HomeAssistant) -> None:
        print(json.dumps(addresses), flush=True)

    async_at_started(hass, started)
    listen_to_commands()
    return await hass.async_run()


def publish(
    hass: HomeAssistant, files: list[Path], folders: list[str]
) -> dict[str, dict[str, str]]:
    """Serve the files, and return their signed addresses."""
    source = FolderSource(files)
    stream.async_register(hass, lambda: source)

    def sign(path: str) -> str:
        return async_sign_path(hass, path, timedelta(days=1), use_content_user=True)

    return {
        "pemus": {
            path.name: sign(stream.stream_path(ItemRef(None, item), path.name))
            for item, path in source.paths.items()
        },
        "home_assistant_local": {
            path.name: sign(f"/media/m{folders.index(str(path.parent))}/{path.name}")
            for path in files
        },
    }


def listen_to_commands() -> None:
    """Do what standard input says, and end with it."""
    meter = LagMeter()

    def command() -> None:
        line = sys.stdin.readline().strip()
        if line == "start":
            meter.start()
        elif line == "stop":
            print(json.dumps(meter.stop()), flush=True)
        elif not line:
            os._exit(0)

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), command)


def main() -> None:
    """Serve what the command line names."""
    config, port, *files = sys.argv[1:]
    loop = runner.create_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(
        serve(Path(config), int(port), [Path(file) for file in files])
    )


if __name__ == "__main__":
    main()
