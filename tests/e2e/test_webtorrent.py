"""Stock WebTorrent in Chromium fetches what the engine's session seeds, introduced by a stock tracker."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1, sha256
import os
from pathlib import Path
from typing import Any

from aiohttp import web
from playwright.async_api import Browser, Page
import pytest
import pytest_asyncio

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / ".venvs" / "engine" / "bin" / "python"
NPM = ROOT / ".venvs" / "npm"
TOOLS = Path(__file__).parent / "webtorrent"
SCRIPT = NPM / "node_modules" / "webtorrent" / "dist" / "webtorrent.min.js"
PATIENCE = 60
SIZE = 12_345_678

_START = """
async () => {
    const { default: WebTorrent } = await import("/webtorrent.min.js");
    window.client = new WebTorrent({ tracker: { rtcConfig: { iceServers: [] } } });
    window.faults = [];
    client.on("error", (error) => faults.push(String(error)));
    window.fetchTorrent = (encoded, tracker) => {
        const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
        window.torrent = client.add(bytes, { announce: [tracker] });
        torrent.on("error", (error) => faults.push(String(error)));
        torrent.on("warning", (error) => faults.push(String(error)));
    };
    window.hashed = async () => {
        const content = await (await torrent.files[0].blob()).arrayBuffer();
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
        return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    };
    return client.peerId;
}
"""


@asynccontextmanager
async def running(*command: object) -> AsyncIterator[str]:
    """Run one of the tools beside this test, and give the line that it says."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert process.stdin and process.stdout
    try:
        async with asyncio.timeout(PATIENCE):
            said = await process.stdout.readline()
        assert said, f"{command[1]} ended"
        yield said.decode().strip()
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tracker() -> AsyncGenerator[str]:
    assert (NPM / "node").exists(), "run script/test: it installs npm's packages"
    modules = NPM / "node_modules"
    async with running(NPM / "node", TOOLS / "tracker.mjs", modules) as url:
        yield url


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("share") / "A film (ü).mp4"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncGenerator[Page]:
    async def document(_request: web.Request) -> web.Response:
        return web.Response(text="<title>A guest</title>", content_type="text/html")

    async def script(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(SCRIPT)

    app = web.Application()
    app.router.add_get("/", document)
    app.router.add_get("/webtorrent.min.js", script)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    context = await browser.new_context()
    opened = await context.new_page()
    await opened.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    await opened.evaluate(_START)
    yield opened
    await context.close()
    await runner.cleanup()


async def progress(page: Page) -> dict[str, Any]:
    state: dict[str, Any] = await page.evaluate(
        "({ peers: torrent.numPeers, done: torrent.done, received: torrent.received, faults })"
    )
    return state


async def test_webtorrent_in_a_browser_fetches_what_the_session_seeds(
    page: Page, tracker: str, film: Path
) -> None:
    async with running(ENGINE, TOOLS / "seed.py", film, tracker) as torrent:
        await page.evaluate(
            "([torrent, tracker]) => fetchTorrent(torrent, tracker)", [torrent, tracker]
        )
        await page.wait_for_function(
            "torrent.done || faults.length", timeout=PATIENCE * 1000
        )
        state = await progress(page)
        assert state["faults"] == []
        # WebTorrent has checked each piece; this is the whole.
        assert await page.evaluate("hashed()") == sha256(film.read_bytes()).hexdigest()
        assert state["received"] >= film.stat().st_size


async def test_who_knows_the_file_but_not_the_info_hash_gets_nothing(
    page: Page, tracker: str, film: Path
) -> None:
    """The same file, piece hashes and tracker, but another salt."""
    async with running(ENGINE, TOOLS / "seed.py", film, tracker) as torrent:
        known = base64.b64decode(torrent)
        at = known.index(b"6:x_salt16:") + len(b"6:x_salt16:")
        forged = known[:at] + bytes(16) + known[at + 16 :]
        info_hash = sha1(forged[len(b"d4:info") : -1]).hexdigest()
        await page.evaluate(
            "([torrent, tracker]) => fetchTorrent(torrent, tracker)",
            [base64.b64encode(forged).decode(), tracker],
        )
        await page.wait_for_function("torrent.ready", timeout=PATIENCE * 1000)
        assert await page.evaluate("torrent.infoHash") == info_hash
        # How long is long enough? Until the same page has got the true one, for which it asks later.
        await page.evaluate(
            """([torrent, tracker]) => {
                window.forged = window.torrent;
                fetchTorrent(torrent, tracker);
            }""",
            [torrent, tracker],
        )
        await page.wait_for_function(
            "torrent.done || faults.length", timeout=PATIENCE * 1000
        )
        state = await page.evaluate(
            "({ peers: forged.numPeers, received: forged.received, done: torrent.done, faults })"
        )
        assert state == {"peers": 0, "received": 0, "done": True, "faults": []}
