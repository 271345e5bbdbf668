"""The connections to one Redis or Valkey, its clock, and which nodes it knows to be alive."""

from __future__ import annotations

import asyncio
from contextlib import suppress
import time
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from . import scripts

NODE_LIFE_MS: Final = 4000
"""Milliseconds without a heartbeat after which a node is dead. Its names are free then."""
STORE_TIMEOUT: Final = 3.0
"""Seconds to wait for an answer of the store before it counts as away."""
CONNECTIONS: Final = 16
"""Connections for requests. Further requests wait for a free one."""
PREFIX: Final = "pemus:"
NODES: Final = f"{PREFIX}nodes"
"""The sorted set of nodes, each with the time at which it is dead, in milliseconds of the store's clock."""
TO_ALL: Final = f"{PREFIX}all"
"""The channel that all nodes hear."""

STORE_ERRORS: Final = (RedisError, OSError)
"""Raised by requests that the store does not answer, or not in time."""


def connect(url: str) -> Any:
    """Return a client of the store at a URL. It connects when it is used first.

    redis-py's own types do not say what its calls return, so it has none here.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=STORE_TIMEOUT,
        socket_timeout=STORE_TIMEOUT,
        socket_connect_timeout=STORE_TIMEOUT,
    )
    return Redis.from_pool(pool)


def channel_of(node: str) -> str:
    """Return the channel that one node hears."""
    return f"{PREFIX}to:{node}"


class Store:
    """One Redis, as one node sees it."""

    def __init__(self, url: str, node: str) -> None:
        """Prepare to connect a node."""
        self.node = node
        self.is_away = True
        """Whether the store does not answer."""
        self.nodes = frozenset((node,))
        """The nodes that are alive; this one alone while the store is away."""
        self.check_now = asyncio.Event()
        """Set to send the next heartbeat at once: the store may be away, or other nodes may have changed."""
        self.clock = time.monotonic
        self.redis = connect(url)
        # A connection of its own: a burst of requests must not delay the heartbeat.
        self._heartbeat = connect(url)
        # A listener may hear nothing for long, so it has no time-out but TCP's keepalive.
        keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
        self._listener: Any = Redis.from_url(
            url,
            socket_connect_timeout=STORE_TIMEOUT,
            # With RESP3, redis-py formats each publication for a log message, even if logging is off.
            protocol=2,
            # Otherwise it reconnects silently, and the node does not notice that it missed messages.
            retry=Retry(NoBackoff(), 0),
            **keepalive,
        )
        self._beat = self._heartbeat.register_script(scripts.BEAT)
        self._ahead = 0
        """Microseconds by which the store's clock is ahead of `clock`."""

    def now(self) -> int:
        """Return the time of the store's clock in microseconds, extrapolated since the last heartbeat."""
        return self._ahead + int(self.clock() * 1_000_000)

    async def beat(self) -> tuple[frozenset[str], bool]:
        """Send a heartbeat. Return the living nodes, and whether the store had forgotten this one. Raises STORE_ERRORS."""
        asked = self.clock()
        now, nodes, forgotten = await self._beat(
            keys=[NODES], args=[self.node, NODE_LIFE_MS]
        )
        # The store read its clock at some time between the question and the answer.
        self._ahead = int(now) - int((asked + self.clock()) / 2 * 1_000_000)
        return frozenset((self.node, *(node.decode() for node in nodes))), bool(
            forgotten
        )

    async def subscribe(self) -> Any:
        """Listen to what is for this node and for all. Raises STORE_ERRORS."""
        pubsub = self._listener.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe(channel_of(self.node), TO_ALL)
        return pubsub

    async def close(self) -> None:
        """Close all connections."""
        for client in (self.redis, self._heartbeat, self._listener):
            with suppress(*STORE_ERRORS):
                await client.aclose()
