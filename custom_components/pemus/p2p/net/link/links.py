"""All links: opens one when it is needed, keeps one per friend, and closes those that nobody uses.

An offer goes to the other home by post, signed; an answer comes back. When both offer at the same time, the offer of the
home with the lower ID counts. A newer link takes the place of an older one, which may finish what it is doing: that is
how a link that has to be relayed becomes a direct one, and how a home that moved comes back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from importlib import import_module
import logging
import secrets
import time
from typing import Final

from ...core import tasks
from ...core.errors import Unavailable
from ...core.throttle import Throttle
from ...models.codec import DecodeError, decode, encode
from ...models.homes import PathKind
from ..messages import BadEnvelope, read, written
from ..messenger import Message, Messenger
from ..webrtc.ice import IceServer
from .link import Ask, Host, Link, Note, Reasons

LAN_PATIENCE: Final = 2.5
"""Seconds for a home in the local network to answer an offer, until other ways are tried."""
PATIENCE: Final = 12.0
"""Seconds for any other home."""
RESEND: Final = 2.0
"""Seconds after which an offer that was not answered is sent again."""
DESCRIBE: Final = 8.0
"""Seconds to describe a connection: to find this home's own addresses, most of all."""
IDLE: Final = 150.0
"""Seconds without a request after which a link is closed."""
DRAIN: Final = 60.0
"""Seconds that a link which was replaced may take to finish what it is doing."""
CROSSING: Final = 3.0
"""Seconds between two links that may have been opened at the same time, by both ends: then these may see them get ready in
a different order, and have to agree in another way on which one stays."""
GRACE: Final = 5.0
"""Seconds for which a link that was replaced stays open though it does nothing: the other end may not know the new one yet,
and begin something on the old one."""
DIRECT_RETRY: Final = 10.0
"""Seconds after which a direct path is looked for again while a relayed one is in use; they double up to the last."""
LAST_DIRECT_RETRY: Final = 720.0
YIELD: Final = 3.0
"""Seconds after which this home's own offer, if it was not answered, gives way to one that comes."""
MAX_OLD: Final = 2
"""Links to one home that were replaced and may finish what they are doing. Each answers requests of its own."""
TEND: Final = 2.0
MAX_ATTEMPTS: Final = 32
"""Homes whose offers are being answered."""
MAX_OFFERS: Final = 10
"""Offers of one home that are answered within OFFERS_TIME. It repeats what was not answered."""
OFFERS_TIME: Final = 10.0

