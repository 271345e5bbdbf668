"""What happened since each listener last asked: state, changed items, new media of friends, and what guests do.

There is no queue. What a listener has not taken yet is kept as one state per listener, where newer news replaces older, so that a
listener that is slow, or does not read at all, costs next to nothing and still gets the newest state.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..models import Event, ItemsChanged, NewMedia, Status, StatusChanged
from ..models.rooms import RoomEvent

MAX_EVENTS = 50
"""Single events that wait for one listener. The oldest are dropped."""
MAX_NAMED_ITEMS = 500
"""Changed items that are named one by one. More of them are reported as "many"."""


class Listener:
    """What one listener has not taken yet."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._status = False
        # None: too many changed to name them.
        self._items: set[str] | None = set()
        self._single: deque[NewMedia | RoomEvent] = deque(maxlen=MAX_EVENTS)
        self.pending = asyncio.Event()
        """Set while there is something to take."""

    def add_status(self) -> None:
        """Note that the state changed."""
        self._status = True
        self.pending.set()

    def add_items(self, items: tuple[str, ...] | None) -> None:
        """Note that these items changed, or too many to name them (None)."""
        if items is None or self._items is None:
            self._items = None
        else:
            self._items.update(items)
            if len(self._items) > MAX_NAMED_ITEMS:
                self._items = None
        self.pending.set()

    def add(self, event: NewMedia | RoomEvent) -> None:
        """Note a single event."""
        self._single.append(event)
        self.pending.set()

    def take(self, status: Callable[[], Status]) -> list[Event]:
        """Return what is new and start afresh. Calls `status` only if the state is part of it."""
        events: list[Event] = []
        if self._items is None or self._items:
            items = None if self._items is None else tuple(sorted(self._items))
            events.append(ItemsChanged(revision=status().revision, items=items))
        if self._status:
            events.append(StatusChanged(status=status()))
        events += self._single
        self._single.clear()
        self._status = False
        self._items = set()
        self.pending.clear()
        return events


class News:
    """Passes on what happens to everybody who listens. Cheap: may be called thousands of times a second."""

    def __init__(self) -> None:
        """Begin without listeners."""
        self._listeners: set[Listener] = set()
        self.version = 0
        """Grows whenever the state may have changed."""

    @property
    def listeners(self) -> int:
        """How many listen at present."""
        return len(self._listeners)

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Enter a listener that hears of everything until it leaves."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def status_changed(self) -> None:
        """Report that something of the state changed."""
        self.version += 1
        for listener in self._listeners:
            listener.add_status()

    def items_changed(self, items: tuple[str, ...] | None) -> None:
        """Report that these items changed, or too many to name them (None)."""
        self.version += 1
        for listener in self._listeners:
            listener.add_items(items)

    def happened(self, event: NewMedia | RoomEvent) -> None:
        """Report a single event. A slow listener gets the last few only."""
        for listener in self._listeners:
            listener.add(event)
