"""Sharing with guests: by actions and by hand, with a real engine at a real signalling server."""

import base64
from collections.abc import AsyncGenerator
from datetime import timedelta
import os
from pathlib import Path
from typing import Any

from homeassistant.config_entries import SOURCE_RECONFIGURE, SOURCE_USER
from homeassistant.core import Context, HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.exceptions import (
    HomeAssistantError,
    ServiceValidationError,
    Unauthorized,
)
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.pemus.const import CONF_SERVERS, DOMAIN, SUBENTRY_ROOM
from custom_components.pemus.diagnostics import async_get_config_entry_diagnostics
from custom_components.pemus.p2p.models.rooms import (
    RoomEvent,
    RoomEventKind,
    RoomPassword,
    RoomState,
)
from custom_components.pemus.rooms import sharing
from custom_components.pemus.rooms.terms import RoomTerms, room_id, room_subentries
from demo.home import free_port
from demo.signaling import SignalingServer

from .household import ADA, engine_says, eventually

SIGNALING_PYTHON = Path(__file__).parent.parent / ".venvs/signaling/bin/python"
PASSWORD = "open sesame"


@pytest.fixture
async def server(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    tmp_path: Path,
    socket_enabled: None,
) -> AsyncGenerator[SignalingServer]:
    """Start a signalling server, and have the home be connected to it."""
    # Others that run beside these tests look elsewhere.
    port = free_port(20_000 + os.getpid() % 10_000)
    async with SignalingServer(tmp_path / "server", SIGNALING_PYTHON, port) as started:
        hass.config_entries.async_update_entry(
            entry, options={CONF_SERVERS: [started.url]}
        )
        yield started


async def act(
    hass: HomeAssistant, action: str, context: Context | None = None, **data: Any
) -> dict[str, Any]:
    """Call an action and return its response."""
    answer = await hass.services.async_call(
        DOMAIN, action, data, blocking=True, return_response=True, context=context
    )
    assert isinstance(answer, dict)
    return answer


async def media_id(hass: HomeAssistant, query: str) -> str:
    """Return the media content id of what is found first."""
    found = await act(hass, "search", query=query)
    return str(found["items"][0]["media_content_id"])


def state_of(entry: MockConfigEntry) -> RoomState:
    """Return the state of the only room."""
    (room,) = entry.runtime_data.coordinator.data.rooms
    return room.state


