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

    from custom_components.pemus.engine.process import Engine
    from tests.lab.engine_home import EngineHome

    from .household import Stage

if find_spec("pytest_socket"):
    import pytest_socket

    # The harness lets tests make unix sockets but connect to nothing except 127.0.0.1; the engine listens at one.
    pytest_socket.socket_allow_hosts = partial(
        pytest_socket.socket_allow_hosts, allow_unix_socket=True
    )

if find_spec("homeassistant"):
    from homeassistant.util import executor

    # A thread that a busy machine does not let end within a tenth of that is interrupted, which can keep others from ending.
    executor.EXECUTOR_SHUTDOWN_TIMEOUT = 100

ENVIRONMENT = Path(__file__).parent.parent / ".venvs" / "engine"


@pytest.fixture(autouse=True)
def custom_integrations_found(
    enable_custom_integrations: None, quiet_network: None
) -> None:
    """Let Home Assistant find PeMuS."""


@pytest.fixture
def quiet_network(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep Home Assistant from the real network, where homes come and go that no test knows of."""
    from asyncio import Future
    from unittest.mock import AsyncMock, MagicMock

    from homeassistant.components import zeroconf

    from custom_components.pemus.friends import lan

    # It would stay in place for all tests to come, and give them this one's responder for one of their own.
    monkeypatch.setattr(zeroconf, "install_multiple_zeroconf_catcher", lambda _: None)
    responder = request.getfixturevalue("mock_async_zeroconf")
    for name in ("register", "update", "unregister"):
        sent: Future[None] = Future(loop=request.getfixturevalue("hass").loop)
        sent.set_result(None)
        getattr(responder, f"async_{name}_service").return_value = sent
    browser = MagicMock(return_value=MagicMock(async_cancel=AsyncMock()))
    monkeypatch.setattr(lan, "AsyncServiceBrowser", browser)


@pytest.fixture
def every_entity_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enable also what most homes never look at."""
    from homeassistant.helpers.entity import Entity

    enabled = property(lambda entity: True)
    monkeypatch.setattr(Entity, "entity_registry_enabled_default", enabled)


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
    from custom_components.pemus.engine.process import DATA_ENGINE, Engine

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
async def staged_entry(hass: HomeAssistant) -> MockConfigEntry:
    """Set up a home whose engine has no process. For tests of what others do, which take no engine but a stage."""
    from homeassistant.setup import async_setup_component
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from custom_components.pemus.engine.process import DATA_ENGINE

    from .household import StagedEngine

    home = MockConfigEntry(domain="pemus", unique_id="pemus", title="Casa")
    home.add_to_hass(hass)
    hass.data[DATA_ENGINE] = StagedEngine(hass)
    assert await async_setup_component(hass, "homeassistant", {})
    assert await hass.config_entries.async_setup(home.entry_id)
    await hass.async_block_till_done()
    return home


@pytest.fixture
def stage(entry: MockConfigEntry) -> Stage:
    """Set up a home that hears of others what the test says."""
    from .household import Stage

    staged = Stage(entry)
    staged.push()
    return staged


@pytest.fixture
async def media(hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path) -> Path:
    """Share a folder of films, songs and photos, and wait until the library knows them."""
    from .household import fill, share, until_scanned

    folder = await hass.async_add_executor_job(fill, tmp_path / "Media")
    share(hass, entry, folder, "Media")
    await until_scanned(hass, entry)
    return folder


@pytest.fixture
async def bob(
    hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path
) -> AsyncGenerator[EngineHome]:
    """Start another home that shares two films with its friends. It and this one see each other in the network."""
    from tests.lab.engine_home import EngineHome

    from .household import fill, introduce

    folder = await hass.async_add_executor_job(fill, tmp_path / "Bob" / "Cinema")
    python = ENVIRONMENT / "bin" / "python"
    async with EngineHome(tmp_path / "Bob" / "home", python=python, name="Bob") as home:
        await home.share(folder)
        await introduce(entry, home)
        yield home


@pytest.fixture
async def neighbour(
    hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path
) -> AsyncGenerator[EngineHome]:
    """Start a friend's home that shares two films with this one, and wait until they are listed."""
    from tests.lab.engine_home import EngineHome

    from .household import fill, make_friends

    folder = await hass.async_add_executor_job(fill, tmp_path / "Cinema")
    python = ENVIRONMENT / "bin" / "python"
    async with EngineHome(tmp_path / "neighbour", python=python) as home:
        await home.share(folder)
        await make_friends(hass, entry, home, items=2)
        yield home
