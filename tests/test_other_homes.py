"""What friends share: in the media browser, played, and kept."""

import os
from pathlib import Path
import signal
from typing import Any

from homeassistant.components.media_player import (
    BrowseError,
    MediaClass,
    async_process_play_media_url,
)
from homeassistant.components.media_source import (
    BrowseMediaSource,
    PlayMedia,
    Unresolvable,
    async_browse_media,
    async_resolve_media,
)
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import (
    HomeAssistantError,
    ServiceValidationError,
    Unauthorized,
)
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
import voluptuous as vol

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.engine.client import EngineError
from custom_components.pemus.errors import engine_errors
from custom_components.pemus.p2p.models import ErrorKey
from custom_components.pemus.p2p.models.transfers import TransferState, TransferStatus
from tests.lab.engine_home import NAME, EngineHome
from tests.patience import until

from .household import eventually, introduce

ROOT = "media-source://pemus"
NOBODY = f"{ROOT}/home/{'A' * 28}/{'b' * 26}"


async def films(hass: HomeAssistant) -> dict[str, BrowseMediaSource]:
    """Return the films of the other home, by title."""
    root = await async_browse_media(hass, ROOT)
    (home,) = (child for child in root.children if child.title.startswith(NAME))
    return await films_below(hass, f"{home.media_content_id}/all/video/folders")


async def films_below(hass: HomeAssistant, place: str) -> dict[str, BrowseMediaSource]:
    """Return the films in a folder and its folders, by title."""
    found: dict[str, BrowseMediaSource] = {}
    for child in (await async_browse_media(hass, place)).children:
        if child.can_expand:
            found |= await films_below(hass, child.media_content_id)
        else:
            found[child.title] = child
    return found


async def play(hass: HomeAssistant, media_content_id: str) -> PlayMedia:
    """Resolve an item."""
    return await async_resolve_media(hass, media_content_id, None)


async def act(
    hass: HomeAssistant, action: str, context: Context | None = None, **data: Any
) -> None:
    """Pin or unpin."""
    await hass.services.async_call(DOMAIN, action, data, blocking=True, context=context)


async def transfer_of(entry: MockConfigEntry, item: str) -> TransferStatus | None:
    """Return how far an item has arrived, None if nothing of it was wanted yet."""
    transfers = await entry.runtime_data.engine.client.transfers()
    return next((each for each in transfers.items if item.endswith(each.item)), None)


async def pin(hass: HomeAssistant, entry: MockConfigEntry, item: str) -> None:
    """Pin an item and wait until it is there whole."""
    await act(hass, "pin", media_content_id=item)

    async def complete() -> bool:
        transfer = await transfer_of(entry, item)
        assert transfer.pinned
        return transfer.state is TransferState.COMPLETE

    await until(complete)


async def test_other_homes_are_shown_beside_what_this_one_shares(
    hass: HomeAssistant, media: Path, neighbour: EngineHome
) -> None:
    root = await async_browse_media(hass, ROOT)

    assert [child.title for child in root.children] == [
        "Videos",
        "Music",
        "Photos",
        NAME,
    ]
    home = root.children[-1]
    assert home.media_class is MediaClass.DIRECTORY
    assert home.can_expand and not home.can_play
    place = await async_browse_media(hass, home.media_content_id)
    assert place.title == NAME
    assert place.media_content_id == home.media_content_id
    shown = await films(hass)
    assert shown.keys() == {"Ocean", "Mountain"}
    for film in shown.values():
        assert film.media_class is MediaClass.VIDEO
        assert film.media_content_type == "video/mp4"
        assert film.can_play and not film.can_expand
        assert film.media_content_id.startswith(f"{home.media_content_id}/")


