"""Rooms that all nodes share, kept in the Redis or Valkey that holds them together.

A room is one value, which the store forgets by itself when nobody can have a token for it any more. Beside it each home
has a sorted set of its rooms by the time of their end, so that it can be counted how many are open. What has to happen at
once is a script. While the store is away a request fails with StoreAway: nobody is told that a room is gone that is not.
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
"""The rooms that a network made, by the time at which they are forgotten, so that they can be counted."""
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
    """Keeps rooms in a Redis."""

    def __init__(self, url: str) -> None:
        """Prepare to keep rooms at a URL (`redis://`, `rediss://` or `unix://`). Its memory alone bounds them all."""
        self._redis = connect(url)
        self._create = self._redis.register_script(_CREATE)
        self._replace = self._redis.register_script(_REPLACE)

    async def start(self) -> list[Room]:
        """Do nothing: the first question connects, and what was revoked is in the Redis by itself."""
        return []

    async def close(self) -> None:
        """Hang up."""
        with suppress(*STORE_ERRORS):
            await self._redis.aclose()

    async def create(
        self, room: Room, most: int, in_network: int = MAX_ROOMS
    ) -> Created:
        """Keep a new room. Raises StoreAwayError."""
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
        """Return a room. Raises StoreAwayError."""
        (room,) = await self._read([slug])
        return room

    async def replace(self, old: Room, new: Room) -> bool:
        """Change a room, unless somebody did meanwhile. Raises StoreAwayError."""
        with _asking():
            # fmt: off
            return bool(await self._replace(
                keys=[_ROOM + new.slug, _HOME + new.host, _NETWORK + new.network],
                args=[encode_room(old), encode_room(new), new.ended, new.forgotten, new.slug],
            ))
            # fmt: on

    async def rooms_of(self, host: str) -> list[Room]:
        """Return the rooms of a home. Raises StoreAwayError."""
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
    """Say StoreAwayError for whatever a question raises that is not answered."""
    try:
        yield
    except STORE_ERRORS as error:
        raise StoreAwayError from error
