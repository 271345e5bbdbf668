"""PeMuS: a media server for this home and the homes of friends.

The engine (see `p2p`) does the work in a separate process. It keeps running while the config entry is reloaded, so
playback and transfers continue.
"""

from functools import partial

from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryNotReady
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.typing import ConfigType

from . import services, stream, transfers
from .configuration import SIGNAL_CONFIG_CHANGED
from .const import DOMAIN
from .engine.process import DATA_ENGINE, Engine, async_client
from .entity import async_update_devices
from .home import Home, PemusConfigEntry
from .rooms import websocket_api as rooms_websocket_api

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)

PLATFORMS = [
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.EVENT,
    Platform.NUMBER,
    Platform.SENSOR,
    Platform.SWITCH,
]


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Register the actions, commands and views. They stay registered while the entry is not loaded."""
    services.async_register(hass)
    transfers.async_register(hass)
    rooms_websocket_api.async_register(hass)
    stream.async_register(hass, partial(async_client, hass))
    return True


async def async_setup_entry(hass: HomeAssistant, entry: PemusConfigEntry) -> bool:
    """Start the engine, send it the configuration, and set up the entities."""
    if (engine := hass.data.get(DATA_ENGINE)) is None:
        engine = hass.data[DATA_ENGINE] = Engine(hass)
        stream.async_follow(hass, engine)
    home = Home(hass, entry, engine)
    try:
        await home.async_start()
    except ConfigEntryNotReady:
        _stop_if_disabled_next(hass, entry)
        raise
    entry.runtime_data = home

    @callback
    def update_devices() -> None:
        async_update_devices(hass, entry)

    update_devices()
    entry.async_on_unload(
        async_dispatcher_connect(hass, SIGNAL_CONFIG_CHANGED, update_devices)
    )
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    entry.async_on_unload(entry.add_update_listener(_async_entry_changed))
    await home.async_follow_friends()
    return True


async def _async_entry_changed(hass: HomeAssistant, entry: PemusConfigEntry) -> None:
    """Apply the changes without a reload."""
    await entry.runtime_data.async_apply_config()


async def async_unload_entry(hass: HomeAssistant, entry: PemusConfigEntry) -> bool:
    """Unload the platforms. Stop the engine only if the entry is disabled, because a reload usually follows."""
    unloaded = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if unloaded and entry.disabled_by is not None:
        await _async_stop(hass)
    return unloaded


async def async_remove_entry(hass: HomeAssistant, entry: PemusConfigEntry) -> None:
    """Stop the engine and remove its files: environment, thumbnails and index."""
    engine = hass.data.pop(DATA_ENGINE, None) or Engine(hass)
    await engine.async_remove()


async def _async_stop(hass: HomeAssistant) -> None:
    """Stop the engine. The next set-up creates a new one."""
    await hass.data.pop(DATA_ENGINE).async_stop()


@callback
def _stop_if_disabled_next(hass: HomeAssistant, entry: PemusConfigEntry) -> None:
    """Stop the engine when the entry is disabled during set-up retries.

    Home Assistant does not unload an entry that was never loaded. The engine keeps running between retries, because it
    may be installing its environment.
    """

    @callback
    def on_state() -> None:
        if entry.state is ConfigEntryState.SETUP_RETRY:
            return
        unsubscribe()
        if entry.disabled_by is not None:
            hass.async_create_task(_async_stop(hass))

    unsubscribe = entry.async_on_state_change(on_state)
