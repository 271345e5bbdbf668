"""A cluster whose nodes find each other, and exchange messages, through a Redis or Valkey.

The store records which nodes are alive (each renews its sign of life once a second) and which node has which name. Its
channels carry messages between nodes; no message is stored. While the store is away, every node continues to serve its own
clients. When it is back, each node claims its names again.

A name is claimed with an epoch: the time at which its client connected, by the store's clock, which nodes extrapolate while
the store is away. Of two connections of one owner, the newer one gets the name, so a dead connection that was not noticed
never wins. Two owners can claim one name only while the store is away; then the first one keeps it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import batched
import logging
import random
import secrets
import struct
import time
from typing import Any, Final
import uuid

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from . import scripts
from .cluster import Handler, StoreAwayError
from .publications import head, messages, publications
from .scripts import EPOCH_LENGTH, NODE_LENGTH

HEARTBEAT_INTERVAL: Final = 1.0
"""Seconds between two signs of life of a node."""
NODE_LIFE_MS: Final = 4000
"""Milliseconds without a sign of life after which a node is dead. Its names are free then."""
RENEWAL_INTERVAL: Final = 40.0
"""Seconds, on average, between two renewals of a name."""
NAME_LIFE: Final = 150
"""Seconds after which the store forgets a name that is not renewed."""
STORE_TIMEOUT: Final = 3.0
"""Seconds to wait for an answer of the store before it counts as away."""
LOCATION_LIFE: Final = 10.0
"""Seconds for which the location of a name is cached. A node that gets a message in error asks the store and passes it on."""
MAX_LOCATED: Final = 20_000
MAX_OUTBOX: Final = 16 * 1024**2
"""Bytes that may wait for the store. Messages beyond that are dropped."""
GATHER_TIME: Final = 0.005
"""Seconds to collect messages before publishing them: a publication costs much the same for one or a hundred."""
NAMES_AT_ONCE: Final = 500
MAX_RELEASED: Final = 100_000
"""Released names that may wait for the store to come back. It forgets further ones after `NAME_LIFE`."""
MAX_REMEMBERED: Final = 200_000
"""Texts that are kept per topic. Beyond that, those that expire first are dropped. It is twice what one node remembers, so
that normally the node decides what to drop."""
RECALLED_AT_ONCE: Final = 1_000
REMEMBERED_AT_ONCE: Final = 1_000
CONNECTIONS: Final = 16
"""Connections to the store. Further requests wait for a free one."""

STORE_ERRORS: Final = (RedisError, OSError)
"""Raised by requests that the store does not answer, or not in time."""

_PREFIX: Final = "pemus:"
_NODES: Final = f"{_PREFIX}nodes"
_SECRET: Final = f"{_PREFIX}secret"
_ALL: Final = f"{_PREFIX}all"
_CHANGED: Final = "nodes"
_SUPERSEDED: Final = "superseded"
_TAKEN: Final = "taken"
"""The topic on the wire of names that were taken over. It carries an epoch that handlers of `_SUPERSEDED` do not get."""
_CHANGED_BYTES: Final = _CHANGED.encode()
_RETRY_DELAY: Final = 0.5

_LOGGER = logging.getLogger(__name__)


def store_at(url: str) -> Any:
    """Return a client of the store at a URL. Nothing is connected yet.

    redis-py's own types do not say what its calls return, so it has none here.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=STORE_TIMEOUT,
        socket_timeout=STORE_TIMEOUT,
        socket_connect_timeout=STORE_TIMEOUT,
    )
    return Redis.from_pool(pool)


@dataclass(slots=True)
class _Claim:
    """What a node has of a name."""

    epoch: int
    """When its connection was made, in microseconds of the store's clock. 0 while the store is asked."""
    owner: str


