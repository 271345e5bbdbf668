"""The WebTorrent tracker, for clients with a room token.

Standard clients work with the URL `.../announce?token=TOKEN`. The token is checked when they connect. When it expires, or the
token or its room is revoked, the socket is closed with `Close.REVOKED`, and its peers leave all swarms. In open mode, the
tracker also accepts clients without a token. Their swarms are separate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
import time
from typing import Final

import orjson

from pemus_signaling.cluster.cluster import Cluster
from pemus_signaling.net.sockets import Close, Listener, Refusal, Socket, Upgrade
from pemus_signaling.rooms.tokens import (
    ANNOUNCE,
    Revocation,
    Revocations,
    RoomToken,
    TokenError,
    read as read_token,
)

from .announces import Announce, Answer, MalformedError, Scrape, failure, read
from .homes import Homes
from .swarms import Client, Limits, Swarms

SWEEPS: Final = 3
"""Checks for silent peers within the time after which they are removed."""

_DAY: Final = 86400
_NOBODY: Final = b""
"""The owner of swarms without a token."""


class Tracker:
    """Connects sockets to swarms, on this node and on others."""

    def __init__(
        self,
        cluster: Cluster,
        revocations: Revocations,
        limits: Limits | None = None,
        *,
        open_mode: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Register with the cluster, which must not have started. `clock` returns seconds since 1970."""
        self._limits = limits or Limits()
        self._open_mode = open_mode
        self.clock = clock
        self._revocations = revocations
        self._guests: dict[int, _Guest] = {}
        self._by_owner: dict[bytes, set[_Guest]] = {}
        self.numbers = count(1)
        """Numbers for sockets, unique while this node runs."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.swarms = Swarms(self._limits)
        """The swarms that this node manages."""
        self.homes = Homes(cluster, self.swarms, self._tell, self._moved)
        revocations.subscribe(self._revoked)

    @property
    def sockets(self) -> int:
        """How many clients are connected."""
        return len(self._guests)

    def accept(self, upgrade: Upgrade) -> Listener | Refusal:
        """Accept a client with a valid token."""
        if len(self._guests) >= self._limits.clients:
            return Refusal(503, "too many clients", retry_after=60)
        text = upgrade.query.get("token")
        if text is None:
            if not self._open_mode:
                return Refusal(401, "the tracker needs a room token")
            return _Guest(self, None, upgrade.address)
        try:
            token = read_token(text, self.clock())
        except TokenError as error:
            return Refusal(401, str(error))
        if self._revocations.is_revoked(token):
            return Refusal(403, "the token was revoked")
        if ANNOUNCE not in token.may:
            return Refusal(403, "the token does not allow announces")
        return _Guest(self, token, token.id)

    def close(self) -> None:
        """Remove all clients. The front closes their sockets."""
        self._is_closed = True
        for guest in tuple(self._guests.values()):
            guest.end()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def entered(self, guest: _Guest) -> None:
        """Add a guest."""
        if guest.token is not None and self._revocations.is_revoked(guest.token):
            guest.revoke("the token was revoked")
            return
        self._guests[guest.number] = guest
        self._by_owner.setdefault(guest.client.owner, set()).add(guest)
        self._sweep_later()

    def left(self, guest: _Guest) -> None:
        """Remove a guest and its peers."""
        if self._guests.pop(guest.number, None) is None:
            return
        guests = self._by_owner[guest.client.owner]
        guests.discard(guest)
        if not guests:
            del self._by_owner[guest.client.owner]
        self.swarms.leave(guest.client)
        for node in {peer.home for peer in guest.away.values()}:
            self.homes.gone(node, guest.number)
        guest.away.clear()

    def take(
        self, guest: _Guest, said: Announce | Answer | Scrape, message: bytes
    ) -> None:
        """Process a message of a guest, or hand it to the home of its swarm."""
        if isinstance(said, Scrape):
            self._scrape(guest, said)
            return
        client = guest.client
        if not guest.may_announce(said.info_hash):
            client.send(failure("the token is not for this torrent", said.info_hash))
            return
        home = self.homes.elsewhere(client.owner, said.info_hash)
        if home is not None:
            self._hand_on(guest, home, said, message)
        elif isinstance(said, Announce):
            self.swarms.announce(client, said)
        else:
            self.swarms.answer(client, said)

    def _scrape(self, guest: _Guest, said: Scrape) -> None:
        """Ask each home about its swarms. Clients accept several replies, each about some torrents."""
        asked = said.info_hashes or [
            info_hash for info_hash, _ in (*guest.client.members, *guest.away)
        ]
        homes: dict[str | None, list[str]] = {}
        for info_hash in asked:
            if guest.may_announce(info_hash):
                home = self.homes.elsewhere(guest.client.owner, info_hash)
                homes.setdefault(home, []).append(info_hash)
        for home, info_hashes in (homes or {None: []}).items():
            if home is None:
                self.swarms.scrape(guest.client, Scrape(info_hashes))
            else:
                message = orjson.dumps({"action": "scrape", "info_hash": info_hashes})
                self.homes.say(home, guest.number, guest.client, message)

    def _hand_on(
        self, guest: _Guest, home: str, said: Announce | Answer, message: bytes
    ) -> None:
        known = (said.info_hash, said.peer_id)
        if isinstance(said, Answer):
            if known not in guest.away:
                guest.client.send(failure("announce first", said.info_hash))
                return
        elif said.event == "stopped":
            guest.away.pop(known, None)
        else:
            others = len(guest.client.members) + len(guest.away)
            if known not in guest.away and others >= self._limits.swarms_per_socket:
                guest.client.send(failure("too many torrents", said.info_hash))
                return
            guest.away[known] = _Away(home, said.left, guest.heard)
        self.homes.say(home, guest.number, guest.client, message)

    def _tell(self, number: int, message: bytes) -> bool:
        guest = self._guests.get(number)
        if guest is not None:
            guest.client.send(message)
        return guest is not None

    def _moved(self) -> None:
        """Announce each peer to the new home of its swarm."""
        for guest in tuple(self._guests.values()):
            self._move(guest)
        for swarm in self.swarms:
            if self.homes.elsewhere(swarm.owner, swarm.info_hash) is not None:
                self.swarms.drop(swarm)
        self._sweep_later()

    def _move(self, guest: _Guest) -> None:
        client = guest.client
        for (info_hash, peer_id), member in client.members.items():
            home = self.homes.elsewhere(client.owner, info_hash)
            if home is not None:
                guest.away[info_hash, peer_id] = _Away(home, member.left, guest.heard)
        for (info_hash, peer_id), peer in tuple(guest.away.items()):
            home = self.homes.elsewhere(client.owner, info_hash)
            if home is None:
                del guest.away[info_hash, peer_id]
                announce = Announce(info_hash, peer_id, "update", peer.left, [])
                self.swarms.announce(client, announce, silently=True)
            else:
                peer.home = home
                self.homes.join(
                    home, guest.number, client, (info_hash, peer_id, peer.left)
                )

    def _revoked(self, revocation: Revocation) -> None:
        for guest in tuple(self._by_owner.get(revocation.key, ())):
            if guest.token is not None and revocation.covers(guest.token):
                guest.revoke("the token was revoked")

    def _sweep_later(self) -> None:
        if self._sweeper is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._limits.patience / SWEEPS, self.sweep)

    def sweep(self) -> None:
        """Remove everyone who was silent for too long."""
        self._sweeper = None
        self.swarms.sweep()
        self.homes.sweep()
        oldest = time.monotonic() - self._limits.patience
        for guest in tuple(self._guests.values()):
            guest.sweep(oldest)
        if self._guests or not self.homes.alone:
            self._sweep_later()


class _Away:
    """A peer of this node in a swarm whose home is another node."""

    __slots__ = ("announced", "home", "left")

    def __init__(self, home: str, left: float, announced: float) -> None:
        self.home = home
        self.left = left
        self.announced = announced


class _Guest:
    """A client of this node, and its socket."""

    __slots__ = (
        "_expiry",
        "_socket",
        "_tracker",
        "away",
        "client",
        "heard",
        "number",
        "token",
    )

    def __init__(self, tracker: Tracker, token: RoomToken | None, name: str) -> None:
        self.token = token
        self.client = Client(token.key if token else _NOBODY, name, self._send)
        self.away: dict[tuple[str, str], _Away] = {}
        """By info-hash and peer ID."""
        self.number = next(tracker.numbers)
        self.heard = time.monotonic()
        self._tracker = tracker
        self._socket: Socket | None = None
        self._expiry: asyncio.TimerHandle | None = None

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        if self.token is not None:
            self._expire_later(self.token)
        self._tracker.entered(self)

    def received(self, message: bytes) -> None:
        if self._socket is None:
            return
        self.heard = time.monotonic()
        try:
            said = read(message)
        except MalformedError as error:
            self._socket.send(error.reply)
            return
        self._tracker.take(self, said, message)

    def closed(self) -> None:
        self.end()

    def end(self) -> None:
        """Leave all swarms. The socket stays open."""
        self._socket = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._tracker.left(self)

    def revoke(self, reason: str) -> None:
        """Close the socket, because its token is not valid any more."""
        self._close(Close.REVOKED, reason)

    def may_announce(self, info_hash: str) -> bool:
        """Return whether the token allows a torrent."""
        return (
            self.token is None
            or self.token.hashes is None
            or info_hash.encode("latin-1") in self.token.hashes
        )

    def sweep(self, oldest: float) -> None:
        """Close if the token has expired or nothing was heard since `oldest`. Otherwise forget peers announced before `oldest`."""
        # The timer of the token does not notice corrections of the clock.
        if self.token is not None and self.token.expires <= self._tracker.clock():
            self.revoke("the token has expired")
            return
        if self.heard < oldest:
            self._close(Close.IDLE, "silent for too long")
            return
        for known, peer in tuple(self.away.items()):
            if peer.announced < oldest:
                del self.away[known]

    def _send(self, message: bytes) -> None:
        if self._socket is not None:
            # Messages of others never close a socket.
            self._socket.relay(message)

    def _close(self, code: Close, reason: str) -> None:
        socket = self._socket
        self.end()
        if socket is not None:
            socket.close(code, reason)

    def _expire_later(self, token: RoomToken) -> None:
        # In steps of a day, because the clock may be corrected meanwhile.
        wait = min(token.expires - self._tracker.clock(), _DAY)
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(max(0.0, wait), self._expire, token)

    def _expire(self, token: RoomToken) -> None:
        self._expiry = None
        if token.expires <= self._tracker.clock():
            self.revoke("the token has expired")
        else:
            self._expire_later(token)
