"""What a bug report needs, without telling what this home watches: no names of files, folders or the home."""

import json
from typing import Any, Final

from homeassistant.components.diagnostics import async_redact_data
from homeassistant.core import HomeAssistant

from .coordinator import PemusConfigEntry
from .p2p.codec import encode

TO_REDACT: Final = {"home_name", "name", "path", "title", "unique_id"}


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant, entry: PemusConfigEntry
) -> dict[str, Any]:
    """Return the configuration and the last state of the engine."""
    coordinator = entry.runtime_data
    engine = coordinator.engine
    return async_redact_data(
        {
            "entry": entry.as_dict(),
            "config": _plain(coordinator.config),
            "engine": {
                "state": engine.state,
                "limited": None if engine.limited is None else _plain(engine.limited),
                "status": None if engine.status is None else _plain(engine.status),
            },
        },
        TO_REDACT,
    )


def _plain(value: object) -> Any:
    """Return a dataclass as dicts and lists: redaction does not look into anything else, tuples included."""
    return json.loads(encode(value))
