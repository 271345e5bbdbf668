"""What a bug report tells, and what it does not."""

import json
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.diagnostics import (
    get_diagnostics_for_config_entry,
)
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
from syrupy.assertion import SnapshotAssertion
from syrupy.filters import props

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
