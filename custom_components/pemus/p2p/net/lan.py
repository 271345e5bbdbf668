"""The way to homes in the local network: a TCP port of the engine's own, and connections to those of others.

Anybody in the network may connect, and may claim in mDNS to be any home: what counts is what the messages prove. A
connection is a WebSocket whose text messages are envelopes, both ways. Nothing else is served here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_network
import logging
import socket
import time
from typing import Any, Final
from weakref import WeakSet

from aiohttp import ClientError, ClientSession, DummyCookieJar, WSMsgType, web
import ifaddr
import orjson

from ..core import tasks
from ..models.homes import LanHome, is_home
from .addresses import read_address
from .messages import MAX_ENVELOPE, BadEnvelope, parse
from .messenger import Messenger
from .redirects import follow_nowhere

PATH: Final = "/pemus"
CONNECT_TIMEOUT: Final = 3.0
SEND_TIMEOUT: Final = 5.0
IDLE: Final = 60.0
"""Seconds without a message after which a connection is closed."""
UNHEARD: Final = 4000
"""Milliseconds until what was sent has to have arrived."""
FIRST_MESSAGE: Final = 10.0
"""Seconds that whoever connects has for the first message that is right."""
STRANGER_TIME: Final = 600.0
"""Seconds that a home may stay connected that is neither a friend nor one that the user has asked."""
MAX_CONNECTIONS: Final = 64
"""Places for those who call. A newcomer gets that of a stranger if all are taken, so that friends always find one."""
MAX_PER_ADDRESS: Final = 8
MAX_SOCKETS: Final = 96
"""Connections with those that have not said yet what they want."""
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
    """What aiohttp says is wrong with a request: for debugging only, since everybody in the network can bring it about."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return _HTTP_LOGGER.isEnabledFor(logging.DEBUG)


_HTTP_LOGGER.addFilter(_Whispered())


class Line:
    """A connection to one home, or from somebody who has not said yet who it is."""

    is_lan = True
    tells_apart = True

    def __init__(self, lan: Lan, origin: str, home: str | None) -> None:
        """Prepare a line to or from an address; `home` is the one that was called."""
        self._lan = lan
        self._is_caller = home is None
        self.origin = origin
        self.home = home
        self.begun = self.used = time.monotonic()
        """When something was sent last, or came that is right."""
        self.is_proven = False
        self.over = asyncio.Event()
        """Whether to hang up."""
        self.outgoing: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)

    def send(self, home: str, message: dict[str, Any], *, reply: bool = False) -> bool:
        """Send a message, if the home is the one at the other end."""
        if self.home != home:
            return False
        with suppress(asyncio.QueueFull):
            self.outgoing.put_nowait(orjson.dumps(message).decode())
            self.used = time.monotonic()
            return True
        return False

    def is_over(self) -> bool:
        """Tell whether to hang up, on whoever was silent for too long, or is a stranger and has been there for long."""
        now = time.monotonic()
        if self.over.is_set() or now - self.used > IDLE:
            return True
        if not self._is_caller or self._lan.is_expected(self):
            return False
        limit = STRANGER_TIME if self.is_proven else FIRST_MESSAGE
        return now - self.begun > limit

    def received(self, payload: str) -> None:
        """Take in a message."""
        try:
            message = parse(payload)
        except BadEnvelope:
            return
        if isinstance(message, dict) and self.home is None:
            # So that an answer finds its way; whether it is right is seen in a moment.
            claimed = message.get("sender")
            self.home = claimed if isinstance(claimed, str) else None
        proven = self._lan.post.receive(message, self)
        if proven is not None and self.home == proven:
            self.used = time.monotonic()
            self.is_proven = True
            self._lan.proven(self)
        elif not self.is_proven:
            self.home = None


