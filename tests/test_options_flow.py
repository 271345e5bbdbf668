"""Changing the options."""

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, InvalidData
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.pemus.const import CONF_RESCAN_INTERVAL


async def test_the_time_between_rescans_is_changed_without_a_restart(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    coordinator = entry.runtime_data
    assert coordinator.config.rescan_interval == 3600

    result = await hass.config_entries.options.async_init(entry.entry_id)
    assert result["type"] is FlowResultType.FORM
    assert result["step_id"] == "init"
    result = await hass.config_entries.options.async_configure(
        result["flow_id"], {CONF_RESCAN_INTERVAL: 15}
    )
    await hass.async_block_till_done()

    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options == {CONF_RESCAN_INTERVAL: 15}
    assert type(entry.options[CONF_RESCAN_INTERVAL]) is int
    assert entry.runtime_data is coordinator
    assert coordinator.config.rescan_interval == 900
    pid = coordinator.data.pid
    assert (await coordinator.engine.client.status()).pid == pid


async def test_a_senseless_time_is_refused(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    result = await hass.config_entries.options.async_init(entry.entry_id)

    for minutes in (0, 4, 1441, -1, "often"):
        with pytest.raises(InvalidData):
            await hass.config_entries.options.async_configure(
                result["flow_id"], {CONF_RESCAN_INTERVAL: minutes}
            )
