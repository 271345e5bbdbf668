"""What a bug report needs, without telling what this home watches and with whom: no names, no IDs, no addresses."""

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
    # Names of services in the local network, those of other homes among them.
    "discovery_keys",
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
"""A PeMuS ID however it is written: as one word, in groups, and in small letters, as what is made from it often is."""
_QUOTED_PATH: Final = re.compile(
    r"(?P<quote>['\"`])(?:~|\.{0,2})/(?:\\.|(?!(?P=quote))[^\n\\])*(?P=quote)"
)
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
"""Up to the next space: a password may contain anything else."""
_CREDENTIALS: Final = re.compile(r"[^\s:]+:\S+@[\w.\[\]:-]+")
"""A name, a password and a host, without a scheme before them."""
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
"""A name with dots where such programs name a host. A version has a number at its end."""
_PATH: Final = re.compile(r"(?<![\w./])(?:~|\.{0,2})(?:/[^\s'\"`:,;()<>]+)+")
REMOVED_URL: Final = "**ADDRESS**"
REMOVED_PATH: Final = "**PATH**"


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant, entry: PemusConfigEntry
) -> dict[str, Any]:
    """Return the configuration and the last state of the engine."""
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
    """Return the state.

    What has the name of a thing that nobody is told gets another one: the way to a friend is no path in a file system,
    and how servers are is not which ones.
    """
    plain = _plain(status)
    if (peers := plain["peers"]) is not None:
        peers["signaling"] = peers.pop("servers")
        for friend in peers["friends"]:
            friend["link"] = friend.pop("path")
    return plain


def _limited(reason: LimitedReason) -> Any:
    """Return why the engine works with limits. What uv said may hold the address of an index, with a password in it."""
    return {
        "limit": reason.limit,
        "detail": without_addresses(reason.detail, reason.hosts),
    }


def without_addresses(text: str, hosts: Iterable[str] = ()) -> str:
    """Return what a program said without addresses, passwords and paths.

    `hosts`: those that are known to be in it. A host without a dot in its name does not look like one.
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
    """Return the report with a number for each home in the place of its PeMuS ID, so that one can still follow it."""
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
    """Return what comes from other homes, None if the engine does not tell."""
    try:
        return _plain(await engine.client.transfers())["items"]
    except EngineError, EngineUnavailable:
        return None


def _plain(value: object) -> Any:
    """Return a dataclass as dicts and lists: redaction does not look into anything else, tuples included."""
    return json.loads(encode(value))
