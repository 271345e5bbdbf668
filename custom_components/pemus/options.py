"""The options about other homes: as the user sees and keeps them, and as the engine wants to hear of them.

People know their connection in megabits per second, as their provider sells it, and their disk in gigabytes. The engine
counts bytes.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_PORT

from .const import (
    CONF_ACTIVE_SEEDS,
    CONF_CACHE_QUOTA,
    CONF_CACHE_RESERVE,
    CONF_CONNECTIONS,
    CONF_DOWNLOAD_LIMIT,
    CONF_LAN_EXEMPT,
    CONF_LAN_VISIBLE,
    CONF_PORT_MAPPING,
    CONF_SERVERS,
    CONF_SIGNALING_APP,
    CONF_UPLOAD_LIMIT,
)
from .p2p.models import SwarmConfig
from .p2p.models.servers import server_url

MBIT: Final = 125_000
"""Bytes."""
GB: Final = 1000**3

NO_LIMIT: Final = 0
MIN_RATE: Final = 0.5
"""Mbit/s. With less than that, and yet not without a limit, no film plays and not even a song."""
MAX_RATE: Final = 10_000
FIRST_PORT: Final = 1024
"""Lower ports belong to the system, and other homes do not connect to them."""

_ENGINE: Final = SwarmConfig()

DEFAULTS: Final[dict[str, Any]] = {
    CONF_UPLOAD_LIMIT: _ENGINE.upload_limit / MBIT,
    CONF_DOWNLOAD_LIMIT: _ENGINE.download_limit / MBIT,
    CONF_LAN_EXEMPT: _ENGINE.lan_exempt,
    CONF_LAN_VISIBLE: True,
    CONF_CONNECTIONS: _ENGINE.connections,
    CONF_ACTIVE_SEEDS: _ENGINE.active_seeds,
    CONF_PORT: _ENGINE.port,
    CONF_PORT_MAPPING: _ENGINE.port_mapping,
    CONF_CACHE_QUOTA: _ENGINE.cache_quota / GB,
    CONF_CACHE_RESERVE: _ENGINE.cache_reserve / GB,
}
"""What counts as long as the user did not say otherwise. Rates are Mbit/s, sizes GB."""


def swarm_config(options: Mapping[str, Any]) -> SwarmConfig:
    """Return what the options say about other homes."""
    said = {**DEFAULTS, **options}
    return SwarmConfig(
        upload_limit=round(said[CONF_UPLOAD_LIMIT] * MBIT),
        download_limit=round(said[CONF_DOWNLOAD_LIMIT] * MBIT),
        lan_exempt=said[CONF_LAN_EXEMPT],
        connections=said[CONF_CONNECTIONS],
        active_seeds=said[CONF_ACTIVE_SEEDS],
        port=said[CONF_PORT],
        port_mapping=said[CONF_PORT_MAPPING],
        cache_quota=round(said[CONF_CACHE_QUOTA] * GB),
        cache_reserve=round(said[CONF_CACHE_RESERVE] * GB),
    )


def is_visible(options: Mapping[str, Any]) -> bool:
    """Tell whether homes in the local network may find this one, and it finds them."""
    return bool(options.get(CONF_LAN_VISIBLE, DEFAULTS[CONF_LAN_VISIBLE]))


def servers(entry: ConfigEntry) -> tuple[str, ...]:
    """Return the URLs of the signalling servers: that of the app beside this Home Assistant, and those that were entered."""
    named = (entry.data.get(CONF_SIGNALING_APP), *entry.options.get(CONF_SERVERS, ()))
    found: dict[str, None] = {}
    for url in named:
        if url is not None:
            # What the app said of itself was not looked at as closely as what somebody entered.
            with suppress(ValueError):
                found[server_url(url)] = None
    return tuple(found)


def is_rate(mbit_s: float) -> bool:
    """Tell whether a rate can be a limit."""
    return mbit_s == NO_LIMIT or MIN_RATE <= mbit_s <= MAX_RATE


def is_port(port: int) -> bool:
    """Tell whether the engine may listen on a port; 0 lets the system choose one."""
    return port == 0 or FIRST_PORT <= port < 2**16
