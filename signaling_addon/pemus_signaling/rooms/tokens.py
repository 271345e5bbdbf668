"""Room tokens and their revocation. A home signs a token so that a guest of a room can announce to the tracker, or use TURN.

A token is `BODY.SIGNATURE`, both base64url (RFC 4648, section 5) without padding. The body is JSON, and the signature is
Ed25519 (RFC 8032) of `pemus room token 1` followed by the body. The server stores a token only if it is revoked.
docs/protocol.md describes the format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
import math
import re
import time
from typing import Final, Literal

import orjson

from pemus_signaling.cluster.cluster import Cluster, StoreAwayError
from pemus_signaling.identity.ids import KEY_BYTES, is_signed
from pemus_signaling.net import base64url

LIFE: Final = 7 * 86400
"""Longest time until a token expires, in seconds."""
SKEW: Final = 300
"""How far a home's clock may be ahead, in seconds."""
CLOCK_JUMP: Final = 86400
"""How far this machine's clock may temporarily be wrong, in seconds."""
REMEMBERED: Final = LIFE + SKEW + CLOCK_JUMP
"""How long a revocation is kept, in seconds. This is so long that no correction of a clock makes its token valid again."""
MAX_LENGTH: Final = 4096
"""Maximum length of a token, in characters. It is part of a URL."""
MAX_HASHES: Final = 64
MAX_PER_KEY: Final = 1_000
"""Revocations that are kept for one home."""
MAX_REVOCATIONS: Final = 100_000

ANNOUNCE: Final = "announce"
TURN: Final = "turn"
"""What a token can allow."""

_CONTEXT: Final = b"pemus room token 1"
_TOPIC: Final = "revocations"
_BATCH: Final = 500
"""Revocations to process before other tasks get a turn."""
_RETRY: Final = 1.0
"""How long to wait before asking a store again that does not answer, in seconds."""

_TEXT = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{40}")


class TokenError(ValueError):
    """A token is invalid. The message says why, and contains nothing of the token."""


class TooManyRevocationsError(Exception):
    """There are too many revocations. Nothing was revoked."""


@dataclass(frozen=True, slots=True)
class RoomToken:
    """What a home allows a guest to do."""

    key: bytes
    """The home's public key, 32 bytes."""
    room: str
    id: str
    expires: float
    """Seconds since 1970."""
    may: frozenset[str]
    hashes: frozenset[bytes] | None = None
    """The info-hashes that the token is for, 20 bytes each. None means all."""


def read(token: str, now: float) -> RoomToken:
    """Return the content of a token. This does not check whether it was revoked.

    `now` is in seconds since 1970. Raises TokenError if it is malformed, not signed by its key, expired, or expires too late.
    """
    if len(token) > MAX_LENGTH:
        raise TokenError("the token is too long")
    text, _, signed = token.partition(".")
    body = _decoded(text)
    read_token = _read_body(body)
    # The signature is checked last, because that costs most.
    if read_token.expires <= now:
        raise TokenError("the token has expired")
    if read_token.expires > now + LIFE + SKEW:
        raise TokenError("the token expires too late")
    if not is_signed(read_token.key, _decoded(signed), _CONTEXT + body):
        raise TokenError("the token is not signed by its key")
    return read_token


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revocation of one token, or of all tokens of a room."""

    key: bytes
    """The home's public key. A home can only revoke its own tokens."""
    what: Literal["room", "id"]
    name: str

    def covers(self, token: RoomToken) -> bool:
        """Return whether the revocation applies to a token."""
        return token.key == self.key and self.name == (
            token.room if self.what == "room" else token.id
        )


