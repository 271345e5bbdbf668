"""What the sensors show."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
import shutil

from homeassistant.const import EntityCategory
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.event import async_track_state_change_event
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
)
from syrupy.assertion import SnapshotAssertion
from syrupy.filters import props

from custom_components.pemus import entity as entities
from custom_components.pemus.engine.process import EngineState
from custom_components.pemus.engine.provision import Limit, LimitedReason
from custom_components.pemus.p2p.models import ScanState, StatusChanged, SwarmStatus

from .household import engine_says, eventually


def value(hass: HomeAssistant, entity_id: str) -> str:
    """Return what an entity shows."""
    return hass.states.get(entity_id).state


async def test_every_entity_is_what_it_should_be(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    entity_registry: er.EntityRegistry,
    snapshot: SnapshotAssertion,
) -> None:
    known = er.async_entries_for_config_entry(entity_registry, entry.entry_id)

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


async def test_what_changes_all_the_time_is_not_recorded_unless_wanted(
    hass: HomeAssistant, entry: MockConfigEntry, entity_registry: er.EntityRegistry
) -> None:
    known = er.async_entries_for_config_entry(entity_registry, entry.entry_id)
    sensors = {each.translation_key: each for each in known if each.domain == "sensor"}

    for key in (
        "upload_rate",
        "download_rate",
        "peers",
        "active_seeds",
        "scan_progress",
        "engine_memory",
    ):
        assert sensors[key].disabled, key
    for key in ("sent", "received"):
        assert not sensors[key].disabled
        assert sensors[key].capabilities == {"state_class": "total_increasing"}
    # There is nothing to be learned from how far something was at some time.
    for key in ("scan_progress", "hashed"):
        assert not (sensors[key].capabilities or {}).get("state_class"), key


@pytest.mark.usefixtures("every_entity_enabled")
async def test_the_library_is_counted(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path
) -> None:
    size = sum(
        file.stat().st_size
        for file in media.rglob("*.*")
        if file.suffix in {".mp4", ".flac", ".jpg"}
    )

    assert value(hass, "sensor.casa_videos") == "2"
    assert value(hass, "sensor.casa_songs") == "3"
    assert value(hass, "sensor.casa_photos") == "2"
    assert float(value(hass, "sensor.casa_library_size")) == pytest.approx(size / 1e9)
    assert value(hass, "sensor.casa_scan") == "idle"
    assert value(hass, "sensor.casa_scan_progress") == "unknown"
    assert value(hass, "sensor.casa_engine") == "running"
    assert value(hass, "sensor.media_videos") == "2"
    assert value(hass, "sensor.media_songs") == "3"
    assert value(hass, "sensor.media_photos") == "2"
    assert value(hass, "sensor.media_last_scan").startswith("20")
    assert value(hass, "binary_sensor.media_availability") == "on"


async def test_a_new_film_is_noticed(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path
) -> None:
    shutil.copy(media / "films" / "Ocean.mp4", media / "films" / "Lake.mp4")

    await eventually(hass, lambda: value(hass, "sensor.casa_videos") == "3")


async def test_a_share_whose_disk_is_gone_keeps_its_numbers(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path
) -> None:
    gone = media.rename(media.with_name("unplugged"))
    await entry.runtime_data.engine.client.rescan()
    await eventually(
        hass, lambda: value(hass, "binary_sensor.media_availability") == "off"
    )
    assert value(hass, "sensor.media_videos") == "2"

    gone.rename(media)
    await entry.runtime_data.engine.client.rescan()
    await eventually(
        hass, lambda: value(hass, "binary_sensor.media_availability") == "on"
    )
    assert value(hass, "sensor.media_videos") == "2"


@pytest.mark.usefixtures("every_entity_enabled")
async def test_a_scan_is_shown_while_it_runs(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    # A state that passes in a moment with few files, pushed as the engine does.
    coordinator = entry.runtime_data.coordinator
    engine = coordinator.engine
    engine.status = replace(
        coordinator.data, scan_state=ScanState.READING, progress=41.7
    )
    engine_says(entry.runtime_data, StatusChanged(status=engine.status))

    assert value(hass, "sensor.casa_scan") == "reading"
    assert value(hass, "sensor.casa_scan_progress") == "41.7"


async def test_the_engines_state_is_always_shown(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = entry.runtime_data.coordinator
    engine = coordinator.engine

    monkeypatch.setattr(
        engine, "limited", LimitedReason(limit=Limit.OFFLINE, detail="")
    )
    engine_says(entry.runtime_data, None)
    assert value(hass, "sensor.casa_engine") == "limited"

    for state in (EngineState.RESTARTING, EngineState.FAILED, EngineState.STARTING):
        monkeypatch.setattr(engine, "state", state)
        engine_says(entry.runtime_data, None)
        assert value(hass, "sensor.casa_engine") == state
        assert value(hass, "sensor.casa_videos") == "unavailable"


async def test_the_engines_memory_is_there_for_who_asks(
    hass: HomeAssistant, entry: MockConfigEntry, entity_registry: er.EntityRegistry
) -> None:
    memory = entity_registry.async_get("sensor.casa_engine_memory")
    assert memory.disabled_by is er.RegistryEntryDisabler.INTEGRATION
    assert memory.entity_category is EntityCategory.DIAGNOSTIC

    entity_registry.async_update_entity(memory.entity_id, disabled_by=None)
    await hass.config_entries.async_reload(entry.entry_id)

    assert 5 < float(value(hass, "sensor.casa_engine_memory")) < 500


def tell_swarm(
    hass: HomeAssistant, entry: MockConfigEntry, swarm: SwarmStatus | None
) -> None:
    """Push a state of the swarm, as the engine does."""
    coordinator = entry.runtime_data.coordinator
    engine = coordinator.engine
    engine.status = replace(coordinator.data, swarm=swarm)
    engine_says(entry.runtime_data, StatusChanged(status=engine.status))


def rest(hass: HomeAssistant) -> None:
    """Let the time pass in which sensors of the swarm rest."""
    async_fire_time_changed(
        hass, dt_util.utcnow() + timedelta(seconds=entities.UPDATE_INTERVAL + 0.5)
    )


SWARM = SwarmStatus(
    port=6881,
    upload_rate=1_250_000.0,
    download_rate=250_000.0,
    uploaded=5_500_000_000,
    downloaded=2_500_000_000,
    peers=3,
    active_seeds=2,
    hashed=750,
    hashable=1000,
    cache_used=1_500_000_000,
    cache_quota=20_000_000_000,
    transfers=1,
)


@pytest.mark.usefixtures("every_entity_enabled")
async def test_what_goes_to_and_comes_from_other_homes_is_shown(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    tell_swarm(hass, entry, None)
    tell_swarm(hass, entry, SWARM)

    assert float(value(hass, "sensor.casa_upload_rate")) == 10
    assert float(value(hass, "sensor.casa_download_rate")) == 2
    assert float(value(hass, "sensor.casa_sent")) == 5.5
    assert float(value(hass, "sensor.casa_received")) == 2.5
    assert value(hass, "sensor.casa_peers") == "3"
    assert value(hass, "sensor.casa_files_being_served") == "2"
    assert value(hass, "sensor.casa_ready_for_other_homes") == "75.0"
    assert float(value(hass, "sensor.casa_cache_use")) == 1.5
    rate = hass.states.get("sensor.casa_upload_rate").attributes
    assert rate["unit_of_measurement"] == "Mbit/s"
    assert rate["device_class"] == "data_rate"


async def test_a_home_that_shares_nothing_is_neither_ready_nor_not(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    tell_swarm(hass, entry, None)
    tell_swarm(hass, entry, replace(SWARM, hashed=0, hashable=0))
    assert value(hass, "sensor.casa_ready_for_other_homes") == "unknown"

    # While a file is removed, the two numbers may disagree for a moment.
    rest(hass)
    tell_swarm(hass, entry, replace(SWARM, hashed=1001, hashable=1000))
    assert value(hass, "sensor.casa_ready_for_other_homes") == "100.0"


@pytest.mark.usefixtures("every_entity_enabled")
async def test_an_engine_that_cannot_reach_other_homes_shows_nothing_of_them(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    for swarm, shown in ((None, "unavailable"), (SWARM, "3"), (None, "unavailable")):
        # At once, however short the last change is ago.
        tell_swarm(hass, entry, swarm)
        assert value(hass, "sensor.casa_peers") == shown
    assert value(hass, "sensor.casa_videos") == "0"


@pytest.mark.usefixtures("every_entity_enabled")
async def test_what_changes_all_the_time_is_shown_at_a_pace(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    tell_swarm(hass, entry, None)
    tell_swarm(hass, entry, SWARM)
    shown: list[str] = []

    @callback
    def note(event: Event[EventStateChangedData]) -> None:
        shown.append(event.data["new_state"].state)

    async_track_state_change_event(hass, "sensor.casa_peers", note)

    for peers in (4, 5, 6):
        tell_swarm(hass, entry, replace(SWARM, peers=peers))
    assert value(hass, "sensor.casa_peers") == "3"

    # The last one is not lost, although nothing is told any more.
    rest(hass)
    assert value(hass, "sensor.casa_peers") == "6"
    tell_swarm(hass, entry, replace(SWARM, peers=7))
    rest(hass)
    # After a rest, the next one is shown at once.
    rest(hass)
    tell_swarm(hass, entry, replace(SWARM, peers=8))
    await hass.async_block_till_done()
    assert shown == ["6", "7", "8"]
