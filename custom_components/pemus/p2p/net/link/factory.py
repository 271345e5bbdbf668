"""Makes links to homes and guests: loads aiortc when it is needed, and knows what every link of this home has in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
import secrets
from typing import TYPE_CHECKING

from ...core import tasks
from ...core.errors import Unavailable
from ...core.throttle import Throttle
from ...models.homes import MAX_NAME
from ...models.version import VERSION as RELEASE
from ..messenger import Messenger
from ..webrtc.ice import IceServer
from .frames import Hello
from .handshake import Answer, Handshake, Offer, Party, transcript
from .link import VERSIONS, HomeHost, Host, Link, Owner

if TYPE_CHECKING:
    from .slot import LinkSlot


class LinkFactory:
    """Makes the links of one home, and their handshakes."""

    def __init__(
        self,
        messenger: Messenger,
        host: HomeHost,
        *,
        name: Callable[[], str],
        servers: Callable[[], Awaitable[Sequence[IceServer]]],
        rates: Callable[[str], tuple[Throttle, ...]],
    ) -> None:
        """Prepare to make links. `servers` finds STUN and TURN servers, `rates` limits what is sent to a home."""
        self.messenger = messenger
        self.host = host
        self._name = name
        self._servers = servers
        self._rates = rates
        self._instance = secrets.token_hex(8)
        self._loading: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Load aiortc, which takes half a second and memory that a home without friends does not need."""
        if self._loading is None:
            self._loading = tasks.spawn(self._load(), "load aiortc")

    async def close(self) -> None:
        """Stop loading."""
        await tasks.end(self._loading)

    async def new(
        self, slot: LinkSlot, *, lan: bool, offering: bool, direct: bool = False
    ) -> Link:
        """Return a link that is not connected yet. Raises Unavailable without aiortc.

        `lan`: use no servers. `direct`: use no relay.
        """
        servers = () if lan else await self._servers()
        hello = Hello(
            versions=VERSIONS,
            release=RELEASE,
            name=self._name()[:MAX_NAME],
            instance=self._instance,
            signature="",
        )
        return await self.make(
            slot,
            self.host,
            hello,
            _without_turn(servers) if direct else servers,
            offering=offering,
            direct=direct,
            rates=self._rates(slot.home),
        )

    async def make(
        self,
        owner: Owner,
        host: Host,
        hello: Hello,
        servers: Sequence[IceServer],
        *,
        offering: bool,
        direct: bool = False,
        rates: tuple[Throttle, ...],
    ) -> Link:
        """Return a link of an owner that is not connected yet. Raises Unavailable without aiortc."""
        self.prepare()
        assert self._loading is not None
        await asyncio.wait((self._loading,))
        try:
            from ..webrtc.connection import Connection
        except ImportError as err:
            raise Unavailable(f"nobody can be reached: {err}") from None
        return Link(
            partial(Connection, servers, direct=direct),
            owner,
            host,
            hello=hello,
            offering=offering,
            rates=rates,
        )

    def handshake(
        self, peer: Party, offer: Offer, answer: Answer, *, offering: bool
    ) -> Handshake:
        """Return what both ends sign. Raises BadEnvelope, and BadDescription without fingerprints."""
        identity = self.messenger.identity
        own = Party(identity.id, identity.key)
        parties = (own, peer) if offering else (peer, own)
        signed = transcript(*parties, offer, answer)
        return Handshake(identity, peer.key, offering, signed)

    async def _load(self) -> None:
        """Import aiortc in a thread, because the event loop must not wait for it."""
        with suppress(ImportError):
            await asyncio.to_thread(import_module, "..webrtc.connection", __package__)


def _without_turn(servers: Sequence[IceServer]) -> Sequence[IceServer]:
    stun = [
        tuple(url for url in each.urls if url.startswith("stun:")) for each in servers
    ]
    return [IceServer(urls=urls) for urls in stun if urls]