_NONCE: Final = 16
_LOOK: Final = 0.25
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A home wants a link."""

    connection: str
    """Random name of the attempt."""
    nonce: str
    sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A home agrees to a link."""

    connection: str
    nonce: str
    sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A home does not."""

    connection: str
    reason: str


KINDS: Final = ("offer", "answer", "refused")


class _Denied(Unavailable):
    """The other home answered that it wants no link."""


class _Overtaken(Exception):
    """Another link to the home is ready."""


@dataclass(slots=True, eq=False)
class _Attempt:
    """An offer of this home that waits for its answer."""

    link: Link
    offer: Offer
    begun: float
    answered: asyncio.Future[Message] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass(slots=True, eq=False)
class _Offered:
    """The last offer of another home. It comes again until an answer arrives there."""

    connection: str
    link: Link | None = None
    answer: bytes | None = None

    def is_dealt_with(self, offer: Offer) -> bool:
        """Tell whether an offer is this one, and nothing has gone wrong with it."""
        return offer.connection == self.connection and (
            self.link is None or self.link.reason is None
        )


class Links:
    """The links of one home. It is the Host of each, and hands on what they bring."""

    def __init__(
        self,
        post: Messenger,
        host: Host,
        *,
        name: Callable[[], str],
        is_friend: Callable[[str], bool],
        is_pairing: Callable[[str], bool],
        servers: Callable[[], Awaitable[Sequence[IceServer]]],
        rates: Callable[[str], tuple[Throttle, ...]],
        near: Callable[[str], bool],
        only_way: Callable[[str], bool],
    ) -> None:
        """Prepare to link as the home of `post`.

        `is_pairing` tells of homes that may be friends in a moment. `servers` finds STUN and TURN servers; `near` tells whether a home is probably in the local network, and
        `only_way` whether a link that is open is all that leads to a home at present.
        """
        self.instance = secrets.token_hex(8)
        self._messenger = post
        self._host = host
        self._name = name
        self._is_friend = is_friend
        self._is_pairing = is_pairing
        self._servers = servers
        self._rates = rates
        self._near = near
        self._only_way = only_way
        self._links: dict[str, Link] = {}
        self._old: dict[Link, float] = {}
        self._attempts: dict[str, _Attempt] = {}
        self._incoming: dict[str, Link] = {}
        self._accepting: dict[str, asyncio.Task[None]] = {}
        self._accepted: dict[str, deque[float]] = {}
        """When the last offers of a home began to be answered."""
        self._offered_by: dict[str, _Offered] = {}
        self._opening: dict[str, asyncio.Task[Link]] = {}
        self._trying: dict[str, asyncio.Future[None]] = {}
        """What is set when the attempt to open a link to a home has ended, well or not."""
        self._improving: dict[str, asyncio.Task[None]] = {}
        """Looks for a better path."""
        self._ready: dict[str, list[asyncio.Future[Link]]] = {}
        self._direct: dict[str, tuple[float, float]] = {}
        self._tasks = tasks.Tasks()
        self._loading: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to look after links."""
        self._tasks.keep(self._tend, "links")

    def prepare(self) -> None:
        """Load what links are made of, once there may be some. Without friends its memory, and half a second, are saved."""
        if self._loading is None:
            self._loading = tasks.spawn(self._load(), "load aiortc")

    async def stop(self, reason: str = Reasons.STOPPING) -> None:
        """Close all links."""
        self._closed = True
        await tasks.end(*self._opening.values(), self._loading)
        await self._tasks.end()
        every = {*self._links.values(), *self._old, *self._incoming.values()}
        every |= {each.link for each in self._attempts.values()}
        await asyncio.gather(*(link.close(reason) for link in every))

    def present(self, home: str) -> Link | None:
        """Return the link to a home, if it is open."""
        link = self._links.get(home)
        return link if link is not None and link.is_ready else None

    @property
    def all(self) -> tuple[Link, ...]:
        """All links that are open."""
        return tuple(link for link in self._links.values() if link.is_ready)

    async def get(self, home: str) -> Link:
        """Return the link to a friend, opened if need be. Raises Unavailable."""
        if (link := self.present(home)) is not None:
            return link
        if self._closed:
            raise Unavailable("the engine is stopping")
        task = self._opening.get(home)
        if task is None:
            task = asyncio.create_task(self._open(home), name=f"open link {home}")
            self._opening[home] = task
            task.add_done_callback(partial(self._opened, home))
        return await asyncio.shield(task)

    async def close(self, home: str, reason: str) -> None:
        """Close all links to a home, and end all attempts."""
        self._offered_by.pop(home, None)
        self._accepted.pop(home, None)
        if (accepting := self._accepting.get(home)) is not None:
            accepting.cancel()
        links = [each for each in self._old if each.home == home]
        found = (self._links.get(home), self._incoming.get(home))
        links += [each for each in found if each is not None]
        if (attempt := self._attempts.get(home)) is not None:
            links.append(attempt.link)
        for task in (self._opening.get(home), self._improving.get(home)):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(link.close(reason) for link in links))

    def probe(self, home: str | None = None) -> None:
        """See soon whether the links to a home, or all of them, still lead anywhere: something happened to the network."""
        for link in (*self._links.values(), *self._old):
            if home in (None, link.home):
                link.probe()

    def upgrade(self, home: str) -> None:
        """Look for a better path to a home than the present one, now."""
        link = self.present(home)
        if link is not None and link.path is not PathKind.LAN:
            self._direct[home] = (0.0, DIRECT_RETRY)

    # Opening.

    async def _open(self, home: str) -> Link:
        """Open a link by the first way that works."""
        if (improving := self._improving.pop(home, None)) is not None:
            # There is nothing to improve any more, and it would not take each way.
            improving.cancel()
        if self._near(home):
            try:
                return await self._attempt(home, lan=True)
            except _Denied:
                raise
            except Unavailable as err:
                _LOGGER.debug("%s in the local network: %s", home, err)
        return await self._attempt(home, lan=False)

    def _opened(self, home: str, task: asyncio.Task[Link]) -> None:
        if self._opening.get(home) is task:
            del self._opening[home]
        if not task.cancelled():
            # Whoever waited was told.
            task.exception()

    async def _attempt(self, home: str, *, lan: bool, direct: bool = False) -> Link:
        """Offer a link, in the local network or elsewhere. Raises Unavailable.

        `direct`: a relayed one is of no use, whichever home's relay it is.
        """
        while (trying := self._trying.get(home)) is not None:
            # One at a time: the other end lets go of one offer when the next one comes.
            if (link := await self._wait_for(home, trying)) is not None:
                return link
        trying = self._trying[home] = asyncio.get_running_loop().create_future()
        try:
            return await self._try(home, lan=lan, direct=direct)
        finally:
            del self._trying[home]
            trying.set_result(None)

    async def _wait_for(self, home: str, trying: asyncio.Future[None]) -> Link | None:
        """Wait for the end of an attempt, and return the link to a home that there is by then, if any."""
        ready = self._expect(home)
        try:
            await asyncio.wait((ready, trying), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._expect_no_more(home, ready)
        return self.present(home)

    async def _try(self, home: str, *, lan: bool, direct: bool) -> Link:
        servers: Sequence[IceServer] = () if lan else await self._servers()
        if direct:
            servers = _without_turn(servers)
        await self._prepared()
        link = self._new(home, servers, offering=True, direct=direct)
        try:
            async with asyncio.timeout(DESCRIBE):
                sdp = await link.connection.offer()
            offer = Offer(
                connection=secrets.token_hex(_NONCE),
                nonce=written(secrets.token_bytes(_NONCE)),
                sdp=sdp,
            )
            attempt = _Attempt(link, offer, time.monotonic())
            self._attempts[home] = attempt
            try:
                letter = await self._offer(home, attempt, lan=lan)
                answer = decode(Answer, letter.envelope.body)
                key = letter.envelope.key
                link.bind(key, self._transcript(home, key, offer, answer, link))
                await link.connection.answered(answer.sdp)
            finally:
                if self._attempts.get(home) is attempt:
                    del self._attempts[home]
            return await self._wait_ready(home, link)
        except (TimeoutError, ValueError, _Overtaken) as err:
            await link.close(Reasons.REPLACED)
            # The other home's own offer may have come first.
            if (present := self.present(home)) is not None:
                return present
            raise Unavailable(str(err) or "the other home does not answer") from None
        except BaseException:
            await link.close(Reasons.LOST)
            raise

    async def _offer(self, home: str, attempt: _Attempt, *, lan: bool) -> Message:
        """Send an offer until it is answered. Raises TimeoutError, Unavailable, and _Overtaken."""
        body = encode(attempt.offer)
        ready = self._expect(home)
        try:
            async with asyncio.timeout(LAN_PATIENCE if lan else PATIENCE):
                while True:
                    if not self._messenger.send(home, "offer", body, lan=lan):
                        raise Unavailable("no way leads to the other home at present")
                    await asyncio.wait(
                        (attempt.answered, ready),
                        timeout=RESEND,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if attempt.answered.done():
                        return attempt.answered.result()
                    if ready.done():
                        raise _Overtaken
        finally:
            self._expect_no_more(home, ready)

    async def _wait_ready(self, home: str, link: Link) -> Link:
        """Wait for a link to a home: this one, or whichever comes first. Raises TimeoutError and Unavailable."""
        if self.present(home) is link:
            return link
        ready = self._expect(home)
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    done, _ = await asyncio.wait((ready,), timeout=_LOOK)
                    if done:
                        return ready.result()
                    if link.reason is not None:
                        raise Unavailable(f"the link cannot be opened: {link.reason}")
        finally:
            self._expect_no_more(home, ready)

    def _expect(self, home: str) -> asyncio.Future[Link]:
        """Return what is set when the next link to a home is ready."""
        future: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._ready.setdefault(home, []).append(future)
        return future

    def _expect_no_more(self, home: str, future: asyncio.Future[Link]) -> None:
        waiting = self._ready.get(home, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._ready.pop(home, None)

    async def _load(self) -> None:
        """Load aiortc in a thread: it takes half a second, which the event loop does not have."""
        with suppress(ImportError):
            await asyncio.to_thread(import_module, "..webrtc.connection", __package__)

    async def _prepared(self) -> None:
        self.prepare()
        assert self._loading is not None
        await asyncio.wait((self._loading,))

    def _new(
        self,
        home: str,
        servers: Sequence[IceServer],
        *,
        offering: bool,
        direct: bool = False,
    ) -> Link:
        try:
            from ..webrtc.connection import Connection
        except ImportError as err:
            raise Unavailable(f"friends cannot be reached: {err}") from None

        return Link(
            partial(Connection, servers, direct=direct),
            self,
            self._messenger.identity,
            home,
            name=self._name(),
            instance=self.instance,
            offering=offering,
            rates=self._rates(home),
        )

    def _transcript(
        self, home: str, key: bytes, offer: Offer, answer: Answer, link: Link
    ) -> tuple[bytes, ...]:
        """Return what both ends sign. Raises ValueError for descriptions without fingerprints."""
        from ..webrtc.connection import fingerprints

        own = self._messenger.identity
        us, them = (own.id.encode(), own.key), (home.encode(), key)
        offering, answering = (us, them) if link.offering else (them, us)
        return (
            *offering,
            *answering,
            offer.connection.encode(),
            read(offer.nonce),
            read(answer.nonce),
            fingerprints(offer.sdp),
            fingerprints(answer.sdp),
            sha256(offer.sdp.encode()).digest(),
            sha256(answer.sdp.encode()).digest(),
        )

    # What comes by post.

    def receive(self, letter: Message) -> None:
        """Take in a message of a kind in KINDS."""
        envelope = letter.envelope
        try:
            match envelope.kind:
                case "offer":
                    self._offered(letter, decode(Offer, envelope.body))
                case "answer":
                    said = decode(Answer, envelope.body)
                    attempt = self._attempts.get(envelope.sender)
                    if (
                        attempt is not None
                        and attempt.offer.connection == said.connection
                        and not attempt.answered.done()
                    ):
                        attempt.answered.set_result(letter)
                case "refused":
                    self._refused(letter, decode(Refused, envelope.body))
        except (DecodeError, BadEnvelope) as err:
            _LOGGER.debug("A message of %s is left out: %s", envelope.sender, err)

    def _offered(self, letter: Message, offer: Offer) -> None:
        home = letter.envelope.sender
        if not self._is_friend(home):
            if not self._is_pairing(home):
                self._refuse(letter, offer, Reasons.NOT_FRIENDS)
            # Else it is about to be one, and offers again.
            return
        if self._closed:
            return
        known = self._offered_by.get(home)
        if known is not None and known.is_dealt_with(offer):
            # The answer is being made, is on its way, or was lost.
            if known.answer is not None:
                self._messenger.send(home, "answer", known.answer, way=letter.way)
            return
        others = (self._accepting.keys() | self._incoming.keys()) - {home}
        if len(others) >= MAX_ATTEMPTS:
            return
        mine = self._attempts.get(home)
        is_first = self._messenger.identity.id < home
        if mine is not None and is_first and time.monotonic() - mine.begun < YIELD:
            # The other home answers this one's offer.
            return
        if self._comes_too_often(home):
            return
        # Each offer takes the place of the former one, whose connection costs sockets and more.
        if (accepting := self._accepting.get(home)) is not None:
            accepting.cancel()
        former = self._incoming.get(home)
        if former is not None and not former.is_ready:
            self._tasks.spawn(former.close(Reasons.REPLACED), "replace")
        self._offered_by[home] = known = _Offered(offer.connection)
        task = self._tasks.spawn(self._accept(letter, offer, known), "answer an offer")
        self._accepting[home] = task
        task.add_done_callback(partial(self._accept_ended, home))

    def _comes_too_often(self, home: str) -> bool:
        """Tell whether a home offers more than makes sense; take note of its offer if not."""
        times = self._accepted.setdefault(home, deque(maxlen=MAX_OFFERS))
        now = time.monotonic()
        if len(times) == MAX_OFFERS and now - times[0] < OFFERS_TIME:
            return True
        times.append(now)
        return False

    def _accept_ended(self, home: str, task: asyncio.Task[None]) -> None:
        if self._accepting.get(home) is task:
            del self._accepting[home]

    async def _accept(self, letter: Message, offer: Offer, known: _Offered) -> None:
        home = letter.envelope.sender
        servers = () if letter.way.is_lan else await self._servers()
        await self._prepared()
        try:
            link = self._new(home, servers, offering=False)
        except Unavailable as err:
            _LOGGER.debug("An offer of %s cannot be answered: %s", home, err)
            return
        known.link = link
        self._incoming[home] = link
        try:
            async with asyncio.timeout(DESCRIBE):
                sdp = await link.connection.answer(offer.sdp)
            answer = Answer(
                connection=offer.connection,
                nonce=written(secrets.token_bytes(_NONCE)),
                sdp=sdp,
            )
            key = letter.envelope.key
            link.bind(key, self._transcript(home, key, offer, answer, link))
            known.answer = encode(answer)
            self._messenger.send(home, "answer", known.answer, way=letter.way)
        except (TimeoutError, ValueError) as err:
            _LOGGER.debug("An offer of %s cannot be answered: %s", home, err)
            await link.close(Reasons.INVALID)
        except asyncio.CancelledError:
            await link.close(Reasons.REPLACED)
            raise
        except BaseException:
            await link.close(Reasons.LOST)
            raise

    def _refuse(self, letter: Message, offer: Offer, reason: str) -> None:
        refused = Refused(connection=offer.connection[:64], reason=reason)
        self._messenger.send(
            letter.envelope.sender, "refused", encode(refused), way=letter.way
        )

    def _refused(self, letter: Message, said: Refused) -> None:
        home = letter.envelope.sender
        attempt = self._attempts.get(home)
        if attempt is None or attempt.offer.connection != said.connection:
            return
        if not attempt.answered.done():
            attempt.answered.set_exception(
                _Denied("the other home does not count this one as its friend")
            )
        self._host.closed(attempt.link, said.reason, by_them=True)

    # What links say.

    def answer(self, link: Link, ask: Ask) -> AsyncIterator[bytes]:
        """Hand a request on."""
        return self._host.answer(link, ask)

    def noted(self, link: Link, note: Note) -> None:
        """Hand a note on."""
        self._host.noted(link, note)

    def introduced(self, link: Link, message: bytes) -> None:
        """Hand an introduction on."""
        self._host.introduced(link, message)

    def ready(self, link: Link) -> None:
        """Use a link in the place of any former one."""
        home = link.home
        _LOGGER.debug("A link to %s is open: %s", home, link.path)
        if self._incoming.get(home) is link:
            del self._incoming[home]
        former = self._links.get(home)
        if former is not None and former.is_ready:
            if former.instance != link.instance:
                # Two homes have one identity, or it was started again and this end did not notice yet.
                self._tasks.spawn(former.close(Reasons.SUPERSEDED), "supersede")
            else:
                former.probe()
                if self._outlasts(former, link):
                    self._retire(link)
                    self._found(home, former)
                    return
                self._retire(former)
        self._use(link)

    def _use(self, link: Link) -> None:
        """Let a link be the one to its home."""
        home = link.home
        self._links[home] = link
        self._found(home, link)
        self._direct.setdefault(home, (time.monotonic() + DIRECT_RETRY, DIRECT_RETRY))
        self._host.ready(link)

    def _retire(self, link: Link) -> None:
        """Let a link finish what it is doing, if there are not too many of them."""
        self._old[link] = time.monotonic()
        retired = [each for each in self._old if each.home == link.home]
        for each in retired[:-MAX_OLD]:
            self._tasks.spawn(each.close(Reasons.REPLACED), "replace")

    def _outlasts(self, former: Link, link: Link) -> bool:
        """Tell whether a link stays though another one came after it: both ends come to the same answer."""
        if link.ready_since - former.ready_since > CROSSING:
            return False
        is_first = self._messenger.identity.id < link.home
        if former.offering is link.offering:
            return False
        if (link.path is PathKind.RELAYED) is not (former.path is PathKind.RELAYED):
            return link.path is PathKind.RELAYED
        return former.offering is is_first

    def _found(self, home: str, link: Link) -> None:
        """Hand a link to all who wait for one."""
        for future in self._ready.pop(home, []):
            if not future.done():
                future.set_result(link)

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Forget a link that ended."""
        self._old.pop(link, None)
        if self._incoming.get(link.home) is link:
            del self._incoming[link.home]
        is_current = self._links.get(link.home) is link
        if is_current:
            del self._links[link.home]
            self._direct.pop(link.home, None)
        self._host.closed(link, reason, by_them=by_them)
        if is_current and not self._closed:
            self._fall_back(link.home)

    def _fall_back(self, home: str) -> None:
        """Use a link again that was replaced, if there is one: the other end uses it, or it does not know yet that it is dead."""
        for link in reversed(tuple(self._old)):
            if link.home == home and link.is_ready:
                del self._old[link]
                self._use(link)
                return

    # Looking after them.

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND)
            now = time.monotonic()
            for link, since in tuple(self._old.items()):
                if now - since > (DRAIN if link.is_busy else GRACE):
                    self._tasks.spawn(link.close(Reasons.REPLACED), "replace")
            for home, link in tuple(self._links.items()):
                if not link.is_ready:
                    continue
                idle = now - link.used
                if idle > IDLE and not link.is_busy and not self._only_way(home):
                    self._tasks.spawn(link.close(Reasons.IDLE), "idle")
                elif link.path is not PathKind.LAN and idle < IDLE:
                    self._look_for_better(home, link, now)

    def _look_for_better(self, home: str, link: Link, now: float) -> None:
        """Try the local network, or a direct path while a relayed one is in use."""
        when, pause = self._direct.get(home, (now + DIRECT_RETRY, DIRECT_RETRY))
        near = self._near(home)
        if now < when or not (near or link.path is PathKind.RELAYED):
            return
        self._direct[home] = (now + pause, min(LAST_DIRECT_RETRY, 2 * pause))
        task = self._tasks.spawn(
            self._better(home, near=near), "look for a better path"
        )
        self._improving[home] = task

    async def _better(self, home: str, *, near: bool) -> None:
        try:
            await self._attempt(home, lan=near, direct=True)
        except Unavailable as err:
            _LOGGER.debug("There is no better path to %s: %s", home, err)
        finally:
            if self._improving.get(home) is asyncio.current_task():
                del self._improving[home]


def _without_turn(servers: Sequence[IceServer]) -> Sequence[IceServer]:
    found = []
    for server in servers:
        urls = tuple(url for url in server.urls if url.startswith("stun:"))
        if urls:
            found.append(IceServer(urls=urls))
    return found
