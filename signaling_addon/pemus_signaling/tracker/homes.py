"""Swarms of a cluster: one node, the home of a swarm, manages all its peers, also those connected to other nodes.

The other nodes forward the messages of their clients to the home unchanged, and the replies of the home to their clients. All
nodes that see the same nodes agree on the home (`cluster.home_of`). Messages between nodes may be lost: the home removes
silent peers, and a missing peer announces again.

A message is a line of JSON, followed by the forwarded message:
- `{"say": SOCKET, "owner": KEY, "name": NAME, "silently": BOOL}` and a message from a client
- `{"tell": SOCKET}` and a message to a client
- `{"gone": SOCKET}`: a client disconnected
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
import math
from typing import Any, Final

import orjson

from pemus_signaling.cluster.cluster import Cluster, home_of

from .announces import Announce, Answer, MalformedError, Scrape, read
from .swarms import Client, Swarms

_TOPIC: Final = "tracker"
_REMEMBERED: Final = 65_536
"""Swarms whose home is cached."""


class Homes:
    """The messages between nodes about swarms."""

    def __init__(
        self,
        cluster: Cluster,
        swarms: Swarms,
        tell: Callable[[int, bytes], bool],
        moved: Callable[[], None],
    ) -> None:
        """Register with the cluster, which must not have started.

        `tell` sends a message to a socket of this node, and returns False if the socket does not exist. `moved` is called
        when swarms may have a new home, and when other nodes may have missed messages.
        """
        self._cluster = cluster
        self._swarms = swarms
        self._tell = tell
        self._moved = moved
        self._nodes = tuple(cluster.nodes())
        self.strangers: dict[tuple[str, int], Client] = {}
        """Clients of other nodes with peers here, by node and socket."""
        self._home = lru_cache(maxsize=_REMEMBERED)(self._choose)
        cluster.on(_TOPIC, self._received)
        cluster.on_nodes(self._changed)

    @property
    def alone(self) -> bool:
        """Whether there are no other nodes."""
        return len(self._nodes) == 1

    def elsewhere(self, owner: bytes, info_hash: str) -> str | None:
        """Return the node that is the home of a swarm, or None if this node is."""
        if len(self._nodes) == 1:
            return None
        home = self._home(owner, info_hash)
        return None if home == self._cluster.node else home

    def say(
        self,
        node: str,
        number: int,
        client: Client,
        message: bytes,
        *,
        silently: bool = False,
    ) -> None:
        """Forward a message from a socket of this node. The client gets no reply if `silently` is set."""
        head = {
            "say": number,
            "owner": client.owner.hex(),
            "name": client.name,
            "silently": silently,
        }
        self._cluster.send(node, _TOPIC, orjson.dumps(head) + b"\n" + message)

    def join(
        self,
        node: str,
        number: int,
        client: Client,
        peer: tuple[str, str, float],
    ) -> None:
        """Announce a peer (info-hash, peer ID, missing bytes) to a node that may not know it."""
        info_hash, peer_id, left = peer
        message = {
            "action": "announce",
            "info_hash": info_hash,
            "peer_id": peer_id,
            "left": None if math.isinf(left) else left,
        }
        self.say(node, number, client, orjson.dumps(message), silently=True)

    def gone(self, node: str, number: int) -> None:
        """Tell another node that a socket is closed."""
        self._cluster.send(node, _TOPIC, orjson.dumps({"gone": number}) + b"\n")

    def sweep(self) -> None:
        """Forget clients of other nodes that have no peers here."""
        for known, stranger in tuple(self.strangers.items()):
            if not stranger.members:
                del self.strangers[known]

    def _choose(self, owner: bytes, info_hash: str) -> str:
        return home_of(self._nodes, owner + info_hash.encode("latin-1"))

    def _changed(self) -> None:
        nodes = self._cluster.nodes()
        self._nodes = tuple(nodes)
        self._home.cache_clear()
        for (node, number), stranger in tuple(self.strangers.items()):
            if node not in nodes:
                self._swarms.leave(stranger)
                del self.strangers[node, number]
        self._moved()

    def _received(self, node: str, message: bytes) -> None:
        """Process a message of another node. Nodes trust each other."""
        line, _, about = message.partition(b"\n")
        head = orjson.loads(line)
        if "say" in head:
            self._said(node, head, about)
        elif "tell" in head:
            if not self._tell(head["tell"], about):
                self.gone(node, head["tell"])
        elif "gone" in head:
            stranger = self.strangers.pop((node, head["gone"]), None)
            if stranger is not None:
                self._swarms.leave(stranger)

    def _said(self, node: str, head: dict[str, Any], message: bytes) -> None:
        known = (node, head["say"])
        client = self.strangers.get(known)
        if client is None:
            client = Client(
                bytes.fromhex(head["owner"]),
                head["name"],
                partial(self._reply, node, head["say"]),
            )
        try:
            said = read(message)
        except MalformedError:
            return
        match said:
            case Announce():
                self._swarms.announce(client, said, silently=head["silently"])
            case Answer():
                self._swarms.answer(client, said)
            case Scrape():
                self._swarms.scrape(client, said)
        if client.members:
            self.strangers[known] = client
        else:
            self.strangers.pop(known, None)

    def _reply(self, node: str, number: int, message: bytes) -> None:
        head = orjson.dumps({"tell": number})
        self._cluster.send(node, _TOPIC, head + b"\n" + message)
