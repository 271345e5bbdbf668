"""The secret that all nodes share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
import secrets
from typing import Final

from .store import PREFIX, STORE_ERRORS, Store

RENEWAL_INTERVAL: Final = 40.0
"""Seconds between two looks whether the store still has the secret."""
SECRET_BYTES: Final = 32

_KEY: Final = f"{PREFIX}secret"


class SharedSecret:
    """A random secret in a store. Nodes sign sessions with it, so that all nodes accept them."""

    def __init__(self, store: Store) -> None:
        """Prepare to ask a store."""
        self._store = store
        self._secret = b""
        self._handlers: list[Callable[[bytes], None]] = []

    def on_change(self, handler: Callable[[bytes], None]) -> None:
        """Call `handler` with the new secret when another node's secret replaces this node's."""
        self._handlers.append(handler)

    async def get(self) -> bytes:
        """Return the secret, made by the node that asks first. Raises STORE_ERRORS."""
        made = self._secret or secrets.token_bytes(SECRET_BYTES)
        await self._store.redis.set(_KEY, made, nx=True)
        self._secret = bytes(await self._store.redis.get(_KEY) or made)
        return self._secret

    async def restore(self) -> None:
        """Give the secret to a store that lost it, or adopt the one that another node gave it first. Raises STORE_ERRORS."""
        if not (former := self._secret):
            return
        if await self.get() != former:
            for handler in self._handlers:
                handler(self._secret)

    async def keep_renewed(self) -> None:
        """Restore the secret from time to time: a store that is short of memory may have dropped it."""
        while True:
            await asyncio.sleep(RENEWAL_INTERVAL)
            if not self._store.is_away:
                with suppress(*STORE_ERRORS):
                    await self.restore()
