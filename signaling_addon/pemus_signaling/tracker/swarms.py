"""Swarms: their peers, and the offers and answers between them.

A swarm is identified by the public key of its owner and the info-hash, so only clients with a token of this owner reach it. A
peer is identified by its peer ID, which all others learn. The ID belongs to the client that announced it first, until this
client leaves. Otherwise any client of a swarm could receive the answers for another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
import time
from typing import Final

import orjson

from .announces import Announce, Answer, Scrape, failure
from .matching import Peer, choose

BURST: Final = 10
"""Announces with the maximum number of offers whose offers are relayed in one interval."""

_INTERVALS: Final = 3
"""Intervals without an announce after which a peer is removed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the tracker allows."""

    clients: int = 10_000
    """Connected clients."""
    offers_per_announce: int = 20
    """Further offers are ignored. npm's webtorrent sends 5, libtorrent 10."""
    swarms_per_socket: int = 256
    peers_per_swarm: int = 10_000
    interval: int = 120
    """Seconds between two announces of a peer."""
    least_patience: int = 360
    """Minimum of `patience`, in seconds. libtorrent announces at most once a minute, even if `interval` is shorter."""

    @property
    def patience(self) -> int:
        """Seconds without an announce after which a peer is removed."""
        return max(self.least_patience, _INTERVALS * self.interval)


@dataclass(slots=True, eq=False)
class Client:
    """A connection to the tracker, of this node or another one."""

    owner: bytes
    """The public key of its token. Empty without a token."""
    name: str
    """What stays the same when the client reconnects: the ID of its token, or its address."""
    send: Callable[[bytes], None]
    members: dict[tuple[str, str], Member] = field(default_factory=dict)
    """By info-hash and peer ID."""


@dataclass(slots=True, eq=False, kw_only=True)
class Member(Peer):
    """A peer of a swarm."""

    client: Client
    swarm: Swarm
    peer_id: str
    announced: float
    """When it announced last."""
    place: int = 0
    """Its index in the list of seeds or leechers of the swarm."""
    offered: int = 0
    """How many of its offers were relayed since `since`."""
    since: float = 0.0


@dataclass(slots=True, eq=False)
class Swarm:
    """The peers of a torrent."""

    owner: bytes
    info_hash: str
    written: bytes
    """The info-hash in JSON."""
    members: dict[str, Member] = field(default_factory=dict)
    """By peer ID."""
    seeds: list[Member] = field(default_factory=list)
    leechers: list[Member] = field(default_factory=list)
    downloaded: int = 0
    """How many peers reported that they completed the download."""

    def enter(self, member: Member) -> None:
        """Add a peer."""
        self.members[member.peer_id] = member
        self._list(member)

    def leave(self, member: Member) -> None:
        """Remove a peer."""
        del self.members[member.peer_id]
        self._unlist(member)

    def lacks(self, member: Member, left: float) -> None:
        """Update how many bytes a peer lacks."""
        if (left == 0) != (member.left == 0):
            self._unlist(member)
            member.left = left
            self._list(member)
        member.left = left

    def _list(self, member: Member) -> None:
        peers = self.leechers if member.left else self.seeds
        member.place = len(peers)
        peers.append(member)

    def _unlist(self, member: Member) -> None:
        """Replace the peer by the last one of the list. The order does not matter."""
        peers = self.leechers if member.left else self.seeds
        last = peers.pop()
        if last is not member:
            peers[member.place] = last
            last.place = member.place


