"""Stock npm webtorrent, in Chromium and in Node, and stock libtorrent fetch from each other through /announce."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha1, sha256
import json
import os
from pathlib import Path
import sys
from typing import Any, Protocol

from aiohttp import web
from playwright.async_api import Browser, Page
import pytest

from pemus_signaling.net.sockets import Close
from pemus_signaling.tracker.swarms import Limits
from tests.patience import until
from tests.signaling.guests import Home, Tracked, tracking

ROOT = Path(__file__).parents[3]
NPM = ROOT / ".venvs" / "npm"
TOOLS = Path(__file__).parent / "webtorrent"
SCRIPT = NPM / "node_modules" / "webtorrent" / "dist" / "webtorrent.min.js"
PATIENCE = 60
LIMITS = Limits(interval=10)
"""A connection that fails is tried again after the next announce. It happens: between programs as different as these."""
PIECE = 16 * 1024
NAME = "film.mp4"
CONTENT = os.urandom(40 * PIECE + 1234)
DIGEST = sha256(CONTENT).hexdigest()

_PAGE = """
async () => {
    const { default: WebTorrent } = await import("/webtorrent.min.js");
    const client = new WebTorrent({ tracker: { rtcConfig: { iceServers: [] } } });
    const faults = [];
    let torrent;
    const known = (added) => {
        torrent = added;
        torrent.on("warning", (fault) => faults.push(String(fault)));
    };
    client.on("error", (error) => faults.push(String(error)));
    window.add = (encoded, tracker, content) => {
        const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        // A browser has no file that it could look at: what it seeds it is given.
        if (content === null) {
            known(client.add(bytes(encoded), { announce: [tracker] }));
            return null;
        }
        const file = new File([bytes(content)], "film.mp4");
        return new Promise((resolve) => {
            const options = { announce: [tracker], announceList: [[tracker]], private: true, pieceLength: 16384 };
            known(client.seed(file, options, (seeded) => resolve(seeded.infoHash)));
        });
    };
    window.state = () => ({ done: torrent.done, peers: torrent.numPeers, faults });
    window.hash = async () => {
        const content = await (await torrent.files[0].blob()).arrayBuffer();
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
        return { sha256: Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") };
    };
}
"""


def bencoded(value: int | bytes | dict[bytes, Any]) -> bytes:
    """Return a value as BEP 3 writes it."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    pairs = [bencoded(key) + bencoded(each) for key, each in sorted(value.items())]
    return b"d%be" % b"".join(pairs)


def torrent_of(content: bytes) -> tuple[str, str]:
    """Return a torrent (base64) and its info-hash (hexadecimal), as npm's webtorrent makes it too."""
    pieces = b"".join(
        sha1(content[at : at + PIECE]).digest() for at in range(0, len(content), PIECE)
    )
    info = {
        b"length": len(content),
        b"name": NAME.encode(),
        b"piece length": PIECE,
        b"pieces": pieces,
        b"private": 1,
    }
    written = bencoded(info)
    return b64encode(b"d4:info%be" % written).decode(), sha1(written).hexdigest()


TORRENT, INFO_HASH = torrent_of(CONTENT)


class Peer(Protocol):
    """A program that seeds or fetches."""

    async def add(self, folder: Path, tracker: str, *, seeds: bool) -> None: ...

    async def state(self) -> dict[str, Any]: ...

    async def hash(self) -> str: ...


class Program:
    """A peer in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def add(self, folder: Path, tracker: str, *, seeds: bool) -> None:
        folder.mkdir()
        if seeds:
            (folder / NAME).write_bytes(CONTENT)
        await self._ask(do="add", torrent=TORRENT, folder=str(folder), tracker=tracker)

    async def state(self) -> dict[str, Any]:
        return await self._ask(do="state")

    async def hash(self) -> str:
        digest: str = (await self._ask(do="hash"))["sha256"]
        return digest

    async def _ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "the peer ended"
        heard: dict[str, Any] = json.loads(line)
        return heard


@asynccontextmanager
async def program(*command: object) -> AsyncIterator[Peer]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    try:
        peer = Program(process)
        await peer.hear()
        yield peer
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class Tab:
    """A peer in a browser."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def add(self, folder: Path, tracker: str, *, seeds: bool) -> None:
        content = b64encode(CONTENT).decode() if seeds else None
        added = await self._page.evaluate(
            "([torrent, tracker, content]) => add(torrent, tracker, content)",
            [TORRENT, tracker, content],
        )
        assert added in {None, INFO_HASH}

    async def state(self) -> dict[str, Any]:
        state: dict[str, Any] = await self._page.evaluate("state()")
        return state

    async def hash(self) -> str:
        digest: str = (await self._page.evaluate("hash()"))["sha256"]
        return digest


class Programs:
    """Those that others wrote."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser = browser
        self._address = address

    def start(self, name: str) -> AbstractAsyncContextManager[Peer]:
        if name == "node":
            return program(NPM / "node", TOOLS / "peer.mjs", NPM / "node_modules")
        if name == "libtorrent":
            return program(sys.executable, TOOLS / "peer.py")
        return self._tab()

    @asynccontextmanager
    async def _tab(self) -> AsyncIterator[Peer]:
        context = await self._browser.new_context()
        page = await context.new_page()
        await page.goto(self._address)
        await page.evaluate(_PAGE)
        yield Tab(page)
        await context.close()


@pytest.fixture
async def programs(browser: Browser) -> AsyncGenerator[Programs]:
    assert (NPM / "node").exists(), "run script/test: it installs npm's packages"

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
    try:
        yield Programs(browser, f"http://127.0.0.1:{runner.addresses[0][1]}/")
    finally:
        await runner.cleanup()


async def reached(peer: Peer, **wanted: Any) -> None:
    """Wait until a peer says so of itself."""
    state: dict[str, Any] = {}

    async def says_so() -> bool:
        nonlocal state
        state = await peer.state()
        return wanted.items() <= state.items()

    try:
        await until(says_so)
    except TimeoutError:
        raise AssertionError(f"it is still {state}") from None


async def tracker_faults(peer: Peer) -> list[str]:
    """Return what a peer complained about, but for connections that failed: it makes more of them than it needs."""
    faults: list[str] = (await peer.state())["faults"]
    return [fault for fault in faults if "Connection error" not in fault]


async def swarm_has(tracked: Tracked, complete: int, incomplete: int) -> None:
    def counts() -> list[tuple[int, int]]:
        swarms = tracked.tracker.swarms
        return [(len(swarm.seeds), len(swarm.leechers)) for swarm in swarms]

    await until(lambda: counts() == [(complete, incomplete)])


@pytest.mark.parametrize("receiver", ["chromium", "node", "libtorrent"])
@pytest.mark.parametrize("owner", ["chromium", "node", "libtorrent"])
async def test_one_fetches_what_the_other_seeds(
    programs: Programs, tmp_path: Path, owner: str, receiver: str
) -> None:
    home = Home()
    async with (
        tracking(limits=LIMITS) as tracked,
        programs.start(owner) as seed,
        programs.start(receiver) as guest,
    ):
        await seed.add(tmp_path / "seed", tracked.url(home.token("home")), seeds=True)
        await reached(seed, done=True)
        await swarm_has(tracked, 1, 0)
        await guest.add(tmp_path / "guest", tracked.url(home.token("b")), seeds=False)
        await reached(guest, done=True)
        assert await guest.hash() == DIGEST
        for each in (seed, guest):
            assert not await tracker_faults(each)
        # Who has got everything says so.
        await swarm_has(tracked, 2, 0)
        assert tracked.tracker.swarms.answers >= 1


async def test_guests_fetch_from_each_other(programs: Programs, tmp_path: Path) -> None:
    """A seed that is gone is not needed any more."""
    home = Home()
    async with tracking(limits=LIMITS) as tracked, programs.start("node") as guest:
        async with programs.start("libtorrent") as seed:
            await seed.add(
                tmp_path / "seed", tracked.url(home.token("home")), seeds=True
            )
            await guest.add(
                tmp_path / "guest", tracked.url(home.token("b")), seeds=False
            )
            await reached(guest, done=True)
        await swarm_has(tracked, 1, 0)
        async with programs.start("chromium") as late:
            await late.add(tmp_path / "late", tracked.url(home.token("c")), seeds=False)
            await reached(late, done=True)
            assert await late.hash() == DIGEST


async def test_a_guest_of_another_home_gets_nothing(
    programs: Programs, tmp_path: Path
) -> None:
    """He knows the torrent, and signs a token for himself."""
    home, stranger = Home(), Home()
    async with (
        tracking(limits=LIMITS) as tracked,
        programs.start("libtorrent") as seed,
        programs.start("node") as out,
        programs.start("node") as guest,
    ):
        await seed.add(tmp_path / "seed", tracked.url(home.token("home")), seeds=True)
        await reached(seed, done=True)
        await out.add(tmp_path / "out", tracked.url(stranger.token("b")), seeds=False)
        # How long is long enough? Until somebody who came later has got everything.
        await guest.add(tmp_path / "guest", tracked.url(home.token("c")), seeds=False)
        await reached(guest, done=True)
        state = await out.state()
        assert (state["done"], state["peers"]) == (False, 0)


async def test_a_client_whose_token_is_revoked_is_cut_off(
    programs: Programs, tmp_path: Path
) -> None:
    home = Home()
    async with (
        tracking(limits=LIMITS) as tracked,
        programs.start("libtorrent") as guest,
    ):
        watcher = await tracked.connect(home.token("guest"))
        await guest.add(
            tmp_path / "guest", tracked.url(home.token("guest")), seeds=False
        )
        await swarm_has(tracked, 0, 1)
        tracked.revocations.revoke_token(home.key, "guest")
        assert await watcher.end() == Close.REVOKED
        assert len(tracked.tracker.swarms) == 0
        assert tracked.tracker.sockets == 0
