"""Measures what guests of a room feel, in a real Chromium, with a real Home Assistant, engine and signalling server.

- `open_s`: from opening the link to a page that shows the room.
- `first_frame_s`, `seek_s`: from Play to a moving picture, and from a jump in the film to the picture there.
- `download_mb_s.{pemus_guest,chromium_datachannel}`: a whole file saved by the browser, beside a bare data channel between
  two pages of the same Chromium, which saves nothing.
- `browser_memory_mb.download`: the most that the tab of such a download takes, in MB.
- `rooms_1000_idle.{one_rss_mb,many_rss_mb}`: the engine's memory with one room, and with a thousand that nobody visits.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
import json
import os
from pathlib import Path
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from playwright.async_api import Browser, Page, async_playwright  # noqa: E402
import psutil  # type: ignore[import-untyped]  # noqa: E402

from demo import sample_library  # noqa: E402
from demo.home import Home, free_port  # noqa: E402
from demo.one_home import act  # noqa: E402
from demo.signaling import SignalingServer, use_servers  # noqa: E402
from tests.lab.engine_home import EngineHome  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ENVS: Final = ROOT / ".venvs"
CHROMIUM: Final = os.environ.get("PEMUS_CHROMIUM", "/usr/bin/chromium")
CHROMIUM_OPTIONS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
)
PARTS: Final = ("page", "download", "idle")
ROOMS: Final = 1000
TIMEOUT: Final = 300_000
"""Milliseconds for anything in the browser."""
PAUSE: Final = 2.0
"""Seconds between two measurements."""
LOOK: Final = 0.2
"""Seconds between two looks at the memory."""
MP4: Final = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"
"""How a film begins. Nobody plays the large one."""

_PLAYING: Final = """() => {
    const video = document.querySelector("video");
    return video && video.currentTime > 0 && video.videoWidth > 0;
}"""
_SEEK: Final = """async (share) => {
    const video = document.querySelector("video");
    const begun = performance.now();
    video.currentTime = video.duration * share;
    await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
    return (performance.now() - begun) / 1000;
}"""
_CHANNEL: Final = """async () => {
    window.peer = new RTCPeerConnection();
    window.channel = peer.createDataChannel("bulk", { negotiated: true, id: 0 });
    channel.binaryType = "arraybuffer";
    window.received = 0;
    channel.onmessage = ({ data }) => { received += data.byteLength; };
    window.gathered = () => new Promise((resolve) => {
        const done = () => peer.iceGatheringState === "complete" && resolve(peer.localDescription.sdp);
        peer.onicegatheringstatechange = done;
        done();
    });
    // Without it addresses are hidden behind names that nobody resolves here.
    await navigator.mediaDevices?.enumerateDevices?.();
}"""
_SEND: Final = """async (size) => {
    const part = new Uint8Array(65536);
    channel.bufferedAmountLowThreshold = 1 << 20;
    for (let sent = 0; sent < size; sent += part.length) {
        if (channel.bufferedAmount > 4 << 20) {
            await new Promise((resolve) => { channel.onbufferedamountlow = resolve; });
        }
        channel.send(part);
    }
}"""


@asynccontextmanager
async def _sharing(folder: Path, size: int) -> AsyncIterator[tuple[Home, str]]:
    """Start a home with a short film and a large file; yield it and the signalling server's address."""
    library = folder / "Films"
    library.mkdir(parents=True)
    sample = sample_library.ensure(sample_library.default_cache())
    film = next(sample.rglob("Sunset*.mp4"))
    await asyncio.to_thread(shutil.copy, film, library / "A film.mp4")
    with (library / "Large.mp4").open("wb") as file:
        file.write(MP4)
        for _ in range(size // 2**20):
            file.write(secrets.token_bytes(2**20))
    environ = {"PEMUS_ENGINE_ENVIRONMENT": str(ENVS / "engine")}
    home = Home(folder / "home", port=free_port(18400), environ=environ)
    python = ENVS / "signaling" / "bin" / "python"
    async with SignalingServer(folder / "server", python) as server, home:
        await home.share(library, "Films")
        await home.wait_for_library()
        await use_servers(home, server.url)
        yield home, server.url


async def _link(home: Home, title: str) -> str:
    """Share an item of a name with guests, and return the link."""
    found = await act(home, "search", {"query": title})
    media = [item["media_content_id"] for item in found["items"]][:1]
    data = {"media_content_id": media, "name": title, "upload_limit": 0}
    return str((await act(home, "share", data))["link"])


@asynccontextmanager
async def _page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context(accept_downloads=True)
    context.set_default_timeout(TIMEOUT)
    try:
        yield await context.new_page()
    finally:
        await context.close()


async def _opened(page: Page, link: str) -> float:
    """Open a link, and return the seconds until the room is shown."""
    begun = time.perf_counter()
    await page.goto(link)
    await page.locator("header.room").wait_for()
    return time.perf_counter() - begun


async def _play(browser: Browser, link: str) -> dict[str, float]:
    async with _page(browser) as page:
        opened = await _opened(page, link)
        await asyncio.sleep(PAUSE)
        begun = time.perf_counter()
        await page.get_by_role("button", name="Play", exact=True).click()
        await page.wait_for_function(_PLAYING, polling="raf")
        shown = time.perf_counter() - begun
        await asyncio.sleep(PAUSE)
        seek = await page.evaluate(_SEEK, 0.8)
    return {"open_s": opened, "first_frame_s": shown, "seek_s": float(seek)}


async def _download(browser: Browser, link: str, size: int) -> tuple[float, float]:
    """Return MB/s of a download, and the most memory of a tab meanwhile, in MB."""
    async with _page(browser) as page:
        await _opened(page, link)
        await asyncio.sleep(PAUSE)
        memory = Memory()
        watching = asyncio.create_task(memory.watch())
        begun = time.perf_counter()
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download").first.click()
        path = Path(await (await download.value).path())
        seconds = time.perf_counter() - begun
        if (got := path.stat().st_size) < size:
            raise SystemExit(f"the download has {got} bytes of {size}")
        path.unlink()
        watching.cancel()
    return got / seconds / 1e6, memory.most


class Memory:
    """The most memory that a tab of this process's Chromium had, in MB."""

    def __init__(self) -> None:
        """Begin with none."""
        self.most = 0.0

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if "--type=renderer" in process.cmdline():
                        used = process.memory_full_info().uss / 1e6
                        self.most = max(self.most, used)
            await asyncio.sleep(LOOK)


async def _channel(browser: Browser, server: str, size: int) -> float:
    """Return MB/s of a bare data channel between two pages."""
    async with _page(browser) as sender, _page(browser) as receiver:
        for page in (sender, receiver):
            await page.goto(server)
            await page.evaluate(_CHANNEL)
        describe = (
            "async () => { await peer.setLocalDescription(); return gathered(); }"
        )
        accept = "(described) => peer.setRemoteDescription(described)"
        offer = await sender.evaluate(describe)
        await receiver.evaluate(accept, {"type": "offer", "sdp": offer})
        answer = await receiver.evaluate(describe)
        await sender.evaluate(accept, {"type": "answer", "sdp": answer})
        await sender.wait_for_function("channel.readyState === 'open'")
        begun = time.perf_counter()
        await asyncio.gather(
            sender.evaluate(_SEND, size),
            receiver.wait_for_function(f"received >= {size}", polling=50),
        )
        return size / (time.perf_counter() - begun) / 1e6


async def _in_browser(
    folder: Path, rounds: int, size: int, parts: list[str]
) -> dict[str, Any]:
    figures: dict[str, list[float]] = {}

    def keep(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)
        print(f"    {name:40} {value:10.2f}", file=sys.stderr)

    async with AsyncExitStack() as stack:
        home, server = await stack.enter_async_context(_sharing(folder, size))
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(CHROMIUM_OPTIONS)
        )
        stack.push_async_callback(browser.close)
        film, large = await _link(home, "A film"), await _link(home, "Large")
        for _ in range(rounds):
            if "page" in parts:
                for name, value in (await _play(browser, film)).items():
                    keep(name, value)
            if "download" in parts:
                keep("channel", await _channel(browser, server, size))
                rate, memory = await _download(browser, large, size)
                keep("download", rate)
                keep("memory", memory)
    median = {name: statistics.median(values) for name, values in figures.items()}
    result: dict[str, Any] = {
        name: median[name]
        for name in ("open_s", "first_frame_s", "seek_s")
        if name in median
    }
    if "download" in median:
        result["download_mb_s"] = {
            "pemus_guest": median["download"],
            "chromium_datachannel": median["channel"],
        }
        result["browser_memory_mb"] = {"download": median["memory"]}
    return result


