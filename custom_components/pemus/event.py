"""What happens with other homes, for automations."""

from typing import Any, Final, override

from homeassistant.components.event import EventEntity, EventEntityDescription
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import EVENT_NEW_MEDIA, PemusConfigEntry
from .entity import PemusEntity
from .friends.pairings import EVENT_PAIRED, EVENT_REQUESTED
from .friends.presence import EVENT_OFFLINE, EVENT_ONLINE

# The coordinator pushes; nothing is asked for.
PARALLEL_UPDATES = 0

FRIENDS: Final = EventEntityDescription(
    key="friends",
    translation_key="friends",
    event_types=[
        EVENT_REQUESTED,
        EVENT_PAIRED,
        EVENT_ONLINE,
        EVENT_OFFLINE,
        EVENT_NEW_MEDIA,
    ],
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PemusConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the events of the home."""
    async_add_entities([FriendsEvent(entry.runtime_data, FRIENDS)])


class FriendsEvent(PemusEntity, EventEntity):
    """The last thing that happened with another home. It stays known while the engine is down."""

    @property
    @override
    def available(self) -> bool:
        """Stay available: what has happened has happened."""
        return True

    @override
    async def async_added_to_hass(self) -> None:
        """Listen to what happens."""
        await super().async_added_to_hass()
        self.async_on_remove(
            self.coordinator.async_add_friend_listener(self._on_friend_event)
        )

    @callback
    def _on_friend_event(self, event: str, attributes: dict[str, Any]) -> None:
        self._trigger_event(event, attributes)
        self.async_write_ha_state()
