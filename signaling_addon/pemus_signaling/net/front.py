"""The server's port. It reads the head of each request, and hands WebSockets to `websocket` and other requests to aiohttp.

aiohttp supports WebSockets too, but needs twice the processor time per message, and more memory per socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
import logging
import random
import socket
import ssl
import time
from typing import Any, Final, cast

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from pemus_signaling.settings import Settings

from .addresses import Networks, Origins, household, plain_address
from .answers import failed
from .heads import END, Handshake, HeadError, read_handshake, wants_websocket
from .sockets import Close, Listener, Refusal, Upgrade
from .websocket import Sockets, open_websocket

type Accept = Callable[[Upgrade], Listener | Refusal]
"""Accepts or refuses a client that wants a WebSocket."""

HEAD_SIZE: Final = 8 * 1024
"""Maximum size of the head of a request, in bytes."""
READ_SIZE: Final = 16 * 1024
HEAD_TIMEOUT: Final = 10.0
"""Time limit for receiving a head, in seconds."""
HTTP_TIMEOUT: Final = 60.0
"""Time limit for an HTTP request and its answer, in seconds."""
LINGER_TIMEOUT: Final = 1.0
"""How long to read the rest of a request that was answered early, in seconds."""
SWEEP_INTERVAL: Final = 1.0
"""Seconds between two checks of these limits."""
HTTP_BODY: Final = 64 * 1024
STOP_TIMEOUT: Final = 5.0
"""How long to wait for sockets to close when the server stops, in seconds."""
BACKLOG: Final = 4096
SOCKET_BUFFER: Final = 64 * 1024
"""Size of the system's buffers of a connection, in bytes, for each direction. Linux doubles it.

picows doubles its own buffer whenever a read fills it, so this limits that buffer too."""

_LOGGER = logging.getLogger(__name__)
# Its name is not this program's, so the log omits the arguments, which contain addresses.
_HTTP_LOGGER: Final = logging.getLogger("aiohttp.server.front")


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Return whether a record is about more than an invalid request, which is not an error of this program."""
    return record.exc_info is None or not isinstance(
        record.exc_info[1], HttpProcessingError
    )


_HTTP_LOGGER.addFilter(_is_worth_logging)


