"""One WebSocket to a signalling server, from opening to closing.

The protocol is PeerServer's, with proofs of identity if the server supports them (docs/protocol.md). All messages of the
server are checked, and their rate is limited so that nothing else in the process is delayed by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
import logging
import re
import secrets
import socket
from typing import Any, Final, NoReturn

from aiohttp import ClientError, ClientWebSocketResponse, WSMessage, WSMsgType
import orjson

from ...core.throttle import TokenBucket
from ...models.pemus_id import read_id
from ..identity import Identity
from ..messages import from_base64url, to_base64url
from .turn import is_public, validity

MAX_MESSAGE: Final = 64 * 1024
"""Bytes of a message that this home sends."""
MAX_RECEIVED: Final = MAX_MESSAGE + 1024
"""Characters of a message that is handled: the server adds the sender. A longer one is ignored."""
MAX_READ: Final = 1024 * 1024 + MAX_RECEIVED
"""Bytes of a message that is read at all. A longer one ends the session, so this is more than others can make the
project's own server forward."""
MAX_QUEUED: Final = 64
"""Messages that may wait to be sent."""

OPEN_TIMEOUT: Final = 15.0
"""Seconds for the server to confirm this home's ID. Proving it may take ten of them."""
HEARTBEAT_INTERVAL: Final = 5.0
"""Seconds between two heartbeats."""
FIRST_HEARTBEAT_DELAY: Final = 2.0
"""Seconds until the first one."""
PING_DELAY: Final = 9.0
"""Seconds without a message after which the server is pinged."""
SILENCE_TIMEOUT: Final = 25.0
"""Seconds without a message after which the connection is dead."""
PROBE_TIMEOUT: Final = 3.0
"""The same, when there is a reason to doubt the connection."""
SEND_TIMEOUT: Final = 15.0
"""Seconds to send a message in."""
CLOSE_TIMEOUT: Final = 1.0
"""Seconds to close the WebSocket in."""
RENEW_INTERVAL: Final = 60.0
"""Seconds between two requests for a session token."""
MAX_PAUSE: Final = 600.0
"""The longest pause before the next attempt that a server may ask for, in seconds."""

RECEIVE_RATE: Final = 100.0
"""Messages per second that are received, on average."""
RECEIVE_BURST: Final = 200.0
"""Messages that are received at once, after a pause. Each 4 KiB of a message count as one more."""
SEND_RATE: Final = 25.0
"""Messages per second that are sent, on average."""
SEND_BURST: Final = 100.0
"""Messages that are sent at once, after a pause. Both limits are half of what the project's own server allows, or less."""

_PIECE: Final = 4096
_NONCE: Final = 32
_DOMAIN: Final = b"pemus signalling 1"
_MAX_SHOWN: Final = 200
_GUEST: Final = re.compile(r"guest-[0-9a-f]{24}")
"""How the page for guests calls itself."""
_SESSION: Final = re.compile(r"[!-~]{1,4096}")
_SECONDS: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
_GOING_AWAY: Final = 1001
_SUPERSEDED: Final = 4001
_REASONS: Final = {
    _GOING_AWAY: "The server is stopping or restarting.",
    1008: "The server rejects this home.",
    1009: "A message was too big for the server.",
    1013: "The server is overloaded, or this home sent too much.",
    _SUPERSEDED: "Another client uses this home's ID at the server.",
    4002: "The server heard nothing from this home for too long.",
    4004: "The server rejected this home's proof of identity.",
}

_BROKEN: Final = "The connection to the server broke."

_LOGGER = logging.getLogger(__name__)


class Ended(Exception):
    """The session is over. The message says why, in plain English."""

    def __init__(
        self, message: str, *, pause: float = 0.0, superseded: bool = False
    ) -> None:
        """`pause`: the seconds that the server wants this home to wait."""
        super().__init__(message)
        self.pause = pause
        self.superseded = superseded
        """Whether another client has proven this home's identity."""


