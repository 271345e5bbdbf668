"""A cluster whose nodes find each other, and exchange messages, through one or more Redis or Valkey servers.

A store records which nodes are alive (each sends a heartbeat once a second) and which node has which name. Its channels carry
messages between nodes; no message is stored. Several stores share the work: each name belongs to one of them, by
rendezvous hashing, and messages to one node take one of them. The secret and the kept texts exist once, in the first store.

While a store is away, every node continues to serve its own clients, and messages take another store. Only clients at
other nodes whose names belong to the missing store are not found. When it is back, each node claims its names again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import batched
import logging
from typing import Final

from . import scripts
from .cluster import Cluster, Handler, StoreAwayError, home_of
from .names import Names
from .secret import SharedSecret
from .shard import Shard
from .store import PREFIX, STORE_ERRORS

MAX_REMEMBERED: Final = 200_000
"""Texts that are kept per topic. If there are more, those that expire first are dropped. A node keeps half as many, so that
normally the node decides which to drop."""
RECALLED_AT_ONCE: Final = 1_000
REMEMBERED_AT_ONCE: Final = 1_000

_SUPERSEDED: Final = b"superseded"

_LOGGER = logging.getLogger(__name__)


class RedisCluster(Cluster):
    """A node of a cluster that one or more Redis servers hold together."""

    is_shared = True

    def __init__(self, urls: Sequence[str]) -> None:
        """Prepare to join the cluster at these URLs (`redis://`, `rediss://` or `unix://`), which all nodes list in one order."""
        super().__init__()
        self._handlers: dict[bytes, Handler] = {}
        """By topic, as bytes."""
        self.shards = {
            str(number): Shard(
                url,
                self.node,
                handlers=self._handlers,
                changed=self._changed,
                lost=self._lost,
            )
            for number, url in enumerate(urls)
        }
        """By their positions in the list, which names are hashed with, because nodes may use different addresses for one store."""
        first = self.shards["0"]
        self._first = first.store
        self.secret = first.secret = SharedSecret(first.store)
        self._remember_script = self._first.redis.register_script(scripts.REMEMBER)
        self._alone = first.names if len(urls) == 1 else None
        self._node_handlers: list[Callable[[], None]] = []
        self._missed_handlers: list[Callable[[], None]] = []
        self._nodes = frozenset((self.node,))
        self._routes: dict[str, Shard] = {}
        """The store for messages to each node."""

    async def start(self) -> None:
        """Join. Raises OSError if the first store cannot be reached; others are joined once they answer."""
        errors = await asyncio.gather(
            *(shard.start() for shard in self.shards.values())
        )
        if errors[0] is not None:
            await self.close()
            raise OSError(f"Redis cannot be reached: {errors[0]}")
        self._changed(False)

    async def close(self) -> None:
        """Leave. The other nodes know at once, and the names of this node are free."""
        await asyncio.gather(*(shard.close() for shard in self.shards.values()))

    @property
    def stores_away(self) -> int:
        """How many stores do not answer."""
        return sum(shard.store.is_away for shard in self.shards.values())

    @property
    def dropped(self) -> int:
        """Messages to other nodes that were dropped."""
        return sum(shard.dropped for shard in self.shards.values())

    def nodes(self) -> frozenset[str]:
        """Return the nodes that are alive; this one alone while all stores are away."""
        return self._nodes

    def on(self, topic: str, handler: Handler) -> None:
        """Hand messages about a topic to `handler`."""
        self._handlers[topic.encode()] = handler

    def on_nodes(self, handler: Callable[[], None]) -> None:
        """Call `handler` when nodes come or go, and when a store is back."""
        self._node_handlers.append(handler)

    def on_missed(self, handler: Callable[[], None]) -> None:
        """Call `handler` when messages of other nodes may have been missed, and can be heard again."""
        self._missed_handlers.append(handler)

    async def remember(self, topic: str, entries: Mapping[bytes, float]) -> None:
        """Keep texts for all nodes, each until its time. Raises StoreAwayError."""
        try:
            for some in batched(entries.items(), REMEMBERED_AT_ONCE):
                parts = (part for text, until in some for part in (until, text))
                await self._remember_script(
                    keys=[PREFIX + topic], args=[MAX_REMEMBERED, *parts]
                )
        except STORE_ERRORS as error:
            raise StoreAwayError from error

    async def forget(self, topic: str, texts: Collection[bytes]) -> None:
        """Stop keeping texts. Raises StoreAwayError."""
        try:
            for some in batched(texts, REMEMBERED_AT_ONCE):
                await self._first.redis.zrem(PREFIX + topic, *some)
        except STORE_ERRORS as error:
            raise StoreAwayError from error

    async def recall(self, topic: str) -> Mapping[bytes, float]:
        """Return what is remembered of a topic. Raises StoreAwayError."""
        found: dict[bytes, float] = {}
        at = 0
        try:
            # The longest-lived first: what expires meanwhile is at the other end.
            while page := await self._first.redis.zrevrange(
                PREFIX + topic, at, at + RECALLED_AT_ONCE - 1, withscores=True
            ):
                found |= page
                at += len(page)
        except STORE_ERRORS as error:
            raise StoreAwayError from error
        return found

    def send(self, node: str, topic: str, message: bytes) -> None:
        """Send a message to another node."""
        if node in self._nodes:
            if (shard := self._routes.get(node)) is None:
                shard = self._routes[node] = self._route(node)
            shard.post(node, topic, message)

    def broadcast(self, topic: str, message: bytes) -> None:
        """Send a message to all other nodes."""
        for shard in self.shards.values():
            if not shard.store.is_away:
                shard.post("", topic, message)
                break

    async def claim(self, name: str, *, take: bool, owner: str = "") -> bool:
        """Claim a name for this node."""
        return await self._names(name).claim(name, take=take, owner=owner)

    def again(self, name: str) -> None:
        """Treat a name of this node as claimed now."""
        self._names(name).again(name)

    def release(self, name: str) -> None:
        """Release a name."""
        self._names(name).release(name)

    def found(self, name: str) -> str | None:
        """Return the node that a recent `locate` found."""
        return self._names(name).found(name)

    def lost(self, name: str) -> None:
        """Forget where a name was found."""
        self._names(name).forget_location(name)

    async def locate(self, name: str) -> str | None:
        """Return the living node that has a name. A location is cached for a few seconds."""
        shard = self._shard(name)
        if (node := await shard.names.locate(name)) is not None:
            shard.meet(node)
        return node

    def _shard(self, name: str) -> Shard:
        return self.shards[home_of(self.shards, name.encode())]

    def _names(self, name: str) -> Names:
        return self._alone or self._shard(name).names

    def _route(self, node: str) -> Shard:
        """Return the store for messages to a node: one that both nodes reach."""
        reached = [
            number for number, shard in self.shards.items() if node in shard.store.nodes
        ]
        return self.shards[home_of(reached, node.encode())]

    def _lost(self, node: str, name: str) -> None:
        if (handler := self._handlers.get(_SUPERSEDED)) is not None:
            handler(node, name.encode())

    def _changed(self, missed: bool) -> None:
        nodes = frozenset[str]().union(
            *(shard.store.nodes for shard in self.shards.values())
        )
        self._routes.clear()
        if nodes == self._nodes and not missed:
            return
        self._nodes = nodes
        for handler in (
            *self._node_handlers,
            *(self._missed_handlers if missed else ()),
        ):
            try:
                handler()
            except Exception as error:
                # This runs in the task that sends heartbeats, which must continue.
                _LOGGER.error(
                    "A change of nodes was not processed: %s",
                    type(error).__name__,
                    exc_info=error,
                )