class Front:
    """Listens, and routes what arrives."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to listen. Raises OSError if the certificate cannot be read."""
        self._settings = settings
        self._paths: dict[str, Accept] = {}
        self._servers: list[asyncio.Server] = []
        self._runner: web.AppRunner | None = None
        self._tls: ssl.SSLContext | None = None
        if settings.certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self.load_certificate()
        self.proxies = Networks(settings.trusted_proxies)
        self.origins = Origins(settings.origins)
        self.sockets = Sockets(settings)
        self.requests: set[_Connection] = set()
        """Connections that are not, or not yet, WebSockets."""
        self.clock: Callable[[], float] = time.monotonic
        self._sweeper: asyncio.TimerHandle | None = None
        self.refused = 0
        """Connections that were closed because their address had too many, since the start."""
        self.app = web.Application(middlewares=[self._tend], client_max_size=HTTP_BODY)
        self.app.on_response_prepare.append(_prepare)
        self.handler: web.Server | None = None
        """Creates aiohttp's protocols, once started."""
        self.buffer = memoryview(bytearray(READ_SIZE))
        self.port = 0
        """The port, once it listens."""

    def load_certificate(self) -> None:
        """Read the certificate and its key, also again: new connections use the new ones. Raises OSError."""
        if self._tls is not None and self._settings.certificate is not None:
            self._tls.load_cert_chain(
                self._settings.certificate, self._settings.private_key
            )

    def route(self, path: str, accept: Accept) -> None:
        """Call `accept` for WebSockets at a path."""
        self._paths[path] = accept

    async def start(self, *, shared: bool = False) -> None:
        """Listen; `shared` lets other processes listen on the same port. Raises OSError."""
        self._runner = web.AppRunner(
            self.app,
            access_log=None,
            handle_signals=False,
            logger=_HTTP_LOGGER,
            shutdown_timeout=STOP_TIMEOUT,
            lingering_time=LINGER_TIMEOUT,
            # Decompression would happen before the client is known.
            auto_decompress=False,
        )
        await self._runner.setup()
        self.handler = self._runner.server
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        self._sweep()
        handshake = None if self._tls is None else HEAD_TIMEOUT
        for sock in await _listening(
            self._settings.host, self._settings.port, shared=shared
        ):
            self.port = sock.getsockname()[1]
            self._servers.append(
                await loop.create_server(
                    lambda: _Connection(self),
                    sock=sock,
                    backlog=BACKLOG,
                    ssl=self._tls,
                    ssl_handshake_timeout=handshake,
                )
            )

    async def stop(self, retry_after: float) -> None:
        """Stop listening, tell all clients when to reconnect, and close their sockets.

        `retry_after` is the average delay, in seconds. Clients get different delays, so that they do not reconnect at once.
        """
        if self._sweeper is not None:
            self._sweeper.cancel()
        for server in self._servers:
            server.close()
        for open_socket in list(self.sockets.open):
            open_socket.close(
                Close.GOING_AWAY, str(round(retry_after * random.uniform(0.5, 1.5), 1))
            )
        loop = asyncio.get_running_loop()
        patience = loop.time() + STOP_TIMEOUT
        while self.sockets.open and loop.time() < patience:
            await asyncio.sleep(0.02)
        for open_socket in list(self.sockets.open):
            open_socket.hang_up()
        if self._runner is not None:
            await self._runner.cleanup()
        for connection in list(self.requests):
            connection.hang_up()
        # The loop calls `connection_lost` of the aborted connections.
        await asyncio.sleep(0)

    def accept(
        self, handshake: Handshake, connection: _Connection
    ) -> Listener | Refusal | None:
        """Accept or refuse a client. Return None if the path has no WebSocket."""
        accept = self._paths.get(handshake.path)
        if accept is None:
            return None
        trusted = connection.peer in self.proxies
        proxied = trusted and bool(handshake.forwarded_for)
        if trusted:
            connection.become(
                self.proxies.client(connection.peer, handshake.forwarded_for)
            )
            if not connection.has_place:
                return Refusal(429, "Too many connections", retry_after=60)
        local, port = connection.local()
        return accept(
            Upgrade(
                query=handshake.query,
                address=connection.address,
                origin=self.origins.seen_by(
                    handshake.host,
                    local,
                    port,
                    secure=self._tls is not None,
                    proxied=proxied,
                ),
            )
        )

    def _sweep(self) -> None:
        """Close connections that take too long. One timer for all of them costs less than one for each."""
        now = self.clock()
        for connection in [late for late in self.requests if late.deadline < now]:
            connection.hang_up()
        self._sweeper = asyncio.get_running_loop().call_later(
            SWEEP_INTERVAL, self._sweep
        )

    @web.middleware
    async def _tend(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Set the client's address of each request, and answer failures without details."""
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers=_PREFLIGHT)
        peer = request.remote or ""
        address = self.proxies.client(
            peer, request.headers.getall(hdrs.X_FORWARDED_FOR, [])
        )
        answer: web.StreamResponse
        try:
            answer = await handler(request.clone(remote=address))
        except web.HTTPNotFound:
            return failed(
                HTTPStatus.NOT_FOUND, "not_found", "There is nothing at this path."
            )
        except web.HTTPMethodNotAllowed as error:
            answer = failed(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This path does not support this method.",
            )
            answer.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
            return answer
        except web.HTTPException:
            raise
        except Exception as error:
            # aiohttp would log it with the client's address.
            _LOGGER.error("A request failed: %s", type(error).__name__, exc_info=error)
            return web.Response(status=500, text="Internal server error")
        return answer


async def _prepare(request: web.Request, response: web.StreamResponse) -> None:
    # The next request on a connection could be for a WebSocket, which aiohttp must not get.
    response.force_close()
    # aiohttp has already chosen the header, so the client would reuse the connection.
    response.headers[hdrs.CONNECTION] = "close"
    response.headers.setdefault(hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, "*")


_PREFLIGHT: Final = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, PATCH, DELETE",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type",
    hdrs.ACCESS_CONTROL_MAX_AGE: "86400",
}


