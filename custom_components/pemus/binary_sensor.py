"""Whether the disks behind the shared folders are there."""

from typing import override

from homeassistant.components.binary_sensor import (
    BinarySensorDeviceClass,
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.const import EntityCategory, Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import PemusConfigEntry
from .entity import ShareEntity, async_add_share_entities

# The coordinator pushes; nothing is asked for.
PARALLEL_UPDATES = 0

AVAILABILITY = BinarySensorEntityDescription(
    key="availability",
    translation_key="availability",
    device_class=BinarySensorDeviceClass.CONNECTIVITY,
    entity_category=EntityCategory.DIAGNOSTIC,
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PemusConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add a sensor to each share."""
    async_add_share_entities(
        entry,
        Platform.BINARY_SENSOR,
        async_add_entities,
        lambda coordinator, share: [ShareSensor(coordinator, AVAILABILITY, share)],
    )


class ShareSensor(ShareEntity, BinarySensorEntity):
    """On while the folder of the share can be read."""

    @property
    @override
    def is_on(self) -> bool | None:
        """Return what the engine said last."""
        return None if self.share is None else self.share.available
