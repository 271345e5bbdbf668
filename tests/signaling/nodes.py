"""Nodes that act as one within this process: what a cluster does, without the store between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from pemus_signaling.cluster.cluster import Cluster, Handler, StoreAwayError


class Nodes:
    """All nodes that live."""

    def __init__(self) -> None:
        self.alive: dict[str, Node] = {}
        self.remembered: dict[str, dict[bytes, float]] = {}
        self.away = False
        """Whether nothing gets from one to another."""

    def join(self, name: str) -> Node:
        """Return a node that the others do not know yet: it has to be started."""
        return Node(self, name)

    def back(self) -> None:
        """Have nodes hear each other again."""
        self.away = False
        self.changed()
        for node in tuple(self.alive.values()):
            for handler in node.missed_handlers:
                handler()

    def changed(self) -> None:
        """Tell all nodes that there are others now, or that they can hear each other again."""
        for node in tuple(self.alive.values()):
            for handler in node.node_handlers:
                handler()


class Node(Cluster):
    """A node, as the parts of the server see it."""

    is_shared = True

    def __init__(self, nodes: Nodes, name: str) -> None:
        super().__init__()
        self.node = name
        self.node_handlers: list[Callable[[], None]] = []
        self.missed_handlers: list[Callable[[], None]] = []
        self.sent = 0
        self._nodes = nodes
        self._handlers: dict[str, Handler] = {}

    async def start(self) -> None:
        self._nodes.alive[self.node] = self
        self._nodes.changed()

    async def close(self) -> None:
        """Leave, or die: there is no difference for others."""
        self._nodes.alive.pop(self.node, None)
        self._nodes.changed()

    def nodes(self) -> frozenset[str]:
        return frozenset((self.node, *self._nodes.alive))

    def on(self, topic: str, handler: Handler) -> None:
        self._handlers[topic] = handler

    def on_nodes(self, handler: Callable[[], None]) -> None:
        self.node_handlers.append(handler)

    def on_missed(self, handler: Callable[[], None]) -> None:
        self.missed_handlers.append(handler)

    async def remember(self, topic: str, entries: Mapping[bytes, float]) -> None:
        if self._nodes.away:
            raise StoreAwayError
        self._nodes.remembered.setdefault(topic, {}).update(entries)

    async def forget(self, topic: str, texts: Collection[bytes]) -> None:
        if self._nodes.away:
            raise StoreAwayError
        for text in texts:
            self._nodes.remembered.get(topic, {}).pop(text, None)

    async def recall(self, topic: str) -> Mapping[bytes, float]:
        if self._nodes.away:
            raise StoreAwayError
        return dict(self._nodes.remembered.get(topic, {}))

    def send(self, node: str, topic: str, message: bytes) -> None:
        if self._nodes.away or node not in self._nodes.alive:
            return
        self.sent += 1
        receiver = self._nodes.alive[node]
        asyncio.get_running_loop().call_soon(receiver.hear, self.node, topic, message)

    def broadcast(self, topic: str, message: bytes) -> None:
        for node in self._nodes.alive:
            if node != self.node:
                self.send(node, topic, message)

    def hear(self, node: str, topic: str, message: bytes) -> None:
        if self.node in self._nodes.alive and topic in self._handlers:
            self._handlers[topic](node, message)
