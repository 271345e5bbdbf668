"""What the options tell and decide about this home's identity, its servers, and who is blocked."""

from dataclasses import replace
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.pemus.const import (
    CONF_SERVERS,
    CONF_SIGNALING_APP,
    CONF_TERMS,
    SUBENTRY_FRIEND,
)
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.flows.options import MAX_SERVERS
from custom_components.pemus.friends.pairings import Step
from custom_components.pemus.friends.terms import Terms, read_invitation
from custom_components.pemus.options import servers
from custom_components.pemus.p2p.models import ErrorKey
from custom_components.pemus.p2p.models.homes import PairingState, ServerStatus
from custom_components.pemus.p2p.models.pemus_id import grouped

from .household import ADA, BEN, HOME_ID, Stage, befriend, pairing, request
from .test_options_flow import open_step


@pytest.fixture
def entry(staged_entry: MockConfigEntry) -> MockConfigEntry:
    """Do without a real engine: the stage says what happens."""
    return staged_entry


async def submit(
    hass: HomeAssistant, form: dict[str, Any], **answer: Any
) -> dict[str, Any]:
    """Fill a form in and send it."""
    result = await hass.config_entries.options.async_configure(form["flow_id"], answer)
    await hass.async_block_till_done()
    return result


async def test_the_id_is_shown_to_be_read_sent_and_scanned(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    form = await open_step(hass, entry, "identity")

    link = f"pemus:{HOME_ID}"
    assert form["description_placeholders"] == {"id": grouped(HOME_ID), "link": link}
    (code,) = form["data_schema"].schema.values()
    assert code.config["data"] == link
    # What is sent is understood there.
    assert read_invitation(link) == HOME_ID
    menu = await submit(hass, form)
    assert menu["type"] is FlowResultType.MENU


async def test_an_invitation_leads_to_a_server_that_others_can_reach(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    app, ours = "http://local-pemus-signaling:9000/", "https://signal.example/"
    hass.config_entries.async_update_entry(
        entry,
        data={**entry.data, CONF_SIGNALING_APP: app},
        options={CONF_SERVERS: [ours]},
    )
    stage.peers = replace(
        stage.peers,
        servers=tuple(
            ServerStatus(url=url, connected=True, identity=True) for url in (app, ours)
        ),
    )
    stage.tell()
    form = await open_step(hass, entry, "identity")

    link = form["description_placeholders"]["link"]
    assert link == f"{ours}invite#{HOME_ID}"
    (code,) = form["data_schema"].schema.values()
    assert code.config["data"] == link


@pytest.mark.parametrize("step", ["identity", "requests", "blocked", "new_identity"])
async def test_without_an_identity_there_is_nothing_to_show(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, step: str
) -> None:
    stage.peers = None
    stage.tell()
    result = await open_step(hass, entry, step)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "no_peers")

    await hass.config_entries.async_unload(entry.entry_id)
    result = await open_step(hass, entry, step)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "no_peers")