async def test_an_action_makes_a_link(
    hass: HomeAssistant, entry: MockConfigEntry, server: SignalingServer
) -> None:
    made = await act(
        hass, "share", media_content_id=await media_id(hass, "ocean"), note="Enjoy"
    )

    (room,) = room_subentries(entry)
    secret = room.data["secret"]
    assert made["room"] == room.subentry_id
    assert made["link"].startswith(f"{server.url}r/")
    assert made["link"].endswith(f"#{secret}")
    assert made["spoken_code"] is None
    left = dt_util.parse_datetime(made["expires"]) - dt_util.utcnow()
    assert timedelta(days=6.9) < left < timedelta(days=7)
    head, _, png = made["qr_code"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(png).startswith(b"\x89PNG")
    assert state_of(entry) is RoomState.OPEN
    assert room.title == "Ocean"


async def test_folders_and_whole_shares_are_shared(
    hass: HomeAssistant, entry: MockConfigEntry, server: SignalingServer
) -> None:
    await act(hass, "share", shares="Media")

    (room,) = room_subentries(entry)
    (folder,) = RoomTerms.of(room.data).folders
    assert (folder.path, room.title) == ("", "Media")


async def test_a_password_is_not_kept(
    hass: HomeAssistant, entry: MockConfigEntry, server: SignalingServer
) -> None:
    item = await media_id(hass, "ocean")
    made = await act(hass, "share", media_content_id=item, password=PASSWORD)

    (room,) = room_subentries(entry)
    assert PASSWORD not in str(dict(room.data))
    assert RoomPassword(**room.data["password"]).is_right(PASSWORD)
    slug, _, _ = made["link"].rpartition("/")[2].partition("#")
    assert made["spoken_code"] == slug


async def test_a_room_is_changed_and_taken_back(
    hass: HomeAssistant, entry: MockConfigEntry, server: SignalingServer
) -> None:
    item = await media_id(hass, "ocean")
    made = await act(hass, "share", media_content_id=item, password=PASSWORD)

    changed = await act(
        hass, "change_room", room="ocean", name="The sea", downloads=3, password=""
    )
    assert changed["link"] == made["link"]
    (room,) = room_subentries(entry)
    terms = RoomTerms.of(room.data)
    assert (room.title, terms.downloads, terms.password) == ("The sea", 3, None)
    assert len(terms.items) == 1

    await hass.services.async_call(
        DOMAIN, "unshare", {"room": made["room"]}, blocking=True
    )
    await eventually(hass, lambda: not entry.runtime_data.coordinator.data.rooms)
    with pytest.raises(ServiceValidationError):
        await act(hass, "change_room", room="The sea")


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"media_content_id": "media-source://pemus/item/nothing"},
        {"media_content_id": f"media-source://pemus/home/{ADA}/{'a' * 26}"},
        {"media_content_id": "media-source://pemus/all/video"},
        {"media_content_id": "media-source://media_source/local/film.mp4"},
        {"media_content_id": "../../etc/passwd"},
        {"shares": "Nothing"},
        {"shares": "Media", "upload_limit": 0.01},
    ],
)
async def test_what_cannot_be_shared_is_refused(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path, wanted: dict[str, Any]
) -> None:
    with pytest.raises(HomeAssistantError):
        await act(hass, "share", **wanted)
    assert not room_subentries(entry)


async def test_without_a_server_the_room_waits_and_says_why(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharing, "LINK_TIMEOUT", 0.2)

    with pytest.raises(HomeAssistantError) as raised:
        await act(hass, "share", shares="Media")

    assert raised.value.translation_key == "no_link"
    assert state_of(entry) is RoomState.OPENING


async def test_only_administrators_share(
    hass: HomeAssistant, entry: MockConfigEntry, hass_read_only_user: MockUser
) -> None:
    guest = Context(user_id=hass_read_only_user.id)
    for action, data in (
        ("share", {"shares": "Media"}),
        ("change_room", {"room": "Ocean"}),
        ("unshare", {"room": "Ocean"}),
    ):
        with pytest.raises(Unauthorized):
            await hass.services.async_call(
                DOMAIN, action, data, blocking=True, context=guest
            )


async def test_a_room_is_made_and_changed_by_hand(
    hass: HomeAssistant, entry: MockConfigEntry, server: SignalingServer
) -> None:
    flows = hass.config_entries.subentries
    terms = {"days": 2, "downloads": 0, "guests": 2, "upload_limit": 0}
    form = await flows.async_init(
        (entry.entry_id, SUBENTRY_ROOM), context={"source": SOURCE_USER}
    )
    refused = await flows.async_configure(form["flow_id"], {"shares": [], **terms})
    assert refused["errors"] == {"base": "nothing_selected"}

    chosen = {
        "media_content_id": await media_id(hass, "ocean"),
        "media_content_type": "video/mp4",
        "metadata": {"title": "The ocean"},
    }
    shown = await flows.async_configure(
        form["flow_id"], {"media": [chosen], "shares": [], **terms}
    )
    assert shown["step_id"] == "link"
    (room,) = room_subentries(entry)
    address = shown["description_placeholders"]["link"]
    assert address.startswith(f"{server.url}r/")
    assert address.endswith(f"#{room.data['secret']}")
    assert room.title == "The ocean"
    ended = await flows.async_configure(form["flow_id"], {})
    assert (ended["type"], ended["reason"]) == (FlowResultType.ABORT, "shared")

    form = await flows.async_init(
        (entry.entry_id, SUBENTRY_ROOM),
        context={"source": SOURCE_RECONFIGURE, "subentry_id": room.subentry_id},
    )
    assert form["description_placeholders"]["link"] == address
    ended = await flows.async_configure(
        form["flow_id"], {**terms, "name": "Sea", "password": PASSWORD, "note": "Hi"}
    )
    assert ended["reason"] == "reconfigure_successful"
    (room,) = room_subentries(entry)
    kept = RoomTerms.of(room.data)
    assert (room.title, kept.note, kept.guests) == ("Sea", "Hi", 2)
    assert kept.password is not None
    assert kept.password.is_right(PASSWORD)
    assert len(kept.items) == 1


