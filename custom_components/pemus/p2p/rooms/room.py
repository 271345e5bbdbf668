"""One room: its guests, their queue, and what they got."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
import time
from typing import Final

from ..core.errors import Gone
from ..core.spans import Spans
from ..core.throttle import Throttle
from ..library import Library
from ..models.rooms import (
    MAX_FILES,
    RoomConfig,
    RoomEvent,
    RoomEventKind,
    RoomState,
    RoomStatus,
)
from ..net.link.frames import Reasons
from ..serving.requests import Serving
from .admission import Admission
from .guest import Guest
from .manifest import Manifest
from .password import PasswordCheck
from .state import RoomRecord

MAX_GUESTS: Final = 100
"""Guests of a room that are connected at a time."""
IDLE_TIMEOUT: Final = 600.0
"""Seconds without a request after which a guest is sent away. Its page comes back by itself when it wants something."""
MAX_PROGRESS: Final = 2000
"""Files of guests whose progress is remembered. Those that got nothing for the longest time are forgotten first."""
MAX_SPANS: Final = 1000
"""Pieces of one file that a guest has got. Whoever asks for more of them, out of order, does not count as a download."""


class Room:
    """A room of this home."""

    def __init__(
        self,
        config: RoomConfig,
        record: RoomRecord,
        *,
        library: Library,
        serving: Serving,
        home_name: Callable[[], str],
        on_event: Callable[[RoomEvent], None],
        on_change: Callable[[], None],
    ) -> None:
        """Begin without guests. `record` is what is kept of the room; `on_change` is called when that or the status changes."""
        self.config = config
        self.record = record
        self.serving = serving
        self.admission = Admission(config.guests)
        self.rate = Throttle(config.upload_limit)
        self.guests: set[Guest] = set()
        self.message: str | None = None
        """Why there is no link, in plain English."""
        self.is_empty = False
        """Whether nothing of what the room shares is there any more."""
        self.has_expired = config.expires <= time.time()
        self._library = library
        self._home_name = home_name
        self._on_event = on_event
        self._on_change = on_change
        self._passwords = PasswordCheck()
        self._sizes: dict[str, tuple[int, str]] = {}
        """Size and name of each file, as guests were told."""
        self._progress: OrderedDict[tuple[str, str], Spans] = OrderedDict()
        """What each guest has got of each file."""
        self._completed: OrderedDict[tuple[str, str], None] = OrderedDict()
        """The whole files that each guest got. A guest counts once, however many these are."""
        self._measured = time.monotonic(), record.uploaded
        self._rate = 0

    @property
    def is_used_up(self) -> bool:
        """Whether there were as many downloads as the user allows, or as many bytes as one more would take.

        The bytes bound those who never take a file whole, so that it does not count.
        """
        if not (limit := self.config.downloads):
            return False
        total = sum(size for size, _ in self._sizes.values())
        is_bounded = bool(total) and self.record.uploaded >= (limit + 1) * total
        return self.record.downloads >= limit or is_bounded

    @property
    def present(self) -> list[Guest]:
        """The guests who have proven that they have the link."""
        return [guest for guest in self.guests if guest.is_ready]

    def state(self, *, is_connected: bool) -> RoomState:
        """Return the state. `is_connected` tells whether the room's server is."""
        if self.has_expired:
            return RoomState.EXPIRED
        if self.is_used_up:
            return RoomState.USED_UP
        if self.record.registration is None:
            return RoomState.OPENING
        if self.is_empty:
            return RoomState.CHANGED
        return RoomState.OPEN if is_connected else RoomState.AWAY

    def status(self, link: str | None, *, is_connected: bool) -> RoomStatus:
        """Return the present state."""
        return RoomStatus(
            id=self.config.id,
            state=self.state(is_connected=is_connected),
            link=link,
            guests=len(self.present),
            served=self.admission.served,
            waiting=self.admission.waiting,
            upload_rate=self._rate,
            uploaded=self.record.uploaded,
            downloads=self.record.downloads,
            message=self.message,
        )

    async def apply(self, config: RoomConfig) -> None:
        """Use another configuration."""
        if config == self.config:
            return
        has_new_terms = (config.password, config.secret) != (
            self.config.password,
            self.config.secret,
        )
        self.config = config
        self.rate.limit = config.upload_limit
        self.admission.resize(config.guests)
        self.has_expired = config.expires <= time.time()
        if has_new_terms:
            # Guests come back, and are asked anew.
            await self.close(Reasons.STOPPING)
        else:
            self.tell_changed()

    async def close(self, reason: str) -> None:
        """Send all guests away."""
        await asyncio.gather(*(guest.close(reason) for guest in self.guests))

    def tell_changed(self) -> None:
        """Tell all guests that the room has changed."""
        for guest in self.guests:
            guest.tell_changed()

    # Guests.

    def entered(self, guest: Guest) -> None:
        """Note that a guest is connected."""
        self.happened(RoomEventKind.OPENED)
        self._on_change()

    def left(self, guest: Guest) -> None:
        """Forget a guest."""
        self.guests.discard(guest)
        self._on_change()

    def check_open(self) -> None:
        """Raise Gone if the room has expired."""
        if self.has_expired:
            raise Gone("the room has expired")

    async def check_password(self, guest: Guest, given: str) -> None:
        """Return if a guest may see the room. Raises PasswordNeeded and RateLimited."""
        kept = self.config.password
        if kept is None or guest.has_joined:
            return
        try:
            await self._passwords.check(
                kept,
                given,
                guest=guest.id,
                network=guest.network,
                has_secret=guest.proof is not None and guest.proof.has_secret,
            )
        except Exception:
            if given:
                self.happened(RoomEventKind.WRONG_PASSWORD)
            raise

    async def manifest(self) -> bytes:
        """Return what is in the room."""
        config = self.config
        items = await self._library.chosen(config.items, config.folders, MAX_FILES + 1)
        self.is_empty = not items
        self._sizes = {each.id: (each.size, each.name) for each in items}
        return Manifest.of(config, self._home_name(), items).encode()

    def leases_changed(self) -> None:
        """Note that other guests are served, or wait."""
        self._on_change()

    def sent(self, guest: Guest, item: str, start: int, stop: int) -> None:
        """Count what a guest got."""
        self.admission.used(guest.id)
        self.record.uploaded += stop - start
        guest.uploaded += stop - start
        known, key = self._sizes.get(item), (guest.id, item)
        if known is None or key in self._completed:
            return
        size, name = known
        spans = self._progress.setdefault(key, Spans())
        self._progress.move_to_end(key)
        if len(self._progress) > MAX_PROGRESS:
            self._progress.popitem(last=False)
        if len(spans) < MAX_SPANS:
            spans.add(start, stop)
        if spans.total >= size:
            del self._progress[key]
            self._complete(guest, item, name)

    def _complete(self, guest: Guest, item: str, name: str) -> None:
        self.happened(RoomEventKind.COMPLETED, name)
        is_first = all(each != guest.id for each, _ in self._completed)
        self._completed[guest.id, item] = None
        if len(self._completed) > MAX_PROGRESS:
            self._completed.popitem(last=False)
        if not is_first:
            return
        self.record.downloads += 1
        self._on_change()
        if self.is_used_up:
            self.happened(RoomEventKind.USED_UP)

    # The owner.

    def happened(self, kind: RoomEventKind, file: str | None = None) -> None:
        """Report an event to the owner."""
        self._on_event(
            RoomEvent(room=self.config.id, name=self.config.name, kind=kind, file=file)
        )

    def measure(self) -> None:
        """Measure the rate. Called every second or so."""
        now, (then, before) = time.monotonic(), self._measured
        self._measured = now, self.record.uploaded
        rate = int((self.record.uploaded - before) / max(now - then, 0.1))
        if rate != self._rate:
            self._rate = rate
            self._on_change()

    def overdue(self) -> tuple[str, list[Guest]]:
        """Return the guests who have to go now, and why: the room has expired, or is used up and they are not being served."""
        if not self.has_expired and self.config.expires <= time.time():
            self.has_expired = True
            self.happened(RoomEventKind.EXPIRED)
            self._on_change()
        if self.has_expired:
            return Reasons.GONE, list(self.guests)
        if self.is_used_up:
            served = self.admission.is_served
            return Reasons.USED_UP, [g for g in self.guests if not served(g.id)]
        idle = [guest for guest in self.guests if guest.idle > IDLE_TIMEOUT]
        return Reasons.IDLE, idle