async def test_a_film_of_another_home_plays_while_it_arrives(
    hass: HomeAssistant,
    neighbour: EngineHome,
    tmp_path: Path,
    hass_client_no_auth: ClientSessionGenerator,
) -> None:
    ocean = (await films(hass))["Ocean"].media_content_id
    original = (tmp_path / "Cinema" / "films" / "Ocean.mp4").read_bytes()

    resolved = await play(hass, ocean)

    owner, item = ocean.split("/")[-2:]
    assert resolved.url == f"/api/pemus/stream/{owner}/{item}.mp4"
    assert resolved.mime_type == "video/mp4"
    # Nobody may read by its path what is not there yet.
    assert resolved.path is None
    signed = async_process_play_media_url(hass, resolved.url, allow_relative_url=True)
    client = await hass_client_no_auth()
    response = await client.get(signed, headers={"Range": "bytes=1000-"})
    assert response.status == 206
    assert await response.read() == original[1000:]
    response = await client.get(signed)
    assert await response.read() == original


async def test_what_is_kept_whole_has_a_path(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    neighbour: EngineHome,
    tmp_path: Path,
    hass_client: ClientSessionGenerator,
) -> None:
    shown = await films(hass)
    ocean, mountain = (shown[name].media_content_id for name in ("Ocean", "Mountain"))
    await pin(hass, entry, ocean)

    resolved = await play(hass, ocean)
    original = (tmp_path / "Cinema" / "films" / "Ocean.mp4").read_bytes()
    assert resolved.path.read_bytes() == original
    # Of the other film, nothing was asked for.
    assert (await play(hass, mountain)).path is None
    other = await transfer_of(entry, mountain)
    assert other is None or not other.pinned

    # It plays also when its owner is gone.
    await neighbour.stop()
    response = await (await hass_client()).get(resolved.url)
    assert await response.read() == original

    await act(hass, "unpin", media_content_id=f"  {ocean} ")
    assert not (await transfer_of(entry, ocean)).pinned
    assert (await play(hass, ocean)).path is None


async def test_only_administrators_decide_what_is_kept(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    neighbour: EngineHome,
    hass_read_only_user: MockUser,
    hass_admin_user: MockUser,
) -> None:
    ocean = (await films(hass))["Ocean"].media_content_id
    guest = Context(user_id=hass_read_only_user.id)

    for action in ("pin", "unpin"):
        with pytest.raises(Unauthorized):
            await act(hass, action, guest, media_content_id=ocean)
    assert not (await play(hass, ocean)).path
    admin = Context(user_id=hass_admin_user.id)
    await act(hass, "pin", admin, media_content_id=ocean)
    assert (await transfer_of(entry, ocean)).pinned


