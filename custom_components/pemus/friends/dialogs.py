"""The discovery flows of pairings: among the discovered devices, one per home that is offered or that needs an answer."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
import logging
from typing import Any, Final

from homeassistant.config_entries import (
    SOURCE_IGNORE,
    SOURCE_INTEGRATION_DISCOVERY,
    SOURCE_ZEROCONF,
)
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.data_entry_flow import UnknownFlow
from homeassistant.helpers import discovery_flow
from homeassistant.helpers.event import async_call_later

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.p2p.models.homes import PairingStatus

STEP_OFFER: Final = "zeroconf_confirm"
"""Step in which a dialog offers a home in the local network and the user has not reacted yet."""
USER_STEPS: Final = {"compare", "incoming", "shares"}
"""Steps in which a dialog waits for the user's answer."""
STEP_END: Final = "end"
"""Step in which a dialog shows how the pairing ended."""
END_TIMEOUT: Final = 60
"""How long a dialog stays in STEP_END, in seconds."""

_LOGGER = logging.getLogger(__name__)


def request_id(home: str) -> str:
    """Return the unique id of the discovery flow for a home's request.

    It differs from the id of the flow that offers the home, so that a user who ignores a neighbour's home still sees
    its requests.
    """
    return f"request_{home}"


class Dialogs:
    """The discovery flows for other homes. Methods with a home act on its offer and on its request."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Start without dialogs. Those of an earlier set-up are found in the flow manager."""
        self._hass = hass
        self._answering: set[str] = set()
        self._ending: dict[str, CALLBACK_TYPE] = {}

    def exists(self, home: str, but: str | None = None) -> bool:
        """Return whether there is a dialog for a home that does not just show the result.

        `but`: the flow id of a dialog to ignore.
        """
        return any(
            flow_id != but
            for flow_id in self._find(
                home, lambda flow: flow.get("step_id") != STEP_END
            )
        )

    def is_ignored(self, unique_id: str) -> bool:
        """Return whether the user ignores discovery flows with this unique id."""
        entry = self._hass.config_entries.async_entry_for_domain_unique_id(
            DOMAIN, unique_id
        )
        return entry is not None and entry.source == SOURCE_IGNORE

    @callback
    def async_show(self, pairing: PairingStatus) -> None:
        """Show a pairing among the discovered devices, unless a dialog for its home exists."""
        # The same home may be offered because it is in the local network.
        self.async_end(pairing.home, {STEP_OFFER})
        if not self.exists(pairing.home):
            discovery_flow.async_create_flow(
                self._hass,
                DOMAIN,
                {"source": SOURCE_INTEGRATION_DISCOVERY},
                {"home": pairing.home, "words": list(pairing.words)},
            )

    @callback
    def async_end(self, home: str, steps: set[str]) -> None:
        """End the dialogs for a home at one of these steps, except those whose answer is being processed."""
        for flow_id in self._find(home, lambda flow: flow.get("step_id") in steps):
            if flow_id in self._answering:
                continue
            try:
                self._hass.config_entries.flow.async_abort(flow_id)
            except UnknownFlow:
                _LOGGER.debug("The dialog for %s has already ended", home)

    @callback
    def async_end_later(self, home: str) -> None:
        """End dialogs that show only the result after END_TIMEOUT."""

        @callback
        def end(_now: datetime) -> None:
            del self._ending[home]
            self.async_end(home, {STEP_END})

        if (cancel := self._ending.pop(home, None)) is not None:
            cancel()
        self._ending[home] = async_call_later(
            self._hass, END_TIMEOUT, HassJob(end, cancel_on_shutdown=True)
        )

    @contextmanager
    def answering(self, flow_id: str | None) -> Generator[None]:
        """Keep a dialog open until the engine has processed the user's answer."""
        if flow_id is None:
            yield
            return
        self._answering.add(flow_id)
        try:
            yield
        finally:
            self._answering.discard(flow_id)

    def _find(self, home: str, matches: Callable[[Any], bool]) -> list[str]:
        """Return the flow ids of the matching dialogs for a home."""
        return [
            flow["flow_id"]
            for unique_id in (home, request_id(home))
            for flow in self._hass.config_entries.flow.async_progress_by_handler(
                DOMAIN,
                include_uninitialized=True,
                match_context={"unique_id": unique_id},
            )
            if flow["context"]["source"]
            in {SOURCE_INTEGRATION_DISCOVERY, SOURCE_ZEROCONF}
            and matches(flow)
        ]
