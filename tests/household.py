"""A household to test with: a folder of real films, songs and photos, and patience until the library knows them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
import os
from pathlib import Path
import time
from types import MappingProxyType
from typing import Any

from homeassistant.config_entries import ConfigSubentry
from homeassistant.core import HomeAssistant
import mutagen
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.pemus.const import SUBENTRY_SHARE
from custom_components.pemus.engine.process import Engine, EngineState
from custom_components.pemus.friends.terms import Terms, async_add_friend
from custom_components.pemus.home import Home
from custom_components.pemus.p2p.models import (
    API_VERSION,
    Counts,
    EngineConfig,
    Event,
    ScanState,
    Status,
    StatusChanged,
)
from custom_components.pemus.p2p.models.homes import (
    FriendStatus,
    LanHome,
    LanHomes,
    PairingState,
    PairingStatus,
    PeersStatus,
)
from custom_components.pemus.p2p.models.pemus_id import pemus_id, read_id
from custom_components.pemus.p2p.models.version import VERSION
from tests.lab.engine_home import SHARE, EngineHome
from tests.p2p.media.make import film, photo, song
from tests.patience import until

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
    await until(condition)
    await hass.async_block_till_done()


async def noticed(hass: HomeAssistant) -> None:
    """Let a dialog that waits in the background notice what happened, before the browser looks at it."""
    for _ in range(5):
        await asyncio.sleep(0)
    await hass.async_block_till_done()


async def until_scanned(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    """Wait until the library knows all that there is to know of every share."""
    home = entry.runtime_data
    coordinator = home.coordinator
    seen, since = -1, 0.0

    def quiet() -> bool:
        nonlocal seen, since
        status = coordinator.data
        if status.revision != seen or not (
            coordinator.last_update_success
            and status.scan_state is ScanState.IDLE
            and len(status.shares) == len(home.configuration.config.shares)
            and all(known.last_scan and not known.scanning for known in status.shares)
        ):
            seen, since = status.revision, time.monotonic()
        # Between looking through the folders and reading the files there is a pause.
        return time.monotonic() > since + PAUSE

    await eventually(hass, quiet)


def engine_says(home: Home, event: Event | None) -> None:
    """Have a home hear an event as if its engine said it; None if the engine's state changed."""
    for listener in tuple(home.engine._listeners):
        listener(event)


HOME_ID, ADA, BEN = (pemus_id(bytes([number]) * 32) for number in range(3))
"""The ids of this home on a stage, and of two others."""


class Stage:
    """Other homes as a test says they are: this home's coordinator hears of them, and what it asks for is written down.

    Whatever engine runs, what it says itself is left out.
    """

    def __init__(self, entry: MockConfigEntry) -> None:
        """Take the place of the engine in all that is about other homes."""
        self.home = entry.runtime_data
        self.coordinator = self.home.coordinator
        self.peers = PeersStatus(id=HOME_ID, port=40000)
        self.asked: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        engine = self.coordinator.engine
        engine._tell = lambda event: None
        for name in (
            "answer_pairing",
            "forget_pairing",
            "lan_homes",
            "network_changed",
            "new_identity",
            "request_pairing",
            "restore_identity",
            "unblock",
        ):
            setattr(engine.client, name, partial(self._ask, name))

    async def _ask(self, name: str, *arguments: Any) -> Any:
        self.asked.append((name, *arguments))
        if self.error is not None:
            raise self.error
        if name == "request_pairing":
            (query,) = arguments
            return pairing(read_id(query.home), confirmed=query.trusted)
        return BEN if name == "new_identity" else None

    def said(self, name: str) -> list[Any]:
        """Return the last argument of each time that something was asked for."""
        return [arguments[-1] for arguments in self.asked if arguments[0] == name]

    def push(self, *pairings: PairingStatus, **peers: Any) -> None:
        """Have the engine say that these are all the pairings, and what else changed."""
        self.peers = replace(self.peers, pairings=pairings, **peers)
        self.tell()

    def tell(self) -> None:
        """Have the engine say again what it said last."""
        status = replace(self.coordinator.data, peers=self.peers)
        self.coordinator.engine.status = status
        engine_says(self.home, StatusChanged(status=status))


def pairing(home: str = ADA, **facts: Any) -> PairingStatus:
    """Return a pairing that this home asked for, but for some facts."""
    return PairingStatus(
        **{
            "home": home,
            "name": "",
            "incoming": False,
            "origin": "",
            "lan": False,
            "state": PairingState.WAITING,
            "created": 1000.0,
            "expires": 2000.0,
            **facts,
        }
    )


def request(home: str = ADA, **facts: Any) -> PairingStatus:
    """Return the request of a home that asks to become a friend, but for some facts."""
    return pairing(
        home,
        **{
            "name": "Ada's home",
            "incoming": True,
            "origin": "signal.example",
            "state": PairingState.COMPARING,
            "words": ("acorn", "book", "camel", "drum"),
            **facts,
        },
    )


def friend(home: str = ADA, **facts: Any) -> FriendStatus:
    """Return a friend that can be reached, but for some facts."""
    return FriendStatus(**{"id": home, "name": "Ada's home", "online": True, **facts})


def befriend(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    home: str = ADA,
    name: str = "Ada's home",
    **terms: Any,
) -> ConfigSubentry:
    """Make a home a friend, as it is in the end."""
    return async_add_friend(hass, entry, home, name, Terms(**terms))


async def introduce(entry: MockConfigEntry, other: EngineHome) -> None:
    """Show this home and another one to each other in the local network."""
    there = LanHome(
        id=other.id, name=other.name, addresses=("127.0.0.1",), port=other.port
    )
    await entry.runtime_data.engine.client.lan_homes(LanHomes(homes=(there,)))
    peers = entry.runtime_data.coordinator.data.peers
    assert peers is not None
    here = {"id": peers.id, "name": "Casa", "port": peers.port}
    homes = [here | {"addresses": ["127.0.0.1"]}]
    await other.ask("PUT", "lan", {"homes": homes})


async def make_friends(
    hass: HomeAssistant, entry: MockConfigEntry, other: EngineHome, items: int
) -> None:
    """Make this home and another one friends without a pairing, and wait until so many of its items are listed here."""
    await introduce(entry, other)
    here = {"id": entry.runtime_data.coordinator.data.peers.id, "name": "Casa"}
    await other.configure(friends=[here | {"shares": [SHARE]}])
    befriend(hass, entry, other.id, other.name)

    def listed() -> bool:
        friends = entry.runtime_data.coordinator.data.peers.friends
        return any(each.online and each.items == items for each in friends)

    await eventually(hass, listed)


class StagedEngine(Engine):
    """An engine without a process: all that it says comes from a stage, and all that it is told is kept."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Take the place of the engine before the home is set up."""
        super().__init__(hass)
        self.status = Status(
            api_version=API_VERSION,
            version=VERSION,
            pid=0,
            started=0.0,
            rss=0,
            scan_state=ScanState.IDLE,
            progress=None,
            revision=1,
            counts=Counts(),
            shares=(),
            problems=(),
            capabilities={},
        )
        self.client.status = self._status

    async def _status(self) -> Status:
        return self.status

    async def async_start(self) -> None:
        """Run at once."""
        self._set_state(EngineState.RUNNING)

    async def async_stop(self) -> None:
        """Run no more."""
        self._set_state(EngineState.STOPPED)

    async def async_configure(self, config: EngineConfig) -> None:
        """Keep the configuration."""
        self._config = config
