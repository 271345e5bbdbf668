"""The passwords of rooms: checked by this home alone, and limited in how often they are tried."""

from __future__ import annotations

import asyncio
from typing import Final

from ..core.errors import PasswordNeeded, RateLimited
from ..core.throttle import Clock, TokenBuckets
from ..models.rooms import RoomPassword

GUEST_TRIES: Final = 5
NETWORK_TRIES: Final = 10
"""Wrong passwords of a guest, and of a network (IPv4 /24, IPv6 /48), before it has to wait."""
ROOM_TRIES: Final = 60
"""Wrong passwords of all guests of a room before they have to wait. Those with the secret and those without wait separately."""
RETRY_TIME: Final = 600.0
"""Seconds after which a guest or a network has all its tries again. For a room it is an hour."""

_MAX_KEYS: Final = 1000


class PasswordCheck:
    """Checks the passwords that guests of one room give."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Begin with all tries."""
        options = {} if clock is None else {"clock": clock}
        self._guests = TokenBuckets(
            GUEST_TRIES / RETRY_TIME, GUEST_TRIES, max_keys=_MAX_KEYS, **options
        )
        self._networks = TokenBuckets(
            NETWORK_TRIES / RETRY_TIME, NETWORK_TRIES, max_keys=_MAX_KEYS, **options
        )
        self._room = TokenBuckets(ROOM_TRIES / 3600, ROOM_TRIES, max_keys=2, **options)
        self._turn = asyncio.Lock()

    async def check(
        self,
        kept: RoomPassword,
        given: str,
        *,
        guest: str,
        network: str,
        has_secret: bool,
    ) -> None:
        """Return if a password is right. Raises PasswordNeeded and RateLimited."""
        if not given:
            raise PasswordNeeded("needed")
        for tries, key in (
            (self._guests, guest),
            (self._networks, network),
            (self._room, has_secret),
        ):
            if not tries.take(key):
                raise RateLimited(str(int(RETRY_TIME / GUEST_TRIES)))
        # One at a time: each takes 16 MiB.
        async with self._turn:
            is_right = await asyncio.to_thread(kept.is_right, given)
        if not is_right:
            raise PasswordNeeded("wrong")
