"""Measures what moves over the links to friends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
import time
from typing import TYPE_CHECKING, Final

from ..core.news import News
from ..models.homes import ConnectionStats

if TYPE_CHECKING:
    from .friend import Friend

MEASURE_INTERVAL: Final = 2.0
"""Seconds between two measurements."""


class Traffic:
    """What moves over the links to one friend."""

    def __init__(self) -> None:
        """Begin without a link."""
        self.rates = 0, 0
        """Bytes per second received and sent."""
        self.lost: float | None = None
        """Share of packets that had to be sent again, 0 to 1."""
        self.rtt: float | None = None
        """Round-trip time in seconds."""
        self._measured = 0.0, ConnectionStats()

    def begin(self) -> None:
        """Count anew for a new link."""
        self._measured = time.monotonic(), ConnectionStats()
        self.lost = self.rtt = None

    def pause(self) -> bool:
        """Note that there is no link; return whether that changes the rates."""
        changed, self.rates = self.rates != (0, 0), (0, 0)
        return changed

    def measure(self, stats: ConnectionStats) -> tuple[int, int]:
        """Return the bytes received and sent since the last measurement."""
        then, former = self._measured
        now = time.monotonic()
        self._measured = now, stats
        self.rtt = stats.rtt
        seconds = max(0.1, now - then)
        # The count of a link that replaced another begins at zero.
        received = max(0, stats.received - former.received)
        sent = max(0, stats.sent - former.sent)
        self.rates = int(received / seconds), int(sent / seconds)
        if chunks := stats.chunks - former.chunks:
            self.lost = (stats.repeated - former.repeated) / max(1, chunks)
        return received, sent


class TrafficMeter:
    """Measures the links to all friends."""

    def __init__(
        self,
        friends: Mapping[str, Friend],
        news: News,
    ) -> None:
        """Prepare to measure, and to report new figures."""
        self.moved = 0, 0
        """Bytes received and sent by all friends' links. A link's last moments are not counted."""
        self._friends = friends
        self._news = news

    async def run(self) -> None:
        """Measure again and again."""
        while True:
            await asyncio.sleep(MEASURE_INTERVAL)
            has_changed = False
            for friend in self._friends.values():
                link = friend.link
                if link is None:
                    has_changed |= friend.traffic.pause()
                    continue
                received, sent = friend.traffic.measure(link.stats)
                self.moved = self.moved[0] + received, self.moved[1] + sent
                has_changed = True
            if has_changed:
                self._news.status_changed()
