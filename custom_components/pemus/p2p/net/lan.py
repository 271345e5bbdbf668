"""Sends messages to homes in the local network: over a TCP port of the engine's own, and over connections to theirs.

Anybody in the network may connect, and may claim in mDNS to be any home: only messages prove who sent them. A connection
is a WebSocket that carries envelopes as text messages in both directions. The port serves nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
import logging
import socket
import time
from typing import Any, Final
from weakref import WeakSet

from aiohttp import ClientError, ClientSession, DummyCookieJar, WSMsgType, web
import orjson

from ..core import tasks
from ..models.homes import LanHome, is_home
from .addresses import is_near, read_address
from .messages import MAX_ENVELOPE, BadEnvelope, parse
from .messenger import Messenger
from .redirects import follow_nowhere

PATH: Final = "/pemus"
CONNECT_TIMEOUT: Final = 3.0
SEND_TIMEOUT: Final = 5.0
IDLE: Final = 60.0
"""Seconds without a message after which a connection is closed."""
UNHEARD: Final = 4000
"""Milliseconds within which the other end must acknowledge what was sent."""
FIRST_MESSAGE: Final = 10.0
"""Seconds after connecting within which the first valid message must arrive."""
STRANGER_TIME: Final = 600.0
"""Seconds for which a home may stay connected that is neither a friend nor was asked by the user."""
MAX_CONNECTIONS: Final = 64
"""Incoming connections. If there is no room, a new one replaces a stranger's, so friends can always connect."""
MAX_PER_ADDRESS: Final = 8
MAX_SOCKETS: Final = 96
"""Open sockets, with those that have not sent a request yet."""
MAX_SOCKETS_PER_ADDRESS: Final = 16
MAX_WAITING: Final = 32
"""Messages that wait for one connection."""
MAX_HOMES: Final = 200
MAX_ADDRESSES: Final = 8
SHUTDOWN: Final = 2.0
BACKLOG: Final = 32

_LOGGER = logging.getLogger(__name__)
_HTTP_LOGGER = logging.getLogger(f"{__name__}.http")


