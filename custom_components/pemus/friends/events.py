"""Events of other homes, for automations."""

from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_send
from homeassistant.util.signal_type import SignalType

from custom_components.pemus.p2p.models import NewMedia

from .terms import clean_name, friend_name

EVENT_REQUESTED: Final = "requested"
EVENT_PAIRED: Final = "paired"
EVENT_ONLINE: Final = "online"
EVENT_OFFLINE: Final = "offline"
EVENT_NEW_MEDIA: Final = "new_media"

SIGNAL_FRIEND_EVENT: Final = SignalType[str, dict[str, Any]]("pemus_friend_event")
"""Dispatched with the type and the attributes of an event."""


@callback
def async_fire(hass: HomeAssistant, event: str, attributes: dict[str, Any]) -> None:
    """Send an event of another home."""
    async_dispatcher_send(hass, SIGNAL_FRIEND_EVENT, event, attributes)


@callback
def async_fire_new_media(
    hass: HomeAssistant, entry: ConfigEntry, news: NewMedia
) -> None:
    """Send the event that a friend shares new media. Homes that are not friends are ignored."""
    if (name := friend_name(entry, news.home)) is None:
        return
    async_fire(
        hass,
        EVENT_NEW_MEDIA,
        {
            "home_id": news.home,
            "name": name,
            "count": news.count,
            "titles": [clean_name(title) for title in news.titles],
        },
    )
