"""Stock npm peerjs in Chromium meets itself through this server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web
from playwright.async_api import Browser, Page
import pytest

from pemus_signaling.server import Server
from tests.signaling.server import http, running

SCRIPT = (
    Path(__file__).parents[3]
    / ".venvs"
    / "npm"
    / "node_modules"
    / "peerjs"
    / "dist"
    / "peerjs.js"
)
PATIENCE = 60_000

PAGE = """<!doctype html><title>peerjs</title><script src="/peerjs.js"></script><script>
let peer, connection;
const heard = [];
const seen = [];
// Resolves as soon as something happened, or had happened already.
const until = async (test) => { while (!test()) await new Promise((wake) => setTimeout(wake, 20)); };
const begin = (id, options) => {
  peer = new peerjs.Peer(id, { host: "127.0.0.1", port: Number(location.port), config: { iceServers: [] }, ...options });
  for (const name of ["open", "close", "disconnected"]) peer.on(name, () => seen.push(name));
  peer.on("error", (error) => seen.push(error.type));
  peer.on("connection", (incoming) => attach(incoming));
};
const attach = (made) => {
  connection = made;
  made.on("data", (data) => heard.push(data));
};
const call = (id, serialization) => attach(peer.connect(id, { serialization, reliable: true }));
const been = async (name) => { await until(() => seen.includes(name)); seen.splice(seen.indexOf(name), 1); return peer.id; };
const next = async () => { await until(() => heard.length > 0); return heard.shift(); };
const opened = () => until(() => connection && connection.open);
</script>"""


def prepare(server: Server) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def script(request: web.Request) -> web.FileResponse:
        return web.FileResponse(SCRIPT)

    server.front.app.router.add_get("/page", page)
    server.front.app.router.add_get("/peerjs.js", script)


async def open_page(browser: Browser, server: Server) -> Page:
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE)
    await page.goto(http(server, "/page"))
    return page


async def begin(
    browser: Browser, server: Server, identifier: str | None = None, **options: Any
) -> Page:
    """Return a page with a peer that has its id."""
    page = await open_page(browser, server)
    await page.evaluate(
        "([id, options]) => begin(id ?? undefined, options)", [identifier, options]
    )
    await page.evaluate("been('open')")
    return page


@pytest.mark.parametrize(
    ("serialization", "sent", "arrives"),
    [
        (
            "binary",
            "({n: [1, null, 'é'], data: new Uint8Array([1, 2, 255]).buffer})",
            "d => [d.n, [...new Uint8Array(d.data)]]",
        ),
        ("json", "({n: [1, null, 'é'], data: [1, 2, 255]})", "d => [d.n, d.data]"),
        (
            "raw",
            "JSON.stringify({n: [1, null, 'é'], data: [1, 2, 255]})",
            "d => [JSON.parse(d).n, JSON.parse(d).data]",
        ),
    ],
)
async def test_two_browsers_talk_to_each_other(
    browser: Browser, serialization: str, sent: str, arrives: str
) -> None:
    async with running(prepare) as server:
        alice, bob = await begin(browser, server, "alice"), await begin(browser, server)
        await bob.evaluate("s => call('alice', s)", serialization)
        await alice.evaluate("opened()")
        await bob.evaluate("opened()")
        for speaker, listener in ((alice, bob), (bob, alice)):
            await speaker.evaluate(f"connection.send({sent})")
            assert await listener.evaluate(f"next().then({arrives})") == [
                [1, None, "é"],
                [1, 2, 255],
            ]
        await bob.evaluate(
            "connection.send('x'.repeat(5000))"
            if serialization != "binary"
            else "connection.send('x'.repeat(500000))"
        )
        assert set(await alice.evaluate("next()")) == {"x"}


async def test_an_id_that_somebody_has_is_not_given_to_another(
    browser: Browser,
) -> None:
    async with running(prepare) as server:
        await begin(browser, server, "alice")
        thief = await open_page(browser, server)
        await thief.evaluate("begin('alice')")
        await thief.evaluate("been('unavailable-id')")


async def test_who_disconnects_may_come_back(browser: Browser) -> None:
    async with running(prepare) as server:
        alice, bob = (
            await begin(browser, server, "alice"),
            await begin(browser, server, "bob"),
        )
        await alice.evaluate("peer.disconnect()")
        await alice.evaluate("been('disconnected')")
        await alice.evaluate("peer.reconnect()")
        assert await alice.evaluate("been('open')") == "alice"
        await bob.evaluate("call('alice', 'json')")
        await bob.evaluate("opened()")
        await alice.evaluate("opened()")
        await alice.evaluate("connection.send('here again')")
        assert await bob.evaluate("next()") == "here again"


async def test_who_was_cut_off_comes_back_under_its_id_while_its_old_socket_lives(
    browser: Browser,
) -> None:
    async with running(prepare) as server:
        alice = await begin(browser, server, "alice")
        # The page does not see its socket end, nor does the server: as when a telephone changes its network.
        await alice.evaluate(
            "() => { const old = peer.socket._socket; old.close = () => {}; peer.disconnect(); window.old = old; }"
        )
        await alice.evaluate("been('disconnected')")
        await alice.evaluate("peer.reconnect()")
        assert await alice.evaluate("been('open')") == "alice"
        assert server.peers.counts.superseded == 1


async def test_a_call_to_nobody_fails(browser: Browser) -> None:
    async with running(prepare, expire_timeout=1.0) as server:
        alice = await begin(browser, server, "alice")
        await alice.evaluate("call('nobody', 'json')")
        await alice.evaluate("been('peer-unavailable')")


async def test_a_call_waits_for_who_comes_a_moment_later(browser: Browser) -> None:
    async with running(prepare, expire_timeout=60.0) as server:
        alice = await begin(browser, server, "alice")
        await alice.evaluate("call('bob', 'json')")
        bob = await begin(browser, server, "bob")
        await bob.evaluate("opened()")
        await alice.evaluate("opened()")


async def test_the_wrong_key_is_told(browser: Browser) -> None:
    async with running(prepare, key="right") as server:
        alice = await open_page(browser, server)
        await alice.evaluate("begin('alice', { key: 'wrong' })")
        await alice.evaluate("been('server-error')")


async def test_path_and_key_are_the_operators_choice(browser: Browser) -> None:
    async with running(prepare, key="mine", path="/my/app/") as server:
        alice = await begin(browser, server, key="mine", path="/my/app")
        assert await alice.evaluate("peer.id") in server.peers.clients


async def test_nobody_is_listed_to_a_browser(browser: Browser) -> None:
    async with running(prepare) as server:
        alice = await begin(browser, server, "alice")
        said = await alice.evaluate(
            "peer._api.listAllPeers().catch((error) => String(error))"
        )
        assert "permission to list peers" in said


async def test_a_browser_learns_that_the_server_stops(browser: Browser) -> None:
    async with running(prepare) as server:
        alice = await begin(browser, server, "alice")
        await server.stop()
        await alice.evaluate("been('disconnected')")
