"""What the dialogs about friends have in common: the form of what a friend may have, its errors, and the end of a wait."""

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
"""Steps of a pairing after which a dialog has nothing more to do; each is the reason that it gives."""

REMINDERS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between the times that the frontend is told that a wait is over, until it looks."""


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


class PairingDialog[
    ContextT: FlowContext,
    ResultT: FlowResult[Any, Any],
    HandlerT,
](FlowHandler[ContextT, ResultT, HandlerT]):
    """What the dialogs about a pairing share: they wait for the other home, as a config flow or a subentry flow."""

    next_steps: ClassVar[Mapping[Step, str]]
    """The step after a wait, by the step of the pairing."""
    _home = ""
    _ended = Step.OVER
    _watch: asyncio.Task[Step] | None = None

    @property
    def _own(self) -> Home:
        """Return this home. Raises AbortFlow while it is not set up."""
        if (home := async_find_home(self.hass)) is None:
            raise AbortFlow("not_loaded")
        return home

    @property
    @abstractmethod
    def _flow_manager(self) -> FlowManager[Any, Any, Any]:
        """Return who runs this dialog."""

    @property
    @abstractmethod
    def _placeholders(self) -> dict[str, str]:
        """Return what the texts of this dialog name."""

    @callback
    def _wait(self, step_id: str, *steps: Step) -> ResultT:
        """Show that the other home is waited for, and go on once the pairing is at none of these steps any more."""
        if self._watch is None:
            # Home Assistant's start and stop must not wait for somebody in another home.
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
        # Home Assistant tells the frontend once that the wait is over. The frontend listens only after it has shown the
        # wait, though: if that was over sooner (in the local network it takes a tenth of a second), it would wait forever.
        self.hass.async_create_background_task(
            _remind(self._flow_manager, self), "PeMuS dialog"
        )
        return self.async_show_progress_done(next_step_id=self.next_steps[self._ended])


async def _remind(
    manager: FlowManager[Any, Any, Any], flow: FlowHandler[Any, Any, Any]
) -> None:
    """Tell the frontend that the wait of a dialog is over, until it asks for what comes next."""
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
