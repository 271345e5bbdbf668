"""A client of PeerServer's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson

from pemus_signaling.identity.proofs import Challenge
from pemus_signaling.net.sockets import Close, Socket

if TYPE_CHECKING:
    from .peers import Peers

PROOF_TIMEOUT: Final = 10.0
"""Time limit for proving an identity, in seconds."""
MAX_EARLY: Final = 16
"""Messages of a client that may wait until it has its ID."""

_OPEN: Final = b'{"type":"OPEN"}'
_RELAYED: Final = frozenset(("OFFER", "ANSWER", "CANDIDATE", "LEAVE"))


class MessageError(ValueError):
    """A message violates the protocol."""


class Client:
    """A client and its socket."""

    __slots__ = (
        "_challenge",
        "_clock",
        "_early",
        "_peers",
        "_timer",
        "heard",
        "id",
        "key",
        "socket",
        "token",
    )

    def __init__(
        self, peers: Peers, identifier: str, token: str, to_prove: Challenge | None
    ) -> None:
        """Prepare a client that has to prove its ID if `to_prove` is set."""
        self.id = identifier
        self.token = token
        self.key: bytes | None = None
        """The public key, once the identity is proven."""
        self.socket: Socket
        self.heard = 0.0
        """When it sent its last message, by the loop's clock."""
        self._peers = peers
        self._clock = asyncio.get_running_loop().time
        self._challenge = to_prove
        self._timer: asyncio.TimerHandle | None = None
        self._early: list[bytes] | None = []

    @property
    def owner(self) -> str:
        """Identifies the owner of an unproven ID: a hash of the token. Empty for a proven one."""
        if self.key is not None:
            return ""
        return blake2b(self.token.encode(), digest_size=8).hexdigest()

    def opened(self, socket: Socket) -> None:
        """Ask the client for the proof, or claim the ID."""
        self.socket = socket
        self.heard = self._clock()
        self._peers.entering.add(self)
        if self._challenge is None:
            self._peers.enter(self)
        else:
            self._timer = asyncio.get_running_loop().call_later(
                PROOF_TIMEOUT, self._fail
            )
            socket.send(self._challenge.message())

    def received(self, message: bytes) -> None:
        """Process a message."""
        data = orjson.loads(message)
        if not isinstance(data, dict):
            raise MessageError("a message must be an object")
        self.heard = self._clock()
        if self._early is not None:
            self._receive_early(data, message)
            return
        kind = data.get("type")
        if kind in _RELAYED and (receiver := data.get("dst")):
            relayed = {"type": kind, "src": self.id, "dst": receiver}
            if "payload" in data:
                relayed["payload"] = data["payload"]
            whole = orjson.dumps(relayed)
            peers = self._peers
            client = peers.clients.get(receiver)
            if client is not None:
                peers.counts.relayed += 1
                client.socket.relay(whole)
            else:
                if not isinstance(receiver, str):
                    raise MessageError("an ID must be a string")
                peers.route(self.id, receiver, whole, keep=kind != "LEAVE")
        elif kind == "SESSION" and self.key is not None:
            self.socket.send(self._session("SESSION", self.key))
        elif kind == "LEAVE":
            self._peers.leave(self)
            self.socket.close(Close.POLICY, "left")

    def closed(self) -> None:
        """Remove the client."""
        self._forget_challenge()
        self._peers.leave(self)

    def entered(self, waited: Iterable[bytes]) -> None:
        """Confirm the ID, and process the messages that waited."""
        early, self._early = self._early or [], None
        self.socket.send(_OPEN if self.key is None else self._session("OPEN", self.key))
        for message in waited:
            self.socket.relay(message)
        for message in early:
            try:
                self.received(message)
            except Exception:  # noqa: BLE001 - as for any other message of the socket
                self.socket.close(Close.UNREADABLE)
                break

    def _receive_early(self, data: dict[str, Any], message: bytes) -> None:
        """Process a message of a client that does not have its ID yet."""
        assert self._early is not None
        if self._challenge is None:
            if len(self._early) >= MAX_EARLY:
                self.socket.close(Close.TRY_LATER, "too many messages")
                return
            self._early.append(message)
        elif data.get("type") == "PROVE":
            self.key = self._challenge.met_by(data.get("payload"))
            if self.key is None:
                self._fail()
                return
            self._forget_challenge()
            if not self.socket.prove():
                self._peers.counts.crowded += 1
                self.socket.close(Close.TRY_LATER, "too many homes at this address")
                return
            self._peers.counts.proven += 1
            self._peers.enter(self)
        elif data.get("type") != "HEARTBEAT":
            self._fail()

    def _fail(self) -> None:
        self._forget_challenge()
        self._peers.counts.unproven += 1
        self.socket.close(Close.UNPROVEN, "the identity was not proven")

    def _forget_challenge(self) -> None:
        self._challenge = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _session(self, kind: str, key: bytes) -> bytes:
        session, expires = self._peers.sessions.issue(key)
        return orjson.dumps(
            {"type": kind, "payload": {"session": session, "expires": int(expires)}}
        )


class Complaint:
    """A listener that tells a refused client the reason."""

    __slots__ = ("_code", "_text")

    def __init__(self, text: str, code: Close) -> None:
        """Prepare to send `text`, and to close with `code`."""
        self._text = text
        self._code = code

    def opened(self, socket: Socket) -> None:
        """Send the reason and close."""
        socket.send(orjson.dumps({"type": "ERROR", "payload": {"msg": self._text}}))
        socket.close(self._code)

    def received(self, message: bytes) -> None:
        """Do nothing. The socket is closing."""

    def closed(self) -> None:
        """Do nothing."""
