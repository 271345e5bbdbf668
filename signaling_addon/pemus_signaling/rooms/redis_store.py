"""Rooms in the first Redis or Valkey server of a cluster, which all nodes share.

A room is one value, which expires when no token for the room can be valid any more. For the limits, each home and each
network has a sorted set of its rooms by time. Scripts make changes atomic. While Redis is away, requests fail with
StoreAwayError, so nobody is told that an open room is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import time
from typing import Final

from redis.exceptions import OutOfMemoryError

from pemus_signaling.cluster.cluster import StoreAwayError
from pemus_signaling.cluster.store import STORE_ERRORS, connect

from .store import MAX_ROOMS, Created, Room, decode_room, encode_room

_ROOM: Final = "pemus:room:"
_HOME: Final = "pemus:home:"
_NETWORK: Final = "pemus:network:"
"""The rooms of a network, by the time until which they are kept."""
_CREATE: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 'TAKEN' end
local now, most = tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('ZCOUNT', KEYS[2], '(' .. now, '+inf') >= most then return 'TOO_MANY' end
if redis.call('ZCOUNT', KEYS[3], '(' .. now, '+inf') >= tonumber(ARGV[8]) then return 'CROWDED' end
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
for place = 1, #gone - most + 1 do
  redis.call('DEL', ARGV[6] .. gone[place])
  redis.call('ZREM', KEYS[2], gone[place])
  redis.call('ZREM', KEYS[3], gone[place])
end
redis.call('SET', KEYS[1], ARGV[1], 'EXAT', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[7])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[7])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
for place = 2, 3 do
  redis.call('EXPIREAT', KEYS[place], ARGV[3], 'NX')
  redis.call('EXPIREAT', KEYS[place], ARGV[3], 'GT')
end
return 'DONE'
"""
_REPLACE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EXAT', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[5])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[5])
for place = 2, 3 do
  redis.call('EXPIREAT', KEYS[place], ARGV[4], 'NX')
  redis.call('EXPIREAT', KEYS[place], ARGV[4], 'GT')
end
return 1
"""


class RedisStore:
    """Keeps rooms in Redis."""

    def __init__(self, url: str) -> None:
        """Prepare to connect to a URL (`redis://`, `rediss://` or `unix://`). Only the memory of Redis limits the total."""
        self._redis = connect(url)
        self._create = self._redis.register_script(_CREATE)
        self._replace = self._redis.register_script(_REPLACE)

    async def start(self) -> list[Room]:
        """Return nothing: Redis has the revocations too. The first request connects."""
        return []

    async def close(self) -> None:
        """Close the connections."""
        with suppress(*STORE_ERRORS):
            await self._redis.aclose()

    async def create(
        self, room: Room, most: int, in_network: int = MAX_ROOMS
    ) -> Created:
        """Add a room, as `RoomStore.create` says."""
        with _asking():
            try:
                # fmt: off
                answer = await self._create(
                    keys=[_ROOM + room.slug, _HOME + room.host, _NETWORK + room.network],
                    args=[encode_room(room), room.ended, room.forgotten, int(time.time()), most, _ROOM, room.slug, in_network],
                )
                # fmt: on
            except OutOfMemoryError:
                return Created.FULL
        return Created[answer.decode()]

    async def get(self, slug: str) -> Room | None:
        """Return a room, including one that is gone."""
        (room,) = await self._read([slug])
        return room

    async def replace(self, old: Room, new: Room) -> bool:
        """Change a room. Return False if it is not equal to `old`."""
        with _asking():
            # fmt: off
            return bool(await self._replace(
                keys=[_ROOM + new.slug, _HOME + new.host, _NETWORK + new.network],
                args=[encode_room(old), encode_room(new), new.ended, new.forgotten, new.slug],
            ))
            # fmt: on

    async def rooms_of(self, host: str) -> list[Room]:
        """Return the rooms of a home, including those that are gone."""
        with _asking():
            slugs = [
                slug.decode() for slug in await self._redis.zrange(_HOME + host, 0, -1)
            ]
            rooms = await self._read(slugs)
            if forgotten := [
                slug for slug, room in zip(slugs, rooms, strict=True) if room is None
            ]:
                await self._redis.zrem(_HOME + host, *forgotten)
        return [room for room in rooms if room is not None]

    async def _read(self, slugs: list[str]) -> list[Room | None]:
        if not slugs:
            return []
        with _asking():
            bodies = await self._redis.mget([_ROOM + slug for slug in slugs])
        return [None if body is None else decode_room(body) for body in bodies]


@contextmanager
def _asking() -> Iterator[None]:
    """Raise StoreAwayError if Redis does not answer."""
    try:
        yield
    except STORE_ERRORS as error:
        raise StoreAwayError from error
