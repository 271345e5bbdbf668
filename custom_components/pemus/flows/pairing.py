"""The discovery flows: homes in the local network, and requests of other homes.

They are config flows because only these are shown among the discovered devices. None of them creates a config entry.
"""

from typing import Any, Final, override

from homeassistant.config_entries import (
    ConfigEntriesFlowManager,
    ConfigFlow,
    ConfigFlowContext,
    ConfigFlowResult,
)
from homeassistant.core import callback
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
from homeassistant.helpers.typing import DiscoveryInfoType

from custom_components.pemus.const import CONF_UPLOAD_LIMIT, DOMAIN
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.friends.dialogs import STEP_END, STEP_OFFER, request_id
from custom_components.pemus.friends.lan import read_service
from custom_components.pemus.friends.pairings import Step
from custom_components.pemus.friends.terms import (
    Terms,
    as_markdown,
    clean_name,
    find_friend,
    short,
)
from custom_components.pemus.home import async_find_home
from custom_components.pemus.p2p.models.pemus_id import grouped

from .forms import ENDS, PairingDialog, is_over, refusal, terms_schema
from .options import errors_of

NEXT_STEPS: Final = {
    Step.WAITING: "waiting",
    Step.COMPARING: "compare",
    Step.CONFIRMED: "finishing",
} | dict.fromkeys(ENDS, STEP_END)