class Lan:
    """All lines in the local network, and the port that others call."""

    is_lan = True
    tells_apart = True
    origin = ""

    def __init__(self, post: Messenger, session: ClientSession) -> None:
        """Prepare to serve and to call; what arrives goes to `post`."""
        self.post = post
        self.port = 0
        """Where others call; 0 if nobody can."""
        self._session = session
        self._http: ClientSession | None = None
        self._homes: dict[str, LanHome] = {}
        self._failed: dict[str, float] = {}
        self._lines: dict[str, Line] = {}
        """Those that this home called."""
        self._callers: dict[str, Line] = {}
        """Those that called, and brought something fresh of a home last."""
        self._tasks = tasks.Tasks()
        self._serving: dict[asyncio.Task[Any] | None, tuple[Line, web.BaseRequest]] = {}
        """The lines of those who called, whoever they are."""
        self._inside: dict[str, int] = {}
        self._runner: web.ServerRunner | None = None
        self._opening = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether this home calls others in the local network, and lets them call."""
        return self._http is not None

    async def open(self, port: int = 0) -> None:
        """Open the port, unless one is open: the one that is given, or else any."""
        async with self._opening:
            if self.is_open:
                return
            try:
                await self._open(port)
            except BaseException:
                await self._close()
                raise

    async def close(self) -> None:
        """Close the port and all lines, and call nobody."""
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
                # Another engine on this machine has it, mostly; any other port will do.
                _LOGGER.debug("Port %s cannot be opened: %s", attempt, err)
                continue
            site = web.SockSite(self._runner, listener, backlog=BACKLOG)
            await site.start()
            self.port = listener.getsockname()[1]
            return
        _LOGGER.warning("Homes in the local network cannot call: no port can be opened")

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
        """Take note of all homes that advertise themselves now; return those that moved."""
        fresh, moved = {}, []
        for home in homes[:MAX_HOMES]:
            if is_home(home.id) and home.id != self.post.identity.id:
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
        """Believe again in homes that did not answer, and call them anew: this one may have moved."""
        self._failed.clear()
        for home in (*self._lines, *self._callers):
            self._hang_up(home)

    def _hang_up(self, home: str) -> None:
        """End the lines to a home; the next message to it takes another one."""
        for lines in (self._lines, self._callers):
            if (line := lines.pop(home, None)) is not None:
                line.over.set()

    def send(self, home: str, message: dict[str, Any], *, reply: bool = False) -> bool:
        """Send a message to a home: where it says that it is, over a new line if there is none, and where it called from.

        Either may be somebody else, who only takes messages away.
        """
        lines = (self._line_to(home), self._callers.get(home))
        hopes = [
            line.send(home, message, reply=reply) for line in lines if line is not None
        ]
        return any(hopes)

    def _line_to(self, home: str) -> Line | None:
        """Return the line to where a home says that it is, called if need be."""
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
        """Serve whoever connects, as far as the network is near."""
        try:
            address = read_address((request.remote or "").partition("%")[0])
            remote, is_welcome = str(address), is_near(address)
        except ValueError:
            remote, is_welcome = "", False
        # A page in somebody's browser must not speak for them.
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
        """Use a line that a home called on also for what this home has to say."""
        if (
            line.home is None
            or line.over.is_set()
            or self._lines.get(line.home) is line
        ):
            return
        self._callers[line.home] = line

    def is_expected(self, line: Line) -> bool:
        """Tell whether the home that called on a line keeps its place: a friend's last line, and of who was asked."""
        home = line.home
        return (
            line.is_proven
            and home is not None
            and self._callers.get(home) is line
            and self.post.is_expected(home)
        )

    def _make_place(self) -> bool:
        """See to it that one more may come in.

        A stranger goes, of an address that has the most places; of these, one that said nothing that is right, or not for longest.
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
    """Keeps out those who are too many, and those who do not say what they want."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._inside: WeakSet[asyncio.BaseTransport] = WeakSet()

    def let_in(self, request: web.BaseRequest) -> None:
        """Take note that somebody said what is wanted."""
        if request.transport is not None:
            self._inside.add(request.transport)

    def let_out(self, request: web.BaseRequest) -> None:
        """Take note that somebody is being sent away, who need not take long over that."""
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
            # Who has been silent for longest makes room, which may be this one.
            next(each for each in everybody if each not in self._inside).abort()
        asyncio.get_running_loop().call_later(FIRST_MESSAGE, self._look, transport)

    def _look(self, transport: asyncio.Transport) -> None:
        if transport not in self._inside:
            transport.abort()


def _remote(transport: asyncio.BaseTransport | None) -> str:
    place = transport.get_extra_info("peername") if transport is not None else None
    return str(place[0]) if place else ""


async def _carry(line: Line, ws: Any) -> None:
    """Carry messages both ways until the other end goes, or nobody has said anything for long."""

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
        # Otherwise a home that is gone is noticed after a quarter of an hour.
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


def is_near(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address can be one of the local network: private, or in one of this machine's own networks."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified or address.is_multicast:
        return False
    # Homes on one machine meet at loopback; nothing else there answers to what is said.
    if address.is_private or address.is_link_local or address.is_loopback:
        return True
    return any(address in network for network in _networks())


def _networks() -> list[Any]:
    found = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            text = each.ip if isinstance(each.ip, str) else each.ip[0]
            with suppress(ValueError):
                found.append(ip_network(f"{text}/{each.network_prefix}", strict=False))
    return found


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
