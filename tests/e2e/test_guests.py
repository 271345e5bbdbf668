"""Guests open the link of a room in a browser: a real home, a real signalling server, the real page.

Nothing is done for the page: it opens the link, connects over WebRTC, and saves files as a person's browser does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
import re
import time
from typing import Any, Literal
from zipfile import ZipFile

from conftest import CHROMIUM, CHROMIUM_OPTIONS
from playwright.async_api import Browser, Download, Page, expect
import pytest
import pytest_asyncio

from demo.encoding import MP4_FAST
from demo.home import Home
from demo.one_home import act
from demo.sample_library import VIDEOS
from demo.signaling import SignalingServer, use_servers
from tests.patience import until

SIGNALING_PYTHON = Path(__file__).parents[2] / ".venvs" / "signaling" / "bin" / "python"
AXE = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"
OPEN_TIMEOUT = 30_000
"""Milliseconds until a room is open."""
VIDEO_TIMEOUT = 20.0
"""Seconds until a film does what it should."""
REVOKE_TIME = 3.0
"""Seconds after which a guest of a room that is closed has nothing any more."""
FILM = next(video.path for video in VIDEOS if video.form is MP4_FAST)
DOWNLOAD = re.compile("^Download ·")
SLOW = 4
"""Mbit/s at which a film takes some seconds."""
AWAY_TIMEOUT = 60_000
"""Milliseconds until a guest knows that the home is away, and until it is back."""
PHONE = {"width": 390, "height": 844}
pytestmark = pytest.mark.timeout(300)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def host(
    home: Home, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Home]:
    """Return a home that has a signalling server."""
    folder = tmp_path_factory.mktemp("signaling")
    async with SignalingServer(folder, SIGNALING_PYTHON) as server:
        await use_servers(home, server.url)
        # The guests of these tests are in the local network, and some of them must be slow.
        unlimited = {"entity_id": "switch.demo_home_local_network_unlimited"}
        await home.post("/api/services/switch/turn_off", unlimited)
        yield home
        await home.post("/api/services/switch/turn_on", unlimited)
        # Other tests use this home, and know of no server.
        await use_servers(home)


@asynccontextmanager
async def _guest(browser: Browser) -> AsyncIterator[Page]:
    """Return the browser of a guest who was never here, on a phone."""
    context = await browser.new_context(
        viewport=PHONE, locale="en-GB", reduced_motion="reduce"
    )
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert errors == []


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncGenerator[Page]:
    """Return a guest."""
    async with _guest(browser) as guest:
        yield guest


async def _media(home: Home, path: str) -> str:
    """Return the media content id of a file or folder of the sample library."""
    kind, *parts = Path(path).parts
    place, title = "media-source://pemus", ""
    for part in (kind, "Folders", kind, *parts):
        found = await home.ask("media_source/browse_media", media_content_id=place)
        for child in found["children"]:
            if child["title"] in (part, Path(part).stem):
                place, title = child["media_content_id"], child["title"]
    assert title in (Path(path).name, Path(path).stem), found["children"]
    return str(place)


@asynccontextmanager
async def _room(home: Home, path: str, **terms: Any) -> AsyncIterator[str]:
    """Share something of the sample library, and return the link."""
    name = f"Room of {path}"
    given = {"media_content_id": [await _media(home, path)], "name": name, **terms}
    shared = await act(home, "share", given)
    try:
        yield str(shared["link"])
    finally:
        rooms = await home.ask(
            "config_entries/subentries/list", entry_id=await home.entry()
        )
        if any(room["title"] == name for room in rooms):
            await home.post("/api/services/pemus/unshare", {"room": name})


async def _open(page: Page, link: str) -> None:
    """Open a link, and wait for the room."""
    await page.goto(link)
    await expect(page.locator("header.room")).to_be_visible(timeout=OPEN_TIMEOUT)


async def _save(page: Page, button: str | re.Pattern[str]) -> Download:
    """Press a button, and return what the browser saves, when it is complete."""
    async with page.expect_download() as saving:
        await page.get_by_role("button", name=button).first.click()
    download = await saving.value
    assert await download.failure() is None
    return download


async def _video(page: Page, condition: str) -> None:
    """Wait until something is so of the video `v`."""

    async def holds() -> bool:
        script = f"() => {{ const v = document.querySelector('video'); return !!v && {condition} }}"
        return bool(await page.evaluate(script))

    await until(holds, VIDEO_TIMEOUT)


async def _check_access(page: Page) -> None:
    """Check that people with a keyboard or a screen reader are not shut out, as far as axe-core can tell."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("() => axe.run(document)")
    serious = [
        (each["id"], [node["target"] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


async def test_a_guest_downloads_a_film_byte_for_byte(
    host: Home, library: Path, page: Page
) -> None:
    async with _room(host, FILM, note="Enjoy!") as link:
        await _open(page, link)
        await expect(page.get_by_text("Enjoy!")).to_be_visible()
        await expect(page.get_by_text("Direct", exact=True)).to_be_visible()
        download = await _save(page, DOWNLOAD)
        assert download.suggested_filename == Path(FILM).name
        assert _digest(await download.path()) == _digest(library / FILM)
        await expect(page.get_by_text("You may close this page now")).to_be_visible()


async def test_a_guest_watches_a_film_and_seeks(host: Home, page: Page) -> None:
    async with _room(host, FILM) as link:
        await _open(page, link)
        await page.get_by_role("button", name="Play", exact=True).click()
        await _video(page, "v.readyState >= 3 && v.currentTime > 0.2")
        await page.evaluate(
            "() => { const v = document.querySelector('video'); v.currentTime = v.duration * 0.75; }"
        )
        await _video(page, "!v.seeking && v.currentTime > v.duration * 0.75")
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).not_to_be_visible()


async def test_a_guest_downloads_a_folder_as_one_archive(
    host: Home, library: Path, page: Page
) -> None:
    async with _room(host, "Photos") as link:
        await _open(page, link)
        download = await _save(page, re.compile("^Download all ·"))
        assert download.suggested_filename == "Room of Photos.zip"
        with ZipFile(await download.path()) as archive:
            assert archive.testzip() is None
            saved = {
                name: sha256(archive.read(name)).hexdigest()
                for name in archive.namelist()
            }
    there = {
        path.relative_to(library / "Photos").as_posix(): _digest(path)
        for path in (library / "Photos").rglob("*")
        if path.is_file()
    }
    # Names that Windows does not take are changed.
    assert len(saved) == len(there)
    assert sorted(saved.values()) == sorted(there.values())


async def test_a_guest_looks_at_photos(host: Home, page: Page) -> None:
    async with _room(host, "Photos/2023/Mountains") as link:
        await _open(page, link)
        await page.get_by_role("button", name=re.compile("^View ")).first.click()
        picture = page.locator("dialog .stage > img")
        await expect(picture).to_have_js_property("complete", True)
        first = await picture.get_attribute("alt")
        await page.keyboard.press("ArrowRight")
        await expect(picture).not_to_have_attribute("alt", str(first))

        async def is_shown() -> bool:
            return bool(await picture.evaluate("i => i.complete && i.naturalWidth > 0"))

        await until(is_shown)


async def test_a_download_goes_on_when_the_home_was_away(
    host: Home, library: Path, page: Page
) -> None:
    async with _room(host, FILM, upload_limit=SLOW) as link:
        await _open(page, link)
        async with page.expect_download() as saving:
            await page.get_by_role("button", name=DOWNLOAD).click()
        download = await saving.value
        await expect(page.locator("progress")).not_to_have_js_property("value", 0)
        engine = host.engine()
        assert engine is not None
        engine.kill()
        await expect(page.get_by_text("The connection was lost")).to_be_visible(
            timeout=AWAY_TIMEOUT
        )
        await expect(page.get_by_text("You may close this page now")).to_be_visible(
            timeout=2 * AWAY_TIMEOUT
        )
        assert _digest(await download.path()) == _digest(library / FILM)


async def test_guests_queue_for_the_places_that_there_are(
    host: Home, library: Path, browser: Browser, page: Page
) -> None:
    async with (
        _room(host, FILM, guests=1, upload_limit=SLOW) as link,
        _guest(browser) as second,
    ):
        for guest in (page, second):
            await _open(guest, link)
        async with page.expect_download() as first_saving:
            await page.get_by_role("button", name=DOWNLOAD).click()
        first = await first_saving.value
        await expect(page.locator("progress")).not_to_have_js_property("value", 0)
        async with second.expect_download() as second_saving:
            await second.get_by_role("button", name=DOWNLOAD).click()
        await expect(second.get_by_text("Number 1 in the queue")).to_be_visible()
        assert _digest(await first.path()) == _digest(library / FILM)
        later = await second_saving.value
        assert _digest(await later.path()) == _digest(library / FILM)


async def test_a_password_lets_in_only_who_knows_it(host: Home, page: Page) -> None:
    async with _room(host, FILM, password="open sesame") as link:
        await page.goto(link)
        field = page.get_by_label("Password")
        await expect(field).to_be_focused(timeout=OPEN_TIMEOUT)
        await field.fill("close sesame")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("That is not the password")).to_be_visible()
        await field.fill("open sesame")
        await page.keyboard.press("Enter")
        await expect(page.locator("header.room")).to_be_visible()


async def test_who_only_has_a_spoken_code_is_told_what_is_weaker(
    host: Home, page: Page
) -> None:
    async with _room(host, FILM, password="open sesame") as link:
        await page.goto(link.partition("#")[0].replace("-", "%20"))
        await expect(
            page.get_by_text("without the secret part of the link")
        ).to_be_visible(timeout=OPEN_TIMEOUT)
        await page.get_by_label("Password").fill("open sesame")
        await page.keyboard.press("Enter")
        await expect(page.locator("header.room")).to_be_visible()


async def test_a_room_that_is_closed_is_closed_for_those_in_it(
    host: Home, page: Page
) -> None:
    async with _room(host, FILM) as link:
        await _open(page, link)
        await host.post("/api/services/pemus/unshare", {"room": f"Room of {FILM}"})
        start = time.monotonic()
        await expect(page.get_by_text("The room is closed now")).to_be_visible()
        assert time.monotonic() - start < REVOKE_TIME
        await page.reload()
        await expect(
            page.get_by_role("heading", name="This room is closed")
        ).to_be_visible(timeout=OPEN_TIMEOUT)


async def test_a_link_with_another_secret_opens_nothing(host: Home, page: Page) -> None:
    async with _room(host, FILM) as link:
        await page.goto(link.partition("#")[0] + "#AAAAAAAAAAAAAAAAAAAAAA")
        await expect(
            page.get_by_role("heading", name="This link is not right")
        ).to_be_visible(timeout=OPEN_TIMEOUT)


async def test_a_room_that_never_was_is_explained(host: Home, page: Page) -> None:
    async with _room(host, FILM) as link:
        await page.goto(re.sub("r/.*", "r/baku-timo-rosa-lufi", link))
        await expect(
            page.get_by_role("heading", name="There is no such room")
        ).to_be_visible(timeout=OPEN_TIMEOUT)


async def test_a_link_that_was_not_copied_whole_is_explained(
    host: Home, page: Page
) -> None:
    async with _room(host, FILM) as link:
        await page.goto(link[:-5])
        await expect(
            page.get_by_role("heading", name="This link is not complete")
        ).to_be_visible()


async def test_an_address_without_encryption_says_why_it_cannot_work(
    host: Home, browser: Browser
) -> None:
    async with _room(host, FILM) as link:
        elsewhere = await browser.browser_type.launch(
            executable_path=CHROMIUM,
            args=[*CHROMIUM_OPTIONS, "--host-resolver-rules=MAP lan.test 127.0.0.1"],
        )
        try:
            page = await elsewhere.new_page(locale="en-GB")
            address = link.replace("127.0.0.1", "lan.test")
            await page.goto(address)
            await expect(
                page.get_by_role("heading", name="This address is not encrypted")
            ).to_be_visible()
            secure = page.get_by_role("link", name="Open the https address")
            await expect(secure).to_have_attribute(
                "href", address.replace("http:", "https:")
            )
        finally:
            await elsewhere.close()


async def test_a_window_without_service_workers_still_saves_small_files(
    host: Home, library: Path, browser: Browser
) -> None:
    context = await browser.new_context(locale="en-GB", service_workers="block")
    try:
        page = await context.new_page()
        async with _room(host, FILM) as link:
            await _open(page, link)
            await expect(page.get_by_text("This window does not allow")).to_be_visible(
                timeout=OPEN_TIMEOUT
            )
            download = await _save(page, DOWNLOAD)
            assert _digest(await download.path()) == _digest(library / FILM)
    finally:
        await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nobody_is_shut_out(
    host: Home, page: Page, scheme: Literal["light", "dark"]
) -> None:
    await page.emulate_media(color_scheme=scheme)
    async with _room(host, "Videos", password="open sesame") as link:
        await page.goto(link)
        field = page.get_by_label("Password")
        await expect(field).to_be_focused(timeout=OPEN_TIMEOUT)
        await _check_access(page)
        await field.fill("open sesame")
        await page.keyboard.press("Enter")
        await expect(page.locator("header.room")).to_be_visible()
        await page.get_by_text("How safe is this?").click()
        await _save(page, f"Download {Path(FILM).name}")
        await _check_access(page)
        await page.get_by_role(
            "button", name=re.compile(f"^Play .*{re.escape(Path(FILM).name)}")
        ).click()
        await _video(page, "v.readyState >= 3")
        await _check_access(page)
    await expect(page.get_by_text("The room is closed now")).to_be_attached()
    await page.keyboard.press("Escape")
    await _check_access(page)
