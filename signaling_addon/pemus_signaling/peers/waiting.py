"""Messages that wait for an absent receiver.

A client may be reconnecting, or may open its page later. So messages wait for a few seconds. Each sender is notified once when
they expire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

MOST_OF_ONE: Final = 200
"""Waiting messages of one sender, for all receivers."""

type Expired = Callable[[str, str], None]
"""Called with the absent receiver, and a sender."""


@dataclass(slots=True)
class _Queue:
    deadline: float
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    """Senders and messages."""


class Waiting:
    """Keeps a limited number of messages until they are fetched or expire."""

    def __init__(
        self, life: float, per_receiver: int, total_bytes: int, expired: Expired
    ) -> None:
        """Keep messages of a receiver for `life` seconds after the first one, then call `expired` for each sender."""
        self._life = life
        self._per_receiver = per_receiver
        self._total_bytes = total_bytes
        self._expired = expired
        self._queues: dict[str, _Queue] = {}
        """By receiver, the one that expires first at the beginning."""
        self._bytes = 0
        self._of_sender: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return the number of messages."""
        return sum(self._of_sender.values())

    @property
    def receivers(self) -> tuple[str, ...]:
        """The receivers with waiting messages."""
        return tuple(self._queues)

    def keep(self, receiver: str, sender: str, message: bytes) -> None:
        """Keep a message. One that exceeds a limit expires at once, unless the sender has others waiting for this receiver."""
        queue = self._queues.get(receiver)
        if (
            self._per_receiver <= (0 if queue is None else len(queue.messages))
            or self._of_sender.get(sender, 0) >= MOST_OF_ONE
            or self._bytes + len(message) > self._total_bytes
        ):
            if queue is None or all(other != sender for other, _ in queue.messages):
                self._expired(receiver, sender)
            return
        if queue is None:
            queue = self._queues[receiver] = _Queue(
                asyncio.get_running_loop().time() + self._life
            )
            self._schedule()
        queue.messages.append((sender, message))
        self._of_sender[sender] = self._of_sender.get(sender, 0) + 1
        self._bytes += len(message)

    def fetch(self, receiver: str) -> list[tuple[str, bytes]]:
        """Remove and return the senders and messages for a receiver, in order."""
        queue = self._queues.pop(receiver, None)
        if queue is None:
            return []
        for sender, message in queue.messages:
            self._bytes -= len(message)
            left = self._of_sender[sender] - 1
            if left:
                self._of_sender[sender] = left
            else:
                del self._of_sender[sender]
        return queue.messages

    def close(self) -> None:
        """Drop all messages without calling `expired`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for receiver in list(self._queues):
            self.fetch(receiver)

    def _schedule(self) -> None:
        if self._timer is None and self._queues:
            first = next(iter(self._queues.values()))
            self._timer = asyncio.get_running_loop().call_at(
                first.deadline, self._expire
            )

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        late = []
        for receiver, queue in self._queues.items():
            if queue.deadline > now:
                break
            late.append(receiver)
        for receiver in late:
            for sender in dict.fromkeys(sender for sender, _ in self.fetch(receiver)):
                self._expired(receiver, sender)
        self._schedule()
