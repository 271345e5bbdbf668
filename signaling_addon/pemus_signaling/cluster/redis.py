"""Nodes that find each other, and talk, through a Redis or Valkey.

The store knows which nodes live (each says so once a second), which node has which name, and carries messages between
nodes by its channels; it keeps nothing that somebody said. While it is away every node goes on for its own clients, and
when it is back each says anew what it has.

A name is claimed with an epoch: when its client connected, by the store's clock, which nodes carry on while it is away. Of
two connections of one owner the newer one has the name, so that one that is dead and was not noticed to be ends nobody. Of
two owners, who can only have got one name while the store was away, the first one keeps it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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

from .cluster import Handler, StoreAwayError

BEAT: Final = 1.0
"""Seconds after which a node says again that it lives."""
ALIVE_MS: Final = 4000
"""Milliseconds after which a node that said nothing is dead, and what it had is free."""
RENEW: Final = 40.0
"""Seconds, on average, between two renewals of a name."""
NAME_S: Final = 150
"""Seconds after which the store forgets a name of which it heard nothing."""
ANSWER: Final = 3.0
"""Seconds after which a store that does not answer is away."""
LOCATED_S: Final = 10.0
"""Seconds for which it is believed where a name was found. Who is asked wrongly knows better, or asks the store."""
MAX_LOCATED: Final = 20_000
MAX_OUTBOX: Final = 16 * 1024**2
"""Bytes that may wait for the store. What is beyond is dropped."""
GATHER: Final = 0.005
"""Seconds for which messages gather, since a publication costs the same for one or for a hundred."""
AT_ONCE: Final = 512 * 1024
"""Bytes after which a publication is long enough."""
NAMES_AT_ONCE: Final = 500
MAX_RELEASED: Final = 100_000
"""Names that may wait to be given back until the store is there again. It forgets the others by itself."""
MAX_REMEMBERED: Final = 200_000
"""Texts of one topic that are kept for all nodes: twice what a node has remembered at a time, so that it decides itself
which ones go. Beyond, those go first that would be forgotten first."""
RECALLED_AT_ONCE: Final = 1_000
REMEMBERED_AT_ONCE: Final = 1_000
CONNECTIONS: Final = 16
"""Connections to the store. Questions beyond wait for one that is free."""

STORE_ERRORS: Final = (RedisError, OSError)
"""What a question raises that the store did not answer, in time or at all."""

_PREFIX: Final = "pemus:"
_NODES: Final = f"{_PREFIX}nodes"
_SECRET: Final = f"{_PREFIX}secret"
_ALL: Final = f"{_PREFIX}all"
_NODE_LENGTH: Final = 12
_EPOCH_LENGTH: Final = 16
"""Digits of microseconds since 1970: they stand in order as texts, and a script's numbers hold them."""
_FRAME: Final = struct.Struct(">BI")
"""Before each message: the length of its topic's name, which follows, and its own."""
_CHANGED: Final = "nodes"
_SUPERSEDED: Final = "superseded"
_TAKEN: Final = "taken"
"""What nodes tell each other of names that were taken over. Handlers of `_SUPERSEDED` get the name alone."""
_CHANGED_BYTES: Final = _CHANGED.encode()
_RETRY: Final = 0.5

# The store's own clock is the only one that all nodes share.
_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_BEAT_SCRIPT: Final = f"""{_NOW}
local forgotten = redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
-- Who lives for longer said so before the clock was put back.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. (now + ARGV[2]), '+inf')
return {{time[1] .. string.format('%06d', time[2]), redis.call('ZRANGE', KEYS[1], 0, -1), forgotten}}
"""
# A value is the node, the epoch and the owner, one after the other. Returned is the epoch that the name is claimed with.
_CLAIM_SCRIPT: Final = f"""{_NOW}
local node, mode, epoch, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held = redis.call('GET', KEYS[1])
local holder, since, other
if held then
  holder, since, other = string.sub(held, 1, {_NODE_LENGTH}),
    string.sub(held, {_NODE_LENGTH + 1}, {_NODE_LENGTH + _EPOCH_LENGTH}), string.sub(held, {_NODE_LENGTH + _EPOCH_LENGTH + 1})
end
-- What the store was asked while it hung is read when nobody waits for the answer any more: it is no new connection.
if mode ~= 'renew' and time[1] * 1000000 + time[2] - epoch > tonumber(ARGV[9]) then mode = 'renew' end
if mode ~= 'renew' then
  epoch = time[1] .. string.format('%06d', time[2])
  if held and epoch <= since then epoch = string.format('%0{_EPOCH_LENGTH}.0f', tonumber(since) + 1) end
end
if held and holder ~= node then
  local till = redis.call('ZSCORE', KEYS[2], holder)
  if till and tonumber(till) > now then
    if mode == 'ask' then return false end
    if mode == 'renew' then
      local newer = epoch > since or (epoch == since and node > holder)
      if newer ~= (owner == other) then return false end
    end
    redis.call('PUBLISH', ARGV[6] .. holder, ARGV[7] .. since .. ARGV[8])
  end
elseif held and since > epoch then
  epoch = since
end
redis.call('SET', KEYS[1], node .. epoch .. owner, 'EX', ARGV[5])
return epoch
"""
_LOCATE_SCRIPT: Final = f"""
local held = redis.call('GET', KEYS[1])
if not held then return false end
{_NOW}
local holder = string.sub(held, 1, {_NODE_LENGTH})
local till = redis.call('ZSCORE', KEYS[2], holder)
if till and tonumber(till) > now then return holder end
return false
"""
_RELEASE_SCRIPT: Final = f"""
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, {_NODE_LENGTH}) == ARGV[1]
  and string.sub(held, {_NODE_LENGTH + 1}, {_NODE_LENGTH + _EPOCH_LENGTH}) <= ARGV[2] then
  redis.call('DEL', KEYS[1])
end
"""

