"""One of the Redis or Valkey servers that hold a cluster together: heartbeats, messages between nodes, and its names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
import logging
import struct
from typing import Any, Final

from .cluster import NODE_LENGTH, Handler
from .names import TAKEN, Names
from .publications import head, messages, publications
from .secret import SharedSecret
from .store import NODES, STORE_ERRORS, TO_ALL, Store, channel_of

HEARTBEAT_INTERVAL: Final = 1.0
"""Seconds between two heartbeats of a node."""
MAX_OUTBOX: Final = 16 * 1024**2
"""Bytes that may wait for the store. Messages beyond that are dropped."""
GATHER_TIME: Final = 0.005
"""Seconds to collect messages before publishing them: a publication costs much the same for one or a hundred."""
RETRY_DELAY: Final = 0.5
"""Seconds until the store is asked again after an error."""

CHANGED: Final = b"nodes"
"""The topic of nodes that came or left."""
_TAKEN: Final = TAKEN.encode()

_LOGGER = logging.getLogger(__name__)


class Shard:
    """One store of a node's cluster."""

    def __init__(
        self,
        url: str,
        node: str,
        *,
        handlers: Mapping[bytes, Handler],
        changed: Callable[[bool], None],
        lost: Callable[[str, str], None],
    ) -> None:
        """Prepare to join.

        `handlers` get the messages, by topic. `changed` is called when nodes come or go, or the store is back,
        with whether messages may have been missed. `lost` gets names that other nodes took over.
        """
        self.store = Store(url, node)
        self.names = Names(self.store, lost)
        self.secret: SharedSecret | None = None
        """The secret, in the first store."""
        self.dropped = 0
        """Messages that were dropped because too many waited."""
        self._handlers = handlers
        self._changed = changed
        self._outbox: dict[str, list[bytes]] = {}
        """By node, heads and messages in turn."""
        self._outbox_bytes = 0
        self._filled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> Exception | None:
        """Join, now or as soon as the store answers. Return the error if it does not answer now."""
        pubsub, error = None, None
        try:
            pubsub = await self.store.subscribe()
            self.store.nodes, _ = await self.store.beat()
            self.store.is_away = False
        except STORE_ERRORS as raised:
            error = raised
        work = {
            "listen": self._listen(pubsub),
            "heartbeat": self._live(),
            "publish": self._publish(),
            "renew names": self.names.keep_renewed(),
            "release names": self.names.keep_updated(),
        }
        if self.secret is not None:
            work["renew the secret"] = self.secret.keep_renewed()
        self._tasks = [
            asyncio.create_task(each, name=f"cluster: {name}")
            for name, each in work.items()
        ]
        self.post("", CHANGED.decode(), b"")
        return error

    async def close(self) -> None:
        """Leave. The other nodes know at once, and this node's names are free."""
        await self.stop()
        if not self.store.is_away:
            with suppress(*STORE_ERRORS):
                await self.store.redis.zrem(NODES, self.store.node)
                message = self.store.node.encode() + head(CHANGED.decode(), 0)
                await self.store.redis.publish(TO_ALL, message)
        await self.store.close()

    async def stop(self) -> None:
        """Stop without leaving, as a node that dies."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def meet(self, node: str) -> None:
        """Count a node as alive because it sent a message or the store found it. It may have just joined."""
        if not self.store.is_away and node not in self.store.nodes:
            self.store.nodes |= {node}
            self._changed(False)

    def post(self, node: str, topic: str, message: bytes) -> None:
        """Publish a message soon, to one node, or to all others if `node` is empty."""
        if self.store.is_away:
            return
        length = len(message)
        before = head(topic, length)
        size = len(before) + length
        if self._outbox_bytes + size > MAX_OUTBOX:
            self.dropped += 1
            return
        self._outbox_bytes += size
        if (parts := self._outbox.get(node)) is None:
            parts = self._outbox[node] = []
            self._filled.set()
        parts += (before, message)

    async def _live(self) -> None:
        store = self.store
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_INTERVAL):
                    await store.check_now.wait()
            store.check_now.clear()
            try:
                nodes, forgotten = await store.beat()
                # A store that forgot this node was emptied, or is short of memory: it may have lost names as well.
                missed = store.is_away or forgotten
                if missed:
                    if self.secret is not None:
                        await self.secret.restore()
                    await self.names.claim_all()
            except STORE_ERRORS as error:
                self._lose(error)
                # However often a check is asked for, a store that is away is asked once per interval.
                await asyncio.sleep(HEARTBEAT_INTERVAL)
                continue
            was_away, store.is_away = store.is_away, False
            if was_away:
                _LOGGER.warning("Redis is back")
            if nodes != store.nodes or missed:
                store.nodes = nodes
                self._changed(missed)

    def _lose(self, error: Exception) -> None:
        if self.store.is_away:
            return
        self.store.is_away = True
        _LOGGER.warning("Redis is away (%s)", type(error).__name__)
        self.store.nodes = frozenset((self.store.node,))
        self.names.forget_locations()
        self._outbox.clear()
        self._outbox_bytes = 0
        self._changed(False)

    async def _publish(self) -> None:
        """Publish what gathered while the last publication was under way."""
        node = self.store.node.encode()
        while True:
            await self._filled.wait()
            await asyncio.sleep(GATHER_TIME)
            self._filled.clear()
            outbox, self._outbox, self._outbox_bytes = self._outbox, {}, 0
            batch = [
                (channel_of(receiver) if receiver else TO_ALL, publication)
                for receiver, parts in outbox.items()
                for publication in publications(node, parts)
            ]
            redis = self.store.redis
            try:
                if len(batch) == 1:
                    # A pipeline takes half as much processor time again.
                    await redis.publish(*batch[0])
                    continue
                async with redis.pipeline(transaction=False) as pipeline:
                    for channel, publication in batch:
                        pipeline.publish(channel, publication)
                    await pipeline.execute()
            except STORE_ERRORS:
                self.store.check_now.set()
                await asyncio.sleep(RETRY_DELAY)

    async def _listen(self, pubsub: Any) -> None:
        while True:
            try:
                if pubsub is None:
                    pubsub = await self.store.subscribe()
                    # Publications were missed, possibly about names that were taken over.
                    self.names.check_all()
                    self.store.check_now.set()
                    self._changed(True)
                async for message in pubsub.listen():
                    try:
                        self._take(message["data"])
                    except (ValueError, struct.error) as error:
                        _LOGGER.error(
                            "Ignored a publication that is no message of a node: %s",
                            type(error).__name__,
                        )
            except STORE_ERRORS:
                self.store.check_now.set()
            if pubsub is not None:
                with suppress(*STORE_ERRORS):
                    await pubsub.aclose()
            pubsub = None
            await asyncio.sleep(RETRY_DELAY)

    def _take(self, publication: bytes) -> None:
        """Hand on the messages of a publication. This runs for every message that crosses nodes."""
        store, handlers = self.store, self._handlers
        node = publication[:NODE_LENGTH].decode()
        # A message of this node to all.
        if node == store.node:
            return
        for topic, message in messages(publication):
            if topic == CHANGED:
                # A node's last message says that it leaves, so this one does not count as a sign of life.
                store.check_now.set()
                continue
            if node not in store.nodes:
                self.meet(node)
            handler = self.names.taken_over if topic == _TAKEN else handlers.get(topic)
            if handler is None:
                continue
            try:
                handler(node, message)
            except Exception as error:  # noqa: BLE001 - one bad message must not stop the others
                _LOGGER.error(
                    "Ignored a message about %s: %s",
                    topic.decode(errors="replace"),
                    type(error).__name__,
                )