class Swarms:
    """The swarms of this node, and the messages of their peers."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without swarms. `clock` is monotonic, in seconds."""
        self.announces = 0
        self.offers = 0
        self.answers = 0
        """How many announces were processed, and how many offers and answers were relayed."""
        self._limits = limits
        self._clock = clock
        self._swarms: dict[tuple[bytes, str], Swarm] = {}

    def __len__(self) -> int:
        """Return the number of swarms."""
        return len(self._swarms)

    def __iter__(self) -> Iterator[Swarm]:
        """Iterate over all swarms. Swarms may end meanwhile."""
        return iter(tuple(self._swarms.values()))

    def announce(
        self, client: Client, message: Announce, *, silently: bool = False
    ) -> None:
        """Process an announce: reply, and relay the offers. There is no reply if `silently` is set."""
        self.announces += 1
        if message.event == "stopped":
            member = client.members.get((message.info_hash, message.peer_id))
            if member is not None:
                self._remove(member)
            self._reply(client, message.info_hash)
            return
        entered = self._enter(client, message)
        if isinstance(entered, str):
            client.send(failure(entered, message.info_hash))
            return
        if not silently:
            self._reply(client, message.info_hash)
        if message.offers:
            self._offer(entered, message.offers)

    def answer(self, client: Client, message: Answer) -> None:
        """Relay an answer to its receiver. There is no reply, even if the receiver is gone."""
        member = client.members.get((message.info_hash, message.peer_id))
        if member is None:
            client.send(failure("announce first", message.info_hash))
            return
        receiver = member.swarm.members.get(message.to_peer_id)
        if receiver is None or receiver is member:
            return
        self.answers += 1
        if member in receiver.asked:
            receiver.asked.remove(member)
        receiver.client.send(
            b'%b%b,"answer":{"type":"answer","sdp":%b}}'
            % (_head(member), orjson.dumps(message.offer_id), orjson.dumps(message.sdp))
        )

    def scrape(self, client: Client, message: Scrape) -> None:
        """Reply with the numbers of peers."""
        files = {}
        for info_hash in message.info_hashes:
            swarm = self._swarms.get((client.owner, info_hash))
            files[info_hash] = {
                "complete": len(swarm.seeds) if swarm else 0,
                "incomplete": len(swarm.leechers) if swarm else 0,
                "downloaded": swarm.downloaded if swarm else 0,
            }
        flags = {"min_request_interval": self._limits.interval}
        client.send(orjson.dumps({"action": "scrape", "files": files, "flags": flags}))

    def leave(self, client: Client) -> None:
        """Remove the peers of a client that disconnected."""
        for member in tuple(client.members.values()):
            self._remove(member)

    def sweep(self) -> None:
        """Remove peers that have not announced for too long."""
        oldest = self._clock() - self._limits.patience
        for swarm in self:
            for member in tuple(swarm.members.values()):
                if member.announced < oldest:
                    self._remove(member)

    def drop(self, swarm: Swarm) -> None:
        """Remove a swarm that another node manages now."""
        for member in tuple(swarm.members.values()):
            self._remove(member)

    def _enter(self, client: Client, message: Announce) -> Member | str:
        """Add or update the peer of an announce. Return it, or the reason why it is refused."""
        now = self._clock()
        known = (message.info_hash, message.peer_id)
        member = client.members.get(known)
        if member is None:
            if len(client.members) >= self._limits.swarms_per_socket:
                return "too many torrents"
            swarm = self._swarm(client.owner, message.info_hash)
            former = swarm.members.get(message.peer_id)
            if former is not None:
                if former.client.name != client.name:
                    return "this peer_id is taken"
                self._remove(former)
                swarm = self._swarm(client.owner, message.info_hash)
            if len(swarm.members) >= self._limits.peers_per_swarm:
                return "this swarm is full"
            member = Member(
                left=message.left,
                load=0,
                client=client,
                swarm=swarm,
                peer_id=message.peer_id,
                announced=now,
                since=now,
            )
            client.members[known] = member
            swarm.enter(member)
        else:
            member.announced = now
            member.load = 0
            if message.event == "completed" and member.left:
                member.swarm.downloaded += 1
            if message.left != member.left:
                member.swarm.lacks(member, message.left)
        return member

    def _swarm(self, owner: bytes, info_hash: str) -> Swarm:
        swarm = self._swarms.get((owner, info_hash))
        if swarm is None:
            swarm = Swarm(owner, info_hash, orjson.dumps(info_hash))
            self._swarms[owner, info_hash] = swarm
        return swarm

    def _remove(self, member: Member) -> None:
        swarm = member.swarm
        swarm.leave(member)
        # Otherwise unanswered offers would keep chains of removed peers in memory.
        member.asked = []
        if not swarm.members:
            del self._swarms[swarm.owner, swarm.info_hash]
        del member.client.members[swarm.info_hash, member.peer_id]

    def _reply(self, client: Client, info_hash: str) -> None:
        swarm = self._swarms.get((client.owner, info_hash))
        client.send(
            b'{"action":"announce","info_hash":%b,"interval":%d,"complete":%d,"incomplete":%d}'
            % (
                swarm.written if swarm else orjson.dumps(info_hash),
                self._limits.interval,
                len(swarm.seeds) if swarm else 0,
                len(swarm.leechers) if swarm else 0,
            )
        )

    def _offer(self, member: Member, offers: list[tuple[str, str]]) -> None:
        most = min(len(offers), self._limits.offers_per_announce)
        if member.announced >= member.since + self._limits.interval:
            member.since = member.announced
            member.offered = 0
        if member.offered >= BURST * self._limits.offers_per_announce:
            return
        swarm = member.swarm
        receivers = choose(member, swarm.seeds, swarm.leechers, most, member.announced)
        member.asked[:] = receivers
        member.asked_at = member.announced
        self.offers += len(receivers)
        member.offered += len(receivers)
        head = _head(member)
        for receiver, (offer_id, sdp) in zip(receivers, offers, strict=False):
            receiver.load += 1
            receiver.client.send(
                b'%b%b,"offer":{"type":"offer","sdp":%b}}'
                % (head, orjson.dumps(offer_id), orjson.dumps(sdp))
            )


def _head(member: Member) -> bytes:
    """Return the beginning of a message from one peer to another."""
    return b'{"action":"announce","info_hash":%b,"peer_id":%b,"offer_id":' % (
        member.swarm.written,
        orjson.dumps(member.peer_id),
    )
