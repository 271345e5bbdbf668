"""Two Home Assistants become friends by clicking, and a film of one plays in the other's media browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
import re

from conftest import new_home
from playwright.async_api import Browser, Locator, expect
import pytest
import pytest_asyncio
from screen import LOAD_TIMEOUT, Screen, signed_in

from demo.home import Home
from demo.sample_library import LIGHTHOUSE, VIDEOS
from demo.signaling import SignalingServer, use_servers
from demo.two_homes import (
    engine,
    is_friend,
    pair,
    pemus_id,
    remove_friends,
    wait_for_list,
)

SIGNALING_PYTHON = Path(__file__).parents[2] / ".venvs" / "signaling" / "bin" / "python"
NAME = "Ben's home"
SHARE = "Ben's films"
PAIRED = 60_000
"""Milliseconds until two homes that found each other are friends."""
WORDS = re.compile(r"^(?:[a-z]{3,9} ){3}[a-z]{3,9}$")
pytestmark = pytest.mark.timeout(400)


@pytest_asyncio.fixture(loop_scope="session")
async def ben(
    home: Home, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Home]:
    """Start another home that shares films, and a signalling server that both homes use."""
    folder = tmp_path_factory.mktemp("ben")
    async with (
        SignalingServer(folder, SIGNALING_PYTHON) as server,
        new_home(folder / "home", NAME) as started,
    ):
        await started.share(library / "Videos", SHARE)
        await started.wait_for_library()
        for each in (home, started):
            await use_servers(each, server.url)
        yield started
        # Other tests use this home, and know of no friends.
        await remove_friends(home)
        await use_servers(home)


@pytest_asyncio.fixture(loop_scope="session")
async def bens_screen(browser: Browser, ben: Home) -> AsyncGenerator[Screen]:
    """Return a screen of that home."""
    profile = await signed_in(browser, ben)
    yield Screen(await profile.new_page(), ben)
    await profile.close()


async def _until_away(home: Home, other: str) -> None:
    async with asyncio.timeout(60):
        while True:
            friends = (await engine(home, "status"))["peers"]["friends"]
            if not any(each["id"] == other and each["online"] for each in friends):
                return
            await asyncio.sleep(0.2)


async def _words(flow: Locator) -> str:
    """Return the words that a dialog shows."""
    shown = flow.locator("strong", has_text=WORDS)
    await expect(shown).to_be_visible(timeout=PAIRED)
    return await shown.inner_text()


async def test_two_homes_become_friends_and_a_film_of_one_plays_in_the_other(
    screen: Screen, bens_screen: Screen, home: Home, ben: Home
) -> None:
    here, there = screen.page, bens_screen.page
    flow = here.locator("dialog-data-entry-flow")
    await screen.go("/config/integrations/integration/pemus")
    add = here.get_by_role("button", name="Add friend")
    await add.click(timeout=LOAD_TIMEOUT)
    field = flow.locator("ha-selector-text input").first
    bens_id = await pemus_id(ben)

    # A typing error is noticed before anything is sent.
    wrong = ("1" if bens_id[0] == "0" else "0") + bens_id[1:]
    await field.fill(wrong)
    await flow.get_by_role("button", name="Submit").click()
    await expect(flow.get_by_text("This is not a valid PeMuS ID")).to_be_visible()
    await field.fill(bens_id.lower())
    await screen.shoot("friends-1-ask")
    async with screen.slow():
        # The other home answers before this browser listens for that.
        await flow.get_by_role("button", name="Submit").click()
        words = await _words(flow)
    await screen.shoot("friends-2-words")

    # The other home is asked, sees the same words, and confirms.
    asked = there.locator("dialog-data-entry-flow")
    await bens_screen.go("/config/integrations/dashboard")
    card = there.locator("ha-config-flow-card").filter(has_text=home.name)
    await expect(card).to_be_visible(timeout=LOAD_TIMEOUT)
    await bens_screen.shoot("friends-3-discovered")
    await card.get_by_role("button", name="Add").click()
    assert await _words(asked) == words
    await bens_screen.shoot("friends-4-confirm")
    await asked.get_by_text("The words match").click()
    await asked.get_by_text(SHARE).click()
    await bens_screen.shoot("friends-5-shares")
    await asked.get_by_role("button", name="Submit").click()
    await expect(flow.get_by_text("is now a friend")).to_be_visible(timeout=PAIRED)
    # It stays: nobody asks for a dialog that has ended.
    await here.wait_for_timeout(2500)
    await expect(flow.get_by_text("is now a friend")).to_be_visible()
    await expect(here.locator("dialog-box")).to_have_count(0)
    await screen.shoot("friends-6-paired")

    # Its film plays here.
    await wait_for_list(home, bens_id)
    await screen.open_node("")
    await screen.enter(NAME)
    for place in ("Videos", "Recently added", Path(LIGHTHOUSE).stem):
        await screen.enter(place)
    early = await screen.wait_for_video("video.currentTime > 0.5")
    video = next(each for each in VIDEOS if each.path == LIGHTHOUSE)
    aim = video.seconds * 0.75
    await screen.video.evaluate("(video, time) => { video.currentTime = time; }", aim)
    later = await screen.wait_for_video(
        f"!video.seeking && video.currentTime > {aim} + 0.5"
    )
    assert later.frames > early.frames
    assert later.line * video.seconds == pytest.approx(later.time, abs=2)
    await screen.shoot("friends-7-film")
    await screen.close_player()

    # Who is no friend any more gets nothing, and is shown as away.
    await remove_friends(ben)
    await _until_away(home, bens_id)
    await screen.open_node("")
    away = screen.entries.filter(has_text=re.compile(f"{NAME}.*offline"))
    await expect(away).to_be_visible(timeout=LOAD_TIMEOUT)
    await screen.shoot("friends-8-removed")


async def test_two_homes_become_friends_by_actions(home: Home, ben: Home) -> None:
    await pair(home, ben)
    assert await is_friend(home, await pemus_id(ben))
    assert await is_friend(ben, await pemus_id(home))
