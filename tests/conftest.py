"""What every test of the integration needs: a home of its own, and the real engine.

The tests of the engine (tests/p2p) run in an environment without Home Assistant; nothing here may import it outright.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Imported early: the test harness has a package of the same name, and the first one wins.
import custom_components  # noqa: F401

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from custom_components.pemus.supervisor import Engine
    from demo.second_engine import SecondEngine

if find_spec("pytest_socket"):
    import pytest_socket

    # The harness lets tests make unix sockets but connect to nothing except 127.0.0.1; the engine listens at one.
    pytest_socket.socket_allow_hosts = partial(
        pytest_socket.socket_allow_hosts, allow_unix_socket=True
    )

ENVIRONMENT = Path(__file__).parent.parent / ".venvs" / "engine"


@pytest.fixture(autouse=True)
def custom_integrations_found(enable_custom_integrations: None) -> None:
    """Let Home Assistant find PeMuS."""


@pytest.fixture
def hass_config_dir(tmp_path: Path) -> str:
    """Give each test a configuration folder of its own: the engine keeps its index and its caches there."""
    folder = tmp_path / "config"
    folder.mkdir()
    return str(folder)


@pytest.fixture
def engine_environment(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the engine run in the developers' environment, so that nothing is installed."""
    assert ENVIRONMENT.is_dir(), "run script/setup first"
    monkeypatch.setenv("PEMUS_ENGINE_ENVIRONMENT", str(ENVIRONMENT))
    return ENVIRONMENT


@pytest.fixture
async def engine(
    hass: HomeAssistant, engine_environment: Path
) -> AsyncGenerator[Engine]:
    """Start the real engine, supervised, where the integration looks for it."""
    from custom_components.pemus.supervisor import DATA_ENGINE, Engine

    supervised = Engine(hass)
    hass.data[DATA_ENGINE] = supervised
    await supervised.async_start()
    yield supervised
    await supervised.async_stop()


@pytest.fixture
async def entry(hass: HomeAssistant, engine_environment: Path) -> MockConfigEntry:
    """Set up a home that shares nothing yet, with the real engine. Home Assistant's stop ends it."""
    from homeassistant.setup import async_setup_component
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    home = MockConfigEntry(domain="pemus", unique_id="pemus", title="Casa")
    home.add_to_hass(hass)
    assert await async_setup_component(hass, "homeassistant", {})
    assert await hass.config_entries.async_setup(home.entry_id)
    await hass.async_block_till_done()
    return home


@pytest.fixture
async def media(hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path) -> Path:
    """Share a folder of films, songs and photos, and wait until the library knows them."""
    from .household import fill, share, until_scanned

    folder = await hass.async_add_executor_job(fill, tmp_path / "Media")
    share(hass, entry, folder, "Media")
    await until_scanned(hass, entry)
    return folder


@pytest.fixture
async def neighbour(
    hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path
) -> AsyncGenerator[SecondEngine]:
    """Start another home that shares two films, and that has given this home tickets for them."""
    from custom_components.pemus.supervisor import DATA_ENGINE
    from demo.second_engine import SecondEngine

    from .household import fill

    folder = await hass.async_add_executor_job(fill, tmp_path / "Cinema")
    python = ENVIRONMENT / "bin" / "python"
    async with SecondEngine(tmp_path / "neighbour", python=python) as second:
        await second.share(folder)
        assert await second.give_all(hass.data[DATA_ENGINE]._socket) == 2
        yield second
