"""Which node has which name, by one store.

A name is claimed with an epoch: the time at which its client connected, by the store's clock, which nodes extrapolate while
the store is away. Of two connections of one owner, the newer one gets the name, so a dead connection that was not noticed
never wins. Two owners can claim one name only while the store is away; then the first one keeps it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import batched
import random
from typing import Any, Final

from . import scripts, store as stores
from .publications import head
from .scripts import EPOCH_LENGTH
from .store import NODES, PREFIX, STORE_ERRORS, Store, channel_of

RENEWAL_INTERVAL: Final = 40.0
"""Seconds, on average, between two renewals of a name."""
NAME_LIFE: Final = 150
"""Seconds after which the store forgets a name that is not renewed."""
LOCATION_LIFE: Final = 10.0
"""Seconds for which the location of a name is cached. A node that gets a message in error asks the store and passes it on."""
MAX_LOCATED: Final = 20_000
NAMES_AT_ONCE: Final = 500
MAX_RELEASED: Final = 100_000
"""Released names that may wait for the store to come back. It forgets further ones after `NAME_LIFE`."""
GATHER_TIME: Final = 0.005
"""Seconds to collect released names before sending them to the store."""
RETRY_DELAY: Final = 0.5
"""Seconds before released names are sent again after an error."""

TAKEN: Final = "taken"
"""The topic of names that another node took over. A message is the epoch of the connection that had the name, and the name."""


@dataclass(slots=True)
class _Claim:
    """A name that this node has."""

    epoch: int
    """When its client connected, in microseconds of the store's clock. 0 until the store has answered."""
    owner: str


