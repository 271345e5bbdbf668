"""The link to a friend: an authenticated connection over which both homes send requests, several at a time.

A link is ready once both ends have signed what the connection was made of (`handshake`). Anything malformed ends it, with
a reason that the other end is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

from ...core import sanitize, tasks
from ...core.errors import Unavailable
from ...core.throttle import Throttle
from ...models.codec import DecodeError, encode
from ...models.homes import MAX_NAME, ConnectionStats, PathKind
from ..messages import BadEnvelope
from .frames import (
    Ask,
    Bye,
    Frame,
    FrameType,
    Hello,
    Note,
    Reasons,
    bounded,
    pack,
    unpack,
    unpack_json,
)
from .handshake import Proof
from .keepalive import Keepalive
from .requests import OwnRequests, TheirRequests

if TYPE_CHECKING:
    # Importing it loads aiortc, which may be missing.
    from ..webrtc.connection import Connection

VERSIONS: Final = (1,)
"""The versions of this protocol that this release speaks. Both ends use the highest common one."""
HELLO_TIMEOUT: Final = 10.0
"""Seconds for a connection to open and to be signed, once both homes have agreed on it."""
LINGER: Final = 0.1
"""Seconds that a link stays open for its last frame to be sent."""

_MAX_INSTANCE: Final = 64

_LOGGER = logging.getLogger(__name__)


class Owner(Protocol):
    """Keeps a link: the slot of another home, or a guest. Everything is called in the event loop."""

    @property
    def home(self) -> str:
        """The other end's ID."""

    def ready(self, link: Link) -> None:
        """Use a link: the other end has proven who it is."""

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Forget a link that has ended."""


class Host(Protocol):
    """Answers what comes over a link. Everything is called in the event loop."""

    def answer(self, link: Link, ask: Ask) -> AsyncGenerator[bytes]:
        """Return the answer to a request in parts. Raises EngineError, now or while it is iterated."""

    def noted(self, link: Link, note: Note) -> None:
        """Handle a note of the other home."""

    def introduced(self, link: Link, message: bytes) -> None:
        """Handle the signalling of a torrent at the other home."""


class HomeHost(Host, Protocol):
    """Answers what comes over the links to all homes, and is told which links there are."""

    def ready(self, link: Link) -> None:
        """Use a link: the other home has proven its identity."""

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Handle the end of a link, or a refusal to open one."""


