"""Whether friends are there. Homes ask each other by messages; no link is kept open for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
import logging
import random
import secrets
from typing import TYPE_CHECKING, Final

from ..core.throttle import TokenBuckets
from ..models.codec import DecodeError, decode, encode
from ..models.version import VERSION
from ..net.messenger import Message, Messenger

if TYPE_CHECKING:
    from .friend import Friend
    from .pairings import Pairings

PING_INTERVAL: Final = 45.0
"""Seconds between two pings."""
PING_TIMEOUT: Final = 6.0
"""Seconds to wait for a pong. The ping is sent again after half of it."""
PING_GAP: Final = 0.3
"""Seconds between two messages of one ping, at least."""
RECHECK_INTERVAL: Final = 1.5
"""Seconds between two pings while the answer may change, and the least between any two."""
MAX_MISSED: Final = 2
"""Pings without an answer after which a friend is away."""
STRANGER_INTERVAL: Final = PING_INTERVAL / 2
"""Seconds between two answers to one home that it is no friend."""
MAX_STRANGERS: Final = 1000
"""Homes for which the last such answer is remembered."""

_NONCE_BYTES: Final = 8
_MAX_NONCE: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Asks whether the other home is there."""

    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """Answers a ping of a friend."""

    nonce: str
    name: str
    release: str
    state: str
    """Differs whenever the list of what the friend may see may have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Tells a friend that the list of what it may see may have changed."""

    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """Answers a ping of a home that is no friend."""

    nonce: str


_LOGGER = logging.getLogger(__name__)

KINDS: Final = ("ping", "pong", "changed", "stranger")


class Presence:
    """Whether one friend is there."""

    def __init__(self, home: str, messenger: Messenger) -> None:
        """Prepare to ping a home. It is away until it answers."""
        self.online = False
        self._home = home
        self._messenger = messenger
        self._missed = 0
        self._nonce = ""
        """Of the ping that waits for its pong; empty if none does."""
        self._wake = asyncio.Event()

    def check_soon(self) -> None:
        """Ping soon: an answer has become likelier, or is due."""
        self._wake.set()

    def doubt(self) -> None:
        """Ping soon, and take the friend for away if it does not answer that."""
        self._missed = max(self._missed, MAX_MISSED - 1)
        self._wake.set()

    def met(self) -> bool:
        """Note a sign of life; return whether the friend was away before."""
        self._missed = 0
        came, self.online = not self.online, True
        return came

    def missed(self) -> bool:
        """Note a ping without an answer; return whether the friend is away from now on."""
        self._missed += 1
        if self._missed < MAX_MISSED or not self.online:
            return False
        self.online = False
        return True

    def is_pending(self, nonce: str) -> bool:
        """Tell whether a ping with this nonce waits for its pong."""
        return nonce == self._nonce != ""

    def answered(self) -> None:
        """End the ping that waits."""
        self._nonce = ""
        self._wake.set()

    async def ping(self) -> bool:
        """Return whether the friend answers a ping. While it waits, `check_soon` sends the message again."""
        self._nonce = nonce = secrets.token_hex(_NONCE_BYTES)
        body = encode(Ping(nonce=nonce))
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                while self._messenger.send(self._home, "ping", body):
                    self._wake.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(PING_TIMEOUT / 2):
                            await self._wake.wait()
                    if self._nonce == nonce:
                        await asyncio.sleep(PING_GAP)
                    if self._nonce != nonce:
                        self._wake.clear()
                        return True
        except TimeoutError:
            pass
        finally:
            self._nonce = ""
        return False

    async def rest(self) -> None:
        """Wait until the next ping is due."""
        pause = PING_INTERVAL * random.uniform(0.8, 1.2)
        if self.online and self._missed:
            pause = RECHECK_INTERVAL
        # `check_soon` must not lead to pings without end.
        await asyncio.sleep(RECHECK_INTERVAL)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()
        self._wake.clear()


class PresenceMessages:
    """Takes in messages about presence, and answers pings."""

    def __init__(
        self,
        messenger: Messenger,
        friends: Mapping[str, Friend],
        pairings: Pairings,
        *,
        name: Callable[[], str],
    ) -> None:
        """Prepare to answer. `name` returns what this home calls itself."""
        self._messenger = messenger
        self._friends = friends
        self._pairings = pairings
        self._name = name
        self._strangers = TokenBuckets(1 / STRANGER_INTERVAL, 1, max_keys=MAX_STRANGERS)

    def receive(self, message: Message) -> None:
        """Take in a message of a kind in KINDS."""
        try:
            self._receive(message)
        except DecodeError as err:
            _LOGGER.debug("Ignored a malformed message: %s", err)

    def _receive(self, message: Message) -> None:
        envelope = message.envelope
        friend = self._friends.get(envelope.sender)
        if envelope.kind == "ping":
            nonce = decode(Ping, envelope.body).nonce[:_MAX_NONCE]
            if friend is None:
                self._answer_stranger(message, nonce)
            else:
                self._answer_friend(message, nonce, friend)
        elif friend is None:
            return
        elif envelope.kind == "pong":
            pong = decode(Pong, envelope.body)
            if friend.presence.is_pending(pong.nonce):
                friend.presence.answered()
                friend.met(pong.name, pong.release)
                friend.list.compare(pong.state)
        elif envelope.kind == "changed":
            friend.list.compare(decode(Changed, envelope.body).state)
        elif friend.presence.is_pending(decode(Stranger, envelope.body).nonce):
            friend.unfriend()

    def _answer_friend(self, message: Message, nonce: str, friend: Friend) -> None:
        state = friend.list_state()
        pong = Pong(nonce=nonce, name=self._name(), release=VERSION, state=state)
        self._messenger.send(
            friend.id, "pong", encode(pong), transport=message.transport
        )
        if friend.link is not None:
            # A friend with a link sends no pings. Either it restarted unnoticed and the link is dead, or this ping was
            # delayed and the link is fine.
            friend.link.probe()
        if not friend.presence.online:
            friend.presence.check_soon()

    def _answer_stranger(self, message: Message, nonce: str) -> None:
        """Tell a home that it is no friend, unless it is becoming one."""
        home = message.envelope.sender
        if not self._pairings.is_pairing(home) and self._strangers.take(home):
            stranger = encode(Stranger(nonce=nonce))
            self._messenger.send(
                home, "stranger", stranger, transport=message.transport
            )
