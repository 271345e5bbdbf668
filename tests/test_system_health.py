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
from custom_components.pemus.p2p.models.homes import ServerStatus

from .household import BEN, Stage, eventually, friend


async def test_the_state_of_the_engine_and_the_size_of_the_library_are_told(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path
) -> None:
    assert await async_setup_component(hass, "system_health", {})

    assert await get_system_health_info(hass, DOMAIN) == {
        "engine_state": "running",
        "engine_version": entry.runtime_data.coordinator.data.version,
        "limited": False,
        "shares": 1,
        "videos": 2,
        "songs": 3,
        "photos": 2,
        "friends": 0,
        "friends_online": 0,
        "servers": 0,
        "servers_connected": 0,
    }


async def test_it_is_told_how_many_friends_and_servers_can_be_reached(
    hass: HomeAssistant, staged_entry: MockConfigEntry
) -> None:
    assert await async_setup_component(hass, "system_health", {})
    stage = Stage(staged_entry)
    stage.push(
        friends=(friend(), friend(BEN, online=False)),
        servers=(
            ServerStatus(url="https://a.example/", connected=True),
            ServerStatus(url="https://b.example/", connected=True),
            ServerStatus(url="https://c.example/", connected=False),
        ),
    )

    info = await get_system_health_info(hass, DOMAIN)

    assert (info["friends"], info["friends_online"]) == (2, 1)
    assert (info["servers"], info["servers_connected"]) == (3, 2)


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
    coordinator = entry.runtime_data.coordinator
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
