"""The WebSocket command `pemus/transfers/subscribe`: the list of transfers from other homes, and each change.

The engine is asked only while there are subscribers, and only after it pushed a new status.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
import logging
from typing import Any, Final

from homeassistant.components import websocket_api
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from .engine.client import EngineError, EngineUnavailable
from .engine.process import DATA_ENGINE
from .p2p.models import Status
from .p2p.models.transfers import TransferStatus

UPDATE_INTERVAL: Final = 1.0
"""Minimum time between two lists, in seconds."""

DATA_WATCH: HassKey[TransferWatch] = HassKey("pemus_transfers")

_LOGGER = logging.getLogger(__name__)

type Listener = Callable[[tuple[TransferStatus, ...]], None]


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the command. Every user can subscribe, not only administrators."""
    hass.data[DATA_WATCH] = TransferWatch(hass)
    websocket_api.async_register_command(hass, _subscribe)


class TransferWatch:
    """Watches the transfers of the current engine for all subscribers."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Start without subscribers."""
        self._hass = hass
        self._listeners: set[Listener] = set()
        self._known: tuple[TransferStatus, ...] | None = None
        self._seen: Status | None = None
        self._task: asyncio.Task[None] | None = None

    @callback
    def async_listen(self, listener: Listener) -> CALLBACK_TYPE:
        """Call a listener with the current list as soon as it is known, and with each changed list."""
        self._listeners.add(listener)
        if self._known is not None:
            listener(self._known)
        if self._task is None:
            self._task = self._hass.async_create_background_task(
                self._watch(), "PeMuS transfers"
            )

        @callback
        def leave() -> None:
            self._listeners.discard(listener)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = self._known = self._seen = None

        return leave

    async def _watch(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(UPDATE_INTERVAL)

    async def _look(self) -> None:
        engine = self._hass.data.get(DATA_ENGINE)
        if engine is None:
            # The home is disabled, so there are no transfers.
            self._tell(())
            return
        if (status := engine.status) is None or status is self._seen:
            return
        try:
            transfers = (await engine.client.transfers()).items
        except EngineError:
            # In limited mode, the engine has no transfers.
            transfers = ()
        except EngineUnavailable as err:
            _LOGGER.debug("Failed to get the transfers: %s", err)
            return
        self._seen = status
        self._tell(transfers)

    def _tell(self, transfers: tuple[TransferStatus, ...]) -> None:
        if transfers == self._known:
            return
        self._known = transfers
        for listener in tuple(self._listeners):
            listener(transfers)


@websocket_api.websocket_command({"type": "pemus/transfers/subscribe"})
@callback
def _subscribe(
    hass: HomeAssistant,
    connection: websocket_api.ActiveConnection,
    message: dict[str, Any],
) -> None:
    """Send the transfers now, and whenever they change."""

    @callback
    def send(transfers: tuple[TransferStatus, ...]) -> None:
        plain = [asdict(transfer) for transfer in transfers]
        connection.send_event(message["id"], {"transfers": plain})

    # The result must be sent before the first list.
    connection.send_result(message["id"])
    connection.subscriptions[message["id"]] = hass.data[DATA_WATCH].async_listen(send)
