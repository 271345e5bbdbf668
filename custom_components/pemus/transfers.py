"""Transfers from other homes for those who watch them: a list as it is, and again whenever it changed.

The engine is asked only while somebody watches, and only when it said meanwhile that something changed: a list that
rests costs a glance at a variable once a second.
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

PACE: Final = 1.0
"""Seconds between two lists, at least."""

DATA_WATCH: HassKey[TransferWatch] = HassKey("pemus_transfers")

_LOGGER = logging.getLogger(__name__)

type Listener = Callable[[tuple[TransferStatus, ...]], None]


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the command. Whoever may use Home Assistant may also see what its media browser fetches."""
    hass.data[DATA_WATCH] = TransferWatch(hass)
    websocket_api.async_register_command(hass, _subscribe)


class TransferWatch:
    """Looks at the transfers for all who watch them, of whichever engine there is."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Watch nothing yet."""
        self._hass = hass
        self._listeners: set[Listener] = set()
        self._known: tuple[TransferStatus, ...] | None = None
        self._seen: Status | None = None
        self._task: asyncio.Task[None] | None = None

    @callback
    def async_listen(self, listener: Listener) -> CALLBACK_TYPE:
        """Have a listener called with the present list as soon as it is known, and with each one that differs."""
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
            await asyncio.sleep(PACE)

    async def _look(self) -> None:
        engine = self._hass.data.get(DATA_ENGINE)
        if engine is None:
            # The home was disabled: nothing is fetched any more.
            self._tell(())
            return
        if (status := engine.status) is None or status is self._seen:
            return
        try:
            transfers = (await engine.client.transfers()).items
        except EngineError:
            # It runs without what it needs for other homes.
            transfers = ()
        except EngineUnavailable as err:
            _LOGGER.debug("The transfers are not known at present: %s", err)
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
    """Send the transfers, now and whenever they changed."""

    @callback
    def send(transfers: tuple[TransferStatus, ...]) -> None:
        plain = [asdict(transfer) for transfer in transfers]
        connection.send_event(message["id"], {"transfers": plain})

    # In this order: the first list must not come before the answer.
    connection.send_result(message["id"])
    connection.subscriptions[message["id"]] = hass.data[DATA_WATCH].async_listen(send)
