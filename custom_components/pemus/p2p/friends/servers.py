"""The signalling servers that this home is connected to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
import logging
from typing import Any, Protocol

from aiohttp import ClientSession

from ..models.homes import ServerStatus
from ..models.servers import server_url
from ..net.messenger import Messenger
from ..net.signaling.client import SignalingServer
from ..net.webrtc.ice import IceServer

_LOGGER = logging.getLogger(__name__)


class GuestHost(Protocol):
    """Receives guests that come through a signalling server. Rooms do, which lie above the servers."""

    def called(
        self, server: SignalingServer, guest: str, payload: dict[str, Any]
    ) -> None:
        """Handle what a guest sends."""

    def connected(self) -> None:
        """Note that a server is connected that was not."""


class Servers:
    """Keeps a connection to each configured server."""

    def __init__(
        self,
        messenger: Messenger,
        *,
        on_change: Callable[[], None],
        on_connected: Callable[[], None],
    ) -> None:
        """Prepare to bring messages to `messenger`.

        `on_change` is called when a status may have changed, `on_connected` when a server that is connected reports one.
        """
        self._messenger = messenger
        self._on_change = on_change
        self._on_connected = on_connected
        self._servers: dict[str, SignalingServer] = {}
        self.guest_host: GuestHost | None = None
        """Receives guests; without one, they are not answered."""

    async def apply(self, urls: Sequence[str], session: ClientSession) -> None:
        """Connect to these servers, and to no others."""
        wanted = dict.fromkeys(filter(None, map(_normal, urls)))
        for url in [each for each in self._servers if each not in wanted]:
            server = self._servers.pop(url)
            self._messenger.remove(server)
            await server.stop()
        for url in wanted:
            if url not in self._servers:
                self._add(url, session)

    async def stop(self) -> None:
        """Close all connections."""
        for server in self._servers.values():
            await server.stop()
        self._servers.clear()

    @property
    def statuses(self) -> tuple[ServerStatus, ...]:
        """The servers as they are, in the order of the configuration."""
        return tuple(server.status for server in self._servers.values())

    @property
    def all(self) -> tuple[SignalingServer, ...]:
        """The servers, in the order in which they were added."""
        return tuple(self._servers.values())

    @property
    def superseded(self) -> bool:
        """Whether another home has proved this home's identity to a server."""
        return any(server.superseded for server in self._servers.values())

    @property
    def is_connected(self) -> bool:
        """Whether any server is connected."""
        return any(server.status.connected for server in self._servers.values())

    def wake(self) -> None:
        """Connect at once to servers that are not connected, and check the others."""
        for server in self._servers.values():
            server.wake()

    def connect(self) -> None:
        """Connect at once to servers that are not connected."""
        for server in self._servers.values():
            if not server.status.connected:
                server.wake()

    def resume(self) -> None:
        """Use the identity again after another home took it over."""
        for server in self._servers.values():
            server.resume()

    async def ice_servers(self) -> Sequence[IceServer]:
        """Return the STUN and TURN servers of the first signalling server that has any."""
        for server in self._servers.values():
            if server.status.connected and (found := await server.ice_servers()):
                return found
        return ()

    async def stun_server(self) -> str | None:
        """Return the first STUN server, as `host:port`."""
        for server in await self.ice_servers():
            for url in server.urls:
                if url.startswith("stun:"):
                    return url.removeprefix("stun:")
        return None

    def _add(self, url: str, session: ClientSession) -> None:
        server = SignalingServer(
            url,
            self._messenger.identity,
            on_message=partial(self._received, url),
            on_guest=partial(self._called, url),
            on_missing=partial(_LOGGER.debug, "%s is not at a signalling server"),
            on_change=partial(self._changed, url),
            session=session,
        )
        self._servers[url] = server
        self._messenger.add(server)
        server.start()

    def _received(self, url: str, source: str, message: object) -> None:
        if (server := self._servers.get(url)) is None:
            return
        if server.status.identity and not (
            isinstance(message, dict) and message.get("sender") == source
        ):
            # A server that asks for proofs knows the sender. Nobody may use up the rate of another home.
            return
        self._messenger.receive(message, server, source)

    def _called(self, url: str, guest: str, payload: dict[str, Any]) -> None:
        server = self._servers.get(url)
        if server is not None and self.guest_host is not None:
            self.guest_host.called(server, guest, payload)

    def _changed(self, url: str) -> None:
        server = self._servers.get(url)
        if server is not None and server.status.connected:
            self._on_connected()
            if self.guest_host is not None:
                self.guest_host.connected()
        self._on_change()


def _normal(url: str) -> str | None:
    """Return a server's URL in its one normal form, None for what is no such URL."""
    try:
        return server_url(url)
    except ValueError as err:
        _LOGGER.error("%s is not a signalling server: %s", url, err)
        return None
