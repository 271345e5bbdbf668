"""The page for guests: where it is served, what a browser may do with it, and what a link does not give away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.signaling.server import http, running

SLUG = "baku-timo-rosa-lufi"
PAGE = "<!doctype html><title>Shared with you</title>" + "<!-- padding -->" * 50
SCRIPT = "console.log('\u00e4')"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Return a folder with a page, as a build leaves it."""
    (tmp_path / "_").mkdir()
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "sw.js").write_text("self.addEventListener('fetch', () => {})")
    (tmp_path / "_" / "guest-abc123.js").write_text(SCRIPT)
    (tmp_path / "_" / "icon-abc123.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("not of the page")
    return tmp_path


@asynccontextmanager
async def asking(built: Path, path: str = "/") -> AsyncIterator[Any]:
    """Return what answers a GET with its response and its body."""
    async with (
        running(path=path, guest_page=built) as server,
        aiohttp.ClientSession() as session,
    ):

        async def get(path: str, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
            async with session.get(http(server, path), headers=headers) as answer:
                return answer, await answer.text()

        yield get


@pytest.mark.parametrize("path", ["/", "/signals/"])
@pytest.mark.parametrize(
    "slug", [SLUG, SLUG.upper(), SLUG.replace("-", ""), SLUG.replace("-", "%20")]
)
async def test_every_slug_gets_the_same_page_whether_there_is_a_room_or_not(
    built: Path, path: str, slug: str
) -> None:
    async with asking(built, path) as get:
        answer, body = await get(f"{path}r/{slug}")
    assert answer.status == 200
    assert answer.content_type == "text/html"
    assert body == PAGE
    assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/r/baku-timo",
        "/r/index.html",
        "/r/",
        "/r/_",
        f"/r/{SLUG}/file/a/b/c",
        "/r/..%2fx",
    ],
)
async def test_other_addresses_have_no_page(built: Path, path: str) -> None:
    async with asking(built) as get:
        answer, _ = await get(path)
    assert answer.status == 404


async def test_the_page_may_run_its_own_scripts_alone(built: Path) -> None:
    async with asking(built) as get:
        answer, _ = await get(f"/r/{SLUG}")
    rules = dict(
        rule.strip().partition(" ")[::2]
        for rule in answer.headers["Content-Security-Policy"].split(";")
    )
    host = f"{answer.url.host}:{answer.url.port}"
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob:",
        "media-src": "'self' blob:",
        "connect-src": f"'self' wss://{host}",
        "worker-src": "'self'",
        "frame-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_host_cannot_add_to_the_policy(built: Path) -> None:
    async with asking(built) as get:
        answer, _ = await get(f"/r/{SLUG}", Host="evil.example; script-src *")
    assert "evil" not in answer.headers.get("Content-Security-Policy", "")


async def test_hashed_files_are_kept_for_ever(built: Path) -> None:
    async with asking(built) as get:
        script, text = await get("/r/_/guest-abc123.js")
        icon, _ = await get("/r/_/icon-abc123.svg")
    assert (script.content_type, text) == ("text/javascript", SCRIPT)
    assert icon.content_type == "image/svg+xml"
    for answer in (script, icon):
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/signals/"])
async def test_the_worker_is_looked_at_anew_and_may_serve_all_rooms(
    built: Path, path: str
) -> None:
    async with asking(built, path) as get:
        answer, _ = await get(f"{path}r/sw.js")
    assert answer.status == 200
    assert answer.content_type == "text/javascript"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Service-Worker-Allowed"] == f"{path}r/"


@pytest.mark.parametrize("name", ["secret.txt", "..%2fsecret.txt", "%2e%2e", "none.js"])
async def test_nothing_else_in_the_folder_can_be_read(built: Path, name: str) -> None:
    async with asking(built) as get:
        answer, body = await get(f"/r/_/{name}")
    assert answer.status == 404
    assert "not of the page" not in body


async def test_the_page_is_compressed_for_those_who_can_read_that(built: Path) -> None:
    async with asking(built) as get:
        small, body = await get(f"/r/{SLUG}", **{"Accept-Encoding": "gzip"})
        plain, same = await get(f"/r/{SLUG}", **{"Accept-Encoding": "identity"})
    assert body == same == PAGE
    assert small.headers["Content-Encoding"] == "gzip"
    assert int(small.headers["Content-Length"]) < int(plain.headers["Content-Length"])
    assert small.headers["Vary"] == "Accept-Encoding"


async def test_a_server_without_the_page_says_so(tmp_path: Path) -> None:
    async with asking(tmp_path) as get:
        answer, body = await get(f"/r/{SLUG}")
        worker, _ = await get("/r/sw.js")
    assert answer.status == 503
    assert "does not have the page for guests" in body
    assert worker.status == 404
