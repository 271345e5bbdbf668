"""Changing the options."""

from typing import Any

from homeassistant.const import CONF_PORT
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, InvalidData
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.pemus.const import (
    CONF_CACHE_QUOTA,
    CONF_CONNECTIONS,
    CONF_DOWNLOAD_LIMIT,
    CONF_RESCAN_INTERVAL,
    CONF_UPLOAD_LIMIT,
)
from custom_components.pemus.options import DEFAULTS, swarm_config
from custom_components.pemus.p2p.models import SwarmConfig
from tests.patience import until


def answer(**changes: Any) -> dict[str, Any]:
    """Return the form, filled in with what it shows at first but for some changes."""
    form: dict[str, Any] = {CONF_RESCAN_INTERVAL: 60}
    for section, keys in {
        "rates": ("upload_limit", "download_limit", "lan_exempt"),
        "cache": ("cache_quota", "cache_reserve"),
        "network": (
            "lan_visible",
            "port",
            "port_mapping",
            "connections",
            "active_seeds",
        ),
    }.items():
        form[section] = {key: changes.pop(key, DEFAULTS[key]) for key in keys}
    return form | changes


async def open_step(
    hass: HomeAssistant, entry: MockConfigEntry, step: str
) -> dict[str, Any]:
    """Choose something in the menu of the options."""
    menu = await hass.config_entries.options.async_init(entry.entry_id)
    assert menu["type"] is FlowResultType.MENU
    assert step in menu["menu_options"]
    return await hass.config_entries.options.async_configure(
        menu["flow_id"], {"next_step_id": step}
    )


async def submit(
    hass: HomeAssistant, entry: MockConfigEntry, **changes: Any
) -> dict[str, Any]:
    """Open the form, change it and send it."""
    result = await open_step(hass, entry, "settings")
    assert result["type"] is FlowResultType.FORM
    assert result["step_id"] == "settings"
    result = await hass.config_entries.options.async_configure(
        result["flow_id"], answer(**changes)
    )
    await hass.async_block_till_done()
    return result


async def test_the_time_between_rescans_is_changed_without_a_restart(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    coordinator = entry.runtime_data.coordinator
    assert entry.runtime_data.configuration.config.rescan_interval == 3600

    result = await submit(hass, entry, rescan_interval=15)

    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options[CONF_RESCAN_INTERVAL] == 15
    assert type(entry.options[CONF_RESCAN_INTERVAL]) is int
    assert entry.runtime_data.coordinator is coordinator
    assert entry.runtime_data.configuration.config.rescan_interval == 900
    pid = coordinator.data.pid
    assert (await coordinator.engine.client.status()).pid == pid


async def test_a_home_is_visible_in_the_local_network_unless_somebody_says_no(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    coordinator = entry.runtime_data.coordinator
    assert entry.runtime_data.configuration.config.lan_visible
    await until(lambda: coordinator.data.peers and coordinator.data.peers.port)
    pid = coordinator.data.pid

    await submit(hass, entry, lan_visible=False)

    assert not entry.runtime_data.configuration.config.lan_visible
    await until(lambda: coordinator.data.peers.port == 0)
    await submit(hass, entry, lan_visible=True)
    await until(lambda: coordinator.data.peers.port)
    assert coordinator.data.pid == pid


async def test_what_is_left_alone_stays_as_the_engine_has_it(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    assert entry.runtime_data.configuration.config.swarm == SwarmConfig()

    await submit(hass, entry)

    assert entry.runtime_data.configuration.config.swarm == SwarmConfig()
    assert entry.options[CONF_UPLOAD_LIMIT] == 16


async def test_the_engine_gets_bytes_for_megabits_and_gigabytes(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    pid = entry.runtime_data.coordinator.data.pid
    # As a browser sends them: all numbers may have a fraction.
    await submit(
        hass,
        entry,
        upload_limit=2.5,
        download_limit=50.0,
        lan_exempt=False,
        connections=80.0,
        active_seeds=10.0,
        port=6881.0,
        port_mapping=True,
        cache_quota=1.5,
        cache_reserve=10.0,
    )

    swarm = entry.runtime_data.configuration.config.swarm
    assert swarm == SwarmConfig(
        upload_limit=312_500,
        download_limit=6_250_000,
        lan_exempt=False,
        connections=80,
        active_seeds=10,
        port=6881,
        port_mapping=True,
        cache_quota=1_500_000_000,
        cache_reserve=10_000_000_000,
    )
    for key in ("upload_limit", "connections", "port", "cache_quota"):
        assert type(getattr(swarm, key)) is int, key
    assert type(entry.options[CONF_PORT]) is int
    assert (await entry.runtime_data.engine.client.status()).pid == pid

    # The next form shows what was chosen.
    result = await open_step(hass, entry, "settings")
    sections = {
        str(name): section.schema
        for name, section in result["data_schema"].schema.items()
        if name != CONF_RESCAN_INTERVAL
    }
    shown = {
        str(key): key.description["suggested_value"]
        for section in sections.values()
        for key in section.schema
    }
    assert shown == {
        key: value
        for key, value in entry.options.items()
        if key != CONF_RESCAN_INTERVAL
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({CONF_UPLOAD_LIMIT: 0.1}, "rate_too_low"),
        ({CONF_DOWNLOAD_LIMIT: 0.49}, "rate_too_low"),
        ({CONF_PORT: 80}, "reserved_port"),
        ({CONF_PORT: 1}, "reserved_port"),
    ],
)
async def test_what_cannot_work_is_refused_and_can_be_corrected(
    hass: HomeAssistant, entry: MockConfigEntry, change: dict, reason: str
) -> None:
    result = await submit(hass, entry, **change)
    assert result["type"] is FlowResultType.FORM
    assert result["errors"] == {"base": reason}
    assert not entry.options

    result = await hass.config_entries.options.async_configure(
        result["flow_id"], answer(**dict.fromkeys(change, 0))
    )
    await hass.async_block_till_done()
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert all(entry.options[key] == 0 for key in change)


async def test_a_senseless_value_is_refused(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    result = await open_step(hass, entry, "settings")

    for key, values in {
        CONF_RESCAN_INTERVAL: (0, 4, 1441, -1, "often"),
        CONF_UPLOAD_LIMIT: (-1, 10_001, "much", None),
        CONF_PORT: (-1, 65_536),
        CONF_CONNECTIONS: (0, 9, 2001),
        CONF_CACHE_QUOTA: (0, -5),
    }.items():
        for value in values:
            with pytest.raises(InvalidData):
                await hass.config_entries.options.async_configure(
                    result["flow_id"], answer(**{key: value})
                )
    assert not entry.options


def test_options_of_an_older_release_are_filled_up() -> None:
    assert swarm_config({CONF_RESCAN_INTERVAL: 15}) == SwarmConfig()
