"""Sends an event when a friend goes offline or comes online.

A short interruption, such as a broken link or a restart of the engine or of Home Assistant, causes no event.
"""

from datetime import datetime
from functools import partial
from typing import Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from custom_components.pemus.p2p.models import Status
from custom_components.pemus.p2p.models.homes import FriendStatus

from .events import EVENT_OFFLINE, EVENT_ONLINE, async_fire
from .terms import friend_name

OFFLINE_DELAY: Final = 60
"""How long a friend must be unreachable before it counts as offline, in seconds."""


class Presence:
    """Tracks which friends are online."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        """Start without friends. A friend that is online from the start causes no event."""
        self._hass = hass
        self._entry = entry
        self._there: dict[str, bool] = {}
        self._leaving: dict[str, CALLBACK_TYPE] = {}

    @callback
    def async_close(self) -> None:
        """Cancel all timers."""
        for home in list(self._leaving):
            self._stay(home)

    @callback
    def async_update(self, status: Status) -> None:
        """Update from the engine's status."""
        if status.peers is None:
            return
        friends = {friend.id: friend for friend in status.peers.friends}
        for home in (self._there.keys() | self._leaving.keys()) - friends.keys():
            self._stay(home)
            self._there.pop(home, None)
        for home, friend in friends.items():
            if friend.online:
                self._stay(home)
                if self._there.get(home) is False:
                    self._fire(EVENT_ONLINE, friend)
                self._there[home] = True
            elif self._there.get(home) is not False and home not in self._leaving:
                self._leaving[home] = async_call_later(
                    self._hass,
                    OFFLINE_DELAY,
                    HassJob(partial(self._leave, friend), cancel_on_shutdown=True),
                )

    @callback
    def _leave(self, friend: FriendStatus, _now: datetime) -> None:
        del self._leaving[friend.id]
        # A friend that was never online causes no event.
        if friend.id in self._there:
            self._fire(EVENT_OFFLINE, friend)
        self._there[friend.id] = False

    def _stay(self, home: str) -> None:
        if (cancel := self._leaving.pop(home, None)) is not None:
            cancel()

    def _fire(self, event: str, friend: FriendStatus) -> None:
        name = friend_name(self._entry, friend.id) or friend.name
        async_fire(self._hass, event, {"home_id": friend.id, "name": name})
