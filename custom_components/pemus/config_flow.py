"""The config flow of a home, and the subentry flow of its shares. See `flows` for friends, pairings and options."""

from typing import Any, override

from homeassistant.config_entries import (
    SOURCE_USER,
    ConfigFlowResult,
    ConfigSubentry,
    ConfigSubentryFlow,
    FlowType,
    OptionsFlow,
    SubentryFlowContext,
    SubentryFlowResult,
)
from homeassistant.const import CONF_HOST, CONF_NAME, CONF_PATH, CONF_PORT, CONF_SSL
from homeassistant.core import callback
from homeassistant.helpers.selector import (
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)
from homeassistant.helpers.service_info.hassio import HassioServiceInfo
import voluptuous as vol

from .const import (
    CONF_KINDS,
    CONF_SIGNALING_APP,
    CONF_UPLOAD_LIMIT,
    DOMAIN,
    SUBENTRY_FRIEND,
    SUBENTRY_ROOM,
    SUBENTRY_SHARE,
)
from .flows.friend import FriendFlow
from .flows.options import RATE_SELECTOR, PemusOptionsFlow, errors_of
from .flows.pairing import PairingFlow
from .flows.room import RoomFlow
from .home import PemusConfigEntry
from .options import DEFAULTS
from .p2p.models import Kind
from .shares import FolderRefused, async_check_folder, share_subentries

HOME_SCHEMA = vol.Schema({vol.Required(CONF_NAME): TextSelector()})

SETUP_SCHEMA = HOME_SCHEMA.extend(
    {
        # An empty field also means the default, so that nobody shares without a limit by accident.
        vol.Optional(
            CONF_UPLOAD_LIMIT, default=DEFAULTS[CONF_UPLOAD_LIMIT]
        ): RATE_SELECTOR
    }
)


# The discovery information that the signalling app sends through the Supervisor.
APP_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_HOST): vol.All(str, vol.Match(r"^[A-Za-z0-9.:_-]+$")),
        vol.Required(CONF_PORT): vol.All(int, vol.Range(1, 65535)),
        vol.Optional(CONF_PATH, default="/"): vol.All(str, vol.Match(r"^/")),
        vol.Optional(CONF_SSL, default=False): bool,
        vol.Optional("origin", default=None): vol.Any(
            None, vol.All(str, vol.Match(r"^https?://[^/]+$"))
        ),
    },
    extra=vol.ALLOW_EXTRA,
)


