"""Which torrents meet a home when there are more than may."""

from __future__ import annotations

from types import SimpleNamespace

from p2p.torrent.signaling_relay import SignalingRelays
from p2p.torrent.tracker import MAX_TORRENTS

HOME = "A" * 28


class Torrent:
    """A torrent, as far as channels know it."""

    def __init__(self, name: str, peers: int = 0) -> None:
        self.label = name
        self.meta = SimpleNamespace(info_hash=name)
        self.status = SimpleNamespace(peers=peers)
        self.is_removed = False
        self.trackers = 0

    def add_tracker(self, _url: str) -> None:
        self.trackers += 1

    def remove_trackers(self) -> None:
        self.trackers = 0

    def reannounce(self) -> None:
        """Nothing depends on it here."""

    def hang_up(self) -> None:
        """Nothing depends on it here."""


class Tracker:
    """The loopback tracker, and the one channel that it has."""

    url = "ws://loopback"

    def __init__(self) -> None:
        self.met: list[str] = []

    def join(self, _send: object) -> Tracker:
        return self

    def add(self, info_hash: str, *_: object, offers: bool) -> None:
        self.met.append(info_hash)

    def remove(self, info_hash: str) -> None:
        self.met.remove(info_hash)

    async def close(self) -> None:
        self.met.clear()


async def send(_message: bytes) -> None:
    """Send nothing: nobody says anything."""


async def test_what_is_connected_is_not_pushed_out_by_what_is_looked_at() -> None:
    tracker = Tracker()
    channels = SignalingRelays(tracker)  # type: ignore[arg-type]
    await channels.open(HOME, send)
    film = Torrent("film", peers=1)
    channels.seeded(HOME, "item", film)  # type: ignore[arg-type]
    photos = [Torrent(f"photo {number}") for number in range(MAX_TORRENTS + 50)]
    for photo in photos:
        channels.introduce(HOME, photo)  # type: ignore[arg-type]
    assert film.trackers == 1
    assert len(tracker.met) == MAX_TORRENTS
    assert "film" in tracker.met
    assert [photo.trackers for photo in photos] == [0] * 51 + [1] * (MAX_TORRENTS - 1)


async def test_if_all_are_connected_the_oldest_gives_way() -> None:
    tracker = Tracker()
    channels = SignalingRelays(tracker)  # type: ignore[arg-type]
    await channels.open(HOME, send)
    films = [Torrent(f"film {number}", peers=1) for number in range(MAX_TORRENTS + 1)]
    for film in films:
        channels.introduce(HOME, film)  # type: ignore[arg-type]
    assert [film.trackers for film in films] == [0] + [1] * MAX_TORRENTS