async def test_a_room_is_a_device_with_sensors(
    hass: HomeAssistant, entry: MockConfigEntry, server: SignalingServer
) -> None:
    await act(hass, "share", shares="Media", name="Holiday")

    (room,) = room_subentries(entry)
    device = dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, room_id(room)), entry.entry_id
    )
    assert (device.name, device.model) == ("Holiday", "Room")
    await eventually(
        hass, lambda: hass.states.get("sensor.holiday_link").state == "open"
    )
    assert hass.states.get("sensor.holiday_guests").state == "0"

    hass.config_entries.async_remove_subentry(entry, room.subentry_id)
    await hass.async_block_till_done()
    assert er.async_get(hass).async_get("sensor.holiday_link") is None


async def test_what_guests_do_is_an_event(
    hass: HomeAssistant, entry: MockConfigEntry, server: SignalingServer
) -> None:
    await act(hass, "share", shares="Media", name="Holiday")
    (room,) = room_subentries(entry)

    event = RoomEvent(
        room=room_id(room),
        name="Holiday",
        kind=RoomEventKind.COMPLETED,
        file="Ocean.mp4",
    )
    engine_says(entry.runtime_data, event)
    await hass.async_block_till_done()

    attributes = hass.states.get("event.casa_guests").attributes
    assert attributes["event_type"] == "completed"
    assert (attributes["room"], attributes["file"]) == ("Holiday", "Ocean.mp4")


async def test_the_report_has_neither_links_nor_secrets(
    hass: HomeAssistant, entry: MockConfigEntry, server: SignalingServer
) -> None:
    item = await media_id(hass, "ocean")
    made = await act(hass, "share", media_content_id=item, password=PASSWORD)

    report = str(await async_get_config_entry_diagnostics(hass, entry))

    (room,) = room_subentries(entry)
    slug = made["spoken_code"]
    for secret in (slug, room.data["secret"], room.data["password"]["key"]):
        assert secret not in report


async def test_administrators_list_rooms_and_guests(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    server: SignalingServer,
    hass_ws_client: WebSocketGenerator,
    hass_admin_user: MockUser,
) -> None:
    made = await act(hass, "share", shares="Media", name="Holiday")
    client = await hass_ws_client(hass)

    await client.send_json_auto_id({"type": "pemus/rooms/list"})
    (room,) = (await client.receive_json())["result"]["rooms"]
    assert (room["id"], room["name"]) == (made["room"], "Holiday")
    assert (room["link"], room["state"]) == (made["link"], "open")

    ask = {"type": "pemus/rooms/guests", "room": made["room"]}
    await client.send_json_auto_id(ask)
    assert (await client.receive_json())["result"] == {"guests": []}
    await client.send_json_auto_id(ask | {"room": "nothing"})
    assert (await client.receive_json())["error"]["code"] == "not_found"

    with pytest.raises(ServiceValidationError):
        await hass.services.async_call(
            DOMAIN,
            "disconnect_guest",
            {"room": "Holiday", "guest": "nobody"},
            blocking=True,
        )

    hass_admin_user.groups = []
    await client.send_json_auto_id({"type": "pemus/rooms/list"})
    assert (await client.receive_json())["error"]["code"] == "unauthorized"
