"""The engine's API: REST and one WebSocket over a unix socket. See `routes` for what can be asked, `events` for what is told."""

from .server import ApiServer, SocketError

__all__ = ["ApiServer", "SocketError"]
