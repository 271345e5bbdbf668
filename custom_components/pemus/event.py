"""Event entity for other homes."""

from typing import Any, Final, override

from homeassistant.components.event import EventEntity, EventEntityDescription
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .entity import PemusEntity
from .friends.events import (
    EVENT_NEW_MEDIA,
    EVENT_OFFLINE,
    EVENT_ONLINE,
    EVENT_PAIRED,
    EVENT_REQUESTED,
    SIGNAL_FRIEND_EVENT,
)
from .home import PemusConfigEntry

# The coordinator pushes; entities do not poll.
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
    async_add_entities([FriendsEvent(entry.runtime_data.coordinator, FRIENDS)])


class FriendsEvent(PemusEntity, EventEntity):
    """The last event of another home."""

    # The words are used within minutes and do not belong in the history.
    _unrecorded_attributes = frozenset({"words"})

    @property
    @override
    def available(self) -> bool:
        """Always available: the last event stays valid while the engine is not running."""
        return True

    @override
    async def async_added_to_hass(self) -> None:
        """Subscribe to events of other homes."""
        await super().async_added_to_hass()
        self.async_on_remove(
            async_dispatcher_connect(
                self.hass, SIGNAL_FRIEND_EVENT, self._on_friend_event
            )
        )

    @callback
    def _on_friend_event(self, event: str, attributes: dict[str, Any]) -> None:
        self._trigger_event(event, attributes)
        self.async_write_ha_state()
