"""What a bug report tells, and what it does not."""

import json
import os
from pathlib import Path
import signal

from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.diagnostics import (
    get_diagnostics_for_config_entry,
)
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
from syrupy.assertion import SnapshotAssertion
from syrupy.filters import props

from demo.second_engine import NAME, SecondEngine

from .household import eventually

VARYING = (
    "capabilities",
    "created_at",
    "entry_id",
    "id",
    "last_scan",
    "modified_at",
    "pid",
    "revision",
    "rss",
    "share",
    "size",
    "started",
    "subentry_id",
    # Of the status: how many bytes went where varies from moment to moment.
    "swarm",
    "version",
)


async def test_the_report_has_what_helps(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    hass_client: ClientSessionGenerator,
    snapshot: SnapshotAssertion,
) -> None:
    report = await get_diagnostics_for_config_entry(hass, hass_client, entry)

    assert report == snapshot(exclude=props(*VARYING))
    status = report["engine"]["status"]
    assert status["pid"] == entry.runtime_data.data.pid
    assert "av" in status["capabilities"]
    assert status["swarm"]["cache_used"] == 0
    assert report["config"]["swarm"]["upload_limit"] == 2_000_000


async def test_the_report_tells_of_transfers_but_not_whose_and_what(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    neighbour: SecondEngine,
    hass_client: ClientSessionGenerator,
) -> None:
    owner = (await neighbour.ask("GET", "home"))["id"]
    for item in await neighbour.items():
        await entry.runtime_data.engine.client.pin(owner, item)

    report = await get_diagnostics_for_config_entry(hass, hass_client, entry)

    assert len(report["transfers"]) == 2
    for transfer in report["transfers"]:
        assert transfer["pinned"]
        assert transfer["size"] > 0
    text = json.dumps(report)
    for secret in (owner, NAME, "Ocean", "Mountain", "127.0.0.1"):
        assert secret not in text


async def test_an_engine_that_is_down_still_makes_a_report(
    hass: HomeAssistant, entry: MockConfigEntry, hass_client: ClientSessionGenerator
) -> None:
    coordinator = entry.runtime_data
    os.kill(coordinator.data.pid, signal.SIGKILL)
    await eventually(hass, lambda: not coordinator.last_update_success)

    report = await get_diagnostics_for_config_entry(hass, hass_client, entry)

    assert report["engine"]["state"] == "restarting"
    assert report["transfers"] is None
    await eventually(hass, lambda: coordinator.last_update_success)


async def test_the_report_names_no_folder_and_nobody(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    hass_client: ClientSessionGenerator,
) -> None:
    # A problem tells name and path to the user, but not to the report.
    media.rename(media.with_name("unplugged"))
    await entry.runtime_data.async_rescan()
    await eventually(hass, lambda: bool(entry.runtime_data.data.problems))

    report = json.dumps(
        await get_diagnostics_for_config_entry(hass, hass_client, entry)
    )

    for secret in (str(media), str(media.parent), "Media", "Casa", "Ocean", "Ada"):
        assert secret not in report
    assert "share_unavailable" in report
    assert await async_setup_component(hass, "homeassistant", {})
