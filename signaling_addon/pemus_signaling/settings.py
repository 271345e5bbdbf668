"""What can be set, where it may be set, and what is a sensible value.

A setting comes from the command line (`--alive-timeout 60`), from the environment (`PEMUS_ALIVE_TIMEOUT=60`), from a file
of options in JSON (`--options FILE`, which is how Home Assistant configures its apps), or is left as it is; the first of
these that has it counts. All of them are checked here, once; the parts of the program get values that are in order.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from ipaddress import ip_address, ip_network
from pathlib import Path
import re
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

PREFIX: Final = "PEMUS_"
"""Of the names of environment variables."""
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_REDIS: Final = ("redis", "rediss", "unix")
_WORDS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class SettingsError(ValueError):
    """A setting has a value that makes no sense. The message names the setting and says what it takes."""


def _set(
    default: Any, meaning: str, low: float | None = None, high: float | None = None
) -> Any:
    """Describe a setting; `low` and `high` are the least and the largest value."""
    return field(default=default, metadata={"help": meaning, "low": low, "high": high})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Durations are in seconds, sizes in bytes. Raises SettingsError when made of bad values."""

    host: str = _set(
        "::", "the address to listen on; :: is every address, IPv6 and IPv4"
    )
    port: int = _set(9000, "the port to listen on; 0 takes a free one", 0, 65535)
    path: str = _set(
        "/", "the path that everything but /healthz, /readyz and /metrics is under"
    )
    key: str = _set("peerjs", "the key that clients of PeerServer's protocol name")
    origins: tuple[str, ...] = _set(
        (),
        "where clients reach this server, like https://signal.example; without it, identities are proven to literal addresses only",
    )
    trusted_proxies: tuple[str, ...] = _set(
        (), "the networks of proxies whose X-Forwarded-For is believed"
    )
    certificate: Path | None = _set(
        None,
        "a file with the TLS certificate and its chain (PEM); SIGHUP reads it again",
    )
    private_key: Path | None = _set(
        None, "a file with the certificate's private key (PEM)"
    )
    secret: str | None = _set(
        None,
        "what sessions are signed with; all nodes need the same; random if not given",
    )

    alive_timeout: float = _set(
        90.0, "after which a client that says nothing is hung up on", 1, 86400
    )
    expire_timeout: float = _set(
        5.0, "for which messages wait for a receiver that is not there", 0, 300
    )
    concurrent_limit: int = _set(
        10_000,
        "clients of PeerServer's protocol at a time, per process, and of the tracker",
        1,
        10_000_000,
    )
    message_size: int = _set(64 * 1024, "of one message at most", 1024, 1024 * 1024)
    messages_per_second: float = _set(
        50.0, "of one socket in the long run; ten times as many at once", 1, 1_000_000
    )
    send_buffer: int = _set(
        1024 * 1024,
        "that may wait for a slow reader before it is hung up on",
        64 * 1024,
        2**30,
    )
    sockets_per_address: int = _set(
        200,
        "without a proven identity, of one IPv4 address or one IPv6 network of 64 bits; homes may be more",
        1,
        10_000_000,
    )
    queued_messages: int = _set(50, "that wait for one receiver", 0, 10_000)
    queued_bytes: int = _set(
        32 * 1024 * 1024, "that wait for all receivers together", 0, 2**34
    )

    open_tracker: bool = _set(
        False,
        "take announces without a token as well; their swarms are apart from all others",
    )
    offers_per_announce: int = _set(20, "of one announce that are passed on", 1, 200)
    announce_interval: int = _set(120, "between two announces of a peer", 5, 3600)
    rooms_per_home: int = _set(100, "that are open at a time", 1, 100_000)
    rooms_per_network: int = _set(
        2_000,
        "that 256 IPv4 addresses, or an IPv6 network of 48 bits, made and that are remembered",
        1,
        1_000_000,
    )
    room_renewal: float = _set(
        14 * 86400.0,
        "after which a room ends that its home did not change",
        3600,
        366 * 86400,
    )
    lookups_per_minute: float = _set(
        120.0, "of rooms and TURN credentials, by one address", 1, 1_000_000
    )
    visits_per_minute: float = _set(600.0, "to one room, by all together", 1, 1_000_000)
    changes_per_minute: float = _set(60.0, "of a home's rooms", 1, 1_000_000)
    grants_per_minute: float = _set(
        600.0, "of TURN credentials, for a home and all its guests", 1, 1_000_000
    )

    turn: bool = _set(False, "run coturn, and hand out credentials for it")
    turn_host: str | None = _set(
        None,
        "the name or address that clients reach coturn at; that of the first origin if not given",
    )
    turn_port: int = _set(3478, "coturn listens on, over UDP and TCP", 1, 65535)
    turn_min_port: int = _set(
        49160, "the first port that coturn relays through", 1024, 65535
    )
    turn_max_port: int = _set(
        49959, "the last port that coturn relays through", 1024, 65535
    )
    turn_external_ip: str | None = _set(
        None, "the public address of a server behind address translation"
    )
    turn_realm: str = _set("pemus", "coturn's realm")
    turn_secret: str | None = _set(
        None,
        "shared with coturn; random if not given. Given, coturn may be one that runs elsewhere",
    )
    turn_user_quota: int = _set(12, "allocations of one set of credentials", 1, 1000)
    turn_total_quota: int = _set(200, "allocations at a time", 1, 100_000)
    turn_max_bps: int = _set(2_500_000, "bytes per second of one allocation", 0, 2**31)

    redis: tuple[str, ...] = _set(
        (),
        "the URLs of the Valkey or Redis servers through which nodes act as one, in the same order at all nodes",
    )
    workers: int = _set(1, "processes; more than one need a Redis", 1, 256)
    data: Path | None = _set(
        None,
        "a folder for what outlives a restart, which is rooms; without it nothing does",
    )

    metrics: tuple[str, ...] = _set(
        ("127.0.0.0/8", "::1/128"),
        "the networks that may read /metrics; none turns it off",
    )
    log_level: str = _set("info", f"one of {', '.join(LOG_LEVELS)}")
    retry_after: float = _set(
        5.0,
        "that clients are told to wait for, on average, when the server stops",
        0,
        3600,
    )

    def __post_init__(self) -> None:
        """Check everything."""
        for setting in fields(self):
            low, high = setting.metadata["low"], setting.metadata["high"]
            value = getattr(self, setting.name)
            if low is not None and not low <= value <= high:
                raise SettingsError(
                    f"{setting.name}: {value} is not between {low} and {high}"
                )
        if not re.fullmatch(r"/([A-Za-z0-9._~-]+/)*", self.path):
            raise SettingsError(
                "path: must begin and end with / and hold letters, digits, dots, dashes and underscores"
            )
        if not re.fullmatch(r"[A-Za-z0-9._~-]{1,64}", self.key):
            raise SettingsError(
                "key: must be 1 to 64 letters, digits, dots, dashes and underscores"
            )
        if self.key in ("room", "turn"):
            raise SettingsError(f"key: {self.key} is a path of this server")
        for origin in self.origins:
            _check_origin(origin)
        for name in ("trusted_proxies", "metrics"):
            for network in getattr(self, name):
                _check(name, "is no network like 10.0.0.0/8", ip_network, network)
        self._check_together()
        if self.turn_external_ip is not None:
            _check(
                "turn_external_ip",
                "is no IP address",
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
        """Check those that only make sense together."""
        if (self.certificate is None) != (self.private_key is None):
            raise SettingsError("certificate and private_key: one needs the other")
        # Half of it is for what others send.
        if self.send_buffer < 4 * self.message_size:
            raise SettingsError("send_buffer: must be at least four times message_size")
        if self.turn_max_port < self.turn_min_port:
            raise SettingsError("turn_max_port: is less than turn_min_port")
        if self.workers > 1 and not self.redis:
            raise SettingsError(
                "workers: more than one need redis, so that they act as one"
            )


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return what was set on the command line, in the environment and in the file of options.

    Raises SettingsError. Exits if the command line cannot be read, or if it asks for help.
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
        epilog=f"Each option may be an environment variable instead ({PREFIX}PORT=9000), or stand in the file of options.",
        argument_default=SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--options", metavar="FILE", help="a file of options, in JSON")
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
        raise SettingsError("options: is no JSON") from error
    if not isinstance(options, dict):
        raise SettingsError("options: must be an object")
    return options


def _convert(setting: Field[Any], value: Any) -> Any:
    """Return a value as the type that the setting has."""
    kind = str(setting.type).removesuffix(" | None")
    try:
        match kind:
            case "bool":
                return value if isinstance(value, bool) else _WORDS[str(value).lower()]
            case "int":
                return int(str(value))
            case "float":
                return float(str(value))
            case "Path":
                return Path(str(value)) if value else None
            case "str":
                # An app's options are empty where a person left them empty.
                return str(value) if value or setting.default is not None else None
    except (KeyError, ValueError):
        wanted = {
            "bool": "true or false",
            "int": "a whole number",
            "float": "a number",
        }[kind]
        raise SettingsError(f"{setting.name}: must be {wanted}") from None
    words = re.split(r"[\s,]+", value) if isinstance(value, str) else value
    if not isinstance(words, Sequence) or not all(
        isinstance(word, str) for word in words
    ):
        raise SettingsError(f"{setting.name}: must be a list of texts")
    return tuple(word for word in words if word)


def _check_origin(origin: str) -> None:
    parts = urlsplit(origin)
    try:
        port = parts.port
    except ValueError:
        port = -1
    usual = {"http": 80, "https": 443}
    if (
        parts.scheme not in usual
        or not parts.hostname
        or parts.geturl() != f"{parts.scheme}://{parts.netloc}"
    ):
        raise SettingsError(
            "origins: must be like https://signal.example or https://signal.example:8443, without a path"
        )
    if (
        parts.username is not None
        or origin != origin.lower()
        or port in (-1, usual[parts.scheme])
    ):
        raise SettingsError(
            "origins: must be written as a browser writes them, in small letters and without a usual port"
        )


def _check(name: str, complaint: str, read: Callable[[str], object], text: str) -> None:
    try:
        read(text)
    except ValueError:
        raise SettingsError(f"{name}: {text} {complaint}") from None
