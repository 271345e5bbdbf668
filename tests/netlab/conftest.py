"""What the network lab's tests need: the lab itself, a signalling server in its middle, homes, and a film."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
import sys
import tempfile

import pytest

from tests.lab.netlab import PROGRAMS, Host, Internet, Lab, SignalingServer
from tests.signaling.daemons import find_program

pytest.register_assert_rewrite("tests.netlab.people")

from .people import Film, Home  # noqa: E402 - so that its assertions tell what they saw

PYTHON = Path(sys.executable)
TIMEOUT = 300
"""Seconds for a test: the whole film, at whatever speed other work leaves."""

type Settle = Callable[..., Awaitable[Home]]


@pytest.fixture(autouse=True)
def custom_integrations_found() -> None:
    """Stand in for the fixture of the integration's tests: there is no Home Assistant here."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what is missing before the first test: it may take longer than a test may."""
    if session.items:
        for name, package in PROGRAMS.items():
            find_program(name, package)


@pytest.fixture(scope="session")
def film() -> Iterator[Film]:
    """A film that is shared by whoever shares something."""
    with tempfile.TemporaryDirectory(prefix="pemus-films-") as folder:
        yield Film(Path(folder))


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Where routers and machines of one test are."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def middle() -> Iterator[tuple[Internet, SignalingServer]]:
    """An internet with a signalling server, for all tests of a module that do it no harm."""
    with tempfile.TemporaryDirectory(prefix="pemus-lab-") as folder, Lab() as lab:
        internet = Internet(lab)
        server = SignalingServer(lab, internet, Path(folder))
        server.start()
        yield internet, server


@pytest.fixture
def internet(middle: tuple[Internet, SignalingServer]) -> Internet:
    return middle[0]


@pytest.fixture
def server(middle: tuple[Internet, SignalingServer]) -> SignalingServer:
    return middle[1]


@pytest.fixture
async def settle(
    film: Film, lab: Lab, request: pytest.FixtureRequest
) -> AsyncIterator[Settle]:
    """Have somebody live on a machine, who knows signalling servers, and shares the film or not."""
    homes: list[Home] = []
    with tempfile.TemporaryDirectory(prefix="pemus-homes-") as folder:
        async with AsyncExitStack() as stack:

            async def settle(
                name: str, host: Host, *servers: str, shares: bool = False
            ) -> Home:
                home = Home(name, host, Path(folder), PYTHON)
                homes.append(home)
                await stack.enter_async_context(home)
                if shares:
                    await home.share(film.folder, upload_limit=0)
                await home.configure(servers=list(servers))
                return home

            yield settle
        for home in homes:
            request.node.add_report_section(
                "teardown",
                f"engine of {home.name}",
                home.log.read_text(errors="replace"),
            )
