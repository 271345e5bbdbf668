"""Binary sensors for the availability of shared folders and friends."""

from typing import override

from homeassistant.components.binary_sensor import (
    BinarySensorDeviceClass,
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.const import EntityCategory, Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .entity import (
    FriendEntity,
    ShareEntity,
    async_add_friend_entities,
    async_add_share_entities,
)
from .home import PemusConfigEntry
from .p2p.models import ProblemKey

# The coordinator pushes; entities do not poll.
PARALLEL_UPDATES = 0

AVAILABILITY = BinarySensorEntityDescription(
    key="availability",
    translation_key="availability",
    device_class=BinarySensorDeviceClass.CONNECTIVITY,
    entity_category=EntityCategory.DIAGNOSTIC,
)

ONLINE = BinarySensorEntityDescription(
    key="online",
    translation_key="online",
    device_class=BinarySensorDeviceClass.CONNECTIVITY,
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PemusConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add a sensor to each share and to each friend."""
    async_add_share_entities(
        entry,
        Platform.BINARY_SENSOR,
        async_add_entities,
        lambda coordinator, share: [ShareSensor(coordinator, AVAILABILITY, share)],
    )
    async_add_friend_entities(
        entry,
        Platform.BINARY_SENSOR,
        async_add_entities,
        lambda coordinator, friend: [FriendSensor(coordinator, ONLINE, friend)],
    )


class ShareSensor(ShareEntity, BinarySensorEntity):
    """On while the shared folder can be read."""

    @property
    @override
    def is_on(self) -> bool | None:
        """Return whether the folder is available, or None until the engine has checked it.

        The engine reports a share as unavailable until its first check. Only a reported problem means that the folder
        is really missing.
        """
        if self.share is not None and self.share.available:
            return True
        missing = any(
            problem.key is ProblemKey.SHARE_UNAVAILABLE
            and problem.share == self.share_id
            for problem in self.coordinator.data.problems
        )
        return False if missing else None


class FriendSensor(FriendEntity, BinarySensorEntity):
    """On while the friend is online."""

    @property
    @override
    def is_on(self) -> bool | None:
        """Return whether the friend is online."""
        return None if self.friend is None else self.friend.online