class Revocations:
    """The revocations of all nodes.

    Each is kept until all tokens that it covers have expired. A home cannot displace the revocations of others: it can have
    at most `MAX_PER_KEY`, and if there are too many in total, the home with the most loses its oldest.
    """

    def __init__(
        self, cluster: Cluster, clock: Callable[[], float] = time.time
    ) -> None:
        """Register with the cluster, which must not have started. `clock` returns seconds since 1970."""
        self._cluster = cluster
        self._clock = clock
        self._until: dict[Revocation, float] = {}
        """When each is deleted, the earliest first."""
        self._unsaved: dict[Revocation, float] = {}
        """Revocations of this node that the store does not have yet."""
        self._crowded_out: set[Revocation] = set()
        """Revocations that were displaced here, and that the store may still have."""
        self._counts: dict[bytes, int] = {}
        self._handlers: list[Callable[[Revocation], None]] = []
        self._catching_up: asyncio.Task[None] | None = None
        cluster.on(_TOPIC, self._received)
        cluster.on_missed(self._missed)

    def __len__(self) -> int:
        """Return how many revocations are kept."""
        return len(self._until)

    async def start(self) -> None:
        """Read the revocations of the store. Raises StoreAwayError."""
        await self._catch_up()

    async def close(self) -> None:
        """Stop."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.gather(self._catching_up, return_exceptions=True)

    async def save(self) -> None:
        """Write the revocations of this node to the store, where nodes that start later find them. Raises StoreAwayError."""
        if crowded_out := frozenset(self._crowded_out):
            await self._cluster.forget(_TOPIC, [_write(each) for each in crowded_out])
            self._crowded_out -= crowded_out
            # One may have been revoked again meanwhile.
            self._unsaved |= {
                each: self._until[each] for each in crowded_out if each in self._until
            }
        if unsaved := dict(self._unsaved):
            await self._cluster.remember(
                _TOPIC, {_write(each): until for each, until in unsaved.items()}
            )
            for each, until in unsaved.items():
                if self._unsaved.get(each) == until:
                    del self._unsaved[each]

    def subscribe(self, handler: Callable[[Revocation], None]) -> None:
        """Call `handler` with each new revocation of any node."""
        self._handlers.append(handler)

    def revoke_room(self, key: bytes, room: str) -> None:
        """Revoke all tokens of a room. Raises TooManyRevocationsError."""
        self._revoke(Revocation(key, "room", room))

    def revoke_token(self, key: bytes, token_id: str) -> None:
        """Revoke one token. Raises TooManyRevocationsError."""
        self._revoke(Revocation(key, "id", token_id))

    def is_revoked(self, token: RoomToken) -> bool:
        """Return whether a token, or its room, was revoked."""
        return (
            Revocation(token.key, "room", token.room) in self._until
            or Revocation(token.key, "id", token.id) in self._until
        )

    def _revoke(self, revocation: Revocation) -> None:
        until = self._clock() + REMEMBERED
        if not self._add(revocation, until):
            raise TooManyRevocationsError
        self._unsaved[revocation] = until
        self._broadcast(revocation, until)

    def _add(self, revocation: Revocation, until: float) -> bool:
        """Keep a revocation, and call the handlers if it is new. Return False if there are too many."""
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
            oldest = next(each for each in self._until if each.key == greedy)
            self._drop(oldest)
            if len(self._crowded_out) < MAX_REVOCATIONS:
                self._crowded_out.add(oldest)
        self._crowded_out.discard(revocation)
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
        self._unsaved.pop(revocation, None)
        self._counts[revocation.key] -= 1
        if not self._counts[revocation.key]:
            del self._counts[revocation.key]

    def _broadcast(self, revocation: Revocation, until: float) -> None:
        self._cluster.broadcast(_TOPIC, b"%.3f " % until + _write(revocation))

    def _received(self, _node: str, message: bytes) -> None:
        until, _, written = message.partition(b" ")
        self._learn(written, float(until))

    def _learn(self, written: bytes, until: float) -> None:
        self._add(_read(written), min(until, self._clock() + REMEMBERED))

    def _missed(self) -> None:
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.create_task(
                self._catch_up_later(), name="revocations: catch up"
            )

    async def _catch_up_later(self) -> None:
        while True:
            try:
                await self._catch_up()
            except StoreAwayError:
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _catch_up(self) -> None:
        """Read the revocations of the store, and write those that it lacks: it may have lost some."""
        unsaved = dict(self._unsaved)
        await self.save()
        # A node that read the store before this write has not seen them.
        for each, until in unsaved.items():
            self._broadcast(each, until)
        recalled = await self._cluster.recall(_TOPIC)
        for number, (written, until) in enumerate(recalled.items()):
            self._learn(written, until)
            if number % _BATCH == 0:
                await asyncio.sleep(0)
        self._forget()
        self._unsaved |= {
            each: until
            for each, until in self._until.items()
            if _write(each) not in recalled
        }
        await self.save()


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
    # The decoder ignores invalid characters.
    if _TEXT.fullmatch(text) is None or len(text) % 4 == 1:
        raise TokenError("the token is malformed")
    return base64url.decode(text)


def _write(revocation: Revocation) -> bytes:
    key = base64url.encode(revocation.key)
    return f"{key} {revocation.what} {revocation.name}".encode()


def _read(written: bytes) -> Revocation:
    """Return a revocation that another node wrote. Nodes trust each other."""
    key, what, name = written.decode().split(" ")
    return Revocation(_decoded(key), "room" if what == "room" else "id", name)
