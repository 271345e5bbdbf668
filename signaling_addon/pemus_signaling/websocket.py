"""A WebSocket (RFC 6455) as picows speaks it, with the limits that all parts of the program share."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, cast

from multidict import CIMultiDict
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from .limits import Places
from .sockets import Close, Listener

CLOSE_PATIENCE: Final = 3.0
"""Seconds that a client has to answer a close frame. One that has answered has also read why it was closed."""
COST_BYTES: Final = 4096
"""Bytes of a message that count as one message more."""

# Looked up once: these are asked for with every message.
_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_PING: Final = WSMsgType.PING
_CLOSE: Final = WSMsgType.CLOSE

_NO_HEADERS: Final[CIMultiDict[str]] = CIMultiDict()

_LOGGER = logging.getLogger(__name__)


class Sockets:
    """The sockets that are open, and what each may do."""

    def __init__(
        self,
        *,
        message_size: int,
        per_second: float,
        burst: float,
        send_buffer: int,
        per_address: int,
    ) -> None:
        """Take messages of so many bytes, so many per second in the long run, and `burst` of them at once."""
        self.message_size = message_size
        self.per_second = per_second
        self.burst = burst
        self.send_buffer = send_buffer
        self.places = Places(per_address)
        self.open: set[WebSocket] = set()
        self.messages = 0
        """Messages that were received, since the start."""
        self.too_fast = 0
        """Sockets that were closed because they said too much, since the start."""
        self.too_slow = 0
        """Sockets that were hung up on because they did not read what was sent to them."""
        self.failed = 0
        """Sockets that were closed because a message could not be read."""


class WebSocket(WSListener):
    """A socket to those who speak over it, and what picows tells of its connection."""

    __slots__ = (
        "_credit",
        "_ended",
        "_fragments",
        "_household",
        "_listener",
        "_loop",
        "_refilled",
        "_sockets",
        "_timer",
        "_transport",
    )

    def __init__(self, listener: Listener, household: str, sockets: Sockets) -> None:
        """Speak for `listener`. The place of `household` that was taken for this socket is given back at its end."""
        self._listener: Listener | None = listener
        self._household = household
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._transport: WSTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fragments: bytearray | None = None
        self._credit = sockets.burst
        self._refilled = self._loop.time()
        self._ended = False

    def send(self, message: bytes) -> None:
        """Send a text message, as `sockets.Socket` says."""
        if not self._ended and self._transport is not None:
            self._transport.send(_TEXT, message)

    def close(self, code: Close, reason: str = "") -> None:
        """Close, as `sockets.Socket` says."""
        self._close(cast(WSCloseCode, code), reason)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        self._transport = transport
        # picows keeps the request and its answer for those who like to look at them.
        transport.request.headers = transport.response.headers = _NO_HEADERS
        transport.underlying_transport.set_write_buffer_limits(
            high=self._sockets.send_buffer
        )
        self._sockets.open.add(self)
        if self._listener is not None:
            self._listener.opened(self)

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
        if (
            frame.msg_type is _TEXT
            and frame.fin
            and not frame.rsv1
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
            _LOGGER.info("A message could not be read: %s", type(error).__name__)
            self.close(Close.UNREADABLE)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._sockets.open.discard(self)
        self._sockets.places.leave(self._household)
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
            self._close(WSCloseCode.OK, "")
            if self._transport is not None:
                self._transport.disconnect()
        elif kind in (_TEXT, _BINARY, _CONTINUATION):
            return self._assemble(frame)
        return None

    def _assemble(self, frame: WSFrame) -> bytes | None:
        if (frame.msg_type is _CONTINUATION) != (self._fragments is not None):
            self._close(WSCloseCode.PROTOCOL_ERROR, "a message is not in order")
            return None
        payload = frame.get_payload_as_bytes()
        if self._fragments is None and frame.fin:
            return payload
        if self._fragments is None:
            self._fragments = bytearray()
        self._fragments += payload
        if len(self._fragments) > self._sockets.message_size:
            self._fragments = None
            self.close(Close.TOO_BIG)
            return None
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
