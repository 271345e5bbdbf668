"""Numbers for the upload and download limits."""

from typing import override

from homeassistant.components.number import (
    NumberDeviceClass,
    NumberEntity,
    NumberEntityDescription,
    NumberMode,
)
from homeassistant.const import EntityCategory, UnitOfDataRate
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import CONF_DOWNLOAD_LIMIT, CONF_UPLOAD_LIMIT, DOMAIN
from .entity import OptionEntity
from .home import PemusConfigEntry
from .options import MAX_RATE, MIN_RATE, NO_LIMIT, is_rate

# The coordinator pushes; entities do not poll.
PARALLEL_UPDATES = 0

LIMITS: tuple[NumberEntityDescription, ...] = tuple(
    NumberEntityDescription(
        key=key,
        translation_key=key,
        device_class=NumberDeviceClass.DATA_RATE,
        native_unit_of_measurement=UnitOfDataRate.MEGABITS_PER_SECOND,
        native_min_value=NO_LIMIT,
        native_max_value=MAX_RATE,
        native_step=MIN_RATE,
        mode=NumberMode.BOX,
        entity_category=EntityCategory.CONFIG,
    )
    for key in (CONF_UPLOAD_LIMIT, CONF_DOWNLOAD_LIMIT)
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PemusConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the limits of the home."""
    async_add_entities(
        LimitNumber(entry.runtime_data.coordinator, limit) for limit in LIMITS
    )


class LimitNumber(OptionEntity, NumberEntity):
    """A limit in Mbit/s. 0 means no limit."""

    @property
    @override
    def native_value(self) -> float:
        """Return the limit."""
        return float(self.option)

    @override
    async def async_set_native_value(self, value: float) -> None:
        """Change the limit."""
        if not is_rate(value):
            raise ServiceValidationError(
                translation_domain=DOMAIN,
                translation_key="rate_too_low",
                translation_placeholders={"least": str(MIN_RATE)},
            )
        self.set_option(value)
