"""The options flow: settings, identity, signalling servers, open requests and blocked homes."""

from collections.abc import Awaitable, Callable, Iterable
import logging
from typing import Any, Final

from homeassistant.config_entries import ConfigEntryState, ConfigFlowResult, OptionsFlow
from homeassistant.const import CONF_PORT, UnitOfDataRate, UnitOfInformation, UnitOfTime
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    QrCodeSelector,
    QrCodeSelectorConfig,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
import voluptuous as vol

from custom_components.pemus.const import (
    CONF_ACTIVE_SEEDS,
    CONF_CACHE_QUOTA,
    CONF_CACHE_RESERVE,
    CONF_CONNECTIONS,
    CONF_DOWNLOAD_LIMIT,
    CONF_LAN_EXEMPT,
    CONF_LAN_VISIBLE,
    CONF_PORT_MAPPING,
    CONF_RESCAN_INTERVAL,
    CONF_SERVERS,
    CONF_UPLOAD_LIMIT,
    DEFAULT_RESCAN_INTERVAL,
)
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.friends.terms import (
    clean_name,
    friend_subentries,
    invitation,
)
from custom_components.pemus.options import (
    DEFAULTS,
    MAX_RATE,
    MIN_RATE,
    NO_LIMIT,
    is_port,
    is_rate,
)
from custom_components.pemus.p2p.models import Status
from custom_components.pemus.p2p.models.homes import PeersStatus
from custom_components.pemus.p2p.models.pemus_id import grouped
from custom_components.pemus.p2p.models.servers import server_url

FIELD_CONFIRM: Final = "confirm"
FIELD_TAKE_BACK: Final = "take_back"
FIELD_UNBLOCK: Final = "unblock"

MAX_SERVERS: Final = 10
"""The engine keeps a connection to each."""

ERROR_PORT: Final = "reserved_port"
ERROR_RATE: Final = "rate_too_low"


def number_selector(
    least: float, most: float, unit: str | None = None, step: float = 1
) -> NumberSelector:
    """Return a number field."""
    config = NumberSelectorConfig(
        min=least, max=most, step=step, mode=NumberSelectorMode.BOX
    )
    if unit is not None:
        config["unit_of_measurement"] = unit
    return NumberSelector(config)


def _whole(least: int, most: int, unit: str | None = None) -> vol.All:
    """Return a number field that accepts integers."""
    return vol.All(number_selector(least, most, unit), vol.Coerce(int))


RATE_SELECTOR: Final = number_selector(
    NO_LIMIT, MAX_RATE, UnitOfDataRate.MEGABITS_PER_SECOND, step=MIN_RATE
)

_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "rates": {
        CONF_UPLOAD_LIMIT: RATE_SELECTOR,
        CONF_DOWNLOAD_LIMIT: RATE_SELECTOR,
        CONF_LAN_EXEMPT: BooleanSelector(),
    },
    "cache": {
        CONF_CACHE_QUOTA: number_selector(1, 100_000, UnitOfInformation.GIGABYTES),
        CONF_CACHE_RESERVE: number_selector(1, 10_000, UnitOfInformation.GIGABYTES),
    },
    "network": {
        CONF_LAN_VISIBLE: BooleanSelector(),
        CONF_PORT: _whole(0, 65535),
        CONF_PORT_MAPPING: BooleanSelector(),
        CONF_CONNECTIONS: _whole(10, 2000),
        CONF_ACTIVE_SEEDS: _whole(1, 5000),
    },
}

OPTIONS_SCHEMA: Final = vol.Schema(
    {
        vol.Required(CONF_RESCAN_INTERVAL, default=DEFAULT_RESCAN_INTERVAL): _whole(
            5, 1440, UnitOfTime.MINUTES
        ),
        **{
            vol.Required(name): section(
                vol.Schema(
                    {
                        vol.Required(key, default=DEFAULTS[key]): field
                        for key, field in fields.items()
                    }
                ),
                # Most homes do not need to change it.
                {"collapsed": name == "network"},
            )
            for name, fields in _FIELDS.items()
        },
    }
)