async def _idle(folder: Path) -> dict[str, float]:
    """Return the engine's memory without and with many rooms, in MB."""
    films = folder / "Films"
    films.mkdir(parents=True)
    (films / "Film.mp4").write_bytes(MP4 * 1000)
    # One home makes them all at once.
    os.environ["PEMUS_ROOMS_PER_HOME"] = str(2 * ROOMS)
    os.environ["PEMUS_CHANGES_PER_MINUTE"] = "1000000"
    os.environ["PEMUS_LOOKUPS_PER_MINUTE"] = "1000000"
    python = ENVS / "signaling" / "bin" / "python"
    async with (
        SignalingServer(folder / "server", python) as server,
        EngineHome(folder / "home", python=ENVS / "engine" / "bin" / "python") as home,
    ):
        await home.share(films)
        (item,) = await home.items()

        def room() -> dict[str, Any]:
            return {
                "id": uuid4().hex,
                "name": "A room",
                "items": [item],
                "secret": secrets.token_urlsafe(16),
                "expires": time.time() + 86400,
            }

        async def registered(count: int) -> bool:
            rooms = (await home.ask("GET", "status"))["rooms"]
            return sum(each["link"] is not None for each in rooms) == count

        # One, so that what links are made of is loaded in both cases.
        rooms = [room()]
        await home.configure(rooms=rooms, servers=[server.url])
        await home.until(lambda: registered(1), "a link")
        await asyncio.sleep(10)
        none = (await home.ask("GET", "status"))["rss"]
        rooms += [room() for _ in range(ROOMS - 1)]
        await home.configure(rooms=rooms)
        await home.until(lambda: registered(ROOMS), "links", 300)
        await asyncio.sleep(10)
        many = (await home.ask("GET", "status"))["rss"]
    return {"one_rss_mb": none / 1e6, "many_rss_mb": many / 1e6}


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pemus-bench-") as name:
        folder = Path(name)
        if {"page", "download"} & set(arguments.only):
            size = arguments.size_mb * 2**20
            result |= await _in_browser(
                folder / "browser", arguments.rounds, size, arguments.only
            )
        if "idle" in arguments.only:
            result["rooms_1000_idle"] = await _idle(folder / "idle")
    return result


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size-mb", type=int, default=500, help="of the download")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    result = asyncio.run(_measure(arguments))
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"    {name:28} {value}", file=sys.stderr)


if __name__ == "__main__":
    main()
