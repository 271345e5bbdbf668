"""Changing the options, in one form with a section for each thing that one may want to change."""

from typing import Any, Final

from homeassistant.config_entries import ConfigFlowResult, OptionsFlow
from homeassistant.const import CONF_PORT, UnitOfDataRate, UnitOfInformation, UnitOfTime
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
)
import voluptuous as vol

from .const import (
    CONF_ACTIVE_SEEDS,
    CONF_CACHE_QUOTA,
    CONF_CACHE_RESERVE,
    CONF_CONNECTIONS,
    CONF_DOWNLOAD_LIMIT,
    CONF_LAN_EXEMPT,
    CONF_PORT_MAPPING,
    CONF_RESCAN_INTERVAL,
    CONF_UPLOAD_LIMIT,
    DEFAULT_RESCAN_INTERVAL,
)
from .options import DEFAULTS, MAX_RATE, MIN_RATE, NO_LIMIT, is_port, is_rate

ERROR_PORT: Final = "reserved_port"
ERROR_RATE: Final = "rate_too_low"


def _number(
    least: float, most: float, unit: str | None = None, step: float = 1
) -> NumberSelector:
    """Return a box for a number."""
    config = NumberSelectorConfig(
        min=least, max=most, step=step, mode=NumberSelectorMode.BOX
    )
    if unit is not None:
        config["unit_of_measurement"] = unit
    return NumberSelector(config)


def _whole(least: int, most: int, unit: str | None = None) -> vol.All:
    """Return a box for a whole number."""
    return vol.All(_number(least, most, unit), vol.Coerce(int))


RATE_SELECTOR: Final = _number(
    NO_LIMIT, MAX_RATE, UnitOfDataRate.MEGABITS_PER_SECOND, step=MIN_RATE
)

_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "rates": {
        CONF_UPLOAD_LIMIT: RATE_SELECTOR,
        CONF_DOWNLOAD_LIMIT: RATE_SELECTOR,
        CONF_LAN_EXEMPT: BooleanSelector(),
    },
    "cache": {
        CONF_CACHE_QUOTA: _number(1, 100_000, UnitOfInformation.GIGABYTES),
        CONF_CACHE_RESERVE: _number(1, 10_000, UnitOfInformation.GIGABYTES),
    },
    "network": {
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
                # Most homes never need to look at it.
                {"collapsed": name == "network"},
            )
            for name, fields in _FIELDS.items()
        },
    }
)


class PemusOptionsFlow(OptionsFlow):
    """Change how the library is kept up to date, and what other homes may take."""

    async def async_step_init(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the options. The update listener of the entry applies what changed."""
        errors: dict[str, str] = {}
        if user_input is not None:
            options = _flat(user_input)
            if not errors_of(options):
                return self.async_create_entry(data=options)
            # A form has no place for an error of a field in a section.
            errors["base"] = next(iter(errors_of(options).values()))
        return self.async_show_form(
            step_id="init",
            data_schema=self.add_suggested_values_to_schema(
                OPTIONS_SCHEMA, user_input or _in_sections(self.config_entry.options)
            ),
            errors=errors,
        )


def errors_of(options: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with options that lie within the bounds of their fields."""
    errors = {
        key: ERROR_RATE
        for key in (CONF_UPLOAD_LIMIT, CONF_DOWNLOAD_LIMIT)
        if not is_rate(options.get(key, NO_LIMIT))
    }
    if not is_port(options.get(CONF_PORT, 0)):
        errors[CONF_PORT] = ERROR_PORT
    return errors


def _flat(user_input: dict[str, Any]) -> dict[str, Any]:
    """Return the options as they are kept: the sections are only of the form."""
    options: dict[str, Any] = {}
    for key, value in user_input.items():
        options |= value if key in _FIELDS else {key: value}
    return options


def _in_sections(options: Any) -> dict[str, Any]:
    """Return the options as the form shows them."""
    return {
        CONF_RESCAN_INTERVAL: options.get(
            CONF_RESCAN_INTERVAL, DEFAULT_RESCAN_INTERVAL
        ),
        **{
            name: {key: options.get(key, DEFAULTS[key]) for key in fields}
            for name, fields in _FIELDS.items()
        },
    }
