"""A signalling server, where homes that are not in the same network find each other.

It may be the project's own or any PeerServer. Nothing that comes from one is believed: what homes send each other through
it proves itself (`net/messages`), and the worst that a server can do is to be of no use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
import logging
import os
import secrets
from typing import Any, Final, NoReturn

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientError,
    ClientSession,
    ClientWSTimeout,
    DummyCookieJar,
    WSServerHandshakeError,
    hdrs,
)
import orjson
from yarl import URL

from ...core import tasks
from ...core.backoff import Backoff
from ...models.homes import ServerStatus
from ...models.servers import server_url
from ..identity import Identity
from ..redirects import RedirectedError, follow_nowhere
from ..webrtc.ice import IceServer
from .session import CLOSING, MAX_READ, Ended, SignalingSession
from .turn import Credentials, hosts_inside

KEY: Final = "peerjs"
"""Of those who may use a PeerServer. It is no secret."""
SHORTEST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between attempts to connect, about."""
GAP: Final = 1.0
"""Seconds between the beginnings of two attempts, at least, whatever the reason to make another one."""
LASTING: Final = 30.0
"""Seconds after which a connection counts as one that works. A server that hangs up sooner is left alone for longer."""
CONNECTING: Final = 10.0
"""Seconds until a server has to have answered a request."""
TURN_PATIENCE: Final = 3.0
"""Seconds that somebody who wants a connection to a home waits for credentials."""
MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer over HTTP."""

_AGENT: Final = "PeMuS"

_LOGGER = logging.getLogger(__name__)


class SignalingServer:
    """One server, to which this home stays connected."""

    is_lan = False

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        on_message: Callable[[str, object], None],
        on_missing: Callable[[str], None],
        on_change: Callable[[], None],
        session: ClientSession,
    ) -> None:
        """Prepare to be reached as `identity` at a URL; connections are made with the session's connector.

        `on_message` is told who sent something, as far as the server is right, and what: always an object. `on_missing` is
        told which home is not there that was written to, `on_change` that `status` or `superseded` is another one. Raises
        ValueError for what `server_url` does not take.
        """
        self.url = server_url(url)
        self.superseded = False
        """Whether another client proved to be this home. Then it stays away until `resume`."""
        self._address = URL(self.url)
        self._turn = self._address / "turn"
        self._identity = identity
        self._on_message = on_message
        self._on_missing = on_missing
        self._on_change = on_change
        self._session = session
        self._http: ClientSession | None = None
        self._token = ""
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._backoff = Backoff(SHORTEST_PAUSE, LONGEST_PAUSE)
        self._conversation: SignalingSession | None = None
        self._features: frozenset[str] = frozenset()
        self._credentials = Credentials()
        self._asking: asyncio.Task[None] | None = None
        self._opened_at = 0.0
        self._status = ServerStatus(url=self.url, connected=False)

    @property
    def origin(self) -> str:
        """What users are told of where a message came from: the server's host."""
        return self._address.host or ""

    @property
    def tells_apart(self) -> bool:
        """Whether the server asks homes to prove who they are."""
        return self._status.identity

    @property
    def status(self) -> ServerStatus:
        """How the connection is."""
        return self._status

    def start(self) -> None:
        """Connect, and stay so."""
        assert self._session.connector is not None
        self._token = secrets.token_urlsafe(24)
        # What belongs to a session and could be of use to a hostile server, as cookies are, is not shared with others.
        self._http = ClientSession(
            connector=self._session.connector,
            connector_owner=False,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            headers={hdrs.USER_AGENT: _AGENT},
            middlewares=(follow_nowhere,),
        )
        self._task = tasks.keep(self._run, f"signalling, {self.url}")

    async def stop(self) -> None:
        """Hang up, and stay away."""
        await tasks.end(self._task, self._asking)
        self._task = self._asking = None
        if self._http is not None:
            await self._http.close()
            self._http = None
        self._credentials.forget()
        self._conversation = None
        self._status = replace(self._status, connected=False, message=None)

    def wake(self) -> None:
        """Connect at once, or look whether the connection still works: the network changed, or somebody wants it now."""
        if self._conversation is not None and self._conversation.is_open:
            self._conversation.probe()
        else:
            self._woken.set()

    def resume(self) -> None:
        """Come back, though another client proved to be this home."""
        if self.superseded:
            self.superseded = False
            self._backoff.succeeded()
            self._woken.set()
            self._tell(self._on_change)

    def send(self, home: str, message: dict[str, Any], *, reply: bool = False) -> bool:
        """Send something to a home, or a reply; return whether it is on its way. Never blocks.

        It is not if there is no connection, if more waits than is sensible, or if it is larger than 64 KiB as JSON.
        """
        talking = self._conversation
        return talking is not None and talking.send(home, message, reply=reply)

    async def ice_servers(self) -> tuple[IceServer, ...]:
        """Return the STUN and TURN servers that this one hands out to homes; none if it has none, or is too slow."""
        if self._asking is None and self._status.turn and self._credentials.are_wanted:
            # Whoever else wants some meanwhile waits for the same answer.
            self._asking = tasks.spawn(
                self._ask_for_credentials(), f"credentials, {self.url}"
            )
        if self._asking is not None:
            await asyncio.wait((self._asking,), timeout=TURN_PATIENCE)
        return self._credentials.servers

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            began, pause, message = now(), 0.0, ""
            try:
                await self._connect()
            except Ended as end:
                message, pause = str(end), end.pause
                self.superseded = end.superseded
            except (ClientError, OSError) as err:
                message = _reason(err)
            except Exception:
                _LOGGER.exception("The connection to %s failed", self.url)
                message = (
                    "Something went wrong that was not foreseen. The log tells more."
                )
            if self._status.connected and now() - self._opened_at > LASTING:
                self._backoff.succeeded()
            self._conversation = None
            self._show(connected=False, message=message)
            _LOGGER.debug("%s: %s", self.url, message)
            while self.superseded:
                await self._woken.wait()
                self._woken.clear()
            await self._wait(max(pause, self._backoff.failed()))
            await asyncio.sleep(began + GAP - now())

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def _connect(self) -> NoReturn:
        """Connect and talk until it is over. Raises Ended, ClientError and OSError."""
        assert self._http is not None
        self._features = await self._describe()
        query = {"key": KEY, "id": self._identity.id, "token": self._token}
        async with asyncio.timeout(CONNECTING):
            ws = await self._http.ws_connect(
                (self._address / "peerjs").with_query(query),
                autoping=False,
                max_msg_size=MAX_READ,
                timeout=ClientWSTimeout(ws_close=CLOSING),
            )
        self._conversation = SignalingSession(
            ws,
            self._identity,
            str(self._address.origin()),
            knocks="identity" not in self._features,
            on_open=self._opened,
            on_message=lambda home, sent: self._tell(self._on_message, home, sent),
            on_missing=lambda home: self._tell(self._on_missing, home),
        )
        await self._conversation.run()

    async def _describe(self) -> frozenset[str]:
        """Return what the server says it can do; nothing if it is not the project's. Raises ClientError and OSError."""
        async with asyncio.timeout(CONNECTING):
            status, answer = await self._get(self._address)
        features = answer.get("features") if isinstance(answer, dict) else None
        if status != 200 or not isinstance(features, list):
            return frozenset()
        return frozenset(each for each in features[:100] if isinstance(each, str))

    def _opened(self) -> None:
        """Take note that this home can be reached."""
        talking = self._conversation
        self._opened_at = asyncio.get_running_loop().time()
        self._woken.clear()
        self._credentials.forget()
        self._show(
            connected=True,
            identity=talking is not None and talking.is_proven,
            turn="turn" in self._features,
        )

    async def _ask_for_credentials(self) -> None:
        talking = self._conversation
        try:
            if talking is None or talking.session is None:
                return
            async with asyncio.timeout(TURN_PATIENCE):
                status, answer = await self._get(self._turn, talking.session)
                if status == 401:
                    await talking.renew_session()
                    status, answer = await self._get(self._turn, talking.session)
            if status != 200:
                answer = None
            refused: set[str] = set()
            if talking.is_public:
                async with asyncio.timeout(TURN_PATIENCE):
                    refused = await hosts_inside(answer)
            self._credentials.keep(answer, refused)
        except (ClientError, OSError) as err:
            _LOGGER.debug("%s hands out no credentials: %s", self.url, _reason(err))
            self._credentials.put_off()
        except Exception:
            _LOGGER.exception("What %s hands out could not be dealt with", self.url)
            self._credentials.put_off()
        finally:
            self._asking = None

    async def _get(self, url: URL, session: str | None = None) -> tuple[int, object]:
        """Return the status of an answer, and what it says, None if that is no JSON or too long.

        Raises ClientError and OSError.
        """
        assert self._http is not None
        headers = {hdrs.ACCEPT_ENCODING: "identity", hdrs.CONNECTION: "close"}
        if session is not None:
            headers[hdrs.AUTHORIZATION] = f"Bearer {session}"
        response = await self._http.get(
            url, headers=headers, allow_redirects=False, middlewares=()
        )
        body = b""
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER:
                    return response.status, None
        finally:
            response.close()
        try:
            return response.status, orjson.loads(body)
        except orjson.JSONDecodeError:
            return response.status, None

    def _show(
        self,
        *,
        connected: bool,
        identity: bool | None = None,
        turn: bool | None = None,
        message: str | None = None,
    ) -> None:
        """Have another status; what a server can do it can also while it is away."""
        former = self._status
        self._status = replace(
            former,
            connected=connected,
            identity=former.identity if identity is None else identity,
            turn=former.turn if turn is None else turn,
            message=message,
        )
        if self._status != former:
            self._tell(self._on_change)

    def _tell[*Args](self, listener: Callable[[*Args], None], *news: *Args) -> None:
        """Tell somebody, whose faults do no harm to the connection."""
        try:
            listener(*news)
        except Exception:
            _LOGGER.exception("What came from %s could not be dealt with", self.url)


def _reason(error: Exception) -> str:
    """Return in plain English why a server could not be asked."""
    match error:
        case RedirectedError():
            return "The address leads to another one, which has to be entered instead."
        case TimeoutError():
            return "The server did not answer in time."
        case WSServerHandshakeError(status=404):
            return "There is no signalling server at this address."
        case WSServerHandshakeError(status=429):
            return "The server wants to be asked less often."
        case WSServerHandshakeError():
            return f"The server does not let this home in (HTTP status {error.status})."
        case ClientConnectorCertificateError():
            return "The server's certificate is not valid for this address."
        case ClientConnectorSSLError():
            return "No encrypted connection to the server can be made."
        case ClientConnectorDNSError():
            return "The name of the server is not known, or there is no network."
        case ClientConnectorError(os_error=OSError(errno=int(number))):
            return f"The server cannot be reached: {os.strerror(number)}."
        case _:
            return "The server cannot be reached, or it hung up."
