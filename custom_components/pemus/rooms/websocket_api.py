"""The WebSocket commands about rooms, for administrators: `pemus/rooms/list` and `pemus/rooms/guests`."""

from dataclasses import asdict
from typing import Any

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant, callback
import voluptuous as vol

from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.home import async_get_home

from .sharing import async_status
from .terms import link, room_id, room_subentries


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the commands."""
    websocket_api.async_register_command(hass, _list)
    websocket_api.async_register_command(hass, _guests)


@websocket_api.websocket_command({"type": "pemus/rooms/list"})
@websocket_api.require_admin
@callback
def _list(
    hass: HomeAssistant,
    connection: websocket_api.ActiveConnection,
    message: dict[str, Any],
) -> None:
    """Send all rooms with their links and states."""
    rooms: list[dict[str, Any]] = []
    if (home := async_get_home(hass)) is not None:
        for room in room_subentries(home.entry):
            if (status := async_status(home, room)) is not None:
                shown = asdict(status) | {"id": room.subentry_id, "name": room.title}
                rooms.append(shown | {"link": link(room, status)})
    connection.send_result(message["id"], {"rooms": rooms})


@websocket_api.websocket_command(
    {"type": "pemus/rooms/guests", vol.Required("room"): str}
)
@websocket_api.require_admin
@websocket_api.async_response
async def _guests(
    hass: HomeAssistant,
    connection: websocket_api.ActiveConnection,
    message: dict[str, Any],
) -> None:
    """Send the guests of a room who are connected."""
    home = async_get_home(hass)
    room = None if home is None else home.entry.subentries.get(message["room"])
    if home is None or room is None:
        connection.send_error(
            message["id"], websocket_api.ERR_NOT_FOUND, "There is no such room."
        )
        return
    try:
        guests = await home.engine.client.guests(room_id(room))
    except (EngineError, EngineUnavailable) as err:
        connection.send_error(
            message["id"], websocket_api.ERR_HOME_ASSISTANT_ERROR, str(err)
        )
        return
    connection.send_result(
        message["id"], {"guests": [asdict(guest) for guest in guests]}
    )
