"""Pings the other end of a link, and finds out when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
import time
from typing import TYPE_CHECKING, Final

from .frames import FrameType, pack

if TYPE_CHECKING:
    # Importing it loads aiortc, which may be missing.
    from ..webrtc.connection import Connection

BUSY_PING_INTERVAL: Final = 2.0
"""Seconds between pings while a request is in progress."""
BUSY_TIMEOUT: Final = 8.0
"""Seconds of silence after which the other end is gone, while a request is in progress."""
IDLE_PING_INTERVAL: Final = 8.0
"""Seconds between pings at other times."""
IDLE_TIMEOUT: Final = 25.0
"""Seconds of silence after which the other end is gone, at other times."""
PROBE_TIMEOUT: Final = 4.0
"""Seconds to wait for a sign of life when there is a reason to doubt that the other end is there."""
CHECK_INTERVAL: Final = 0.5
"""Seconds between two checks."""


class Keepalive:
    """The signs of life of one link's other end, and the requests in progress over the link, in both directions."""

    def __init__(
        self, connection: Connection, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with a sign of life. The clock returns seconds and never goes back."""
        self._connection = connection
        self._clock = clock
        self._requests = 0
        self._heard = self._busy_since = self._used = clock()
        self._pinged = float("-inf")
        self._probed: float | None = None
        """When the other end was probed, if it has not been heard since."""

    @property
    def is_busy(self) -> bool:
        """Whether a request is in progress."""
        return self._requests > 0

    @property
    def idle(self) -> float:
        """Seconds since the link was used last."""
        return self._clock() - self._used

    def used(self) -> None:
        """Note that the link is used."""
        self._used = self._clock()

    def begin(self) -> None:
        """Note that a request begins.

        While none was in progress, nobody may have noticed that the other end is gone.
        """
        self.used()
        self._requests += 1
        if self._requests == 1:
            self._busy_since = now = self._clock()
            if now - self._heard > BUSY_PING_INTERVAL:
                self.probe()

    def end(self) -> None:
        """Note that a request has ended."""
        self.used()
        self._requests -= 1

    def heard(self) -> None:
        """Note a sign of life."""
        self._heard = self._clock()
        self._probed = None

    def probe(self) -> None:
        """Ask for a sign of life, and expect it soon: the path may have changed."""
        if self._probed is None:
            self._probed = self._clock()
        self._ping()

    def is_gone(self) -> bool:
        """Tell whether the other end has been silent for too long."""
        now = self._clock()
        if self._probed is not None and now - self._probed > PROBE_TIMEOUT:
            return True
        if self.is_busy:
            return now - max(self._heard, self._busy_since) > BUSY_TIMEOUT
        return now - self._heard > IDLE_TIMEOUT

    async def run(self) -> None:
        """Ping the other end until it is gone."""
        while not self.is_gone():
            interval = BUSY_PING_INTERVAL if self.is_busy else IDLE_PING_INTERVAL
            if (now := self._clock()) - self._pinged >= interval:
                self._pinged = now
                self._ping()
            await asyncio.sleep(CHECK_INTERVAL)

    def _ping(self) -> None:
        with suppress(ConnectionError):
            self._connection.send(pack(FrameType.PING))
