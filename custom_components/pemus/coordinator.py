"""The coordinator, which passes the engine's status to the entities."""

import logging
from typing import override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed

from .const import DOMAIN
from .engine.process import Engine, EngineState
from .errors import engine_errors
from .p2p.models import Event, Hello, Status, StatusChanged

_LOGGER = logging.getLogger(__name__)


class PemusCoordinator(DataUpdateCoordinator[Status]):
    """Pushes the engine's status to the entities."""

    config_entry: ConfigEntry

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, engine: Engine) -> None:
        """Create the coordinator. It subscribes to the engine in `_async_setup`."""
        super().__init__(hass, _LOGGER, config_entry=entry, name=DOMAIN)
        self.engine = engine

    @override
    async def _async_setup(self) -> None:
        """Start the engine if it is not running, and subscribe to its events."""
        with engine_errors(UpdateFailed):
            await self.engine.async_start()
        self.config_entry.async_on_unload(self.engine.async_subscribe(self._on_event))

    @override
    async def _async_update_data(self) -> Status:
        """Return the engine's first status. The engine pushes all later ones."""
        with engine_errors(UpdateFailed):
            return await self.engine.client.status()

    @callback
    def _on_event(self, event: Event | None) -> None:
        if event is None:
            self._on_state()
        elif isinstance(event, Hello | StatusChanged) and self.engine.status:
            # Not the event's own status: a Hello is older than the configuration.
            self.async_set_updated_data(self.engine.status)

    @callback
    def _on_state(self) -> None:
        """Report that the engine started or stopped, unless Home Assistant itself is stopping."""
        if self.hass.is_stopping:
            return
        if self.engine.state is EngineState.STARTING:
            # A planned start is not an error and is not logged.
            self.last_update_success = False
        elif self.engine.state is not EngineState.RUNNING:
            outdated = self.engine.client.outdated
            self.async_set_update_error(
                UpdateFailed(
                    translation_domain=DOMAIN,
                    translation_key="engine_outdated"
                    if outdated
                    else "engine_unavailable",
                )
            )
        # The engine state sensor is available even if no other entity is.
        self.async_update_listeners()
