"""Who is served at a time: a fixed number of guests, first come, first served, with a place for streams beside it.

A lease is a guest's place. It is given up by the guest, or ends when nothing was sent for it for a while.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import StrEnum
import time
from typing import Final

from ..core.errors import BadRequest, Busy
from ..core.throttle import Clock

STREAM_PLACES: Final = 1
"""Guests that may stream beside those who are served otherwise: who watches must not wait for downloads."""
IDLE_TIMEOUT: Final = 30.0
"""Seconds without a byte after which a lease ends."""
REPORT_INTERVAL: Final = 5.0
"""Seconds after which a guest is told its place again, changed or not."""
MAX_QUEUE: Final = 200

_KEPT: Final = 10
"""Former leases from whose length a wait is estimated."""


class Purpose(StrEnum):
    """What a guest wants to be served for."""

    DOWNLOAD = "download"
    STREAM = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A guest's place."""

    position: int
    """0 once it is served; 1 for the next one."""
    waiting: int
    """How many wait."""
    seconds: float | None
    """Estimated time until it is served, None if nothing is known."""


@dataclass(slots=True, eq=False)
class Lease:
    """A guest's place, while it wants one."""

    guest: str
    purpose: Purpose
    since: float
    """When it was admitted."""
    used: float
    """When something was sent for it last."""
    admitted: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Admission:
    """The leases of one room."""

    def __init__(self, places: int, clock: Clock = time.monotonic) -> None:
        """Serve `places` guests at a time."""
        self.places = places
        self._clock = clock
        self._served: list[Lease] = []
        self._queue: list[Lease] = []
        self._lengths: deque[float] = deque(maxlen=_KEPT)

    @property
    def served(self) -> int:
        """How many guests are served."""
        return len({lease.guest for lease in self._served})

    @property
    def waiting(self) -> int:
        """How many guests wait."""
        return len(self._queue)

    def is_served(self, guest: str) -> bool:
        """Tell whether a guest is served."""
        return any(lease.guest == guest for lease in self._served)

    def used(self, guest: str) -> None:
        """Note that something is sent to a guest. Raises Busy if it has no lease."""
        now = self._clock()
        leases = [lease for lease in self._served if lease.guest == guest]
        if not leases:
            raise Busy("there is no lease")
        for lease in leases:
            lease.used = now

    def resize(self, places: int) -> None:
        """Serve another number of guests. Nobody who is served has to go."""
        self.places = places
        self._admit()

    async def lease(self, guest: str, purpose: Purpose) -> AsyncGenerator[Place]:
        """Wait in the queue, and hold a place then: yield it at each change. Ends when the lease does.

        Raises BadRequest for a second lease for the same purpose, and Busy if too many wait.
        """
        leases = (*self._served, *self._queue)
        if any(each.guest == guest and each.purpose is purpose for each in leases):
            raise BadRequest("there is a lease already")
        if len(self._queue) >= MAX_QUEUE:
            raise Busy("too many guests wait")
        lease = Lease(guest, purpose, since=0.0, used=0.0)
        self._queue.append(lease)
        try:
            self._admit()
            while True:
                lease.changed.clear()
                yield self._place(lease)
                try:
                    async with asyncio.timeout(REPORT_INTERVAL):
                        await lease.changed.wait()
                except TimeoutError:
                    if lease.admitted and self._clock() - lease.used > IDLE_TIMEOUT:
                        return
        finally:
            self._end(lease)

    def _end(self, lease: Lease) -> None:
        if lease.admitted:
            self._served.remove(lease)
            self._lengths.append(self._clock() - lease.since)
        else:
            self._queue.remove(lease)
        self._admit()
        self._tell()

    def _admit(self) -> None:
        """Serve those whose turn it is."""
        now = self._clock()
        for lease in tuple(self._queue):
            places = self.places
            if lease.purpose is Purpose.STREAM:
                places += STREAM_PLACES
            if len(self._served) >= places:
                continue
            self._queue.remove(lease)
            self._served.append(lease)
            lease.admitted, lease.since, lease.used = True, now, now
            lease.changed.set()
            self._tell()

    def _tell(self) -> None:
        for lease in self._queue:
            lease.changed.set()

    def _place(self, lease: Lease) -> Place:
        if lease.admitted:
            return Place(position=0, waiting=self.waiting, seconds=0.0)
        position = self._queue.index(lease) + 1
        seconds = None
        if self._lengths:
            length = sum(self._lengths) / len(self._lengths)
            seconds = round(length * position / self.places, 1)
        return Place(position=position, waiting=self.waiting, seconds=seconds)
