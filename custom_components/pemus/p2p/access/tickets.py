"""Issues and revokes tickets. A ticket lives as long as its grant, which is what this home remembers of it.

A grant's salt makes the torrent the receiver's own. Asking again renews the ticket with the same salt, so that a transfer
goes on; after a revocation, or the end of its time, a new ticket has a new salt and what was learnt of the old one helps
nobody.

A ticket given by this process ends when so much time has passed, whatever becomes of the clock. Of those of a former
engine only the clock tells, and they end by it, too.

Nothing is served for a grant that was not found good by the present configuration: those of a former engine wait for
`review`. What may be fetched may have changed while no engine ran.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
import contextlib
import logging
import secrets
import time
from typing import Final

from ..core import tasks
from ..core.errors import BadRequest, Busy, NotFound, Unavailable
from ..core.sqlite import StoreError
from ..models import LocalFile
from ..models.homes import is_home
from ..torrent.metainfo import SALT
from ..torrent.seeds import Seeds
from ..torrent.store import Grant, SwarmStore
from .audience import Access
from .ticket import MAX_ENDPOINTS, ItemFacts, Ticket, armored, is_elsewhere

MAX_TTL: Final = 30 * 86400.0
"""Seconds that a ticket may live."""
MAX_GRANTS: Final = 5000
"""Live tickets of one receiver."""
WAIT: Final = 1.0
"""Seconds that a ticket waits for its hashes; most files are hashed already, and small ones are quickly."""

_AT_ONCE: Final = 50
_GATHER: Final = 1.0
"""Seconds over which changes of the library are gathered until grants are looked at again: a scan tells many."""
_INTERVAL: Final = 60.0
"""Seconds after which the clock is looked at again, whatever it said before."""

_LOGGER = logging.getLogger(__name__)

Key = tuple[str, str]
"""Receiver and item."""


def passed() -> float:
    """Return seconds that pass, also while the machine is suspended, whatever the clock is set to."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Tickets:
    """All tickets that this home has given out."""

    def __init__(
        self,
        store: SwarmStore,
        seeds: Seeds,
        access: Access,
        *,
        owner: str,
        owner_name: Callable[[], str],
        files: Callable[[str], Awaitable[LocalFile]],
        endpoints: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.time,
        passed: Callable[[], float] = passed,
    ) -> None:
        """Prepare to give out tickets of the home `owner`.

        `access` decides who may have what. `files` returns an item's file as it is now, or raises NotFound or Unavailable; `endpoints` are those of the session, as `ticket.endpoint` writes them.
        `clock` tells seconds since the epoch, and somebody may set it; `passed` tells seconds that pass, and nobody can.
        """
        self._store = store
        self._seeds = seeds
        self._access = access
        self._owner = owner
        self._owner_name = owner_name
        self._files = files
        self._endpoints = endpoints
        self._clock = clock
        self._passed = passed
        self._grants: dict[Key, Grant] = {}
        self._ends: dict[Key, float] = {}
        """When each grant ends, by what has passed."""
        self._former: set[Key] = set()
        """Grants of a former engine that were not renewed."""
        self._waiting: set[Key] = set()
        """Those of a former engine that were not looked at yet."""
        self._doubted: set[str] | None = set()
        """Items whose grants are to be looked at again; None for all."""
        self._is_reviewed = False
        self._admitted = 0
        """How many of a former engine are served again."""
        self._reviewing = asyncio.Lock()
        self._doubt = asyncio.Event()
        self._revoked: list[Grant] = []
        """What is still to be forgotten by the store."""
        self._writing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._tasks = tasks.Tasks()

    async def start(self) -> None:
        """Remember what there are live tickets for; it is served again once it was reviewed. Raises StoreError."""
        now, passed = self._clock(), self._passed()
        for grant in await self._store.run(self._store.grants):
            if grant.expires <= now:
                self._revoked.append(grant)
                continue
            key = grant.receiver, grant.item
            self._grants[key] = grant
            self._ends[key] = passed + min(grant.expires - now, MAX_TTL)
            self._former.add(key)
            self._waiting.add(key)
        self._tasks.keep(self._expire, "tickets")
        self._tasks.keep(self._look_again, "review tickets")

    async def stop(self) -> None:
        """End all work. The tickets live on."""
        await self._tasks.end()

    async def review(self, items: Collection[str] | None = None) -> None:
        """End all tickets, or those for some items, that the present configuration does not allow; serve the others.

        When this returns, the transfers of those are cut. What cannot be told at present stays as it is.
        """
        if items is None:
            self._is_reviewed = True
        try:
            async with self._reviewing:
                await self._review(items)
        except BaseException:
            # Whoever asked for it may have gone, and it must be done none the less.
            self.items_changed(items)
            raise

    async def _review(self, items: Collection[str] | None) -> None:
        chosen = [
            each
            for each in self._grants.values()
            if items is None or each.item in items
        ]
        refused, unknown = await self._access.refused(chosen)
        await self._end([now for each in refused if (now := self._present(each))])
        doubtful = set(unknown)
        for each in chosen:
            now = self._present(each)
            if now is not None and each not in doubtful:
                await self._admit(now)

    def items_changed(self, items: Collection[str] | None) -> None:
        """Look at the tickets for these items again, or at all: they may lie in another share by now, or in none."""
        if not self._is_reviewed:
            return
        # Also while there is none: the first may be just being made.
        if items is None or self._doubted is None:
            self._doubted = None
        else:
            self._doubted.update(items)
        self._doubt.set()

    @property
    def live(self) -> int:
        """How many tickets there are."""
        return len(self._grants)

    async def issue(
        self, item_id: str, receiver: str, ttl: float, *, wait: float = WAIT
    ) -> Ticket:
        """Return a ticket for an item that lives for `ttl` seconds, after at most about `wait` seconds.

        It holds the torrent if the item is hashed by then. If it is not, it is being hashed, and who asks again later
        gets the same ticket with the torrent.

        Raises:
            BadRequest: the receiver is no home, or the time is out of bounds.
            NotFound: there is no such item, or the receiver may not have it.
            Unavailable: it cannot be reached at present, or was revoked at this very moment.
            Busy: too much is shared at the same time.

        """
        if not is_home(receiver):
            raise BadRequest("the receiver is not a home")
        if not 0 < ttl <= MAX_TTL:
            raise BadRequest("a ticket lives for 30 days at most")
        item = await self._access.item(receiver, item_id)
        file = await self._files(item_id)
        # From here to the grant nothing waits: a configuration that comes later finds it.
        if not self._access.audience(receiver).may_have(item):
            raise NotFound("there is no such item")
        grant = self._grant(receiver, item.id, ttl)
        await self._keep(grant)
        key = receiver, item.id
        # It may have been renewed once more meanwhile, which is no less a right to fetch the item.
        present = self._grants.get(key)
        if present is None or present.salt != grant.salt:
            raise Unavailable("the ticket was revoked")
        torrent = None
        if file.size:
            self._seeds.activate(receiver, item.id, grant.salt)
            served = await self._seeds.ready(receiver, item.id, wait)
            if served is not None and served.meta.salt == grant.salt:
                file, torrent = served.file, armored(served.meta)
        return Ticket(
            owner=self._owner,
            owner_name=self._owner_name(),
            receiver=receiver,
            item=ItemFacts.of(
                item,
                size=file.size,
                etag=file.etag,
                modified=file.mtime_ns / 1e9,
            ),
            torrent=torrent,
            endpoints=tuple(
                # A friend calls nothing on its own machine.
                each
                for each in self._endpoints()
                if is_elsewhere(each)
            )[:MAX_ENDPOINTS],
            expires=grant.expires,
        )

    async def revoke(self, receiver: str, item: str | None = None) -> None:
        """Make a receiver's ticket for an item, or all its tickets, worthless. Returns when the transfers are cut.

        Raises:
            Unavailable: the transfers are cut, but that cannot be kept on disk at present; it is tried again.

        """
        chosen = [
            grant
            for grant in self._grants.values()
            if grant.receiver == receiver and item in (None, grant.item)
        ]
        if not await self._end(chosen):
            raise Unavailable("the disk does not keep that tickets were revoked")

    def _grant(self, receiver: str, item: str, ttl: float) -> Grant:
        """Return the grant for a receiver and an item that lives for so long at least. Raises Busy."""
        key = receiver, item
        now = self._passed()
        end = now + ttl
        former = self._grants.get(key)
        if former is not None and not self._is_over(former):
            end = max(end, self._ends[key])
            salt = former.salt
        else:
            if sum(each.receiver == receiver for each in self._grants.values()) >= (
                MAX_GRANTS
            ):
                raise Busy("this home has too many tickets")
            salt = secrets.token_bytes(SALT)
        grant = Grant(receiver, item, salt, self._clock() + end - now)
        self._grants[key] = grant
        self._ends[key] = end
        self._former.discard(key)
        self._waiting.discard(key)
        self._wake.set()
        return grant

    def _is_over(self, grant: Grant) -> bool:
        """Tell whether a grant has reached its end."""
        key = grant.receiver, grant.item
        if key in self._former and grant.expires <= self._clock():
            return True
        return self._ends[key] <= self._passed()

    def _present(self, grant: Grant) -> Grant | None:
        """Return a grant as it is now: it may have been renewed meanwhile, or revoked."""
        present = self._grants.get((grant.receiver, grant.item))
        return present if present and present.salt == grant.salt else None

    async def _admit(self, grant: Grant) -> None:
        """Serve what a grant is for, if it is one of a former engine."""
        key = grant.receiver, grant.item
        if key not in self._waiting or key not in self._grants:
            return
        self._waiting.discard(key)
        # Those that live longest come first; for others, the receiver asks again.
        if self._admitted < self._seeds.limit:
            self._admitted += 1
            with contextlib.suppress(Busy):
                self._seeds.activate(*key, self._grants[key].salt)
            if self._admitted % _AT_ONCE == 0:
                # The event loop has other things to do than to begin thousands of tasks.
                await asyncio.sleep(0)

    async def _keep(self, grant: Grant) -> None:
        async with self._writing:
            # What was revoked while this waited must not be kept after all.
            if self._grants.get((grant.receiver, grant.item)) is grant:
                try:
                    await self._store.run(self._store.grant, grant)
                except StoreError as err:
                    # It lives until the engine ends.
                    _LOGGER.warning("A ticket cannot be kept: %s", err)

    async def _end(self, grants: list[Grant]) -> bool:
        """Make present tickets worthless, cut their transfers, and have the store forget them; tell whether it did."""
        cutting = []
        for grant in grants:
            key = grant.receiver, grant.item
            del self._grants[key], self._ends[key]
            self._former.discard(key)
            self._waiting.discard(key)
            cutting.append(self._seeds.deactivate(grant.receiver, grant.item))
        self._revoked += grants
        # Both at once: a disk that hangs may hold up the cutting, and a restart must not bring a ticket back.
        *_, kept = await asyncio.gather(*cutting, self._forget_revoked())
        return bool(kept)

    async def _forget_revoked(self) -> bool:
        """Have the store forget what was revoked; tell whether it did."""
        async with self._writing:
            if gone := tuple(self._revoked):
                try:
                    await self._store.run(self._store.revoke, gone)
                except StoreError as err:
                    _LOGGER.error("That tickets were revoked cannot be kept: %s", err)
                    return False
                del self._revoked[: len(gone)]
        return True

    async def _look_again(self) -> None:
        """Review what `items_changed` names."""
        while True:
            await self._doubt.wait()
            await asyncio.sleep(_GATHER)
            self._doubt.clear()
            items, self._doubted = self._doubted, set()
            try:
                await self.review(items)
            except Exception:
                _LOGGER.exception("Tickets could not be reviewed")

    async def _expire(self) -> None:
        """End what has reached its time."""
        while True:
            self._wake.clear()
            expired = [each for each in self._grants.values() if self._is_over(each)]
            if expired or self._revoked:
                try:
                    await self._end(expired)
                except Exception:
                    # Whatever it is: other tickets must still end.
                    _LOGGER.exception("Tickets could not be ended as they should")
            now = self._passed()
            first = min(self._ends.values(), default=now + _INTERVAL)
            # In steps: somebody may set the clock.
            pause = min(max(first - now, 0.05), _INTERVAL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