class PemusConfigFlow(PairingFlow, domain=DOMAIN):
    """Set up this home. There is one home per Home Assistant."""

    _signaling_app: str | None = None

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: PemusConfigEntry) -> OptionsFlow:
        """Return the options flow."""
        return PemusOptionsFlow()

    @classmethod
    @callback
    @override
    def async_get_supported_subentry_types(
        cls, config_entry: PemusConfigEntry
    ) -> dict[str, type[ConfigSubentryFlow]]:
        """Return the subentry flows of shares, friends and rooms."""
        return {
            SUBENTRY_SHARE: ShareFlow,
            SUBENTRY_FRIEND: FriendFlow,
            SUBENTRY_ROOM: RoomFlow,
        }

    @override
    async def async_step_user(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the name of the home and the upload limit."""
        # The manifest does not have single_config_entry, because that would also abort the discovery of other homes.
        # A manual set-up continues even if a discovery flow is open.
        await self.async_set_unique_id(DOMAIN, raise_on_progress=False)
        self._abort_if_unique_id_configured()
        errors: dict[str, str] = {}
        if user_input is not None:
            limit = user_input.get(CONF_UPLOAD_LIMIT, DEFAULTS[CONF_UPLOAD_LIMIT])
            options = {CONF_UPLOAD_LIMIT: limit}
            errors = errors_of(options)
            if not (name := user_input[CONF_NAME].strip()):
                errors[CONF_NAME] = "no_name"
            if not errors:
                data = {}
                if self._signaling_app is not None:
                    data[CONF_SIGNALING_APP] = self._signaling_app
                return self.async_create_entry(title=name, data=data, options=options)
        return self.async_show_form(
            step_id="user",
            data_schema=self.add_suggested_values_to_schema(
                SETUP_SCHEMA, user_input or {CONF_NAME: self.hass.config.location_name}
            ),
            errors=errors,
        )

    @override
    async def async_step_hassio(
        self, discovery_info: HassioServiceInfo
    ) -> ConfigFlowResult:
        """Store the URL of the signalling app on this Home Assistant."""
        try:
            app = APP_SCHEMA(discovery_info.config)
        except vol.Invalid:
            return self.async_abort(reason="invalid_discovery")
        scheme = "https" if app[CONF_SSL] else "http"
        origin = app["origin"] or f"{scheme}://{app[CONF_HOST]}:{app[CONF_PORT]}"
        self._signaling_app = origin + app[CONF_PATH]
        await self.async_set_unique_id(DOMAIN)
        self._abort_if_unique_id_configured(
            updates={CONF_SIGNALING_APP: self._signaling_app}, reload_on_update=False
        )
        return await self.async_step_hassio_confirm()

    async def async_step_hassio_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Offer to set up this home, because the signalling app is installed."""
        if user_input is not None:
            return await self.async_step_user()
        self._set_confirm_only()
        return self.async_show_form(step_id="hassio_confirm")

    @override
    async def async_on_create_entry(self, result: ConfigFlowResult) -> ConfigFlowResult:
        """Continue with the flow for the first shared folder."""
        flow = await self.hass.config_entries.subentries.async_init(
            (result["result"].entry_id, SUBENTRY_SHARE),
            context=SubentryFlowContext(source=SOURCE_USER),
        )
        result["next_flow"] = (FlowType.CONFIG_SUBENTRIES_FLOW, flow["flow_id"])
        return result

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Rename the home."""
        entry = self._get_reconfigure_entry()
        errors: dict[str, str] = {}
        if user_input is not None:
            if name := user_input[CONF_NAME].strip():
                return self.async_update_and_abort(entry, title=name)
            errors[CONF_NAME] = "no_name"
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=self.add_suggested_values_to_schema(
                HOME_SCHEMA, user_input or {CONF_NAME: entry.title}
            ),
            errors=errors,
        )


class ShareFlow(ConfigSubentryFlow):
    """Share a folder, or edit a share."""

    async def async_step_user(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Share a folder."""
        return await self._async_step("user", None, user_input)

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Edit a shared folder."""
        return await self._async_step(
            "reconfigure", self._get_reconfigure_subentry(), user_input
        )

    async def _async_step(
        self,
        step_id: str,
        share: ConfigSubentry | None,
        user_input: dict[str, Any] | None,
    ) -> SubentryFlowResult:
        """Ask for a folder until it can be shared. `share`: the share to edit, or None for a new one."""
        others = [
            other
            for other in share_subentries(self._get_entry())
            if share is None or other.subentry_id != share.subentry_id
        ]
        errors: dict[str, str] = {}
        in_the_way = ""
        if user_input is not None:
            path = user_input[CONF_PATH].strip()
            kinds = [kind.value for kind in Kind if kind in user_input[CONF_KINDS]]
            if not kinds:
                errors[CONF_KINDS] = "no_kinds"
            try:
                real = await async_check_folder(self.hass, path, others)
            except FolderRefused as refused:
                errors[CONF_PATH] = refused.reason
                in_the_way = refused.share
            else:
                name = user_input.get(CONF_NAME, "").strip() or real.name
                if name.casefold() in {other.title.casefold() for other in others}:
                    errors[CONF_NAME] = "name_taken"
                if not errors:
                    # The real path, so that a changed symbolic link does not share a different folder.
                    return self._async_save(
                        share, name, {CONF_PATH: str(real), CONF_KINDS: kinds}
                    )
        return self.async_show_form(
            step_id=step_id,
            data_schema=self.add_suggested_values_to_schema(
                self._schema(others), user_input or _shown(share)
            ),
            errors=errors,
            description_placeholders={"share": in_the_way},
        )

    @callback
    def _async_save(
        self, share: ConfigSubentry | None, name: str, data: dict[str, Any]
    ) -> SubentryFlowResult:
        """Save the share. The update listener of the entry sends it to the engine."""
        unique_id = data[CONF_PATH]
        if share is None:
            return self.async_create_entry(title=name, data=data, unique_id=unique_id)
        return self.async_update_and_abort(
            self._get_entry(), share, title=name, data=data, unique_id=unique_id
        )

    def _schema(self, others: list[ConfigSubentry]) -> vol.Schema:
        """Return the form, with Home Assistant's media folders as suggestions."""
        shared = {other.data[CONF_PATH] for other in others}
        folders = [
            folder
            for folder in self.hass.config.media_dirs.values()
            if folder not in shared
        ]
        return vol.Schema(
            {
                vol.Required(CONF_PATH): SelectSelector(
                    SelectSelectorConfig(
                        options=folders,
                        custom_value=True,
                        mode=SelectSelectorMode.DROPDOWN,
                    )
                ),
                vol.Optional(CONF_NAME): TextSelector(),
                vol.Required(CONF_KINDS, default=list(Kind)): SelectSelector(
                    SelectSelectorConfig(
                        options=list(Kind),
                        multiple=True,
                        mode=SelectSelectorMode.LIST,
                        translation_key=CONF_KINDS,
                    )
                ),
            }
        )


def _shown(share: ConfigSubentry | None) -> dict[str, Any]:
    """Return the initial values of the form."""
    return {} if share is None else {**share.data, CONF_NAME: share.title}
