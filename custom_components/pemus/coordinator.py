"""Keeps the entities up to date with what the engine pushes, and the engine with what the user configured."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
import logging
from typing import Any, Final, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed

from .const import CONF_RESCAN_INTERVAL, DEFAULT_RESCAN_INTERVAL, DOMAIN
from .engine.client import EngineError
from .engine.process import Engine, EngineState
from .errors import engine_errors
from .friends.pairings import Pairings
from .friends.presence import Presence
from .friends.terms import (
    as_markdown,
    clean_name,
    find_friend,
    friend_config,
    friend_subentries,
)
from .options import is_visible, servers, swarm_config
from .p2p.models import (
    EngineConfig,
    Event,
    Hello,
    NewMedia,
    Problem,
    ProblemKey,
    Status,
    StatusChanged,
)
from .p2p.models.pemus_id import grouped
from .shares import share_config, share_subentries

_LOGGER = logging.getLogger(__name__)

type PemusConfigEntry = ConfigEntry[PemusCoordinator]
type FriendListener = Callable[[str, dict[str, Any]], None]

EVENT_NEW_MEDIA = "new_media"
ISSUE_IDENTITY = "identity_in_use"
ISSUE_UNAPPLIED = "config_unapplied"
ISSUE_UNFRIENDED = "unfriended"

FIRST_ATTEMPT: Final = 5
"""Seconds until the engine is told once more what it did not take; twice as many each further time."""
LAST_ATTEMPT: Final = 300


def engine_config(entry: ConfigEntry) -> EngineConfig:
    """Return all that the user configured, as the engine wants to hear of it."""
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
        self._attempts = 0
        self._next_attempt: CALLBACK_TYPE | None = None
        self._issues: dict[str, _Issue] = {}
        self._friend_listeners: list[FriendListener] = []
        self._is_following = False
        self.pairings = Pairings(hass, self)
        self.presence = Presence(hass, self)

    @override
    async def _async_setup(self) -> None:
        """Start the engine, unless it runs already."""
        with engine_errors(UpdateFailed):
            await self.engine.async_configure(self.config)
            await self.engine.async_start()
        self.config_entry.async_on_unload(self.engine.async_subscribe(self._on_event))
        self.config_entry.async_on_unload(self._forget_issues)
        self.config_entry.async_on_unload(self._wait_no_more)

    @override
    async def _async_update_data(self) -> Status:
        """Ask the engine for its state. Needed once; from then on it pushes."""
        with engine_errors(UpdateFailed):
            status = await self.engine.client.status()
        self._configure_later()
        self._take_in(status)
        return status

    @callback
    def _on_event(self, event: Event | None) -> None:
        """Take in what the engine says, or that it came or went."""
        if event is None:
            self._on_state()
        elif isinstance(event, Hello | StatusChanged) and self.engine.status:
            if isinstance(event, Hello):
                self._configure_later()
            # Not the event's: the hello comes from before the engine got its configuration.
            self._take_in(self.engine.status)
            self.async_set_updated_data(self.engine.status)
        elif isinstance(event, NewMedia):
            self._on_new_media(event)

    async def async_follow_homes(self) -> None:
        """Begin to follow what happens with other homes. There must be somebody already whom that can be told."""
        await self.pairings.async_start()
        self.config_entry.async_on_unload(self.pairings.async_close)
        self.config_entry.async_on_unload(self.presence.async_close)
        self._is_following = True
        self._take_in(self.data)

    def _take_in(self, status: Status) -> None:
        """Have everybody learn of the engine's state who does more with it than to show it."""
        self._show_issues(status)
        if self._is_following:
            self.pairings.async_update(status)
            self.presence.async_update(status)

    def _on_new_media(self, event: NewMedia) -> None:
        """Tell that a friend shares more."""
        if (name := self.name_of(event.home)) is None:
            return
        self.async_fire(
            EVENT_NEW_MEDIA,
            {
                "home_id": event.home,
                "name": name,
                "count": event.count,
                "titles": [clean_name(title) for title in event.titles],
            },
        )

    @callback
    def _on_state(self) -> None:
        """Show that the engine came or went. That it goes with Home Assistant is nothing to report."""
        if self.hass.is_stopping:
            return
        if self.engine.state is EngineState.STARTING:
            # That was planned, and is no error to be logged.
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
        # The sensor of the engine's state changes also while all others stay unavailable.
        self.async_update_listeners()

    async def async_rescan(self, share: str | None = None) -> None:
        """Have one share, or all of them, read again. Returns when that has begun.

        Raises:
            HomeAssistantError: the engine does not answer, or does not know the share.

        """
        with engine_errors(HomeAssistantError):
            await self.engine.client.rescan(share)

    async def async_restore_identity(self) -> None:
        """Be who this home was, if its key is back. Raises EngineError with the reason why not, EngineUnavailable."""
        await self.engine.client.restore_identity()

    async def async_renew_identity(self) -> str:
        """Become another home, which has no friends because none of them knows it; return its PeMuS ID.

        Raises EngineError, EngineUnavailable.
        """
        home = await self.engine.client.new_identity()
        for friend in friend_subentries(self.config_entry):
            self.hass.config_entries.async_remove_subentry(
                self.config_entry, friend.subentry_id
            )
        return home

    async def async_apply_config(self) -> None:
        """Tell the engine, and whoever shows it, what the user changed."""
        config = engine_config(self.config_entry)
        if config == self.config:
            return
        gone = {friend.id for friend in self.config.friends} - {
            friend.id for friend in config.friends
        }
        self.config = config
        for listener in self._config_listeners:
            listener()
        await self._configure()
        for home in gone:
            await self.pairings.async_forget(home)

    async def _configure(self) -> None:
        """Have the engine run with what the user configured, now or later."""
        # One after the other, and each time the newest: changes in quick succession must not overtake each other.
        async with self._configuring:
            try:
                await self.engine.async_configure(self.config)
            except EngineError as err:
                _LOGGER.error("The engine refused the configuration: %s", err)
        self._configure_later()
        self._show_issues(self.data)

    @callback
    def _configure_later(self) -> None:
        """Have the engine told again, later and later, as long as it does not run with what the user configured.

        Until then somebody may have access who is no friend any more.
        """
        self._wait_no_more()
        if self.engine.unapplied is None:
            self._attempts = 0
            return

        async def again(_now: datetime) -> None:
            self._next_attempt = None
            await self._configure()

        delay = min(FIRST_ATTEMPT * 2**self._attempts, LAST_ATTEMPT)
        self._attempts += 1
        self._next_attempt = async_call_later(
            self.hass, delay, HassJob(again, cancel_on_shutdown=True)
        )

    @callback
    def _wait_no_more(self) -> None:
        if self._next_attempt is not None:
            self._next_attempt()
            self._next_attempt = None

    @callback
    def async_add_config_listener(self, listener: CALLBACK_TYPE) -> Callable[[], None]:
        """Call `listener` after each change of `config`. Returns how to end that."""
        self._config_listeners.append(listener)
        return lambda: self._config_listeners.remove(listener)

    def name_of(self, home: str) -> str | None:
        """Return what a friend is called here, None for who is no friend."""
        friend = find_friend(self.config_entry, home)
        return None if friend is None else friend.title

    @callback
    def async_fire(self, event: str, attributes: dict[str, Any]) -> None:
        """Tell that something happened with another home."""
        for listener in tuple(self._friend_listeners):
            listener(event, attributes)

    @callback
    def async_add_friend_listener(self, listener: FriendListener) -> Callable[[], None]:
        """Call `listener` whenever something happens with another home. Returns how to end that."""
        self._friend_listeners.append(listener)
        return lambda: self._friend_listeners.remove(listener)

    @callback
    def _show_issues(self, status: Status) -> None:
        """Let each lasting problem have a repair issue, and no other."""
        issues = self._issues_of(status)
        for issue_id in self._issues.keys() - issues.keys():
            ir.async_delete_issue(self.hass, DOMAIN, issue_id)
        for issue_id, issue in issues.items():
            if self._issues.get(issue_id) != issue:
                ir.async_create_issue(
                    self.hass,
                    DOMAIN,
                    issue_id,
                    is_fixable=issue.is_fixable,
                    severity=ir.IssueSeverity.WARNING,
                    translation_key=issue.key,
                    translation_placeholders=issue.placeholders,
                )
        self._issues = issues

    def _issues_of(self, status: Status) -> dict[str, _Issue]:
        """Return the lasting problems by the ids of their issues."""
        issues = {
            _issue_id(problem): _Issue(
                problem.key,
                problem.placeholders,
                is_fixable=problem.key is ProblemKey.IDENTITY_LOST,
            )
            for problem in status.problems
        }
        if (error := self.engine.unapplied) is not None:
            issues[ISSUE_UNAPPLIED] = _Issue(ISSUE_UNAPPLIED, {"error": error})
        if (peers := status.peers) is not None:
            if peers.superseded:
                issues[ISSUE_IDENTITY] = _Issue(ISSUE_IDENTITY, {}, is_fixable=True)
            for friend in peers.friends:
                known = find_friend(self.config_entry, friend.id)
                if friend.unfriended and known is not None:
                    # Home Assistant puts the ids of issues into reports: a friend's PeMuS ID has no place in one.
                    issues[f"{ISSUE_UNFRIENDED}_{known.subentry_id}"] = _Issue(
                        ISSUE_UNFRIENDED,
                        {"name": as_markdown(known.title), "id": grouped(friend.id)},
                    )
        return issues

    @callback
    def _forget_issues(self) -> None:
        """Take back the issues: without the engine nobody knows whether they last."""
        for issue_id in self._issues:
            ir.async_delete_issue(self.hass, DOMAIN, issue_id)
        self._issues = {}


@dataclass(frozen=True, slots=True)
class _Issue:
    """What a repair issue says."""

    key: str
    placeholders: dict[str, str]
    is_fixable: bool = False


def _issue_id(problem: Problem) -> str:
    """Return one id for each problem of each share."""
    return problem.key if problem.share is None else f"{problem.key}_{problem.share}"
