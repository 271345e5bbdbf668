"""What this home and a signalling server say to each other over one WebSocket, from the first word to the last.

The protocol is PeerServer's, with proofs of identity if the server knows them (docs/protocol.md). Whatever the server says
is checked, and so much of it is looked at in a second that nothing else in this process has to wait for it.
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
from ..messages import read, written
from .turn import is_public, lasting

MAX_MESSAGE: Final = 64 * 1024
"""Bytes of a message that is sent."""
MAX_HEARD: Final = MAX_MESSAGE + 1024
"""Characters of a message that is looked at: the server has added whom it is from. A longer one is left out."""
MAX_READ: Final = 1024 * 1024 + MAX_HEARD
"""Bytes of a message that is read at all. It ends the conversation if it is longer, so this is more than others can make
the project's own server pass on."""
MAX_WAITING: Final = 64
"""Messages that wait to be sent."""

OPENING: Final = 15.0
"""Seconds until a server has to have said that this home has its id. Proving it takes ten at the most."""
HEARTBEAT: Final = 5.0
"""Seconds between two heartbeats."""
FIRST_HEARTBEAT: Final = 2.0
QUIET: Final = 9.0
"""Seconds without a word from the server after which it is asked for one."""
SILENCE: Final = 25.0
"""Seconds without a word after which the connection counts as dead."""
PROBE: Final = 3.0
"""The same, when there is a reason to doubt it."""
SENDING: Final = 15.0
"""Seconds that a message may take to be sent."""
CLOSING: Final = 1.0
RENEW_AGAIN: Final = 60.0
"""Seconds until a session that did not come is asked for again."""
MAX_PAUSE: Final = 600.0
"""Seconds that a server may ask to be left alone."""

HEARD_PER_SECOND: Final = 100.0
HEARD_AT_ONCE: Final = 200.0
"""Messages that are taken from a server. Each piece of 4 KiB counts as one more."""
SAID_PER_SECOND: Final = 25.0
SAID_AT_ONCE: Final = 100.0
"""Half of what the project's own server puts up with, or less."""

_PIECE: Final = 4096
_NONCE: Final = 32
_DOMAIN: Final = b"pemus signalling 1"
_MAX_SHOWN: Final = 200
_SESSION: Final = re.compile(r"[!-~]{1,4096}")
_SECONDS: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
_GOING_AWAY: Final = 1001
_SUPERSEDED: Final = 4001
_REASONS: Final = {
    _GOING_AWAY: "The server is being stopped or started anew.",
    1008: "The server does not let this home in.",
    1009: "A message was too big for the server.",
    1013: "The server has too much to do, or this home asked too much of it.",
    _SUPERSEDED: "Another client has taken this home's place at the server.",
    4002: "The server heard nothing from this home for too long.",
    4004: "The server did not take the proof of who this home is.",
}

_BROKEN: Final = "The connection to the server broke."

_LOGGER = logging.getLogger(__name__)


