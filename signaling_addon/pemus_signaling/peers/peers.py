"""PeerServer's protocol (https://github.com/peers/peerjs-server), and proven identities.

Clients have IDs and exchange WebRTC offers, answers and candidates. A message goes to one client, and names its sender. IDs are
never listed, and only a client that claims an ID learns whether it is taken.

In a cluster, a node looks up the node of a receiver and forwards the message. Messages for an absent receiver wait at the home
of its ID (`cluster.home_of`), which is told when the receiver connects to any node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import lru_cache
import hmac
from struct import Struct
from typing import Any, Final
import uuid

from aiohttp import hdrs, web
import orjson

from pemus_signaling.cluster.cluster import Cluster, home_of
from pemus_signaling.identity.ids import LENGTH, read_id
from pemus_signaling.identity.proofs import Challenge
from pemus_signaling.identity.sessions import Sessions
from pemus_signaling.net.addresses import household
from pemus_signaling.net.limits import Rates
from pemus_signaling.net.sockets import Close, Listener, Refusal, Upgrade
from pemus_signaling.settings import Settings

from .client import Client, Complaint, MessageError
from .forwarded import Forwarded
from .waiting import Waiting

MAX_ID: Final = 128
"""Maximum length of an ID, and of a token, in characters."""
PROOFS_PER_SECOND: Final = 50.0
PROOFS_AT_ONCE: Final = 500
"""Limits for the clients of one address, which may be many homes that reconnect after a restart. Checking a proof takes about
0.1 ms."""
MAX_LOCATING: Final = 8 * 1024 * 1024
"""Maximum size of all messages whose receivers are being looked up, in bytes. Further messages are dropped."""
MAX_LOOKUPS: Final = 1_000
"""Receivers that are looked up at once. Messages to others are dropped."""
SWEEP_INTERVAL: Final = 5.0
"""Seconds between two checks for silent clients. Less if `alive_timeout` is short."""
RECLAIM_DELAYS: Final = (0.1, 0.3, 0.6)
"""Delays between attempts to claim an ID while another node closes the client's former connection, in seconds."""

_ID_TAKEN: Final = b'{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}'

# Messages between nodes. Each has a kind, two texts and a message of a client.
_DELIVER: Final = b"D"
"""For the node of the receiver: receiver, sender, message."""
_TRY: Final = b"T"
"""The same, but the message must not wait if the receiver is gone."""
_KEEP: Final = b"K"
"""The same, for the home of the receiver's ID, where the message waits."""
_FORWARDED: Final = frozenset((_DELIVER, _TRY, _KEEP))
_ARRIVED: Final = b"A"
"""For the home of an ID: a client with this ID has connected."""
_RECLAIM: Final = b"R"
"""For the node that has an ID: its client has connected elsewhere, with this token."""
_HEAD: Final = Struct(">cHH")
"""The kind, and the lengths of the two texts that follow."""


_read_cached = lru_cache(maxsize=4096)(read_id)
"""`read_id` for the receivers of messages, which repeat."""


@dataclass(slots=True)
class Counts:
    """Events since the start."""

    opened: int = 0
    relayed: int = 0
    kept: int = 0
    expired: int = 0
    proven: int = 0
    unproven: int = 0
    crowded: int = 0
    """Clients with a proven identity whose address had too many of them."""
    superseded: int = 0
    taken: int = 0
    refused: int = 0
    idle: int = 0


