"""The subentry flow that adds a friend by its PeMuS ID, or edits a friend."""

from typing import Any, Final, override

from homeassistant.config_entries import (
    ConfigSubentryFlow,
    ConfigSubentryFlowManager,
    SubentryFlowContext,
    SubentryFlowResult,
)
from homeassistant.const import CONF_ID, CONF_NAME
from homeassistant.helpers.selector import TextSelector
import voluptuous as vol

from custom_components.pemus.const import CONF_UPLOAD_LIMIT
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.friends.dialogs import STEP_END
from custom_components.pemus.friends.pairings import Step
from custom_components.pemus.friends.terms import (
    Terms,
    as_markdown,
    clean_name,
    find_friend,
    read_invitation,
    short,
)
from custom_components.pemus.p2p.models.homes import PairingStatus
from custom_components.pemus.p2p.models.pemus_id import grouped

from .forms import ENDS, PairingDialog, refusal, shown_terms, terms_schema
from .options import errors_of

ID_SCHEMA: Final = vol.Schema({vol.Required(CONF_ID): TextSelector()})
NAME_SCHEMA: Final = vol.Schema({vol.Required(CONF_NAME): TextSelector()})

NEXT_STEPS: Final = {
    # The other home may send a new request meanwhile, with different words.
    Step.WAITING: "waiting",
    Step.COMPARING: "comparing",
    Step.CONFIRMED: "comparing",
} | dict.fromkeys(ENDS, STEP_END)
"""The flow's next steps. Each waits for the pairing to leave its step, as otherwise the flow would loop."""


class FriendFlow(
    PairingDialog[SubentryFlowContext, SubentryFlowResult, tuple[str, str]],
    ConfigSubentryFlow,
):
    """Send a friend request, or edit a friend.

    Closing the dialog does not withdraw the request. The friend is added when both homes have confirmed.
    """

    next_steps = NEXT_STEPS
    _seen: PairingStatus | None = None
    """The last known state of the pairing, which is needed after it has ended."""

    async def async_step_user(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Ask for the friend's PeMuS ID and the terms."""
        own = self._own
        entry = self._get_entry()
        if (peers := own.coordinator.data.peers) is None:
            return self.async_abort(reason="no_peers")
        errors: dict[str, str] = {}
        error = ""
        if user_input is not None:
            terms = Terms.of(user_input)
            errors = errors_of({CONF_UPLOAD_LIMIT: terms.upload_limit})
            home = read_invitation(user_input[CONF_ID])
            if home is None:
                errors[CONF_ID] = "bad_id"
            elif home == peers.id:
                errors[CONF_ID] = "own_id"
            elif find_friend(entry, home) is not None:
                errors[CONF_ID] = "already_friend"
            elif not errors:
                try:
                    self._home = await own.pairings.async_request(
                        home, terms, trusted=True
                    )
                except (EngineError, EngineUnavailable) as err:
                    errors["base"], error = refusal(err)
                else:
                    return await self.async_step_waiting()
        return self.async_show_form(
            step_id="user",
            data_schema=self.add_suggested_values_to_schema(
                ID_SCHEMA.extend(terms_schema(entry).schema), user_input
            ),
            errors=errors,
            description_placeholders={"own_id": grouped(peers.id), "error": error},
        )

    async def async_step_waiting(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Wait until the other home is reached."""
        return self._wait("waiting", Step.WAITING)

    async def async_step_comparing(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Show the words until the other home has answered."""
        return self._wait("comparing", Step.COMPARING, Step.CONFIRMED)

    async def async_step_end(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Show how the pairing ended."""
        return self.async_abort(
            reason=self._ended, description_placeholders=self._placeholders
        )

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Edit the name and the terms of a friend."""
        entry, friend = self._get_entry(), self._get_reconfigure_subentry()
        errors: dict[str, str] = {}
        if user_input is not None:
            terms = Terms.of(user_input)
            errors = errors_of({CONF_UPLOAD_LIMIT: terms.upload_limit})
            if not (name := clean_name(user_input[CONF_NAME])):
                errors[CONF_NAME] = "no_name"
            if not errors:
                return self.async_update_and_abort(
                    entry, friend, title=name, data_updates=terms.as_dict()
                )
        shown = shown_terms(entry, {**friend.data, CONF_NAME: friend.title})
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=self.add_suggested_values_to_schema(
                NAME_SCHEMA.extend(terms_schema(entry).schema), user_input or shown
            ),
            errors=errors,
            description_placeholders={"id": grouped(friend.data[CONF_ID])},
        )

    @property
    @override
    def _flow_manager(self) -> ConfigSubentryFlowManager:
        return self.hass.config_entries.subentries

    @property
    @override
    def _placeholders(self) -> dict[str, str]:
        pairing = self._own.pairings.pairing(self._home) or self._seen
        self._seen = pairing
        name = as_markdown(pairing.name) if pairing else ""
        words = as_markdown(" ".join(pairing.words)) if pairing else ""
        return {
            "name": name or short(self._home),
            "id": grouped(self._home),
            "words": words,
        }
