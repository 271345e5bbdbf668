"""What happens with other homes, as automations hear of it."""

from datetime import timedelta

from freezegun.api import FrozenDateTimeFactory
from homeassistant.const import STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
)

from custom_components.pemus.engine.process import EngineState
from custom_components.pemus.friends.presence import OFFLINE_DELAY
from custom_components.pemus.p2p.models import NewMedia

from .household import ADA, BEN, Stage, befriend, engine_says, friend
from .test_pairings import FRIENDS, last_event


@pytest.fixture
def entry(staged_entry: MockConfigEntry) -> MockConfigEntry:
    """Do without a real engine: the stage says what happens."""
    return staged_entry


def events(hass: HomeAssistant) -> str:
    """Return when something happened last."""
    return hass.states.get(FRIENDS).state


async def wait(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, seconds: float
) -> None:
    """Let time pass."""
    freezer.tick(timedelta(seconds=seconds))
    async_fire_time_changed(hass)
    await hass.async_block_till_done()


async def test_nothing_has_happened_yet(
    hass: HomeAssistant, stage: Stage, entity_registry: er.EntityRegistry
) -> None:
    assert events(hass) == STATE_UNKNOWN
    known = entity_registry.async_get(FRIENDS)
    assert known.capabilities["event_types"] == [
        "requested",
        "paired",
        "online",
        "offline",
        "new_media",
    ]


async def test_who_is_there_from_the_beginning_has_not_come(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry)
    stage.push(friends=(friend(),))
    await hass.async_block_till_done()

    assert events(hass) == STATE_UNKNOWN


async def test_a_friend_that_is_away_for_a_while_went_and_comes_back(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    freezer: FrozenDateTimeFactory,
) -> None:
    befriend(hass, entry, name="Ada")
    stage.push(friends=(friend(),))

    stage.push(friends=(friend(online=False),))
    await wait(hass, freezer, OFFLINE_DELAY - 1)
    assert events(hass) == STATE_UNKNOWN
    # The rest of the patience is not begun anew with each piece of news.
    stage.tell()
    await wait(hass, freezer, 2)
    assert last_event(hass)["event_type"] == "offline"
    assert last_event(hass)["home_id"] == ADA
    # As it is called here.
    assert last_event(hass)["name"] == "Ada"

    stage.push(friends=(friend(),))
    await hass.async_block_till_done()
    assert last_event(hass)["event_type"] == "online"


async def test_a_short_break_and_a_restart_of_the_engine_are_nothing(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    freezer: FrozenDateTimeFactory,
) -> None:
    befriend(hass, entry)
    stage.push(friends=(friend(),))
    stage.push(friends=(friend(online=False),))
    await wait(hass, freezer, OFFLINE_DELAY / 2)

    stage.push(friends=(friend(),))
    await wait(hass, freezer, 2 * OFFLINE_DELAY)
    assert events(hass) == STATE_UNKNOWN

    stage.peers, before = None, stage.peers
    stage.tell()
    await wait(hass, freezer, 2 * OFFLINE_DELAY)
    stage.peers = before
    stage.tell()
    await hass.async_block_till_done()
    assert events(hass) == STATE_UNKNOWN


async def test_who_was_away_from_the_beginning_comes_but_has_not_gone(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    freezer: FrozenDateTimeFactory,
) -> None:
    befriend(hass, entry)
    stage.push(friends=(friend(online=False),))
    await wait(hass, freezer, OFFLINE_DELAY + 1)
    assert events(hass) == STATE_UNKNOWN

    stage.push(friends=(friend(),))
    await hass.async_block_till_done()
    assert last_event(hass)["event_type"] == "online"


async def test_nobody_waits_for_who_is_no_friend_any_more(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    freezer: FrozenDateTimeFactory,
) -> None:
    stage.push(friends=(friend(), friend(BEN)))
    stage.push(friends=(friend(online=False), friend(BEN, online=False)))

    stage.push(friends=(friend(BEN, online=False),))
    await hass.config_entries.async_unload(entry.entry_id)
    await wait(hass, freezer, OFFLINE_DELAY + 1)

    assert "event_type" not in (hass.states.get(FRIENDS).attributes or {})


async def test_new_media_of_a_friend_are_told(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry, name="Ada")
    news = NewMedia(home=ADA, name="Ada's home", count=3, titles=("One", "T\nwo"))
    engine_says(entry.runtime_data, news)
    await hass.async_block_till_done()

    shown = last_event(hass)
    assert shown["event_type"] == "new_media"
    assert (shown["home_id"], shown["name"]) == (ADA, "Ada")
    assert (shown["count"], shown["titles"]) == (3, ["One", "T wo"])

    before = events(hass)
    engine_says(entry.runtime_data, NewMedia(home=BEN, name="Ben", count=1, titles=()))
    await hass.async_block_till_done()
    assert events(hass) == before


async def test_what_happened_stays_known_while_the_engine_is_down(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry)
    coordinator = entry.runtime_data.coordinator
    engine_says(
        entry.runtime_data, NewMedia(home=ADA, name="", count=1, titles=("One",))
    )
    coordinator.engine.state = EngineState.RESTARTING
    engine_says(entry.runtime_data, None)
    await hass.async_block_till_done()

    assert last_event(hass)["event_type"] == "new_media"
