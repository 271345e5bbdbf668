"""The link to a friend: an authenticated connection over which both homes ask each other, several things at a time.

A link counts once both ends have signed what the connection was made of: the fingerprints of the certificates on both
sides, both IDs, and a random number of each. A server between them that swapped anything is found out here at the latest.

A frame is a byte for its type, four for the number of the request that it belongs to, and the rest. Frames of unknown
types are ignored, so that a newer release may say more; anything malformed ends the link with a reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
import logging
import struct
import time
from typing import TYPE_CHECKING, Final, Protocol

from ...core import tasks
from ...core.errors import Busy, EngineError, Unavailable, error_of
from ...core.throttle import Throttle
from ...models.codec import DecodeError, decode, encode
from ...models.homes import MAX_NAME, ConnectionStats, PathKind
from ...models.version import VERSION as RELEASE
from ..identity import Identity, is_signed
from ..messages import BadEnvelope, read, written

if TYPE_CHECKING:
    # It loads aiortc, which may be missing.
    from ..webrtc.connection import Connection

VERSIONS: Final = (1,)
"""Of what is said over links; both ends use the highest that both know."""
HELLO_TIMEOUT: Final = 10.0
"""Seconds for a connection to open and to be signed, once it is known between whom."""
STALL: Final = 12.0
"""Seconds without a byte of an answer after which it is given up."""
BUSY_BEAT: Final = 2.0
"""Seconds between signs of life while something is going on."""
BUSY_DEAD: Final = 8.0
"""Seconds without any after which the other end is gone."""
DOUBT: Final = 4.0
"""The same, when there is a reason to doubt that it is there."""
IDLE_BEAT: Final = 8.0
IDLE_DEAD: Final = 25.0
LOOK: Final = 0.5
"""Seconds between two looks at that."""
LINGER: Final = 0.1
"""Seconds for the reason of the end to reach the other one."""
FRAME: Final = 60 * 1024
"""Bytes of an answer in one frame."""
MAX_REQUESTS: Final = 64
"""Requests that one end answers at a time."""
MAX_REQUEST: Final = 320 * 1024
"""Bytes of a request: it may say which parts of a long list somebody has."""
MAX_SAID: Final = 16 * 1024
"""Bytes of everything that is neither a request nor an answer."""
WINDOW: Final = 4 * 1024 * 1024
"""Bytes of an answer that are sent before whoever asked has taken any of them."""
MAX_TOGETHER: Final = 2 * WINDOW
"""Bytes of an answer that wait for whoever asked. Nobody sends so many who keeps to the window."""

_HEAD: Final = struct.Struct(">BI")
_COUNT: Final = struct.Struct(">Q")
_DOMAIN: Final = b"pemus link 1"
_ENDED: Final = "the link to the other home ended"
_LOGGER = logging.getLogger(__name__)


class Frame(IntEnum):
    """What a frame is."""

    HELLO = 1
    BYE = 2
    PING = 3
    PONG = 4
    ASK = 5
    """A request: JSON. Or the end of one, if MORE came before."""
    DATA = 6
    """A part of an answer."""
    END = 7
    """The answer was whole."""
    REFUSE = 8
    """There is no answer, or no more of it: an ApiError."""
    CANCEL = 9
    """The answer is not wanted any more."""
    NOTE = 10
    """JSON that needs no answer."""
    INTRODUCE = 11
    """What two torrents say to each other before they meet (WebTorrent's offers and answers)."""
    MORE = 12
    """The beginning of a request that is too long for one frame, or what follows that."""
    TAKEN = 13
    """How many bytes of an answer, in eight bytes, were taken by whoever asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first frame of both ends."""

    versions: tuple[int, ...]
    release: str
    name: str
    instance: str
    """Random, of this start of the engine: tells a copy of a home from the home itself."""
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """Why a link ends."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request. Each kind has fields of its own, all in one: what is not needed is left out."""

    do: str
    item: str = ""
    etag: str = ""
    start: int = 0
    stop: int = 0
    index: int = 0
    have: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not answered. The key is a text: a newer release may have more of them."""

    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that the other end should know."""

    about: str


class Reasons:
    """Why links end, where the other end acts on it."""

    NOT_FRIENDS: Final = "not_friends"
    SUPERSEDED: Final = "superseded"
    REPLACED: Final = "replaced"
    IDLE: Final = "idle"
    STOPPING: Final = "stopping"
    VERSION: Final = "version"
    INVALID: Final = "invalid"
    UNSIGNED: Final = "unsigned"
    SILENT: Final = "silent"
    LOST: Final = "lost"


class Host(Protocol):
    """Who holds the links, as one of them sees it. All is called in the event loop."""

    def answer(self, link: Link, ask: Ask) -> AsyncIterator[bytes]:
        """Return the answer to a request in parts. Raises EngineError, now or on the way."""

    def noted(self, link: Link, note: Note) -> None:
        """Take note of what the other end says."""

    def introduced(self, link: Link, message: bytes) -> None:
        """Hand on what a torrent there says to one here."""

    def ready(self, link: Link) -> None:
        """Take note that the other end is who it should be."""

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Take note that the link has ended."""


@dataclass(slots=True, eq=False)
class _Answer:
    """An answer as it comes in."""

    limit: int
    parts: asyncio.Queue[bytes | EngineError | None]
    received: int = 0
    waiting: int = 0


@dataclass(slots=True, eq=False)
class _Answering:
    """An answer as it goes out."""

    task: asyncio.Task[None] | None = None
    sent: int = 0
    taken: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Link:
    """A link, or an attempt at one. Whoever makes it connects it and then waits for `Host.ready`."""

    def __init__(
        self,
        connection: Callable[..., Connection],
        host: Host,
        identity: Identity,
        home: str,
        *,
        name: str,
        instance: str,
        offering: bool,
        rates: tuple[Throttle, ...] = (),
    ) -> None:
        """Prepare a link to a home. `connection` makes what it runs over, given its three callbacks.

        `rates` bound what is sent to the other end, unless it is in the local network.
        """
        self.home = home
        self.name = ""
        """As the other home calls itself; its own words."""
        self.release = ""
        self.instance = ""
        self.offering = offering
        self.is_ready = False
        self.ready_since = 0.0
        """When the other end was known, by the monotonic clock."""
        self.reason: str | None = None
        """Why it ended."""
        self.used = time.monotonic()
        """When something was asked or answered last."""
        self.connection = connection(
            on_message=self._received, on_open=self._opened, on_close=self._lost
        )
        self._host = host
        self._identity = identity
        self._key = b""
        self._transcript: tuple[bytes, ...] = ()
        self._said = Hello(
            versions=VERSIONS,
            release=RELEASE,
            name=name[:MAX_NAME],
            instance=instance,
            signature="",
        )
        self._rates = rates
        self._next = 0
        self._answers: dict[int, _Answer] = {}
        self._answering: dict[int, _Answering] = {}
        self._begun: dict[int, bytearray] = {}
        """Requests whose end has not come yet."""
        self._long = asyncio.Lock()
        self._heard = self._busy_since = time.monotonic()
        self._doubted: float | None = None
        """Since when there is a reason to doubt that the other end is there."""
        self._is_open = False
        self._tasks = tasks.Tasks()
        self._closing: asyncio.Task[None] | None = None

    def bind(self, key: bytes, transcript: tuple[bytes, ...]) -> None:
        """Tell whose key the other end must have, and what the connection is made of: what both ends sign.

        From then on the link ends by itself if it does not open in time.
        """
        if self.reason is not None:
            return
        self._key, self._transcript = key, transcript
        self._tasks.keep(self._live, f"link to {self.home}")
        if self._is_open:
            self._say_hello()

    @property
    def is_busy(self) -> bool:
        """Tell whether anything is being asked or answered."""
        return bool(self._answers or self._answering)

    @property
    def path(self) -> PathKind | None:
        """The way that it takes."""
        return self.connection.path()

    @property
    def stats(self) -> ConnectionStats:
        """What it has done."""
        return self.connection.stats()

    # Asking.

    async def ask(self, ask: Ask, limit: int) -> AsyncIterator[bytes]:
        """Send a request and return its answer in parts, of at most `limit` bytes together.

        Raises EngineError: what the other end refused with, or Unavailable if the link ended or nothing came in time.
        """
        if not self.is_ready:
            raise Unavailable("there is no link to this home")
        self._begin()
        self._next = number = (self._next + 1) % 2**32
        answer = _Answer(limit, asyncio.Queue())
        self._answers[number] = answer
        self.used = time.monotonic()
        request = encode(ask)
        is_long = len(request) > FRAME
        told = 0
        try:
            if is_long:
                await self._request(number, request)
            else:
                self._send(Frame.ASK, number, request)
            while True:
                try:
                    async with asyncio.timeout(STALL):
                        part = await answer.parts.get()
                except TimeoutError:
                    raise Unavailable("the other home does not answer") from None
                if part is None:
                    del self._answers[number]
                    return
                if isinstance(part, EngineError):
                    self._answers.pop(number, None)
                    raise part
                answer.waiting -= len(part)
                yield part
                taken = answer.received - answer.waiting
                if taken - told >= WINDOW // 4:
                    told = taken
                    self._send(Frame.TAKEN, number, _COUNT.pack(taken))
        except ConnectionError:
            raise Unavailable(_ENDED) from None
        finally:
            self.used = time.monotonic()
            if self._answers.pop(number, None) is not None and self.reason is None:
                self._cancel(number, is_long=is_long)

    async def _request(self, number: int, request: bytes) -> None:
        """Send a long request, one at a time and as there is room for it. Raises ConnectionError."""
        async with self._long:
            for start in range(0, len(request), FRAME):
                is_last = start + FRAME >= len(request)
                head = _HEAD.pack(Frame.ASK if is_last else Frame.MORE, number)
                await self.connection.send_bulk(head + request[start : start + FRAME])

    def _cancel(self, number: int, *, is_long: bool) -> None:
        cancel = _HEAD.pack(Frame.CANCEL, number)
        with suppress(ConnectionError):
            if is_long:
                # It must not overtake the request.
                self.connection.send_after_bulk(cancel)
            else:
                self.connection.send(cancel)

    async def ask_whole(self, ask: Ask, limit: int) -> bytes:
        """Send a request and return its whole answer. Raises what `ask` raises."""
        return b"".join([part async for part in self.ask(ask, limit)])

    def note(self, note: Note) -> None:
        """Say something that needs no answer. It is lost if the link ends."""
        with suppress(ConnectionError):
            self._send(Frame.NOTE, 0, encode(note))

    async def introduce(self, message: bytes) -> None:
        """Hand what a torrent says to the other end. Raises ConnectionError."""
        self._send(Frame.INTRODUCE, 0, message)
        self.used = time.monotonic()

    def probe(self) -> None:
        """See soon whether the other end is still there: something may have happened to the way to it."""
        if self.is_ready:
            if self._doubted is None or self._heard > self._doubted:
                self._doubted = time.monotonic()
            with suppress(ConnectionError):
                self._send(Frame.PING, 0)

    async def close(self, reason: str, *, tell: bool = True) -> None:
        """End the link, for a reason that the other end is told."""
        if tell and self.reason is None and self.connection.is_open:
            with suppress(ConnectionError):
                self._send(Frame.BYE, 0, encode(Bye(reason=reason)))
        self._end(reason)
        if self._closing is not None:
            await asyncio.wait((self._closing,))

    # What comes in.

    def _opened(self) -> None:
        self._is_open = True
        self._heard = time.monotonic()
        if self._transcript:
            self._say_hello()

    def _say_hello(self) -> None:
        signature = self._identity.sign(*self._statement(offering=self.offering))
        hello = Hello(
            versions=self._said.versions,
            release=self._said.release,
            name=self._said.name,
            instance=self._said.instance,
            signature=written(signature),
        )
        with suppress(ConnectionError):
            self._send(Frame.HELLO, 0, encode(hello))

    def _statement(self, *, offering: bool) -> tuple[bytes, ...]:
        role = b"offering" if offering else b"answering"
        return (_DOMAIN, role, *self._transcript)

    def _received(self, message: bytes) -> None:
        if self.reason is not None:
            return
        self._heard = time.monotonic()
        if len(message) < _HEAD.size:
            self._fail("a frame is too short")
            return
        kind, number = _HEAD.unpack_from(message)
        payload = message[_HEAD.size :]
        try:
            self._take(kind, number, payload)
        except (DecodeError, BadEnvelope, RecursionError) as err:
            self._fail(str(err))
        except ConnectionError:
            self._lost()
        except Exception:
            _LOGGER.exception("A frame of %s could not be handled", self.home)
            self._fail("it could not be handled")

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == Frame.BYE:
            self._bye(payload)
        elif kind == Frame.HELLO:
            self._hello(payload)
        elif not self.is_ready:
            # Nobody says anything before both are known; the order of two channels is not.
            if kind not in (Frame.PING, Frame.PONG):
                self._fail("something came before the hello")
        elif kind == Frame.DATA:
            self._data(number, payload)
        elif kind in (Frame.END, Frame.REFUSE):
            self._answered(kind, number, payload)
        elif kind == Frame.ASK:
            self._asked(number, payload)
        elif kind == Frame.MORE:
            self._asking(number, payload)
        elif kind == Frame.TAKEN:
            self._taken(number, payload)
        elif kind == Frame.CANCEL:
            self._cancelled(number)
        elif kind == Frame.PING:
            self._send(Frame.PONG, number)
        elif kind == Frame.NOTE:
            self._host.noted(self, decode(Note, _bounded(payload, MAX_SAID)))
        elif kind == Frame.INTRODUCE:
            self.used = time.monotonic()
            self._host.introduced(self, _bounded(payload, MAX_SAID))

    def _hello(self, payload: bytes) -> None:
        hello = decode(Hello, _bounded(payload, MAX_SAID))
        if self.is_ready or not self._transcript:
            raise BadEnvelope("a hello came at the wrong time")
        signed = self._statement(offering=not self.offering)
        if not is_signed(self._key, read(hello.signature), *signed):
            _LOGGER.warning(
                "Somebody is between this home and %s: what they signed is not what connects them",
                self.home,
            )
            self._fail("the signature is wrong", Reasons.UNSIGNED)
            return
        if not set(hello.versions) & set(VERSIONS):
            self._fail("there is no common version", Reasons.VERSION)
            return
        self.name = shown(hello.name)
        self.release = shown(hello.release)
        self.instance = hello.instance[:64]
        self.is_ready = True
        self.used = self.ready_since = time.monotonic()
        self._host.ready(self)

    def _bye(self, payload: bytes) -> None:
        reason = decode(Bye, _bounded(payload, MAX_SAID)).reason
        self._end(shown(reason), by_them=True)

    def _data(self, number: int, payload: bytes) -> None:
        if (answer := self._answers.get(number)) is None:
            # It was cancelled a moment ago.
            return
        answer.received += len(payload)
        answer.waiting += len(payload)
        if answer.received > answer.limit or answer.waiting > MAX_TOGETHER:
            self._fail("an answer is longer than it may be")
            return
        answer.parts.put_nowait(payload)

    def _answered(self, kind: int, number: int, payload: bytes) -> None:
        if (answer := self._answers.get(number)) is None:
            return
        if kind == Frame.END:
            answer.parts.put_nowait(None)
            return
        refusal = decode(Refusal, _bounded(payload, MAX_SAID))
        answer.parts.put_nowait(error_of(refusal.error, shown(refusal.message)))

    def _asking(self, number: int, payload: bytes) -> None:
        """Keep a part of a request."""
        is_new = number not in self._begun
        if not payload or (is_new and len(self._begun) >= MAX_REQUESTS):
            raise DecodeError("requests are begun and not ended")
        self._begun.setdefault(number, bytearray()).extend(payload)
        if sum(map(len, self._begun.values())) > MAX_REQUEST:
            raise DecodeError("a request is too long")

    def _asked(self, number: int, payload: bytes) -> None:
        if (begun := self._begun.pop(number, None)) is not None:
            payload = bytes(begun) + payload
        ask = decode(Ask, _bounded(payload, MAX_REQUEST))
        if number in self._answering:
            raise DecodeError("two requests have one number")
        self.used = time.monotonic()
        if len(self._answering) >= MAX_REQUESTS:
            self._refuse(number, Busy("too many requests at a time"))
            return
        self._begin()
        self._answering[number] = answering = _Answering()
        work = self._answer(number, ask, answering)
        answering.task = self._tasks.spawn(work, f"answer {ask.do[:16]}")
        answering.task.add_done_callback(lambda _: self._answering.pop(number, None))

    def _taken(self, number: int, payload: bytes) -> None:
        if len(payload) != _COUNT.size:
            raise DecodeError("a number is none")
        if (answering := self._answering.get(number)) is not None:
            (answering.taken,) = _COUNT.unpack(payload)
            answering.news.set()

    def _cancelled(self, number: int) -> None:
        self._begun.pop(number, None)
        answering = self._answering.get(number)
        if answering is not None and answering.task is not None:
            answering.task.cancel()

    async def _answer(self, number: int, ask: Ask, answering: _Answering) -> None:
        try:
            async for part in self._host.answer(self, ask):
                await self._give(number, part, answering)
            await self.connection.send_bulk(_HEAD.pack(Frame.END, number))
        except EngineError as err:
            self._refuse(number, err)
        except ConnectionError:
            pass
        except Exception:
            _LOGGER.exception("A request of %s failed", self.home)
            self._refuse(number, Unavailable("the other home failed"))
        finally:
            self.used = time.monotonic()

    async def _give(self, number: int, part: bytes, answering: _Answering) -> None:
        """Send a part of an answer, as whoever asked takes it and the rates allow. Raises ConnectionError."""
        start = 0
        while start < len(part):
            chunk = part[start : start + self._portion()]
            while answering.sent - answering.taken >= WINDOW:
                answering.news.clear()
                await answering.news.wait()
            await self._keep_within(len(chunk))
            await self.connection.send_bulk(_HEAD.pack(Frame.DATA, number) + chunk)
            answering.sent += len(chunk)
            start += len(chunk)

    def _portion(self) -> int:
        """Return how many bytes go into a frame."""
        if self.path is PathKind.LAN:
            return FRAME
        return min([FRAME, *(rate.portion(FRAME) for rate in self._rates)])

    def _refuse(self, number: int, error: EngineError) -> None:
        refusal = encode(Refusal(error=error.key, message=str(error)[:1000]))
        with suppress(ConnectionError):
            self._send(Frame.REFUSE, number, refusal)

    async def _keep_within(self, size: int) -> None:
        if self.path is PathKind.LAN:
            return
        for rate in self._rates:
            await rate.take(size)

    # Life.

    def _begin(self) -> None:
        """Take note that something begins. Where nothing was going on, nobody may have noticed that the other end is gone."""
        if self.is_busy:
            return
        self._busy_since = now = time.monotonic()
        if now - self._heard > BUSY_BEAT:
            self.probe()

    def _is_silent(self, now: float) -> bool:
        if self._doubted is not None:
            if self._heard > self._doubted:
                self._doubted = None
            elif now - self._doubted > DOUBT:
                return True
        if self.is_busy:
            return now - max(self._heard, self._busy_since) > BUSY_DEAD
        return now - self._heard > IDLE_DEAD

    async def _live(self) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                while not self.is_ready:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            self._end(Reasons.SILENT)
            return
        beat = 0.0
        while self.reason is None:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            if self._is_silent(now):
                _LOGGER.debug("%s fell silent", self.home)
                self._end(Reasons.SILENT)
                return
            if now - beat >= (BUSY_BEAT if self.is_busy else IDLE_BEAT):
                beat = now
                with suppress(ConnectionError):
                    self._send(Frame.PING, 0)

    def _send(self, kind: Frame, number: int, payload: bytes = b"") -> None:
        self.connection.send(_HEAD.pack(kind, number) + payload)

    def _fail(self, message: str, reason: str = Reasons.INVALID) -> None:
        """End the link because of what the other end said."""
        _LOGGER.debug("The link to %s ends: %s", self.home, message)
        with suppress(ConnectionError):
            self._send(Frame.BYE, 0, encode(Bye(reason=reason)))
        self._end(reason)

    def _lost(self) -> None:
        self._end(Reasons.LOST)

    def _end(self, reason: str, *, by_them: bool = False) -> None:
        if self.reason is not None:
            return
        self.reason = reason
        self.is_ready = False
        for answer in self._answers.values():
            answer.parts.put_nowait(Unavailable(_ENDED))
        self._tasks.cancel()
        self._closing = tasks.spawn(self._shut(), f"close link to {self.home}")
        self._host.closed(self, reason, by_them=by_them)

    async def _shut(self) -> None:
        if self.connection.is_open:
            # What was said last needs a moment to go out.
            await asyncio.sleep(LINGER)
        await self.connection.close()


def shown(text: str) -> str:
    """Return what another home calls something, fit to be shown."""
    plain = "".join(char if char.isprintable() else " " for char in text[:MAX_NAME])
    return plain.strip()


def _bounded(payload: bytes, limit: int) -> bytes:
    if len(payload) > limit:
        raise DecodeError("a frame is too long")
    return payload
