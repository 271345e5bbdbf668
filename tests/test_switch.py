"""The options that are on or off."""

from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry

SWITCH = "switch.casa_local_network_unlimited"


async def test_the_local_network_is_exempt_from_limits_or_not(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    assert hass.states.get(SWITCH).state == "on"

    for action, state in (("turn_off", "off"), ("turn_on", "on")):
        await hass.services.async_call(
            "switch", action, {"entity_id": SWITCH}, blocking=True
        )
        await hass.async_block_till_done()
        assert hass.states.get(SWITCH).state == state
        assert entry.runtime_data.configuration.config.swarm.lan_exempt is (
            state == "on"
        )
        assert entry.options == {"lan_exempt": state == "on"}
