"""Messages that wait for a receiver who is not there yet.

Somebody's connection drops while others call, or a page opens before its friend's does. So a message is kept for a
moment. Its sender is told when nobody came for it, once for all that it sent there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

MOST_OF_ONE: Final = 200
"""Messages of one sender that wait, wherever they are to go."""

type Expired = Callable[[str, str], None]
"""Takes the receiver that did not come, and a sender that waited for it."""


@dataclass(slots=True)
class _Queue:
    deadline: float
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    """With their senders."""


class Waiting:
    """Keeps messages, within bounds, until they are fetched or expire."""

    def __init__(
        self, life: float, per_receiver: int, total_bytes: int, expired: Expired
    ) -> None:
        """Keep messages for `life` seconds from the first one on, and tell `expired` of those that nobody fetched."""
        self._life = life
        self._per_receiver = per_receiver
        self._total_bytes = total_bytes
        self._expired = expired
        self._queues: dict[str, _Queue] = {}
        """By receiver, the oldest first."""
        self._bytes = 0
        self._of_sender: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many messages wait."""
        return sum(self._of_sender.values())

    @property
    def receivers(self) -> tuple[str, ...]:
        """Those whom messages wait for."""
        return tuple(self._queues)

    def keep(self, receiver: str, sender: str, message: bytes) -> None:
        """Keep a message. One too many counts as expired at once, unless others of the same sender wait there as well."""
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
        """Return what waited for a receiver, with the senders, in order, and keep it no longer."""
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
        """Keep nothing any more, and tell nobody."""
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