class Names:
    """The names of a node at one store, and where other names are."""

    def __init__(self, store: Store, lost: Callable[[str, str], None]) -> None:
        """Call `lost` with a node and a name that the node took over from this one."""
        self._store = store
        self._lost = lost
        self._claim_script = store.redis.register_script(scripts.CLAIM)
        self._locate_script = store.redis.register_script(scripts.LOCATE)
        self._release_script = store.redis.register_script(scripts.RELEASE)
        self._claims: dict[str, _Claim] = {}
        self._unsure: set[str] = set()
        """Names to renew soon: the store may know an older epoch, or this node may have missed that they were taken over."""
        self._released: dict[str, int] = {}
        """Released names with their epochs."""
        self._pending = asyncio.Event()
        """Set while `_unsure` or `_released` hold something."""
        self._located: OrderedDict[str, tuple[float, str]] = OrderedDict()

    async def claim(self, name: str, *, take: bool, owner: str) -> bool:
        """Claim a name, as `Cluster.claim` says."""
        self._released.pop(name, None)
        at = self._store.now()
        away = self._store.is_away
        self._claims[name] = claim = _Claim(at if away else 0, owner)
        if away:
            return True
        try:
            epoch = await self._ask(name, "take" if take else "ask", at, owner)
        except STORE_ERRORS:
            claim.epoch = claim.epoch or at
            self._store.check_now.set()
            return True
        self._located.pop(name, None)
        if epoch is None:
            if self._claims.get(name) is claim:
                del self._claims[name]
            return False
        self._released.pop(name, None)
        claim.epoch = int(epoch)
        self._claims[name] = claim
        return True

    def again(self, name: str) -> None:
        """Treat a name of this node as claimed now."""
        if (claim := self._claims.get(name)) is not None:
            claim.epoch = max(claim.epoch + 1, self._store.now())
            self._unsure.add(name)
            self._pending.set()

    def release(self, name: str) -> None:
        """Release a name."""
        if (claim := self._claims.pop(name, None)) is not None:
            self._released[name] = claim.epoch
            self._pending.set()

    def found(self, name: str) -> str | None:
        """Return the living node that a recent `locate` found."""
        if (known := self._located.get(name)) is None:
            return None
        until, node = known
        if until > self._store.clock() and node in self._store.nodes:
            return node
        del self._located[name]
        return None

    def forget_location(self, name: str) -> None:
        """Let the next `locate` ask the store."""
        self._located.pop(name, None)

    def forget_locations(self) -> None:
        """Forget where all names are."""
        self._located.clear()

    async def locate(self, name: str) -> str | None:
        """Return the living node that has a name, None if there is none or the store is away."""
        if self._store.is_away:
            return None
        if (known := self.found(name)) is not None:
            return known
        try:
            answer = await self._locate_script(keys=[_key(name), NODES])
        except STORE_ERRORS:
            self._store.check_now.set()
            return None
        if answer is None:
            return None
        node: str = answer.decode()
        while len(self._located) >= MAX_LOCATED:
            self._located.popitem(last=False)
        self._located[name] = (self._store.clock() + LOCATION_LIFE, node)
        return node

    def taken_over(self, node: str, message: bytes) -> None:
        """Note that a node took a name over. The message says from a connection of which epoch."""
        epoch, name = int(message[:EPOCH_LENGTH]), message[EPOCH_LENGTH:].decode()
        if (claim := self._claims.get(name)) is not None:
            if claim.epoch > epoch:
                # It is about a former connection. Let the store decide which one is newer.
                self._unsure.add(name)
                self._pending.set()
                return
            del self._claims[name]
        self._lost(node, name)

    def check_all(self) -> None:
        """Check all names at the store soon, because this node may have missed that some were taken over."""
        self._unsure.update(self._claims)
        self._pending.set()

    async def claim_all(self) -> None:
        """Claim the names of this node again at a store that may have lost them. A newer claim of another node wins. Raises STORE_ERRORS."""
        await self._renew(list(self._claims))

    async def keep_renewed(self) -> None:
        """Renew every name once per `RENEWAL_INTERVAL`, a few at a time, so that the load on the store is even."""
        while True:
            parts = list(batched(list(self._claims), NAMES_AT_ONCE)) or [()]
            for some in parts:
                await asyncio.sleep(
                    RENEWAL_INTERVAL * random.uniform(0.75, 1.25) / len(parts)
                )
                if not self._store.is_away:
                    with suppress(*STORE_ERRORS):
                        await self._renew(some)

    async def keep_updated(self) -> None:
        """Send released names to the store, and check names that are unsure."""
        while True:
            await self._pending.wait()
            await asyncio.sleep(GATHER_TIME)
            self._pending.clear()
            released, self._released = self._released, {}
            unsure, self._unsure = self._unsure, set()
            try:
                async with self._store.redis.pipeline(transaction=False) as pipeline:
                    for name, epoch in released.items():
                        await self._release_script(
                            keys=[_key(name)],
                            args=[self._store.node, _written(epoch)],
                            client=pipeline,
                        )
                    await pipeline.execute()
                await self._renew(unsure)
            except STORE_ERRORS:
                self._unsure |= unsure
                if len(self._released) < MAX_RELEASED:
                    self._released |= {
                        name: epoch
                        for name, epoch in released.items()
                        if name not in self._claims
                    }
                self._store.check_now.set()
                await asyncio.sleep(RETRY_DELAY)
                if self._released or self._unsure:
                    self._pending.set()

    async def _renew(self, names: Iterable[str]) -> None:
        for some in batched(names, NAMES_AT_ONCE):
            asked = [
                (name, claim, claim.epoch)
                for name in some
                # A name that is being claimed reaches the store with its claim.
                if (claim := self._claims.get(name)) is not None and claim.epoch
            ]
            async with self._store.redis.pipeline(transaction=False) as pipeline:
                for name, claim, epoch in asked:
                    await self._ask(name, "renew", epoch, claim.owner, on=pipeline)
                answers = await pipeline.execute()
            for (name, claim, epoch), answer in zip(asked, answers, strict=True):
                if self._claims.get(name) is not claim:
                    continue
                if answer is not None:
                    claim.epoch = max(claim.epoch, int(answer))
                elif claim.epoch > epoch:
                    # A newer connection came meanwhile.
                    self._unsure.add(name)
                    self._pending.set()
                else:
                    del self._claims[name]
                    self._lost(self._store.node, name)

    async def _ask(
        self, name: str, mode: str, epoch: int, owner: str, *, on: Any = None
    ) -> Any:
        """Ask for a name ("ask"), take it over ("take"), or renew it ("renew"). Return its epoch, None if another node keeps it.

        `epoch` is when the client connected. `on` is a pipeline that collects the question.
        """
        # The former node gets this message with the epoch of its claim, which only the store knows, between the two parts.
        said = name.encode()
        before = self._store.node.encode() + head(TAKEN, EPOCH_LENGTH + len(said))
        return await self._claim_script(
            keys=[_key(name), NODES],
            args=[
                self._store.node,
                mode,
                _written(epoch),
                owner,
                NAME_LIFE,
                channel_of(""),
                before,
                said,
                int(stores.STORE_TIMEOUT * 1_000_000),
            ],
            client=on,
        )


def _key(name: str) -> str:
    return f"{PREFIX}name:{name}"


def _written(epoch: int) -> str:
    return f"{epoch:0{EPOCH_LENGTH}d}"
