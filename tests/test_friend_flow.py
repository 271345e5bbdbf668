"""Adding a friend by its ID, and changing what a friend may have."""

import asyncio
from pathlib import Path
from typing import Any

from homeassistant.config_entries import SOURCE_USER
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import (
    EVENT_DATA_ENTRY_FLOW_PROGRESSED,
    FlowResultType,
    InvalidData,
)
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_capture_events,
)

from custom_components.pemus.const import CONF_TERMS, DOMAIN, SUBENTRY_FRIEND
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.flows import forms as friend_forms
from custom_components.pemus.friends.pairings import Step
from custom_components.pemus.friends.terms import find_friend
from custom_components.pemus.p2p.models import ErrorKey
from custom_components.pemus.p2p.models.homes import PairingQuery, PairingState
from custom_components.pemus.p2p.models.pemus_id import grouped

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
    share,
)
from .test_pairings import notifications


@pytest.fixture
def entry(staged_entry: MockConfigEntry) -> MockConfigEntry:
    """Do without a real engine: the stage says what happens."""
    return staged_entry


async def open_form(hass: HomeAssistant, entry: MockConfigEntry) -> dict[str, Any]:
    """Begin to add a friend."""
    return await hass.config_entries.subentries.async_init(
        (entry.entry_id, SUBENTRY_FRIEND), context={"source": SOURCE_USER}
    )


async def submit(
    hass: HomeAssistant, form: dict[str, Any], home: str, **terms: Any
) -> dict[str, Any]:
    """Fill the form in and send it."""
    return await hass.config_entries.subentries.async_configure(
        form["flow_id"], {"id": home, **terms}
    )


async def next_step(hass: HomeAssistant, form: dict[str, Any]) -> dict[str, Any]:
    """Return what the dialog shows once it has noticed what happened."""
    await noticed(hass)
    return await hass.config_entries.subentries.async_configure(form["flow_id"])


@pytest.mark.parametrize(
    "typed",
    [
        ADA,
        grouped(ADA),
        f"  {grouped(ADA).lower()} ",
        grouped(ADA).replace("-", " "),
        f"pemus:{ADA}",
        f"PEMUS:{grouped(ADA)}",
        f"https://signal.example/invite#{ADA}",
        f"https://signal.example/#id={grouped(ADA)}&name=Ada",
        f"https://signal.example/#pemus:{ADA.lower()}",
    ],
)
async def test_an_id_is_taken_however_it_is_written(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, typed: str
) -> None:
    form = await open_form(hass, entry)
    result = await submit(hass, form, typed)

    assert result["type"] is FlowResultType.SHOW_PROGRESS
    assert result["step_id"] == "waiting"
    assert stage.said("request_pairing") == [PairingQuery(home=ADA, trusted=True)]


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ("", "bad_id"),
        ("Ada", "bad_id"),
        (ADA[:-1] + ("0" if ADA[-1] != "0" else "1"), "bad_id"),
        (ADA[1] + ADA[0] + ADA[2:], "bad_id"),
        (ADA + ADA, "bad_id"),
        ("9" * 10_000, "bad_id"),
        (f"https://signal.example/{ADA}", "bad_id"),
        (f"https://signal.example/#{'x' * 600}{ADA}", "bad_id"),
        ("pemus:", "bad_id"),
        ("💥" * 28, "bad_id"),
        (HOME_ID, "own_id"),
        (BEN, "already_friend"),
    ],
)
async def test_what_is_no_friends_id_is_refused_before_anybody_is_asked(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, typed: str, error: str
) -> None:
    befriend(hass, entry, BEN)
    form = await open_form(hass, entry)

    result = await submit(hass, form, typed)

    assert result["type"] is FlowResultType.FORM
    assert result["errors"] == {"id": error}
    assert stage.said("request_pairing") == []
    result = await submit(hass, form, ADA)
    assert result["type"] is FlowResultType.SHOW_PROGRESS


