"""Event entities for other homes and for guests."""

from typing import Any, Final, override

from homeassistant.components.event import EventEntity, EventEntityDescription
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.util.signal_type import SignalType

from .coordinator import PemusCoordinator
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
from .p2p.models.rooms import RoomEventKind
from .rooms.events import SIGNAL_ROOM_EVENT

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

GUESTS: Final = EventEntityDescription(
    key="guests",
    translation_key="guests",
    event_types=list(RoomEventKind),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PemusConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the events of the home."""
    coordinator = entry.runtime_data.coordinator
    async_add_entities(
        [
            HomeEvent(coordinator, FRIENDS, SIGNAL_FRIEND_EVENT),
            HomeEvent(coordinator, GUESTS, SIGNAL_ROOM_EVENT),
        ]
    )


class HomeEvent(PemusEntity, EventEntity):
    """The last event of another home, or of a guest."""

    # The words are used within minutes and do not belong in the history.
    _unrecorded_attributes = frozenset({"words"})

    def __init__(
        self,
        coordinator: PemusCoordinator,
        description: EventEntityDescription,
        signal: SignalType[str, dict[str, Any]],
    ) -> None:
        """Prepare to show what is dispatched with a signal."""
        super().__init__(coordinator, description)
        self._signal = signal

    @property
    @override
    def available(self) -> bool:
        """Always available: the last event stays valid while the engine is not running."""
        return True

    @override
    async def async_added_to_hass(self) -> None:
        """Subscribe to the events."""
        await super().async_added_to_hass()
        self.async_on_remove(
            async_dispatcher_connect(self.hass, self._signal, self._on_event)
        )

    @callback
    def _on_event(self, event: str, attributes: dict[str, Any]) -> None:
        self._trigger_event(event, attributes)
        self.async_write_ha_state()
