"""Provides information for the system information page."""

from typing import Any

from homeassistant.components.system_health import (
    SystemHealthRegistration,
    async_check_can_reach_url,
)
from homeassistant.core import HomeAssistant, callback

from .const import CONF_SIGNALING_APP, DOMAIN
from .engine.process import DATA_ENGINE, EngineState


@callback
def async_register(hass: HomeAssistant, register: SystemHealthRegistration) -> None:
    """Register the callback."""
    register.async_register_info(async_info)


async def async_info(hass: HomeAssistant) -> dict[str, Any]:
    """Return the state of the engine, the library, friends, and signalling servers."""
    if (engine := hass.data.get(DATA_ENGINE)) is None:
        return {"engine_state": EngineState.STOPPED}
    info: dict[str, Any] = {
        "engine_state": engine.state,
        "limited": engine.limited is not None,
    }
    if (status := engine.status) is not None:
        info |= {
            "engine_version": status.version,
            "shares": len(status.shares),
            "videos": status.counts.video,
            "songs": status.counts.music,
            "photos": status.counts.photo,
        }
        if (peers := status.peers) is not None:
            info |= {
                "friends": len(peers.friends),
                "friends_online": sum(friend.online for friend in peers.friends),
                "servers": len(peers.servers),
                "servers_connected": sum(server.connected for server in peers.servers),
            }
    for entry in hass.config_entries.async_loaded_entries(DOMAIN):
        if (url := entry.data.get(CONF_SIGNALING_APP)) is not None:
            # An awaitable: the page shows the result when it is known.
            info["signaling_app"] = async_check_can_reach_url(hass, url)
    return info
