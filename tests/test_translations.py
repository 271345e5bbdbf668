"""Every word that a user may read is there, in every language, and every picture too."""

import ast
from collections.abc import Iterator
import json
from pathlib import Path
import re
import string
from typing import Any

from homeassistant.data_entry_flow import section
from PIL import Image
import pytest
import yaml

from custom_components.pemus import const, errors, event, number, sensor, switch
from custom_components.pemus.engine.process import EngineState
from custom_components.pemus.engine.provision import Limit
from custom_components.pemus.flows import forms as friend_forms, options as options_flow
from custom_components.pemus.issues import (
    ISSUE_IDENTITY,
    ISSUE_UNAPPLIED,
    ISSUE_UNFRIENDED,
)
from custom_components.pemus.p2p.models import Kind, NodeKind, ProblemKey, ScanState
from custom_components.pemus.p2p.models.homes import PathKind
from custom_components.pemus.p2p.models.rooms import RoomEventKind, RoomState
from custom_components.pemus.shares import Refusal

INTEGRATION = Path(const.__file__).parent
EN, DE = (
    json.loads((INTEGRATION / "translations" / f"{language}.json").read_text())
    for language in ("en", "de")
)
ICONS = json.loads((INTEGRATION / "icons.json").read_text())
SERVICES = yaml.safe_load((INTEGRATION / "services.yaml").read_text())
SOURCES = [*INTEGRATION.glob("*.py"), *INTEGRATION.glob("[!p]*/*.py")]


