"""Room tokens: what a home signs so that a guest of one of its rooms may announce, and use TURN; and how it is taken back.

A token is `BODY.SIGNATURE`, both base64url (RFC 4648, section 5) without padding. The body is JSON, and the signature is
Ed25519 (RFC 8032) over `pemus room token 1` and the bytes of the body. The server keeps nothing about a token unless
it, or its room, was revoked. The format is in docs/protocol.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
import math
import re
import time
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import orjson

from pemus_signaling.cluster.cluster import Cluster, StoreAwayError
from pemus_signaling.identity.ids import KEY_BYTES, is_signed
from pemus_signaling.net import base64url

LIFE: Final = 7 * 86400
"""Seconds that a token may last."""
SKEW: Final = 300
"""Seconds by which a home's clock may be ahead."""
CLOCK_JUMP: Final = 86400
"""Seconds by which this machine's clock may be wrong for a while."""
REMEMBERED: Final = LIFE + SKEW + CLOCK_JUMP
"""Seconds for which a revocation is remembered. No clock that is put right makes a token good again that it is about."""
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
"""Revocations that are taken in between two looks at other things."""
_RETRY: Final = 1.0
"""Seconds after which to ask again a store that does not answer."""

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
        self._unsaved: dict[Revocation, float] = {}
        """Those that this node was asked for and that the store does not have yet."""
        self._crowded_out: set[Revocation] = set()
        """Those that had to make room here, and that the store may have still."""
        self._counts: dict[bytes, int] = {}
        self._handlers: list[Callable[[Revocation], None]] = []
        self._catching_up: asyncio.Task[None] | None = None
        cluster.on(_TOPIC, self._told)
        cluster.on_missed(self._missed)

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._until)

    async def start(self) -> None:
        """Learn what was revoked before. Raises StoreAwayError."""
        await self._catch_up()

    async def close(self) -> None:
        """End."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.gather(self._catching_up, return_exceptions=True)

    async def save(self) -> None:
        """Return when all nodes will know what this one was asked for, also those to come. Raises StoreAwayError."""
        if crowded_out := frozenset(self._crowded_out):
            await self._cluster.forget(_TOPIC, [_write(each) for each in crowded_out])
            self._crowded_out -= crowded_out
            # One may have been revoked anew meanwhile.
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
        until = self._clock() + REMEMBERED
        if not self._add(revocation, until):
            raise TooManyRevocationsError
        self._unsaved[revocation] = until
        self._broadcast(revocation, until)

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

    def _told(self, _node: str, message: bytes) -> None:
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
        """Learn what the store has, and give it what it has not: it may have come back with less than it had."""
        unsaved = dict(self._unsaved)
        await self.save()
        # Who asked the store a moment before did not see these there, and who asks later does.
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
    # The decoder leaves out what it does not know.
    if _TEXT.fullmatch(text) is None or len(text) % 4 == 1:
        raise TokenError("the token is malformed")
    return base64url.decode(text)


def _write(revocation: Revocation) -> bytes:
    key = base64url.encode(revocation.key)
    return f"{key} {revocation.what} {revocation.name}".encode()


def _read(written: bytes) -> Revocation:
    """Return what another node wrote. It runs the same program, and is taken at its word."""
    key, what, name = written.decode().split(" ")
    return Revocation(_decoded(key), "room" if what == "room" else "id", name)
