"""The options for other homes, and their conversion to the engine's configuration.

The user enters rates in Mbit/s and sizes in GB. The engine counts bytes.
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
"""In bytes."""
GB: Final = 1000**3

NO_LIMIT: Final = 0
MIN_RATE: Final = 0.5
"""In Mbit/s. Not even a song plays at a lower rate."""
MAX_RATE: Final = 10_000
FIRST_PORT: Final = 1024
"""Lower ports are reserved for the system, and other homes do not connect to them."""

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
"""Rates in Mbit/s, sizes in GB."""


def swarm_config(options: Mapping[str, Any]) -> SwarmConfig:
    """Return the engine's configuration for the options."""
    values = {**DEFAULTS, **options}
    return SwarmConfig(
        upload_limit=round(values[CONF_UPLOAD_LIMIT] * MBIT),
        download_limit=round(values[CONF_DOWNLOAD_LIMIT] * MBIT),
        lan_exempt=values[CONF_LAN_EXEMPT],
        connections=values[CONF_CONNECTIONS],
        active_seeds=values[CONF_ACTIVE_SEEDS],
        port=values[CONF_PORT],
        port_mapping=values[CONF_PORT_MAPPING],
        cache_quota=round(values[CONF_CACHE_QUOTA] * GB),
        cache_reserve=round(values[CONF_CACHE_RESERVE] * GB),
    )


def is_visible(options: Mapping[str, Any]) -> bool:
    """Return whether this home and others in the local network find each other."""
    return bool(options.get(CONF_LAN_VISIBLE, DEFAULTS[CONF_LAN_VISIBLE]))


def servers(entry: ConfigEntry) -> tuple[str, ...]:
    """Return the URLs of the signalling servers: of the app on this Home Assistant, and those that the user entered."""
    named = (entry.data.get(CONF_SIGNALING_APP), *entry.options.get(CONF_SERVERS, ()))
    found: dict[str, None] = {}
    for url in named:
        if url is not None:
            # Only entered URLs were validated before. The app's URL was not.
            with suppress(ValueError):
                found[server_url(url)] = None
    return tuple(found)


def is_rate(mbit_s: float) -> bool:
    """Return whether a rate, in Mbit/s, is a valid limit."""
    return mbit_s == NO_LIMIT or MIN_RATE <= mbit_s <= MAX_RATE


def is_port(port: int) -> bool:
    """Return whether the engine can listen on a port. 0 lets the system select one."""
    return port == 0 or FIRST_PORT <= port < 2**16