class RedisCluster:
    """A node of a cluster that a Redis holds together."""

    def __init__(self, url: str) -> None:
        """Prepare to join the cluster at a URL (`redis://`, `rediss://` or `unix://`)."""
        self.node = uuid.uuid4().hex[:NODE_LENGTH]
        self.dropped = 0
        """Messages to other nodes that there was no room for."""
        self.is_away = True
        """Whether the store does not answer."""
        self._redis = store_at(url)
        # Whoever keeps all other connections busy must not make this node look dead.
        self._pulse = store_at(url)
        # Whoever listens may hear nothing for long.
        keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
        self._ear: Any = Redis.from_url(
            url,
            socket_connect_timeout=STORE_TIMEOUT,
            # With RESP3 redis-py writes each publication out for a log, whether anybody reads that or not.
            protocol=2,
            # It would connect anew without a word, and nobody would know that something was missed.
            retry=Retry(NoBackoff(), 0),
            **keepalive,
        )
        self._beat_script = self._pulse.register_script(scripts.BEAT)
        self._claim_script = self._redis.register_script(scripts.CLAIM)
        self._locate_script = self._redis.register_script(scripts.LOCATE)
        self._remember_script = self._redis.register_script(scripts.REMEMBER)
        self._release_script = self._redis.register_script(scripts.RELEASE)
        self._clock = time.monotonic
        self._shared = b""
        self._handlers: dict[bytes, Handler] = {}
        """By topic, as it stands in a publication."""
        self.on(_CHANGED, self._others_changed)
        self.on(_TAKEN, self._taken_over)
        self._node_handlers: list[Callable[[], None]] = []
        self._missed_handlers: list[Callable[[], None]] = []
        self._secret_handlers: list[Callable[[bytes], None]] = []
        self._nodes = frozenset((self.node,))
        self._ahead = 0
        """Microseconds by which the store's clock is ahead of `_clock`."""
        self._names: dict[str, _Claim] = {}
        self._unsure: set[str] = set()
        """Names of which the store does not know yet how new this node's connection is."""
        self._released: dict[str, int] = {}
        """Names to give back, with their epochs."""
        self._located: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._outbox: dict[str, list[bytes]] = {}
        """By node, heads and messages in turn."""
        self._waiting = 0
        self._filled = asyncio.Event()
        self._due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Join. Raises OSError if the store cannot be reached."""
        try:
            pubsub = await self._subscribe()
            self._nodes, _ = await self._beat()
        except STORE_ERRORS as error:
            await self._close_connections()
            raise OSError(f"Redis cannot be reached: {error}") from None
        self.is_away = False
        self._tasks = [
            asyncio.create_task(self._listen(pubsub), name="cluster: listen"),
            asyncio.create_task(self._live(), name="cluster: live"),
            asyncio.create_task(self._flush(), name="cluster: flush"),
            asyncio.create_task(self._renew(), name="cluster: renew"),
        ]
        self.broadcast(_CHANGED, b"")
        self._tell()

    async def close(self) -> None:
        """Leave. The others know at once, and what this node had is free."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks and not self.is_away:
            with suppress(*STORE_ERRORS):
                await self._redis.zrem(_NODES, self.node)
                message = head(_CHANGED, 0)
                await self._redis.publish(_ALL, self.node.encode() + message)
        await self._close_connections()

    async def secret(self) -> bytes:
        """Return a secret that all nodes share, made by whichever asks first. Raises RedisError or OSError."""
        await self._redis.set(_SECRET, secrets.token_bytes(32), nx=True)
        self._shared = bytes(await self._redis.get(_SECRET))
        return self._shared

    def nodes(self) -> frozenset[str]:
        """Return the nodes that live; this one alone while the store is away."""
        return self._nodes

    def on(self, topic: str, handler: Handler) -> None:
        """Hand messages about a topic to `handler`."""
        self._handlers[topic.encode()] = handler

    def on_nodes(self, handler: Callable[[], None]) -> None:
        """Call `handler` when nodes come or go, and when the store is back."""
        self._node_handlers.append(handler)

    def on_missed(self, handler: Callable[[], None]) -> None:
        """Call `handler` when messages of other nodes may have been missed, and can be heard again."""
        self._missed_handlers.append(handler)

    def on_secret(self, handler: Callable[[bytes], None]) -> None:
        """Call `handler` with the secret when another one than before counts for all nodes."""
        self._secret_handlers.append(handler)

    async def remember(self, topic: str, entries: Mapping[bytes, float]) -> None:
        """Keep texts for all nodes, each until its time. Raises StoreAwayError."""
        try:
            for some in batched(entries.items(), REMEMBERED_AT_ONCE):
                parts = (part for text, until in some for part in (until, text))
                await self._remember_script(
                    keys=[_PREFIX + topic], args=[MAX_REMEMBERED, *parts]
                )
        except STORE_ERRORS as error:
            raise StoreAwayError from error

    async def forget(self, topic: str, texts: Collection[bytes]) -> None:
        """Keep texts no more. Raises StoreAwayError."""
        try:
            for some in batched(texts, REMEMBERED_AT_ONCE):
                await self._redis.zrem(_PREFIX + topic, *some)
        except STORE_ERRORS as error:
            raise StoreAwayError from error

    async def recall(self, topic: str) -> Mapping[bytes, float]:
        """Return what is remembered of a topic. Raises StoreAwayError."""
        found: dict[bytes, float] = {}
        at = 0
        try:
            # From what lasts longest: what is forgotten meanwhile stands at the other end.
            while page := await self._redis.zrevrange(
                _PREFIX + topic, at, at + RECALLED_AT_ONCE - 1, withscores=True
            ):
                found |= page
                at += len(page)
        except STORE_ERRORS as error:
            raise StoreAwayError from error
        return found

    def send(self, node: str, topic: str, message: bytes) -> None:
        """Tell one other node."""
        if node in self._nodes:
            self._post(node, topic, message)

    def broadcast(self, topic: str, message: bytes) -> None:
        """Tell all other nodes."""
        self._post("", topic, message)

    async def claim(self, name: str, *, take: bool, owner: str = "") -> bool:
        """Have a name for this node."""
        self._released.pop(name, None)
        at = self._epoch()
        self._names[name] = claim = _Claim(at if self.is_away else 0, owner)
        if self.is_away:
            return True
        try:
            epoch = await self._claim(name, "take" if take else "ask", claim, at=at)
        except STORE_ERRORS:
            claim.epoch = claim.epoch or at
            self._due.set()
            return True
        self._located.pop(name, None)
        if epoch is None:
            if self._names.get(name) is claim:
                del self._names[name]
            return False
        self._released.pop(name, None)
        claim.epoch = int(epoch)
        self._names[name] = claim
        return True

    def again(self, name: str) -> None:
        """Have a name that this node has from now on."""
        if (claim := self._names.get(name)) is not None:
            claim.epoch = max(claim.epoch + 1, self._epoch())
            self._unsure.add(name)
            self._filled.set()

    def release(self, name: str) -> None:
        """Give a name back."""
        if (claim := self._names.pop(name, None)) is not None:
            self._released[name] = claim.epoch
            self._filled.set()

    def found(self, name: str) -> str | None:
        """Return the node that was found to have a name a moment ago."""
        if (known := self._located.get(name)) is None:
            return None
        until, node = known
        if until > self._clock() and node in self._nodes:
            return node
        del self._located[name]
        return None

    def lost(self, name: str) -> None:
        """Forget where a name was found."""
        self._located.pop(name, None)

    async def locate(self, name: str) -> str | None:
        """Return the living node that has a name. What was found is believed for a moment."""
        if self.is_away:
            return None
        if (known := self.found(name)) is not None:
            return known
        try:
            answer = await self._locate_script(keys=[_name(name), _NODES])
        except STORE_ERRORS:
            self._due.set()
            return None
        if answer is None:
            return None
        node: str = answer.decode()
        self._meet(node)
        while len(self._located) >= MAX_LOCATED:
            self._located.popitem(last=False)
        self._located[name] = (self._clock() + LOCATION_LIFE, node)
        return node

    # Living.

    def _meet(self, node: str) -> None:
        """Know a node that speaks, or that the store says is alive: it may have come a moment ago."""
        if not self.is_away and node not in self._nodes:
            self._nodes |= {node}
            self._tell()

    async def _live(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_INTERVAL):
                    await self._due.wait()
            self._due.clear()
            try:
                nodes, forgotten = await self._beat()
                # A store that was emptied, or is short of memory, has lost more than this node's name.
                missed = self.is_away or forgotten
                if missed:
                    await self._claim_all()
            except STORE_ERRORS as error:
                self._lose(error)
                # A store that is away is not to be asked without a pause because somebody is in a hurry.
                await asyncio.sleep(HEARTBEAT_INTERVAL)
                continue
            was_away, self.is_away = self.is_away, False
            if was_away:
                _LOGGER.warning("Redis is back")
            if nodes != self._nodes or missed:
                self._nodes = nodes
                self._tell(missed=missed)

    async def _beat(self) -> tuple[frozenset[str], bool]:
        """Say that this node lives. Return which ones do, and whether the store did not know of this one."""
        asked = self._clock()
        now, nodes, forgotten = await self._beat_script(
            keys=[_NODES], args=[self.node, NODE_LIFE_MS]
        )
        # It was read somewhere between the question and the answer.
        self._ahead = int(now) - int((asked + self._clock()) / 2 * 1_000_000)
        alive = frozenset((self.node, *(node.decode() for node in nodes)))
        return alive, bool(forgotten)

    def _lose(self, error: Exception) -> None:
        if self.is_away:
            return
        self.is_away = True
        _LOGGER.warning(
            "Redis is away (%s): this node goes on alone", type(error).__name__
        )
        self._nodes = frozenset((self.node,))
        self._located.clear()
        self._outbox.clear()
        self._waiting = 0
        self._tell()

    def _tell(self, *, missed: bool = False) -> None:
        for handler in (
            *self._node_handlers,
            *(self._missed_handlers if missed else ()),
        ):
            try:
                handler()
            except Exception as error:
                # It is called from what keeps this node alive.
                _LOGGER.error(
                    "A change of nodes was not taken in: %s",
                    type(error).__name__,
                    exc_info=error,
                )

    def _others_changed(self, _node: str, _message: bytes) -> None:
        self._due.set()

    # Names.

    async def _renew(self) -> None:
        """Renew every name once per `RENEWAL_INTERVAL`, a few at a time, so that the store never gets all of them at once."""
        while True:
            names = list(self._names)
            parts = list(batched(names, NAMES_AT_ONCE)) or [()]
            for some in parts:
                await asyncio.sleep(
                    RENEWAL_INTERVAL * random.uniform(0.75, 1.25) / len(parts)
                )
                if not self.is_away:
                    with suppress(*STORE_ERRORS):
                        await self._renew_names(some)
            if not self.is_away:
                with suppress(*STORE_ERRORS):
                    await self._renew_secret()

    async def _claim_all(self) -> None:
        """Tell a store that may have lost them which names this node has, and the secret. A newer claim elsewhere wins."""
        await self._renew_secret()
        await self._renew_names(list(self._names))

    async def _renew_secret(self) -> None:
        if self._shared:
            # A store that came back empty would give the next node another one.
            await self._redis.set(_SECRET, self._shared, nx=True)
            # A node that started when it was empty may have been first.
            shared = bytes(await self._redis.get(_SECRET) or self._shared)
            if shared != self._shared:
                self._shared = shared
                for handler in self._secret_handlers:
                    handler(shared)

    async def _renew_names(self, names: Sequence[str]) -> None:
        for at in range(0, len(names), NAMES_AT_ONCE):
            asked = [
                (name, claim)
                for name in names[at : at + NAMES_AT_ONCE]
                # One that is being claimed will be said by that.
                if (claim := self._names.get(name)) is not None and claim.epoch
            ]
            async with self._redis.pipeline(transaction=False) as pipeline:
                for name, claim in asked:
                    await self._claim(name, "renew", claim, on=pipeline)
                answers = await pipeline.execute()
            for (name, claim), epoch in zip(asked, answers, strict=True):
                if self._names.get(name) is not claim:
                    continue
                if epoch is None:
                    self._taken_over(self.node, _taken(claim.epoch, name))
                else:
                    claim.epoch = max(claim.epoch, int(epoch))

    async def _claim(
        self, name: str, mode: str, claim: _Claim, *, at: int = 0, on: Any = None
    ) -> Any:
        """Ask for a name ("ask"), take it over ("take"), or say again that this node has it ("renew").

        `at` is when a new connection was made, in microseconds of the store's clock.
        """
        # What the former node is told, around the epoch of what it has, which the store knows.
        said = name.encode()
        before = self.node.encode() + head(_TAKEN, EPOCH_LENGTH + len(said))
        epoch = _written(at or claim.epoch)
        return await self._claim_script(
            keys=[_name(name), _NODES],
            args=[
                self.node,
                mode,
                epoch,
                claim.owner,
                NAME_LIFE,
                _channel(""),
                before,
                said,
                int(STORE_TIMEOUT * 1_000_000),
            ],
            client=on,
        )

    def _epoch(self) -> int:
        """Return what the store's clock shows, also while it is away."""
        return self._ahead + int(self._clock() * 1_000_000)

    # Speaking.

    def _post(self, node: str, topic: str, message: bytes) -> None:
        """Have a message published soon to a node, or to all others where none is named."""
        if self.is_away:
            return
        length = len(message)
        before = head(topic, length)
        size = len(before) + length
        if self._waiting + size > MAX_OUTBOX:
            self.dropped += 1
            return
        self._waiting += size
        if (parts := self._outbox.get(node)) is None:
            parts = self._outbox[node] = []
            self._filled.set()
        parts += (before, message)

    async def _flush(self) -> None:
        """Publish what has gathered while the last publication was under way."""
        while True:
            await self._filled.wait()
            await asyncio.sleep(GATHER_TIME)
            self._filled.clear()
            outbox, self._outbox, self._waiting = self._outbox, {}, 0
            released, self._released = self._released, {}
            unsure, self._unsure = self._unsure, set()
            try:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for node, parts in outbox.items():
                        channel = _channel(node) if node else _ALL
                        for publication in publications(self.node.encode(), parts):
                            pipeline.publish(channel, publication)
                    for name, epoch in released.items():
                        await self._release_script(
                            keys=[_name(name)],
                            args=[self.node, _written(epoch)],
                            client=pipeline,
                        )
                    await pipeline.execute()
                if unsure:
                    await self._renew_names(list(unsure))
            except STORE_ERRORS:
                self._unsure |= unsure
                if len(self._released) < MAX_RELEASED:
                    self._released |= {
                        name: epoch
                        for name, epoch in released.items()
                        if name not in self._names
                    }
                self._due.set()
                await asyncio.sleep(_RETRY_DELAY)
                if self._released or self._unsure:
                    self._filled.set()

    # Hearing.

    async def _subscribe(self) -> Any:
        pubsub = self._ear.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe(_channel(self.node), _ALL)
        return pubsub

    async def _listen(self, pubsub: Any) -> None:
        while True:
            try:
                if pubsub is None:
                    pubsub = await self._subscribe()
                    # What was said meanwhile was lost, also that names went to others.
                    self._unsure.update(self._names)
                    self._filled.set()
                    self._due.set()
                    self._tell(missed=True)
                async for message in pubsub.listen():
                    try:
                        self._take(message["data"])
                    except (ValueError, struct.error) as error:
                        _LOGGER.error(
                            "What is no message of a node was heard: %s",
                            type(error).__name__,
                        )
            except STORE_ERRORS:
                self._due.set()
            if pubsub is not None:
                with suppress(*STORE_ERRORS):
                    await pubsub.aclose()
            pubsub = None
            await asyncio.sleep(_RETRY_DELAY)

    def _take(self, data: bytes) -> None:
        """Hand on what a publication holds. This runs for every message that crosses nodes."""
        node = data[:NODE_LENGTH].decode()
        # A node that tells another's client that it was superseded may be told so itself by that.
        if node == self.node:
            return
        handlers = self._handlers
        for topic, message in messages(data):
            # The last that a node says is that nodes changed: it leaves.
            if node not in self._nodes and topic != _CHANGED_BYTES:
                self._meet(node)
            try:
                if (handler := handlers.get(topic)) is not None:
                    handler(node, message)
            except Exception as error:  # noqa: BLE001 - one message must not end the hearing of others
                _LOGGER.error(
                    "A message about %s was not understood: %s",
                    topic.decode(errors="replace"),
                    type(error).__name__,
                )

    def _taken_over(self, node: str, message: bytes) -> None:
        """Take note that a node took a name over, and from a connection of which epoch."""
        epoch, name = int(message[:EPOCH_LENGTH]), message[EPOCH_LENGTH:]
        if (claim := self._names.get(name.decode())) is not None:
            if claim.epoch > epoch:
                # It was said of a former connection. Let the store tell which one is newer.
                self._unsure.add(name.decode())
                self._filled.set()
                return
            del self._names[name.decode()]
        if (handler := self._handlers.get(_SUPERSEDED.encode())) is not None:
            handler(node, name)

    async def _close_connections(self) -> None:
        for connection in (self._redis, self._pulse, self._ear):
            with suppress(*STORE_ERRORS):
                await connection.aclose()


def _channel(node: str) -> str:
    return f"{_PREFIX}to:{node}"


def _name(name: str) -> str:
    return f"{_PREFIX}name:{name}"


def _taken(epoch: int, name: str) -> bytes:
    """Return what is told of a name that was taken over from a connection of this epoch, or of a former one."""
    return f"{_written(epoch)}{name}".encode()


def _written(epoch: int) -> str:
    return f"{epoch:0{EPOCH_LENGTH}d}"
