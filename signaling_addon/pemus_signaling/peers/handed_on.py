"""Remembers which messages went to other nodes a moment ago, so that their senders learn if such a node dies."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Set as AbstractSet
from time import monotonic
from typing import Final

NODE_DEATH_DELAY: Final = 6.0
"""Seconds after which a node that died is known to be dead."""
MAX_PAIRS: Final = 50_000
"""Pairs of sender and receiver that are remembered. Beyond that, the oldest are forgotten."""


class HandedOn:
    """The pairs of sender and receiver whose last message may be lost with a node."""

    def __init__(self, kept_for: float) -> None:
        """Begin with none. A message that waits at another node for its receiver does so for `kept_for` seconds."""
        self._kept_for = kept_for
        self._until: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        """By node, receiver and sender."""

    def add(self, node: str, receiver: str, sender: str, *, kept: bool) -> None:
        """Remember a message to a node, for longer if it is kept there until its receiver comes."""
        pair = (node, receiver, sender)
        wait = NODE_DEATH_DELAY + self._kept_for if kept else NODE_DEATH_DELAY
        self._until[pair] = monotonic() + wait
        self._until.move_to_end(pair)
        if len(self._until) > MAX_PAIRS:
            self._until.popitem(last=False)

    def replied(self, node: str, receiver: str, sender: str) -> None:
        """Forget a pair: the receiver replied through this node."""
        self._until.pop((node, receiver, sender), None)

    def lost(self, nodes: AbstractSet[str]) -> Iterator[tuple[str, str]]:
        """Return receivers and senders whose messages are lost with these nodes, and forget them."""
        if not nodes:
            return
        now = monotonic()
        for pair in [pair for pair in self._until if pair[0] in nodes]:
            if self._until.pop(pair) >= now:
                yield pair[1], pair[2]

    def forget_old(self) -> None:
        """Forget what was handed on too long ago."""
        now = monotonic()
        while self._until:
            pair = next(iter(self._until))
            if self._until[pair] >= now:
                break
            del self._until[pair]