async def test_a_limit_below_all_use_is_refused(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    form = await open_form(hass, entry)

    result = await submit(hass, form, ADA, upload_limit=0.1)

    assert result["errors"] == {"upload_limit": "rate_too_low"}
    assert stage.said("request_pairing") == []


async def test_only_shares_that_there_are_can_be_granted(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, tmp_path: Path
) -> None:
    form = await open_form(hass, entry)
    assert "shares" not in form["data_schema"].schema
    films = share(hass, entry, tmp_path, "Films")
    form = await open_form(hass, entry)
    with pytest.raises(InvalidData):
        await submit(hass, form, ADA, shares=["another"])

    await submit(hass, form, ADA, shares=[films.subentry_id])

    assert entry.data[CONF_TERMS][ADA]["shares"] == [films.subentry_id]


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (EngineUnavailable("it is gone"), "engine_unavailable", ""),
        (EngineError(ErrorKey.BUSY, "too many wait"), "refused", "too many wait"),
    ],
)
async def test_a_form_says_why_nobody_was_asked(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    failure: Exception,
    error: str,
    said: str,
) -> None:
    form = await open_form(hass, entry)
    stage.error = failure

    result = await submit(hass, form, ADA, note="x")

    assert result["errors"] == {"base": error}
    assert result["description_placeholders"]["error"] == said
    assert CONF_TERMS not in entry.data


async def test_the_words_are_shown_while_somebody_there_thinks(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    form = await open_form(hass, entry)
    result = await submit(hass, form, ADA)
    assert result["description_placeholders"]["name"] == f"{ADA[:4]}-{ADA[4:8]}"

    stage.push(request(incoming=False, confirmed=True))
    result = await next_step(hass, form)
    assert result["step_id"] == "comparing"
    assert result["progress_action"] == "comparing"
    assert result["description_placeholders"] == {
        "name": "Ada's home",
        "id": grouped(ADA),
        "words": "acorn book camel drum",
    }

    stage.push(request(incoming=False, state=PairingState.PAIRED))
    result = await next_step(hass, form)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "paired")
    assert find_friend(entry, ADA) is not None


async def test_a_frontend_that_missed_the_end_of_a_wait_hears_of_it_again(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(friend_forms, "REMINDER_DELAYS", (0.02,) * 5)
    heard = async_capture_events(hass, EVENT_DATA_ENTRY_FLOW_PROGRESSED)
    form = await open_form(hass, entry)
    await submit(hass, form, ADA)

    stage.push(request(incoming=False, confirmed=True))

    # The first time, and as often as it may be of use.
    await eventually(hass, lambda: len(heard) == 6)
    await asyncio.sleep(0.1)
    assert len(heard) == 6
    assert {each.data["flow_id"] for each in heard} == {form["flow_id"]}

    result = await next_step(hass, form)
    assert result["step_id"] == "comparing"


async def test_a_home_that_asks_anew_meanwhile_is_waited_for_anew(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    form = await open_form(hass, entry)
    await submit(hass, form, ADA)
    stage.push(request(confirmed=True))
    result = await next_step(hass, form)
    assert result["step_id"] == "comparing"

    stage.push(pairing(incoming=True, confirmed=True))
    result = await next_step(hass, form)
    assert result["type"] is FlowResultType.SHOW_PROGRESS
    assert result["step_id"] == "waiting"

    stage.push(request(words=("egg", "fog", "gate", "hat"), confirmed=True))
    result = await next_step(hass, form)
    assert result["step_id"] == "comparing"
    assert result["description_placeholders"]["words"] == "egg fog gate hat"


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (PairingState.COMPARING, {"step_id": "comparing"}),
        # Whoever were told would ask for a dialog that is gone, and see an error.
        (
            PairingState.DENIED,
            {"type": FlowResultType.ABORT, "reason": "denied"},
        ),
    ],
)
async def test_a_frontend_that_looked_is_not_told_again(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    state: PairingState,
    shown: dict[str, Any],
) -> None:
    monkeypatch.setattr(friend_forms, "REMINDER_DELAYS", (0.1, 0.02, 0.02))
    heard = async_capture_events(hass, EVENT_DATA_ENTRY_FLOW_PROGRESSED)
    form = await open_form(hass, entry)
    await submit(hass, form, ADA)
    stage.push(
        request(incoming=False, confirmed=state is PairingState.COMPARING, state=state)
    )

    result = await next_step(hass, form)

    assert {key: result[key] for key in shown} == shown
    assert len(heard) == 1
    await asyncio.sleep(0.3)
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ([request(incoming=False, state=PairingState.DENIED)], "denied"),
        ([request(incoming=False, state=PairingState.EXPIRED)], "expired"),
        ([], "over"),
    ],
)
async def test_the_dialog_says_how_it_ended(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    after: list,
    reason: str,
) -> None:
    form = await open_form(hass, entry)
    await submit(hass, form, ADA)
    stage.push(request(incoming=False, confirmed=True))
    await next_step(hass, form)

    stage.push(*after)
    result = await next_step(hass, form)

    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, reason)
    assert result["description_placeholders"]["name"] == "Ada's home"


