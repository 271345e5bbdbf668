"""The automations that are offered as blueprints do what they say, with a phone that only pretends to be one."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
import json
from pathlib import Path
import re
import shutil
from typing import Any
from unittest.mock import patch

from homeassistant.components.automation import DOMAIN as AUTOMATION
from homeassistant.components.mobile_app import device_action
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
)

from custom_components.pemus.const import CONF_TERMS
from custom_components.pemus.p2p.models import NewMedia
from custom_components.pemus.p2p.models.homes import PairingAnswer
from custom_components.pemus.p2p.models.pemus_id import pemus_id
from custom_components.pemus.p2p.models.rooms import RoomEvent, RoomEventKind
from custom_components.pemus.rooms.terms import RoomTerms, async_add_room, room_id
from tests.patience import PATIENCE

from .household import ADA, Stage, befriend, engine_says, eventually, request, share
from .test_pairings import FRIENDS

BLUEPRINTS = Path(__file__).parent.parent / "blueprints" / "automation" / "pemus"
CLICKED = "mobile_app_notification_action"


@pytest.fixture
def entry(staged_entry: MockConfigEntry) -> MockConfigEntry:
    """Do without a real engine: the stage says what happens."""
    return staged_entry


@pytest.fixture
def shown(hass: HomeAssistant) -> list[ServiceCall]:
    """Return what the phone shows."""
    calls: list[ServiceCall] = []
    hass.services.async_register("notify", "mobile_app_phone", calls.append)
    return calls


@pytest.fixture
async def phone(hass: HomeAssistant, shown: list[ServiceCall]) -> str:
    """Give the household a phone; return its device."""
    assert await async_setup_component(hass, "mobile_app", {})
    app = MockConfigEntry(domain="mobile_app")
    app.add_to_hass(hass)
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=app.entry_id, identifiers={("mobile_app", "phone")}
    )
    return device.id


async def soon(condition: Callable[[], bool]) -> None:
    """Wait until something is so, whatever else Home Assistant waits for."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


def listens(hass: HomeAssistant) -> bool:
    """Tell whether an automation waits for both buttons of a notification."""
    return hass.bus.async_listeners().get(CLICKED) == 2


async def automate(hass: HomeAssistant, blueprint: str, **inputs: Any) -> None:
    """Set up an automation of a blueprint, as Home Assistant imports it."""
    if "guests" not in inputs:
        inputs["friends"] = FRIENDS
    folder = Path(hass.config.path("blueprints", "automation", "pemus"))

    def install() -> None:
        folder.mkdir(parents=True)
        shutil.copy(BLUEPRINTS / blueprint, folder)

    await hass.async_add_executor_job(install)
    use = {"path": f"pemus/{blueprint}", "input": inputs}
    assert await async_setup_component(
        hass, AUTOMATION, {AUTOMATION: {"alias": "it", "use_blueprint": use}}
    )
    assert hass.states.get("automation.it").state == "on"


@pytest.fixture(autouse=True)
def reachable_phone() -> Any:
    """Let what is for the phone get there."""
    with (
        patch.object(device_action, "webhook_id_from_device_id", return_value="hook"),
        patch.object(
            device_action, "get_notify_service", return_value="mobile_app_phone"
        ),
    ):
        yield


@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_request_is_answered_on_a_phone(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    phone: str,
    shown: list[ServiceCall],
    tmp_path: Path,
    confirmed: bool,
) -> None:
    films = share(hass, entry, tmp_path, "Films")
    await hass.async_block_till_done()
    device = dr.async_get(hass).async_get_device_by_identifier(
        ("pemus", films.subentry_id.lower()), entry.entry_id
    )
    await automate(hass, "friend_request.yaml", phone=phone, shares=[device.id])

    stage.push(request())
    # Until it is answered, Home Assistant has something to do.
    await soon(lambda: listens(hass))

    (call,) = shown
    assert call.data["title"] == "Friend request from Ada's home"
    assert "acorn book camel drum" in call.data["message"]
    assert "signal.example" in call.data["message"]
    confirm, deny = (each["action"] for each in call.data["data"]["actions"])
    # Somebody else's phone, or somebody who guesses.
    hass.bus.async_fire(CLICKED, {"action": "PEMUS_CONFIRM_1"})
    await asyncio.sleep(0)
    assert stage.said("answer_pairing") == []

    hass.bus.async_fire(CLICKED, {"action": confirm if confirmed else deny})
    await eventually(hass, lambda: bool(stage.said("answer_pairing")))

    words = ("acorn", "book", "camel", "drum") if confirmed else None
    assert stage.said("answer_pairing") == [
        PairingAnswer(accept=confirmed, words=words)
    ]
    _, cleared = shown
    assert cleared.data["message"] == "clear_notification"
    assert cleared.data["data"] == {"tag": call.data["data"]["tag"]}
    if confirmed:
        assert entry.data[CONF_TERMS][ADA]["shares"] == [films.subentry_id]


