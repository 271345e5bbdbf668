"""What the parts of the program know of the nodes that act as one, and the case of a single process.

A part can send messages to other nodes, see which nodes are alive, and find the node that a client is connected to. Messages
between nodes are best effort and never block: the protocol above repeats what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from typing import Final
import uuid

NODE_LENGTH: Final = 12
"""Characters of a node's name."""


class StoreAwayError(OSError):
    """The store of what all nodes, or the next start, must know does not answer, or cannot write."""


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


class Cluster:
    """A node, and the others that act with it as one. This class is a node without others."""

    is_shared = False
    """Whether there can be other nodes."""

    def __init__(self) -> None:
        """Name this node. The name is a new one at each start."""
        self.node = uuid.uuid4().hex[:NODE_LENGTH]

    async def start(self) -> None:
        """Join. Raises OSError if that is not possible."""

    async def close(self) -> None:
        """Leave. The other nodes know at once."""

    def nodes(self) -> frozenset[str]:
        """Return the living nodes, including this one."""
        return frozenset((self.node,))

    def on(self, topic: str, handler: Handler) -> None:
        """Call `handler` with messages of other nodes about a topic. Must be called before `start`."""

    def on_nodes(self, handler: Callable[[], None]) -> None:
        """Call `handler` when `nodes` changes, and when a store is back. Must be called before `start`."""

    def on_missed(self, handler: Callable[[], None]) -> None:
        """Call `handler` when this node may have missed messages and receives them again. Must be called before `start`."""

    def send(self, node: str, topic: str, message: bytes) -> None:
        """Send a message to another node. It is dropped if that is not possible now."""

    def broadcast(self, topic: str, message: bytes) -> None:
        """Send a message to all other nodes."""

    async def remember(self, topic: str, entries: Mapping[bytes, float]) -> None:
        """Keep texts for all nodes, each until a time in seconds since 1970. Raises StoreAwayError."""

    async def forget(self, topic: str, texts: Collection[bytes]) -> None:
        """Stop keeping texts. Raises StoreAwayError."""

    async def recall(self, topic: str) -> Mapping[bytes, float]:
        """Return the texts that are kept, with their times. Raises StoreAwayError."""
        return {}

    async def claim(self, name: str, *, take: bool, owner: str = "") -> bool:
        """Claim a name for this node. Return False if another living node has it and `take` is not set.

        `take` takes it over: the former node gets a message of the topic "superseded" with the name. While the store is
        away, the answer is True. When the store is back, one connection keeps the name: the newer one if both are of one
        `owner`, otherwise the first one.
        """
        return True

    def again(self, name: str) -> None:
        """Treat a name of this node as claimed now, because a newer connection has it."""

    def release(self, name: str) -> None:
        """Release a name of this node."""

    def found(self, name: str) -> str | None:
        """Return the living node that a recent `locate` found."""
        return None

    def lost(self, name: str) -> None:
        """Let the next `locate` ask the store: the name was not where it was found."""

    async def locate(self, name: str) -> str | None:
        """Return the living node that has a name. None if there is none, or the store is away."""
        return None
