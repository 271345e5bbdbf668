"""Keeps the entities up to date with what the engine pushes, and the engine with what the user configured."""

import asyncio
from collections.abc import Callable
import logging
from typing import override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed

from .client import EngineError
from .const import CONF_RESCAN_INTERVAL, DEFAULT_RESCAN_INTERVAL, DOMAIN
from .errors import engine_errors
from .options import swarm_config
from .p2p.models import EngineConfig, Event, Hello, Problem, Status, StatusChanged
from .shares import share_config, share_subentries
from .supervisor import Engine, EngineState

_LOGGER = logging.getLogger(__name__)

type PemusConfigEntry = ConfigEntry[PemusCoordinator]


def engine_config(entry: ConfigEntry) -> EngineConfig:
    """Return all that the user configured, as the engine wants to hear of it."""
    return EngineConfig(
        home_name=entry.title,
        shares=tuple(share_config(subentry) for subentry in share_subentries(entry)),
        rescan_interval=60
        * entry.options.get(CONF_RESCAN_INTERVAL, DEFAULT_RESCAN_INTERVAL),
        swarm=swarm_config(entry.options),
    )


@callback
def async_get_coordinator(hass: HomeAssistant) -> PemusCoordinator | None:
    """Return the coordinator of this home, None unless it is set up."""
    entries: list[PemusConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    return entries[0].runtime_data if entries else None


class PemusCoordinator(DataUpdateCoordinator[Status]):
    """The state of the engine, pushed by it."""

    config_entry: PemusConfigEntry

    def __init__(
        self, hass: HomeAssistant, entry: PemusConfigEntry, engine: Engine
    ) -> None:
        """Listen to the engine for as long as the entry is loaded."""
        super().__init__(hass, _LOGGER, config_entry=entry, name=DOMAIN)
        self.engine = engine
        self.config = engine_config(entry)
        """What the engine was last told."""
        self._config_listeners: list[CALLBACK_TYPE] = []
        self._configuring = asyncio.Lock()
        self._issues: dict[str, Problem] = {}

    @override
    async def _async_setup(self) -> None:
        """Start the engine, unless it runs already."""
        with engine_errors(UpdateFailed):
            await self.engine.async_configure(self.config)
            await self.engine.async_start()
        self.config_entry.async_on_unload(self.engine.async_subscribe(self._on_event))
        self.config_entry.async_on_unload(self._forget_issues)

    @override
    async def _async_update_data(self) -> Status:
        """Ask the engine for its state. Needed once; from then on it pushes."""
        with engine_errors(UpdateFailed):
            status = await self.engine.client.status()
        self._show_issues(status)
        return status

    @callback
    def _on_event(self, event: Event | None) -> None:
        """Take in what the engine says, or that it came or went."""
        if event is None:
            self._on_state()
        elif isinstance(event, Hello | StatusChanged) and self.engine.status:
            # Not the event's: the hello comes from before the engine got its configuration.
            self._show_issues(self.engine.status)
            self.async_set_updated_data(self.engine.status)

    @callback
    def _on_state(self) -> None:
        """Show that the engine came or went. That it goes with Home Assistant is nothing to report."""
        if self.hass.is_stopping:
            return
        if self.engine.state is EngineState.STARTING:
            # That was planned, and is no error to be logged.
            self.last_update_success = False
        elif self.engine.state is not EngineState.RUNNING:
            self.async_set_update_error(
                UpdateFailed(
                    translation_domain=DOMAIN, translation_key="engine_unavailable"
                )
            )
        # The sensor of the engine's state changes also while all others stay unavailable.
        self.async_update_listeners()

    async def async_rescan(self, share: str | None = None) -> None:
        """Have one share, or all of them, read again. Returns when that has begun.

        Raises:
            HomeAssistantError: the engine does not answer, or does not know the share.

        """
        with engine_errors(HomeAssistantError):
            await self.engine.client.rescan(share)

    async def async_apply_config(self) -> None:
        """Tell the engine, and whoever shows it, what the user changed."""
        config = engine_config(self.config_entry)
        if config == self.config:
            return
        self.config = config
        for listener in self._config_listeners:
            listener()
        # One after the other, and each time the newest: changes in quick succession must not overtake each other.
        async with self._configuring:
            try:
                await self.engine.async_configure(self.config)
            except EngineError as err:
                _LOGGER.error("The engine refused the configuration: %s", err)

    @callback
    def async_add_config_listener(self, listener: CALLBACK_TYPE) -> Callable[[], None]:
        """Call `listener` after each change of `config`. Returns how to end that."""
        self._config_listeners.append(listener)
        return lambda: self._config_listeners.remove(listener)

    @callback
    def _show_issues(self, status: Status) -> None:
        """Let each lasting problem have a repair issue, and no other."""
        problems = {_issue_id(problem): problem for problem in status.problems}
        for issue_id in self._issues.keys() - problems.keys():
            ir.async_delete_issue(self.hass, DOMAIN, issue_id)
        for issue_id, problem in problems.items():
            if self._issues.get(issue_id) != problem:
                ir.async_create_issue(
                    self.hass,
                    DOMAIN,
                    issue_id,
                    is_fixable=False,
                    severity=ir.IssueSeverity.WARNING,
                    translation_key=problem.key,
                    translation_placeholders=problem.placeholders,
                )
        self._issues = problems

    @callback
    def _forget_issues(self) -> None:
        """Take back the issues: without the engine nobody knows whether they last."""
        for issue_id in self._issues:
            ir.async_delete_issue(self.hass, DOMAIN, issue_id)
        self._issues = {}


def _issue_id(problem: Problem) -> str:
    """Return one id for each problem of each share."""
    return problem.key if problem.share is None else f"{problem.key}_{problem.share}"
