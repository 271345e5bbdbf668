"""Swarms: who is in them, and how offers and answers get from one peer to another.

A swarm is known by the public key of its owner and the info-hash, so it is out of reach for who has no token of that
owner's. A peer is known by its peer id, which every other one learns. It belongs to whoever announced it first, until he
goes: otherwise anybody in a swarm could have another's answers.
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
"""Announces, with as many offers as are allowed, whose offers are passed on in one interval."""

_INTERVALS: Final = 3
"""Intervals in which nothing was heard, after which a peer is gone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the tracker allows."""

    clients: int = 10_000
    """Connected clients."""
    offers_per_announce: int = 20
    """The rest of them is left out. npm's webtorrent makes 5, libtorrent 10."""
    swarms_per_socket: int = 256
    peers_per_swarm: int = 10_000
    interval: int = 120
    """Seconds after which clients announce again."""
    least_patience: int = 360
    """Seconds for which a peer that has not announced again is not taken to be gone, however short the interval is:
    libtorrent does not announce more often than every 60."""

    @property
    def patience(self) -> int:
        """Return the seconds after which a peer that has not announced again is taken to be gone."""
        return max(self.least_patience, _INTERVALS * self.interval)


@dataclass(slots=True, eq=False)
class Client:
    """A connection that announces."""

    owner: bytes
    """The public key that its token is signed with. Nobody's, that is none, in open mode."""
    name: str
    """What a client keeps when it connects again: the id of its token, or what stands for its address."""
    send: Callable[[bytes], None]
    members: dict[tuple[str, str], Member] = field(default_factory=dict)
    """By info-hash and peer id."""


@dataclass(slots=True, eq=False, kw_only=True)
class Member(Peer):
    """A peer of a swarm."""

    client: Client
    swarm: Swarm
    peer_id: str
    announced: float
    """When it was heard of last."""
    place: int = 0
    """In the list of the swarm's seeds, or of its leechers."""
    offered: int = 0
    """How many offers it made that were passed on, since `since`."""
    since: float = 0.0


@dataclass(slots=True, eq=False)
class Swarm:
    """The peers of a torrent."""

    owner: bytes
    info_hash: str
    written: bytes
    """The info-hash in JSON."""
    members: dict[str, Member] = field(default_factory=dict)
    """By peer id."""
    seeds: list[Member] = field(default_factory=list)
    leechers: list[Member] = field(default_factory=list)
    downloaded: int = 0
    """How often a peer told that it has just got everything."""

    def enter(self, member: Member) -> None:
        """Take a peer in."""
        self.members[member.peer_id] = member
        self._list(member)

    def leave(self, member: Member) -> None:
        """Let a peer go."""
        del self.members[member.peer_id]
        self._unlist(member)

    def lacks(self, member: Member, left: float) -> None:
        """Note how much a peer lacks now."""
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
        """Put the last one in its place: the order is of no importance."""
        peers = self.leechers if member.left else self.seeds
        last = peers.pop()
        if last is not member:
            peers[member.place] = last
            last.place = member.place


class Swarms:
    """All swarms of this node, and what their peers ask."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with none."""
        self.announces = 0
        self.offers = 0
        self.answers = 0
        """How many were passed on."""
        self._limits = limits
        self._clock = clock
        self._swarms: dict[tuple[bytes, str], Swarm] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._swarms)

    def __iter__(self) -> Iterator[Swarm]:
        """Return all, also while some end."""
        return iter(tuple(self._swarms.values()))

    def announce(
        self, client: Client, message: Announce, *, silently: bool = False
    ) -> None:
        """Do what a peer says, reply, and pass its offers on. `silently`: it was not the client that said so."""
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
        """Pass an answer on to the one peer that it is for. There is no reply, also if that peer is gone."""
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
        """Reply how many peers swarms have."""
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
        """Let a client's peers go: it is not connected any more."""
        for member in tuple(client.members.values()):
            self._remove(member)

    def sweep(self) -> None:
        """Let peers go that have not announced for too long."""
        oldest = self._clock() - self._limits.patience
        for swarm in self:
            for member in tuple(swarm.members.values()):
                if member.announced < oldest:
                    self._remove(member)

    def drop(self, swarm: Swarm) -> None:
        """Let all peers of a swarm go: another node knows them now."""
        for member in tuple(swarm.members.values()):
            self._remove(member)

    def _enter(self, client: Client, message: Announce) -> Member | str:
        """Return the peer that a client announces, or why it may not."""
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
        # Who went with offers that nobody answered would keep those whom it asked, and they those whom they asked.
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
    """Return how a message of one peer to another begins."""
    return b'{"action":"announce","info_hash":%b,"peer_id":%b,"offer_id":' % (
        member.swarm.written,
        orjson.dumps(member.peer_id),
    )
