"""PeMuS: a media server for this home and the homes of friends.

The work is done by the engine, a process of its own (see `p2p`), which outlives a reload of the config entry: a film
that plays, or a friend's transfer, is not cut because somebody changed an option.
"""

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.typing import ConfigType

from . import services, stream
from .const import DOMAIN
from .coordinator import PemusConfigEntry, PemusCoordinator
from .entity import async_update_devices
from .supervisor import DATA_ENGINE, Engine

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)

PLATFORMS = [Platform.BINARY_SENSOR, Platform.BUTTON, Platform.SENSOR]


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Register the actions and the views, which stay whatever becomes of the entry."""
    services.async_register(hass)
    stream.async_register(hass, FileSource(hass))
    return True


async def async_setup_entry(hass: HomeAssistant, entry: PemusConfigEntry) -> bool:
    """Start the engine unless it runs, tell it what to share, and show what it says."""
    engine = hass.data.setdefault(DATA_ENGINE, Engine(hass))
    coordinator = PemusCoordinator(hass, entry, engine)
    await coordinator.async_config_entry_first_refresh()
    entry.runtime_data = coordinator
    async_update_devices(hass, entry)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    entry.async_on_unload(entry.add_update_listener(_async_entry_changed))
    return True


async def _async_entry_changed(hass: HomeAssistant, entry: PemusConfigEntry) -> None:
    """Apply what changed, and nothing else: no reload, no restart."""
    await entry.runtime_data.async_apply_config()


async def async_unload_entry(hass: HomeAssistant, entry: PemusConfigEntry) -> bool:
    """Leave the engine running for the reload that mostly follows, and stop it if the user disabled the entry."""
    unloaded = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if unloaded and entry.disabled_by is not None:
        await hass.data.pop(DATA_ENGINE).async_stop()
    return unloaded


async def async_remove_entry(hass: HomeAssistant, entry: PemusConfigEntry) -> None:
    """Stop the engine, and remove all that it kept: its environment, thumbnails and index."""
    engine = hass.data.pop(DATA_ENGINE, None) or Engine(hass)
    await engine.async_remove()
