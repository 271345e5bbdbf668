"""The repairs that PeMuS can do itself: having its engine installed again, and parting with a copy of this home."""

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
import voluptuous as vol

from .client import EngineError, EngineUnavailable
from .coordinator import ISSUE_IDENTITY, async_get_coordinator
from .supervisor import DATA_ENGINE


async def async_create_fix_flow(
    hass: HomeAssistant, issue_id: str, data: dict[str, str | int | float | None] | None
) -> RepairsFlow:
    """Return the flow for an issue."""
    if issue_id == ISSUE_IDENTITY:
        return IdentityFlow()
    return TryAgainFlow()


class TryAgainFlow(RepairsFlow):
    """Ask, and try again in the background, which may take minutes. If it fails, the issue comes back."""

    async def async_step_init(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Begin."""
        return await self.async_step_confirm()

    async def async_step_confirm(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Ask whether to try again."""
        if user_input is not None:
            if (engine := self.hass.data.get(DATA_ENGINE)) is not None:
                await engine.async_provision_again()
            return self.async_create_entry(data={})
        issue = ir.async_get(self.hass).async_get_issue(self.handler, self.issue_id)
        return self.async_show_form(
            step_id="confirm",
            data_schema=vol.Schema({}),
            description_placeholders=issue.translation_placeholders if issue else None,
        )


class IdentityFlow(RepairsFlow):
    """Ask which of two homes with one identity this is: a copy that shall become a home of its own, or the right one."""

    async def async_step_init(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Begin."""
        return self.async_show_menu(
            step_id="init", menu_options=["try_again", "new_identity"]
        )

    async def async_step_try_again(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Try to be reached again: the copy was switched off. If it was not, the issue comes back."""
        if (coordinator := async_get_coordinator(self.hass)) is None:
            return self.async_abort(reason="not_loaded")
        try:
            await coordinator.engine.client.network_changed()
        except EngineError, EngineUnavailable:
            return self.async_abort(reason="engine_unavailable")
        return self.async_create_entry(data={})

    async def async_step_new_identity(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Become a home of its own, once it is clear what that means."""
        if user_input is None:
            return self.async_show_form(
                step_id="new_identity", data_schema=vol.Schema({})
            )
        if (coordinator := async_get_coordinator(self.hass)) is None:
            return self.async_abort(reason="not_loaded")
        try:
            await coordinator.async_renew_identity()
        except EngineError, EngineUnavailable:
            return self.async_abort(reason="engine_unavailable")
        return self.async_create_entry(data={})