class _Connection(asyncio.BufferedProtocol):
    """A connection until it becomes a WebSocket, or to its end if it is for aiohttp."""

    __slots__ = (
        "_front",
        "_handler",
        "_head",
        "_household",
        "_transport",
        "address",
        "deadline",
        "has_place",
        "peer",
    )

    def __init__(self, front: Front) -> None:
        self._front = front
        self._head = b""
        self._handler: web.RequestHandler | None = None
        self._transport: asyncio.Transport | None = None
        self.deadline = front.clock() + HEAD_TIMEOUT
        """When it is closed, by the loop's clock."""
        self.peer = self.address = self._household = ""
        self.has_place = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if not peer:
            # The client is already gone.
            transport.close()
            return
        self.peer = self.address = plain_address(peer[0])
        self._front.requests.add(self)
        # A proxy has many clients.
        if self.peer not in self._front.proxies:
            self.become(self.peer)
            if not self.has_place:
                self._front.refused += 1
                self.hang_up()
                return

    def local(self) -> tuple[str, int]:
        """Return the local address and port."""
        local = (
            None
            if self._transport is None
            else self._transport.get_extra_info("sockname")
        )
        return (plain_address(local[0]), int(local[1])) if local else ("", 0)

    def become(self, address: str) -> None:
        """Set the client's address, and count the connection for it."""
        self.address = address
        self._household = household(address)
        self.has_place = self._front.sockets.places.take(self._household)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Shared by all connections: the data is copied before the next read.
        return self._front.buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._front.buffer[:nbytes])
        if self._handler is not None:
            self._handler.data_received(data)
            return
        if self._transport is None or self._transport.is_closing():
            return
        head = self._head = self._head + data
        end = head.find(END)
        if end > HEAD_SIZE or (end < 0 and len(head) > HEAD_SIZE):
            self._answer(Refusal(431, "Request Header Fields Too Large"))
        elif end >= 0:
            self._head_received(head[:end], head[end + len(END) :])

    def eof_received(self) -> None:
        if self._handler is not None:
            self._handler.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        if self.has_place:
            self.has_place = False
            self._front.sockets.places.leave(self._household)
        if self._handler is not None:
            self._handler.connection_lost(exc)
        self._transport = None

    def pause_writing(self) -> None:
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        if self._handler is not None:
            self._handler.resume_writing()

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _head_received(self, head: bytes, rest: bytes) -> None:
        if not wants_websocket(head):
            self._serve()
            return
        try:
            handshake = read_handshake(head)
        except HeadError as error:
            self._answer(Refusal(400, str(error)))
            return
        listener = None if handshake is None else self._front.accept(handshake, self)
        if handshake is None or listener is None:
            # The answer will say that the path has no WebSocket.
            self._serve()
        elif isinstance(listener, Refusal):
            self._answer(listener)
        else:
            self._upgrade(handshake.key, rest, listener)

    def _serve(self) -> None:
        """Hand the request to aiohttp."""
        assert self._transport is not None and self._front.handler is not None
        head, self._head = self._head, b""
        self.deadline = self._front.clock() + HTTP_TIMEOUT
        self._handler = self._front.handler()
        self._handler.connection_made(self._transport)
        self._handler.data_received(head)

    def _upgrade(self, key: str, rest: bytes, listener: Listener) -> None:
        """Continue as a WebSocket."""
        assert self._transport is not None
        self._forget()
        transport, self._transport = self._transport, None
        # The socket takes over the place.
        self.has_place = False
        open_websocket(
            transport, key, rest, listener, self._household, self._front.sockets
        )

    def _answer(self, refusal: Refusal) -> None:
        assert self._transport is not None
        body = refusal.text.encode()
        retry = (
            f"Retry-After: {refusal.retry_after}\r\n"
            if refusal.retry_after is not None
            else ""
        )
        self._transport.write(
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n{retry}Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        self._transport.close()

    def _forget(self) -> None:
        self._front.requests.discard(self)
        self._head = b""


async def _listening(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """Return sockets that listen on all addresses of a host. Raises OSError."""
    if host in ("", "::", "*"):
        # One socket for IPv6 and IPv4, if this machine has IPv6.
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return [_listen(family, ("", port), both=both, shared=shared)]
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            sockets.append(_listen(family, address, both=False, shared=shared))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen(family: int, address: Any, *, both: bool, shared: bool) -> socket.socket:
    sock = socket.create_server(
        address,
        family=family,
        backlog=BACKLOG,
        reuse_port=shared,
        dualstack_ipv6=both,
    )
    # Connections inherit these.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    sock.setblocking(False)
    return sock
