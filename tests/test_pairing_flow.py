"""Dialogs with homes that come by themselves."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Any

from homeassistant.config_entries import (
    SOURCE_IGNORE,
    SOURCE_INTEGRATION_DISCOVERY,
    SOURCE_USER,
    SOURCE_ZEROCONF,
)
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
)

from custom_components.pemus.const import CONF_TERMS, DOMAIN
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.friends.dialogs import END_TIMEOUT, STEP_OFFER
from custom_components.pemus.friends.terms import find_friend, short
from custom_components.pemus.p2p.models import ErrorKey
from custom_components.pemus.p2p.models.homes import (
    PairingAnswer,
    PairingQuery,
    PairingState,
    PairingStatus,
)
from custom_components.pemus.p2p.models.pemus_id import grouped, pemus_id

from .household import (
    ADA,
    BEN,
    HOME_ID,
    Stage,
    befriend,
    eventually,
    noticed,
    pairing,
    request,
)
from .test_pairings import FRIENDS, dialogs, notifications

HARM = pemus_id(b"harm" * 8)
"""Another home."""


@pytest.fixture
def entry(staged_entry: MockConfigEntry) -> MockConfigEntry:
    """Do without a real engine: the stage says what happens."""
    return staged_entry


def service(
    home: str = ADA, name: Any = "Ada's home", **more: Any
) -> ZeroconfServiceInfo:
    """Return a home as the local network shows it."""
    return ZeroconfServiceInfo(
        ip_address=ip_address("192.168.1.20"),
        ip_addresses=[ip_address("192.168.1.20")],
        port=40000,
        hostname="ada.local.",
        type="_pemus._tcp.local.",
        name=f"{home}._pemus._tcp.local.",
        properties={"id": home, "name": name, "v": "1", **more},
    )


async def discover(hass: HomeAssistant, found: ZeroconfServiceInfo) -> dict[str, Any]:
    """Have Home Assistant find a home in the local network."""
    return await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_ZEROCONF}, data=found
    )


async def go_on(
    hass: HomeAssistant, dialog: dict[str, Any], answer: Any = None
) -> dict[str, Any]:
    """Answer a dialog, or look at it again, once it has noticed what happened."""
    await noticed(hass)
    if isinstance(answer, str):
        answer = {"next_step_id": answer}
    return await hass.config_entries.flow.async_configure(dialog["flow_id"], answer)


async def compare(hass: HomeAssistant, stage: Stage) -> dict[str, Any]:
    """Pair with a home in the local network, up to the words."""
    dialog = await discover(hass, service())
    await go_on(hass, dialog, {})
    stage.push(request(incoming=False))
    return await go_on(hass, dialog)


async def ask(hass: HomeAssistant, stage: Stage) -> dict[str, Any]:
    """Return the dialog about a home that asks."""
    stage.push(request())
    await hass.async_block_till_done()
    (dialog,) = dialogs(hass)
    return await go_on(hass, dialog)


async def test_a_home_in_the_network_is_offered_by_its_name(
    hass: HomeAssistant, stage: Stage
) -> None:
    dialog = await discover(hass, service(name="  Ada's\n home *1* "))

    assert dialog["type"] is FlowResultType.FORM
    assert dialog["step_id"] == "zeroconf_confirm"
    assert dialog["description_placeholders"]["name"] == "Ada's home \\*1\\*"
    assert dialog["description_placeholders"]["id"] == grouped(ADA)
    (shown,) = dialogs(hass)
    title = f"Ada's home *1* · {short(ADA)}"
    assert shown["context"]["title_placeholders"] == {"name": title}
    assert shown["context"]["unique_id"] == ADA
    assert stage.said("request_pairing") == []


async def test_homes_that_look_alike_are_told_apart(
    hass: HomeAssistant, stage: Stage
) -> None:
    for home, name in ((ADA, "Home"), (BEN, "Home"), (HARM, "")):
        await discover(hass, service(home, name))

    titles = [each["context"]["title_placeholders"]["name"] for each in dialogs(hass)]
    assert sorted(titles) == sorted(
        [f"Home · {short(ADA)}", f"Home · {short(BEN)}", short(HARM)]
    )


async def test_the_words_are_compared_before_anything_is_granted(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    dialog = await discover(hass, service())
    waiting = await go_on(hass, dialog, {})
    assert waiting["type"] is FlowResultType.SHOW_PROGRESS
    assert waiting["step_id"] == "waiting"
    assert stage.said("request_pairing") == [PairingQuery(home=ADA, trusted=False)]
    assert CONF_TERMS not in entry.data
    stage.push(request(incoming=False))
    menu = await go_on(hass, dialog)
    assert menu["type"] is FlowResultType.MENU
    assert menu["step_id"] == "compare"
    assert menu["menu_options"] == ["shares", "differ"]
    assert menu["description_placeholders"]["words"] == "acorn book camel drum"

    form = await go_on(hass, dialog, "shares")
    assert form["step_id"] == "shares"
    result = await go_on(hass, dialog, {"upload_limit": 0.1})
    assert result["errors"] == {"upload_limit": "rate_too_low"}
    assert stage.said("answer_pairing") == []
    result = await go_on(hass, dialog, {"upload_limit": 1, "note": "next door"})
    assert result["step_id"] == "finishing"
    said = PairingAnswer(accept=True, words=("acorn", "book", "camel", "drum"))
    assert stage.asked[-1] == ("answer_pairing", ADA, said)
    assert entry.data[CONF_TERMS][ADA]["note"] == "next door"

    stage.push(request(incoming=False, confirmed=True))
    result = await go_on(hass, dialog)
    assert result["step_id"] == "finishing"
    assert result["description_placeholders"]["words"] == "acorn book camel drum"
    stage.push(request(incoming=False, state=PairingState.PAIRED))
    result = await go_on(hass, dialog)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "paired")
    assert find_friend(entry, ADA).data["note"] == "next door"


async def test_a_yes_is_one_to_the_words_that_were_shown(
    hass: HomeAssistant, stage: Stage
) -> None:
    dialog = await compare(hass, stage)
    await go_on(hass, dialog, "shares")

    # The engine knows of other words already, and says so.
    stage.error = EngineError(ErrorKey.BAD_REQUEST, "other words")
    result = await go_on(hass, dialog, {})
    (answer,) = stage.said("answer_pairing")
    assert answer.words == ("acorn", "book", "camel", "drum")
    assert result["errors"] == {"base": "refused"}
    stage.error = None

    # They are to be compared before anything else is said.
    stage.push(request(incoming=False, created=2000.0, words=("egg", "fork")))
    menu = await go_on(hass, dialog, {})
    assert (menu["step_id"], menu["type"]) == ("compare", FlowResultType.MENU)
    assert menu["description_placeholders"]["words"] == "egg fork"
    assert len(stage.said("answer_pairing")) == 1
    await go_on(hass, dialog, "shares")
    await go_on(hass, dialog, {})
    assert stage.said("answer_pairing")[-1].words == ("egg", "fork")


async def test_who_shows_other_words_is_denied(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    menu = await compare(hass, stage)

    result = await go_on(hass, menu, "differ")

    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "words_differ")
    assert stage.said("answer_pairing") == [PairingAnswer(accept=False)]
    assert dialogs(hass) == []


@pytest.mark.parametrize(
    ("answer", "said", "reason"),
    [
        ("deny", PairingAnswer(accept=False), "denied_here"),
        ("block", PairingAnswer(accept=False, block=True), "blocked_here"),
    ],
)
async def test_who_asks_is_denied_or_blocked(
    hass: HomeAssistant, stage: Stage, answer: str, said: PairingAnswer, reason: str
) -> None:
    menu = await ask(hass, stage)
    assert menu["menu_options"] == ["shares", "deny", "block"]

    result = await go_on(hass, menu, answer)

    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, reason)
    assert result["description_placeholders"]["name"] == "Ada's home"
    assert stage.said("answer_pairing") == [said]


async def test_both_said_yes_already(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    menu = await ask(hass, stage)
    stage.push(request(confirmed_there=True))
    await go_on(hass, menu, "shares")

    await go_on(hass, menu, {})
    stage.push(request(state=PairingState.PAIRED))
    result = await go_on(hass, menu)

    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "paired")


async def test_a_dialog_goes_on_when_the_other_home_was_typed_meanwhile(
    hass: HomeAssistant, stage: Stage
) -> None:
    dialog = await discover(hass, service())
    await go_on(hass, dialog, {})

    stage.push(request(incoming=False, confirmed=True))
    result = await go_on(hass, dialog)

    assert result["step_id"] == "finishing"


async def test_what_was_confirmed_elsewhere_is_not_asked_again(
    hass: HomeAssistant, stage: Stage
) -> None:
    menu = await compare(hass, stage)
    stage.push(request(incoming=False, confirmed=True))

    result = await go_on(hass, menu, "shares")

    assert result["type"] is FlowResultType.SHOW_PROGRESS
    assert result["step_id"] == "finishing"
    assert stage.said("answer_pairing") == []


async def test_a_friend_by_then_is_a_friend(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    menu = await compare(hass, stage)
    befriend(hass, entry)

    result = await go_on(hass, menu, "shares")

    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "paired")


@pytest.mark.parametrize(
    ("state", "reason"),
    [(PairingState.DENIED, "denied"), (PairingState.EXPIRED, "expired")],
)
async def test_a_dialog_that_waits_says_how_it_ended(
    hass: HomeAssistant, stage: Stage, state: PairingState, reason: str
) -> None:
    dialog = await discover(hass, service())
    await go_on(hass, dialog, {})

    stage.push(pairing(state=state))
    result = await go_on(hass, dialog)

    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, reason)


async def test_a_dialog_ends_when_its_pairing_does(
    hass: HomeAssistant, stage: Stage
) -> None:
    await compare(hass, stage)
    stage.push()
    await hass.async_block_till_done()
    assert dialogs(hass) == []

    menu = await compare(hass, stage)
    await go_on(hass, menu, "shares")
    stage.push(request(incoming=False, state=PairingState.EXPIRED))
    await hass.async_block_till_done()
    assert dialogs(hass) == []


async def test_an_answer_that_comes_too_late_says_so(
    hass: HomeAssistant, stage: Stage
) -> None:
    gone = EngineError(ErrorKey.NOT_FOUND, "there is no such request")
    for answer in ("deny", "block"):
        menu = await ask(hass, stage)
        stage.error = gone
        result = await go_on(hass, menu, answer)
        assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "over")
        stage.error = None
        stage.push()

    menu = await ask(hass, stage)
    await go_on(hass, menu, "shares")
    stage.error = gone
    result = await go_on(hass, menu, {})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "over")


async def test_an_engine_that_is_away_is_said_and_can_be_asked_again(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.error = EngineUnavailable("it is gone")
    dialog = await discover(hass, service())
    result = await go_on(hass, dialog, {})
    assert result["errors"] == {"base": "engine_unavailable"}
    stage.error = None
    await go_on(hass, dialog, {})
    stage.push(request(incoming=False))
    await go_on(hass, dialog)
    await go_on(hass, dialog, "shares")
    stage.error = EngineUnavailable("it is gone")
    result = await go_on(hass, dialog, {})
    assert result["errors"] == {"base": "engine_unavailable"}
    assert CONF_TERMS not in entry.data
    stage.error = EngineError(ErrorKey.BAD_REQUEST, "there are no words")
    result = await go_on(hass, dialog, {})
    assert result["errors"] == {"base": "refused"}
    assert result["description_placeholders"]["error"] == "there are no words"
    stage.error = None
    result = await go_on(hass, dialog, {})
    assert result["step_id"] == "finishing"

    stage.push(request(BEN))
    await hass.async_block_till_done()
    (menu,) = (each for each in dialogs(hass) if each["step_id"] == "incoming")
    stage.error = EngineUnavailable("it is gone")
    result = await go_on(hass, menu, "deny")
    assert result["reason"] == "engine_unavailable"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (service(HOME_ID), "own_home"),
        (service(BEN), "already_friend"),
        (service(ADA.lower()), "no_home"),
        (service(ADA[:-1]), "no_home"),
        (service("A" * 28), "no_home"),
        (service(id=None), "no_home"),
        (service(id=7), "no_home"),
        (service(""), "no_home"),
    ],
)
async def test_what_is_no_home_to_pair_with_is_not_offered(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    found: ZeroconfServiceInfo,
    reason: str,
) -> None:
    befriend(hass, entry, BEN)

    result = await discover(hass, found)

    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, reason)


@pytest.mark.parametrize("name", [None, "", "\u200b", 7, b"x"])
async def test_a_home_without_a_name_is_offered_by_its_id(
    hass: HomeAssistant, stage: Stage, name: Any
) -> None:
    dialog = await discover(hass, service(name=name))

    assert dialog["description_placeholders"]["name"] == f"{ADA[:4]}-{ADA[4:8]}"


async def test_a_home_is_offered_once(hass: HomeAssistant, stage: Stage) -> None:
    await discover(hass, service())

    result = await discover(hass, service(name="Another name"))
    assert result["reason"] == "already_in_progress"

    for under_way in (pairing(BEN, confirmed=True), request(BEN, confirmed=True)):
        stage.push(under_way)
        result = await discover(hass, service(BEN))
        assert result["reason"] == "asked_already"


async def test_a_request_goes_on_when_its_home_is_found_again(
    hass: HomeAssistant, stage: Stage
) -> None:
    stage.push(pairing())
    dialog = await discover(hass, service())
    assert dialog["type"] is FlowResultType.SHOW_PROGRESS
    assert dialog["step_id"] == "waiting"

    stage.push(request(incoming=False))
    menu = await go_on(hass, dialog)

    assert menu["step_id"] == "compare"
    assert menu["menu_options"] == ["shares", "differ"]
    assert notifications(hass) == {}
    # It is asked about there, and nowhere else.
    assert (await discover(hass, service(name="Another name")))["reason"] == (
        "already_in_progress"
    )


async def test_a_start_shows_one_dialog_about_a_home_whoever_comes_first(
    hass: HomeAssistant, stage: Stage
) -> None:
    menu = await compare(hass, stage)

    result = await hass.config_entries.flow.async_init(
        DOMAIN,
        context={"source": SOURCE_INTEGRATION_DISCOVERY},
        data={"home": ADA, "words": []},
    )

    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "asked_already")
    (only,) = dialogs(hass)
    assert only["flow_id"] == menu["flow_id"]


async def test_the_words_are_shown_when_the_dialog_that_asked_is_gone(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.push(pairing())
    await hass.async_block_till_done()
    assert dialogs(hass) == []

    stage.push(request(incoming=False))
    await hass.async_block_till_done()

    (dialog,) = dialogs(hass)
    menu = await go_on(hass, dialog)
    assert menu["step_id"] == "compare"
    assert menu["description_placeholders"]["words"] == "acorn book camel drum"
    assert notifications(hass) == {}
    # Nobody asked this home for anything.
    assert hass.states.get(FRIENDS).state == "unknown"
    assert (await discover(hass, service()))["reason"] == "asked_already"

    await go_on(hass, menu, "shares")
    result = await go_on(hass, menu, {})
    assert result["step_id"] == "finishing"
    stage.push(request(incoming=False, confirmed=True))
    await hass.async_block_till_done()
    assert notifications(hass) == {}
    stage.push(request(incoming=False, state=PairingState.PAIRED))
    result = await go_on(hass, menu)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "paired")
    assert find_friend(entry, ADA) is not None


async def test_a_home_that_asks_takes_the_place_of_its_offer(
    hass: HomeAssistant, stage: Stage
) -> None:
    await discover(hass, service())

    stage.push(request())
    await hass.async_block_till_done()

    (dialog,) = dialogs(hass)
    assert dialog["step_id"] == "incoming"


async def test_a_dialog_that_is_under_way_is_not_asked_twice(
    hass: HomeAssistant, stage: Stage
) -> None:
    dialog = await discover(hass, service())
    await go_on(hass, dialog, {})

    # Both asked at the same time, and the other one's request counts.
    stage.push(request())
    await hass.async_block_till_done()

    (only,) = dialogs(hass)
    assert only["flow_id"] == dialog["flow_id"]
    menu = await go_on(hass, dialog)
    assert menu["step_id"] == "compare"


async def test_an_offer_that_is_being_taken_up_stays_when_the_network_shows_it_no_more(
    hass: HomeAssistant, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairings, client = stage.home.pairings, stage.coordinator.engine.client
    request_pairing = client.request_pairing

    async def ask_meanwhile(query: PairingQuery) -> PairingStatus:
        pairings.dialogs.async_end(ADA, {STEP_OFFER})
        return await request_pairing(query)

    monkeypatch.setattr(client, "request_pairing", ask_meanwhile)
    dialog = await discover(hass, service())
    stage.error = EngineUnavailable("it is gone")
    result = await go_on(hass, dialog, {})
    assert result["errors"] == {"base": "engine_unavailable"}
    stage.error = None
    result = await go_on(hass, dialog, {})
    assert result["step_id"] == "waiting"
    (only,) = dialogs(hass)
    assert only["flow_id"] == dialog["flow_id"]


async def test_a_home_that_is_ignored_is_not_offered_but_may_ask(
    hass: HomeAssistant, stage: Stage
) -> None:
    MockConfigEntry(domain=DOMAIN, unique_id=ADA, source=SOURCE_IGNORE).add_to_hass(
        hass
    )

    result = await discover(hass, service())
    assert result["reason"] == "already_configured"

    stage.push(request())
    await hass.async_block_till_done()
    assert len(dialogs(hass)) == 1


async def test_a_discovered_home_leads_to_setting_this_one_up(
    hass: HomeAssistant, engine_environment: object
) -> None:
    dialog = await discover(hass, service())
    assert dialog["step_id"] == "zeroconf_setup"
    assert dialog["description_placeholders"]["name"] == "Ada's home"
    # Not once for each home in the network.
    again = await discover(hass, service(BEN))
    assert again["reason"] == "already_in_progress"

    form = await go_on(hass, dialog, {})
    assert form["step_id"] == "user"
    result = await go_on(hass, dialog, {"name": "Casa"})
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_the_offer_to_set_up_this_home_can_be_set_aside(
    hass: HomeAssistant, engine_environment: object
) -> None:
    dialog = await discover(hass, service())
    await hass.config_entries.flow.async_init(
        DOMAIN,
        context={"source": SOURCE_IGNORE},
        data={"unique_id": dialogs(hass)[0]["context"]["unique_id"], "title": "Ada"},
    )
    assert dialogs(hass) == []

    for home in (ADA, BEN):
        result = await discover(hass, service(home))
        assert (result["type"], result["reason"]) == (
            FlowResultType.ABORT,
            "already_configured",
        )
    # It can still be set up by hand.
    form = await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_USER}
    )
    result = await go_on(hass, form, {"name": "Casa"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog["step_id"] == "zeroconf_setup"


async def test_this_home_is_set_up_by_hand_also_while_that_is_offered(
    hass: HomeAssistant, engine_environment: object
) -> None:
    await discover(hass, service())

    form = await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_USER}
    )
    assert form["step_id"] == "user"
    result = await go_on(hass, form, {"name": "Casa"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    # What was offered is done.
    assert dialogs(hass) == []


async def test_homes_wait_until_this_one_is_ready(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.peers = None
    stage.tell()
    assert (await discover(hass, service()))["reason"] == "not_loaded"

    await hass.config_entries.async_unload(entry.entry_id)
    assert (await discover(hass, service()))["reason"] == "not_loaded"
    result = await hass.config_entries.flow.async_init(
        DOMAIN,
        context={"source": SOURCE_INTEGRATION_DISCOVERY},
        data={"home": ADA, "words": []},
    )
    assert result["reason"] == "not_loaded"


async def test_a_request_that_is_gone_when_its_dialog_begins_is_over(
    hass: HomeAssistant, stage: Stage
) -> None:
    for found in ([], [request(confirmed=True)]):
        stage.push(*found)
        result = await hass.config_entries.flow.async_init(
            DOMAIN,
            context={"source": SOURCE_INTEGRATION_DISCOVERY},
            data={"home": ADA, "words": []},
        )
        assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "over")


async def test_a_reload_ends_what_waits_for_the_user_and_shows_it_again(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    dialog = await discover(hass, service())
    await go_on(hass, dialog, {})

    await hass.config_entries.async_unload(entry.entry_id)
    await noticed(hass)
    result = await go_on(hass, dialog)
    # It is open, and is not said to be over.
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "unloaded")

    assert await hass.config_entries.async_setup(entry.entry_id)
    again = Stage(entry)
    again.push(pairing())
    dialog = await discover(hass, service())
    assert dialog["step_id"] == "waiting"
    again.push(request(incoming=False))
    assert (await go_on(hass, dialog))["step_id"] == "compare"


async def test_a_dialog_that_a_reload_ended_does_not_stay(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    dialog = await discover(hass, service())
    await go_on(hass, dialog, {})

    await hass.config_entries.async_unload(entry.entry_id)
    await eventually(hass, lambda: dialogs(hass)[0]["step_id"] == "end")
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=END_TIMEOUT + 1))
    await hass.async_block_till_done()

    assert dialogs(hass) == []


@pytest.mark.parametrize("state", [PairingState.DENIED, PairingState.EXPIRED])
async def test_who_asks_while_a_dialog_says_how_it_ended_is_shown(
    hass: HomeAssistant, stage: Stage, state: PairingState
) -> None:
    dialog = await discover(hass, service())
    await go_on(hass, dialog, {})
    stage.push(pairing(state=state))
    await eventually(hass, lambda: dialogs(hass)[0]["step_id"] == "end")

    stage.push(request())
    await hass.async_block_till_done()

    assert {each["step_id"] for each in dialogs(hass)} == {"end", "incoming"}
