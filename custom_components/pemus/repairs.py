"""Repair flows: installing the engine's environment again, and resolving identity problems."""

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
    """Return the repair flow of an issue."""
    if issue_id == ISSUE_IDENTITY:
        return IdentityFlow()
    if issue_id == ProblemKey.IDENTITY_LOST:
        return LostIdentityFlow()
    return TryAgainFlow()


class TryAgainFlow(RepairsFlow):
    """Retry the installation in the background. It can take minutes. If it fails, the issue is created again."""

    async def async_step_init(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Begin."""
        return await self.async_step_confirm()

    async def async_step_confirm(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Ask for confirmation, and retry."""
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
        """Return the issue's placeholders with a translated reason, because the issue stores it in English."""
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
    """Resolve that two homes use the same identity: keep it, or create a new one."""

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
        """Keep the identity."""
        return await self._do(self._keep)

    async def async_step_new_identity(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Ask for confirmation, and create a new identity."""
        if user_input is None:
            return self.async_show_form(
                step_id="new_identity", data_schema=vol.Schema({})
            )
        return await self._do(Home.async_renew_identity)

    async def _keep(self, home: Home) -> None:
        """Reconnect with the current identity. If the other home is still running, the issue is created again."""
        await home.engine.client.network_changed()

    async def _do(
        self, repair: Callable[[Home], Awaitable[object]]
    ) -> RepairsFlowResult:
        """Run the selected repair. If it fails, the issue stays."""
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
    """Resolve a lost identity: load the restored key, or create a new identity."""

    @override
    async def _keep(self, home: Home) -> None:
        """Load the restored key."""
        await home.engine.client.restore_identity()
