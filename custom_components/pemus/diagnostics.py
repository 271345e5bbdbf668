"""What a bug report needs, without telling what this home watches: no names of files, folders or homes."""

import json
from typing import Any, Final

from homeassistant.components.diagnostics import async_redact_data
from homeassistant.core import HomeAssistant

from .client import EngineError, EngineUnavailable
from .coordinator import PemusConfigEntry
from .p2p.codec import encode
from .supervisor import Engine

TO_REDACT: Final = {
    "home_name",
    "message",
    "name",
    "owner",
    "owner_name",
    "path",
    "title",
    "unique_id",
}


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
            "transfers": await _transfers(engine),
        },
        TO_REDACT,
    )


async def _transfers(engine: Engine) -> Any:
    """Return what comes from other homes, None if the engine does not tell."""
    try:
        return _plain(await engine.client.remote())["items"]
    except EngineError, EngineUnavailable:
        return None


def _plain(value: object) -> Any:
    """Return a dataclass as dicts and lists: redaction does not look into anything else, tuples included."""
    return json.loads(encode(value))
