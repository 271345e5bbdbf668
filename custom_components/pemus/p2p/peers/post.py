"""Takes messages to other homes by whatever way reaches them, and brings in those that come.

There are several ways, and none is certain: a message goes by all that there are, and counts once where it arrives.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
import logging
import time
from typing import Any, Final, Protocol

from .envelope import BadEnvelope, Envelope, opened, seal
from .identity import Identity

MAX_KNOWN: Final = 4096
"""Messages that are remembered, so that none counts twice."""
RATE: Final = 20.0
"""Messages per second that are looked at from one way, on average: each costs a signature to be checked."""
BURST: Final = 200.0

_LOGGER = logging.getLogger(__name__)


class Way(Protocol):
    """Something that may reach other homes."""

    @property
    def is_lan(self) -> bool:
        """Whether it stays within the local network."""

    @property
    def origin(self) -> str:
        """What users are told of where a message came from."""

    def send(self, home: str, message: dict[str, Any], *, reply: bool) -> bool:
        """Send a message to a home; return whether there is any hope that it arrives. Never blocks."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that came, and how."""

    envelope: Envelope
    way: Way


class Post:
    """All ways together."""

    def __init__(self, identity: Identity, on_letter: Callable[[Letter], None]) -> None:
        """Speak for an identity, and hand what comes for it to `on_letter`."""
        self.identity = identity
        self._on_letter = on_letter
        self._ways: list[Way] = []
        self._known: OrderedDict[str, None] = OrderedDict()
        self._budgets: dict[int, tuple[float, float]] = {}

    def add(self, way: Way) -> None:
        """Use a way from now on."""
        self._ways.append(way)

    def remove(self, way: Way) -> None:
        """Use a way no longer."""
        self._ways.remove(way)
        self._budgets.pop(id(way), None)

    def send(
        self,
        home: str,
        kind: str,
        body: bytes,
        *,
        way: Way | None = None,
        lan: bool | None = None,
    ) -> bool:
        """Send a message by all ways, by those in the local network or elsewhere, or back by the `way` that another came.

        Return whether there is any hope that it arrives.
        """
        message = seal(self.identity, home, kind, body)
        ways = [way] if way is not None else self._ways
        chosen = [each for each in ways if lan is None or each.is_lan is lan]
        # Each of them, not only the first that has hope.
        hopes = [each.send(home, message, reply=way is not None) for each in chosen]
        return any(hopes)

    def receive(self, message: object, way: Way) -> Envelope | None:
        """Take in what came over a way; return it if it was right, also if it was known already."""
        if not self._allows(way):
            return None
        try:
            envelope = opened(message, self.identity.id)
        except BadEnvelope as err:
            _LOGGER.debug("A message from %s is left out: %s", way.origin, err)
            return None
        if envelope.id not in self._known:
            self._known[envelope.id] = None
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
            self._on_letter(Letter(envelope, way))
        return envelope

    def _allows(self, way: Way) -> bool:
        """Tell whether a way may bring something more just now."""
        now = time.monotonic()
        budget, then = self._budgets.get(id(way), (BURST, now))
        budget = min(BURST, budget + (now - then) * RATE)
        allowed = budget >= 1
        self._budgets[id(way)] = (budget - allowed, now)
        return allowed
