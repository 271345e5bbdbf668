"""The repairs that PeMuS can try itself: having its engine installed and started again."""

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
import voluptuous as vol

from .supervisor import DATA_ENGINE


async def async_create_fix_flow(
    hass: HomeAssistant, issue_id: str, data: dict[str, str | int | float | None] | None
) -> RepairsFlow:
    """Return the flow for any of the engine's issues: each is mended by trying again."""
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
