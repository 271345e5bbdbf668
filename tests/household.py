"""A household to test with: a folder of real films, songs and photos, and patience until the library knows them."""

import asyncio
from collections.abc import Callable
import os
from pathlib import Path
import time
from types import MappingProxyType

from homeassistant.config_entries import ConfigSubentry
from homeassistant.core import HomeAssistant
import mutagen
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.pemus.const import SUBENTRY_SHARE
from custom_components.pemus.p2p.models import ScanState
from tests.p2p.media.make import film, photo, song

PATIENCE = 20
"""Seconds. Only a test that fails waits that long."""
PAUSE = 0.5
"""Seconds without news, after which nothing more is expected."""


def fill(folder: Path) -> Path:
    """Put two films, three songs and two photos into a folder."""
    (folder / "films" / "trips").mkdir(parents=True)
    (folder / "music").mkdir()
    (folder / "photos").mkdir()
    film(folder / "films" / "Ocean.mp4", seconds=1)
    (folder / "films" / "Ocean.en.srt").write_text(
        "1\n00:00:00,000 --> 00:00:01,000\nThe sea.\n"
    )
    film(folder / "films" / "trips" / "Mountain.mp4", seconds=1)
    for number, (title, artist, album) in enumerate(
        (
            ("Dawn", "Ada Moll", "Daylight"),
            ("Noon", "Ada Moll", "Daylight"),
            ("Mountain song", "Trio Dur", "Hills"),
        ),
        1,
    ):
        tagged = mutagen.File(
            song(folder / "music" / f"{number}.flac", seconds=1), easy=True
        )
        tagged.update({"title": title, "artist": artist, "album": album})
        tagged.save()
    photo(folder / "photos" / "beach.jpg", taken="2023:07:14 18:03:22")
    photo(folder / "photos" / "snow.jpg", taken="2024:01:02 09:00:00")
    age(folder)
    return folder


def age(folder: Path) -> None:
    """Make all files of a folder an hour old: what was written just now is left to settle first."""
    past = time.time() - 3600
    for file in folder.rglob("*.*"):
        os.utime(file, (past, past))


def share(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    folder: Path,
    name: str,
    kinds: tuple[str, ...] = ("video", "music", "photo"),
) -> ConfigSubentry:
    """Share a folder, as the dialog does in the end."""
    subentry = ConfigSubentry(
        data=MappingProxyType({"path": str(folder), "kinds": list(kinds)}),
        subentry_type=SUBENTRY_SHARE,
        title=name,
        unique_id=str(folder),
    )
    hass.config_entries.async_add_subentry(entry, subentry)
    return subentry


async def eventually(hass: HomeAssistant, condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)
    await hass.async_block_till_done()


async def until_scanned(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    """Wait until the library knows all that there is to know of every share."""
    coordinator = entry.runtime_data
    seen, since = -1, 0.0

    def quiet() -> bool:
        nonlocal seen, since
        status = coordinator.data
        if status.revision != seen or not (
            coordinator.last_update_success
            and status.scan_state is ScanState.IDLE
            and len(status.shares) == len(coordinator.config.shares)
            and all(known.last_scan and not known.scanning for known in status.shares)
        ):
            seen, since = status.revision, time.monotonic()
        # Between looking through the folders and reading the files there is a pause.
        return time.monotonic() > since + PAUSE

    await eventually(hass, quiet)
