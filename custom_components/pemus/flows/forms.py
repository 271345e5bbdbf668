"""What the dialogs about friends have in common: the form of what a friend may have, its errors, and the end of a wait."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import HomeAssistant, callback
from homeassistant.data_entry_flow import (
    FlowHandler,
    FlowManager,
    FlowResultType,
    UnknownFlow,
)
from homeassistant.helpers.selector import (
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
)
import voluptuous as vol

from custom_components.pemus.const import (
    CONF_NOTE,
    CONF_SHARES,
    CONF_UPLOAD_LIMIT,
    DOMAIN,
)
from custom_components.pemus.coordinator import PemusCoordinator
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.friends.pairings import Step
from custom_components.pemus.options import NO_LIMIT
from custom_components.pemus.p2p.models import ErrorKey
from custom_components.pemus.shares import share_subentries

from .options import RATE_SELECTOR

ERROR_REFUSED: Final = "refused"
ERROR_UNAVAILABLE: Final = "engine_unavailable"

ENDS: Final = {Step.PAIRED, Step.DENIED, Step.EXPIRED, Step.OVER, Step.UNLOADED}
"""Steps of a pairing after which a dialog has nothing more to do; each is the reason that it gives."""

REMINDERS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between the times that the frontend is told that a wait is over, until it looks."""


@callback
def async_find_coordinator(hass: HomeAssistant) -> PemusCoordinator | None:
    """Return the coordinator of this home, also while the rest of it is still being set up."""
    for entry in hass.config_entries.async_entries(DOMAIN, include_ignore=False):
        if entry.state in {ConfigEntryState.LOADED, ConfigEntryState.SETUP_IN_PROGRESS}:
            coordinator: PemusCoordinator | None = getattr(entry, "runtime_data", None)
            return coordinator
    return None


def terms_schema(entry: ConfigEntry) -> vol.Schema:
    """Return the form of what a friend may have. It asks for no shares where there are none."""
    shares = [
        SelectOptionDict(value=share.subentry_id, label=share.title)
        for share in share_subentries(entry)
    ]
    fields: dict[Any, Any] = {}
    if shares:
        fields[vol.Optional(CONF_SHARES, default=list)] = SelectSelector(
            SelectSelectorConfig(
                options=shares, multiple=True, mode=SelectSelectorMode.LIST
            )
        )
    fields[vol.Optional(CONF_UPLOAD_LIMIT, default=NO_LIMIT)] = RATE_SELECTOR
    fields[vol.Optional(CONF_NOTE)] = TextSelector(TextSelectorConfig(multiline=True))
    return vol.Schema(fields)


def shown_terms(entry: ConfigEntry, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return terms as the form shows them at first: without shares that are gone."""
    present = {share.subentry_id for share in share_subentries(entry)}
    granted = [share for share in terms.get(CONF_SHARES, ()) if share in present]
    return {**terms, CONF_SHARES: granted}


def refusal(err: EngineError | EngineUnavailable) -> tuple[str, str]:
    """Return the error that a form shows when the engine did not do as asked, and what it says about it."""
    if isinstance(err, EngineUnavailable):
        return ERROR_UNAVAILABLE, ""
    return ERROR_REFUSED, err.message


def is_over(err: EngineError | EngineUnavailable) -> bool:
    """Tell whether the engine did not do as asked because there is no such pairing any more."""
    return isinstance(err, EngineError) and err.key is ErrorKey.NOT_FOUND


@callback
def async_remind(
    hass: HomeAssistant,
    manager: FlowManager[Any, Any, Any],
    flow: FlowHandler[Any, Any, Any],
) -> None:
    """Tell the frontend again that a dialog's wait is over, until it looks at what comes next.

    Home Assistant tells it once. It begins to listen only after it has shown the wait, though, and if that was over sooner
    (in the local network it takes a tenth of a second) the dialog would say for ever that it waits.
    """
    hass.async_create_background_task(_remind(manager, flow), "PeMuS dialog")


async def _remind(
    manager: FlowManager[Any, Any, Any], flow: FlowHandler[Any, Any, Any]
) -> None:
    over: Any = None
    for pause in REMINDERS:
        await asyncio.sleep(pause)
        try:
            # A dialog that has ended still says that its wait was over just now.
            manager.async_get(flow.flow_id)
        except UnknownFlow:
            return
        step = flow.cur_step
        if step is None or step["type"] is not FlowResultType.SHOW_PROGRESS_DONE:
            return
        if over not in (None, step):
            return
        over = step
        flow.async_notify_flow_changed()