class SignalingSession:
    """One WebSocket to a server."""

    def __init__(
        self,
        ws: ClientWebSocketResponse,
        identity: Identity,
        origin: str,
        *,
        knocks: bool,
        on_open: Callable[[], None],
        on_message: Callable[[str, dict[str, Any]], None],
        on_guest: Callable[[str, dict[str, Any]], None],
        on_missing: Callable[[str], None],
    ) -> None:
        """Use a WebSocket to an origin such as `https://signal.example`.

        `on_open` is called when the server has confirmed this home's ID, `on_message` with a message and the ID of the home
        that sent it, `on_guest` with that of a guest, `on_missing` with a home that a message could not be delivered to. None of them may raise an error.
        `knocks`: find out without the server's confirmation that the ID is this home's, because PeerServer does not always
        confirm it.
        """
        self.is_open = False
        """Whether the server has confirmed this home's ID."""
        self.is_proven = False
        """Whether the server has asked for a proof of identity, and accepted it."""
        self.session: str | None = None
        """The token that proves this home's identity to the server's other services."""
        self._ws = ws
        place = ws.get_extra_info("peername")
        self.is_public = bool(place) and is_public(str(place[0]))
        """Whether the server is on the public internet."""
        self._socket: socket.socket | None = ws.get_extra_info("socket")
        self._identity = identity
        self._origin = origin
        self._on_open = on_open
        self._on_message = on_message
        self._on_guest = on_guest
        self._on_missing = on_missing
        self._now = asyncio.get_running_loop().time
        self._heard = self._now()
        self._timeout: asyncio.Timeout | None = None
        self._timeout_reason = "The server did not answer in time."
        self._outgoing: asyncio.Queue[str | None] = asyncio.Queue(MAX_QUEUED)
        self._pace = TokenBucket(SEND_RATE, SEND_BURST, self._now)
        self._challenged = False
        self._knock = secrets.token_hex(8) if knocks else None
        self._renewed = asyncio.Event()
        self._renew_at = float("inf")

    async def run(self) -> NoReturn:
        """Send and receive until the session is over. Always raises Ended, unless it is cancelled."""
        sending = asyncio.create_task(self._send_queued(), name="signalling, sending")
        try:
            async with asyncio.timeout(OPEN_TIMEOUT) as self._timeout:
                await self._receive()
        except TimeoutError:
            raise Ended(self._timeout_reason) from None
        except (ClientError, OSError):
            raise Ended(_BROKEN) from None
        finally:
            self.is_open = False
            self._timeout = None
            sending.cancel()
            try:
                await asyncio.gather(sending, return_exceptions=True)
            finally:
                await close_socket(self._ws, self._socket)

    def send(self, home: str, payload: dict[str, Any], *, reply: bool) -> bool:
        """Send a message to a home. Return whether it will be sent. Raises TypeError if it cannot be JSON."""
        kind = "ANSWER" if reply else "OFFER"
        text = orjson.dumps({"type": kind, "dst": home, "payload": payload})
        if not self.is_open or len(text) > MAX_MESSAGE:
            return False
        return self._enqueue(text)

    def probe(self) -> None:
        """Check soon whether the connection still works."""
        if self.is_open and not self._ws.closed:
            self._expect(PROBE_TIMEOUT)
            self._enqueue(None)

    async def renew_session(self) -> None:
        """Replace a session token that is not accepted any more. Waits for ever if the server gives none."""
        self._renewed.clear()
        self._ask_for_session()
        await self._renewed.wait()

    async def _receive(self) -> NoReturn:
        pace = TokenBucket(RECEIVE_RATE, RECEIVE_BURST, self._now)
        while True:
            message = await self._ws.receive()
            self._heard = self._now()
            size = 0
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                size = len(message.data)
                self._handle(message.data)
            elif message.type is WSMsgType.PING:
                await self._ws.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                raise self._end(message)
            if self.is_open:
                self._expect(SILENCE_TIMEOUT)
            # Other tasks get their turn after each message. Messages that are not received yet fill the buffers, and the
            # server has to stop sending.
            await asyncio.sleep(pace.spend(1 + size // _PIECE))

    async def _send_queued(self) -> None:
        beat = self._now() + FIRST_HEARTBEAT_DELAY
        try:
            while True:
                if self._now() >= beat:
                    beat = self._now() + HEARTBEAT_INTERVAL
                    await self._beat()
                try:
                    async with asyncio.timeout_at(beat):
                        text = await self._outgoing.get()
                except TimeoutError:
                    continue
                await self._write(text)
        except (ClientError, OSError) as err:
            # The receiving task may not notice: a server may send without reading.
            _LOGGER.debug(
                "Nothing can be sent to a signalling server any more: %r", err
            )
            self._timeout_reason = _BROKEN
            self._expect(0)
        except Exception:
            _LOGGER.exception("Sending to a signalling server failed")
            self._expect(0)

    async def _beat(self) -> None:
        """Send a heartbeat, and what else is due. Raises ClientError and OSError."""
        await self._write('{"type":"HEARTBEAT"}')
        if self._now() - self._heard > PING_DELAY:
            await self._write(None)
        if self._now() >= self._renew_at:
            self._ask_for_session()
        if self._knock is not None and not self.is_open and not self._challenged:
            # PeerServer gives an ID to the same client again without confirming it. A message to that ID arrives here then.
            payload = {"knock": self._knock}
            said = {"type": "CANDIDATE", "dst": self._identity.id, "payload": payload}
            await self._write(orjson.dumps(said).decode())

    async def _write(self, text: str | None) -> None:
        """Send a message, or a ping for None. Raises ClientError and OSError."""
        async with asyncio.timeout(SEND_TIMEOUT):
            if text is None:
                await self._ws.ping()
            else:
                await self._ws.send_str(text)
        await asyncio.sleep(self._pace.spend(1 + len(text or "") // _PIECE))

    def _handle(self, data: str | bytes) -> None:
        """Handle a message, or ignore it if it is not one."""
        if len(data) > MAX_RECEIVED:
            return
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if not isinstance(message, dict):
            return
        payload = message.get("payload")
        match message.get("type"):
            case "OFFER" | "ANSWER" | "CANDIDATE" if isinstance(payload, dict):
                self._handle_signal(message.get("src"), payload)
            case "EXPIRE" if self.is_open and (home := as_home(message.get("src"))):
                self._on_missing(home)
            case "OPEN":
                self._opened(payload)
            case "SESSION" if self.is_proven:
                self._take_session(payload)
            case "CHALLENGE" if not self._challenged and not self.is_open:
                self._prove(payload)
            case "ID-TAKEN" if not self.is_open:
                raise Ended(
                    "Another client has this home's ID at the server, or the server has not noticed yet that a former"
                    " connection is gone."
                )
            case "ERROR" if not self.is_open:
                said = payload.get("msg") if isinstance(payload, dict) else None
                raise Ended(f"The server rejects this home: {shown(said)}")

    def _handle_signal(self, sender: object, payload: dict[str, Any]) -> None:
        """Handle a message that comes from somebody else, according to the server."""
        if sender == self._identity.id:
            if self._knock is not None and payload.get("knock") == self._knock:
                self._opened(None)
        elif self.is_open and (home := as_home(sender)):
            self._on_message(home, payload)
        elif self.is_open and isinstance(sender, str) and _GUEST.fullmatch(sender):
            self._on_guest(sender, payload)

    def _opened(self, payload: object) -> None:
        if self.is_open:
            return
        self.is_open = True
        self.is_proven = self._challenged
        if self.is_proven:
            self._take_session(payload)
        self._timeout_reason = "The server has been silent for too long."
        self._expect(SILENCE_TIMEOUT)
        self._on_open()

    def _prove(self, challenge: object) -> None:
        """Sign the server's challenge for the origin that this home has connected to. Raises Ended."""
        self._challenged = True
        told = challenge if isinstance(challenge, dict) else {}
        nonce, origin = told.get("nonce"), told.get("origin")
        if origin != self._origin:
            raise Ended(
                f"The server's address is {shown(origin) or 'unknown'} by its own account, but it was reached at"
                f" {self._origin}. Either its operator has to configure this address, or somebody is in between."
            )
        try:
            signed = from_base64url(nonce) if isinstance(nonce, str) else b""
        except ValueError:
            signed = b""
        if len(signed) != _NONCE:
            raise Ended("The server asks for a proof of identity in an unknown way.")
        identity = self._identity
        signature = identity.private.sign(proof(self._origin, signed, identity.id))
        proven = {
            "key": to_base64url(identity.key),
            "signature": to_base64url(signature),
        }
        self._enqueue(orjson.dumps({"type": "PROVE", "payload": proven}))

    def _take_session(self, payload: object) -> None:
        session = payload.get("session") if isinstance(payload, dict) else None
        if not isinstance(payload, dict) or not isinstance(session, str):
            return
        if _SESSION.fullmatch(session):
            self.session = session
            self._renew_at = self._now() + validity(payload.get("expires")) / 2
            self._renewed.set()

    def _ask_for_session(self) -> None:
        self._renew_at = self._now() + RENEW_INTERVAL
        self._enqueue(b'{"type":"SESSION"}')

    def _enqueue(self, text: bytes | None) -> bool:
        with suppress(asyncio.QueueFull):
            self._outgoing.put_nowait(None if text is None else text.decode())
            return True
        return False

    def _expect(self, within: float) -> None:
        """End the session unless a message arrives within so many seconds."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._now() + within)

    def _end(self, last: WSMessage) -> Ended:
        """Return how the session ended, judging by the last message."""
        if last.type is WSMsgType.ERROR:
            return Ended("The server sent something invalid.")
        if last.type is not WSMsgType.CLOSE:
            return Ended(_BROKEN)
        code, reason = last.data, last.extra
        if code == _SUPERSEDED and self.is_proven:
            return Ended(_REASONS[code], superseded=True)
        pause = 0.0
        if code == _GOING_AWAY and (found := _SECONDS.fullmatch(str(reason))):
            pause = min(float(found[0]), MAX_PAUSE)
        return Ended(
            _REASONS.get(code, "The server closed the connection."), pause=pause
        )


def proof(origin: str, nonce: bytes, home: str) -> bytes:
    """Return what this home signs to prove its ID to the server at an origin."""
    parts = (_DOMAIN, origin.encode(), nonce, home.encode())
    return b"".join(len(part).to_bytes(2) + part for part in parts)


def as_home(sender: object) -> str | None:
    """Return a sender's ID at a server if it is a PeMuS ID in the form that programs use, else None."""
    return sender if isinstance(sender, str) and read_id(sender) == sender else None


def shown(text: object) -> str:
    """Return a server's text as it may be displayed, empty for anything else than text."""
    if not isinstance(text, str):
        return ""
    return "".join(each for each in text[:_MAX_SHOWN] if each.isprintable()).strip()


async def close_socket(
    ws: ClientWebSocketResponse, connection: socket.socket | None
) -> None:
    """Close a WebSocket and its connection, whatever the other end does."""
    try:
        with suppress(ClientError, OSError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await ws.close()
    finally:
        if connection is not None:
            # Unsent data would keep the connection for minutes.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
