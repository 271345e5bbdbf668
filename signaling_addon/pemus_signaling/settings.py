"""The settings: their defaults, where their values come from, and which values are valid.

A value comes from the first of these that has one: the command line (`--alive-timeout 60`), the environment
(`PEMUS_ALIVE_TIMEOUT=60`), a JSON file of options (`--options FILE`, which Home Assistant writes for its apps), the default.
`Settings` checks all values once, so the other modules can rely on them.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction
from collections.abc import Callable, Mapping, Sequence
from configparser import ConfigParser
from dataclasses import Field, dataclass, field, fields
from ipaddress import ip_address, ip_network
from pathlib import Path
import re
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

PREFIX: Final = "PEMUS_"
"""The beginning of the names of environment variables."""
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_BOOLEANS: Final = ConfigParser.BOOLEAN_STATES
_REDIS: Final = ("redis", "rediss", "unix")


class SettingsError(ValueError):
    """A setting has an invalid value. The message names the setting and says which values are valid."""


def _set(
    default: Any, meaning: str, low: float | None = None, high: float | None = None
) -> Any:
    """Describe a setting. Numbers must be between `low` and `high`."""
    return field(default=default, metadata={"help": meaning, "low": low, "high": high})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Durations are in seconds, sizes in bytes. Raises SettingsError if a value is invalid."""

    host: str = _set("::", "address to listen on; :: is all IPv6 and IPv4 addresses")
    port: int = _set(9000, "port to listen on; 0 selects a free port", 0, 65535)
    path: str = _set("/", "prefix of all paths but /healthz, /readyz and /metrics")
    key: str = _set("peerjs", "key that clients of PeerServer's protocol send")
    origins: tuple[str, ...] = _set(
        (),
        "addresses that clients use, like https://signal.example; without them, homes can prove identities only at literal IP addresses",
    )
    trusted_proxies: tuple[str, ...] = _set(
        (), "networks of the proxies whose X-Forwarded-For is trusted"
    )
    certificate: Path | None = _set(
        None, "file with the TLS certificate chain (PEM); SIGHUP reloads it"
    )
    private_key: Path | None = _set(None, "file with the private key (PEM)")
    secret: str | None = _set(
        None, "signs sessions; the same on all nodes; random by default"
    )

    alive_timeout: float = _set(
        90.0, "silence until a client is disconnected", 1, 86400
    )
    expire_timeout: float = _set(
        5.0, "how long a message waits for an absent receiver", 0, 300
    )
    concurrent_limit: int = _set(
        10_000,
        "clients of PeerServer's protocol, and of the tracker, per process",
        1,
        10_000_000,
    )
    message_size: int = _set(64 * 1024, "maximum of one message", 1024, 1024 * 1024)
    messages_per_second: float = _set(
        50.0, "sustained rate per socket; bursts of ten seconds' worth", 1, 1_000_000
    )
    send_buffer: int = _set(
        1024 * 1024,
        "what may wait for a slow reader until it is disconnected",
        64 * 1024,
        2**30,
    )
    sockets_per_address: int = _set(
        200,
        "sockets without a proven identity, per IPv4 address or IPv6 /64 network",
        1,
        10_000_000,
    )
    queued_messages: int = _set(50, "waiting messages per receiver", 0, 10_000)
    queued_bytes: int = _set(32 * 1024 * 1024, "all waiting messages", 0, 2**34)

    open_tracker: bool = _set(
        False, "accept announces without a token, in separate swarms"
    )
    offers_per_announce: int = _set(20, "relayed offers per announce", 1, 200)
    announce_interval: int = _set(120, "between two announces of a peer", 5, 3600)
    rooms_per_home: int = _set(100, "open rooms per home", 1, 100_000)
    rooms_per_network: int = _set(
        2_000, "kept rooms per IPv4 /24 or IPv6 /48 network", 1, 1_000_000
    )
    room_renewal: float = _set(
        14 * 86400.0,
        "after which a room expires if its home does not change it",
        3600,
        366 * 86400,
    )
    lookups_per_minute: float = _set(
        120.0, "requests for rooms and TURN, per address", 1, 1_000_000
    )
    visits_per_minute: float = _set(600.0, "requests for one room", 1, 1_000_000)
    changes_per_minute: float = _set(60.0, "room changes per home", 1, 1_000_000)
    grants_per_minute: float = _set(
        600.0, "TURN credentials for a home and all its guests", 1, 1_000_000
    )

    turn: bool = _set(False, "run coturn and issue credentials for it")
    turn_host: str | None = _set(
        None, "name or address of coturn; by default that of the first origin"
    )
    turn_port: int = _set(3478, "UDP and TCP port of coturn", 1, 65535)
    turn_min_port: int = _set(49160, "first port for relaying", 1024, 65535)
    turn_max_port: int = _set(49959, "last port for relaying", 1024, 65535)
    turn_external_ip: str | None = _set(None, "public address of a server behind NAT")
    turn_realm: str = _set("pemus", "realm of coturn")
    turn_secret: str | None = _set(
        None,
        "shared with coturn; random by default; with turn off, coturn may run elsewhere",
    )
    turn_user_quota: int = _set(12, "allocations per user", 1, 1000)
    turn_total_quota: int = _set(200, "allocations of all users", 1, 100_000)
    turn_max_bps: int = _set(2_500_000, "bytes per second per allocation", 0, 2**31)

    redis: tuple[str, ...] = _set(
        (), "URLs of Valkey or Redis servers, in the same order on all nodes"
    )
    workers: int = _set(1, "processes; several need redis", 1, 256)
    data: Path | None = _set(
        None, "folder for rooms; without it, they end with the process"
    )

    guest_page: Path | None = _set(
        None,
        "a folder with the built page for guests; the one that comes with the server if not given",
    )

    metrics: tuple[str, ...] = _set(
        ("127.0.0.0/8", "::1/128"), "networks that may read /metrics"
    )
    log_level: str = _set("info", f"one of {', '.join(LOG_LEVELS)}")
    retry_after: float = _set(
        5.0, "average delay until clients reconnect after the server stops", 0, 3600
    )

    def __post_init__(self) -> None:
        """Check all values."""
        for setting in fields(self):
            low, high = setting.metadata["low"], setting.metadata["high"]
            value = getattr(self, setting.name)
            if low is not None and not low <= value <= high:
                raise SettingsError(
                    f"{setting.name}: {value} is not between {low} and {high}"
                )
        if not re.fullmatch(r"/([A-Za-z0-9._~-]+/)*", self.path):
            raise SettingsError(
                "path: must begin and end with /, and contain only letters, digits, dots, dashes and underscores"
            )
        if not re.fullmatch(r"[A-Za-z0-9._~-]{1,64}", self.key):
            raise SettingsError(
                "key: must be 1 to 64 letters, digits, dots, dashes and underscores"
            )
        if self.key in ("r", "room", "turn"):
            raise SettingsError(f"key: {self.key} is a path of this server")
        for origin in self.origins:
            _check_origin(origin)
        for name in ("trusted_proxies", "metrics"):
            for network in getattr(self, name):
                _check(name, "is not a network like 10.0.0.0/8", ip_network, network)
        self._check_together()
        if self.turn_external_ip is not None:
            _check(
                "turn_external_ip",
                "is not an IP address",
                ip_address,
                self.turn_external_ip,
            )
        if any(urlsplit(url).scheme not in _REDIS for url in self.redis):
            raise SettingsError(f"redis: must be URLs of {', '.join(_REDIS)}")
        if self.secret is not None and len(self.secret) < 16:
            raise SettingsError("secret: must have at least 16 characters")
        if self.log_level not in LOG_LEVELS:
            raise SettingsError(f"log_level: must be one of {', '.join(LOG_LEVELS)}")

    def _check_together(self) -> None:
        """Check the settings that depend on each other."""
        if (self.certificate is None) != (self.private_key is None):
            raise SettingsError("certificate and private_key: must be set together")
        # Half of it is for messages of other clients.
        if self.send_buffer < 4 * self.message_size:
            raise SettingsError("send_buffer: must be at least four times message_size")
        if self.turn_max_port < self.turn_min_port:
            raise SettingsError("turn_max_port: must not be less than turn_min_port")
        if self.workers > 1 and not self.redis:
            raise SettingsError("workers: several need redis")


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings from the command line, the environment and the file of options.

    Raises SettingsError. Exits if the command line is invalid, or asks for help.
    """
    given = vars(_parser().parse_args(arguments))
    options_file = given.pop("options", None) or environment.get(PREFIX + "OPTIONS")
    options = _read_options(Path(options_file)) if options_file else {}
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        variable = PREFIX + setting.name.upper()
        if setting.name in given:
            value = given[setting.name]
        elif variable in environment:
            value = environment[variable]
        elif options.get(setting.name) is not None:
            value = options[setting.name]
        else:
            continue
        values[setting.name] = _convert(setting, value)
    return Settings(**values)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m pemus_signaling",
        description="Introduces homes and guests to each other.",
        epilog=f"Each option can also be an environment variable ({PREFIX}PORT=9000), or in the file of options. Durations are in seconds, sizes in bytes.",
        argument_default=SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--options", metavar="FILE", help="JSON file of options")
    for setting in fields(Settings):
        name = "--" + setting.name.replace("_", "-")
        text = setting.metadata["help"]
        if isinstance(setting.default, bool):
            parser.add_argument(name, action=BooleanOptionalAction, help=text)
        elif isinstance(setting.default, tuple):
            shown = ", ".join(setting.default) or "none"
            parser.add_argument(
                name, nargs="*", metavar="...", help=f"{text} (default: {shown})"
            )
        else:
            shown = "" if setting.default is None else f" (default: {setting.default})"
            parser.add_argument(name, metavar="...", help=text + shown)
    return parser


def _read_options(path: Path) -> Mapping[str, Any]:
    try:
        options = orjson.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"options: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise SettingsError("options: must be JSON") from error
    if not isinstance(options, dict):
        raise SettingsError("options: must be an object")
    return options


def _convert(setting: Field[Any], value: Any) -> Any:
    """Convert a value to the type of the setting."""
    kind = str(setting.type).removesuffix(" | None")
    try:
        match kind:
            case "bool":
                return (
                    value if isinstance(value, bool) else _BOOLEANS[str(value).lower()]
                )
            case "int":
                return int(str(value))
            case "float":
                return float(str(value))
            case "Path":
                return Path(str(value)) if value else None
            case "str":
                # Options of an app that the user left empty are empty strings.
                return str(value) if value or setting.default is not None else None
    except (KeyError, ValueError):
        wanted = {"bool": "true or false", "int": "an integer"}.get(kind, "a number")
        raise SettingsError(f"{setting.name}: must be {wanted}") from None
    texts = re.split(r"[\s,]+", value) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(
        isinstance(text, str) for text in texts
    ):
        raise SettingsError(f"{setting.name}: must be a list of strings")
    return tuple(text for text in texts if text)


def _check_origin(origin: str) -> None:
    parts = urlsplit(origin)
    try:
        port = parts.port
    except ValueError:
        port = -1
    default = {"http": 80, "https": 443}
    if (
        parts.scheme not in default
        or not parts.hostname
        or parts.geturl() != f"{parts.scheme}://{parts.netloc}"
    ):
        raise SettingsError(
            "origins: must be like https://signal.example or https://signal.example:8443, without a path"
        )
    if (
        parts.username is not None
        or origin != origin.lower()
        or port in (-1, default[parts.scheme])
    ):
        raise SettingsError(
            "origins: must be as browsers write them, in lower case and without the default port"
        )


def _check(name: str, complaint: str, read: Callable[[str], object], text: str) -> None:
    try:
        read(text)
    except ValueError:
        raise SettingsError(f"{name}: {text} {complaint}") from None
