"""A real Home Assistant with PeMuS, its frontend in a real Chromium, and the sample library.

Run by script/test, without the plugin of Home Assistant's test harness and without the conftest of the folder above:
`pytest -p no:homeassistant --confcutdir tests/e2e tests/e2e`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
import os
from pathlib import Path
import shutil
import sys

from playwright.async_api import Browser, BrowserContext, async_playwright
import pytest
import pytest_asyncio

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from screen import Screen, signed_in  # noqa: E402

from demo import sample_library  # noqa: E402
from demo.home import HOME_NAME, Home, free_port  # noqa: E402

FIRST_PORT = 18123
CHROMIUM = os.environ.get("PEMUS_CHROMIUM", "/usr/bin/chromium")
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run with a plugin that replaces parts of Home Assistant."""
    if config.pluginmanager.hasplugin("homeassistant"):
        raise pytest.UsageError("run these tests with script/test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let all tests share one event loop, and so one browser and one home."""
    for item in items:
        item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sample library."""
    made = sample_library.ensure(sample_library.default_cache())
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("share") / "Sample"))


def new_home(folder: Path, name: str = HOME_NAME) -> Home:
    """Return a home that is not started. Its engine runs in the environment that script/setup made."""
    environment = ROOT / ".venvs" / "engine"
    return Home(
        folder,
        port=free_port(FIRST_PORT),
        environ={"PEMUS_ENGINE_ENVIRONMENT": str(environment)},
        name=name,
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def home(
    library: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Home]:
    """Start a home that shares the sample library and has looked through it."""
    async with new_home(tmp_path_factory.mktemp("home")) as started:
        await started.share(library, "Sample library")
        await started.wait_for_library()
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser]:
    """Start Chromium."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_OPTIONS
        )
        yield started
        await started.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def profile(browser: Browser, home: Home) -> AsyncGenerator[BrowserContext]:
    """Keep one browser profile, so that the frontend is loaded and compiled once."""
    context = await signed_in(browser, home)
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def screen(profile: BrowserContext, home: Home) -> AsyncGenerator[Screen]:
    """Return a signed-in screen of the session's home."""
    page = await profile.new_page()
    yield Screen(page, home)
    await page.close()