class _Whispered(logging.Filter):
    """Logs what aiohttp finds wrong with requests for debugging only, because anybody in the network can cause it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return _HTTP_LOGGER.isEnabledFor(logging.DEBUG)


_HTTP_LOGGER.addFilter(_Whispered())


class Line:
    """A connection to one home, or an incoming one whose home is not known yet."""

    is_lan = True
    tells_apart = True

    def __init__(self, lan: Lan, origin: str, home: str | None) -> None:
        """Prepare a connection to or from an address. `home` is the home that this one calls, None for an incoming one."""
        self._lan = lan
        self._is_caller = home is None
        self.origin = origin
        self.home = home
        self.begun = self.used = time.monotonic()
        """When something was last sent, or a valid message arrived, by the monotonic clock."""
        self.is_proven = False
        self.over = asyncio.Event()
        """Set to close the connection."""
        self.outgoing: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)

    def send(self, home: str, message: dict[str, Any], *, reply: bool = False) -> bool:
        """Send a message if this home is at the other end."""
        if self.home != home:
            return False
        with suppress(asyncio.QueueFull):
            self.outgoing.put_nowait(orjson.dumps(message).decode())
            self.used = time.monotonic()
            return True
        return False

    def is_over(self) -> bool:
        """Tell whether to close the connection: it was idle for too long, or a stranger has had it for too long."""
        now = time.monotonic()
        if self.over.is_set() or now - self.used > IDLE:
            return True
        if not self._is_caller or self._lan.is_expected(self):
            return False
        limit = STRANGER_TIME if self.is_proven else FIRST_MESSAGE
        return now - self.begun > limit

    def received(self, payload: str) -> None:
        """Handle a message that arrived."""
        try:
            message = parse(payload)
        except BadEnvelope:
            return
        if isinstance(message, dict) and self.home is None:
            # So that an answer can be sent. Whether the claim is true is checked below.
            claimed = message.get("sender")
            self.home = claimed if isinstance(claimed, str) else None
        proven = self._lan.messenger.receive(message, self)
        if proven is not None and self.home == proven:
            self.used = time.monotonic()
            self.is_proven = True
            self._lan.proven(self)
        elif not self.is_proven:
            self.home = None


class Lan:
    """All connections in the local network, and the port for incoming ones."""

    is_lan = True
    tells_apart = True
    origin = ""

    def __init__(self, messenger: Messenger, session: ClientSession) -> None:
        """Prepare to accept and open connections. Messages that arrive go to `messenger`."""
        self.messenger = messenger
        self.port = 0
        """The port for incoming connections, 0 if none is open."""
        self._session = session
        self._http: ClientSession | None = None
        self._homes: dict[str, LanHome] = {}
        self._failed: dict[str, float] = {}
        self._lines: dict[str, Line] = {}
        """Outgoing connections."""
        self._callers: dict[str, Line] = {}
        """For each home, the incoming connection that last brought a fresh message of it."""
        self._tasks = tasks.Tasks()
        self._serving: dict[asyncio.Task[Any] | None, tuple[Line, web.BaseRequest]] = {}
        """All incoming connections, whoever is at the other end."""
        self._inside: dict[str, int] = {}
        self._runner: web.ServerRunner | None = None
        self._opening = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether this home connects to others in the local network, and accepts connections."""
        return self._http is not None

    async def open(self, port: int = 0) -> None:
        """Open this port, or any port if it is not free. Does nothing if one is open."""
        async with self._opening:
            if self.is_open:
                return
            try:
                await self._open(port)
            except BaseException:
                await self._close()
                raise

    async def close(self) -> None:
        """Close the port and all connections, and open none."""
        async with self._opening:
            if self.is_open:
                await self._close()

    async def _open(self, port: int) -> None:
        assert self._session.connector is not None
        self._http = ClientSession(
            connector=self._session.connector,
            connector_owner=False,
            cookie_jar=DummyCookieJar(),
            middlewares=(follow_nowhere,),
        )
        self._door = _Door(self._serve, logger=_HTTP_LOGGER, access_log=None)
        self._runner = web.ServerRunner(self._door, shutdown_timeout=SHUTDOWN)
        await self._runner.setup()
        for attempt in dict.fromkeys((port, 0)):
            try:
                listener = _listener(attempt)
            except OSError as err:
                # Mostly, another engine on this machine uses it. Any other port will do.
                _LOGGER.debug("Port %s cannot be opened: %s", attempt, err)
                continue
            site = web.SockSite(self._runner, listener, backlog=BACKLOG)
            await site.start()
            self.port = listener.getsockname()[1]
            return
        _LOGGER.warning(
            "Homes in the local network cannot connect: no port can be opened"
        )

    async def _close(self) -> None:
        http, self._http = self._http, None
        runner, self._runner = self._runner, None
        self.port = 0
        await self._tasks.end()
        for task in self._serving:
            if task is not None:
                task.cancel()
        if runner is not None:
            await runner.cleanup()
        if http is not None:
            await http.close()
        self._failed.clear()

    def show(self, homes: tuple[LanHome, ...]) -> list[str]:
        """Note all homes that advertise themselves now. Return those whose addresses or port have changed."""
        fresh, moved = {}, []
        for home in homes[:MAX_HOMES]:
            if is_home(home.id) and home.id != self.messenger.identity.id:
                fresh[home.id] = home
                former = self._homes.get(home.id)
                if former != home:
                    self._failed.pop(home.id, None)
                if former is not None and _place(former) != _place(home):
                    moved.append(home.id)
                    self._hang_up(home.id)
        self._homes = fresh
        return moved

    def knows(self, home: str) -> bool:
        """Tell whether a home can probably be reached in the local network."""
        if home in self._lines or home in self._callers:
            return True
        failed = self._failed.get(home, float("-inf"))
        is_shown = self.is_open and home in self._homes
        return is_shown and time.monotonic() - failed > IDLE

    def retry(self) -> None:
        """Forget which homes did not answer, and close all connections: this home may have another address now."""
        self._failed.clear()
        for home in (*self._lines, *self._callers):
            self._hang_up(home)

    def _hang_up(self, home: str) -> None:
        """Close the connections to a home. The next message to it opens another one."""
        for lines in (self._lines, self._callers):
            if (line := lines.pop(home, None)) is not None:
                line.over.set()

    def send(self, home: str, message: dict[str, Any], *, reply: bool = False) -> bool:
        """Send a message to a home: to the address that it advertises, and over the connection that it opened.

        An impostor at either end can only make a message disappear, so it is sent to both.
        """
        lines = (self._line_to(home), self._callers.get(home))
        hopes = [
            line.send(home, message, reply=reply) for line in lines if line is not None
        ]
        return any(hopes)

    def _line_to(self, home: str) -> Line | None:
        """Return the connection to the address that a home advertises, opened if need be."""
        line = self._lines.get(home)
        if line is not None or home not in self._homes or not self.is_open:
            return line
        failed = self._failed.get(home, float("-inf"))
        if home in self._callers and time.monotonic() - failed < IDLE:
            return None
        line = self._lines[home] = Line(self, "", home)
        self._tasks.spawn(self._call(line, self._homes[home]), f"call {home}")
        return line

    async def _call(self, line: Line, home: LanHome) -> None:
        assert self._http is not None
        try:
            for text in home.addresses[:MAX_ADDRESSES]:
                address = read_address(text)
                if not is_near(address):
                    continue
                line.origin = str(address)
                host = f"[{address}]" if address.version == 6 else str(address)
                try:
                    async with (
                        asyncio.timeout(CONNECT_TIMEOUT) as bound,
                        self._http.ws_connect(
                            f"http://{host}:{home.port}{PATH}",
                            max_msg_size=MAX_ENVELOPE,
                            timeout=_closing(),
                            autoclose=True,
                        ) as ws,
                    ):
                        bound.reschedule(None)
                        self._failed.pop(home.id, None)
                        await _carry(line, ws)
                        return
                except (ClientError, OSError, TimeoutError) as err:
                    _LOGGER.debug("%s does not answer at %s: %s", home.id, text, err)
            self._failed[home.id] = time.monotonic()
        except ValueError:
            _LOGGER.debug("%s advertises an address that is none", home.id)
        finally:
            if self._lines.get(home.id) is line:
                del self._lines[home.id]

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Accept a connection from the local network."""
        try:
            address = read_address((request.remote or "").partition("%")[0])
            remote, is_welcome = str(address), is_near(address)
        except ValueError:
            remote, is_welcome = "", False
        # A web page must not connect with the help of its visitor's browser.
        if not is_welcome or request.path != PATH or "Origin" in request.headers:
            return web.Response(status=404)
        ws = web.WebSocketResponse(
            max_msg_size=MAX_ENVELOPE, timeout=SHUTDOWN, compress=False
        )
        if not ws.can_prepare(request).ok:
            return web.Response(status=404)
        if self._inside.get(remote, 0) >= MAX_PER_ADDRESS or not self._make_place():
            return web.Response(status=503)
        self._inside[remote] = self._inside.get(remote, 0) + 1
        line = Line(self, remote, None)
        task = asyncio.current_task()
        self._serving[task] = line, request
        try:
            await ws.prepare(request)
            self._door.let_in(request)
            await _carry(line, ws)
        finally:
            del self._serving[task]
            self._inside[remote] -= 1
            if not self._inside[remote]:
                del self._inside[remote]
            line.over.set()
            if line.home is not None and self._callers.get(line.home) is line:
                del self._callers[line.home]
        return ws

    def proven(self, line: Line) -> None:
        """Use an incoming connection also for messages to the home that it is from."""
        if (
            line.home is None
            or line.over.is_set()
            or self._lines.get(line.home) is line
        ):
            return
        self._callers[line.home] = line

    def is_expected(self, line: Line) -> bool:
        """Tell whether an incoming connection is kept: the last one of a friend, or of a home that the user asked."""
        home = line.home
        return (
            line.is_proven
            and home is not None
            and self._callers.get(home) is line
            and self.messenger.is_expected(home)
        )

    def _make_place(self) -> bool:
        """Make room for one more incoming connection. Return whether there is any.

        A stranger's is closed: one of the address that has the most; among these, one that never sent a valid message, or
        has been idle for longest.
        """
        present = [each for each in self._serving.values() if not each[0].over.is_set()]
        if len(present) < MAX_CONNECTIONS:
            return True
        others = [each for each in present if not self.is_expected(each[0])]
        if not others:
            return False
        places = Counter(line.origin for line, _ in others)
        line, request = min(
            others,
            key=lambda each: (
                -places[each[0].origin],
                each[0].is_proven,
                each[0].used,
            ),
        )
        line.over.set()
        self._door.let_out(request)
        return True


class _Door(web.Server):
    """Limits open sockets, and closes those on which no request arrives."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._inside: WeakSet[asyncio.BaseTransport] = WeakSet()

    def let_in(self, request: web.BaseRequest) -> None:
        """Keep a socket: its request was accepted."""
        if request.transport is not None:
            self._inside.add(request.transport)

    def let_out(self, request: web.BaseRequest) -> None:
        """Let a socket be closed like one without a request, so that its end cannot delay that."""
        if request.transport is not None:
            self._inside.discard(request.transport)

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        everybody = [each.transport for each in self.connections if each.transport]
        remote = _remote(transport)
        if sum(_remote(each) == remote for each in everybody) > MAX_SOCKETS_PER_ADDRESS:
            transport.abort()
            return
        if len(everybody) > MAX_SOCKETS:
            # The oldest socket without a request makes room, which may be this one.
            next(each for each in everybody if each not in self._inside).abort()
        asyncio.get_running_loop().call_later(FIRST_MESSAGE, self._look, transport)

    def _look(self, transport: asyncio.Transport) -> None:
        if transport not in self._inside:
            transport.abort()


