"""WebSockets (RFC 6455) with their limits.

Only this module uses picows. The version is pinned exactly, because the module uses an internal class: the public server of
picows reads the heads of requests itself, so it cannot share a port with aiohttp.
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

CLOSE_TIMEOUT: Final = 3.0
"""How long to wait for the answer to a close frame, in seconds. A client that answers has read the reason."""
BURST: Final = 10
"""Seconds' worth of messages that a socket may send at once."""
COST_BYTES: Final = 4096
"""Bytes of a message that count as another message."""

# Looking them up for every message would cost time.
_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_PING: Final = WSMsgType.PING
_CLOSE: Final = WSMsgType.CLOSE

_CLOSE_CODES: Final = frozenset((*range(1000, 1004), *range(1007, 1015)))
"""The registered codes that are allowed in a close frame."""
_NO_HEADERS: Final[CIMultiDict[str]] = CIMultiDict()

_LOGGER = logging.getLogger(__name__)


def _answer_to(close: bytes) -> WSCloseCode:
    """Return the code for the answer to a close frame: the same, if it is allowed (RFC 6455, section 7.4)."""
    code = int.from_bytes(close[:2])
    if not close:
        return WSCloseCode.OK
    if code in _CLOSE_CODES or 3000 <= code < 5000:
        return cast(WSCloseCode, code)
    return WSCloseCode.PROTOCOL_ERROR


class Sockets:
    """The open sockets and their limits."""

    def __init__(self, settings: Settings) -> None:
        """Apply the limits of the settings."""
        self.message_size = settings.message_size
        self.per_second = settings.messages_per_second
        self.burst = BURST * settings.messages_per_second
        self.send_buffer = settings.send_buffer
        self.places = Places(settings.sockets_per_address, settings.concurrent_limit)
        self.open: set[WebSocket] = set()
        self.messages = 0
        """Received messages, since the start."""
        self.too_fast = 0
        """Sockets that were closed because their clients sent too many messages."""
        self.too_slow = 0
        """Sockets that were closed because their clients read too slowly."""
        self.dropped = 0
        """Messages that were not relayed because too much was waiting for the client."""
        self.failed = 0
        """Sockets that were closed because a message was invalid."""