async def test_buttons_that_nobody_pressed_in_time_go(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    phone: str,
    shown: list[ServiceCall],
) -> None:
    await automate(hass, "friend_request.yaml", phone=phone)
    stage.push(request())
    await soon(lambda: listens(hass))

    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(hours=24, seconds=1))
    await hass.async_block_till_done()

    assert [call.data["message"] for call in shown[1:]] == ["clear_notification"]
    assert stage.said("answer_pairing") == []


async def test_an_answer_that_does_not_count_is_said_to_do_so(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    phone: str,
    shown: list[ServiceCall],
) -> None:
    await automate(hass, "friend_request.yaml", phone=phone)
    stage.push(request())
    await soon(lambda: listens(hass))
    confirm, _ = (each["action"] for each in shown[0].data["data"]["actions"])

    # It was taken back meanwhile.
    stage.push()
    hass.bus.async_fire(CLICKED, {"action": confirm})
    await hass.async_block_till_done()

    _, cleared, told = shown
    assert cleared.data["message"] == "clear_notification"
    assert told.data["title"] == "Failed to answer Ada's home"
    assert stage.said("answer_pairing") == []


async def test_many_unwanted_requests_do_not_silence_the_phone(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    phone: str,
    shown: list[ServiceCall],
) -> None:
    await automate(hass, "friend_request.yaml", phone=phone)
    homes = [pemus_id(bytes([number]) * 32) for number in range(10, 30)]
    for count in range(1, len(homes) + 1):
        stage.push(*(request(home) for home in homes[:count]))
        await soon(lambda count=count: len(shown) == count)

    stage.push(*(request(home) for home in homes), request())
    await soon(lambda: len(shown) == len(homes) + 1)


async def test_a_phone_tells_of_requests_and_of_nothing_else(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    phone: str,
    shown: list[ServiceCall],
) -> None:
    befriend(hass, entry)
    await automate(hass, "friend_request.yaml", phone=phone)
    hass.states.async_set(FRIENDS, "unknown")
    engine_says(entry.runtime_data, NewMedia(home=ADA, name="", count=1, titles=("A",)))
    await hass.async_block_till_done()

    assert shown == []


@pytest.mark.parametrize(
    ("count", "titles", "message"),
    [
        (1, ("One",), "One"),
        (2, ("One", "Two"), "One, Two"),
        (7, ("One", "Two"), "One, Two and 5 more"),
    ],
)
async def test_a_phone_tells_of_a_friends_new_media(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    phone: str,
    shown: list[ServiceCall],
    count: int,
    titles: tuple[str, ...],
    message: str,
) -> None:
    befriend(hass, entry, name="Ada")
    await automate(hass, "new_media.yaml", phone=phone)
    stage.push(request("B" * 28))
    await hass.async_block_till_done()
    assert shown == []

    news = NewMedia(home=ADA, name="Ada's home", count=count, titles=titles)
    engine_says(entry.runtime_data, news)
    await eventually(hass, lambda: bool(shown))

    (call,) = shown
    assert call.data["title"] == "New from Ada"
    assert call.data["message"] == message


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("opened", "Somebody opened the link."),
        ("completed", "Somebody has downloaded Film.mp4."),
        ("wrong_password", "Somebody entered a wrong password."),
        ("joined", None),
    ],
)
async def test_a_phone_tells_of_guests(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    phone: str,
    shown: list[ServiceCall],
    kind: str,
    message: str | None,
) -> None:
    await automate(hass, "guest.yaml", phone=phone, guests="event.casa_guests")
    room = async_add_room(hass, entry, "Holiday", RoomTerms.new(("a" * 26,), ()))
    await hass.async_block_till_done()

    event = RoomEvent(
        room=room_id(room),
        name="",
        kind=RoomEventKind(kind),
        file="Film.mp4" if kind == "completed" else None,
    )
    engine_says(entry.runtime_data, event)
    await hass.async_block_till_done()

    assert [call.data["message"] for call in shown] == [message] * bool(message)
    assert all(call.data["title"] == "Holiday" for call in shown)


@pytest.mark.parametrize(
    "file", sorted(BLUEPRINTS.glob("*.yaml")), ids=lambda f: f.stem
)
def test_a_blueprint_asks_for_the_release_that_the_integration_asks_for(
    file: Path,
) -> None:
    asked = re.search(r"min_version: (\S+)", file.read_text(encoding="utf-8"))
    hacs = json.loads((BLUEPRINTS.parents[2] / "hacs.json").read_text("utf-8"))
    assert asked and asked[1] == hacs["homeassistant"]
