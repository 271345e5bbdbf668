"""Diagnostics without names, PeMuS IDs, addresses and paths."""

from collections.abc import Iterable, Mapping
import json
import re
from typing import Any, Final, cast

from homeassistant.components.diagnostics import async_redact_data
from homeassistant.core import HomeAssistant

from .engine.client import EngineError, EngineUnavailable
from .engine.process import Engine
from .engine.provision import LimitedReason
from .home import PemusConfigEntry
from .p2p.models import Status
from .p2p.models.codec import encode
from .p2p.models.homes import ID_ALPHABET, ID_LENGTH

TO_REDACT: Final = {
    # Contains the service names of other homes in the local network.
    "discovery_keys",
    "password",
    "secret",
    "home_name",
    "message",
    "name",
    "note",
    "origin",
    "owner",
    "owner_name",
    "path",
    "servers",
    "signaling_app",
    "title",
    "unique_id",
    "url",
    "words",
}
_ID: Final = re.compile(
    rf"(?<![0-9A-Z])(?:[{ID_ALPHABET}]-?){{{ID_LENGTH - 1}}}[{ID_ALPHABET}](?![0-9A-Z])",
    re.IGNORECASE | re.ASCII,
)
"""A PeMuS ID, with or without dashes, in upper or lower case."""
_QUOTED_PATH: Final = re.compile(
    r"(?P<quote>['\"`])(?:~|\.{0,2})/(?:\\.|(?!(?P=quote))[^\n\\])*(?P=quote)"
)
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
"""Up to the next space, because a password can contain any other character."""
_CREDENTIALS: Final = re.compile(r"[^\s:]+:\S+@[\w.\[\]:-]+")
"""User name, password, and host, without a scheme."""
_NUMERIC_HOST: Final = re.compile(
    r"""
    (?<![\w.:])
    (?: \d{1,3} (?:\.\d{1,3}){3}
      | \[ [0-9a-f:.]*:[0-9a-f:.]* (?:%\w+)? \]
      | (?: (?:[0-9a-f]{1,4}:){7} [0-9a-f]{1,4} | [0-9a-f:]*::[0-9a-f:.]* ) (?:%\w+)?
    )
    (?::\d+)? (?![\w.:]*\w)
    """,
    re.IGNORECASE | re.ASCII | re.VERBOSE,
)
_HOST: Final = re.compile(
    r"(?P<before>['\"`]|\b(?:for|name)\s+)(?:[\w-]+\.)+[^\W\d_][\w-]*\.?(?::\d+)?",
    re.IGNORECASE,
)
"""A host name in the output of such programs. Unlike a version, it does not end with a number."""
_PATH: Final = re.compile(r"(?<![\w./])(?:~|\.{0,2})(?:/[^\s'\"`:,;()<>]+)+")
REMOVED_URL: Final = "**ADDRESS**"
REMOVED_PATH: Final = "**PATH**"


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant, entry: PemusConfigEntry
) -> dict[str, Any]:
    """Return the diagnostics of a config entry."""
    home = entry.runtime_data
    engine = home.engine
    report = async_redact_data(
        {
            "entry": entry.as_dict(),
            "config": _plain(home.configuration.config),
            "engine": {
                "state": engine.state,
                "limited": None if engine.limited is None else _limited(engine.limited),
                "status": None if engine.status is None else _status(engine.status),
            },
            "transfers": await _transfers(engine),
        },
        TO_REDACT,
    )
    return cast("dict[str, Any]", _without_ids(report, {}))


def _status(status: Status) -> Any:
    """Return the engine's status.

    Some harmless keys have the same names as redacted ones, and are renamed: the `path` of a friend's link, and the
    states of `servers`.
    """
    plain = _plain(status)
    if (peers := plain["peers"]) is not None:
        peers["signaling"] = peers.pop("servers")
        for friend in peers["friends"]:
            friend["link"] = friend.pop("path")
    for room in plain["rooms"]:
        room["url"] = room.pop("link")
    return plain


def _limited(reason: LimitedReason) -> Any:
    """Return why the engine runs in limited mode. uv's output can contain URLs with passwords, which are removed."""
    return {
        "limit": reason.limit,
        "detail": without_addresses(reason.detail, reason.hosts),
    }


def without_addresses(text: str, hosts: Iterable[str] = ()) -> str:
    """Return a program's output without addresses, passwords and paths.

    `hosts`: additional names to remove, because a host name without a dot is not recognized.
    """
    text = _QUOTED_PATH.sub(rf"\g<quote>{REMOVED_PATH}\g<quote>", text)
    for pattern in (_URL, _CREDENTIALS, _NUMERIC_HOST):
        text = pattern.sub(REMOVED_URL, text)
    text = _HOST.sub(rf"\g<before>{REMOVED_URL}", text)
    for host in hosts:
        pattern = re.compile(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", re.IGNORECASE)
        text = pattern.sub(REMOVED_URL, text)
    return _PATH.sub(REMOVED_PATH, text)


def _without_ids(value: Any, known: dict[str, str]) -> Any:
    """Replace each PeMuS ID with a number, which is the same throughout the report."""
    if isinstance(value, str):

        def name(found: re.Match[str]) -> str:
            home = found[0].replace("-", "").upper()
            return known.setdefault(home, f"**HOME {len(known) + 1}**")

        return _ID.sub(name, value)
    if isinstance(value, Mapping):
        return {
            _without_ids(key, known): _without_ids(part, known)
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_ids(part, known) for part in value]
    return value


async def _transfers(engine: Engine) -> Any:
    """Return the transfers, or None if the engine does not provide them."""
    try:
        return _plain(await engine.client.transfers())["items"]
    except EngineError, EngineUnavailable:
        return None


def _plain(value: object) -> Any:
    """Return a dataclass as dicts and lists, because redaction does not enter tuples."""
    return json.loads(encode(value))
