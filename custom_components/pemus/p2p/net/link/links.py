"""All links of this home: one slot for each other home, and what opens, keeps and closes links at the right time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
import logging
from typing import Final

from ...core import tasks
from ...core.errors import Unavailable
from ...core.throttle import Throttle
from ...models.codec import DecodeError, decode, encode
from ...models.homes import PathKind
from ..messages import BadEnvelope
from ..messenger import Message, Messenger
from ..webrtc.ice import IceServer
from .factory import LinkFactory
from .frames import Reasons
from .handshake import KINDS, Answer, Offer, Refused
from .link import HomeHost, Link
from .slot import LinkSlot, SlotState

__all__ = ["KINDS", "Links"]

TEND_INTERVAL: Final = 2.0
"""Seconds between two looks at all links."""
MAX_ANSWERED: Final = 32
"""Homes whose offers are answered at the same time."""

_MAX_CONNECTION: Final = 64

_LOGGER = logging.getLogger(__name__)


class Links:
    """The links of one home."""

    def __init__(
        self,
        messenger: Messenger,
        host: HomeHost,
        *,
        name: Callable[[], str],
        is_friend: Callable[[str], bool],
        is_pairing: Callable[[str], bool],
        servers: Callable[[], Awaitable[Sequence[IceServer]]],
        rates: Callable[[str], tuple[Throttle, ...]],
        near: Callable[[str], bool],
        only_way: Callable[[str], bool],
    ) -> None:
        """Prepare to link with the messenger's identity.

        `is_pairing` tells whether a home may become a friend in a moment, `near` whether it is probably in the local network,
        and `only_way` whether nothing but an open link leads to it at present. `servers` finds STUN and TURN servers.
        """
        self.factory = LinkFactory(
            messenger, host, name=name, servers=servers, rates=rates
        )
        self._messenger = messenger
        self._is_friend = is_friend
        self._is_pairing = is_pairing
        self._near = near
        self._only_way = only_way
        self._slots: dict[str, LinkSlot] = {}
        self._tending: asyncio.Task[None] | None = None
        self._is_closed = False

    def start(self) -> None:
        """Begin to look after links."""
        self._tending = tasks.keep(self._tend, "links")

    def prepare(self) -> None:
        """Load what links need, because there may be some soon."""
        self.factory.prepare()

    async def stop(self, reason: str = Reasons.STOPPING) -> None:
        """Close all links."""
        self._is_closed = True
        await tasks.end(self._tending)
        await asyncio.gather(*(slot.close(reason) for slot in self._slots.values()))
        await self.factory.close()

    def slot(self, home: str) -> LinkSlot:
        """Return the slot of a home."""
        if (slot := self._slots.get(home)) is None:
            slot = LinkSlot(
                home, self.factory, near=self._near, only_way=self._only_way
            )
            self._slots[home] = slot
        return slot

    def present(self, home: str) -> Link | None:
        """Return the link to a home, if it is open."""
        slot = self._slots.get(home)
        return None if slot is None else slot.present

    @property
    def all(self) -> tuple[Link, ...]:
        """All links that are open."""
        present = [slot.present for slot in self._slots.values()]
        return tuple(link for link in present if link is not None)

    async def get(self, home: str) -> Link:
        """Return the link to a friend, opened if necessary. Raises Unavailable."""
        if self._is_closed:
            raise Unavailable("the engine is stopping")
        return await self.slot(home).get()

    async def close(self, home: str, reason: str) -> None:
        """Close all links to a home, and end all attempts at others."""
        if (slot := self._slots.pop(home, None)) is not None:
            await slot.close(reason)

    def probe(self, home: str | None = None) -> None:
        """Check soon whether the links to a home, or all, still work, because something happened to the network."""
        for slot in self._slots.values():
            if home in (None, slot.home):
                slot.probe()

    def upgrade(self, home: str) -> None:
        """Look for a better path to a home soon."""
        link = self.present(home)
        if link is not None and link.path is not PathKind.LAN:
            self.slot(home).upgrade()

    def receive(self, message: Message) -> None:
        """Handle a message of one of `KINDS`."""
        envelope = message.envelope
        slot = self._slots.get(envelope.sender)
        try:
            match envelope.kind:
                case "offer":
                    self._receive_offer(message, decode(Offer, envelope.body))
                case "answer" if slot is not None:
                    slot.own_offers.answer(message, decode(Answer, envelope.body))
                case "refused" if slot is not None:
                    slot.own_offers.refuse(decode(Refused, envelope.body))
        except (DecodeError, BadEnvelope) as err:
            _LOGGER.debug("A message of %s is ignored: %s", envelope.sender, err)

    def _receive_offer(self, message: Message, offer: Offer) -> None:
        home = message.envelope.sender
        if not self._is_friend(home):
            # A home that is about to be a friend offers again.
            if not self._is_pairing(home):
                self._refuse(message, offer)
        elif not self._is_closed:
            slot = self.slot(home)
            others = [
                each.their_offers.is_active
                for each in self._slots.values()
                if each is not slot
            ]
            is_full = sum(others) >= MAX_ANSWERED
            slot.their_offers.receive(message, offer, is_full=is_full)

    def _refuse(self, message: Message, offer: Offer) -> None:
        refused = Refused(
            connection=offer.connection[:_MAX_CONNECTION], reason=Reasons.NOT_FRIENDS
        )
        home = message.envelope.sender
        self._messenger.send(
            home, "refused", encode(refused), transport=message.transport
        )

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_INTERVAL)
            for slot in tuple(self._slots.values()):
                if slot.state is not SlotState.IDLE:
                    slot.tend()
