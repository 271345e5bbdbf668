"""Setting PeMuS up in the user interface, from nothing to the first film."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

from conftest import new_home
from playwright.async_api import Browser, Locator, expect
import pytest_asyncio
from screen import LOAD_TIMEOUT, Screen, signed_in

from demo.home import Home


@pytest_asyncio.fixture(loop_scope="session")
async def fresh_home(tmp_path: Path) -> AsyncGenerator[Home]:
    """Start a home that does not know PeMuS yet."""
    async with new_home(tmp_path) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def screen(browser: Browser, fresh_home: Home) -> AsyncGenerator[Screen]:
    """Return a screen of that home."""
    profile = await signed_in(browser, fresh_home)
    yield Screen(await profile.new_page(), fresh_home)
    await profile.close()


async def _fill_in_share(flow: Locator, folder: Path, name: str) -> None:
    """Fill in and send the form that shares a folder."""
    await flow.locator("ha-generic-picker").click()
    await flow.locator("ha-picker-combo-box input").fill(str(folder))
    await flow.get_by_text("Add custom item").click()
    # The form takes the choice when the list has closed, and forgets what was typed meanwhile.
    await expect(flow.locator("ha-picker-combo-box")).to_have_count(0)
    await expect(flow.get_by_text(str(folder), exact=True)).to_be_visible()
    await flow.locator("ha-selector-text input").fill(name)
    await flow.get_by_role("button", name="Submit").click()


async def test_pemus_is_set_up_and_shares_folders_by_clicking(
    screen: Screen, library: Path
) -> None:
    page = screen.page
    flow = page.locator("dialog-data-entry-flow")
    await screen.go("/config/integrations/dashboard")
    add = page.get_by_role("button", name="Add integration")
    await add.click(timeout=LOAD_TIMEOUT)
    brands = page.locator("dialog-add-integration")
    await brands.locator("input").first.fill("pemus")
    await brands.get_by_text("PeMuS", exact=True).click()
    await flow.locator("ha-selector-text input").fill("Beach house")
    await screen.shoot("setup-1-home")
    await flow.get_by_role("button", name="Submit").click()

    # The flow goes on with the first folder.
    await expect(flow.locator("ha-generic-picker")).to_be_visible(timeout=LOAD_TIMEOUT)
    await _fill_in_share(flow, library / "Nowhere", "Films")
    await expect(flow.get_by_text("This folder does not exist")).to_be_visible()
    await screen.shoot("setup-2-error")
    await _fill_in_share(flow, library / "Videos", "Films")
    await expect(flow.get_by_text("Created configuration for Films")).to_be_visible()
    await flow.get_by_role("button", name="Finish").click()

    # A second one, from the page of the integration.
    await screen.go("/config/integrations/integration/pemus")
    await page.get_by_role("button", name="Share a folder").click(timeout=LOAD_TIMEOUT)
    await _fill_in_share(flow, library / "Photos", "Photo box")
    await expect(flow.get_by_text("for Photo box")).to_be_visible()
    await flow.get_by_role("button", name="Finish").click()
    await expect(page.get_by_text("Photo box").first).to_be_visible()
    await screen.shoot("setup-3-integration")

    await screen.open_node("")
    titles = ["Videos", "Music", "Photos", "Films", "Photo box"]
    assert await screen.titles() == titles
    await screen.shoot("setup-4-library")
    await screen.enter("Films")
    await screen.enter("Videos")
    await screen.enter("Recently added")
    await screen.enter("Sunset at the pier")
    await screen.wait_for_video("video.currentTime > 0.5")