async def test_what_is_not_of_another_home_is_neither_pinned_nor_unpinned(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    for wanted in (
        "",
        "Ocean",
        ROOT,
        f"{ROOT}/",
        f"{ROOT}/item/{'a' * 26}",
        f"{ROOT}/home",
        f"{ROOT}/home/{'A' * 28}",
        f"media-source://other/home/{'A' * 28}/{'b' * 26}",
        f"home/{'A' * 28}/{'b' * 26}",
    ):
        for action in ("pin", "unpin"):
            with pytest.raises(ServiceValidationError) as caught:
                await act(hass, action, media_content_id=wanted)
            assert caught.value.translation_key == "not_remote", wanted
    for wanted in (
        NOBODY,
        f"{ROOT}/home/../{'b' * 26}",
        f"{ROOT}/home/{'A' * 28}/",
        f"{ROOT}/home/{'A' * 28}/{'b' * 26}/pin",
        f"{ROOT}/home/{'A' * 28}/{'B' * 26}",
        f"{ROOT}/home/{'A' * 28}/{'b' * 5000}",
        f"{ROOT}/home//",
    ):
        for action in ("pin", "unpin"):
            with pytest.raises(HomeAssistantError) as caught:
                await act(hass, action, media_content_id=wanted)
            assert caught.value.translation_key == "not_found", wanted
    for data in ({}, {"media_content_id": ["a", "b"]}, {"path": "/etc"}):
        with pytest.raises(vol.Invalid):
            await act(hass, "pin", **data)


async def test_what_is_nowhere_is_neither_shown_nor_played(
    hass: HomeAssistant, neighbour: EngineHome
) -> None:
    home = (await films(hass))["Ocean"].media_content_id.rpartition("/")[0]

    for wanted, reason in (
        (NOBODY, "not_found"),
        (f"{home}/{'b' * 26}", "not_found"),
        (f"{home}/", "not_found"),
        (f"{home}/../../status", "not_found"),
        (home, "not_playable"),
        (f"{ROOT}/home", "not_playable"),
    ):
        with pytest.raises(Unresolvable) as caught:
            await play(hass, wanted)
        assert caught.value.translation_key == reason, wanted
    for wanted in (
        f"{ROOT}/home",
        f"{ROOT}/home/{'A' * 28}",
        f"{home}/{'b' * 26}",
        f"{ROOT}/home/../x",
        f"{ROOT}/home/{'ä' * 28}",
    ):
        with pytest.raises(BrowseError) as failed:
            await async_browse_media(hass, wanted)
        assert failed.value.translation_key in {"not_found", "engine_error"}, wanted


async def test_everything_says_when_the_engine_or_the_home_is_not_there(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    coordinator = entry.runtime_data.coordinator
    os.kill(coordinator.data.pid, signal.SIGKILL)
    for call in (
        play(hass, NOBODY),
        act(hass, "pin", media_content_id=NOBODY),
        act(hass, "unpin", media_content_id=NOBODY),
    ):
        with pytest.raises(HomeAssistantError) as caught:
            await call
        assert caught.value.translation_key == "engine_unavailable"
    await eventually(hass, lambda: not coordinator.last_update_success)
    await eventually(hass, lambda: coordinator.last_update_success)

    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )
    for call in (
        play(hass, NOBODY),
        act(hass, "pin", media_content_id=NOBODY),
        act(hass, "unpin", media_content_id=NOBODY),
    ):
        with pytest.raises(HomeAssistantError) as caught:
            await call
        assert caught.value.translation_key == "not_loaded"


async def test_what_was_pinned_outlives_the_engine(
    hass: HomeAssistant, entry: MockConfigEntry, neighbour: EngineHome
) -> None:
    ocean = (await films(hass))["Ocean"].media_content_id
    await pin(hass, entry, ocean)
    coordinator = entry.runtime_data.coordinator

    former = coordinator.data.pid
    os.kill(former, signal.SIGKILL)

    def knows_its_friends() -> bool:
        status = coordinator.data
        return status.pid != former and bool(status.peers and status.peers.friends)

    await eventually(hass, knows_its_friends)
    assert "Ocean" in await films(hass)
    # A small film has no hashes to compare it with after a crash, and is fetched again.
    await introduce(entry, neighbour)

    async def complete() -> bool:
        return (await play(hass, ocean)).path is not None

    await until(complete)


@pytest.mark.parametrize(
    ("key", "at_home", "elsewhere"),
    [
        (ErrorKey.NOT_FOUND, "not_found", "not_found"),
        (ErrorKey.UNAVAILABLE, "folder_unavailable", "home_unavailable"),
        (ErrorKey.GONE, "gone", "gone"),
        (ErrorKey.DISK_FULL, "no_room", "no_room"),
        (ErrorKey.BUSY, "engine_busy", "engine_busy"),
        (ErrorKey.INTERNAL, "engine_error", "engine_error"),
    ],
)
def test_each_reason_of_the_engine_has_its_words(
    key: ErrorKey, at_home: str, elsewhere: str
) -> None:
    for remote, said in ((False, at_home), (True, elsewhere)):
        with (
            pytest.raises(Unresolvable) as caught,
            engine_errors(Unresolvable, remote=remote),
        ):
            raise EngineError(key, "the reason")
        assert caught.value.translation_key == said
        assert caught.value.translation_placeholders == {"error": "the reason"}
