"""Switch for the option that exempts the local network from the limits."""

from typing import Any, override

from homeassistant.components.switch import SwitchEntity, SwitchEntityDescription
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import CONF_LAN_EXEMPT
from .entity import OptionEntity
from .home import PemusConfigEntry

# The coordinator pushes; entities do not poll.
PARALLEL_UPDATES = 0

LAN_EXEMPT = SwitchEntityDescription(
    key=CONF_LAN_EXEMPT,
    translation_key=CONF_LAN_EXEMPT,
    entity_category=EntityCategory.CONFIG,
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PemusConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the switch of the home."""
    async_add_entities([OptionSwitch(entry.runtime_data.coordinator, LAN_EXEMPT)])


class OptionSwitch(OptionEntity, SwitchEntity):
    """An option that is on or off."""

    @property
    @override
    def is_on(self) -> bool:
        """Return whether the option is on."""
        return bool(self.option)

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        """Change the option."""
        self.set_option(True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        """Change the option."""
        self.set_option(False)
