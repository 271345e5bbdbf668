"""The lines on the page of system information."""

import os
from pathlib import Path
import signal

from aiohttp import ClientError
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    get_system_health_info,
)
from pytest_homeassistant_custom_component.test_util.aiohttp import AiohttpClientMocker

from custom_components.pemus.const import CONF_SIGNALING_APP, DOMAIN

from .household import eventually


async def test_the_state_of_the_engine_and_the_size_of_the_library_are_told(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path
) -> None:
    assert await async_setup_component(hass, "system_health", {})

    assert await get_system_health_info(hass, DOMAIN) == {
        "engine_state": "running",
        "engine_version": entry.runtime_data.data.version,
        "limited": False,
        "shares": 1,
        "videos": 2,
        "songs": 3,
        "photos": 2,
    }


async def test_it_is_told_whether_the_signalling_app_answers(
    hass: HomeAssistant, entry: MockConfigEntry, aioclient_mock: AiohttpClientMocker
) -> None:
    assert await async_setup_component(hass, "system_health", {})
    url = "http://127.0.0.1:9000/"
    hass.config_entries.async_update_entry(entry, data={CONF_SIGNALING_APP: url})
    aioclient_mock.get(url, text="{}")
    info = await get_system_health_info(hass, DOMAIN)
    assert await info["signaling_app"] == "ok"
    aioclient_mock.clear_requests()
    aioclient_mock.get(url, exc=ClientError)
    info = await get_system_health_info(hass, DOMAIN)
    assert (await info["signaling_app"])["error"] == "unreachable"


async def test_an_engine_that_is_down_tells_only_that(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    assert await async_setup_component(hass, "system_health", {})
    coordinator = entry.runtime_data
    os.kill(coordinator.data.pid, signal.SIGKILL)
    await eventually(hass, lambda: not coordinator.last_update_success)

    assert await get_system_health_info(hass, DOMAIN) == {
        "engine_state": "restarting",
        "limited": False,
    }
    await eventually(hass, lambda: coordinator.last_update_success)


async def test_a_home_that_is_disabled_has_no_engine(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    assert await async_setup_component(hass, "system_health", {})
    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )

    assert await get_system_health_info(hass, DOMAIN) == {"engine_state": "stopped"}
