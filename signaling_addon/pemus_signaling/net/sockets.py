"""What the program sees of a WebSocket. It knows neither the library nor the connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Close(IntEnum):
    """Why a socket is closed: status codes of RFC 6455, section 7.4. Codes from 4000 are specific to this program."""

    GOING_AWAY = 1001
    """The server stops. The reason contains the seconds after which to reconnect."""
    UNREADABLE = 1007
    """A message violates the protocol."""
    POLICY = 1008
    TOO_BIG = 1009
    TRY_LATER = 1013
    """A limit is reached."""
    SUPERSEDED = 4001
    """A newer connection has the same ID. Clients do not reconnect, because that would close the newer connection."""
    IDLE = 4002
    """The client was silent for too long."""
    REVOKED = 4003
    """The token was revoked or has expired, or its room was closed."""
    UNPROVEN = 4004
    """The client did not prove its identity in time, or failed to."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A client that wants a WebSocket."""

    query: Mapping[str, str]
    """The first value of each name."""
    address: str
    """The client's IP address, as a trusted proxy reports it if there is one. It is never logged."""
    origin: str
    """The origin that the client connected to, like `https://signal.example:8443`.

    Empty if it is not an origin of this server. Then the client cannot prove an identity.
    """


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a client that does not get a WebSocket."""

    status: int
    text: str
    retry_after: int | None = None
    """Seconds."""


class Socket(Protocol):
    """An open WebSocket."""

    def send(self, message: bytes) -> None:
        """Send a text message without blocking. A client that reads too slowly is disconnected. Does nothing after `close`."""

    def relay(self, message: bytes) -> None:
        """Send a message of another client, or drop it if too much is waiting, so that no client can disconnect another one."""

    def prove(self) -> bool:
        """Count the client as one with a proven identity. Return False if its address has too many of them."""

    def close(self, code: Close, reason: str = "") -> None:
        """Send pending messages and a close frame, and disconnect. The listener is called as at any other end."""


class Listener(Protocol):
    """Handles the messages of a WebSocket. It is not called again after `closed`."""

    def opened(self, socket: Socket) -> None:
        """Take over the socket, which is open now."""

    def received(self, message: bytes) -> None:
        """Process a message. An exception closes the socket with `Close.UNREADABLE`, and is logged without its text."""

    def closed(self) -> None:
        """Clean up after the connection ended, for any reason."""
