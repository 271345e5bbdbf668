"""Swarms over several nodes: each has one home, and whoever is connected to another node is introduced there.

A node that takes an announce for a swarm whose home is elsewhere hands it on as it is, and what the home has for that
socket comes back the same way. All nodes that see the same nodes agree on the home (`cluster.home_of`). Messages between
nodes may be lost: a peer that nobody hears of any more is forgotten, and one that is missing announces again.

A message is a line of JSON and, after it, what it is about:
- `{"say": SOCKET, "owner": KEY, "name": NAME, "silently": BOOL}` and a message of a client;
- `{"tell": SOCKET}` and a message for it;
- `{"gone": SOCKET}`: it is not connected any more.
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
"""Swarms whose home is not worked out anew each time."""


class Homes:
    """What this node says to others about swarms, and they to it."""

    def __init__(
        self,
        cluster: Cluster,
        swarms: Swarms,
        tell: Callable[[int, bytes], bool],
        moved: Callable[[], None],
    ) -> None:
        """Listen to other nodes. To be made before the cluster starts.

        `tell` sends a message to one of this node's sockets and returns False if there is no such. `moved` is called when
        swarms may have another home than before, and when others may have missed something.
        """
        self._cluster = cluster
        self._swarms = swarms
        self._tell = tell
        self._moved = moved
        self._nodes = tuple(cluster.nodes())
        self._strangers: dict[tuple[str, int], Client] = {}
        """Sockets of other nodes that have peers here."""
        self._home = lru_cache(maxsize=_REMEMBERED)(self._choose)
        cluster.on(_TOPIC, self._received)
        cluster.on_nodes(self._changed)

    @property
    def alone(self) -> bool:
        """Whether there is no other node."""
        return len(self._nodes) == 1

    def elsewhere(self, owner: bytes, info_hash: str) -> str | None:
        """Return the node that is a swarm's home, None if this one is."""
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
        """Hand a message of one of this node's sockets on. `silently`: the client must not get a reply."""
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
        """Announce a peer, by info-hash, peer id and what it lacks, to a node that may not know it."""
        info_hash, peer_id, left = peer
        message = {
            "action": "announce",
            "info_hash": info_hash,
            "peer_id": peer_id,
            "left": None if math.isinf(left) else left,
        }
        self.say(node, number, client, orjson.dumps(message), silently=True)

    def gone(self, node: str, number: int) -> None:
        """Tell another node that a socket is not connected any more."""
        self._cluster.send(node, _TOPIC, orjson.dumps({"gone": number}) + b"\n")

    def sweep(self) -> None:
        """Forget other nodes' sockets that have no peers here any more."""
        for known, stranger in tuple(self._strangers.items()):
            if not stranger.members:
                del self._strangers[known]

    def _choose(self, owner: bytes, info_hash: str) -> str:
        return home_of(self._nodes, owner + info_hash.encode("latin-1"))

    def _changed(self) -> None:
        nodes = self._cluster.nodes()
        self._nodes = tuple(nodes)
        self._home.cache_clear()
        for (node, number), stranger in tuple(self._strangers.items()):
            if node not in nodes:
                self._swarms.leave(stranger)
                del self._strangers[node, number]
        self._moved()

    def _received(self, node: str, message: bytes) -> None:
        """Do what another node says. It runs the same program, and is taken at its word."""
        line, _, about = message.partition(b"\n")
        head = orjson.loads(line)
        if "say" in head:
            self._said(node, head, about)
        elif "tell" in head:
            if not self._tell(head["tell"], about):
                self.gone(node, head["tell"])
        elif "gone" in head:
            stranger = self._strangers.pop((node, head["gone"]), None)
            if stranger is not None:
                self._swarms.leave(stranger)

    def _said(self, node: str, head: dict[str, Any], message: bytes) -> None:
        known = (node, head["say"])
        client = self._strangers.get(known)
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
            self._strangers[known] = client
        else:
            self._strangers.pop(known, None)

    def _reply(self, node: str, number: int, message: bytes) -> None:
        head = orjson.dumps({"tell": number})
        self._cluster.send(node, _TOPIC, head + b"\n" + message)
