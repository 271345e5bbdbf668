"""Setting up, reloading, disabling and removing the home, and what becomes of the engine."""

from datetime import timedelta
from functools import partial
import os
from pathlib import Path
import signal

from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState
from homeassistant.const import EVENT_STATE_CHANGED, STATE_UNAVAILABLE
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers import (
    device_registry as dr,
    entity_registry as er,
    issue_registry as ir,
)
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
)

from custom_components.pemus import configuration
from custom_components.pemus.configuration import RETRY_DELAY_MAX, RETRY_DELAY_MIN
from custom_components.pemus.const import DOMAIN
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.engine.process import DATA_ENGINE, Engine, EngineState
from custom_components.pemus.issues import ISSUE_UNAPPLIED
from custom_components.pemus.p2p.models import EngineConfig, ErrorKey, Status

from .household import eventually, share, until_scanned


def is_alive(pid: int) -> bool:
    """Tell whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_reload_does_not_restart_the_engine(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    engine, pid = hass.data[DATA_ENGINE], entry.runtime_data.coordinator.data.pid

    assert await hass.config_entries.async_reload(entry.entry_id)

    assert entry.state is ConfigEntryState.LOADED
    assert hass.data[DATA_ENGINE] is engine
    assert (await engine.client.status()).pid == pid
    assert is_alive(pid)


async def test_disabling_the_home_stops_the_engine_and_enabling_starts_it(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    pid = entry.runtime_data.coordinator.data.pid

    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )
    assert DATA_ENGINE not in hass.data
    assert not is_alive(pid)

    await hass.config_entries.async_set_disabled_by(entry.entry_id, None)
    assert entry.state is ConfigEntryState.LOADED
    assert is_alive(entry.runtime_data.coordinator.data.pid)


async def test_removing_the_home_leaves_nothing_behind(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    pid = entry.runtime_data.coordinator.data.pid
    kept = [Path(hass.config.path(folder, DOMAIN)) for folder in (".storage", ".cache")]
    assert all(folder.is_dir() for folder in kept)

    await hass.config_entries.async_remove(entry.entry_id)

    assert not is_alive(pid)
    assert not any(folder.exists() for folder in kept)
    assert DATA_ENGINE not in hass.data
    assert not dr.async_get(hass).devices
    assert not er.async_get(hass).entities


async def test_a_disabled_home_can_be_removed(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )

    await hass.config_entries.async_remove(entry.entry_id)

    assert not Path(hass.config.path(".storage", DOMAIN)).exists()


async def test_set_up_is_tried_again_while_the_engine_cannot_start(
    hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEMUS_ENGINE_ENVIRONMENT", str(tmp_path / "nothing"))
    entry = MockConfigEntry(domain=DOMAIN, unique_id=DOMAIN)
    entry.add_to_hass(hass)

    assert not await hass.config_entries.async_setup(entry.entry_id)

    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == "engine_unavailable"
    engine = hass.data[DATA_ENGINE]
    assert engine.state is not EngineState.STOPPED

    # Nobody unloads what never loaded, and yet nothing goes on running.
    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )
    await hass.async_block_till_done()
    assert engine.state is EngineState.STOPPED
    assert DATA_ENGINE not in hass.data


async def test_a_home_that_never_was_set_up_can_be_removed(
    hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEMUS_ENGINE_ENVIRONMENT", str(tmp_path / "nothing"))
    entry = MockConfigEntry(domain=DOMAIN, unique_id=DOMAIN)
    entry.add_to_hass(hass)
    assert not await hass.config_entries.async_setup(entry.entry_id)
    engine = hass.data[DATA_ENGINE]

    await hass.config_entries.async_remove(entry.entry_id)

    assert engine.state is EngineState.STOPPED
    assert DATA_ENGINE not in hass.data
    assert not Path(hass.config.path(".storage", DOMAIN)).exists()


async def test_an_engine_that_was_tried_again_belongs_to_the_home(
    hass: HomeAssistant,
    tmp_path: Path,
    engine_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = tmp_path / "environment"
    monkeypatch.setenv("PEMUS_ENGINE_ENVIRONMENT", str(link))
    entry = MockConfigEntry(domain=DOMAIN, unique_id=DOMAIN)
    entry.add_to_hass(hass)
    assert not await hass.config_entries.async_setup(entry.entry_id)
    engine = hass.data[DATA_ENGINE]

    link.symlink_to(engine_environment)
    await eventually(hass, lambda: engine.state is EngineState.RUNNING)
    assert await hass.config_entries.async_reload(entry.entry_id)

    assert entry.state is ConfigEntryState.LOADED
    assert entry.runtime_data.engine is engine


async def test_a_killed_engine_comes_back_and_its_entities_with_it(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    coordinator = entry.runtime_data.coordinator
    pid = coordinator.data.pid
    assert hass.states.get("sensor.casa_videos").state == "2"
    shown: dict[str, list[str]] = {}

    @callback
    def note(event: Event[EventStateChangedData]) -> None:
        state = event.data["new_state"]
        shown.setdefault(state.entity_id, []).append(state.state)

    hass.bus.async_listen(EVENT_STATE_CHANGED, note)

    os.kill(pid, signal.SIGKILL)
    await eventually(hass, lambda: not coordinator.last_update_success)

    assert hass.states.get("sensor.casa_videos").state == STATE_UNAVAILABLE
    assert hass.states.get("sensor.media_videos").state == STATE_UNAVAILABLE
    assert hass.states.get("binary_sensor.media_availability").state == (
        STATE_UNAVAILABLE
    )
    assert hass.states.get("sensor.casa_engine").state == "restarting"

    await eventually(hass, lambda: coordinator.last_update_success)
    await until_scanned(hass, entry)
    assert coordinator.data.pid != pid
    assert hass.states.get("sensor.casa_videos").state == "2"
    assert hass.states.get("sensor.media_videos").state == "2"
    assert hass.states.get("sensor.casa_engine").state == "running"
    # On the way, nothing was told that is not so.
    assert set(shown["sensor.casa_videos"]) == {STATE_UNAVAILABLE, "2"}
    assert set(shown["sensor.media_videos"]) == {STATE_UNAVAILABLE, "2"}
    assert "off" not in shown["binary_sensor.media_availability"]
    assert caplog.text.count("Error requesting pemus data") == 1


async def test_a_share_comes_and_goes_with_its_device_and_entities(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    tmp_path: Path,
    device_registry: dr.DeviceRegistry,
    entity_registry: er.EntityRegistry,
) -> None:
    coordinator = entry.runtime_data.coordinator
    pid = coordinator.data.pid
    (tmp_path / "Films").mkdir()
    subentry = share(hass, entry, tmp_path / "Films", "Films")
    share_id = subentry.subentry_id.lower()
    await until_scanned(hass, entry)

    def of_share() -> list[er.RegistryEntry]:
        return [
            known
            for known in er.async_entries_for_config_entry(
                entity_registry, entry.entry_id
            )
            if known.config_subentry_id == subentry.subentry_id
        ]

    home = device_registry.async_get_device_by_identifier(
        (DOMAIN, entry.entry_id), entry.entry_id
    )
    device = device_registry.async_get_device_by_identifier(
        (DOMAIN, share_id), entry.entry_id
    )
    assert home.name == "Casa"
    assert device.name == "Films"
    assert device.via_device_id == home.id
    assert {known.entity_id for known in of_share()} == {
        "binary_sensor.films_availability",
        "button.films_rescan",
        "sensor.films_last_scan",
        "sensor.films_photos",
        "sensor.films_songs",
        "sensor.films_videos",
    }
    assert hass.states.get("binary_sensor.films_availability").state == "on"

    # It shares less, and has another name.
    hass.config_entries.async_update_subentry(
        entry,
        subentry,
        title="Cinema",
        data={**subentry.data, "kinds": ["video"]},
    )
    await hass.async_block_till_done()
    assert {known.unique_id for known in of_share()} == {
        f"{share_id}_{key}" for key in ("availability", "rescan", "last_scan", "videos")
    }
    assert device_registry.async_get(device.id).name == "Cinema"

    # It shares more again.
    hass.config_entries.async_update_subentry(
        entry, subentry, data={**subentry.data, "kinds": ["video", "photo"]}
    )
    await until_scanned(hass, entry)
    assert f"{share_id}_photos" in {known.unique_id for known in of_share()}

    hass.config_entries.async_remove_subentry(entry, subentry.subentry_id)
    await hass.async_block_till_done()
    assert not of_share()
    assert device_registry.async_get(device.id) is None
    assert device_registry.async_get(home.id) is not None
    await eventually(hass, lambda: not coordinator.data.shares)
    assert coordinator.data.pid == pid
    assert entry.runtime_data.coordinator is coordinator


async def test_what_a_share_lost_while_the_home_was_disabled_is_removed(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    tmp_path: Path,
    entity_registry: er.EntityRegistry,
) -> None:
    (tmp_path / "Films").mkdir()
    subentry = share(hass, entry, tmp_path / "Films", "Films")
    await until_scanned(hass, entry)
    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )
    hass.config_entries.async_update_subentry(
        entry, subentry, data={**subentry.data, "kinds": ["video"]}
    )
    assert entity_registry.async_get("sensor.films_songs")

    await hass.config_entries.async_set_disabled_by(entry.entry_id, None)

    assert entity_registry.async_get("sensor.films_songs") is None
    assert entity_registry.async_get("sensor.films_videos")


async def test_renaming_the_home_renames_its_device(
    hass: HomeAssistant, entry: MockConfigEntry, device_registry: dr.DeviceRegistry
) -> None:
    hass.config_entries.async_update_entry(entry, title="Haus")
    await hass.async_block_till_done()

    home = device_registry.async_get_device_by_identifier(
        (DOMAIN, entry.entry_id), entry.entry_id
    )
    assert home.name == "Haus"


async def test_a_change_that_is_none_does_not_reach_the_engine(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(entry.runtime_data.engine, "async_configure", sent.append)

    hass.config_entries.async_update_entry(entry, pref_disable_new_entities=True)
    await hass.async_block_till_done()

    assert not sent


async def test_an_engine_that_refuses_a_configuration_is_told_again(
    hass: HomeAssistant,
    staged_entry: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
    issue_registry: ir.IssueRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    entry = staged_entry
    engine = entry.runtime_data.engine
    told: list[EngineConfig] = []
    refuses = True

    async def configure(config: EngineConfig) -> Status:
        told.append(config)
        if refuses:
            raise EngineError(ErrorKey.BAD_REQUEST, "the index is locked")
        return engine.status

    async def wait(seconds: float) -> None:
        async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=seconds))
        await hass.async_block_till_done()

    monkeypatch.setattr(
        engine, "async_configure", partial(Engine.async_configure, engine)
    )
    monkeypatch.setattr(engine.client, "configure", configure)
    hass.config_entries.async_update_entry(entry, title="Haus")
    await hass.async_block_till_done()

    assert "refused the configuration: the index is locked" in caplog.text
    issue = issue_registry.async_get_issue(DOMAIN, ISSUE_UNAPPLIED)
    assert issue.translation_placeholders == {"error": "the index is locked"}
    # It is told again, but not all the time.
    await wait(RETRY_DELAY_MIN + 1)
    assert len(told) == 2
    await wait(RETRY_DELAY_MIN + 1)
    assert len(told) == 2
    await wait(2 * RETRY_DELAY_MIN + 1)
    assert [config.home_name for config in told] == ["Haus"] * 3
    assert issue_registry.async_get_issue(DOMAIN, ISSUE_UNAPPLIED)

    refuses = False
    await wait(RETRY_DELAY_MAX + 1)
    assert issue_registry.async_get_issue(DOMAIN, ISSUE_UNAPPLIED) is None
    assert len(told) == 4
    await wait(RETRY_DELAY_MAX + 1)
    assert len(told) == 4

    # Who is unloaded tells nothing more.
    refuses = True
    hass.config_entries.async_update_entry(entry, title="Casa")
    await hass.async_block_till_done()
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert issue_registry.async_get_issue(DOMAIN, ISSUE_UNAPPLIED) is None
    await wait(RETRY_DELAY_MAX + 1)
    assert len(told) == 5


async def test_an_engine_that_starts_without_its_configuration_gets_it_later(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
    issue_registry: ir.IssueRegistry,
) -> None:
    engine = entry.runtime_data.engine
    pid = entry.runtime_data.coordinator.data.pid
    monkeypatch.setattr(configuration, "RETRY_DELAY_MIN", 0.1)

    async def refuse(config: EngineConfig) -> None:
        raise EngineUnavailable("the disk is slow")

    with monkeypatch.context() as patched:
        patched.setattr(engine.client, "configure", refuse)
        os.kill(pid, signal.SIGKILL)
        await eventually(
            hass,
            lambda: issue_registry.async_get_issue(DOMAIN, ISSUE_UNAPPLIED) is not None,
        )
        assert entry.runtime_data.coordinator.data.pid != pid

    await eventually(
        hass, lambda: issue_registry.async_get_issue(DOMAIN, ISSUE_UNAPPLIED) is None
    )
    assert engine.unapplied is None


async def test_home_assistants_stop_is_no_fault_of_the_engine(
    hass: HomeAssistant, entry: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    pid = entry.runtime_data.coordinator.data.pid

    await hass.async_stop(force=True)

    assert not is_alive(pid)
    assert "Error requesting" not in caplog.text


async def test_there_is_nothing_to_configure_in_yaml(
    hass: HomeAssistant, caplog: pytest.LogCaptureFixture
) -> None:
    await async_setup_component(hass, DOMAIN, {DOMAIN: {"folders": ["/media"]}})

    assert "does not support YAML setup" in caplog.text
