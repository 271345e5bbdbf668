"""Pairings come and go with what the engine says, whoever looks on."""

from datetime import timedelta

from homeassistant.components import persistent_notification
from homeassistant.config_entries import SOURCE_IGNORE, SOURCE_INTEGRATION_DISCOVERY
from homeassistant.const import EVENT_HOMEASSISTANT_STARTED, EVENT_STATE_CHANGED
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_capture_events,
    async_fire_time_changed,
)

from custom_components.pemus.const import CONF_TERMS, DOMAIN
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.friends.dialogs import END_TIMEOUT, STEP_END, request_id
from custom_components.pemus.friends.pairings import DATA_ANNOUNCED, Step
from custom_components.pemus.friends.terms import Terms, async_grant, find_friend, short
from custom_components.pemus.p2p.models import ErrorKey
from custom_components.pemus.p2p.models.homes import (
    PairingAnswer,
    PairingQuery,
    PairingState,
)
from custom_components.pemus.p2p.models.pemus_id import grouped

from .household import ADA, BEN, Stage, befriend, eventually, pairing, request, share

FRIENDS = "event.casa_friends"


@pytest.fixture
def entry(staged_entry: MockConfigEntry) -> MockConfigEntry:
    """Do without a real engine: the stage says what happens."""
    return staged_entry


def notifications(hass: HomeAssistant) -> dict[str, str]:
    """Return what the notifications say."""
    known = persistent_notification._async_get_or_create_notifications(hass)
    return {key: said["message"] for key, said in known.items()}


def dialogs(hass: HomeAssistant) -> list[dict]:
    """Return the dialogs that are shown among the discovered devices."""
    return hass.config_entries.flow.async_progress_by_handler(DOMAIN)


def last_event(hass: HomeAssistant) -> dict:
    """Return what the event entity shows."""
    return dict(hass.states.get(FRIENDS).attributes)


async def test_a_request_is_shown_once(hass: HomeAssistant, stage: Stage) -> None:
    stage.push(request())
    await hass.async_block_till_done()

    (dialog,) = dialogs(hass)
    assert dialog["step_id"] == "incoming"
    assert dialog["context"]["source"] == SOURCE_INTEGRATION_DISCOVERY
    assert dialog["context"]["unique_id"] == request_id(ADA)
    assert dialog["context"]["title_placeholders"] == {
        "name": f"Ada's home · {short(ADA)}"
    }
    assert notifications(hass) == {}
    form = await hass.config_entries.flow.async_configure(dialog["flow_id"])
    said = form["description_placeholders"]
    assert said["name"] == "Ada's home"
    assert said["words"] == "acorn book camel drum"
    assert said["id"] == grouped(ADA)
    assert said["origin"] == "signal\\.example"
    shown = last_event(hass)
    assert shown["event_type"] == "requested"
    assert shown["home_id"] == ADA
    assert shown["name"] == "Ada's home"
    assert shown["words"] == "acorn book camel drum"
    assert shown["origin"] == "signal.example"
    assert shown["lan"] is False


@pytest.mark.parametrize(
    "after", [[], [request(state=PairingState.EXPIRED)], [request(confirmed=True)]]
)
async def test_a_request_that_is_over_is_shown_no_more(
    hass: HomeAssistant, stage: Stage, after: list
) -> None:
    stage.push(request())
    await hass.async_block_till_done()

    stage.push(*after)
    await hass.async_block_till_done()

    assert dialogs(hass) == []
    assert notifications(hass) == {}
    # The engine remembers whom it denied.
    assert not stage.said("forget_pairing")


async def test_another_request_of_the_same_home_takes_the_place_of_the_former(
    hass: HomeAssistant, stage: Stage
) -> None:
    stage.push(request())
    await hass.async_block_till_done()
    (before,) = dialogs(hass)

    stage.push(request(words=("eagle", "flute", "globe", "husky"), created=1500.0))
    await hass.async_block_till_done()

    (after,) = dialogs(hass)
    assert after["flow_id"] != before["flow_id"]
    form = await hass.config_entries.flow.async_configure(after["flow_id"])
    assert form["description_placeholders"]["words"] == "eagle flute globe husky"


async def test_a_hostile_name_is_shown_as_text(
    hass: HomeAssistant, stage: Stage
) -> None:
    name = (
        "![x](https://evil.example/a.png)\n\n# [Click](https://evil.example)\u202e<b>"
    )
    stage.push(request(name=name, origin="[y](https://evil.example)"))
    await hass.async_block_till_done()

    (dialog,) = dialogs(hass)
    shown = await hass.config_entries.flow.async_configure(dialog["flow_id"])
    placeholders = shown["description_placeholders"]
    said = placeholders["name"] + placeholders["origin"]
    assert "](https" not in said
    assert "<b>" not in said
    assert "\n\n#" not in said
    assert "\n" not in dialog["context"]["title_placeholders"]["name"]


