"""Room tokens: what a home signs so that a guest of one of its rooms may announce, and use TURN; and how it is taken back.

A token is `BODY.SIGNATURE`, both base64url (RFC 4648, section 5) without padding. The body is JSON, and the signature is
Ed25519 (RFC 8032) over `pemus room token 1` and the bytes of the body. The server keeps nothing about a token unless
it, or its room, was revoked. The format is in docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import math
import re
import time
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import orjson

from . import base64url
from .cluster import Cluster
from .identity import KEY_BYTES, is_signed

LIFE: Final = 7 * 86400
"""Seconds that a token may last. For as long as that a revocation is remembered."""
SKEW: Final = 300
"""Seconds by which a home's clock may be ahead."""
MAX_LENGTH: Final = 4096
"""Characters of a token: it is part of an address."""
MAX_HASHES: Final = 64
MAX_PER_KEY: Final = 1_000
"""Revocations of one home that are remembered."""
MAX_REVOCATIONS: Final = 100_000

ANNOUNCE: Final = "announce"
TURN: Final = "turn"
"""What a token may allow."""

_CONTEXT: Final = b"pemus room token 1"
_TOPIC: Final = "revocations"
_BATCH: Final = 500
"""Revocations in one message to other nodes."""

_TEXT = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{40}")


class TokenError(ValueError):
    """A token is no good. The message says why, and holds nothing of the token."""


class TooManyRevocationsError(Exception):
    """No more can be remembered. Nothing was revoked."""


@dataclass(frozen=True, slots=True)
class RoomToken:
    """What a home allows to a guest."""

    key: bytes
    """The home's public key, 32 bytes."""
    room: str
    id: str
    expires: float
    """Seconds since 1970."""
    may: frozenset[str]
    hashes: frozenset[bytes] | None = None
    """The info-hashes, 20 bytes each, that it is for. None: for any."""


def read(token: str, now: float) -> RoomToken:
    """Return what a token says. Whether it was revoked is another question.

    `now` is in seconds since 1970. Raises TokenError: it is malformed, not signed by its key, expired, or lasts too long.
    """
    if len(token) > MAX_LENGTH:
        raise TokenError("the token is too long")
    text, _, signed = token.partition(".")
    body = _decoded(text)
    read_token = _read_body(body)
    # What costs most is done last.
    if read_token.expires <= now:
        raise TokenError("the token has expired")
    if read_token.expires > now + LIFE + SKEW:
        raise TokenError("the token lasts too long")
    if not is_signed(read_token.key, _decoded(signed), _CONTEXT + body):
        raise TokenError("the token is not signed by its key")
    return read_token


def sign(private_key: Ed25519PrivateKey, token: RoomToken) -> str:
    """Return a token as a home writes it. Its key must be that of `private_key`."""
    said: dict[str, Any] = {
        "v": 1,
        "key": base64url.encode(token.key),
        "room": token.room,
        "id": token.id,
        "exp": token.expires,
        "may": sorted(token.may),
    }
    if token.hashes is not None:
        said["hashes"] = sorted(each.hex() for each in token.hashes)
    body = orjson.dumps(said)
    return f"{base64url.encode(body)}.{base64url.encode(private_key.sign(_CONTEXT + body))}"


@dataclass(frozen=True, slots=True)
class Revocation:
    """What was taken back: one token, or all of a room."""

    key: bytes
    """The home's public key. Nobody can take back what another home allows."""
    what: Literal["room", "id"]
    name: str

    def covers(self, token: RoomToken) -> bool:
        """Tell whether a token is no good any more."""
        return token.key == self.key and self.name == (
            token.room if self.what == "room" else token.id
        )