def _remote(transport: asyncio.BaseTransport | None) -> str:
    place = transport.get_extra_info("peername") if transport is not None else None
    return str(place[0]) if place else ""


async def _carry(line: Line, ws: Any) -> None:
    """Carry messages in both directions until the other end closes the connection, or it is over."""

    async def write() -> None:
        while True:
            message = await line.outgoing.get()
            async with asyncio.timeout(SEND_TIMEOUT):
                await ws.send_str(message)

    async def watch() -> None:
        while not line.is_over():
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await line.over.wait()
                    return

    async def listen() -> None:
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                line.received(message.data)

    if (connection := ws.get_extra_info("socket")) is not None:
        # Otherwise TCP notices only after a quarter of an hour that a home is gone.
        with suppress(OSError, AttributeError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD)
    tasks = [asyncio.create_task(work()) for work in (write, watch, listen)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    with suppress(Exception):
        async with asyncio.timeout(SHUTDOWN):
            await ws.close()


def _closing() -> Any:
    from aiohttp import ClientWSTimeout

    return ClientWSTimeout(ws_close=SHUTDOWN)


def _place(home: LanHome) -> tuple[frozenset[str], int]:
    return frozenset(home.addresses), home.port


def _listener(port: int) -> socket.socket:
    """Return a socket that listens on all addresses, of both families where there are both."""
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
            )
    return socket.create_server(("0.0.0.0", port))  # noqa: S104 - it is for the network
