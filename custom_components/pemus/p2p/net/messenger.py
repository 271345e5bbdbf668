"""Sends messages to other homes over all transports, and checks those that arrive.

No transport is reliable, so a message is sent over all of them, and counts once where it arrives.
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
"""Messages that are remembered, so that none is handled twice."""
RATE: Final = 20.0
"""Messages per second that are checked from one source, on average, because each check verifies a signature. Messages that
name an expected home have a limit of their own, of the same size, for each transport and address."""
BURST: Final = 200.0
"""Messages of one source that are checked at once, after a pause."""
TOTAL_RATE: Final = 100.0
"""Messages per second that are checked from all sources together."""
TOTAL_BURST: Final = 600.0
MAX_BUDGETS: Final = 1000
"""Sources whose messages are counted."""

_LOGGER = logging.getLogger(__name__)


class Transport(Protocol):
    """A way to other homes."""

    @property
    def is_lan(self) -> bool:
        """Whether messages stay within the local network."""

    @property
    def origin(self) -> str:
        """Where messages come from, as users see it."""

    @property
    def tells_apart(self) -> bool:
        """Whether sources cannot be forged: they are addresses, or homes that proved their identity."""

    def send(self, home: str, message: dict[str, Any], *, reply: bool) -> bool:
        """Send a message without blocking. Return whether it may arrive."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that arrived, and its transport."""

    envelope: Envelope
    transport: Transport


class Messenger:
    """The messages of one home over all transports."""

    def __init__(
        self,
        identity: Identity,
        on_message: Callable[[Message], None],
        *,
        is_expected: Callable[[str], bool] = lambda _home: False,
        clock: Clock = time.monotonic,
    ) -> None:
        """Send as an identity, and call `on_message` with each message to it.

        `is_expected` tells whether a home's messages must get through a flood of others: friends, and homes that the user
        has asked.
        """
        self.identity = identity
        self.is_expected = is_expected
        self._on_message = on_message
        self._transports: list[Transport] = []
        self._known: OrderedDict[tuple[str, str], bool] = OrderedDict()
        """Messages that arrived, by sender and id: whether one came through the local network."""
        self._budgets = TokenBuckets(RATE, BURST, max_keys=MAX_BUDGETS, clock=clock)
        self._total = TokenBucket(TOTAL_RATE, TOTAL_BURST, clock)

    def add(self, transport: Transport) -> None:
        """Use a transport from now on."""
        self._transports.append(transport)

    def remove(self, transport: Transport) -> None:
        """Stop using a transport."""
        self._transports.remove(transport)

    def send(
        self,
        home: str,
        kind: str,
        body: bytes,
        *,
        transport: Transport | None = None,
        lan: bool | None = None,
    ) -> bool:
        """Send a message over all transports, over those that are `lan` or not, or as a reply over one `transport`.

        Return whether it may arrive.
        """
        message = seal(self.identity, home, kind, body)
        transports = [transport] if transport is not None else self._transports
        chosen = [each for each in transports if lan is None or each.is_lan is lan]
        # A list, because any() would stop at the first success.
        sent = [
            each.send(home, message, reply=transport is not None) for each in chosen
        ]
        return any(sent)

    def receive(
        self, message: object, transport: Transport, source: str = ""
    ) -> str | None:
        """Handle a message that arrived over a transport from `source`. Return the home that it proves to be there, if any.

        A message that arrived before proves nothing, because anybody may have recorded it. One that came through a server
        still proves its sender when it arrives in the local network afterwards.
        """
        if not self._allows(message, transport, source):
            return None
        try:
            envelope = opened(message, self.identity.id)
        except BadEnvelope as err:
            _LOGGER.debug("A message from %s is ignored: %s", transport.origin, err)
            return None
        name = (envelope.sender, envelope.id)
        was_lan = self._known.get(name)
        self._known[name] = transport.is_lan or bool(was_lan)
        if was_lan is None:
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
            self._on_message(Message(envelope, transport))
        is_fresh = was_lan is None or (transport.is_lan and not was_lan)
        return envelope.sender if is_fresh else None

    def _allows(self, message: object, transport: Transport, source: str) -> bool:
        """Tell whether the limits allow another message."""
        origin = transport.is_lan, transport.origin, source
        is_within = self._budgets.take(origin)
        if is_within and self._total.take():
            return True
        if not is_within and transport.tells_apart:
            # This source is the flood, whatever sender it names.
            return False
        if not transport.tells_apart:
            origin = transport.is_lan, transport.origin, ""
        # Separate for each transport: a flood in a friend's name leaves that friend all the others.
        sender = message.get("sender") if isinstance(message, dict) else None
        return (
            isinstance(sender, str)
            and self.is_expected(sender)
            and self._budgets.take((sender, *origin))
        )