class Revocations:
    """What was revoked, on all nodes.

    Each is forgotten once every token that it may cover has expired. A home cannot crowd out another's: beyond
    `MAX_PER_KEY` no more are taken, and where all homes together have too many, the one that has most loses its oldest.
    """

    def __init__(
        self, cluster: Cluster, clock: Callable[[], float] = time.time
    ) -> None:
        """Listen to other nodes. To be made before the cluster starts. `clock` tells seconds since 1970."""
        self._cluster = cluster
        self._clock = clock
        self._until: dict[Revocation, float] = {}
        """In the order in which they are forgotten."""
        self._own: set[Revocation] = set()
        """Those that this node was asked for: it tells others again when they may have missed it."""
        self._counts: dict[bytes, int] = {}
        self._handlers: list[Callable[[Revocation], None]] = []
        self._nodes = frozenset((cluster.node,))
        cluster.on(_TOPIC, self._told)
        cluster.on_nodes(self._nodes_changed)

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._until)

    def subscribe(self, handler: Callable[[Revocation], None]) -> None:
        """Call `handler` with each new revocation, wherever it was made."""
        self._handlers.append(handler)

    def revoke_room(self, key: bytes, room: str) -> None:
        """Take back all tokens of a room. Raises TooManyRevocationsError."""
        self._revoke(Revocation(key, "room", room))

    def revoke_token(self, key: bytes, token_id: str) -> None:
        """Take back one token. Raises TooManyRevocationsError."""
        self._revoke(Revocation(key, "id", token_id))

    def is_revoked(self, token: RoomToken) -> bool:
        """Tell whether a token was revoked, or its room."""
        return (
            Revocation(token.key, "room", token.room) in self._until
            or Revocation(token.key, "id", token.id) in self._until
        )

    def _revoke(self, revocation: Revocation) -> None:
        until = self._clock() + LIFE + SKEW
        if not self._add(revocation, until):
            raise TooManyRevocationsError
        self._own.add(revocation)
        self._cluster.broadcast(_TOPIC, _write([(revocation, until)]))

    def _add(self, revocation: Revocation, until: float) -> bool:
        """Remember a revocation, and tell of it if it is news. Return False if there are too many."""
        self._forget()
        if (former := self._until.get(revocation)) is not None:
            if until > former:
                del self._until[revocation]
                self._until[revocation] = until
            return True
        count = self._counts.get(revocation.key, 0)
        if count >= MAX_PER_KEY:
            return False
        if len(self._until) >= MAX_REVOCATIONS:
            greedy = max(self._counts, key=self._counts.__getitem__)
            if self._counts[greedy] <= count + 1:
                return False
            self._drop(next(each for each in self._until if each.key == greedy))
        self._counts[revocation.key] = count + 1
        self._until[revocation] = until
        for handler in self._handlers:
            handler(revocation)
        return True

    def _forget(self) -> None:
        now = self._clock()
        while self._until:
            revocation = next(iter(self._until))
            if self._until[revocation] > now:
                break
            self._drop(revocation)

    def _drop(self, revocation: Revocation) -> None:
        del self._until[revocation]
        self._own.discard(revocation)
        self._counts[revocation.key] -= 1
        if not self._counts[revocation.key]:
            del self._counts[revocation.key]

    def _told(self, _node: str, message: bytes) -> None:
        latest = self._clock() + LIFE + SKEW
        for revocation, until in _read(message):
            self._add(revocation, min(until, latest))

    def _nodes_changed(self) -> None:
        """Tell others what they may have missed: one node tells everything, each one what it was asked for itself."""
        former, self._nodes = self._nodes, self._cluster.nodes()
        self._forget()
        known: Iterable[Revocation] = self._own
        if self._cluster.node == min(former | {self._cluster.node}):
            known = self._until
        entries = [(each, self._until[each]) for each in known]
        for at in range(0, len(entries), _BATCH):
            self._cluster.broadcast(_TOPIC, _write(entries[at : at + _BATCH]))


def _read_body(body: bytes) -> RoomToken:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise TokenError("the token is malformed") from error
    if not isinstance(said, dict) or said.get("v") != 1:
        raise TokenError("the token is of another version")
    key, room, token_id = said.get("key"), said.get("room"), said.get("id")
    expires, may, hashes = said.get("exp"), said.get("may"), said.get("hashes")
    if (
        not isinstance(key, str)
        or not isinstance(room, str)
        or not isinstance(token_id, str)
        or _NAME.fullmatch(room) is None
        or _NAME.fullmatch(token_id) is None
        or isinstance(expires, bool)
        or not isinstance(expires, int | float)
        or not math.isfinite(expires)
        or not isinstance(may, list)
        or not all(isinstance(each, str) for each in may)
    ):
        raise TokenError("the token is malformed")
    public_key = _decoded(key)
    if len(public_key) != KEY_BYTES:
        raise TokenError("the token is malformed")
    return RoomToken(
        public_key,
        room,
        token_id,
        float(expires),
        frozenset(may),
        _read_hashes(hashes) if "hashes" in said else None,
    )


def _read_hashes(hashes: object) -> frozenset[bytes]:
    if not isinstance(hashes, list) or len(hashes) > MAX_HASHES:
        raise TokenError("the token is malformed")
    if not all(isinstance(each, str) and _HASH.fullmatch(each) for each in hashes):
        raise TokenError("the token is malformed")
    return frozenset(bytes.fromhex(each) for each in hashes)


def _decoded(text: str) -> bytes:
    # The decoder leaves out what it does not know.
    if _TEXT.fullmatch(text) is None or len(text) % 4 == 1:
        raise TokenError("the token is malformed")
    return base64url.decode(text)


def _write(entries: list[tuple[Revocation, float]]) -> bytes:
    return orjson.dumps(
        [
            [base64url.encode(each.key), each.what, each.name, until]
            for each, until in entries
        ]
    )


def _read(message: bytes) -> list[tuple[Revocation, float]]:
    """Return what another node says. It runs the same program, and is taken at its word."""
    return [
        (Revocation(_decoded(key), what, name), until)
        for key, what, name, until in orjson.loads(message)
    ]
