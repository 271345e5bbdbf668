"""WebSockets (RFC 6455), with the limits that all parts of the program share.

This is the only module that uses picows, which is pinned exactly: its public server reads the head of each request itself,
so it cannot share a port with aiohttp, and its protocol is a private class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus
import logging
from typing import Any, Final, cast

from multidict import CIMultiDict
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from pemus_signaling.settings import Settings

from .limits import Places
from .sockets import Close, Listener

CLOSE_PATIENCE: Final = 3.0
"""Seconds that a client has to answer a close frame. One that has answered has also read why it was closed."""
BURST: Final = 10
"""Seconds' worth of messages that a socket may send at once."""
COST_BYTES: Final = 4096
"""Bytes of a message that count as one message more."""

# Looked up once: these are asked for with every message.
_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_PING: Final = WSMsgType.PING
_CLOSE: Final = WSMsgType.CLOSE

_CLOSE_CODES: Final = frozenset((*range(1000, 1004), *range(1007, 1015)))
"""What may be in a close frame, of the codes that the RFC and its registry define."""
_NO_HEADERS: Final[CIMultiDict[str]] = CIMultiDict()

_LOGGER = logging.getLogger(__name__)


def _answer_to(close: bytes) -> WSCloseCode:
    """Return the code that answers the payload of a close frame: its own, unless it must not be in one (RFC 6455, section 7.4)."""
    code = int.from_bytes(close[:2])
    if not close:
        return WSCloseCode.OK
    if code in _CLOSE_CODES or 3000 <= code < 5000:
        return cast(WSCloseCode, code)
    return WSCloseCode.PROTOCOL_ERROR


class Sockets:
    """The sockets that are open, and what each may do."""

    def __init__(self, settings: Settings) -> None:
        """Apply the limits of the settings."""
        self.message_size = settings.message_size
        self.per_second = settings.messages_per_second
        self.burst = BURST * settings.messages_per_second
        self.send_buffer = settings.send_buffer
        self.places = Places(settings.sockets_per_address, settings.concurrent_limit)
        self.open: set[WebSocket] = set()
        self.messages = 0
        """Messages that were received, since the start."""
        self.too_fast = 0
        """Sockets that were closed because they said too much, since the start."""
        self.too_slow = 0
        """Sockets that were hung up on because they did not read what was sent to them."""
        self.dropped = 0
        """Messages of others that a client did not get, because much waited for it already."""
        self.failed = 0
        """Sockets that were closed because a message could not be read."""


