"""How the parts are put together."""

from __future__ import annotations

from .cluster import Alone, Cluster
from .front import Front
from .settings import Settings


class Server:
    """The signalling server, as one process."""

    def __init__(self, settings: Settings, cluster: Cluster | None = None) -> None:
        """Put it together. Raises OSError if the certificate cannot be read."""
        self.settings = settings
        self.cluster: Cluster = cluster or Alone()
        self.front = Front(settings)

    @property
    def port(self) -> int:
        """Where it listens, once it does."""
        return self.front.port

    async def start(self) -> None:
        """Listen. Raises OSError."""
        await self.cluster.start()
        await self.front.start()

    async def stop(self) -> None:
        """Tell all clients when to come back, and end."""
        await self.front.stop(self.settings.retry_after)
        await self.cluster.close()