_REMEMBER_SCRIPT: Final = f"""{_NOW}
for place = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], 'GT', ARGV[place], ARGV[place + 1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] then redis.call('EXPIREAT', KEYS[1], math.ceil(last[2])) end
"""

_LOGGER = logging.getLogger(__name__)


def store_at(url: str) -> Any:
    """Return a client of the store at a URL. Nothing is connected yet.

    redis-py's own types do not say what its calls return, so it has none here.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=ANSWER,
        socket_timeout=ANSWER,
        socket_connect_timeout=ANSWER,
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
        self.node = uuid.uuid4().hex[:_NODE_LENGTH]
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
            socket_connect_timeout=ANSWER,
            # With RESP3 redis-py writes each publication out for a log, whether anybody reads that or not.
            protocol=2,
            # It would connect anew without a word, and nobody would know that something was missed.
            retry=Retry(NoBackoff(), 0),
            **keepalive,
        )
        self._beat_script = self._pulse.register_script(_BEAT_SCRIPT)
        self._claim_script = self._redis.register_script(_CLAIM_SCRIPT)
        self._locate_script = self._redis.register_script(_LOCATE_SCRIPT)
        self._remember_script = self._redis.register_script(_REMEMBER_SCRIPT)
        self._release_script = self._redis.register_script(_RELEASE_SCRIPT)
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
                message = _head(_CHANGED, 0)
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
        self._located[name] = (self._clock() + LOCATED_S, node)
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
                async with asyncio.timeout(BEAT):
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
                await asyncio.sleep(BEAT)
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
            keys=[_NODES], args=[self.node, ALIVE_MS]
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
        """Renew every name once per `RENEW`, a few at a time, so that the store never gets all of them at once."""
        while True:
            names = list(self._names)
            parts = list(batched(names, NAMES_AT_ONCE)) or [()]
            for some in parts:
                await asyncio.sleep(RENEW * random.uniform(0.75, 1.25) / len(parts))
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
        head = self.node.encode() + _head(_TAKEN, _EPOCH_LENGTH + len(said))
        epoch = _written(at or claim.epoch)
        return await self._claim_script(
            keys=[_name(name), _NODES],
            args=[
                self.node,
                mode,
                epoch,
                claim.owner,
                NAME_S,
                _channel(""),
                head,
                said,
                int(ANSWER * 1_000_000),
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
        head = _head(topic, length)
        size = len(head) + length
        if self._waiting + size > MAX_OUTBOX:
            self.dropped += 1
            return
        self._waiting += size
        if (parts := self._outbox.get(node)) is None:
            parts = self._outbox[node] = []
            self._filled.set()
        parts += (head, message)

    async def _flush(self) -> None:
        """Publish what has gathered while the last publication was under way."""
        while True:
            await self._filled.wait()
            await asyncio.sleep(GATHER)
            self._filled.clear()
            outbox, self._outbox, self._waiting = self._outbox, {}, 0
            released, self._released = self._released, {}
            unsure, self._unsure = self._unsure, set()
            try:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for node, parts in outbox.items():
                        channel = _channel(node) if node else _ALL
                        for publication in _publications(self.node.encode(), parts):
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
                await asyncio.sleep(_RETRY)
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
            await asyncio.sleep(_RETRY)

    def _take(self, data: bytes) -> None:
        """Hand on what a publication holds. This runs for every message that crosses nodes."""
        node = data[:_NODE_LENGTH].decode()
        # A node that tells another's client that it was superseded may be told so itself by that.
        if node == self.node:
            return
        handlers = self._handlers
        at, end = _NODE_LENGTH, len(data)
        while at < end:
            length, size = _FRAME.unpack_from(data, at)
            at += _FRAME.size
            topic = data[at : at + length]
            at += length
            message = data[at : at + size]
            at += size
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
        epoch, name = int(message[:_EPOCH_LENGTH]), message[_EPOCH_LENGTH:]
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
    return f"{epoch:0{_EPOCH_LENGTH}d}"


def _head(topic: str, length: int) -> bytes:
    return _FRAME.pack(len(topic), length) + topic.encode()


def _publications(node: bytes, parts: list[bytes]) -> Iterator[bytes]:
    """Put heads and messages together into a few publications of a node."""
    begun, length = 0, 0
    for at, part in enumerate(parts):
        # Only in front of a head.
        if length >= AT_ONCE and not at % 2:
            yield b"".join((node, *parts[begun:at]))
            begun, length = at, 0
        length += len(part)
    yield b"".join((node, *parts[begun:]))
