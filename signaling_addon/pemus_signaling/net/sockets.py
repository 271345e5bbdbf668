"""What a WebSocket is to the parts of this program: they know neither the library nor the connection below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Close(IntEnum):
    """Why a socket is closed, as the status of RFC 6455, section 7.4. Those from 4000 on are this program's own."""

    GOING_AWAY = 1001
    """The server stops. The reason holds the seconds after which to come back."""
    UNREADABLE = 1007
    """A message is not what the protocol says."""
    POLICY = 1008
    TOO_BIG = 1009
    TRY_LATER = 1013
    """A limit is reached."""
    SUPERSEDED = 4001
    """Another connection proved to have the same identity. Coming back at once would only end that one in turn."""
    IDLE = 4002
    """Nothing was heard for too long."""
    REVOKED = 4003
    """The token was revoked, has expired, or its room is closed."""
    UNPROVEN = 4004
    """The identity was not proven in time, or not rightly."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A client that wants a WebSocket."""

    path: str
    """Without the query, and percent-decoded."""
    query: Mapping[str, str]
    """The first value of each name."""
    address: str
    """The client's IP address; behind a trusted proxy, the one that the proxy tells of. Never logged."""
    origin: str
    """Where the client believes to be, like `https://signal.example:8443`, if that is one of this server's own origins.

    Empty if it is not: then no identity can be proven over this socket.
    """


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a client that gets no WebSocket."""

    status: int
    text: str
    retry_after: int | None = None
    """Seconds."""


class Socket(Protocol):
    """An open WebSocket, as its listener sees it."""

    def send(self, message: bytes) -> None:
        """Send a text message. It never waits: a client that reads too slowly is hung up on. Nothing happens once it is closed."""

    def relay(self, message: bytes) -> None:
        """Send what another client says, unless too much would wait then: nobody is hung up on for what others do."""

    def prove(self) -> bool:
        """Count the client among those that have proven an identity. Return False if its address has too many of them."""

    def close(self, code: Close, reason: str = "") -> None:
        """Send what is under way, then a close frame, and hang up. The listener is told as of any other end."""


class Listener(Protocol):
    """Somebody who speaks over a WebSocket. Never called again after `closed`."""

    def opened(self, socket: Socket) -> None:
        """Begin. The upgrade was answered."""

    def received(self, message: bytes) -> None:
        """Take a message. What is raised closes the socket with `Close.UNREADABLE` and is logged without content."""

    def closed(self) -> None:
        """End: the connection is gone, whoever ended it."""