class Wire:
    """The transport that picows gets, and its socket.

    It saves system calls: picows would read many properties of the socket to log them, and would send the answer to the
    handshake separately from the first message.
    """

    __slots__ = ("_answer", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Wrap the transport of the loop."""
        self._transport = transport
        self._answer: bytes | None = None

    @property
    def write(self) -> Callable[[bytes], None]:
        """Write bytes. picows gets this property once to keep it, and once to answer the handshake."""
        return self._transport.write if self._answer is None else self._hold

    @property
    def get_write_buffer_size(self) -> Callable[[], int]:
        """Return how many bytes wait."""
        return self._transport.get_write_buffer_size

    def writelines(self, data: Iterable[bytes]) -> None:
        """Write several parts."""
        # asyncio of Python 3.12.8 and 3.13.1 does not call `pause_writing` after `writelines`.
        self._transport.write(b"".join(data))

    def close(self) -> None:
        """Close, after pending data is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def get_extra_info(self, name: str) -> Any:
        """Return the properties that picows needs."""
        if name == "socket":
            return self
        return self._transport.get_extra_info(name) if name == "ssl_object" else None

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return int(self._transport.get_extra_info("socket").fileno())

    def setsockopt(self, *option: int) -> None:
        """Do nothing. The loop has already set TCP_NODELAY."""

    def getsockopt(self, *option: int) -> int:
        """Return any value. It is only for the log, which is off."""
        return 0

    def hold_answer(self) -> None:
        """Keep what is written next, until `answer`."""
        self._answer = b""

    def answer(self, more: bytes) -> None:
        """Send what was kept, and `more`."""
        held, self._answer = self._answer or b"", None
        self._transport.write(held + more)

    def limit_buffer(self, size: int) -> None:
        """Call `pause_writing` of the protocol when more bytes wait."""
        self._transport.set_write_buffer_limits(high=size)

    def _hold(self, data: bytes) -> None:
        self._answer = bytes(data)


class _First:
    """Collects what is sent while a socket opens, instead of picows' transport."""

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
    """The `Socket` of a listener, and the listener of picows."""

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
        """Call `listener`. At the end, this socket is no longer counted for `household`."""
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
        """Send a message, as `Socket.send` says."""
        if not self._ended and self._transport is not None:
            self._transport.send(_TEXT, message)

    def relay(self, message: bytes) -> None:
        """Send a message of another client, as `Socket.relay` says."""
        transport = self._transport
        if transport is None or self._ended:
            return
        waiting = (
            len(transport.frames)
            if isinstance(transport, _First)
            else transport.underlying_transport.get_write_buffer_size()
        )
        # Even if nothing waits: a message that exceeds the buffer would close this socket.
        if waiting + len(message) > self._sockets.send_buffer // 2:
            self._sockets.dropped += 1
            return
        transport.send(_TEXT, message)

    def prove(self) -> bool:
        """Count the client as proven, as `Socket.prove` says."""
        self._proven = self._sockets.places.prove(self._household)
        return self._proven

    def close(self, code: Close, reason: str = "") -> None:
        """Close, as `Socket.close` says."""
        self._close(cast(WSCloseCode, code), reason)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Open the socket."""
        # picows would keep the request in memory.
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
        """Pass a message to the listener."""
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
            # picows has already sent 1009, but passes the frame on if all of it has arrived.
            self.close(Close.TOO_BIG)
            return
        if (
            frame.msg_type is _TEXT
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and self._fragments is None
        ):
            message = frame.get_payload_as_bytes()
        elif (whole := self._receive_other(frame)) is not None:
            message = whole
        else:
            return
        sockets.messages += 1
        try:
            self._listener.received(message)
        except Exception as error:  # noqa: BLE001
            # The text of the error may contain parts of the message.
            sockets.failed += 1
            _LOGGER.debug("A message is invalid: %s", type(error).__name__)
            self.close(Close.UNREADABLE)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Clean up after the connection."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._sockets.open.discard(self)
        self._sockets.places.leave(self._household, proven=self._proven)
        self._end()

    def pause_writing(self) -> None:
        """Disconnect: too much is waiting for the client."""
        self._sockets.too_slow += 1
        self._ended = True
        self.hang_up()

    def resume_writing(self) -> None:
        """Do nothing. `pause_writing` disconnects."""

    def _receive_other(self, frame: WSFrame) -> bytes | None:
        """Process a frame that is not a whole text message. Return the message that it completes, if any."""
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._close(WSCloseCode.PROTOCOL_ERROR, "no extension was negotiated")
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
            self._close(WSCloseCode.PROTOCOL_ERROR, "a fragment is out of order")
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
        """Add credit for the time that passed. Doing this only when the credit is used up allows at most twice the burst."""
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
            # Closing with unread data would send a reset, and the client might not see the close frame.
            self._timer = self._loop.call_later(CLOSE_TIMEOUT, self.hang_up)
        # Later, because the listener may be in the middle of something.
        self._loop.call_soon(self._end)

    def hang_up(self) -> None:
        """Close the connection without a close frame."""
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
    """Answer the handshake of a connection, and connect `listener` to the socket.

    `key` is its Sec-WebSocket-Key, and `rest` what the client sent after the handshake. The connection is already counted for
    `household`.
    """
    opened = WebSocket(listener, household, sockets)
    answered = WSUpgradeResponseWithListener(cast(Any, _Switching()), opened)
    protocol = WSProtocol(
        None, None, False, lambda _: answered, _QUIET, True, None,  # role, time-out of the handshake
        False, 0, 0, WSAutoPingStrategy.PING_WHEN_IDLE, False,  # no automatic pings and pongs
        sockets.message_size, None, 0,
    )  # fmt: skip
    transport.set_protocol(protocol)
    wire = Wire(transport)
    protocol.connection_made(wire)
    wire.hold_answer()
    _feed(protocol, _UPGRADE % key.encode() + rest)
    if not opened.began:
        # picows rejected the handshake, without reporting it.
        wire.abort()
        sockets.places.leave(household)


_UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)
"""The fields that picows needs. It rejects some others that browsers send."""


class _Switching:
    """The answer to a handshake, as far as picows uses it."""

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
    """Pass bytes to picows as if they were read from the connection."""
    at = 0
    while at < len(data):
        buffer = protocol.get_buffer(-1)
        size = min(len(buffer), len(data) - at)
        buffer[:size] = data[at : at + size]
        protocol.buffer_updated(size)
        at += size


class _Quiet:
    """The logger for picows, which would log addresses and messages. picows makes a child of a real logger for each socket."""

    def isEnabledFor(self, level: int) -> bool:
        return False

    def debug(self, *args: object) -> None:
        pass

    info = warning = error = exception = log = debug


_QUIET: Final = _Quiet()
