"""Dialogs with homes that come by themselves: who is in the local network, and who asks to become a friend.

They are config flows, because nothing else is shown among the discovered devices; none of them makes a config entry.
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
from custom_components.pemus.friends.lan import read_service
from custom_components.pemus.friends.pairings import (
    STEP_END,
    STEP_OFFER,
    Step,
    request_id,
)
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
    """The steps about other homes."""

    next_steps = NEXT_STEPS

    _name = ""
    _words: tuple[str, ...] | None = None
    """Those that the user was shown."""

    # A home in the local network

    @override
    async def async_step_zeroconf(
        self, discovery_info: ZeroconfServiceInfo
    ) -> ConfigFlowResult:
        """Offer to pair with a home that the local network shows, or to set up this one first."""
        if (found := read_service(discovery_info.properties)) is None:
            return self.async_abort(reason="no_home")
        self._home, name = found
        self._call(name)
        if not self._async_current_entries(include_ignore=False):
            await self.async_set_unique_id(DOMAIN)
            # Who set PeMuS aside is not offered it again by the next home in the network.
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
        if not pairings.may_offer(self._home) or pairings.has_dialog(
            self._home, but=self.flow_id
        ):
            return self.async_abort(reason="asked_already")
        # What was begun before a restart goes on where it was.
        match pairings.step(self._home):
            case Step.WAITING:
                return await self.async_step_waiting()
            case Step.COMPARING:
                return await self.async_step_compare()
        return await self.async_step_zeroconf_confirm()

    async def async_step_zeroconf_setup(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Offer to set up this home, because there is another one to pair with."""
        if user_input is not None:
            return await self.async_step_user()
        return self.async_show_form(
            step_id="zeroconf_setup", description_placeholders=self._placeholders
        )

    async def async_step_zeroconf_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Offer to pair, and ask the other home."""
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
        """Wait until both homes know the words."""
        return self._wait("waiting", Step.WAITING)

    async def async_step_compare(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask whether the other home shows the same words: nothing else tells whether it is the right one."""
        return self._ask("compare", ["shares", "differ"])

    async def async_step_differ(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Do not pair with who shows other words."""
        return await self._deny("words_differ")

    # What became known while no dialog was there

    @override
    async def async_step_integration_discovery(
        self, discovery_info: DiscoveryInfoType
    ) -> ConfigFlowResult:
        """Show that another home asks to become a friend, or shows the words after this one asked it."""
        self._home = discovery_info["home"]
        await self.async_set_unique_id(request_id(self._home))
        self._abort_if_unique_id_configured()
        pairings = self._own.pairings
        pairing = pairings.pairing(self._home)
        if pairing is None or pairings.step(self._home) is not Step.COMPARING:
            return self.async_abort(reason=Step.OVER)
        if pairings.has_dialog(self._home, but=self.flow_id):
            return self.async_abort(reason="asked_already")
        self._call(pairing.name)
        if pairing.incoming:
            return await self.async_step_incoming()
        return await self.async_step_compare()

    # A home that asks

    async def async_step_incoming(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show who asks, and the words."""
        return self._ask("incoming", ["shares", "deny", "block"])

    async def async_step_deny(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Say no."""
        return await self._deny("denied_here")

    async def async_step_block(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Say no, also to whatever else that home will ask."""
        return await self._deny("blocked_here", block=True)

    # Both

    async def async_step_shares(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Say yes, and to what."""
        own = self._own
        if (step := own.pairings.step(self._home)) is Step.CONFIRMED:
            # Somebody said so elsewhere meanwhile.
            return await self.async_step_finishing()
        if step is not Step.COMPARING:
            return self._end(step)
        pairing = own.pairings.pairing(self._home)
        if pairing is not None and pairing.words != self._words:
            # The other home asked anew: nobody has compared these.
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
        """Wait until the other home says yes as well."""
        return self._wait("finishing", Step.COMPARING, Step.CONFIRMED)

    async def async_step_end(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Say how it ended."""
        return self._end(self._ended)

    # Inside

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
        """Call the other home by its name, which is shown as text whatever it contains."""
        self._name = as_markdown(name) or short(self._home)
        # Anybody may call himself like another, and many never chose a name.
        title = " · ".join(filter(None, (clean_name(name), short(self._home))))
        self.context["title_placeholders"] = {"name": title}

    @callback
    def _ask(self, step_id: str, answers: list[str]) -> ConfigFlowResult:
        """Show the words, and let the user choose, as long as there is something to choose."""
        step = self._own.pairings.step(self._home)
        # Home Assistant may run this once more when the user has said something already.
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
