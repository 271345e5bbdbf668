"""Keeps the engine running with what the user configured."""

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
from .shares import share_config, share_subentries

SIGNAL_CONFIG_CHANGED: Final = SignalType[()]("pemus_config_changed")
"""Sent after each change of `Configuration.config`."""

FIRST_RETRY: Final = 5
"""Seconds until the engine gets a configuration again that it did not take. The delay doubles with each attempt."""
LAST_RETRY: Final = 300

_LOGGER = logging.getLogger(__name__)


def engine_config(entry: ConfigEntry) -> EngineConfig:
    """Return all that the user configured, in the engine's terms."""
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
    )


class Configuration:
    """Sends the engine what the user configured, and sends it again until the engine has taken it.

    Until then somebody may have access who is no longer a friend.
    """

    def __init__(
        self, hass: HomeAssistant, entry: ConfigEntry, engine: Engine, issues: Issues
    ) -> None:
        """Read the configuration of an entry."""
        self._hass = hass
        self._entry = entry
        self._engine = engine
        self._issues = issues
        self.config = engine_config(entry)
        """What the engine runs with, or was last told."""
        self._sending = asyncio.Lock()
        self._attempts = 0
        self._retry: CALLBACK_TYPE | None = None

    async def async_start(self) -> None:
        """Configure the engine, and follow it until the entry is unloaded. Raises EngineError, EngineUnavailable."""
        await self._engine.async_configure(self.config)
        self._entry.async_on_unload(self._engine.async_subscribe(self._on_event))
        self._entry.async_on_unload(self._cancel_retry)

    async def async_apply(self) -> None:
        """Send the engine what the user changed, if anything."""
        config = engine_config(self._entry)
        if config == self.config:
            return
        self.config = config
        async_dispatcher_send(self._hass, SIGNAL_CONFIG_CHANGED)
        await self._send()

    @callback
    def _on_event(self, event: Event | None) -> None:
        """Retry when an engine that has just started did not take the configuration."""
        if isinstance(event, Hello):
            self.async_schedule_retry()

    async def _send(self) -> None:
        # Changes in quick succession must not overtake each other: each call sends the newest.
        async with self._sending:
            try:
                await self._engine.async_configure(self.config)
            except EngineError as err:
                _LOGGER.error("The engine refused the configuration: %s", err)
        self.async_schedule_retry()
        self._issues.async_update()

    @callback
    def async_schedule_retry(self) -> None:
        """Send the configuration again later if the engine has not taken it."""
        self._cancel_retry()
        if self._engine.unapplied is None:
            self._attempts = 0
            return

        async def retry(_now: datetime) -> None:
            self._retry = None
            await self._send()

        delay = min(FIRST_RETRY * 2**self._attempts, LAST_RETRY)
        self._attempts += 1
        self._retry = async_call_later(
            self._hass, delay, HassJob(retry, cancel_on_shutdown=True)
        )

    @callback
    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry()
            self._retry = None
