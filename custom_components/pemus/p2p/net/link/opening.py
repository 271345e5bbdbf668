"""Opens links to one other home: by this home's offers, and by answering those of the other home.

An offer is sent as a signed message, again and again until an answer comes. When both homes offer at the same time, the
offer of the home with the lower ID wins.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
import logging
import time
from typing import TYPE_CHECKING, Final

from ...core.errors import Unavailable
from ...core.tasks import Tasks
from ...core.throttle import TokenBucket
from ...models.codec import decode, encode
from ..messenger import Message
from .factory import LinkFactory
from .frames import Reasons
from .handshake import Answer, Offer, Party, Refused, make_answer, make_offer
from .link import Link

if TYPE_CHECKING:
    from .slot import LinkSlot

LAN_OFFER_TIMEOUT: Final = 2.5
"""Seconds for a home in the local network to answer an offer, before other ways are tried."""
OFFER_TIMEOUT: Final = 12.0
"""Seconds for any other home to answer an offer, and for an answered one to become a link."""
OFFER_INTERVAL: Final = 2.0
"""Seconds after which an offer without an answer is sent again."""
DESCRIBE_TIMEOUT: Final = 8.0
"""Seconds to describe a connection, most of which this home's addresses are gathered."""
OFFER_PRIORITY: Final = 3.0
"""Seconds for which this home's offer wins over the other home's, if its ID is the lower one."""
OFFER_RATE: Final = 1.0
"""Offers of one home per second that are answered, on average. It repeats those that were not answered."""
OFFER_BURST: Final = 10.0

_LOGGER = logging.getLogger(__name__)


class Denied(Unavailable):
    """The other home refuses a link."""


class _Overtaken(Exception):
    """Another link to the home is ready."""


