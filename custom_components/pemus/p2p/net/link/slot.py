"""Everything about the links to one home: the one in use, those that it replaced, and the attempts to open another.

A new link replaces the former one, which may finish its requests. That is how a relayed link becomes a direct one, and
how a home that moved comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
import logging
import time
from typing import Final

from ...core import tasks
from ...core.errors import Unavailable
from ...models.homes import PathKind
from .factory import LinkFactory
from .frames import Reasons
from .link import Link
from .opening import Denied, OwnOffers, TheirOffers

IDLE_TIMEOUT: Final = 150.0
"""Seconds without a request after which a link is closed."""
DRAIN_TIMEOUT: Final = 60.0
"""Seconds that a replaced link may take to finish its requests."""
REPLACED_TIMEOUT: Final = 5.0
"""Seconds for which a replaced link stays open without requests: the other end may not know the new one yet, and begin
something on the old one."""
CROSSING_TIME: Final = 3.0
"""Seconds between two links that both ends may have opened at the same time. The ends may see them become ready in a
different order, and must agree on which one stays."""
DIRECT_PAUSE: Final = 10.0
"""Seconds after which a relayed link is tried to be replaced by a direct one. They double with each attempt."""
MAX_DIRECT_PAUSE: Final = 720.0
MAX_REPLACED: Final = 2
"""Replaced links that may finish their requests. Each of them answers requests of its own."""

_LOGGER = logging.getLogger(__name__)


class SlotState(StrEnum):
    """What goes on between this home and another."""

    IDLE = "idle"
    """There is no link."""
    OPENING = "opening"
    """There is no link yet."""
    OPEN = "open"
    """There is one link."""
    REPLACING = "replacing"
    """There is a link, and another one is being opened or has not been closed yet."""
    CLOSED = "closed"
    """There will be no link any more."""


class LinkSlot:
    """The links to one home."""

    def __init__(
        self,
        home: str,
        factory: LinkFactory,
        *,
        near: Callable[[str], bool],
        only_way: Callable[[str], bool],
    ) -> None:
        """Begin without a link.

        `near` tells whether a home is probably in the local network, `only_way` whether nothing but an open link leads to a
        home at present.
        """
        self.home = home
        self.next_ready: asyncio.Future[Link] = _future()
        """The next link that is ready."""
        self._factory = factory
        self._near = near
        self._only_way = only_way
        self._tasks = tasks.Tasks()
        self._link: Link | None = None
        self._replaced: dict[Link, float] = {}
        """When each of the former links was replaced."""
        self._opening: asyncio.Task[Link] | None = None
        self._improving: asyncio.Task[None] | None = None
        self._improve_at = 0.0
        self._improve_pause = DIRECT_PAUSE
        self._is_closed = False
        self.own_offers = OwnOffers(self, factory)
        self.their_offers = TheirOffers(self, factory, self._tasks)

    @property
    def state(self) -> SlotState:
        """What goes on with this home."""
        is_opening = self.own_offers.is_active or self.their_offers.is_active
        if self._is_closed:
            return SlotState.CLOSED
        if self.present is None:
            return SlotState.OPENING if is_opening else SlotState.IDLE
        is_replacing = is_opening or bool(self._replaced)
        return SlotState.REPLACING if is_replacing else SlotState.OPEN

    @property
    def present(self) -> Link | None:
        """The link in use."""
        link = self._link
        return link if link is not None and link.is_ready else None

    @property
    def replaced(self) -> tuple[Link, ...]:
        """The links that were replaced and are still open."""
        return tuple(self._replaced)

    async def get(self) -> Link:
        """Return the link in use, or open one. Raises Unavailable."""
        if (link := self.present) is not None:
            return link
        if self._is_closed:
            raise Unavailable("this home is not linked any more")
        if self._opening is None:
            self._opening = asyncio.create_task(
                self._open(), name=f"open link {self.home}"
            )
            self._opening.add_done_callback(self._opened)
        opening, ready = self._opening, self.next_ready
        await asyncio.wait((opening, ready), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            return ready.result()
        if opening.cancelled():
            raise Unavailable("the link was closed")
        return opening.result()

    async def close(self, reason: str) -> None:
        """Close all links, and open no others."""
        self._is_closed = True
        await tasks.end(self._opening)
        await self._tasks.end()
        links = {*self._replaced, self._link, self.their_offers.link} - {None}
        await asyncio.gather(*(link.close(reason) for link in links if link))

    def probe(self) -> None:
        """Check soon whether the links still work, because something happened to the network."""
        for each in (self.present, *self._replaced):
            if each is not None:
                each.probe()

    def upgrade(self) -> None:
        """Look for a better path soon."""
        self._improve_at, self._improve_pause = 0.0, DIRECT_PAUSE

    def tend(self) -> None:
        """Close what is not used any more, and look for a better path when it is time."""
        now = time.monotonic()
        for former, since in self._replaced.items():
            if now - since > (DRAIN_TIMEOUT if former.is_busy else REPLACED_TIMEOUT):
                self._close_later(former, Reasons.REPLACED)
        if (link := self.present) is None:
            return
        idle = link.keepalive.idle
        if idle > IDLE_TIMEOUT and not link.is_busy and not self._only_way(self.home):
            self._close_later(link, Reasons.IDLE)
        elif idle < IDLE_TIMEOUT and link.path is not PathKind.LAN:
            self._improve(link, now)

    # What links report.

    def ready(self, link: Link) -> None:
        """Use a link in place of the former one."""
        _LOGGER.debug("A link to %s is open: %s", self.home, link.path)
        self.their_offers.settled(link)
        former = self.present
        if former is not None and former.instance != link.instance:
            # Two homes have the same identity, or one was restarted and this end did not notice.
            self._close_later(former, Reasons.SUPERSEDED)
        elif former is not None:
            former.probe()
            if self._outlasts(former, link):
                self._replace(link)
                self._announce(former)
                return
            self._replace(former)
        self._use(link)

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Forget a link that has ended, and use one again that it replaced: the other end uses that one, or it is dead."""
        self.their_offers.settled(link)
        self._replaced.pop(link, None)
        is_current = self._link is link
        if is_current:
            self._link = None
        if reason == Reasons.UNSIGNED and not by_them:
            _LOGGER.warning(
                "The link to %s was tampered with: the other home did not sign what connects the two",
                self.home,
            )
        self._factory.host.closed(link, reason, by_them=by_them)
        if is_current and not self._is_closed:
            for former in reversed(self._replaced):
                if former.is_ready:
                    del self._replaced[former]
                    self._use(former)
                    return

    def _use(self, link: Link) -> None:
        if self._link is None:
            self._improve_at = time.monotonic() + DIRECT_PAUSE
            self._improve_pause = DIRECT_PAUSE
        self._link = link
        self._announce(link)
        self._factory.host.ready(link)

    def _announce(self, link: Link) -> None:
        """Give a link to everybody who waits for one."""
        ready, self.next_ready = self.next_ready, _future()
        ready.set_result(link)

    def _replace(self, link: Link) -> None:
        """Let a link finish its requests, unless there are too many such links."""
        self._replaced[link] = time.monotonic()
        for each in self.replaced[:-MAX_REPLACED]:
            self._close_later(each, Reasons.REPLACED)

    def _outlasts(self, former: Link, link: Link) -> bool:
        """Tell whether a link stays although another one came after it. Both ends come to the same conclusion."""
        if link.ready_since - former.ready_since > CROSSING_TIME:
            return False
        if former.offering is link.offering:
            return False
        is_relayed = link.path is PathKind.RELAYED
        if is_relayed is not (former.path is PathKind.RELAYED):
            return is_relayed
        return former.offering is (self._factory.messenger.identity.id < self.home)

    def _close_later(self, link: Link, reason: str) -> None:
        self._tasks.spawn(link.close(reason), f"close link: {reason}")

    # Opening.

    async def _open(self) -> Link:
        """Open a link on the first way that works."""
        if self._improving is not None:
            # It would hold this up, and try one way only.
            self._improving.cancel()
        if self._near(self.home):
            try:
                return await self.own_offers.open(lan=True)
            except Denied:
                raise
            except Unavailable as err:
                _LOGGER.debug("%s in the local network: %s", self.home, err)
        return await self.own_offers.open(lan=False)

    def _opened(self, task: asyncio.Task[Link]) -> None:
        self._opening = None
        if not task.cancelled():
            # Whoever waited has got it.
            task.exception()

    def _improve(self, link: Link, now: float) -> None:
        """Try the local network, or a direct path while a relay is used."""
        near = self._near(self.home)
        if now < self._improve_at or not (near or link.path is PathKind.RELAYED):
            return
        self._improve_at = now + self._improve_pause
        self._improve_pause = min(MAX_DIRECT_PAUSE, 2 * self._improve_pause)
        task = self._tasks.spawn(self._find_better(near=near), "find a better path")
        self._improving = task

    async def _find_better(self, *, near: bool) -> None:
        try:
            await self.own_offers.open(lan=near, direct=True)
        except Unavailable as err:
            _LOGGER.debug("There is no better path to %s: %s", self.home, err)


def _future() -> asyncio.Future[Link]:
    return asyncio.get_running_loop().create_future()
