"""Events of guests, for automations."""

from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_send
from homeassistant.util.signal_type import SignalType

from custom_components.pemus.p2p.models.rooms import RoomEvent

from .terms import room_id, room_subentries

SIGNAL_ROOM_EVENT: Final = SignalType[str, dict[str, Any]]("pemus_room_event")
"""Dispatched with the type and the attributes of an event."""


@callback
def async_fire_room_event(
    hass: HomeAssistant, entry: ConfigEntry, event: RoomEvent
) -> None:
    """Send an event of a room. Rooms that were removed meanwhile are ignored."""
    for room in room_subentries(entry):
        if room_id(room) == event.room:
            attributes = {"room": room.title, "file": event.file}
            async_dispatcher_send(hass, SIGNAL_ROOM_EVENT, event.kind, attributes)
