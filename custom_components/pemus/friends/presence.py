"""Which friends came and which went, as something worth an event.

A link that breaks and comes back, a restart of the engine or of Home Assistant: none of that is a friend who left. Who
is out of reach for a while has left, and who comes back after that has come.
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
"""Seconds for which a friend must be out of reach to have left."""


class Presence:
    """Who is there."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        """Know of nobody yet: who is there from the beginning has not come."""
        self._hass = hass
        self._entry = entry
        self._there: dict[str, bool] = {}
        self._leaving: dict[str, CALLBACK_TYPE] = {}

    @callback
    def async_close(self) -> None:
        """Wait for nobody any more."""
        for home in list(self._leaving):
            self._stay(home)

    @callback
    def async_update(self, status: Status) -> None:
        """Take in who can be reached now."""
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
        # Who was never seen has not left.
        if friend.id in self._there:
            self._fire(EVENT_OFFLINE, friend)
        self._there[friend.id] = False

    def _stay(self, home: str) -> None:
        if (cancel := self._leaving.pop(home, None)) is not None:
            cancel()

    def _fire(self, event: str, friend: FriendStatus) -> None:
        name = friend_name(self._entry, friend.id) or friend.name
        async_fire(self._hass, event, {"home_id": friend.id, "name": name})