def flat(texts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text with its key."""
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def placeholders(text: str) -> set[str]:
    """Return the placeholders of a text."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def arguments(name: str) -> set[str]:
    """Return every constant that the integration's own modules pass as an argument of this name."""
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.keyword) and node.arg == name:
                found |= {
                    part.value
                    for part in ast.walk(node.value)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return found


def test_every_language_has_the_same_texts_and_placeholders() -> None:
    english, german = dict(flat(EN)), dict(flat(DE))

    assert english.keys() == german.keys()
    for key, text in english.items():
        assert placeholders(text) == placeholders(german[key]), key


@pytest.mark.parametrize("texts", [EN, DE])
def test_no_text_is_empty_refers_to_another_or_holds_html(texts: dict) -> None:
    for key, text in flat(texts):
        assert text == text.strip() != "", key
        assert "[%key" not in text, key
        assert not re.search(r"<[a-z]+>|https?://", text), key
        assert not re.search(r"'{\w+}'", text), key


@pytest.mark.parametrize("file", ["en.json", "de.json"])
def test_the_files_are_sorted(file: str) -> None:
    def check(level: dict[str, Any]) -> None:
        assert list(level) == sorted(level)
        for value in level.values():
            if isinstance(value, dict):
                check(value)

    check(json.loads((INTEGRATION / "translations" / file).read_text()))


def test_every_exception_and_issue_has_its_text() -> None:
    keys = arguments("translation_key")
    entities = {key for platform in EN["entity"].values() for key in platform} | EN[
        "selector"
    ].keys()
    raised = (
        keys | {"engine_error", *errors._REMOTE_KEYS.values(), *errors._KEYS.values()}
    ) - entities
    assert EN["exceptions"].keys() == {key for key in raised if key not in EN["issues"]}
    assert EN["issues"].keys() == {
        *ProblemKey,
        "engine_crash_loop",
        "engine_limited",
        "engine_mismatch",
        ISSUE_IDENTITY,
        ISSUE_UNAPPLIED,
        ISSUE_UNFRIENDED,
    }


def test_every_problem_of_a_form_has_its_text() -> None:
    assert EN["config_subentries"]["share"]["error"].keys() == {
        *Refusal,
        "name_taken",
        "no_kinds",
    }
    rate, port = options_flow.ERROR_RATE, options_flow.ERROR_PORT
    engine = {friend_forms.ERROR_REFUSED, friend_forms.ERROR_UNAVAILABLE}
    assert EN["config"]["error"].keys() == {"no_name", rate, *engine}
    assert EN["options"]["error"].keys() == {
        *(rate, port, "bad_server", "too_many_servers", "not_confirmed")
    }
    assert EN["config_subentries"]["friend"]["error"].keys() == {
        *("bad_id", "own_id", "already_friend", "no_name", rate),
        *engine,
    }


def test_every_end_of_a_dialog_about_homes_has_its_text() -> None:
    reasons = arguments("reason") | {*friend_forms.ENDS}
    for texts in (
        EN["config"]["abort"],
        EN["config_subentries"]["friend"]["abort"],
        EN["issues"]["identity_in_use"]["fix_flow"]["abort"],
        EN["issues"]["identity_lost"]["fix_flow"]["abort"],
        EN["options"]["abort"],
    ):
        assert texts.keys() <= reasons | {
            *("already_configured", "denied_here", "blocked_here", "words_differ"),
        }
    for end in friend_forms.ENDS:
        assert end in EN["config"]["abort"]
        assert end in EN["config_subentries"]["friend"]["abort"]
    for texts in (EN["config"], EN["config_subentries"]["friend"]):
        assert texts["progress"].keys() <= texts["step"].keys()


def test_every_notification_has_its_text() -> None:
    for told in (
        *("paired", "paired_without_shares"),
        *(f"request_{state}" for state in ("denied", "expired")),
    ):
        for language in (EN, DE):
            known = {"home", "id"}
            assert placeholders(language["common"][f"notify_{told}_message"]) <= known
            # What is no Markdown must not hold what was made safe for it.
            assert not placeholders(language["common"][f"notify_{told}_title"])


def test_every_limit_of_the_engine_has_its_text() -> None:
    for language in (EN, DE):
        texts = language["common"]
        assert {key for key in texts if key.startswith("limit_")} == {
            *(f"limit_{limit}" for limit in Limit),
            "limit_hosts",
        }
        assert placeholders(texts["limit_timeout"]) == {"minutes"}
        assert placeholders(texts["limit_hosts"]) == {"hosts"}


def test_every_field_of_a_form_is_named_and_explained() -> None:
    for flow in (
        *(EN["config"], EN["options"]),
        *(
            EN["issues"][issue]["fix_flow"]
            for issue in ("identity_in_use", "identity_lost")
        ),
        *EN["config_subentries"].values(),
    ):
        for step in flow["step"].values():
            assert step["title"]
            for part in (step, *step.get("sections", {}).values()):
                assert (
                    part.get("data", {}).keys()
                    == part.get("data_description", {}).keys()
                )


def test_every_section_of_the_options_is_named() -> None:
    texts = EN["options"]["step"]["settings"]
    form = options_flow.OPTIONS_SCHEMA.schema
    sections = {
        str(key): set(map(str, part.schema.schema))
        for key, part in form.items()
        if isinstance(part, section)
    }
    assert {
        name: set(part["data"]) for name, part in texts["sections"].items()
    } == sections
    assert texts["data"].keys() == set(map(str, form)) - sections.keys()


def test_every_place_of_the_media_browser_has_its_title() -> None:
    named = {
        NodeKind.VIDEOS,
        NodeKind.MUSIC,
        NodeKind.PHOTOS,
        NodeKind.RECENT,
        NodeKind.FOLDERS,
        NodeKind.ARTISTS,
        NodeKind.ALBUMS,
        NodeKind.SONGS,
        NodeKind.YEARS,
    }
    assert EN["common"].keys() == {
        *named,
        *(f"month_{month}" for month in range(1, 13)),
        *(f"unknown_{kind}" for kind in ("artist", "album", "year")),
        "offline_home",
        *(key for key in EN["common"] if key.startswith(("notify_", "limit_"))),
    }


def test_every_entity_has_its_name_and_icon() -> None:
    described = {
        "sensor": {
            description.translation_key
            for description in (
                *sensor.HOME_SENSORS,
                *sensor.SHARE_SENSORS,
                *sensor.SWARM_SENSORS,
                *sensor.FRIEND_SENSORS,
                *sensor.ROOM_SENSORS,
                sensor.ENGINE_STATE,
            )
        },
        "binary_sensor": {"availability", "online"},
        "event": {"friends", "guests"},
        "button": {"rescan"},
        "number": {description.translation_key for description in number.LIMITS},
        "switch": {switch.LAN_EXEMPT.translation_key},
    }
    for texts in (EN["entity"], ICONS["entity"]):
        assert {platform: set(keys) for platform, keys in texts.items()} == described
    for icon in dict(flat(ICONS)).values():
        assert icon.startswith("mdi:")


def test_every_state_has_its_name() -> None:
    states = EN["entity"]["sensor"]
    assert states["scan_state"]["state"].keys() == set(ScanState)
    assert states["engine_state"]["state"].keys() == {*EngineState, sensor.LIMITED}
    assert states["path"]["state"].keys() == {*PathKind, sensor.NO_PATH}
    happened = EN["entity"]["event"]["friends"]["state_attributes"]["event_type"]
    assert happened["state"].keys() == set(event.FRIENDS.event_types)
    happened = EN["entity"]["event"]["guests"]["state_attributes"]["event_type"]
    assert happened["state"].keys() == set(RoomEventKind)
    assert states["room_state"]["state"].keys() == set(RoomState)
    assert EN["selector"]["kinds"]["options"].keys() == set(Kind)


def test_every_action_and_field_has_its_name_and_icon() -> None:
    assert EN["services"].keys() == SERVICES.keys() == ICONS["services"].keys()
    for name, action in SERVICES.items():
        assert EN["services"][name]["fields"].keys() == action["fields"].keys()


def test_the_system_information_has_its_labels() -> None:
    assert EN["system_health"]["info"].keys() == {
        "engine_state",
        "engine_version",
        "friends",
        "friends_online",
        "limited",
        "photos",
        "servers",
        "servers_connected",
        "shares",
        "signaling_app",
        "songs",
        "videos",
    }


@pytest.mark.parametrize(
    ("name", "size"), [("icon.png", (256, 256)), ("icon@2x.png", (512, 512))]
)
def test_the_icon_has_the_size_that_home_assistant_asks_for(
    name: str, size: tuple[int, int]
) -> None:
    with Image.open(INTEGRATION / "brand" / name) as icon:
        assert icon.size == size
        assert icon.getpixel((0, 0))[3] == 0


def test_the_logos_are_as_high_as_home_assistant_asks_for() -> None:
    for name in ("logo.png", "dark_logo.png"):
        with Image.open(INTEGRATION / "brand" / name) as logo:
            assert 128 <= min(logo.size) <= 256
            assert logo.getpixel((0, 0))[3] == 0


def test_the_manifest_and_hacs_agree_on_what_this_is() -> None:
    manifest = json.loads((INTEGRATION / "manifest.json").read_text())
    hacs = json.loads((INTEGRATION.parent.parent / "hacs.json").read_text())

    assert list(manifest) == ["domain", "name", *sorted(list(manifest)[2:])]
    assert manifest["domain"] == const.DOMAIN
    assert manifest["name"] == hacs["name"]
    # Whatever is heavier belongs to the engine's own environment.
    assert manifest["requirements"] == ["segno==1.6.6"]
    # It would also abort the discovery of other homes.
    assert "single_config_entry" not in manifest


def test_the_quality_scale_gives_a_reason_for_what_is_exempt() -> None:
    rules = yaml.safe_load((INTEGRATION / "quality_scale.yaml").read_text())["rules"]

    for rule, state in rules.items():
        if isinstance(state, dict):
            assert state["status"] == "exempt", rule
            assert state["comment"].strip(), rule
        else:
            assert state in {"done", "todo"}, rule