async def test_a_reload_shows_requests_again_but_does_not_tell_them_again(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.push(request())
    await hass.async_block_till_done()
    told = hass.states.get(FRIENDS).state

    assert await hass.config_entries.async_unload(entry.entry_id)
    await hass.async_block_till_done()
    assert dialogs(hass) == []
    assert notifications(hass) == {}

    assert await hass.config_entries.async_setup(entry.entry_id)
    again = Stage(entry)
    again.push(request())
    await hass.async_block_till_done()
    assert len(dialogs(hass)) == 1
    assert hass.states.get(FRIENDS).state == told


async def test_a_request_that_was_there_before_home_assistant_is_shown(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, monkeypatch: object
) -> None:
    stage.push(request())
    status = stage.coordinator.data
    assert await hass.config_entries.async_unload(entry.entry_id)
    engine = stage.coordinator.engine

    async def ask() -> object:
        return status

    engine.client.status = ask
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()

    assert len(dialogs(hass)) == 1


async def test_a_home_whose_requests_are_ignored_has_no_dialog(
    hass: HomeAssistant, stage: Stage
) -> None:
    MockConfigEntry(
        domain=DOMAIN, unique_id=request_id(ADA), source=SOURCE_IGNORE
    ).add_to_hass(hass)

    stage.push(request())
    await hass.async_block_till_done()

    assert dialogs(hass) == []
    assert notifications(hass) == {}
    assert hass.states.get(FRIENDS).state == "unknown"


async def test_a_request_that_the_user_sets_aside_is_told_no_more(
    hass: HomeAssistant, stage: Stage
) -> None:
    stage.push(request())
    await hass.async_block_till_done()
    assert len(dialogs(hass)) == 1

    await hass.config_entries.flow.async_init(
        DOMAIN,
        context={"source": SOURCE_IGNORE},
        data={"unique_id": request_id(ADA), "title": "Ada"},
    )
    stage.tell()
    await hass.async_block_till_done()

    assert dialogs(hass) == []
    assert notifications(hass) == {}


async def test_automations_hear_of_a_request_once_they_listen(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    assert await hass.config_entries.async_unload(entry.entry_id)
    hass.set_state(CoreState.starting)
    assert await hass.config_entries.async_setup(entry.entry_id)
    again = Stage(entry)
    again.push(request(), request(BEN))
    await hass.async_block_till_done()
    assert hass.states.get(FRIENDS).state == "unknown"
    # What was never told is not taken for told.
    assert not hass.data.get(DATA_ANNOUNCED)
    heard = async_capture_events(hass, EVENT_STATE_CHANGED)
    # One is over by then.
    again.push(request())

    hass.set_state(CoreState.running)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STARTED)
    await hass.async_block_till_done()
    again.tell()
    await hass.async_block_till_done()

    (event,) = (each for each in heard if each.data["entity_id"] == FRIENDS)
    assert event.data["new_state"].attributes["home_id"] == ADA


async def test_a_home_that_is_unloaded_before_the_start_tells_nothing(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    assert await hass.config_entries.async_unload(entry.entry_id)
    hass.set_state(CoreState.starting)
    assert await hass.config_entries.async_setup(entry.entry_id)
    again = Stage(entry)
    again.push(request())
    assert await hass.config_entries.async_unload(entry.entry_id)

    hass.set_state(CoreState.running)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STARTED)
    await hass.async_block_till_done()

    assert not hass.data.get(DATA_ANNOUNCED)


async def test_a_friend_is_made_when_both_have_said_yes(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, tmp_path: object
) -> None:
    films = share(hass, entry, tmp_path, "Films")
    terms = Terms(shares=(films.subentry_id,), upload_limit=8, note="next door")
    pairings = stage.home.pairings

    home = await pairings.async_request(ADA, terms, trusted=True)

    assert home == ADA
    assert stage.said("request_pairing") == [PairingQuery(home=ADA, trusted=True)]
    assert pairings.step(ADA) is Step.WAITING
    stage.push(request(ADA, incoming=False, confirmed=True))
    assert pairings.step(ADA) is Step.CONFIRMED
    stage.push(request(ADA, incoming=False, state=PairingState.PAIRED))
    await hass.async_block_till_done()

    assert pairings.step(ADA) is Step.PAIRED
    friend = find_friend(entry, ADA)
    assert friend.title == "Ada's home"
    assert friend.unique_id == ADA
    assert friend.subentry_type == "friend"
    assert dict(friend.data) == {
        "id": ADA,
        "shares": [films.subentry_id],
        "upload_limit": 8,
        "note": "next door",
    }
    (configured,) = stage.home.configuration.config.friends
    assert configured.id == ADA
    assert configured.shares == (films.subentry_id.lower(),)
    assert configured.upload_limit == 1_000_000
    assert CONF_TERMS not in entry.data
    assert last_event(hass)["event_type"] == "paired"
    assert last_event(hass)["name"] == "Ada's home"
    # Who asked may have closed the dialog long ago.
    (message,) = notifications(hass).values()
    assert "Ada's home" in message
    assert "nothing" not in message


async def test_a_friend_that_was_granted_nothing_sees_nothing_and_that_is_said(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.push(request(state=PairingState.PAIRED, name=""))
    await hass.async_block_till_done()

    friend = find_friend(entry, ADA)
    assert friend.title == f"{ADA[:4]}-{ADA[4:8]}"
    assert friend.data["shares"] == []
    (message,) = notifications(hass).values()
    assert "do not share anything" in message
    assert "/config/integrations/integration/pemus" in message


async def test_a_friend_that_is_removed_does_not_come_back_by_itself(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.push(request(state=PairingState.PAIRED))
    await hass.async_block_till_done()
    friend = find_friend(entry, ADA)

    hass.config_entries.async_remove_subentry(entry, friend.subentry_id)
    # The other home has not heard yet that both had said yes.
    stage.push(request(state=PairingState.PAIRED))
    await hass.async_block_till_done()

    assert find_friend(entry, ADA) is None
    assert stage.home.configuration.config.friends == ()
    assert stage.said("forget_pairing") == [ADA]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (PairingState.DENIED, "declined your friend request"),
        (PairingState.EXPIRED, "in time"),
    ],
)
async def test_who_asked_hears_that_it_came_to_nothing(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    state: PairingState,
    said: str,
) -> None:
    terms = Terms(note="somebody")
    await stage.home.pairings.async_request(ADA, terms, trusted=True)
    assert entry.data[CONF_TERMS][ADA]["note"] == "somebody"

    for _ in range(3):
        stage.push(pairing(state=state, name="Ada's home", confirmed=True))
    await hass.async_block_till_done()

    (message,) = notifications(hass).values()
    assert said in message
    assert stage.said("forget_pairing") == [ADA]
    assert CONF_TERMS not in entry.data
    assert stage.home.pairings.step(ADA) is Step(state)
    stage.push()
    assert stage.home.pairings.step(ADA) is Step.OVER


async def test_what_cannot_be_forgotten_does_no_harm(
    hass: HomeAssistant, stage: Stage
) -> None:
    stage.error = EngineUnavailable("it is gone")
    stage.push(pairing(state=PairingState.DENIED))
    await hass.async_block_till_done()

    assert stage.said("forget_pairing") == [ADA]


async def test_what_one_said_oneself_is_not_told_again(
    hass: HomeAssistant, stage: Stage
) -> None:
    stage.push(request(incoming=False))

    await stage.home.pairings.async_deny(ADA)
    stage.push(request(incoming=False, state=PairingState.DENIED))
    await hass.async_block_till_done()

    assert stage.said("answer_pairing") == [PairingAnswer(accept=False)]
    assert notifications(hass) == {}


async def test_a_no_that_was_not_heard_does_not_count(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.push(request())
    await hass.async_block_till_done()
    (dialog,) = dialogs(hass)
    stage.error = EngineUnavailable("it is being started again")
    configure = hass.config_entries.flow.async_configure
    result = await configure(dialog["flow_id"], {"next_step_id": "deny"})
    assert result["reason"] == "engine_unavailable"
    assert dialogs(hass) == []

    # They are asked again, and what they say then counts.
    stage.error = None
    stage.tell()
    await hass.async_block_till_done()
    (dialog,) = dialogs(hass)
    assert dialog["step_id"] == "incoming"
    await configure(dialog["flow_id"], {"next_step_id": "shares"})
    await configure(dialog["flow_id"], {})
    stage.push(request(state=PairingState.PAIRED))
    await hass.async_block_till_done()
    assert find_friend(entry, ADA) is not None


async def test_a_request_is_taken_for_made_until_the_engine_tells_of_it(
    hass: HomeAssistant, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairings = stage.home.pairings
    await pairings.async_request(ADA, Terms(), trusted=True)

    # This one was on its way already.
    stage.push()
    assert pairings.step(ADA) is Step.WAITING

    monkeypatch.setattr("custom_components.pemus.friends.pairings.STATUS_DELAY", -1.0)
    stage.push()
    assert pairings.step(ADA) is Step.OVER


async def test_what_was_granted_before_counts_again_if_asking_fails(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    pairings = stage.home.pairings
    async_grant(hass, entry, ADA, Terms(note="before"))
    for error in (
        EngineUnavailable("it is gone"),
        EngineError(ErrorKey.BUSY, "too many"),
    ):
        stage.error = error
        with pytest.raises(type(error)):
            await pairings.async_request(ADA, Terms(note="after"), trusted=True)
        with pytest.raises(type(error)):
            await pairings.async_accept(ADA, Terms(note="after"))
        with pytest.raises(type(error)):
            await pairings.async_request(BEN, Terms(note="after"), trusted=True)

        assert entry.data[CONF_TERMS].keys() == {ADA}
        assert entry.data[CONF_TERMS][ADA]["note"] == "before"


async def test_to_whom_the_network_shows_nothing_is_granted_before_the_words(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    pairings = stage.home.pairings
    await pairings.async_request(ADA, Terms(note="too early"), trusted=False)

    assert CONF_TERMS not in entry.data
    stage.push(request(incoming=False))
    assert pairings.step(ADA) is Step.COMPARING
    # Where both asked, there is nothing to wait for.
    stage.push(request(state=PairingState.PAIRED))
    await pairings.async_request(ADA, Terms(), trusted=False)
    assert pairings.step(ADA) is Step.PAIRED


async def test_what_was_granted_does_not_outlive_the_request(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    await stage.home.pairings.async_request(ADA, Terms(note="x"), trusted=True)
    stage.push(pairing())
    assert CONF_TERMS in entry.data

    stage.push()

    assert CONF_TERMS not in entry.data


async def test_who_waits_hears_of_the_next_step_and_of_the_end(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    pairings = stage.home.pairings
    stage.push(pairing(), pairing(BEN))

    for home, steps, expected, after in (
        (ADA, [Step.WAITING], Step.COMPARING, [request(incoming=False), pairing(BEN)]),
        (ADA, [Step.COMPARING], Step.OVER, [pairing(BEN)]),
        (BEN, [Step.WAITING], Step.DENIED, [pairing(BEN, state=PairingState.DENIED)]),
    ):
        waiting = hass.async_create_task(pairings.async_leave(home, *steps))
        given_up = hass.async_create_task(pairings.async_leave(home, *steps))
        stage.tell()
        assert not waiting.done()
        given_up.cancel()
        stage.push(*after)
        assert await waiting is expected
    assert await pairings.async_leave(ADA, Step.WAITING) is Step.OVER

    stage.push(pairing())
    waiting = hass.async_create_task(pairings.async_leave(ADA, Step.WAITING))
    await hass.config_entries.async_unload(entry.entry_id)
    assert await waiting is Step.UNLOADED


async def test_an_engine_that_knows_of_no_homes_takes_nothing_back(
    hass: HomeAssistant, stage: Stage
) -> None:
    stage.push(request())
    await hass.async_block_till_done()

    stage.peers = None
    stage.tell()
    await hass.async_block_till_done()

    assert len(dialogs(hass)) == 1


async def test_friends_are_not_asked_about(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry)
    # A friend that lost its memory asks again; the engine says yes by itself.
    stage.push(request(confirmed=True))
    await hass.async_block_till_done()

    assert dialogs(hass) == []
    assert notifications(hass) == {}


async def test_a_dialog_that_waits_for_the_other_home_is_left_alone(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.push(request())
    await hass.async_block_till_done()
    (dialog,) = dialogs(hass)
    configure = hass.config_entries.flow.async_configure
    await configure(dialog["flow_id"], {"next_step_id": "shares"})
    result = await configure(dialog["flow_id"], {})
    assert result["type"] is FlowResultType.SHOW_PROGRESS
    assert result["step_id"] == "finishing"

    stage.push(request(confirmed=True))
    await hass.async_block_till_done()
    assert len(dialogs(hass)) == 1

    stage.push(request(state=PairingState.PAIRED))
    await eventually(hass, lambda: dialogs(hass)[0]["step_id"] == STEP_END)
    assert find_friend(entry, ADA) is not None
    result = await configure(dialog["flow_id"])
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "paired"


async def test_a_dialog_that_was_closed_does_not_stay_when_all_is_over(
    hass: HomeAssistant, stage: Stage
) -> None:
    stage.push(request())
    await hass.async_block_till_done()
    (dialog,) = dialogs(hass)
    configure = hass.config_entries.flow.async_configure
    await configure(dialog["flow_id"], {"next_step_id": "shares"})
    await configure(dialog["flow_id"], {})
    stage.push(request(state=PairingState.PAIRED))
    await eventually(hass, lambda: dialogs(hass)[0]["step_id"] == STEP_END)

    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=END_TIMEOUT + 1))
    await hass.async_block_till_done()

    assert dialogs(hass) == []
