"""The engine's API: REST and one WebSocket over a unix socket, with one router per component.

`control` is the home itself, `media` own and friends' media, `transfers` what is fetched, `friends` pairing and the local network,
`events` what the engine reports by itself.
"""

from .server import ApiServer, SocketError

__all__ = ["ApiServer", "SocketError"]
