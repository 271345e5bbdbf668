"""One process alone, or many that act as one.

What the parts ask of it is small: tell the other nodes something, know which of them live, and know which node an id is
connected to. `Alone` answers for a single process. Everything that crosses nodes is best effort and never waits: who
misses a message has a protocol above it that asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from typing import Protocol
import uuid


class StoreAwayError(OSError):
    """What keeps something for all nodes, or for the next start, does not answer at present, or cannot write."""


type Handler = Callable[[str, bytes], None]
"""Takes the node that a message comes from, and the message."""


def home_of(nodes: Collection[str], thing: bytes) -> str:
    """Return the one of these nodes that a thing belongs to.

    This is rendezvous hashing (D. Thaler, C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998): all
    nodes that see the same nodes agree, and only what belongs to a node that comes or goes moves.
    """
    if len(nodes) == 1:
        return next(iter(nodes))
    return max(
        nodes, key=lambda node: blake2b(node.encode() + thing, digest_size=8).digest()
    )


class Cluster(Protocol):
    """The nodes that act as one."""

    node: str
    """This process. A new name at each start."""

    async def start(self) -> None:
        """Join."""

    async def close(self) -> None:
        """Leave. The others know at once."""

    def nodes(self) -> frozenset[str]:
        """Return the nodes that live, with this one."""

    def on(self, topic: str, handler: Handler) -> None:
        """Hand messages of other nodes about a topic to `handler`. To be called before `start`."""

    def on_nodes(self, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `nodes` has changed, and when a store that was away is back. Before `start`."""

    def send(self, node: str, topic: str, message: bytes) -> None:
        """Tell one other node. Dropped if that is not possible at present."""

    def broadcast(self, topic: str, message: bytes) -> None:
        """Tell all other nodes."""

    def on_missed(self, handler: Callable[[], None]) -> None:
        """Call `handler` when messages of other nodes may have been missed, and can be heard again. Before `start`."""

    async def remember(self, topic: str, entries: Mapping[bytes, float]) -> None:
        """Keep texts for all nodes, also those to come, each until a time in seconds since 1970. Raises StoreAwayError."""

    async def forget(self, topic: str, texts: Collection[bytes]) -> None:
        """Keep texts no more. Raises StoreAwayError."""

    async def recall(self, topic: str) -> Mapping[bytes, float]:
        """Return what is remembered of a topic. Raises StoreAwayError."""

    async def claim(self, name: str, *, take: bool, owner: str = "") -> bool:
        """Have a name for this node; return False if another living node has it and it must not be taken.

        `take` takes it over: the node that had it is told through its handler of the topic "superseded", with the name.
        While the store is away the answer is True, and who really has it is settled when it is back: of two connections
        of one `owner` the newer one, of two owners the one that came first.
        """

    def again(self, name: str) -> None:
        """Count a name that this node has as claimed at this moment: a newer connection has it."""

    def release(self, name: str) -> None:
        """Give a name back, if this node has it."""

    def found(self, name: str) -> str | None:
        """Return the living node that had a name a moment ago, None if nobody asked for it since."""

    def lost(self, name: str) -> None:
        """Ask the store when somebody wants to know next where a name is: it was not where it was found."""

    async def locate(self, name: str) -> str | None:
        """Return the living node that has a name, None if nobody does or that cannot be told at present."""


class Alone:
    """A cluster of one."""

    def __init__(self) -> None:
        """Have a name, for the logs."""
        self.node = uuid.uuid4().hex[:12]

    async def start(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def nodes(self) -> frozenset[str]:
        """Return this one."""
        return frozenset((self.node,))

    def on(self, topic: str, handler: Handler) -> None:
        """Never call it: there are no others."""

    def on_nodes(self, handler: Callable[[], None]) -> None:
        """Never call it: nothing changes."""

    def send(self, node: str, topic: str, message: bytes) -> None:
        """Do nothing."""

    def broadcast(self, topic: str, message: bytes) -> None:
        """Do nothing."""

    def on_missed(self, handler: Callable[[], None]) -> None:
        """Never call it: there is nothing to miss."""

    async def remember(self, topic: str, entries: Mapping[bytes, float]) -> None:
        """Do nothing: who says it remembers it."""

    async def forget(self, topic: str, texts: Collection[bytes]) -> None:
        """Do nothing."""

    async def recall(self, topic: str) -> Mapping[bytes, float]:
        """Return nothing: nobody else said anything."""
        return {}

    async def claim(self, name: str, *, take: bool, owner: str = "") -> bool:
        """Agree: who has a name in this process is known to those who ask."""
        return True

    def again(self, name: str) -> None:
        """Do nothing."""

    def release(self, name: str) -> None:
        """Do nothing."""

    def found(self, name: str) -> str | None:
        """Return None: nobody asked."""
        return None

    def lost(self, name: str) -> None:
        """Do nothing."""

    async def locate(self, name: str) -> str | None:
        """Return None: a name that this process has is found before anyone asks."""
        return None