class Wire:
    """What picows gets for a transport, and for the transport's socket.

    It likes to know and to log much about a socket when it gets one, for which uvloop makes more than ten system calls.
    And it would send the answer to the handshake alone, when a first message is about to follow.
    """

    __slots__ = ("_answer", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Be between picows and the loop's transport."""
        self._transport = transport
        self._answer: bytes | None = None

    @property
    def write(self) -> Callable[[bytes], None]:
        """How to write. picows asks for it once to keep it, and once to answer the handshake."""
        return self._transport.write if self._answer is None else self._hold

    @property
    def get_write_buffer_size(self) -> Callable[[], int]:
        """How to learn how many bytes wait."""
        return self._transport.get_write_buffer_size

    def writelines(self, data: Iterable[bytes]) -> None:
        """Write several pieces."""
        # Not as several: asyncio of Python 3.12.8 and 3.13.1 forgets to say then that too much waits.
        self._transport.write(b"".join(data))

    def close(self) -> None:
        """Hang up, when everything is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def get_extra_info(self, name: str) -> Any:
        """Return what picows needs to know."""
        if name == "socket":
            return self
        return self._transport.get_extra_info(name) if name == "ssl_object" else None

    def fileno(self) -> int:
        """Return the socket's number."""
        return int(self._transport.get_extra_info("socket").fileno())

    def setsockopt(self, *option: int) -> None:
        """Do nothing: the loop has set TCP_NODELAY already."""

    def getsockopt(self, *option: int) -> int:
        """Return anything: it is for a log that nobody writes."""
        return 0

    def hold_answer(self) -> None:
        """Do not send what is written next, but with `answer`."""
        self._answer = b""

    def answer(self, more: bytes) -> None:
        """Send what was held, and more."""
        held, self._answer = self._answer or b"", None
        self._transport.write(held + more)

    def limit_buffer(self, size: int) -> None:
        """Have the protocol told when more bytes wait."""
        self._transport.set_write_buffer_limits(high=size)

    def _hold(self, data: bytes) -> None:
        self._answer = bytes(data)


class _First:
    """Takes what is sent while a socket opens, in the place of picows' transport."""

    __slots__ = ("farewell", "frames")

    def __init__(self) -> None:
        self.frames = b""
        self.farewell: tuple[WSCloseCode, bytes] | None = None

    def send(self, kind: WSMsgType, message: bytes) -> None:
        size = len(message)
        length = (
            bytes((size,))
            if size < 126
            else b"\x7e" + size.to_bytes(2)
            if size < 65536
            else b"\x7f" + size.to_bytes(8)
        )
        self.frames += bytes((0x80 | kind.value,)) + length + message

    def send_pong(self, message: bytes) -> None:
        self.send(WSMsgType.PONG, message)

    def send_close(self, code: WSCloseCode, reason: bytes) -> None:
        self.farewell = code, reason

    def disconnect(self, graceful: bool = True) -> None:
        pass


class WebSocket(WSListener):
    """A socket to those who speak over it, and what picows tells of its connection."""

    __slots__ = (
        "_credit",
        "_ended",
        "_fragments",
        "_household",
        "_listener",
        "_loop",
        "_proven",
        "_refilled",
        "_sockets",
        "_timer",
        "_transport",
    )

    def __init__(self, listener: Listener, household: str, sockets: Sockets) -> None:
        """Speak for `listener`. The place of `household` that was taken for this socket is given back at its end."""
        self._listener: Listener | None = listener
        self._household = household
        self._proven = False
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._transport: WSTransport | _First | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fragments: bytearray | None = None
        self._credit = sockets.burst
        self._refilled = self._loop.time()
        self._ended = False

    @property
    def began(self) -> bool:
        """Whether the handshake was answered."""
        return self._transport is not None or self._ended

    def send(self, message: bytes) -> None:
        """Send a text message, as `sockets.Socket` says."""
        if not self._ended and self._transport is not None:
            self._transport.send(_TEXT, message)

    def relay(self, message: bytes) -> None:
        """Send what another client says, as `sockets.Socket` says."""
        transport = self._transport
        if transport is None or self._ended:
            return
        waiting = (
            len(transport.frames)
            if isinstance(transport, _First)
            else transport.underlying_transport.get_write_buffer_size()
        )
        # Also where nothing waits: what is longer than all that may wait would end this socket by itself.
        if waiting + len(message) > self._sockets.send_buffer // 2:
            self._sockets.dropped += 1
            return
        transport.send(_TEXT, message)

    def prove(self) -> bool:
        """Count the client as proven, as `sockets.Socket` says."""
        self._proven = self._sockets.places.prove(self._household)
        return self._proven

    def close(self, code: Close, reason: str = "") -> None:
        """Close, as `sockets.Socket` says."""
        self._close(cast(WSCloseCode, code), reason)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        # picows keeps the request for those who like to look at it.
        transport.request.headers = _NO_HEADERS
        wire = cast(Wire, transport.underlying_transport)
        wire.limit_buffer(self._sockets.send_buffer)
        self._sockets.open.add(self)
        self._transport = first = _First()
        try:
            if self._listener is not None:
                self._listener.opened(self)
        finally:
            self._transport = transport
            wire.answer(first.frames)
        if first.farewell is not None:
            transport.send_close(*first.farewell)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hand a message to the listener."""
        sockets = self._sockets
        if self._ended or self._listener is None:
            if frame.msg_type is _CLOSE:
                transport.disconnect()
            return
        self._credit -= 1 + frame.payload_size // COST_BYTES
        if self._credit < 0 and not self._refill():
            sockets.too_fast += 1
            self.close(Close.TRY_LATER, "too many messages")
            return
        if frame.payload_size > sockets.message_size:
            # picows has sent 1009 by now, but hands the frame out all the same when the rest of it arrives at once.
            self.close(Close.TOO_BIG)
            return
        if (
            frame.msg_type is _TEXT
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and self._fragments is None
        ):
            message = frame.get_payload_as_bytes()
        elif (whole := self._rarely(frame)) is not None:
            message = whole
        else:
            return
        sockets.messages += 1
        try:
            self._listener.received(message)
        except Exception as error:  # noqa: BLE001
            # Its text may hold what the message does.
            sockets.failed += 1
            _LOGGER.debug("A message could not be read: %s", type(error).__name__)
            self.close(Close.UNREADABLE)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._sockets.open.discard(self)
        self._sockets.places.leave(self._household, proven=self._proven)
        self._end()

    def pause_writing(self) -> None:
        """Hang up: more waits to be sent than may."""
        self._sockets.too_slow += 1
        self._ended = True
        self.hang_up()

    def resume_writing(self) -> None:
        """Do nothing: what was paused is hung up on."""

    def _rarely(self, frame: WSFrame) -> bytes | None:
        """Take what is not a text message in one frame. Return a message if this completes one."""
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._close(WSCloseCode.PROTOCOL_ERROR, "no extension was agreed on")
        elif kind is _PING:
            if self._transport is not None:
                self._transport.send_pong(frame.get_payload_as_bytes())
        elif kind is _CLOSE:
            self._close(_answer_to(frame.get_payload_as_bytes()), "")
            if self._transport is not None:
                self._transport.disconnect()
        elif kind in (_TEXT, _BINARY, _CONTINUATION):
            return self._assemble(frame)
        return None

    def _assemble(self, frame: WSFrame) -> bytes | None:
        if (frame.msg_type is _CONTINUATION) != (self._fragments is not None):
            self._close(WSCloseCode.PROTOCOL_ERROR, "a message is not in order")
            return None
        if self._fragments is None and frame.fin:
            return frame.get_payload_as_bytes()
        if self._fragments is None:
            self._fragments = bytearray()
        if len(self._fragments) + frame.payload_size > self._sockets.message_size:
            self.close(Close.TOO_BIG)
            return None
        self._fragments += frame.get_payload_as_bytes()
        if not frame.fin:
            return None
        message, self._fragments = bytes(self._fragments), None
        return message

    def _refill(self) -> bool:
        """Add what time brought to the credit. Looking at the clock only now makes the most at once twice the burst."""
        now = self._loop.time()
        self._credit += min(
            self._sockets.burst, (now - self._refilled) * self._sockets.per_second
        )
        self._refilled = now
        return self._credit >= 0

    def _close(self, code: WSCloseCode, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        self._fragments = None
        if self._transport is not None:
            self._transport.send_close(code, reason.encode())
            # Hanging up while something of the client's is unread would take the close frame back with a reset.
            self._timer = self._loop.call_later(CLOSE_PATIENCE, self.hang_up)
        # Not from within whatever the listener is doing.
        self._loop.call_soon(self._end)

    def hang_up(self) -> None:
        """Cut the connection, without a close frame."""
        if self._transport is not None:
            self._transport.disconnect(False)

    def _end(self) -> None:
        self._ended = True
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.closed()


def open_websocket(
    transport: asyncio.Transport,
    key: str,
    rest: bytes,
    listener: Listener,
    household: str,
    sockets: Sockets,
) -> None:
    """Answer a handshake with this key on a connection, and let `listener` speak over it.

    `rest` is what the client sent after the handshake. The place that `household` took is given back when the socket ends.
    """
    opened = WebSocket(listener, household, sockets)
    answered = WSUpgradeResponseWithListener(cast(Any, _Switching()), opened)
    protocol = WSProtocol(
        None, None, False, lambda _: answered, _QUIET, True, None,  # client's side, time-out of the handshake
        False, 0, 0, WSAutoPingStrategy.PING_WHEN_IDLE, False,  # pings and pongs of its own accord
        sockets.message_size, None, 0,
    )  # fmt: skip
    transport.set_protocol(protocol)
    wire = Wire(transport)
    protocol.connection_made(wire)
    wire.hold_answer()
    _feed(protocol, _UPGRADE % key.encode() + rest)
    if not opened.began:
        # picows did not accept what was fed to it, and reports that to nobody.
        wire.abort()
        sockets.places.leave(household)


_UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)
"""The part of a request that picows needs. It rejects some headers that browsers send."""


class _Switching:
    """The answer to a handshake: the part of it that picows uses."""

    __slots__ = ("headers",)

    status = HTTPStatus.SWITCHING_PROTOCOLS

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def to_bytes(self) -> bytearray:
        return bytearray(_SWITCHING % self.headers["Sec-WebSocket-Accept"].encode())


_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)


def _feed(protocol: Any, data: bytes) -> None:
    """Hand bytes to picows as if they had just been read."""
    at = 0
    while at < len(data):
        buffer = protocol.get_buffer(-1)
        size = min(len(buffer), len(data) - at)
        buffer[:size] = data[at : at + size]
        protocol.buffer_updated(size)
        at += size


class _Quiet:
    """The log that picows gets. In its own it would write addresses and what clients send."""

    def isEnabledFor(self, level: int) -> bool:
        return False

    def debug(self, *args: object) -> None:
        pass

    info = warning = error = exception = log = debug


_QUIET: Final = _Quiet()