SERVERS_SCHEMA: Final = vol.Schema(
    {
        vol.Optional(CONF_SERVERS): TextSelector(
            TextSelectorConfig(type=TextSelectorType.URL, multiple=True)
        )
    }
)

CONFIRM_SCHEMA: Final = vol.Schema(
    {vol.Required(FIELD_CONFIRM, default=False): BooleanSelector()}
)

_LOGGER = logging.getLogger(__name__)


class PemusOptionsFlow(OptionsFlow):
    """Change the settings, and manage the identity, servers, requests and blocked homes."""

    async def async_step_init(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the menu."""
        return self.async_show_menu(
            step_id="init",
            menu_options=[
                "settings",
                "identity",
                "servers",
                "requests",
                "blocked",
                "new_identity",
            ],
        )

    async def async_step_settings(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the settings. The update listener of the entry applies the changes."""
        errors: dict[str, str] = {}
        if user_input is not None:
            options = _flat(user_input)
            if not errors_of(options):
                return self._save(options)
            # A form cannot show errors of fields inside a section.
            errors["base"] = next(iter(errors_of(options).values()))
        return self.async_show_form(
            step_id="settings",
            data_schema=self.add_suggested_values_to_schema(
                OPTIONS_SCHEMA, user_input or _in_sections(self.config_entry.options)
            ),
            errors=errors,
        )

    async def async_step_identity(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show this home's PeMuS ID, and the invitation as text and QR code."""
        if (peers := self._peers()) is None:
            return self.async_abort(reason="no_peers")
        if user_input is not None:
            return await self.async_step_init()
        # Not the app: its address is valid on this machine only.
        entered = self.config_entry.options.get(CONF_SERVERS, ())
        link = invitation(
            peers.id, (each for each in peers.servers if each.url in entered)
        )
        code = QrCodeSelector(QrCodeSelectorConfig(data=link, scale=6))
        return self.async_show_form(
            step_id="identity",
            data_schema=vol.Schema({vol.Optional("code"): code}),
            description_placeholders={"id": grouped(peers.id), "link": link},
            last_step=False,
        )

    async def async_step_servers(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the addresses of signalling servers."""
        errors: dict[str, str] = {}
        error = ""
        if user_input is not None:
            try:
                urls = [
                    server_url(url)
                    for url in user_input.get(CONF_SERVERS, ())
                    if url.strip()
                ]
            except ValueError as err:
                errors[CONF_SERVERS], error = "bad_server", str(err)
            else:
                if len(urls) <= MAX_SERVERS:
                    return self._save({CONF_SERVERS: list(dict.fromkeys(urls))})
                errors[CONF_SERVERS] = "too_many_servers"
        return self.async_show_form(
            step_id="servers",
            data_schema=self.add_suggested_values_to_schema(
                SERVERS_SCHEMA, user_input or self.config_entry.options
            ),
            errors=errors,
            description_placeholders={"error": error, "most": str(MAX_SERVERS)},
        )

    async def async_step_requests(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show this home's open requests, and withdraw the selected ones."""
        if self._peers() is None:
            return self.async_abort(reason="no_peers")
        pairings = self.config_entry.runtime_data.pairings
        if user_input is not None:
            chosen = user_input.get(FIELD_TAKE_BACK, ())
            return await self._change(chosen, pairings.async_take_back)
        if not (requests := pairings.own_requests()):
            return self.async_abort(reason="no_requests")
        homes = [
            SelectOptionDict(
                value=request.home,
                label=" ".join(
                    (clean_name(request.name), grouped(request.home))
                ).strip(),
            )
            for request in requests
        ]
        return self._choose("requests", FIELD_TAKE_BACK, homes)

    async def async_step_blocked(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the blocked homes, and unblock the selected ones."""
        if (peers := self._peers()) is None:
            return self.async_abort(reason="no_peers")
        if not peers.blocked:
            return self.async_abort(reason="none_blocked")
        if user_input is not None:
            client = self.config_entry.runtime_data.engine.client
            chosen = user_input.get(FIELD_UNBLOCK, ())
            return await self._change(chosen, client.unblock)
        homes = [
            SelectOptionDict(value=home, label=grouped(home)) for home in peers.blocked
        ]
        return self._choose("blocked", FIELD_UNBLOCK, homes)

    def _choose(
        self, step_id: str, field: str, homes: list[SelectOptionDict]
    ) -> ConfigFlowResult:
        """Show a form to select any of the homes."""
        choice = SelectSelector(
            SelectSelectorConfig(
                options=homes, multiple=True, mode=SelectSelectorMode.LIST
            )
        )
        return self.async_show_form(
            step_id=step_id,
            data_schema=vol.Schema({vol.Optional(field, default=list): choice}),
            last_step=False,
        )

    async def _change(
        self, homes: Iterable[str], change: Callable[[str], Awaitable[object]]
    ) -> ConfigFlowResult:
        """Apply a change to the selected homes. Homes that the engine refuses are skipped."""
        for home in homes:
            try:
                await change(home)
            except EngineUnavailable:
                return self.async_abort(reason="engine_unavailable")
            except EngineError as err:
                _LOGGER.debug("The engine refused a change of %s: %s", home, err)
        return await self.async_step_init()

    async def async_step_new_identity(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for confirmation, and create a new identity."""
        if (peers := self._peers()) is None:
            return self.async_abort(reason="no_peers")
        errors: dict[str, str] = {}
        if user_input is not None:
            if not user_input[FIELD_CONFIRM]:
                errors[FIELD_CONFIRM] = "not_confirmed"
            else:
                try:
                    home = await self.config_entry.runtime_data.async_renew_identity()
                except EngineError, EngineUnavailable:
                    return self.async_abort(reason="engine_unavailable")
                return self.async_abort(
                    reason="identity_renewed",
                    description_placeholders={"id": grouped(home)},
                )
        return self.async_show_form(
            step_id="new_identity",
            data_schema=CONFIRM_SCHEMA,
            errors=errors,
            description_placeholders={
                "id": grouped(peers.id),
                "friends": str(len(friend_subentries(self.config_entry))),
            },
        )

    def _peers(self) -> PeersStatus | None:
        """Return the engine's status of other homes, or None if there is none."""
        if self.config_entry.state is not ConfigEntryState.LOADED:
            return None
        status: Status = self.config_entry.runtime_data.coordinator.data
        return status.peers

    def _save(self, changes: dict[str, Any]) -> ConfigFlowResult:
        """Save the changed options and keep the others."""
        return self.async_create_entry(data={**self.config_entry.options, **changes})


def errors_of(options: dict[str, Any]) -> dict[str, str]:
    """Return the errors that the fields' own bounds do not catch, by field."""
    errors = {
        key: ERROR_RATE
        for key in (CONF_UPLOAD_LIMIT, CONF_DOWNLOAD_LIMIT)
        if not is_rate(options.get(key, NO_LIMIT))
    }
    if not is_port(options.get(CONF_PORT, 0)):
        errors[CONF_PORT] = ERROR_PORT
    return errors


def _flat(user_input: dict[str, Any]) -> dict[str, Any]:
    """Return the options without sections, as they are stored."""
    options: dict[str, Any] = {}
    for key, value in user_input.items():
        options |= value if key in _FIELDS else {key: value}
    return options


def _in_sections(options: Any) -> dict[str, Any]:
    """Return the options in the sections of the form."""
    return {
        CONF_RESCAN_INTERVAL: options.get(
            CONF_RESCAN_INTERVAL, DEFAULT_RESCAN_INTERVAL
        ),
        **{
            name: {key: options.get(key, DEFAULTS[key]) for key in fields}
            for name, fields in _FIELDS.items()
        },
    }
