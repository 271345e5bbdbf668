"""The pairings of this home, the homes that it blocks, and when each message is sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import random
import time
from typing import Final

from ..models.homes import PairingState
from .pairing import Pairing

MAX_BLOCKED: Final = 1000
RESEND_DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
"""Seconds until an unanswered message is sent again; the last one from then on."""
COMPARING_DELAY: Final = 3.0
"""The same, while somebody is probably looking at the words."""
COMPARING_TIME: Final = 600.0
"""Seconds after the request for which that is probable."""


class PairingStore:
    """One pairing at most with each other home."""

    def __init__(
        self, is_friend: Callable[[str], bool], on_change: Callable[[], None]
    ) -> None:
        """Begin without any. `on_change` is called when there is something to show or to save."""
        self.is_friend = is_friend
        self.blocked: dict[str, None] = {}
        """The homes whose requests are not shown, the oldest first."""
        self._on_change = on_change
        self._pairings: dict[str, Pairing] = {}
        self._due: dict[str, tuple[float, int]] = {}
        """When the next message is due, by the monotonic clock, and how often it was sent already."""

    def restore(self, pairings: Iterable[Pairing], blocked: Iterable[str]) -> None:
        """Replace everything by what was saved."""
        self._pairings = {each.home: each for each in pairings}
        self.blocked = dict.fromkeys(blocked)
        self.retry()

    @property
    def all(self) -> tuple[Pairing, ...]:
        """All pairings."""
        return tuple(self._pairings.values())

    @property
    def live(self) -> list[Pairing]:
        """Those that wait for something."""
        return [each for each in self.all if each.is_live]

    def get(self, home: str) -> Pairing | None:
        """Return the pairing with a home."""
        return self._pairings.get(home)

    def put(self, pairing: Pairing) -> Pairing:
        """Keep a pairing in place of the former one with that home, and return it."""
        if pairing != self._pairings.get(pairing.home):
            self._pairings[pairing.home] = pairing
            if not pairing.incoming:
                self._due.setdefault(pairing.home, (0.0, 0))
            self._on_change()
        return pairing

    def remove(self, home: str) -> None:
        """Forget the pairing with a home, and send it nothing more."""
        del self._pairings[home]
        self._due.pop(home, None)
        self._on_change()

    def remove_done(self) -> None:
        """Forget pairings that made a friend, once the other home knows as well."""
        for each in self.all:
            is_done = each.state is PairingState.PAIRED and each.settled
            if is_done and self.is_friend(each.home):
                self.remove(each.home)

    def block(self, home: str) -> None:
        """Show a home's requests no more. The oldest of too many blocked homes is unblocked."""
        self.blocked[home] = None
        if len(self.blocked) > MAX_BLOCKED:
            del self.blocked[next(iter(self.blocked))]
        self._on_change()

    def unblock(self, home: str) -> None:
        """Show a home's requests again."""
        if home in self.blocked:
            del self.blocked[home]
            self._on_change()

    def is_confirmed(self, pairing: Pairing) -> bool:
        """Tell whether this home accepts the other one. It does as long as that is a friend."""
        return pairing.confirmed or self.is_friend(pairing.home)

    def retry(self, home: str | None = None) -> None:
        """Send the next message at once to a home, or to all of them."""
        for each in self._pairings if home is None else (home,):
            if each in self._pairings:
                self._due[each] = 0.0, 0

    def take_due(self, pairing: Pairing) -> bool:
        """Tell whether a pairing's message is due now, and if so plan the next one."""
        now = time.monotonic()
        due, count = self._due.get(pairing.home, (0.0, 0))
        if now < due:
            return False
        delay = RESEND_DELAYS[min(count, len(RESEND_DELAYS) - 1)]
        is_recent = time.time() - pairing.created < COMPARING_TIME
        if pairing.state is not PairingState.WAITING and is_recent:
            delay = COMPARING_DELAY
        self._due[pairing.home] = now + delay * random.uniform(0.8, 1.2), count + 1
        return True
