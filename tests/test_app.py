"""The signalling server as Home Assistant's Supervisor sees it.

Beside the tests of the integration, because their environment reads YAML and pictures. The options are compared with what
the server takes, through its own module: that one needs nothing which is not here.
"""

from __future__ import annotations

from dataclasses import fields
import json
from pathlib import Path
import re
import sys
from typing import Any

from PIL import Image
import pytest
import yaml

ROOT = Path(__file__).parent.parent
APP = ROOT / "signaling_addon"
sys.path.append(str(APP))

from pemus_signaling import __version__  # noqa: E402
from pemus_signaling.settings import LOG_LEVELS, Settings, read_settings  # noqa: E402

ELEMENT = re.compile(
    r"(bool|url|port|str|password|int(\((-?\d+)?,(-?\d+)?\))?|list\((.+)\))(\?)?"
)
"""Of those that Supervisor knows, the ones that this app uses."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(name="config")
def config_fixture() -> dict[str, Any]:
    config = read(APP / "config.yaml")
    assert isinstance(config, dict)
    return config


def test_supervisor_finds_one_app_and_its_repository() -> None:
    found = [
        path.relative_to(ROOT)
        for path in ROOT.glob("**/config.*")
        if path.suffix in (".json", ".yaml", ".yml")
        and not {".venvs", ".run", "node_modules"} & set(path.parts)
    ]

    assert found == [Path("signaling_addon/config.yaml")]
    assert set(read(ROOT / "repository.yaml")) == {"name", "url", "maintainer"}
    assert not list(APP.glob("build.*"))


def test_the_app_has_the_version_of_its_package_everywhere(
    config: dict[str, Any],
) -> None:
    assert config["version"] == __version__
    assert f"\n## {__version__}\n" in (APP / "CHANGELOG.md").read_text()
    image = f"{config['image']}:{__version__}"
    assert read(APP / "compose.yaml")["services"]["signaling"]["image"] == image


def test_the_app_is_what_home_assistant_asks_for(config: dict[str, Any]) -> None:
    assert config["arch"] == ["aarch64", "amd64"]
    assert config["discovery"] == ["pemus"]
    assert re.fullmatch(r"ghcr\.io/[a-z0-9-]+/[a-z0-9-]+", config["image"])
    # Ports cannot be mapped one by one for TURN, and Docker's HEALTHCHECK is what Supervisor watches.
    assert config["host_network"]
    assert not {"ports", "watchdog", "ingress"} & set(config)


def test_every_option_is_a_setting_of_the_server_and_has_a_name(
    config: dict[str, Any],
) -> None:
    settings = {setting.name: setting for setting in fields(Settings)}
    names = read(APP / "translations" / "en.yaml")["configuration"]

    assert list(names) == list(config["schema"])
    assert set(config["options"]) <= set(config["schema"])
    for name, element in config["schema"].items():
        kind = str(settings[name].type)
        many = isinstance(element, list)
        found = ELEMENT.fullmatch(element[0] if many else element)
        assert found, element
        assert many == kind.startswith("tuple")
        if not many:
            expected = {"bool": "bool", "port": "int", "int": "int"}
            assert kind.removesuffix(" | None") == expected.get(
                found[1].split("(")[0], kind.removesuffix(" | None")
            )
        # What is not asked for has to be there.
        assert found[6] or name in config["options"], name
        assert names[name]["name"] and names[name]["description"]
        for bound, limit in ((found[3], "low"), (found[4], "high")):
            if bound and name != "turn_max_bps":
                assert int(bound) == settings[name].metadata[limit], name


def test_the_options_that_are_given_are_the_servers_own(
    config: dict[str, Any],
) -> None:
    for name, value in config["options"].items():
        default = {setting.name: setting.default for setting in fields(Settings)}[name]
        assert value == (list(default) if isinstance(default, tuple) else default), name
    levels = ELEMENT.fullmatch(config["schema"]["log_level"])
    assert levels is not None
    assert tuple(levels[5].split("|")) == LOG_LEVELS


def test_the_server_reads_the_options(config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text(json.dumps(config["options"]))

    settings = read_settings([], {"PEMUS_OPTIONS": str(file), "PEMUS_DATA": "/data"})

    assert settings == Settings(data=Path("/data"))
    assert config["environment"] == {"PEMUS_OPTIONS": "/data/options.json"}


def test_every_setting_of_the_compose_file_is_one() -> None:
    environment = read(APP / "compose.yaml")["services"]["signaling"]["environment"]

    settings = read_settings([], environment)

    assert settings.turn
    assert settings.host == "127.0.0.1"
    commented = re.findall(r"# (PEMUS_\w+):", (APP / "compose.yaml").read_text())
    known = {f"PEMUS_{setting.name.upper()}" for setting in fields(Settings)}
    assert set(commented) <= known


def test_everything_in_the_image_is_pinned(config: dict[str, Any]) -> None:
    dockerfile = (APP / "Dockerfile").read_text()

    base = re.search(r"^ARG BUILD_FROM=(\S+)$", dockerfile, re.MULTILINE)
    assert base is not None
    # A dated release, whose tag does not move.
    assert re.fullmatch(
        r"ghcr\.io/home-assistant/base-python:3\.1\d-alpine3\.\d+-20\d\d\.\d\d\.\d",
        base[1],
    )
    assert "--require-hashes" in dockerfile
    assert "--only-binary :all:" in dockerfile
    assert re.findall(
        r"^HEALTHCHECK .*pemus_signaling\.health", dockerfile, re.MULTILINE
    )
    workflow = (ROOT / ".github" / "workflows" / "app.yml").read_text()
    uses = re.findall(r"uses: (\S+)", workflow)
    assert uses
    assert all(re.search(r"@[0-9a-f]{40}$", action) for action in uses)
    name = config["image"].rpartition("/")[2]
    assert f"IMAGE: {name}\n" in workflow


def test_apparmor_knows_the_app_by_its_slug(config: dict[str, Any]) -> None:
    profile = (APP / "apparmor.txt").read_text()

    assert re.findall(r"^profile (\S+) ", profile, re.MULTILINE) == [config["slug"]]
    assert profile.count("{") == profile.count("}")


@pytest.mark.parametrize(
    ("name", "size"), [("icon.png", (128, 128)), ("logo.png", (250, 100))]
)
def test_pictures_have_their_size(name: str, size: tuple[int, int]) -> None:
    with Image.open(APP / name) as picture:
        assert picture.format == "PNG"
        assert picture.size == size


def test_every_option_is_in_the_documentation(config: dict[str, Any]) -> None:
    documentation = (APP / "DOCS.md").read_text()

    for name in config["schema"]:
        assert f"`{name}`" in documentation, name
