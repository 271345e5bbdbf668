"""The rescan buttons."""

from functools import partial
import os
from pathlib import Path
import signal

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from .household import eventually, share, until_scanned


async def press(hass: HomeAssistant, button: str) -> None:
    """Press a button."""
    await hass.services.async_call(
        "button", "press", {"entity_id": button}, blocking=True
    )


async def test_the_button_of_a_share_reads_that_share_again(
    hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path
) -> None:
    coordinator = entry.runtime_data.coordinator
    for name in ("One", "Two"):
        (tmp_path / name).mkdir()
        share(hass, entry, tmp_path / name, name)
    await until_scanned(hass, entry)
    one, two = (known.last_scan for known in coordinator.data.shares)

    await press(hass, "button.one_rescan")
    await eventually(hass, lambda: coordinator.data.shares[0].last_scan > one)
    assert coordinator.data.shares[1].last_scan == two

    await press(hass, "button.casa_rescan")
    await eventually(hass, lambda: coordinator.data.shares[1].last_scan > two)


async def test_a_press_while_the_engine_is_down_says_so(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    coordinator = entry.runtime_data.coordinator
    os.kill(coordinator.data.pid, signal.SIGKILL)

    with pytest.raises(HomeAssistantError) as caught:
        await press(hass, "button.casa_rescan")

    assert caught.value.translation_key == "engine_unavailable"
    await eventually(hass, lambda: not coordinator.last_update_success)
    await eventually(hass, lambda: coordinator.last_update_success)


async def test_a_share_that_is_unknown_cannot_be_read(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = entry.runtime_data.engine.client
    monkeypatch.setattr(
        client, "rescan", partial(client.rescan, "01nosuchshare0000000000000")
    )
    with pytest.raises(HomeAssistantError) as caught:
        await press(hass, "button.casa_rescan")

    assert caught.value.translation_key == "not_found"
