"""What somebody does at a screen: opens places of the media browser, looks, searches and plays.

Home Assistant's frontend keeps everything in shadow roots, which Playwright's selectors pierce.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
import json
from pathlib import Path
import re
from urllib.parse import quote

from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from demo.films import HEIGHT, PROGRESS_LINE
from demo.home import Home

SHOTS = Path(__file__).parents[2] / "artifacts" / "screenshots"
LOAD_TIMEOUT = 30_000
"""Milliseconds until a page of the frontend is there; the first one compiles a lot of JavaScript."""
PLAY_TIMEOUT = 20_000
PATIENCE = 15_000
"""Milliseconds for anything else."""

_REMEMBER_PLAYERS = """
window.players = [];
window.Audio = class extends Audio {
    constructor(...options) {
        super(...options);
        window.players.push(this);
    }
};
"""
"""Songs play in elements that are part of no document."""

_PICTURE = """
(video) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0);
    const pixels = (y, height) =>
        Array.from(context.getImageData(0, y, canvas.width, height).data);
    const line = pixels(ROW, 1).filter((_, index) => index % 4 === 0);
    let sum = 0;
    for (const value of pixels(0, ROW - 4)) sum = (sum * 31 + value) % 1000000007;
    return {
        time: video.currentTime,
        frames: video.getVideoPlaybackQuality().totalVideoFrames,
        line: line.filter((value) => value > 128).length / canvas.width,
        sum,
        failed: video.error && video.error.message,
    };
}
""".replace("ROW", str(HEIGHT - PROGRESS_LINE // 2 - 1))

_LOADED = """
async (elements) => {
    const widths = [];
    for (const element of elements) {
        const url = getComputedStyle(element).backgroundImage.match(/url\\("(.*)"\\)/);
        const image = new Image();
        image.src = url ? url[1] : "";
        try { await image.decode(); } catch { }
        widths.push(image.naturalWidth);
    }
    return widths;
}
"""


async def signed_in(browser: Browser, home: Home) -> BrowserContext:
    """Return a fresh browser profile that is signed in at a home."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    tokens = json.dumps(json.dumps(home.tokens))
    await context.add_init_script(f"localStorage.setItem('hassTokens', {tokens});")
    await context.add_init_script(_REMEMBER_PLAYERS)
    context.set_default_timeout(PATIENCE)
    return context


@dataclass(frozen=True, slots=True)
class Moment:
    """What a video element shows."""

    time: float
    frames: int
    line: float
    """How far the film's own line of time has come, 0 to 1: what is really in the picture."""
    sum: int
    """Of the picture above that line."""
    failed: str | None


class Screen:
    """A browser window that is signed in at a home."""

    def __init__(self, page: Page, home: Home) -> None:
        self.page = page
        self.home = home
        self.browse = page.locator("ha-media-player-browse")
        self.video = page.locator("hui-dialog-web-browser-play-media video")
        self.photo = page.locator("hui-dialog-web-browser-play-media img")
        self.bar = page.locator("ha-bar-media-player")

    async def go(self, path: str) -> None:
        """Open a page of the frontend."""
        await self.page.goto(f"{self.home.url}{path}")

    async def open_node(self, node: str) -> None:
        """Open a place of the library in the media browser."""
        address = quote(f"app,media-source://pemus/{node}".rstrip("/"), safe="")
        await self.go(f"/media-browser/browser/{address}")
        await expect(self.entries.first).to_be_visible(timeout=LOAD_TIMEOUT)

    @property
    def entries(self) -> Locator:
        """What lies in the open place: cards, or the lines of a list."""
        return self.browse.locator(".child, ha-list-item")

    def entry(self, title: str) -> Locator:
        """The entry of this title."""
        exactly = re.compile(rf"^\s*{re.escape(title)}\s*$")
        return self.entries.filter(has=self.page.locator(".title", has_text=exactly))

    async def enter(self, title: str) -> None:
        """Open an entry of the open place, or play it."""
        await self.entry(title).click(timeout=LOAD_TIMEOUT)

    async def titles(self) -> list[str]:
        """Return the titles of the entries."""
        return [text.strip() for text in await self.browse.locator(".title").all_inner_texts()]  # fmt: skip

    async def thumbnail_widths(self, count: int) -> list[int]:
        """Return how wide the thumbnails really are once so many are loaded; 0 for one that is no picture."""
        images = self.browse.locator(
            ".thumbnail .image[style*='background-image'], .graphic.thumbnail[style*='background-image']"
        )
        await expect(images).to_have_count(count, timeout=LOAD_TIMEOUT)
        widths: list[int] = await images.evaluate_all(_LOADED)
        return widths

    async def search(self, text: str) -> None:
        """Search in the open place."""
        await self.browse.locator("ha-input-search input").fill(text)
        await self.browse.locator(".search-button").click()

    async def moment(self) -> Moment:
        """Return what the video shows now."""
        return Moment(**await self.video.evaluate(_PICTURE))

    async def wait_for_video(self, condition: str) -> Moment:
        """Wait until a condition in JavaScript about the element `video` is true, and return what it shows then."""
        video = await self.video.element_handle(timeout=PLAY_TIMEOUT)
        await self.page.wait_for_function(
            f"(video) => video.error || ({condition})", arg=video, timeout=PLAY_TIMEOUT
        )
        moment = await self.moment()
        assert moment.failed is None, moment.failed
        return moment

    async def close_player(self) -> None:
        """Close the dialog in which a video or a photo is shown."""
        await self.page.keyboard.press("Escape")
        await expect(self.video.or_(self.photo)).to_have_count(0)

    @asynccontextmanager
    async def slow(self, factor: int = 30) -> AsyncGenerator[None]:
        """Be so many times slower for a while, as an old tablet on a wall is."""
        session = await self.page.context.new_cdp_session(self.page)
        throttle = "Emulation.setCPUThrottlingRate"
        await session.send(throttle, {"rate": factor})
        try:
            yield
        finally:
            await session.send(throttle, {"rate": 1})
            await session.detach()

    async def shoot(self, name: str) -> None:
        """Keep a picture of the screen, for people."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        # What fades in has faded in.
        await self.page.wait_for_timeout(400)
        await self.page.screenshot(path=SHOTS / f"{name}.png")
