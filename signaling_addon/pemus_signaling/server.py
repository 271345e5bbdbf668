"""Creates, starts and stops the parts of the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
import secrets

from aiohttp import web
from prometheus_client.core import Metric

from . import __version__
from .cluster.cluster import Cluster
from .cluster.redis import RedisCluster
from .identity.sessions import Sessions
from .metrics import Metrics, counter, counters, gauge
from .net.addresses import Networks
from .net.front import Front
from .peers.peers import Peers
from .rooms.redis_store import RedisStore
from .rooms.rooms import Rooms
from .rooms.sqlite_store import SqliteStore
from .rooms.store import RoomStore
from .rooms.tokens import Revocations
from .settings import Settings, SettingsError
from .tracker.swarms import Limits
from .tracker.tracker import Tracker
from .turn.configuration import CoturnSettings
from .turn.coturn import Coturn
from .turn.credentials import Turn
from .turn.host import TurnHost
from .web import invitations
from .web.guest import GuestPage

ROOMS_FILE = "rooms.db"
"""The name of the database in the data folder."""


class Server:
    """The signalling server, as one process."""

    def __init__(self, settings: Settings, worker: int | None = None) -> None:
        """Create the parts. Raises SettingsError, and OSError if the certificate cannot be read.

        `worker` is the number of this process among those that share the port, or None if there are no others.
        """
        self.settings = settings
        self.cluster = Cluster()
        store: RoomStore
        if settings.redis:
            self.cluster = RedisCluster(settings.redis)
            store = RedisStore(settings.redis[0])
        else:
            path = None if settings.data is None else settings.data / ROOMS_FILE
            store = SqliteStore(path)
        self._worker = worker
        self.front = Front(settings)
        self.sessions = Sessions(settings.secret.encode() if settings.secret else None)
        self.revocations = Revocations(self.cluster)
        self.peers = Peers(self.cluster, self.sessions, settings)
        self.tracker = Tracker(
            self.cluster,
            self.revocations,
            Limits(
                clients=settings.concurrent_limit,
                offers_per_announce=settings.offers_per_announce,
                interval=settings.announce_interval,
            ),
            open_mode=settings.open_tracker,
        )
        has_turn = settings.turn or settings.turn_secret is not None
        turn_host = TurnHost(settings) if has_turn else None
        self.rooms = Rooms(store, self.sessions, self.revocations, settings, turn_host)
        self._coturn: Coturn | None = None
        self.turn = self._make_turn(turn_host) if turn_host else None
        self.guest_page = GuestPage(settings.guest_page)
        self.is_ready = False
        """Whether the server accepts connections."""
        self.metrics = Metrics(
            Networks(settings.metrics), self._collect, lambda: self.is_ready
        )
        self._add_routes()

    @property
    def port(self) -> int:
        """The port, once it listens."""
        return self.front.port

    async def start(self) -> None:
        """Start the parts, and listen. Raises OSError."""
        await self.cluster.start()
        if isinstance(self.cluster, RedisCluster) and self.settings.secret is None:
            self.cluster.secret.on_change(self.sessions.share)
            self.sessions.share(await self.cluster.secret.get())
        await self.rooms.start()
        await self.peers.start()
        if self._coturn is not None:
            await self._coturn.start()
        await self.front.start(shared=self._worker is not None)
        self.is_ready = True

    async def stop(self) -> None:
        """Tell all clients when to reconnect, and stop the parts."""
        self.is_ready = False
        await self.front.stop(self.settings.retry_after)
        await self.peers.close()
        self.tracker.close()
        if self._coturn is not None:
            await self._coturn.close()
        await self.rooms.close()
        await self.revocations.close()
        await self.cluster.close()

    def _make_turn(self, host: TurnHost) -> Turn:
        """Create what issues TURN credentials and, if set, coturn. Raises SettingsError."""
        settings = self.settings
        secret = settings.turn_secret or secrets.token_urlsafe(32)
        try:
            # Only the first worker runs coturn.
            if settings.turn and not self._worker:
                self._coturn = Coturn(
                    CoturnSettings(
                        secret=secret,
                        realm=settings.turn_realm,
                        port=settings.turn_port,
                        min_port=settings.turn_min_port,
                        max_port=settings.turn_max_port,
                        external_ip=settings.turn_external_ip,
                        user_quota=settings.turn_user_quota,
                        total_quota=settings.turn_total_quota,
                        max_bps=settings.turn_max_bps,
                    )
                )
            return Turn(
                self.sessions,
                self.revocations,
                self.rooms.is_open,
                settings,
                host,
                secret=secret,
                coturn=self._coturn,
            )
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def _add_routes(self) -> None:
        path = self.settings.path
        self.front.route(f"{path}peerjs", self.peers.accept)
        self.front.route(f"{path}announce", self.tracker.accept)
        self.front.app.add_routes(
            [
                web.get(path, self._get_description),
                *self.metrics.routes(),
                *self.rooms.routes(path),
                *invitations.routes(path),
                *self.guest_page.routes(path),
                *(self.turn.routes(path) if self.turn is not None else ()),
                # The last, because its paths match any prefix.
                *self.peers.routes(path),
            ]
        )

    def _collect(self) -> Iterator[Metric]:
        """Return the numbers that monitoring asks for."""
        front, sockets, swarms = self.front, self.front.sockets, self.tracker.swarms
        yield gauge("sockets", "Open WebSockets.", len(sockets.open))
        yield gauge(
            "requests",
            "Connections that are not, or not yet, WebSockets.",
            len(front.requests),
        )
        yield gauge(
            "peers", "Clients of PeerServer's protocol.", len(self.peers.clients)
        )
        yield gauge(
            "peer_messages_waiting",
            "Messages that wait for a receiver.",
            len(self.peers.waiting),
        )
        yield gauge("tracker_sockets", "Clients of the tracker.", self.tracker.sockets)
        yield counter(
            "tracker_announces", "Announces to swarms of this node.", swarms.announces
        )
        yield counter(
            "tracker_offers", "Offers that swarms of this node relayed.", swarms.offers
        )
        yield counter(
            "tracker_answers",
            "Answers that swarms of this node relayed.",
            swarms.answers,
        )
        if self.turn is not None:
            yield counter(
                "turn_granted", "TURN credentials that were issued.", self.turn.granted
            )
        if self._coturn is not None:
            yield counter("coturn_starts", "Starts of coturn.", self._coturn.starts)
        if isinstance(self.cluster, RedisCluster):
            yield gauge(
                "nodes",
                "Living nodes of the cluster, including this one.",
                len(self.cluster.nodes()),
            )
            yield gauge(
                "redis_away",
                "Redis servers that do not answer.",
                self.cluster.stores_away,
            )
            yield counter(
                "node_messages_dropped",
                "Messages to other nodes that were dropped because too many waited.",
                self.cluster.dropped,
            )
        yield gauge(
            "revocations",
            "Revoked rooms and tokens that are remembered.",
            len(self.revocations),
        )
        yield counter("messages", "Messages that were received.", sockets.messages)
        yield counter(
            "messages_dropped",
            "Messages that were not relayed to clients that read too slowly.",
            sockets.dropped,
        )
        yield counter(
            "connections_refused",
            "Connections that exceeded the limit of their address.",
            front.refused,
        )
        cut = {
            "too_fast": sockets.too_fast,
            "too_slow": sockets.too_slow,
            "unreadable": sockets.failed,
        }
        yield counters(
            "sockets_cut",
            "Sockets that were closed because of what their clients did.",
            "why",
            cut,
        )
        yield counters(
            "peer_events",
            "What happened to clients and their messages.",
            "event",
            asdict(self.peers.counts),
        )

    async def _get_description(self, request: web.Request) -> web.Response:
        """Describe the server."""
        return web.json_response(
            {
                "name": "PeMuS signalling server",
                "version": __version__,
                "features": self.features,
            }
        )

    @property
    def features(self) -> list[str]:
        """The features beyond PeerServer's protocol."""
        return ["identity", "tracker", "rooms"] + (
            ["turn"] if self.turn is not None else []
        )
