"""Shared parts of the friend and pairing flows: the form of the terms, errors, and waiting for the other home."""

from abc import abstractmethod
import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import callback
from homeassistant.data_entry_flow import (
    AbortFlow,
    FlowContext,
    FlowHandler,
    FlowManager,
    FlowResult,
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

from custom_components.pemus.const import CONF_NOTE, CONF_SHARES, CONF_UPLOAD_LIMIT
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.friends.pairings import Step
from custom_components.pemus.home import Home, async_find_home
from custom_components.pemus.options import NO_LIMIT
from custom_components.pemus.p2p.models import ErrorKey
from custom_components.pemus.shares import share_subentries

from .options import RATE_SELECTOR

ERROR_REFUSED: Final = "refused"
ERROR_UNAVAILABLE: Final = "engine_unavailable"

ENDS: Final = {Step.PAIRED, Step.DENIED, Step.EXPIRED, Step.OVER, Step.UNLOADED}
"""Final steps of a pairing. Each value is the abort reason of the dialog."""

REMINDER_DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Delays between repeated signals to the frontend that a wait is over, in seconds."""


def terms_schema(entry: ConfigEntry) -> vol.Schema:
    """Return the form for the terms of a friendship. Without shares, it has no field for them."""
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
    """Return the initial values of the form, without removed shares."""
    present = {share.subentry_id for share in share_subentries(entry)}
    granted = [share for share in terms.get(CONF_SHARES, ()) if share in present]
    return {**terms, CONF_SHARES: granted}


def refusal(err: EngineError | EngineUnavailable) -> tuple[str, str]:
    """Return the form's error key for a failed request, and the engine's message."""
    if isinstance(err, EngineUnavailable):
        return ERROR_UNAVAILABLE, ""
    return ERROR_REFUSED, err.message


def is_over(err: EngineError | EngineUnavailable) -> bool:
    """Return whether a request failed because the pairing no longer exists."""
    return isinstance(err, EngineError) and err.key is ErrorKey.NOT_FOUND


class PairingDialog[
    ContextT: FlowContext,
    ResultT: FlowResult[Any, Any],
    HandlerT,
](FlowHandler[ContextT, ResultT, HandlerT]):
    """Base of the flows that wait for another home, as a config flow or a subentry flow."""

    next_steps: ClassVar[Mapping[Step, str]]
    """The flow's next step, by the step of the pairing."""
    _home = ""
    _ended = Step.OVER
    _watch: asyncio.Task[Step] | None = None

    @property
    def _own(self) -> Home:
        """Return this home. Raises AbortFlow if it is not set up."""
        if (home := async_find_home(self.hass)) is None:
            raise AbortFlow("not_loaded")
        return home

    @property
    @abstractmethod
    def _flow_manager(self) -> FlowManager[Any, Any, Any]:
        """Return the manager of this flow."""

    @property
    @abstractmethod
    def _placeholders(self) -> dict[str, str]:
        """Return the placeholders of this flow's texts."""

    @callback
    def _wait(self, step_id: str, *steps: Step) -> ResultT:
        """Show progress until the pairing has left these steps."""
        if self._watch is None:
            # A background task: Home Assistant's start and stop must not wait for another home.
            self._watch = self.hass.async_create_background_task(
                self._own.pairings.async_leave(self._home, *steps),
                f"PeMuS pairing with {self._home}",
            )
        if not self._watch.done():
            return self.async_show_progress(
                step_id=step_id,
                progress_action=step_id,
                description_placeholders=self._placeholders,
                progress_task=self._watch,
            )
        self._ended, self._watch = self._watch.result(), None
        # Home Assistant signals the end of the progress once. The frontend misses the signal if it comes before it shows
        # the progress (in the local network after 0.1 s), and would then wait forever.
        self.hass.async_create_background_task(
            _remind(self._flow_manager, self), "PeMuS dialog"
        )
        return self.async_show_progress_done(next_step_id=self.next_steps[self._ended])


async def _remind(
    manager: FlowManager[Any, Any, Any], flow: FlowHandler[Any, Any, Any]
) -> None:
    """Repeat the signal to the frontend that the progress has ended, until it requests the next step."""
    over: Any = None
    for pause in REMINDER_DELAYS:
        await asyncio.sleep(pause)
        try:
            # An ended flow object still has its last result. Only the manager knows that it has ended.
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