async def test_who_closes_the_dialog_takes_nothing_back(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, tmp_path: Path
) -> None:
    films = share(hass, entry, tmp_path, "Films")
    form = await open_form(hass, entry)
    await submit(hass, form, ADA, shares=[films.subentry_id], upload_limit=4)
    stage.push(pairing())

    hass.config_entries.subentries.async_abort(form["flow_id"])
    stage.push(request(incoming=False, state=PairingState.PAIRED))
    await hass.async_block_till_done()

    assert stage.said("forget_pairing") == []
    friend = find_friend(entry, ADA)
    assert friend.data["shares"] == [films.subentry_id]
    assert friend.data["upload_limit"] == 4
    (message,) = notifications(hass).values()
    assert "Ada's home" in message


async def test_without_an_identity_or_a_home_there_is_nobody_to_ask(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.peers = None
    stage.tell()
    result = await open_form(hass, entry)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "no_peers")

    await hass.config_entries.async_unload(entry.entry_id)
    result = await open_form(hass, entry)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "not_loaded")


async def test_what_a_friend_may_have_is_changed_without_a_restart(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, tmp_path: Path
) -> None:
    coordinator = entry.runtime_data.coordinator
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    films = share(hass, entry, tmp_path / "a", "Films")
    songs = share(hass, entry, tmp_path / "b", "Songs")
    friend = befriend(hass, entry, shares=(films.subentry_id, "gone"))
    await hass.async_block_till_done()
    assert entry.runtime_data.configuration.config.friends[0].shares == (
        films.subentry_id.lower(),
    )
    flow = await entry.start_subentry_reconfigure_flow(hass, friend.subentry_id)
    suggested = {
        str(key): (key.description or {}).get("suggested_value")
        for key in flow["data_schema"].schema
    }
    assert suggested["name"] == "Ada's home"
    # A share that is gone cannot be taken back.
    assert suggested["shares"] == [films.subentry_id]

    changes = {"shares": [songs.subentry_id], "upload_limit": 2, "note": " near "}
    configure = hass.config_entries.subentries.async_configure
    for name, limit, errors in (
        (" ", 2, {"name": "no_name"}),
        ("Ada", 0.2, {"upload_limit": "rate_too_low"}),
    ):
        wrong = {**changes, "name": name, "upload_limit": limit}
        result = await configure(flow["flow_id"], wrong)
        assert result["errors"] == errors
    result = await configure(flow["flow_id"], {"name": " Ada ", **changes})
    await hass.async_block_till_done()

    assert result["reason"] == "reconfigure_successful"
    friend = find_friend(entry, ADA)
    assert friend.title == "Ada"
    assert dict(friend.data) == {
        "id": ADA,
        "shares": [songs.subentry_id],
        "upload_limit": 2,
        "note": "near",
    }
    (configured,) = entry.runtime_data.configuration.config.friends
    assert configured.name == "Ada"
    assert configured.shares == (songs.subentry_id.lower(),)
    assert configured.upload_limit == 250_000
    assert entry.runtime_data.coordinator is coordinator


async def test_a_share_that_is_removed_is_granted_to_nobody(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, tmp_path: Path
) -> None:
    films = share(hass, entry, tmp_path, "Films")
    befriend(hass, entry, shares=(films.subentry_id,))
    await hass.async_block_till_done()

    hass.config_entries.async_remove_subentry(entry, films.subentry_id)
    await hass.async_block_till_done()

    assert entry.runtime_data.configuration.config.friends[0].shares == ()


async def test_home_assistant_can_stop_while_a_dialog_waits(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    form = await open_form(hass, entry)
    await submit(hass, form, ADA)

    # It would wait for what is not a background task.
    await hass.async_block_till_done()

    assert entry.runtime_data.pairings.step(ADA) is Step.WAITING
    assert DOMAIN in hass.config.components
    await eventually(hass, lambda: True)