class Ended(Exception):
    """The conversation is over. The message says why, in plain English."""

    def __init__(
        self, message: str, *, pause: float = 0.0, superseded: bool = False
    ) -> None:
        """Say why, and for how many seconds the server wants to be left alone."""
        super().__init__(message)
        self.pause = pause
        self.superseded = superseded
        """Whether another client proved to be this home."""


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
        on_missing: Callable[[str], None],
    ) -> None:
        """Speak as this identity over a socket that was opened to this origin, like `https://signal.example`.

        `on_open` is called once this home has its id, `on_message` with what somebody sent who has the id of a home there,
        `on_missing` with a home that was written to and is not there. None of them may raise anything.
        Who `knocks` finds out by itself that it has its id, if the server does not say so: PeerServer does not always.
        """
        self.is_open = False
        """Whether this home has its id."""
        self.is_proven = False
        """Whether the server asked for a proof that the id is this home's, and took it."""
        self.session: str | None = None
        """What the server's other services take for a proof of who this home is."""
        self._ws = ws
        place = ws.get_extra_info("peername")
        self.is_public = bool(place) and is_public(str(place[0]))
        """Whether the server is out on the public internet."""
        self._wire: socket.socket | None = ws.get_extra_info("socket")
        self._identity = identity
        self._origin = origin
        self._on_open = on_open
        self._on_message = on_message
        self._on_missing = on_missing
        self._now = asyncio.get_running_loop().time
        self._heard = self._now()
        self._patience: asyncio.Timeout | None = None
        self._despair = "The server did not answer in time."
        self._outgoing: asyncio.Queue[str | None] = asyncio.Queue(MAX_WAITING)
        self._pace = TokenBucket(SAID_PER_SECOND, SAID_AT_ONCE, self._now)
        self._challenged = False
        self._knock = secrets.token_hex(8) if knocks else None
        self._renewed = asyncio.Event()
        self._renew_at = float("inf")

    async def run(self) -> NoReturn:
        """Speak and listen until it is over. Always raises Ended, unless it is cancelled."""
        speaking = asyncio.create_task(self._speak(), name="signalling, speaking")
        try:
            async with asyncio.timeout(OPENING) as self._patience:
                await self._listen()
        except TimeoutError:
            raise Ended(self._despair) from None
        except (ClientError, OSError):
            raise Ended(_BROKEN) from None
        finally:
            self.is_open = False
            self._patience = None
            speaking.cancel()
            try:
                await asyncio.gather(speaking, return_exceptions=True)
            finally:
                await hang_up(self._ws, self._wire)

    def send(self, home: str, payload: dict[str, Any], *, reply: bool) -> bool:
        """Send something to a home; return whether it is on its way. Raises TypeError if it cannot be JSON."""
        kind = "ANSWER" if reply else "OFFER"
        text = orjson.dumps({"type": kind, "dst": home, "payload": payload})
        if not self.is_open or len(text) > MAX_MESSAGE:
            return False
        return self._say(text)

    def probe(self) -> None:
        """See soon whether the connection still works: something may have happened to it."""
        if self.is_open and not self._ws.closed:
            self._expect(PROBE)
            self._say(None)

    async def renew_session(self) -> None:
        """Get another session in the place of one that is not taken any more. Waits for ever if the server gives none."""
        self._renewed.clear()
        self._ask_for_session()
        await self._renewed.wait()

    async def _listen(self) -> NoReturn:
        pace = TokenBucket(HEARD_PER_SECOND, HEARD_AT_ONCE, self._now)
        while True:
            message = await self._ws.receive()
            self._heard = self._now()
            size = 0
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                size = len(message.data)
                self._hear(message.data)
            elif message.type is WSMsgType.PING:
                await self._ws.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                raise self._end(message)
            if self.is_open:
                self._expect(SILENCE)
            # Others have their turn after each message. What is not read yet fills the buffers up to the server, which then
            # sends no more.
            await asyncio.sleep(pace.spend(1 + size // _PIECE))

    async def _speak(self) -> None:
        beat = self._now() + FIRST_HEARTBEAT
        try:
            while True:
                if self._now() >= beat:
                    beat = self._now() + HEARTBEAT
                    await self._beat()
                try:
                    async with asyncio.timeout_at(beat):
                        text = await self._outgoing.get()
                except TimeoutError:
                    continue
                await self._write(text)
        except (ClientError, OSError) as err:
            # Who listens need not hear of it: a server may go on to speak and read nothing.
            _LOGGER.debug("Nothing more can be said to a signalling server: %r", err)
            self._despair = _BROKEN
            self._expect(0)
        except Exception:
            _LOGGER.exception("Speaking to a signalling server failed")
            self._expect(0)

    async def _beat(self) -> None:
        """Say what has to be said now and then. Raises ClientError and OSError."""
        await self._write('{"type":"HEARTBEAT"}')
        if self._now() - self._heard > QUIET:
            await self._write(None)
        if self._now() >= self._renew_at:
            self._ask_for_session()
        if self._knock is not None and not self.is_open and not self._challenged:
            # PeerServer gives an id to the same client again without a word. What is sent to that id comes here then.
            payload = {"knock": self._knock}
            said = {"type": "CANDIDATE", "dst": self._identity.id, "payload": payload}
            await self._write(orjson.dumps(said).decode())

    async def _write(self, text: str | None) -> None:
        """Send a message, or with None ask for a sign of life. Raises ClientError and OSError."""
        async with asyncio.timeout(SENDING):
            if text is None:
                await self._ws.ping()
            else:
                await self._ws.send_str(text)
        await asyncio.sleep(self._pace.spend(1 + len(text or "") // _PIECE))

    def _hear(self, data: str | bytes) -> None:
        """Take a message, if it is one."""
        if len(data) > MAX_HEARD:
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
                self._take(message.get("src"), payload)
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
                    "Somebody else has this home's id at the server, or the server has not noticed yet that a former"
                    " connection is gone."
                )
            case "ERROR" if not self.is_open:
                said = payload.get("msg") if isinstance(payload, dict) else None
                raise Ended(f"The server does not let this home in: {shown(said)}")

    def _take(self, sender: object, payload: dict[str, Any]) -> None:
        """Take what the server says that somebody sent."""
        if sender == self._identity.id:
            if self._knock is not None and payload.get("knock") == self._knock:
                self._opened(None)
        elif self.is_open and (home := as_home(sender)):
            self._on_message(home, payload)

    def _opened(self, payload: object) -> None:
        if self.is_open:
            return
        self.is_open = True
        self.is_proven = self._challenged
        if self.is_proven:
            self._take_session(payload)
        self._despair = "Nothing was heard from the server for too long."
        self._expect(SILENCE)
        self._on_open()

    def _prove(self, challenge: object) -> None:
        """Sign what the server wants signed, for the place that this home believes to be at."""
        self._challenged = True
        told = challenge if isinstance(challenge, dict) else {}
        nonce, origin = told.get("nonce"), told.get("origin")
        if origin != self._origin:
            raise Ended(
                f"The server says that it is {shown(origin) or 'nowhere'}, but it was reached at {self._origin}. Either its"
                " operator has to tell it of this address, or somebody sits in between."
            )
        try:
            signed = read(nonce) if isinstance(nonce, str) else b""
        except ValueError:
            signed = b""
        if len(signed) != _NONCE:
            raise Ended("The server asks for a proof in a way that is not understood.")
        identity = self._identity
        signature = identity.private.sign(proof(self._origin, signed, identity.id))
        proven = {"key": written(identity.key), "signature": written(signature)}
        self._say(orjson.dumps({"type": "PROVE", "payload": proven}))

    def _take_session(self, payload: object) -> None:
        session = payload.get("session") if isinstance(payload, dict) else None
        if not isinstance(payload, dict) or not isinstance(session, str):
            return
        if _SESSION.fullmatch(session):
            self.session = session
            self._renew_at = self._now() + lasting(payload.get("expires")) / 2
            self._renewed.set()

    def _ask_for_session(self) -> None:
        self._renew_at = self._now() + RENEW_AGAIN
        self._say(b'{"type":"SESSION"}')

    def _say(self, text: bytes | None) -> bool:
        with suppress(asyncio.QueueFull):
            self._outgoing.put_nowait(None if text is None else text.decode())
            return True
        return False

    def _expect(self, within: float) -> None:
        """Give up when nothing is heard for so many seconds."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self._now() + within)

    def _end(self, last: WSMessage) -> Ended:
        """Return how the conversation ended, from the last that was heard."""
        if last.type is WSMsgType.ERROR:
            return Ended("The server says what makes no sense.")
        if last.type is not WSMsgType.CLOSE:
            return Ended(_BROKEN)
        code, reason = last.data, last.extra
        if code == _SUPERSEDED and self.is_proven:
            return Ended(_REASONS[code], superseded=True)
        pause = 0.0
        if code == _GOING_AWAY and (found := _SECONDS.fullmatch(str(reason))):
            pause = min(float(found[0]), MAX_PAUSE)
        return Ended(_REASONS.get(code, "The server hung up."), pause=pause)


def proof(origin: str, nonce: bytes, home: str) -> bytes:
    """Return what is signed to prove to the server at an origin that an id is this home's."""
    parts = (_DOMAIN, origin.encode(), nonce, home.encode())
    return b"".join(len(part).to_bytes(2) + part for part in parts)


def as_home(sender: object) -> str | None:
    """Return somebody's id at a server if it is a PeMuS ID as programs write it, else None."""
    return sender if isinstance(sender, str) and read_id(sender) == sender else None


def shown(text: object) -> str:
    """Return a text of the server's as it may be shown; an empty one for what is no text."""
    if not isinstance(text, str):
        return ""
    return "".join(each for each in text[:_MAX_SHOWN] if each.isprintable()).strip()


async def hang_up(ws: ClientWebSocketResponse, wire: socket.socket | None) -> None:
    """Close a socket, and leave nothing of it behind whatever the other end does."""
    try:
        with suppress(ClientError, OSError):
            async with asyncio.timeout(CLOSING):
                await ws.close()
    finally:
        if wire is not None:
            # What could not be sent would keep the connection for minutes.
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