async def test_servers_are_kept_as_they_are_meant_and_told_to_the_engine(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    hass.config_entries.async_update_entry(entry, options={"upload_limit": 4})
    form = await open_step(hass, entry, "servers")

    result = await submit(
        hass,
        form,
        servers=[" https://Signal.example ", "http://10.0.0.2:9000/peers", "", " "],
    )

    assert result["type"] is FlowResultType.CREATE_ENTRY
    urls = ["https://signal.example/", "http://10.0.0.2:9000/peers/"]
    assert entry.options == {"upload_limit": 4, "servers": urls}
    assert stage.home.configuration.config.servers == tuple(urls)
    assert stage.coordinator.engine._config.servers == tuple(urls)
    form = await open_step(hass, entry, "servers")
    (field,) = form["data_schema"].schema
    assert field.description == {"suggested_value": urls}

    await submit(hass, form)
    assert entry.options == {"upload_limit": 4, "servers": []}


@pytest.mark.parametrize(
    "url",
    [
        "signal.example",
        "ftp://signal.example",
        "https://",
        "https://user:password@signal.example",
        "https://signal.example/?key=1",
        "https://signal.example/#x",
        "https://signal example",
        "https://signal.example:99999",
        "javascript:alert(1)",
        "https://" + "x" * 5000,
    ],
)
async def test_what_is_no_server_is_refused_with_a_reason(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, url: str
) -> None:
    form = await open_step(hass, entry, "servers")

    result = await submit(hass, form, servers=["https://signal.example", url])

    assert result["errors"] == {"servers": "bad_server"}
    assert result["description_placeholders"]["error"].endswith(".")
    assert "servers" not in entry.options
    result = await submit(hass, form, servers=["https://signal.example"])
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_there_is_an_end_to_servers(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    form = await open_step(hass, entry, "servers")
    many = [f"https://signal{number}.example" for number in range(MAX_SERVERS + 1)]

    result = await submit(hass, form, servers=many)
    assert result["errors"] == {"servers": "too_many_servers"}

    result = await submit(hass, form, servers=many[1:])
    assert result["type"] is FlowResultType.CREATE_ENTRY


@pytest.mark.parametrize(
    ("app", "found"),
    [
        (None, ("https://signal.example/",)),
        (
            "http://172.30.33.1:9000/",
            ("http://172.30.33.1:9000/", "https://signal.example/"),
        ),
        ("https://signal.example", ("https://signal.example/",)),
        ("http://172.30.33.1:9000/?x", ("https://signal.example/",)),
        ("nonsense", ("https://signal.example/",)),
    ],
)
async def test_the_app_beside_this_home_assistant_is_one_of_the_servers(
    hass: HomeAssistant, entry: MockConfigEntry, app: str | None, found: tuple
) -> None:
    hass.config_entries.async_update_entry(
        entry,
        data={} if app is None else {CONF_SIGNALING_APP: app},
        options={"servers": ["https://signal.example/"]},
    )

    assert servers(entry) == found


async def test_who_is_blocked_is_shown_and_let_go(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    result = await open_step(hass, entry, "blocked")
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "none_blocked")

    stage.push(blocked=(ADA, BEN))
    form = await open_step(hass, entry, "blocked")
    (choice,) = form["data_schema"].schema.values()
    assert [option["label"] for option in choice.config["options"]] == [
        grouped(ADA),
        grouped(BEN),
    ]
    menu = await submit(hass, form, unblock=[BEN])
    assert menu["type"] is FlowResultType.MENU
    assert stage.said("unblock") == [BEN]

    form = await open_step(hass, entry, "blocked")
    stage.error = EngineError(ErrorKey.NOT_FOUND, "this home is not blocked")
    menu = await submit(hass, form, unblock=[ADA, BEN])
    assert menu["type"] is FlowResultType.MENU
    form = await open_step(hass, entry, "blocked")
    stage.error = EngineUnavailable("it is gone")
    result = await submit(hass, form, unblock=[ADA])
    assert result["reason"] == "engine_unavailable"


async def test_what_this_home_asked_is_shown_and_taken_back(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.push(request(ADA), pairing(BEN, state=PairingState.DENIED))
    result = await open_step(hass, entry, "requests")
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "no_requests")

    await stage.home.pairings.async_request(ADA, Terms(), trusted=True)
    stage.push(
        pairing(ADA, confirmed=True), request(BEN, incoming=False, name="Ben\n's")
    )
    form = await open_step(hass, entry, "requests")
    (choice,) = form["data_schema"].schema.values()
    assert [option["label"] for option in choice.config["options"]] == [
        grouped(ADA),
        f"Ben 's {grouped(BEN)}",
    ]
    stage.error = EngineUnavailable("it is gone")
    result = await submit(hass, form, take_back=[ADA])
    assert result["reason"] == "engine_unavailable"
    stage.error = EngineError(ErrorKey.NOT_FOUND, "there is no such request")
    form = await open_step(hass, entry, "requests")
    menu = await submit(hass, form, take_back=[ADA])
    assert menu["type"] is FlowResultType.MENU

    stage.error = None
    stage.asked.clear()
    form = await open_step(hass, entry, "requests")
    menu = await submit(hass, form, take_back=[ADA])
    assert menu["type"] is FlowResultType.MENU
    assert stage.asked == [("forget_pairing", ADA)]
    stage.push(request(BEN, incoming=False))
    await hass.async_block_till_done()
    assert CONF_TERMS not in entry.data
    assert stage.home.pairings.step(ADA) is Step.OVER


async def test_a_request_is_taken_back_before_the_engine_told_of_it(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    await stage.home.pairings.async_request(ADA, Terms(), trusted=True)
    form = await open_step(hass, entry, "requests")

    await submit(hass, form, take_back=[ADA])
    stage.push()

    assert stage.home.pairings.step(ADA) is Step.OVER
    assert CONF_TERMS not in entry.data


async def test_a_new_identity_is_made_only_on_purpose(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry)
    form = await open_step(hass, entry, "new_identity")
    assert form["description_placeholders"] == {"id": grouped(HOME_ID), "friends": "1"}
    result = await submit(hass, form, confirm=False)
    assert result["errors"] == {"confirm": "not_confirmed"}
    stage.error = EngineUnavailable("it is gone")
    result = await submit(hass, form, confirm=True)
    assert result["reason"] == "engine_unavailable"
    assert len(entry.get_subentries_of_type(SUBENTRY_FRIEND)) == 1

    stage.error = None
    form = await open_step(hass, entry, "new_identity")
    result = await submit(hass, form, confirm=True)

    assert result["reason"] == "identity_renewed"
    assert result["description_placeholders"] == {"id": grouped(BEN)}
    # Nobody knows the new one.
    assert entry.get_subentries_of_type(SUBENTRY_FRIEND) == []