@dataclass(slots=True, eq=False)
class _Attempt:
    """An offer of this home that has no answer yet."""

    link: Link
    offer: Offer
    begun: float = field(default_factory=time.monotonic)
    answered: asyncio.Future[Message] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class OwnOffers:
    """Offers of this home to another one, one at a time: the other end drops one when the next one arrives."""

    def __init__(self, slot: LinkSlot, factory: LinkFactory) -> None:
        """Prepare to make offers."""
        self._slot = slot
        self._factory = factory
        self._messenger = factory.messenger
        self._turn = asyncio.Lock()
        self._attempt: _Attempt | None = None

    @property
    def is_active(self) -> bool:
        """Whether a link is being opened."""
        return self._turn.locked()

    @property
    def has_priority(self) -> bool:
        """Whether the other home is expected to answer this home's offer rather than make one."""
        attempt = self._attempt
        return (
            attempt is not None
            and self._messenger.identity.id < self._slot.home
            and time.monotonic() - attempt.begun < OFFER_PRIORITY
        )

    async def open(self, *, lan: bool, direct: bool = False) -> Link:
        """Offer a link, in the local network or elsewhere, and return it, or another one that is ready first.

        `direct`: a relayed link is of no use. Raises Unavailable.
        """
        before = self._slot.present
        async with self._turn:
            present = self._slot.present
            if present is not None and present is not before:
                return present
            ready = self._slot.next_ready
            link = await self._factory.new(
                self._slot, lan=lan, offering=True, direct=direct
            )
            try:
                await self._connect(link, ready, lan=lan)
                return await _first_ready(link, ready)
            except (TimeoutError, ValueError, _Overtaken) as err:
                await link.close(Reasons.REPLACED)
                if (present := self._slot.present) is not None:
                    return present
                message = str(err) or "the other home does not answer"
                raise Unavailable(message) from None
            except BaseException:
                if not link.is_ready:
                    await link.close(Reasons.LOST)
                raise

    def answer(self, message: Message, answer: Answer) -> None:
        """Handle an answer of the other home."""
        attempt = self._attempt_at(answer.connection)
        if attempt is not None and not attempt.answered.done():
            attempt.answered.set_result(message)

    def refuse(self, refused: Refused) -> None:
        """Handle a refusal of the other home."""
        if (attempt := self._attempt_at(refused.connection)) is None:
            return
        if not attempt.answered.done():
            attempt.answered.set_exception(
                Denied("the other home does not count this one as its friend")
            )
        self._factory.host.closed(attempt.link, refused.reason, by_them=True)

    def _attempt_at(self, connection: str) -> _Attempt | None:
        attempt = self._attempt
        is_it = attempt is not None and attempt.offer.connection == connection
        return attempt if is_it else None

    async def _connect(
        self, link: Link, ready: asyncio.Future[Link], *, lan: bool
    ) -> None:
        """Connect a link to the other home. Raises TimeoutError, ValueError, Unavailable, and _Overtaken."""
        async with asyncio.timeout(DESCRIBE_TIMEOUT):
            offer = make_offer(await link.connection.offer())
        self._attempt = attempt = _Attempt(link, offer)
        try:
            envelope = (await self._send(attempt, ready, lan=lan)).envelope
            answer = decode(Answer, envelope.body)
            peer = Party(self._slot.home, envelope.key)
            link.bind(self._factory.handshake(peer, offer, answer, offering=True))
            await link.connection.answered(answer.sdp)
        finally:
            self._attempt = None

    async def _send(
        self, attempt: _Attempt, ready: asyncio.Future[Link], *, lan: bool
    ) -> Message:
        """Send an offer until it is answered. Raises TimeoutError, Unavailable, and _Overtaken."""
        home, body = self._slot.home, encode(attempt.offer)
        async with asyncio.timeout(LAN_OFFER_TIMEOUT if lan else OFFER_TIMEOUT):
            while not ready.done():
                if not self._messenger.send(home, "offer", body, lan=lan):
                    raise Unavailable("no way leads to the other home at present")
                await asyncio.wait(
                    (attempt.answered, ready),
                    timeout=OFFER_INTERVAL,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if attempt.answered.done():
                    return attempt.answered.result()
        raise _Overtaken


async def _first_ready(link: Link, ready: asyncio.Future[Link]) -> Link:
    """Wait for a link, or for another one to the same home. Raises TimeoutError and Unavailable."""
    async with asyncio.timeout(OFFER_TIMEOUT):
        await asyncio.wait((ready, link.ended), return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        return ready.result()
    raise Unavailable(f"the link cannot be opened: {link.reason}")


@dataclass(slots=True, eq=False)
class _Offered:
    """The last offer of the other home, which repeats it until it gets an answer."""

    connection: str
    link: Link | None = None
    answer: bytes | None = None

    def is_handled(self, offer: Offer) -> bool:
        """Tell whether an offer is this one, and nothing went wrong with it."""
        return offer.connection == self.connection and (
            self.link is None or self.link.reason is None
        )


class TheirOffers:
    """Offers of the other home. Each replaces the one before, because a connection costs sockets and more."""

    def __init__(self, slot: LinkSlot, factory: LinkFactory, tasks: Tasks) -> None:
        """Prepare to answer offers in these tasks."""
        self._slot = slot
        self._factory = factory
        self._messenger = factory.messenger
        self._tasks = tasks
        self._allowed = TokenBucket(OFFER_RATE, OFFER_BURST)
        self._last: _Offered | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._link: Link | None = None

    @property
    def is_active(self) -> bool:
        """Whether an offer is being answered, or the link of an answered one is not ready yet."""
        return self._accepting is not None or self._link is not None

    @property
    def link(self) -> Link | None:
        """The link that is being made for the last offer."""
        return self._link

    def receive(self, message: Message, offer: Offer, *, is_full: bool) -> None:
        """Answer an offer, or send its answer again. `is_full`: as many other homes' offers are being answered as may be."""
        last = self._last
        if last is not None and last.is_handled(offer):
            # The answer is being made, is on its way, or was lost.
            if last.answer is not None:
                self._send(message, last.answer)
            return
        if is_full or self._slot.own_offers.has_priority or not self._allowed.take():
            return
        if self._accepting is not None:
            self._accepting.cancel()
        if self._link is not None:
            self._tasks.spawn(self._link.close(Reasons.REPLACED), "replace")
        self._last = last = _Offered(offer.connection)
        task = self._tasks.spawn(self._accept(message, offer, last), "answer an offer")
        self._accepting = task
        task.add_done_callback(self._accepted)

    def settled(self, link: Link) -> None:
        """Note that a link is ready, or has ended."""
        if self._link is link:
            self._link = None

    def _accepted(self, task: asyncio.Task[None]) -> None:
        if self._accepting is task:
            self._accepting = None

    async def _accept(self, message: Message, offer: Offer, offered: _Offered) -> None:
        home = self._slot.home
        try:
            link = await self._factory.new(
                self._slot, lan=message.transport.is_lan, offering=False
            )
        except Unavailable as err:
            _LOGGER.debug("An offer of %s cannot be answered: %s", home, err)
            return
        self._link = offered.link = link
        try:
            async with asyncio.timeout(DESCRIBE_TIMEOUT):
                sdp = await link.connection.answer(offer.sdp)
            answer = make_answer(offer, sdp)
            peer = Party(home, message.envelope.key)
            link.bind(self._factory.handshake(peer, offer, answer, offering=False))
            offered.answer = encode(answer)
            self._send(message, offered.answer)
        except (TimeoutError, ValueError) as err:
            _LOGGER.debug("An offer of %s cannot be answered: %s", home, err)
            await link.close(Reasons.INVALID)
        except asyncio.CancelledError:
            await link.close(Reasons.REPLACED)
            raise
        except BaseException:
            await link.close(Reasons.LOST)
            raise

    def _send(self, message: Message, answer: bytes) -> None:
        self._messenger.send(
            self._slot.home, "answer", answer, transport=message.transport
        )
