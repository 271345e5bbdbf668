"""The repairs that PeMuS can do itself: having its engine installed again, and going on with an identity or a new one."""

from collections.abc import Awaitable, Callable
from typing import override

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.translation import async_get_translations
import voluptuous as vol

from .const import DOMAIN
from .engine.client import EngineError, EngineUnavailable
from .engine.process import DATA_ENGINE
from .engine.provision import PROVISION_TIMEOUT
from .home import Home, async_get_home
from .issues import ISSUE_IDENTITY
from .p2p.models import ProblemKey


async def async_create_fix_flow(
    hass: HomeAssistant, issue_id: str, data: dict[str, str | int | float | None] | None
) -> RepairsFlow:
    """Return the flow for an issue."""
    if issue_id == ISSUE_IDENTITY:
        return IdentityFlow()
    if issue_id == ProblemKey.IDENTITY_LOST:
        return LostIdentityFlow()
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
            description_placeholders=await self._placeholders(issue),
        )

    async def _placeholders(self, issue: ir.IssueEntry | None) -> dict[str, str]:
        """Return what the issue says, and why in the language of this home: an issue itself holds plain English."""
        placeholders = dict((issue and issue.translation_placeholders) or {})
        engine = self.hass.data.get(DATA_ENGINE)
        if engine is None or (limited := engine.limited) is None:
            return placeholders
        texts = await async_get_translations(
            self.hass, self.hass.config.language, "common", {DOMAIN}
        )
        prefix = f"component.{DOMAIN}.common.limit"
        reason = texts[f"{prefix}_{limited.limit}"].format(
            minutes=PROVISION_TIMEOUT // 60
        )
        if limited.hosts:
            hosts = texts[f"{prefix}_hosts"].format(hosts=", ".join(limited.hosts))
            reason = f"{reason} {hosts}"
        return placeholders | {"reason": reason, "detail": limited.detail}


class IdentityFlow(RepairsFlow):
    """Ask which of two homes with one identity this is: a copy that shall become a home of its own, or the right one."""

    async def async_step_init(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Begin."""
        return self.async_show_menu(
            step_id="init",
            menu_options=["try_again", "new_identity"],
            description_placeholders=self._placeholders,
        )

    async def async_step_try_again(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Go on with the identity that this home had."""
        return await self._do(self._keep)

    async def async_step_new_identity(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Become a home of its own, once it is clear what that means."""
        if user_input is None:
            return self.async_show_form(
                step_id="new_identity", data_schema=vol.Schema({})
            )
        return await self._do(Home.async_renew_identity)

    async def _keep(self, home: Home) -> None:
        """Try to be reached again: the copy was switched off. If it was not, the issue comes back."""
        await home.engine.client.network_changed()

    async def _do(
        self, repair: Callable[[Home], Awaitable[object]]
    ) -> RepairsFlowResult:
        """Do what was chosen; as long as that cannot be done, the issue stays."""
        if (home := async_get_home(self.hass)) is None:
            return self.async_abort(reason="not_loaded")
        try:
            await repair(home)
        except EngineUnavailable:
            return self.async_abort(reason="engine_unavailable")
        except EngineError as err:
            return self.async_abort(
                reason="refused", description_placeholders={"error": err.message}
            )
        return self.async_create_entry(data={})

    @property
    def _placeholders(self) -> dict[str, str] | None:
        issue = ir.async_get(self.hass).async_get_issue(self.handler, self.issue_id)
        return issue.translation_placeholders if issue else None


class LostIdentityFlow(IdentityFlow):
    """Ask whether this home's key was brought back, or this home shall become another one."""

    @override
    async def _keep(self, home: Home) -> None:
        """Read the key again. If it is not there, the engine says so."""
        await home.engine.client.restore_identity()
