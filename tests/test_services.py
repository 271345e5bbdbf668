"""The actions."""

import os
from pathlib import Path
import signal
from typing import Any

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import (
    HomeAssistantError,
    ServiceValidationError,
    Unauthorized,
)
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
import voluptuous as vol

from custom_components.pemus.const import DOMAIN

from .household import eventually, fill, share, until_scanned


async def search(
    hass: HomeAssistant, context: Context | None = None, **data: Any
) -> list[dict[str, Any]]:
    """Search."""
    answer = await hass.services.async_call(
        DOMAIN, "search", data, blocking=True, return_response=True, context=context
    )
    assert list(answer) == ["items"]
    return answer["items"]


async def rescan(
    hass: HomeAssistant, context: Context | None = None, **data: Any
) -> None:
    """Have the folders read again."""
    await hass.services.async_call(
        DOMAIN, "rescan", data, blocking=True, context=context
    )


def device_of(hass: HomeAssistant, entry: MockConfigEntry, key: str) -> str:
    """Return the id of the device of a share, or of the home."""
    device = dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, key), entry.entry_id
    )
    return device.id


async def test_a_search_returns_what_is_needed_to_play(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path
) -> None:
    (song,) = await search(hass, query="dawn")
    assert song["media_content_id"].startswith("media-source://pemus/item/")
    assert song["media_content_type"] == "audio/flac"
    assert song["kind"] == "music"
    assert song["title"] == "Dawn"
    assert song["artist"] == "Ada Moll"
    assert song["album"] == "Daylight"
    assert song["duration"] == pytest.approx(1, abs=0.2)
    assert song["subtitles"] == []

    (film,) = await search(hass, query="ocean")
    item_id = film["media_content_id"].rpartition("/")[2]
    assert film["media_content_type"] == "video/mp4"
    assert f"/api/pemus/stream/{item_id}.mp4?authSig=" in film["url"]
    assert f"/api/pemus/thumbnail/{item_id}?authSig=" in film["thumbnail"]
    assert film["friend"] is None
    assert film["available"] is True
    (subtitle,) = film["subtitles"]
    assert subtitle["language"] == "en"
    assert f"/api/pemus/subtitles/{item_id}/0.vtt?authSig=" in subtitle["url"]


async def test_a_search_is_narrowed(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path, tmp_path: Path
) -> None:
    assert len(await search(hass, query="mountain")) == 2
    assert len(await search(hass, query="mountain", limit=1)) == 1
    (film,) = await search(hass, query="mountain", kinds="video")
    assert film["kind"] == "video"
    assert not await search(hass, query="mountain", kinds=["photo"])

    more = await hass.async_add_executor_job(fill, tmp_path / "More")
    share(hass, entry, more, "More", ("video",))
    await until_scanned(hass, entry)
    for wanted in ("More", " more ", device_of(hass, entry, _id(entry, "More"))):
        assert len(await search(hass, query="mountain", share=wanted)) == 1
    home = device_of(hass, entry, entry.entry_id)
    assert len(await search(hass, query="mountain", share=home)) == 3


def _id(entry: MockConfigEntry, name: str) -> str:
    return next(
        known.id
        for known in entry.runtime_data.configuration.config.shares
        if known.name == name
    )


async def test_a_senseless_search_is_refused(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    for data in (
        {},
        {"query": ""},
        {"query": "   "},
        {"query": "x", "limit": 0},
        {"query": "x", "limit": 501},
        {"query": "x", "kinds": []},
        {"query": "x", "kinds": ["books"]},
        {"query": "x", "path": "/etc"},
        {"query": "x", "share": "Media", "friend": "Ada"},
    ):
        with pytest.raises(vol.Invalid):
            await search(hass, **data)


async def test_no_query_upsets_the_library(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path
) -> None:
    for query in ('"', "AND", "*", "(", "\0", "💥 -x:y^", "a" * 900):
        assert isinstance(await search(hass, query=query), list)


async def test_a_share_that_is_unknown_is_named(
    hass: HomeAssistant, entry: MockConfigEntry, device_registry: dr.DeviceRegistry
) -> None:
    other = MockConfigEntry()
    other.add_to_hass(hass)
    foreign = device_registry.async_get_or_create(
        config_entry_id=other.entry_id, identifiers={("other", "device")}
    )
    for wanted in ("Nowhere", "", foreign.id):
        for call in (search(hass, query="x", share=wanted), rescan(hass, share=wanted)):
            with pytest.raises(ServiceValidationError) as caught:
                await call
            assert caught.value.translation_key == "no_such_share"


async def test_only_administrators_rescan_and_everybody_searches(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    hass_read_only_user: MockUser,
    hass_admin_user: MockUser,
) -> None:
    guest = Context(user_id=hass_read_only_user.id)

    with pytest.raises(Unauthorized):
        await rescan(hass, guest)
    assert await search(hass, guest, query="dawn")
    await rescan(hass, Context(user_id=hass_admin_user.id))
    await rescan(hass)


async def test_one_share_or_all_are_read_again(
    hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path
) -> None:
    coordinator = entry.runtime_data.coordinator
    for name in ("One", "Two"):
        (tmp_path / name).mkdir()
        share(hass, entry, tmp_path / name, name)
    await until_scanned(hass, entry)
    one, two = (known.last_scan for known in coordinator.data.shares)

    await rescan(hass, share="two")
    await eventually(hass, lambda: coordinator.data.shares[1].last_scan > two)
    assert coordinator.data.shares[0].last_scan == one

    await rescan(hass, share=device_of(hass, entry, entry.entry_id))
    await eventually(hass, lambda: coordinator.data.shares[0].last_scan > one)


async def test_the_actions_say_when_the_home_is_not_there(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )

    for call in (search(hass, query="x"), rescan(hass)):
        with pytest.raises(ServiceValidationError) as caught:
            await call
        assert caught.value.translation_key == "not_loaded"


async def test_the_actions_are_there_before_any_home(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})

    assert hass.services.has_service(DOMAIN, "search")
    assert hass.services.has_service(DOMAIN, "rescan")


async def test_the_actions_say_when_the_engine_is_down(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    coordinator = entry.runtime_data.coordinator
    os.kill(coordinator.data.pid, signal.SIGKILL)

    with pytest.raises(HomeAssistantError) as caught:
        await search(hass, query="x")

    assert caught.value.translation_key == "engine_unavailable"
    assert str(caught.value).startswith("The PeMuS engine is not running")
    await eventually(hass, lambda: not coordinator.last_update_success)
    await eventually(hass, lambda: coordinator.last_update_success)