class Link:
    """A link, or an attempt at one. It is connected by its maker, and tells its owner when it is ready and when it ends."""

    def __init__(
        self,
        connection: Callable[..., Connection],
        owner: Owner,
        host: Host,
        *,
        hello: Hello,
        offering: bool,
        rates: tuple[Throttle, ...] = (),
    ) -> None:
        """Prepare a link. `connection` makes its connection, given three callbacks.

        `hello` is this home's first frame, without the signature. `rates` limit what is sent.
        """
        self.home = owner.home
        self.name = ""
        """What the other home calls itself."""
        self.release = ""
        self.instance = ""
        self.offering = offering
        """Whether this home made the offer."""
        self.is_ready = False
        self.ready_since = 0.0
        """When the link became ready, by the monotonic clock."""
        self.reason: str | None = None
        """Why the link ended."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connection = connection(
            on_message=self._received, on_open=self._opened, on_close=self._lost
        )
        self.keepalive = Keepalive(self.connection)
        self._owner = owner
        self._host = host
        self._handshake: Proof | None = None
        self._hello = hello
        self._tasks = tasks.Tasks()
        self._own = OwnRequests(self.connection, self.keepalive)
        self._theirs = TheirRequests(
            self.connection,
            self.keepalive,
            self._tasks,
            lambda ask: host.answer(self, ask),
            rates,
        )
        self._is_open = False
        self._greeted = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None

    def bind(self, handshake: Proof) -> None:
        """Set what both ends sign. From now on, the link ends by itself unless it becomes ready in time."""
        if self.reason is not None:
            return
        self._handshake = handshake
        self._tasks.keep(self._live, f"link to {self.home}")
        if self._is_open:
            self._say_hello()

    @property
    def is_busy(self) -> bool:
        """Whether a request is in progress, in either direction."""
        return self.keepalive.is_busy

    @property
    def path(self) -> PathKind | None:
        """The kind of path that the connection takes."""
        return self.connection.path()

    @property
    def stats(self) -> ConnectionStats:
        """What the connection has transferred."""
        return self.connection.stats()

    def ask(self, ask: Ask, limit: int) -> AsyncGenerator[bytes]:
        """Send a request and return its answer in parts, of at most `limit` bytes together.

        Raises EngineError, now or while it is iterated: the other end's refusal, or Unavailable if the link ends or nothing
        arrives in time.
        """
        if not self.is_ready:
            raise Unavailable("there is no link to this home")
        return self._own.ask(ask, limit)

    async def ask_whole(self, ask: Ask, limit: int) -> bytes:
        """Send a request and return its whole answer. Raises what `ask` raises."""
        return b"".join([part async for part in self.ask(ask, limit)])

    def note(self, note: Note) -> None:
        """Send something that needs no answer. It is lost if the link ends."""
        with suppress(ConnectionError):
            self._send(FrameType.NOTE, encode(note))

    async def introduce(self, message: bytes) -> None:
        """Send the signalling of a torrent. Raises ConnectionError."""
        self._send(FrameType.INTRODUCE, message)
        self.keepalive.used()

    def probe(self) -> None:
        """Check soon whether the other end is still there, because the path may have changed."""
        if self.is_ready:
            self.keepalive.probe()

    async def close(self, reason: str) -> None:
        """End the link, and tell the other end why."""
        if self.reason is None and self.connection.is_open:
            self._say_bye(reason)
        self._end(reason)
        if self._closing is not None:
            await asyncio.wait((self._closing,))

    # The connection.

    def _opened(self) -> None:
        self._is_open = True
        self.keepalive.heard()
        if self._handshake is not None:
            self._say_hello()

    def _lost(self) -> None:
        self._end(Reasons.LOST)

    def _received(self, message: bytes) -> None:
        if self.reason is not None:
            return
        self.keepalive.heard()
        try:
            self._handle(unpack(message))
        except (DecodeError, BadEnvelope, RecursionError) as err:
            self._fail(str(err), Reasons.INVALID)
        except ConnectionError:
            self._lost()
        except Exception:
            _LOGGER.exception("A frame of %s could not be handled", self.home)
            self._fail("it could not be handled", Reasons.INVALID)

    def _handle(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.BYE:
                reason = unpack_json(Bye, frame.payload).reason
                self._end(shown(reason), by_them=True)
            case FrameType.HELLO:
                self._welcome(unpack_json(Hello, frame.payload))
            case FrameType.PING | FrameType.PONG if not self.is_ready:
                pass
            case _ if not self.is_ready:
                # The other end sends nothing else before it has our HELLO.
                raise DecodeError("something came before the hello")
            case FrameType.PING:
                self.connection.send(pack(FrameType.PONG, frame.number))
            case FrameType.DATA | FrameType.END | FrameType.REFUSE:
                self._own.receive(frame)
            case FrameType.ASK | FrameType.MORE | FrameType.TAKEN | FrameType.CANCEL:
                self._theirs.receive(frame)
            case FrameType.NOTE:
                self._host.noted(self, unpack_json(Note, frame.payload))
            case FrameType.INTRODUCE:
                self.keepalive.used()
                self._host.introduced(self, bounded(frame.payload))

    def _send(self, type_: FrameType, payload: bytes) -> None:
        self.connection.send(pack(type_, payload=payload))

    # The handshake.

    def _say_hello(self) -> None:
        assert self._handshake is not None
        with suppress(ConnectionError):
            hello = self._handshake.sign(self._hello)
            self._send(FrameType.HELLO, encode(hello))

    def _welcome(self, hello: Hello) -> None:
        """Check the other home's first frame. Raises BadEnvelope."""
        if self.is_ready or self._handshake is None:
            raise BadEnvelope("a hello came at the wrong time")
        if not self._handshake.is_signed(hello):
            self._fail("the signature is wrong", Reasons.UNSIGNED)
            return
        if not set(hello.versions) & set(VERSIONS):
            self._fail("there is no common version", Reasons.VERSION)
            return
        self.name = shown(hello.name)
        self.release = shown(hello.release)
        self.instance = hello.instance[:_MAX_INSTANCE]
        self.is_ready = True
        self.ready_since = time.monotonic()
        self.keepalive.used()
        self._greeted.set()
        self._owner.ready(self)

    # The end.

    async def _live(self) -> None:
        """End the link when the other end says no hello in time, or falls silent."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                await self._greeted.wait()
        except TimeoutError:
            self._end(Reasons.SILENT)
            return
        await self.keepalive.run()
        _LOGGER.debug("%s fell silent", self.home)
        self._end(Reasons.SILENT)

    def _fail(self, message: str, reason: str) -> None:
        """End the link because of what the other end sent."""
        _LOGGER.debug("The link to %s ends: %s", self.home, message)
        self._say_bye(reason)
        self._end(reason)

    def _say_bye(self, reason: str) -> None:
        with suppress(ConnectionError):
            self._send(FrameType.BYE, encode(Bye(reason=reason)))

    def _end(self, reason: str, *, by_them: bool = False) -> None:
        if self.reason is not None:
            return
        self.reason = reason
        self.is_ready = False
        self.ended.set_result(None)
        self._own.close()
        self._tasks.cancel()
        self._closing = tasks.spawn(self._close(), f"close link to {self.home}")
        self._owner.closed(self, reason, by_them=by_them)

    async def _close(self) -> None:
        if self.connection.is_open:
            await asyncio.sleep(LINGER)
        await self.connection.close()


def shown(text: str) -> str:
    """Return another home's text as it may be displayed."""
    return sanitize.shown(text, MAX_NAME).strip()
