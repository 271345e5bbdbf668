"""The limits as numbers."""

from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.pemus.const import CONF_RESCAN_INTERVAL, CONF_UPLOAD_LIMIT
from custom_components.pemus.engine.process import EngineState

from .household import engine_says

UPLOAD, DOWNLOAD = "number.casa_upload_limit", "number.casa_download_limit"


async def limit(hass: HomeAssistant, number: str, value: float) -> None:
    """Choose a limit."""
    await hass.services.async_call(
        "number", "set_value", {"entity_id": number, "value": value}, blocking=True
    )
    await hass.async_block_till_done()


def shown(hass: HomeAssistant, number: str) -> float:
    """Return the limit that is shown."""
    return float(hass.states.get(number).state)


async def test_the_limits_are_shown_and_set_in_megabits(
    hass: HomeAssistant, entry: MockConfigEntry, entity_registry: er.EntityRegistry
) -> None:
    coordinator = entry.runtime_data.coordinator
    pid = coordinator.data.pid
    hass.config_entries.async_update_entry(entry, options={CONF_RESCAN_INTERVAL: 15})
    assert shown(hass, UPLOAD) == 16
    assert shown(hass, DOWNLOAD) == 0
    assert hass.states.get(UPLOAD).attributes["unit_of_measurement"] == "Mbit/s"
    assert entity_registry.async_get(UPLOAD).entity_category is EntityCategory.CONFIG

    await limit(hass, UPLOAD, 4)
    await limit(hass, DOWNLOAD, 100)

    assert (shown(hass, UPLOAD), shown(hass, DOWNLOAD)) == (4, 100)
    assert entry.runtime_data.configuration.config.swarm.upload_limit == 500_000
    assert entry.runtime_data.configuration.config.swarm.download_limit == 12_500_000
    # Nothing else changed, and nothing was restarted.
    assert entry.options[CONF_RESCAN_INTERVAL] == 15
    assert entry.runtime_data.coordinator is coordinator
    assert (await coordinator.engine.client.status()).pid == pid


async def test_a_limit_that_was_changed_elsewhere_is_shown(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, options={CONF_UPLOAD_LIMIT: 7.5})
    await hass.async_block_till_done()

    assert shown(hass, UPLOAD) == 7.5


async def test_a_limit_can_be_set_while_the_engine_is_down(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = entry.runtime_data.coordinator
    monkeypatch.setattr(coordinator.engine, "state", EngineState.RESTARTING)
    engine_says(entry.runtime_data, None)
    assert not coordinator.last_update_success

    await limit(hass, UPLOAD, 8)

    assert shown(hass, UPLOAD) == 8
    # What it will be told when it is back.
    assert coordinator.engine._config.swarm.upload_limit == 1_000_000


async def test_a_limit_that_stops_everything_is_refused(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    with pytest.raises(ServiceValidationError) as caught:
        await limit(hass, UPLOAD, 0.2)
    assert caught.value.translation_key == "rate_too_low"
    for value in (-1, 10_001):
        with pytest.raises(ServiceValidationError):
            await limit(hass, UPLOAD, value)

    assert shown(hass, UPLOAD) == 16
    assert not entry.options
