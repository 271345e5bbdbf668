"""Records which messages were just forwarded to other nodes, so that their senders can be told if a node dies."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Set as AbstractSet
from time import monotonic
from typing import Final

NODE_DEATH_DELAY: Final = 6.0
"""Seconds after its death until a node is known to be dead."""
MAX_PAIRS: Final = 50_000
"""Recorded pairs of sender and receiver. If there are more, the oldest are dropped."""


class Forwarded:
    """The pairs of sender and receiver whose last message would be lost if a node died."""

    def __init__(self, kept_for: float) -> None:
        """Start without pairs. Messages wait at other nodes for up to `kept_for` seconds."""
        self._kept_for = kept_for
        self._until: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        """When a pair need not be recorded any more, by node, receiver and sender."""

    def add(self, node: str, receiver: str, sender: str, *, kept: bool) -> None:
        """Record a message. `kept` means that it waits at the node for its receiver."""
        pair = (node, receiver, sender)
        wait = NODE_DEATH_DELAY + self._kept_for if kept else NODE_DEATH_DELAY
        self._until[pair] = monotonic() + wait
        self._until.move_to_end(pair)
        if len(self._until) > MAX_PAIRS:
            self._until.popitem(last=False)

    def replied(self, node: str, receiver: str, sender: str) -> None:
        """Remove a pair whose receiver replied through this node."""
        self._until.pop((node, receiver, sender), None)

    def lost(self, nodes: AbstractSet[str]) -> Iterator[tuple[str, str]]:
        """Remove and return the receivers and senders whose messages are lost with these nodes."""
        if not nodes:
            return
        now = monotonic()
        for pair in [pair for pair in self._until if pair[0] in nodes]:
            if self._until.pop(pair) >= now:
                yield pair[1], pair[2]

    def forget_old(self) -> None:
        """Remove pairs whose time is over."""
        now = monotonic()
        while self._until:
            pair = next(iter(self._until))
            if self._until[pair] >= now:
                break
            del self._until[pair]
