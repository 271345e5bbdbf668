"""What can be set."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from hypothesis import given, strategies as st
import orjson
import pytest

from pemus_signaling.settings import Settings, SettingsError, read_settings


def test_nothing_has_to_be_set() -> None:
    assert read_settings([], {}) == Settings()


def test_the_command_line_counts_first_then_the_environment_then_the_options(
    tmp_path: Path,
) -> None:
    options = tmp_path / "options.json"
    options.write_bytes(
        orjson.dumps(
            {
                "port": 1,
                "key": "options",
                "path": "/options/",
                "origins": ["https://a.example"],
                "certificate": "",
                "redis": None,
            }
        )
    )
    read = read_settings(
        [
            "--port",
            "3",
            "--options",
            str(options),
            "--open-tracker",
            "--trusted-proxies",
            "10.0.0.0/8",
            "fd00::/8",
        ],
        {
            "PEMUS_PORT": "2",
            "PEMUS_KEY": "environment",
            "PEMUS_TURN": "yes",
            "PEMUS_METRICS": "",
            "PEMUS_ALIVE_TIMEOUT": "7.5",
        },
    )
    assert (read.port, read.key, read.path) == (3, "environment", "/options/")
    assert (read.origins, read.trusted_proxies, read.metrics) == (
        ("https://a.example",),
        ("10.0.0.0/8", "fd00::/8"),
        (),
    )
    assert (
        read.open_tracker,
        read.turn,
        read.certificate,
        read.redis,
        read.alive_timeout,
    ) == (True, True, None, (), 7.5)
    assert read_settings([], {"PEMUS_OPTIONS": str(options)}).port == 1


def test_lists_may_be_separated_by_commas_or_spaces() -> None:
    read = read_settings(
        [], {"PEMUS_ORIGINS": "https://a.example, https://b.example:8443"}
    )
    assert read.origins == ("https://a.example", "https://b.example:8443")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "http"),
        ("port", "1.5"),
        ("path", "no-slash"),
        ("path", "/a b/"),
        ("path", "/a"),
        ("key", ""),
        ("key", "a/b"),
        ("key", "room"),
        ("alive_timeout", "0"),
        ("alive_timeout", "nan"),
        ("message_size", "1"),
        ("send_buffer", "65536"),
        ("turn", "maybe"),
        ("offers_per_announce", "0"),
        ("announce_interval", "0"),
        ("origins", "signal.example"),
        ("origins", "https://signal.example/"),
        ("origins", "https://Signal.example"),
        ("origins", "https://signal.example:443"),
        ("origins", "https://signal.example:port"),
        ("origins", "https://me@signal.example"),
        ("origins", "ftp://signal.example"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("trusted_proxies", "proxy"),
        ("metrics", "everybody"),
        ("certificate", "cert.pem"),
        ("turn_external_ip", "signal.example"),
        ("redis", "http://redis"),
        ("workers", "2"),
        ("workers", "0"),
        ("secret", "short"),
        ("log_level", "loud"),
        ("options", "/nowhere/options.json"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings(
            [f"--{name.replace('_', '-')}", value] if name != "turn" else [],
            {"PEMUS_TURN": value} if name == "turn" else {},
        )


def test_ports_of_turn_are_in_order() -> None:
    with pytest.raises(SettingsError, match="turn_max_port"):
        Settings(turn_min_port=50000, turn_max_port=49999)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"port": []}', b'{"origins": 7}', b'{"origins": [7]}'],
)
def test_options_that_cannot_be_read_are_complained_about(
    content: bytes, tmp_path: Path
) -> None:
    options = tmp_path / "options.json"
    options.write_bytes(content)
    with pytest.raises(SettingsError):
        read_settings(["--options", str(options)], {})


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.lists(st.text(max_size=8), max_size=3)
)


@given(
    st.dictionaries(
        st.sampled_from([setting.name for setting in fields(Settings)]),
        VALUES,
        max_size=3,
    )
)
def test_any_options_are_taken_or_complained_about(options: dict[str, Any]) -> None:
    environment = {
        f"PEMUS_{name.upper()}": str(value) for name, value in options.items()
    }
    try:
        read = read_settings([], environment)
    except SettingsError:
        return
    assert read.port >= 0


def test_help_tells_of_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(["--help"], {})
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for setting in fields(Settings):
        assert f"--{setting.name.replace('_', '-')}" in text
