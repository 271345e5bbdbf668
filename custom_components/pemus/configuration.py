"""Keeps the engine's configuration equal to the config entry."""

import asyncio
from datetime import datetime
import logging
from typing import Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_send
from homeassistant.helpers.event import async_call_later
from homeassistant.util.signal_type import SignalType

from .const import CONF_RESCAN_INTERVAL, DEFAULT_RESCAN_INTERVAL
from .engine.client import EngineError
from .engine.process import Engine
from .friends.terms import friend_config, friend_subentries
from .issues import Issues
from .options import is_visible, servers, swarm_config
from .p2p.models import EngineConfig, Event, Hello
from .rooms.terms import room_config, room_subentries
from .shares import share_config, share_subentries

SIGNAL_CONFIG_CHANGED: Final = SignalType[()]("pemus_config_changed")
"""Sent after each change of `Configuration.config`."""

RETRY_DELAY_MIN: Final = 5
"""Delay before the first retry, in seconds. It doubles with each attempt."""
RETRY_DELAY_MAX: Final = 300

_LOGGER = logging.getLogger(__name__)


def engine_config(entry: ConfigEntry) -> EngineConfig:
    """Return the engine's configuration for a config entry."""
    return EngineConfig(
        home_name=entry.title,
        shares=tuple(share_config(subentry) for subentry in share_subentries(entry)),
        rescan_interval=60
        * entry.options.get(CONF_RESCAN_INTERVAL, DEFAULT_RESCAN_INTERVAL),
        swarm=swarm_config(entry.options),
        friends=tuple(
            friend_config(entry, friend) for friend in friend_subentries(entry)
        ),
        servers=servers(entry),
        lan_visible=is_visible(entry.options),
        rooms=tuple(room_config(subentry) for subentry in room_subentries(entry)),
    )


class Configuration:
    """Sends the configuration to the engine, and retries until the engine has applied it.

    Until then, a removed friend may still have access.
    """

    def __init__(
        self, hass: HomeAssistant, entry: ConfigEntry, engine: Engine, issues: Issues
    ) -> None:
        """Read the configuration from the entry."""
        self._hass = hass
        self._entry = entry
        self._engine = engine
        self._issues = issues
        self.config = engine_config(entry)
        """The configuration that the engine uses, or that was last sent to it."""
        self._sending = asyncio.Lock()
        self._attempts = 0
        self._retry: CALLBACK_TYPE | None = None

    async def async_start(self) -> None:
        """Configure the engine, and watch it until the entry is unloaded. Raises EngineError, EngineUnavailable."""
        await self._engine.async_configure(self.config)
        self._entry.async_on_unload(self._engine.async_subscribe(self._on_event))
        self._entry.async_on_unload(self._cancel_retry)

    async def async_apply(self) -> None:
        """Send the configuration to the engine if it changed."""
        config = engine_config(self._entry)
        if config == self.config:
            return
        self.config = config
        async_dispatcher_send(self._hass, SIGNAL_CONFIG_CHANGED)
        await self._send()

    @callback
    def _on_event(self, event: Event | None) -> None:
        """Schedule a retry if an engine that just started did not apply the configuration."""
        if isinstance(event, Hello):
            self.async_schedule_retry()

    async def _send(self) -> None:
        # Changes in quick succession must stay in order. Each call sends the newest configuration.
        async with self._sending:
            try:
                await self._engine.async_configure(self.config)
            except EngineError as err:
                _LOGGER.error("The engine refused the configuration: %s", err)
        self.async_schedule_retry()
        self._issues.async_update()

    @callback
    def async_schedule_retry(self) -> None:
        """Schedule a retry if the engine has not applied the configuration."""
        self._cancel_retry()
        if self._engine.unapplied is None:
            self._attempts = 0
            return

        async def retry(_now: datetime) -> None:
            self._retry = None
            await self._send()

        delay = min(RETRY_DELAY_MIN * 2**self._attempts, RETRY_DELAY_MAX)
        self._attempts += 1
        self._retry = async_call_later(
            self._hass, delay, HassJob(retry, cancel_on_shutdown=True)
        )

    @callback
    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry()
            self._retry = None