class PairingFlow(PairingDialog[ConfigFlowContext, ConfigFlowResult, str], ConfigFlow):
    """The steps of the config flow that concern other homes."""

    next_steps = NEXT_STEPS

    _name = ""
    _words: tuple[str, ...] | None = None
    """The words that were shown to the user."""

    # A home in the local network

    @override
    async def async_step_zeroconf(
        self, discovery_info: ZeroconfServiceInfo
    ) -> ConfigFlowResult:
        """Offer to pair with a home in the local network, or to set up this home first."""
        if (found := read_service(discovery_info.properties)) is None:
            return self.async_abort(reason="no_home")
        self._home, name = found
        self._call(name)
        if not self._async_current_entries(include_ignore=False):
            await self.async_set_unique_id(DOMAIN)
            # A user who ignored PeMuS is not offered it again for the next home in the network.
            self._abort_if_unique_id_configured()
            return await self.async_step_zeroconf_setup()
        own = self._own
        if not own.configuration.config.lan_visible:
            return self.async_abort(reason="not_visible")
        if (peers := own.coordinator.data.peers) is None:
            return self.async_abort(reason="not_loaded")
        if peers.id == self._home:
            return self.async_abort(reason="own_home")
        if find_friend(own.entry, self._home) is not None:
            return self.async_abort(reason="already_friend")
        await self.async_set_unique_id(self._home)
        self._abort_if_unique_id_configured()
        pairings = own.pairings
        if not pairings.may_offer(self._home) or pairings.dialogs.exists(
            self._home, but=self.flow_id
        ):
            return self.async_abort(reason="asked_already")
        # Resume a pairing that was started before a restart.
        match pairings.step(self._home):
            case Step.WAITING:
                return await self.async_step_waiting()
            case Step.COMPARING:
                return await self.async_step_compare()
        return await self.async_step_zeroconf_confirm()

    async def async_step_zeroconf_setup(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Offer to set up this home, because there is another home to pair with."""
        if user_input is not None:
            return await self.async_step_user()
        return self.async_show_form(
            step_id="zeroconf_setup", description_placeholders=self._placeholders
        )

    async def async_step_zeroconf_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Offer to pair, and send the request."""
        errors: dict[str, str] = {}
        error = ""
        if user_input is not None:
            try:
                await self._own.pairings.async_request(
                    self._home, Terms(), trusted=False, flow_id=self.flow_id
                )
            except (EngineError, EngineUnavailable) as err:
                errors["base"], error = refusal(err)
            else:
                return await self.async_step_waiting()
        return self.async_show_form(
            step_id=STEP_OFFER,
            errors=errors,
            description_placeholders=self._placeholders | {"error": error},
        )

    async def async_step_waiting(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Wait until both homes can show the words."""
        return self._wait("waiting", Step.WAITING)

    async def async_step_compare(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask whether the other home shows the same words."""
        return self._ask("compare", ["shares", "differ"])

    async def async_step_differ(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Decline a home that shows different words."""
        return await self._deny("words_differ")

    # A request without a dialog

    @override
    async def async_step_integration_discovery(
        self, discovery_info: DiscoveryInfoType
    ) -> ConfigFlowResult:
        """Show a request of another home, or the words of a request that this home sent."""
        self._home = discovery_info["home"]
        await self.async_set_unique_id(request_id(self._home))
        self._abort_if_unique_id_configured()
        pairings = self._own.pairings
        pairing = pairings.pairing(self._home)
        if pairing is None or pairings.step(self._home) is not Step.COMPARING:
            return self.async_abort(reason=Step.OVER)
        if pairings.dialogs.exists(self._home, but=self.flow_id):
            return self.async_abort(reason="asked_already")
        self._call(pairing.name)
        if pairing.incoming:
            return await self.async_step_incoming()
        return await self.async_step_compare()

    # An incoming request

    async def async_step_incoming(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the other home and the words."""
        return self._ask("incoming", ["shares", "deny", "block"])

    async def async_step_deny(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Decline the request."""
        return await self._deny("denied_here")

    async def async_step_block(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Decline the request, and block the home."""
        return await self._deny("blocked_here", block=True)

    # Common steps

    async def async_step_shares(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the terms, and confirm."""
        own = self._own
        if (step := own.pairings.step(self._home)) is Step.CONFIRMED:
            # The request was confirmed elsewhere.
            return await self.async_step_finishing()
        if step is not Step.COMPARING:
            return self._end(step)
        pairing = own.pairings.pairing(self._home)
        if pairing is not None and pairing.words != self._words:
            # A new request of the same home: its words have not been compared.
            if pairing.incoming:
                return await self.async_step_incoming()
            return await self.async_step_compare()
        errors: dict[str, str] = {}
        error = ""
        if user_input is not None:
            terms = Terms.of(user_input)
            errors = errors_of({CONF_UPLOAD_LIMIT: terms.upload_limit})
            if not errors:
                try:
                    await own.pairings.async_accept(
                        self._home, terms, self.flow_id, self._words
                    )
                except (EngineError, EngineUnavailable) as err:
                    if is_over(err):
                        return self._end(Step.OVER)
                    errors["base"], error = refusal(err)
                else:
                    return await self.async_step_finishing()
        return self.async_show_form(
            step_id="shares",
            data_schema=self.add_suggested_values_to_schema(
                terms_schema(own.entry), user_input
            ),
            errors=errors,
            description_placeholders=self._placeholders | {"error": error},
        )

    async def async_step_finishing(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Wait until the other home has confirmed as well."""
        return self._wait("finishing", Step.COMPARING, Step.CONFIRMED)

    async def async_step_end(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show how the pairing ended."""
        return self._end(self._ended)

    # Helpers

    @property
    @override
    def _flow_manager(self) -> ConfigEntriesFlowManager:
        return self.hass.config_entries.flow

    @property
    @override
    def _placeholders(self) -> dict[str, str]:
        placeholders = {"name": self._name, "id": grouped(self._home)}
        own = async_find_home(self.hass)
        if own and (pairing := own.pairings.pairing(self._home)):
            placeholders["words"] = as_markdown(" ".join(pairing.words))
            placeholders["origin"] = as_markdown(pairing.origin) or "-"
        return placeholders

    @callback
    def _call(self, name: str) -> None:
        """Set the name of the other home, escaped for Markdown."""
        self._name = as_markdown(name) or short(self._home)
        # Names are not unique, so the title also has the beginning of the ID.
        title = " · ".join(filter(None, (clean_name(name), short(self._home))))
        self.context["title_placeholders"] = {"name": title}

    @callback
    def _ask(self, step_id: str, answers: list[str]) -> ConfigFlowResult:
        """Show the words and a menu of answers, unless the pairing has ended."""
        step = self._own.pairings.step(self._home)
        # Home Assistant may run this step again after the user has answered.
        if step not in {Step.COMPARING, Step.CONFIRMED}:
            return self._end(step)
        if (pairing := self._own.pairings.pairing(self._home)) is not None:
            self._words = pairing.words
        return self.async_show_menu(
            step_id=step_id,
            menu_options=answers,
            description_placeholders=self._placeholders,
        )

    async def _deny(self, reason: str, *, block: bool = False) -> ConfigFlowResult:
        try:
            await self._own.pairings.async_deny(
                self._home, block=block, flow_id=self.flow_id
            )
        except (EngineError, EngineUnavailable) as err:
            reason = Step.OVER if is_over(err) else "engine_unavailable"
        return self._abort(reason)

    @callback
    def _end(self, step: Step) -> ConfigFlowResult:
        return self._abort(step if step in ENDS else Step.OVER)

    @callback
    def _abort(self, reason: str) -> ConfigFlowResult:
        return self.async_abort(
            reason=reason, description_placeholders={"name": self._name}
        )
