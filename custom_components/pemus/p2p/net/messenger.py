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

from ..core.throttle import Clock, TokenBucket, TokenBuckets
from .identity import Identity
from .messages import BadEnvelope, Envelope, opened, seal

MAX_KNOWN: Final = 4096
"""Messages that are remembered, so that none counts twice."""
RATE: Final = 20.0
"""Messages per second that are looked at of one sender, as far as the way can tell them apart, on average: each costs a
signature to be checked. Those that name an expected home may be as many again by each way, of an address in the local network."""
BURST: Final = 200.0
TOTAL_RATE: Final = 100.0
"""The same, of all together."""
TOTAL_BURST: Final = 600.0
MAX_BUDGETS: Final = 1000

_LOGGER = logging.getLogger(__name__)


class Transport(Protocol):
    """Something that may reach other homes."""

    @property
    def is_lan(self) -> bool:
        """Whether it stays within the local network."""

    @property
    def origin(self) -> str:
        """What users are told of where a message came from."""

    @property
    def tells_apart(self) -> bool:
        """Whether nobody can send in the name of another source: an address, or a home that proved who it is."""

    def send(self, home: str, message: dict[str, Any], *, reply: bool) -> bool:
        """Send a message to a home; return whether there is any hope that it arrives. Never blocks."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that came, and how."""

    envelope: Envelope
    way: Transport


class Messenger:
    """All ways together."""

    def __init__(
        self,
        identity: Identity,
        on_letter: Callable[[Message], None],
        *,
        is_expected: Callable[[str], bool] = lambda _home: False,
        clock: Clock = time.monotonic,
    ) -> None:
        """Speak for an identity, and hand what comes for it to `on_letter`.

        `is_expected` tells whom no flood is to keep out: friends, and homes that the user has asked.
        """
        self.identity = identity
        self.is_expected = is_expected
        self._on_letter = on_letter
        self._ways: list[Transport] = []
        self._known: OrderedDict[tuple[str, str], bool] = OrderedDict()
        """Messages that came, by sender and id: whether in the local network."""
        self._budgets = TokenBuckets(RATE, BURST, max_keys=MAX_BUDGETS, clock=clock)
        self._total = TokenBucket(TOTAL_RATE, TOTAL_BURST, clock)

    def add(self, way: Transport) -> None:
        """Use a way from now on."""
        self._ways.append(way)

    def remove(self, way: Transport) -> None:
        """Use a way no longer."""
        self._ways.remove(way)

    def send(
        self,
        home: str,
        kind: str,
        body: bytes,
        *,
        way: Transport | None = None,
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

    def receive(self, message: object, way: Transport, source: str = "") -> str | None:
        """Take in what came over a way, there from `source`. Return the home that this proves to be at the other end, if any.

        What came before proves nothing, as anybody may have kept it. The same message may take several ways, though: in the
        local network it counts also if it was quicker by a server.
        """
        if not self._allows(message, way, source):
            return None
        try:
            envelope = opened(message, self.identity.id)
        except BadEnvelope as err:
            _LOGGER.debug("A message from %s is left out: %s", way.origin, err)
            return None
        name = (envelope.sender, envelope.id)
        was_near = self._known.get(name)
        self._known[name] = way.is_lan or bool(was_near)
        if was_near is None:
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
            self._on_letter(Message(envelope, way))
        is_fresh = was_near is None or (way.is_lan and not was_near)
        return envelope.sender if is_fresh else None

    def _allows(self, message: object, way: Transport, source: str) -> bool:
        """Tell whether something more may come from somewhere just now."""
        origin = way.is_lan, way.origin, source
        is_modest = self._budgets.take(origin)
        if is_modest and self._total.take():
            return True
        if not is_modest and way.tells_apart:
            # That is the flood itself, whoever it says that it is.
            return False
        if not way.tells_apart:
            origin = way.is_lan, way.origin, ""
        # For each way: who floods one in the name of a friend leaves that friend all others.
        sender = message.get("sender") if isinstance(message, dict) else None
        return (
            isinstance(sender, str)
            and self.is_expected(sender)
            and self._budgets.take((sender, *origin))
        )
