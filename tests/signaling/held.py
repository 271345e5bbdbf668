"""A node that does not hear of the others for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from pemus_signaling.cluster.redis import RedisCluster
from pemus_signaling.cluster.store import Store


@contextmanager
def holding_heartbeats(cluster: RedisCluster) -> Iterator[None]:
    """Let the next heartbeats of a node wait until the end of the block."""
    go_on = asyncio.Event()
    for shard in cluster.shards.values():
        _hold(shard.store, go_on)
    yield
    go_on.set()


def _hold(store: Store, go_on: asyncio.Event) -> None:
    beat = store.beat

    async def beat_later() -> tuple[frozenset[str], bool]:
        await go_on.wait()
        return await beat()

    store.beat = beat_later  # type: ignore[method-assign]
