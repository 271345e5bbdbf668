"""A friend is a device that shows how it is."""

from datetime import timedelta

from freezegun.api import FrozenDateTimeFactory
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
)
from syrupy.assertion import SnapshotAssertion
from syrupy.filters import props

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.entity import UPDATE_INTERVAL
from custom_components.pemus.p2p.models.homes import PathKind

from .household import ADA, BEN, Stage, befriend, friend, share


@pytest.fixture
def entry(staged_entry: MockConfigEntry) -> MockConfigEntry:
    """Do without a real engine: the stage says what happens."""
    return staged_entry


def value(hass: HomeAssistant, entity_id: str) -> str:
    """Return what an entity shows."""
    return hass.states.get(entity_id).state


async def test_every_entity_is_what_it_should_be(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    entity_registry: er.EntityRegistry,
    snapshot: SnapshotAssertion,
) -> None:
    subentry = befriend(hass, entry, name="Ada")
    await hass.async_block_till_done()
    known = [
        entity
        for entity in er.async_entries_for_config_entry(entity_registry, entry.entry_id)
        if entity.config_subentry_id == subentry.subentry_id
    ]

    assert {
        entity.entity_id: {
            "category": entity.entity_category,
            "class": entity.original_device_class,
            "capabilities": entity.capabilities,
            "disabled": entity.disabled,
            "key": entity.translation_key,
            "name": entity.original_name,
            "unit": entity.unit_of_measurement,
            "options": entity.options,
        }
        for entity in sorted(known, key=lambda entity: entity.entity_id)
    } == snapshot(exclude=props("conversation"))


@pytest.mark.usefixtures("every_entity_enabled")
async def test_a_friend_shows_how_it_is_reached(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry, name="Ada")
    stage.push(
        friends=(
            friend(
                path=PathKind.RELAYED,
                rtt=0.0425,
                lost=0.015,
                download_rate=1_000_000,
                upload_rate=250_000,
                items=1234,
                last_seen=1_700_000_030.5,
            ),
        )
    )
    await hass.async_block_till_done()

    assert value(hass, "binary_sensor.ada_connection") == "on"
    assert value(hass, "sensor.ada_path") == "relayed"
    assert float(value(hass, "sensor.ada_round_trip")) == pytest.approx(42.5)
    assert float(value(hass, "sensor.ada_lost_packets")) == pytest.approx(1.5)
    assert float(value(hass, "sensor.ada_download_rate")) == pytest.approx(8)
    assert float(value(hass, "sensor.ada_upload_rate")) == pytest.approx(2)
    assert value(hass, "sensor.ada_shared_with_you") == "1234"
    # To the minute: who is there is seen all the time.
    assert value(hass, "sensor.ada_last_seen") == "2023-11-14T22:13:00+00:00"


@pytest.mark.usefixtures("every_entity_enabled")
async def test_a_friend_that_is_offline_is_shown_as_such(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    freezer: FrozenDateTimeFactory,
) -> None:
    befriend(hass, entry, name="Ada")
    stage.push(friends=(friend(path=PathKind.LAN, rtt=0.1, lost=0.5, last_seen=60.0),))
    stage.push(friends=(friend(online=False, items=5, last_seen=60.0),))
    freezer.tick(timedelta(seconds=UPDATE_INTERVAL + 1))
    async_fire_time_changed(hass)
    await hass.async_block_till_done()

    assert value(hass, "binary_sensor.ada_connection") == "off"
    assert value(hass, "sensor.ada_path") == "none"
    assert value(hass, "sensor.ada_round_trip") == STATE_UNKNOWN
    assert value(hass, "sensor.ada_lost_packets") == STATE_UNKNOWN
    assert value(hass, "sensor.ada_shared_with_you") == "5"
    assert value(hass, "sensor.ada_last_seen") == "1970-01-01T00:01:00+00:00"


async def test_a_friend_that_was_never_met_has_not_been_seen(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry, name="Ada")
    stage.push(friends=(friend(online=False),))
    await hass.async_block_till_done()

    assert value(hass, "sensor.ada_last_seen") == STATE_UNKNOWN


@pytest.mark.usefixtures("every_entity_enabled")
async def test_rates_are_shown_at_a_pace_and_the_path_at_once(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    freezer: FrozenDateTimeFactory,
) -> None:
    befriend(hass, entry, name="Ada")
    stage.push(friends=(friend(),))
    await hass.async_block_till_done()

    stage.push(friends=(friend(path=PathKind.DIRECT, download_rate=125_000),))
    await hass.async_block_till_done()
    assert value(hass, "sensor.ada_path") == "direct"
    assert float(value(hass, "sensor.ada_download_rate")) == 0

    freezer.tick(timedelta(seconds=UPDATE_INTERVAL + 1))
    async_fire_time_changed(hass)
    await hass.async_block_till_done()
    assert float(value(hass, "sensor.ada_download_rate")) == 1


async def test_nothing_is_known_of_a_friend_before_the_engine_knows_it(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry, name="Ada")
    await hass.async_block_till_done()
    assert value(hass, "binary_sensor.ada_connection") == STATE_UNAVAILABLE
    assert value(hass, "sensor.ada_path") == STATE_UNAVAILABLE

    stage.push(friends=(friend(BEN), friend()))
    await hass.async_block_till_done()
    assert value(hass, "binary_sensor.ada_connection") == "on"
    stage.peers = None
    stage.tell()
    await hass.async_block_till_done()
    assert value(hass, "binary_sensor.ada_connection") == STATE_UNAVAILABLE


async def test_a_friend_comes_and_goes_with_its_device_and_leaves_the_others_alone(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    device_registry: dr.DeviceRegistry,
    entity_registry: er.EntityRegistry,
    tmp_path: object,
) -> None:
    share(hass, entry, tmp_path, "Films")
    first = befriend(hass, entry, name="Ada")
    await hass.async_block_till_done()
    befriend(hass, entry, BEN, name="Ben")
    await hass.async_block_till_done()
    device = device_registry.async_get_device_by_identifier(
        (DOMAIN, ADA), entry.entry_id
    )
    assert device.name == "Ada"
    assert device.via_device_id is not None
    before = {
        entity.entity_id
        for entity in er.async_entries_for_config_entry(entity_registry, entry.entry_id)
    }
    assert {"sensor.ada_path", "sensor.ben_path", "sensor.films_videos"} <= before

    hass.config_entries.async_update_subentry(entry, first, title="Ada Moll")
    await hass.async_block_till_done()
    assert device_registry.async_get(device.id).name == "Ada Moll"

    hass.config_entries.async_remove_subentry(entry, first.subentry_id)
    await hass.async_block_till_done()
    after = {
        entity.entity_id
        for entity in er.async_entries_for_config_entry(entity_registry, entry.entry_id)
    }
    assert before - after == {entity for entity in before if ".ada_" in entity}
    assert device_registry.async_get(device.id) is None
