"""How the parts are put together."""

from __future__ import annotations

from .cluster import Alone, Cluster
from .front import Front
from .peers import Peers
from .sessions import Sessions
from .settings import Settings


class Server:
    """The signalling server, as one process."""

    def __init__(self, settings: Settings, cluster: Cluster | None = None) -> None:
        """Put it together. Raises OSError if the certificate cannot be read."""
        self.settings = settings
        self.cluster: Cluster = cluster or Alone()
        self.front = Front(settings)
        self.sessions = Sessions(settings.secret.encode() if settings.secret else None)
        self.peers = Peers(
            self.cluster,
            self.sessions,
            key=settings.key,
            alive_timeout=settings.alive_timeout,
            expire_timeout=settings.expire_timeout,
            concurrent_limit=settings.concurrent_limit,
            queued_messages=settings.queued_messages,
            queued_bytes=settings.queued_bytes,
        )
        self.front.route(f"{settings.path}peerjs", self.peers.accept)
        self.front.app.add_routes(self.peers.routes(settings.path))

    @property
    def port(self) -> int:
        """Where it listens, once it does."""
        return self.front.port

    async def start(self) -> None:
        """Listen. Raises OSError."""
        await self.cluster.start()
        await self.peers.start()
        await self.front.start()

    async def stop(self) -> None:
        """Tell all clients when to come back, and end."""
        await self.front.stop(self.settings.retry_after)
        await self.peers.close()
        await self.cluster.close()
