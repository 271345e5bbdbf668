"""Sharing a folder."""

from collections.abc import Awaitable, Callable
from pathlib import Path
import threading
from typing import Any

from homeassistant.config_entries import SOURCE_USER, ConfigSubentry
from homeassistant.const import CONF_NAME, CONF_PATH
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, InvalidData
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.pemus import shares
from custom_components.pemus.const import CONF_KINDS, SUBENTRY_SHARE

ALL = ["video", "music", "photo"]

type Share = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def share(hass: HomeAssistant, entry: MockConfigEntry) -> Share:
    """Return how to fill in the form."""

    async def fill_in(
        path: object, name: str | None = None, kinds: list[str] = ALL
    ) -> dict[str, Any]:
        result = await hass.config_entries.subentries.async_init(
            (entry.entry_id, SUBENTRY_SHARE), context={"source": SOURCE_USER}
        )
        assert result["type"] is FlowResultType.FORM
        answers = {CONF_PATH: str(path), CONF_KINDS: kinds}
        if name is not None:
            answers[CONF_NAME] = name
        result = await hass.config_entries.subentries.async_configure(
            result["flow_id"], answers
        )
        await hass.async_block_till_done()
        return result

    return fill_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that may be shared."""
    films = tmp_path / "Films"
    films.mkdir()
    return films


def only_share(entry: MockConfigEntry) -> ConfigSubentry:
    """Return the one share of a home."""
    (subentry,) = entry.subentries.values()
    return subentry


async def test_a_folder_is_shared_under_its_own_name(
    entry: MockConfigEntry, share: Share, folder: Path
) -> None:
    pid = entry.runtime_data.coordinator.data.pid

    result = await share(folder)

    assert result["type"] is FlowResultType.CREATE_ENTRY
    subentry = only_share(entry)
    assert subentry.title == "Films"
    assert subentry.unique_id == str(folder)
    assert subentry.data == {CONF_PATH: str(folder), CONF_KINDS: ALL}
    status = await entry.runtime_data.engine.client.status()
    assert [known.id for known in status.shares] == [subentry.subentry_id.lower()]
    assert status.pid == pid


async def test_a_folder_is_shared_under_another_name_with_some_kinds(
    entry: MockConfigEntry, share: Share, folder: Path
) -> None:
    await share(folder, " Movie night ", ["photo", "video"])

    assert only_share(entry).title == "Movie night"
    assert only_share(entry).data[CONF_KINDS] == ["video", "photo"]


async def test_home_assistants_media_folders_are_proposed(
    hass: HomeAssistant, entry: MockConfigEntry, share: Share, folder: Path
) -> None:
    hass.config.media_dirs = {"local": str(folder), "nas": "/media/nas"}

    async def proposed() -> list[str]:
        result = await hass.config_entries.subentries.async_init(
            (entry.entry_id, SUBENTRY_SHARE), context={"source": SOURCE_USER}
        )
        return result["data_schema"].schema[CONF_PATH].config["options"]

    assert await proposed() == [str(folder), "/media/nas"]
    await share(folder)
    assert await proposed() == ["/media/nas"]


async def test_what_a_symbolic_link_points_to_is_shared(
    entry: MockConfigEntry, share: Share, folder: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)

    await share(link)

    assert only_share(entry).data[CONF_PATH] == str(folder)
    assert (await share(folder))["errors"] == {CONF_PATH: "already_shared"}


async def refused(share: Share, path: object) -> str:
    """Return why a path is refused."""
    result = await share(path)
    assert result["type"] is FlowResultType.FORM
    assert result["errors"].keys() == {CONF_PATH}
    return str(result["errors"][CONF_PATH])


async def test_a_path_must_be_absolute(share: Share) -> None:
    for path in ("", "  ", "media", "./media", "~/media", "C:\\Films"):
        assert await refused(share, path) == "not_absolute"


async def test_a_folder_must_exist(share: Share, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    assert await refused(share, tmp_path / "nowhere") == "not_found"
    assert await refused(share, tmp_path / "dangling") == "not_found"
    assert await refused(share, "/media/\0") == "not_found"


async def test_a_file_is_not_a_folder(share: Share, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.touch()

    assert await refused(share, film) == "not_a_folder"
    assert await refused(share, film / "inside") == "not_a_folder"


async def test_a_folder_must_be_readable(
    share: Share, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # The tests may run as root, whom no mode keeps out.
    monkeypatch.setattr(shares.os, "scandir", deny)
    assert await refused(share, folder) == "not_readable"


async def test_a_link_in_a_circle_is_not_readable(share: Share, tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)

    assert await refused(share, circle) == "not_readable"


async def test_storage_that_does_not_answer_is_given_up(
    share: Share, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switched_on = threading.Event()
    scandir = shares.os.scandir

    def hang(path: Path) -> object:
        switched_on.wait()
        return scandir(path)

    monkeypatch.setattr(shares.os, "scandir", hang)
    monkeypatch.setattr(shares, "FOLDER_TIMEOUT", 0.05)
    try:
        assert await refused(share, folder) == "not_responding"
    finally:
        switched_on.set()


async def test_each_file_belongs_to_one_share(share: Share, folder: Path) -> None:
    inside = folder / "Old" / "Silent"
    inside.mkdir(parents=True)
    beside = folder.with_name("Films 2")
    beside.mkdir()
    await share(folder / "Old", "Classics")

    for path, reason in (
        (folder / "Old", "already_shared"),
        (f"{folder}/Old/", "already_shared"),
        (f"{folder}/Old/Silent/..", "already_shared"),
        (folder, "contains_shared"),
        (inside, "inside_shared"),
    ):
        result = await share(path)
        assert result["errors"] == {CONF_PATH: reason}
        assert result["description_placeholders"] == {"share": "Classics"}

    assert (await share(beside))["type"] is FlowResultType.CREATE_ENTRY


async def test_the_configuration_and_the_system_are_never_shared(
    hass: HomeAssistant, share: Share, tmp_path: Path
) -> None:
    config = Path(hass.config.config_dir)
    hidden = config / ".storage" / "pictures"
    hidden.mkdir(parents=True)
    disguise = tmp_path / "holiday"
    disguise.symlink_to(config)

    assert await refused(share, config) == "contains_config"
    assert await refused(share, tmp_path) == "contains_config"
    assert await refused(share, "/") == "contains_config"
    assert await refused(share, disguise) == "contains_config"
    assert await refused(share, config / ".storage") == "system_folder"
    assert await refused(share, hidden) == "system_folder"
    for system in ("/proc", "/proc/self", "/sys", "/dev", "/etc"):
        assert await refused(share, system) == "system_folder"


async def test_a_media_folder_within_the_configuration_may_be_shared(
    hass: HomeAssistant, share: Share
) -> None:
    media = Path(hass.config.config_dir, "media")
    media.mkdir(exist_ok=True)

    assert (await share(media))["type"] is FlowResultType.CREATE_ENTRY


async def test_a_name_is_given_once(share: Share, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    await share(folder, "Films")

    result = await share(other, "films")

    assert result["errors"] == {CONF_NAME: "name_taken"}


async def test_something_must_be_shared(share: Share, folder: Path) -> None:
    result = await share(folder, kinds=[])
    assert result["errors"] == {CONF_KINDS: "no_kinds"}

    result = await share("nowhere", kinds=[])
    assert result["errors"] == {CONF_KINDS: "no_kinds", CONF_PATH: "not_absolute"}

    with pytest.raises(InvalidData):
        await share(folder, kinds=["books"])


async def test_what_was_entered_is_kept_to_be_corrected(
    share: Share, hass: HomeAssistant, folder: Path
) -> None:
    result = await share(folder / "nowhere", "Mine", ["music"])
    shown = {
        key.schema: (key.description or {}).get("suggested_value")
        for key in result["data_schema"].schema
    }
    assert shown == {
        CONF_PATH: str(folder / "nowhere"),
        CONF_NAME: "Mine",
        CONF_KINDS: ["music"],
    }

    result = await hass.config_entries.subentries.async_configure(
        result["flow_id"],
        {CONF_PATH: str(folder), CONF_NAME: "Mine", CONF_KINDS: ["music"]},
    )
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_two_dialogs_cannot_share_one_folder(
    hass: HomeAssistant, entry: MockConfigEntry, folder: Path
) -> None:
    flows = [
        await hass.config_entries.subentries.async_init(
            (entry.entry_id, SUBENTRY_SHARE), context={"source": SOURCE_USER}
        )
        for _ in range(2)
    ]
    results = [
        await hass.config_entries.subentries.async_configure(
            flow["flow_id"],
            {CONF_PATH: str(folder), CONF_NAME: name, CONF_KINDS: ALL},
        )
        for flow, name in zip(flows, ("one", "two"), strict=True)
    ]

    assert results[0]["type"] is FlowResultType.CREATE_ENTRY
    assert results[1]["errors"] == {CONF_PATH: "already_shared"}


async def test_a_share_is_changed_in_place(
    hass: HomeAssistant, entry: MockConfigEntry, share: Share, folder: Path
) -> None:
    await share(folder)
    before = only_share(entry)
    moved = folder.rename(folder.with_name("Movies"))
    pid = entry.runtime_data.coordinator.data.pid

    result = await entry.start_subentry_reconfigure_flow(hass, before.subentry_id)
    assert result["type"] is FlowResultType.FORM
    assert result["step_id"] == "reconfigure"
    shown = {
        key.schema: key.description["suggested_value"]
        for key in result["data_schema"].schema
    }
    assert shown == {CONF_PATH: str(folder), CONF_NAME: "Films", CONF_KINDS: ALL}

    result = await hass.config_entries.subentries.async_configure(
        result["flow_id"],
        {CONF_PATH: str(folder), CONF_NAME: "Cinema", CONF_KINDS: ["video"]},
    )
    assert result["errors"] == {CONF_PATH: "not_found"}
    result = await hass.config_entries.subentries.async_configure(
        result["flow_id"],
        {CONF_PATH: str(moved), CONF_NAME: "Cinema", CONF_KINDS: ["video"]},
    )
    await hass.async_block_till_done()

    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "reconfigure_successful"
    after = only_share(entry)
    assert after.subentry_id == before.subentry_id
    assert (after.title, after.unique_id) == ("Cinema", str(moved))
    assert after.data == {CONF_PATH: str(moved), CONF_KINDS: ["video"]}
    status = await entry.runtime_data.engine.client.status()
    assert [known.id for known in status.shares] == [after.subentry_id.lower()]
    assert status.pid == pid


async def test_a_share_does_not_stand_in_its_own_way(
    hass: HomeAssistant, entry: MockConfigEntry, share: Share, folder: Path
) -> None:
    await share(folder)

    result = await entry.start_subentry_reconfigure_flow(
        hass, only_share(entry).subentry_id
    )
    result = await hass.config_entries.subentries.async_configure(
        result["flow_id"],
        {CONF_PATH: str(folder), CONF_NAME: "Films", CONF_KINDS: ["video"]},
    )

    assert result["reason"] == "reconfigure_successful"