class Peers:
    """The clients of this node."""

    def __init__(
        self,
        cluster: Cluster,
        sessions: Sessions,
        settings: Settings,
    ) -> None:
        """Register with the cluster, which must not have started."""
        self.cluster = cluster
        self.sessions = sessions
        self.counts = Counts()
        self.clients: dict[str, Client] = {}
        """By ID."""
        self.entering: set[Client] = set()
        """Clients that have a socket, but not yet their ID."""
        self._settings = settings
        self._proofs = Rates(PROOFS_PER_SECOND, PROOFS_AT_ONCE)
        self.waiting = Waiting(
            settings.expire_timeout,
            settings.queued_messages,
            settings.queued_bytes,
            self._expired,
        )
        """Messages for absent receivers."""
        self._nodes = cluster.nodes()
        self._forwarded = Forwarded(settings.expire_timeout)
        self._locating: dict[str, list[tuple[str, bytes, bool]]] = {}
        self.locating_bytes = 0
        """Size of the messages whose receivers are being looked up."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        cluster.on("superseded", self._superseded)
        cluster.on("peers", self._received)
        cluster.on_nodes(self._nodes_changed)

    async def start(self) -> None:
        """Start to check for silent clients."""
        self._sweep()

    async def close(self) -> None:
        """Stop. The front closes the sockets."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.waiting.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Return the routes of PeerServer's REST API. `prefix` begins and ends with a slash."""
        return [
            web.get(f"{prefix}{{key}}/id", _get_id),
            web.get(f"{prefix}{{key}}/peers", _get_peers),
        ]

    def accept(self, upgrade: Upgrade) -> Listener | Refusal:
        """Take a client. What is wrong with it is said over the socket, as PeerServer does."""
        identifier, token = upgrade.query.get("id", ""), upgrade.query.get("token", "")
        key = upgrade.query.get("key", "")
        if not identifier or not token or not key:
            return self._complain("No id, token, or key supplied to websocket server")
        if key != self._settings.key:
            return self._complain("Invalid key provided")
        if len(token) > MAX_ID:
            return self._complain("Invalid token provided")
        if len(identifier) > MAX_ID or not identifier.isprintable():
            return self._complain("Invalid id provided")
        if len(self.clients) + len(self.entering) >= self._settings.concurrent_limit:
            return self._complain(
                "Server has reached its concurrent user limit", Close.TRY_LATER
            )
        identity = read_id(identifier)
        if identity is None:
            return Client(self, identifier, token, None)
        if not upgrade.origin:
            return self._complain(
                "This server cannot check identities, because its origin is not configured",
                Close.UNPROVEN,
            )
        wait = self._proofs.allow(household(upgrade.address))
        if wait:
            return Refusal(429, "Too many attempts", retry_after=int(wait) + 1)
        return Client(self, identity, token, Challenge(identity, upgrade.origin))

    def enter(self, client: Client) -> None:
        """Claim the ID of a client."""
        # A process without others need not ask them.
        if client.id in self.clients or not self.cluster.is_shared:
            self._settle(client, claimed=True)
        else:
            self._run(self._claim(client))

    def leave(self, client: Client) -> None:
        """Remove a client, unless it is already removed."""
        self.entering.discard(client)
        if self.clients.get(client.id) is client:
            del self.clients[client.id]
            self.cluster.release(client.id)

    def route(self, sender: str, receiver: str, message: bytes, *, keep: bool) -> None:
        """Send a message to a receiver that is not found on this node. The message may wait if `keep` is set."""
        if len(receiver) > MAX_ID:
            return
        # PeMuS IDs can be written in several ways.
        if len(receiver) >= LENGTH and (identity := _read_cached(receiver)) is not None:
            receiver = identity
            if self._deliver(receiver, message):
                return
        if len(self.cluster.nodes()) == 1:
            if keep:
                self._keep(receiver, sender, message)
            return
        # Messages for a receiver that is being looked up stay in order.
        if receiver not in self._locating:
            node = self.cluster.found(receiver)
            if node is not None and node != self.cluster.node:
                self._send(node, _DELIVER if keep else _TRY, receiver, sender, message)
                return
        if self.locating_bytes + len(message) > MAX_LOCATING or (
            receiver not in self._locating and len(self._locating) >= MAX_LOOKUPS
        ):
            return
        self.locating_bytes += len(message)
        waiting = self._locating.get(receiver)
        if waiting is None:
            self._locating[receiver] = [(sender, message, keep)]
            self._run(self._locate(receiver))
        else:
            waiting.append((sender, message, keep))

    def _complain(self, text: str, code: Close = Close.POLICY) -> Listener:
        self.counts.refused += 1
        return Complaint(text, code)

    async def _claim(self, client: Client) -> None:
        claimed = await self.cluster.claim(
            client.id, take=client.key is not None, owner=client.owner
        )
        if not claimed:
            claimed = await self._reclaim(client)
        self._settle(client, claimed=claimed)

    async def _reclaim(self, client: Client) -> bool:
        """Ask the node that has an unproven ID to release it: the client may have reconnected before its old socket closed."""
        node = await self.cluster.locate(client.id)
        if node is None:
            return await self.cluster.claim(client.id, take=False, owner=client.owner)
        self.cluster.send(
            node, "peers", pack(_RECLAIM, client.id.encode(), client.token.encode())
        )
        for delay in RECLAIM_DELAYS:
            await asyncio.sleep(delay)
            if await self.cluster.claim(client.id, take=False, owner=client.owner):
                return True
        return False

    def _settle(self, client: Client, *, claimed: bool) -> None:
        former = self.clients.get(client.id)
        if client not in self.entering:
            # It disconnected meanwhile.
            others = any(each.id == client.id for each in self.entering)
            if claimed and former is None and not others:
                self.cluster.release(client.id)
            return
        if former is not None and client.key is None:
            claimed = hmac.compare_digest(former.token.encode(), client.token.encode())
        if not claimed:
            self.counts.taken += 1
            client.socket.send(_ID_TAKEN)
            client.socket.close(Close.POLICY, "the ID is taken")
            return
        self.entering.discard(client)
        self.clients[client.id] = client
        if former is not None:
            self.cluster.again(client.id)
            self._supersede(former)
        self.counts.opened += 1
        client.entered(message for _, message in self.waiting.fetch(client.id))
        if (
            self.cluster.is_shared
            and (home := self._home(client.id)) != self.cluster.node
        ):
            self.cluster.send(home, "peers", pack(_ARRIVED, client.id.encode()))

    def _supersede(self, client: Client) -> None:
        self.counts.superseded += 1
        client.socket.close(Close.SUPERSEDED, "superseded")

    def _deliver(self, receiver: str, message: bytes) -> bool:
        client = self.clients.get(receiver)
        if client is None:
            return False
        self.counts.relayed += 1
        client.socket.relay(message)
        return True

    def _keep(self, receiver: str, sender: str, message: bytes) -> None:
        self.counts.kept += 1
        self.waiting.keep(receiver, sender, message)

    def _expired(self, receiver: str, sender: str) -> None:
        self.counts.expired += 1
        message = orjson.dumps({"type": "EXPIRE", "src": receiver, "dst": sender})
        if not self._deliver(sender, message):
            self.route(receiver, sender, message, keep=False)

    async def _locate(self, receiver: str) -> None:
        try:
            node = await self.cluster.locate(receiver)
        finally:
            waiting = self._locating.pop(receiver)
            self.locating_bytes -= sum(len(message) for _, message, _ in waiting)
        for sender, message, keep in waiting:
            if self._deliver(receiver, message):
                continue
            if node is not None and node != self.cluster.node:
                self._send(node, _DELIVER if keep else _TRY, receiver, sender, message)
            elif keep:
                self._keep_at_home(receiver, sender, message)

    def _keep_at_home(self, receiver: str, sender: str, message: bytes) -> None:
        home = self._home(receiver)
        if home == self.cluster.node:
            self._keep(receiver, sender, message)
        else:
            self._send(home, _KEEP, receiver, sender, message)

    def _home(self, name: str) -> str:
        """Return the home of an ID."""
        return home_of(self.cluster.nodes(), name.encode())

    def _send(
        self, node: str, kind: bytes, receiver: str, sender: str, message: bytes
    ) -> None:
        if kind in (_DELIVER, _KEEP):
            self._forwarded.add(node, receiver, sender, kept=kind == _KEEP)
        self.cluster.send(
            node, "peers", pack(kind, receiver.encode(), sender.encode(), message)
        )

    def _received(self, node: str, message: bytes) -> None:
        """Process a message of another node."""
        kind, one, other, relayed = unpack(message)
        receiver = one.decode()
        if kind in _FORWARDED:
            sender = other.decode()
            # A receiver that replies has received what was forwarded to it.
            self._forwarded.replied(node, sender, receiver)
            if (client := self.clients.get(receiver)) is not None:
                self.counts.relayed += 1
                client.socket.relay(relayed)
            elif kind == _KEEP:
                self._keep(receiver, sender, relayed)
            else:
                # It disconnected meanwhile. It may be at another node now.
                self.cluster.lost(receiver)
                self.route(sender, receiver, relayed, keep=kind == _DELIVER)
        elif kind == _ARRIVED:
            for sender, kept in self.waiting.fetch(receiver):
                self._send(node, _DELIVER, receiver, sender, kept)
        elif kind == _RECLAIM:
            client = self.clients.get(receiver)
            if (
                client is not None
                and client.key is None
                and hmac.compare_digest(client.token.encode(), other)
            ):
                self.leave(client)
                self._supersede(client)

    def _nodes_changed(self) -> None:
        """Route waiting messages again: their receivers may be at a new node, or their IDs may have a new home.

        Messages that were forwarded to a node shortly before it died are lost, and their senders are told.
        """
        former, self._nodes = self._nodes, self.cluster.nodes()
        for receiver, sender in self._forwarded.lost(former - self._nodes):
            self._expired(receiver, sender)
        if len(self._nodes) == 1:
            return
        for receiver in self.waiting.receivers:
            for sender, message in self.waiting.fetch(receiver):
                self.route(sender, receiver, message, keep=True)

    def _superseded(self, node: str, message: bytes) -> None:
        client = self.clients.pop(message.decode(), None)
        if client is not None:
            self._supersede(client)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._settings.alive_timeout
        for client in [
            client for client in self.clients.values() if client.heard < oldest
        ]:
            self.counts.idle += 1
            # This frees the ID at once. Closing a dead connection may take longer.
            self.leave(client)
            client.socket.close(Close.IDLE, "silent for too long")
        self._forwarded.forget_old()
        self._sweeping = loop.call_later(
            min(SWEEP_INTERVAL, self._settings.alive_timeout / 4), self._sweep
        )

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine, without a delay up to its first wait."""
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _get_id(request: web.Request) -> web.Response:
    # This is never a PeMuS ID, which is shorter.
    return web.Response(
        text=str(uuid.uuid4()), headers={hdrs.CACHE_CONTROL: "no-store"}
    )


async def _get_peers(request: web.Request) -> web.Response:
    return web.Response(status=401, text="Unauthorized")


def pack(kind: bytes, one: bytes, other: bytes = b"", message: bytes = b"") -> bytes:
    """Return a message to another node."""
    return b"".join((_HEAD.pack(kind, len(one), len(other)), one, other, message))


def unpack(message: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the parts of a message from another node. Raises MessageError and struct.error."""
    kind, one, other = _HEAD.unpack_from(message)
    middle = _HEAD.size + one
    end = middle + other
    if end > len(message):
        raise MessageError("a message of another node is truncated")
    return kind, message[_HEAD.size : middle], message[middle:end], message[end:]
