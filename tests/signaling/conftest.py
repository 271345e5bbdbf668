"""What the tests of the signalling server need: real programs of others, without Home Assistant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
import os
from pathlib import Path
import tempfile

from playwright.async_api import Browser, async_playwright
import pytest
import uvloop

from tests.signaling.daemons import Redis, find_program, install


def pytest_asyncio_loop_factories() -> Mapping[
    str, Callable[[], asyncio.AbstractEventLoop]
]:
    """Run on the loop that the server runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def custom_integrations_found() -> None:
    """Stand in for the fixture of the integration's tests: there is no Home Assistant here."""


CHROMIUM = os.environ.get("PEMUS_CHROMIUM", "/usr/bin/chromium")
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Its addresses have names that are found by multicast, which not every machine that tests has.
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)
PROGRAMS = {
    "redis_program": ("redis-server", "redis-server"),
    "coturn_program": ("turnserver", "coturn"),
}
"""Fixtures, the programs that they are, and Debian's packages of these."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what will be needed before the first test: it may take longer than a test may."""
    wanted = {
        name for item in session.items for name in getattr(item, "fixturenames", ())
    }
    for fixture, (name, package) in PROGRAMS.items():
        if fixture in wanted:
            install(name, package)


@pytest.fixture(scope="session")
def redis_program() -> Path:
    """Return redis-server, installed with apt if need be."""
    return find_program(*PROGRAMS["redis_program"])


@pytest.fixture(scope="session")
def coturn_program() -> Path:
    """Return coturn, installed with apt if need be."""
    return find_program(*PROGRAMS["coturn_program"])


@pytest.fixture
async def redis_server(redis_program: Path) -> AsyncGenerator[Redis]:
    """Have a Redis that nobody else uses."""
    # The path of a unix socket has to be short.
    with tempfile.TemporaryDirectory(prefix="pemus-") as folder:
        redis = Redis(redis_program, Path(folder))
        try:
            await redis.start()
            yield redis
        finally:
            await redis.stop()


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    """Have a Chromium that WebRTC works in on this machine alone."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_OPTIONS
        )
        yield started
        await started.close()
