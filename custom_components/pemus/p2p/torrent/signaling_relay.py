"""Introduces torrents to their WebRTC peers over the channel to the other home.

A channel may open before or after a torrent is added, and close and open again. Channels and torrents are kept here, and
connected whenever both exist.
"""

from __future__ import annotations

import logging

from .session import Torrent
from .tracker import MAX_TORRENTS, LoopbackTracker, Send, SignalingRelay

_LOGGER = logging.getLogger(__name__)


class SignalingRelays:
    """All channels to other homes, and the torrents shared with each."""

    def __init__(self, tracker: LoopbackTracker) -> None:
        """Introduce peers through this home's tracker."""
        self._tracker = tracker
        self._open: dict[str, SignalingRelay] = {}
        self._torrents: dict[str, dict[str, tuple[Torrent, bool]]] = {}

    async def open(self, home: str, send: Send) -> SignalingRelay:
        """Use a channel to a home, instead of a former one. Messages from it go to `SignalingRelay.receive`."""
        await self.close(home)
        channel = self._open[home] = self._tracker.join(send)
        for torrent, offers in self._present(home):
            self._meet(channel, torrent, offers=offers)
        return channel

    async def close(self, home: str, channel: SignalingRelay | None = None) -> None:
        """Stop using a channel to a home, or its present one. Connected peers stay connected."""
        if channel is not None and channel is not self._open.get(home):
            await channel.close()
            return
        if (channel := self._open.pop(home, None)) is not None:
            for torrent, _ in self._present(home):
                torrent.remove_trackers()
            await channel.close()

    async def stop(self) -> None:
        """Close all channels."""
        for home in tuple(self._open):
            await self.close(home)
        self._torrents.clear()

    def seeded(self, receiver: str, _item: str, torrent: Torrent) -> None:
        """Introduce a torrent to the home that it is seeded for."""
        self._add(receiver, torrent, offers=False)

    def introduce(self, owner: str, torrent: Torrent) -> None:
        """Introduce a torrent to the home that seeds it."""
        self._add(owner, torrent, offers=True)

    def dismiss(self, owner: str, torrent: Torrent) -> None:
        """Undo `introduce`: the torrent is about to be removed."""
        self._torrents.get(owner, {}).pop(torrent.meta.info_hash, None)
        if (channel := self._open.get(owner)) is not None:
            channel.remove(torrent.meta.info_hash)

    def lost(self, owner: str, torrent: Torrent) -> None:
        """Tell the home that seeds a torrent that the connection is lost."""
        if (channel := self._open.get(owner)) is not None:
            channel.lost(torrent.meta.info_hash)

    def _add(self, home: str, torrent: Torrent, *, offers: bool) -> None:
        torrents = self._torrents.setdefault(home, {})
        for info_hash, (former, _) in tuple(torrents.items()):
            if former.is_removed:
                del torrents[info_hash]
                if (channel := self._open.get(home)) is not None:
                    channel.remove(info_hash)
        if len(torrents) >= MAX_TORRENTS:
            self._dismiss_one(home)
        torrents[torrent.meta.info_hash] = torrent, offers
        if (channel := self._open.get(home)) is not None:
            self._meet(channel, torrent, offers=offers)

    def _dismiss_one(self, home: str) -> None:
        """Stop introducing one torrent: the one without peers that was added first.

        An item that is played must not lose its torrent to items that were looked at since.
        """
        torrents = self._torrents[home]
        # `min` returns the first of equals, and torrents are in the order in which they were added.
        oldest = min(torrents, key=lambda each: torrents[each][0].status.peers > 0)
        former, _ = torrents.pop(oldest)
        former.remove_trackers()
        if (channel := self._open.get(home)) is not None:
            channel.remove(oldest)

    def _present(self, home: str) -> list[tuple[Torrent, bool]]:
        return [
            (torrent, offers)
            for torrent, offers in self._torrents.get(home, {}).values()
            if not torrent.is_removed
        ]

    def _meet(self, channel: SignalingRelay, torrent: Torrent, *, offers: bool) -> None:
        try:
            channel.add(
                torrent.meta.info_hash,
                torrent.reannounce,
                torrent.hang_up,
                offers=offers,
            )
        except ValueError as err:
            _LOGGER.warning(
                "%s cannot be introduced to its peer: %s", torrent.label, err
            )
            return
        torrent.add_tracker(self._tracker.url)
