"""A signalling server, through which homes in different networks reach each other.

It may be the project's own or any PeerServer. It is not trusted: messages between homes are signed (`net/messages`), and
the worst that a server can do is not to deliver them.
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
from ...core.errors import Unavailable
from ...models.homes import ServerStatus
from ...models.servers import server_url
from ..identity import Identity
from ..redirects import RedirectedError, follow_nowhere
from ..webrtc.ice import IceServer
from .session import CLOSE_TIMEOUT, MAX_READ, Ended, SignalingSession
from .turn import Credentials, hosts_inside

KEY: Final = "peerjs"
"""PeerServer's API key. It is not secret."""
MIN_RETRY_PAUSE: Final = 1.0
MAX_RETRY_PAUSE: Final = 60.0
"""About how many seconds to wait between attempts to connect."""
ATTEMPT_INTERVAL: Final = 1.0
"""The shortest time between the beginnings of two attempts, in seconds."""
STABLE_TIME: Final = 30.0
"""Seconds after which a connection is stable. If it ends sooner, the next pause is longer."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for a server to answer a request."""
TURN_TIMEOUT: Final = 3.0
"""Seconds to wait for TURN credentials before connecting to a home without them."""
MAX_ANSWER: Final = 64 * 1024
"""Bytes of an HTTP response."""

_AGENT: Final = "PeMuS"

_LOGGER = logging.getLogger(__name__)


class SignalingServer:
    """The connection to one server, which is kept open."""

    is_lan = False

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        on_message: Callable[[str, object], None],
        on_guest: Callable[[str, dict[str, Any]], None],
        on_missing: Callable[[str], None],
        on_change: Callable[[], None],
        session: ClientSession,
    ) -> None:
        """Prepare to be reached as `identity` through the server at a URL, using the HTTP session's connector.

        `on_message` is called with the sender, if the server tells the truth, and its message, which is a dict; `on_guest` with
        what a guest of a room sends, and its name at the server. `on_missing` is called with a home that a message could not be delivered to, and `on_change` when `status` or `superseded` changes.
        Raises ValueError for a URL that `server_url` does not accept.
        """
        self.url = server_url(url)
        self.superseded = False
        """Whether another client has proven this home's identity. The server is left alone until `resume` then."""
        self._address = URL(self.url)
        self._turn = self._address / "turn"
        self._identity = identity
        self._on_message = on_message
        self._on_guest = on_guest
        self._on_missing = on_missing
        self._on_change = on_change
        self._session = session
        self._http: ClientSession | None = None
        self._token = ""
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._backoff = Backoff(MIN_RETRY_PAUSE, MAX_RETRY_PAUSE)
        self._current: SignalingSession | None = None
        self._features: frozenset[str] = frozenset()
        self._credentials = Credentials()
        self._asking: asyncio.Task[None] | None = None
        self._opened_at = 0.0
        self._status = ServerStatus(url=self.url, connected=False)

    @property
    def origin(self) -> str:
        """The server's host, as the origin of a message that users see."""
        return self._address.host or ""

    @property
    def tells_apart(self) -> bool:
        """Whether the server asks homes for a proof of identity."""
        return self._status.identity

    @property
    def keeps_rooms(self) -> bool:
        """Whether the server is connected, and has rooms for guests."""
        current = self._current
        return (
            "rooms" in self._features
            and current is not None
            and current.session is not None
        )

    @property
    def status(self) -> ServerStatus:
        """The state of the connection."""
        return self._status

    def start(self) -> None:
        """Connect, and stay connected."""
        assert self._session.connector is not None
        self._token = secrets.token_urlsafe(24)
        # A session of its own, so that cookies and the like are not shared with other servers.
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
        """Disconnect, and stay disconnected."""
        await tasks.end(self._task, self._asking)
        self._task = self._asking = None
        if self._http is not None:
            await self._http.close()
            self._http = None
        self._credentials.forget()
        self._current = None
        self._status = replace(self._status, connected=False, message=None)

    def wake(self) -> None:
        """Connect at once, or check whether the connection still works: the network changed, or somebody needs it now."""
        if self._current is not None and self._current.is_open:
            self._current.probe()
        else:
            self._woken.set()

    def resume(self) -> None:
        """Connect again although another client has proven this home's identity."""
        if self.superseded:
            self.superseded = False
            self._backoff.succeeded()
            self._woken.set()
            self._tell(self._on_change)

    def send(self, home: str, message: dict[str, Any], *, reply: bool = False) -> bool:
        """Send a message or a reply to a home without blocking. Return whether it will be sent.

        It is not sent without a connection, if too many messages wait, or if it is larger than 64 KiB as JSON.
        """
        current = self._current
        return current is not None and current.send(home, message, reply=reply)

    async def ice_servers(self) -> tuple[IceServer, ...]:
        """Return the STUN and TURN servers that this one offers; none if it has none or is too slow."""
        if self._asking is None and self._status.turn and self._credentials.are_wanted:
            # Others that ask meanwhile wait for the same response.
            self._asking = tasks.spawn(
                self._ask_for_credentials(), f"credentials, {self.url}"
            )
        if self._asking is not None:
            await asyncio.wait((self._asking,), timeout=TURN_TIMEOUT)
        return self._credentials.servers

    async def request(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, object]:
        """Send a request that needs this home's proof. Return the status and the JSON of the response, None if it has none.

        Raises Unavailable.
        """
        current = self._current
        if current is None or current.session is None:
            raise Unavailable("the signalling server is not connected")
        url = self._address / path
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                sent = await self._send(method, url, current.session, body)
                if sent[0] == 401:
                    await current.renew_session()
                    sent = await self._send(method, url, current.session, body)
        except (ClientError, OSError) as err:
            raise Unavailable(_reason(err)) from None
        return sent

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
                message = "An unexpected error occurred. The log has the details."
            if self._status.connected and now() - self._opened_at > STABLE_TIME:
                self._backoff.succeeded()
            self._current = None
            self._show(connected=False, message=message)
            _LOGGER.debug("%s: %s", self.url, message)
            while self.superseded:
                await self._woken.wait()
                self._woken.clear()
            await self._wait(max(pause, self._backoff.failed()))
            await asyncio.sleep(began + ATTEMPT_INTERVAL - now())

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def _connect(self) -> NoReturn:
        """Connect, and run a session until it is over. Raises Ended, ClientError and OSError."""
        assert self._http is not None
        self._features = await self._describe()
        query = {"key": KEY, "id": self._identity.id, "token": self._token}
        async with asyncio.timeout(CONNECT_TIMEOUT):
            ws = await self._http.ws_connect(
                (self._address / "peerjs").with_query(query),
                autoping=False,
                max_msg_size=MAX_READ,
                timeout=ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
            )
        self._current = SignalingSession(
            ws,
            self._identity,
            str(self._address.origin()),
            knocks="identity" not in self._features,
            on_open=self._opened,
            on_message=lambda home, sent: self._tell(self._on_message, home, sent),
            on_guest=lambda guest, sent: self._tell(self._on_guest, guest, sent),
            on_missing=lambda home: self._tell(self._on_missing, home),
        )
        await self._current.run()

    async def _describe(self) -> frozenset[str]:
        """Return the server's features, none if it is not the project's own. Raises ClientError and OSError."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            status, answer = await self._get(self._address)
        features = answer.get("features") if isinstance(answer, dict) else None
        if status != 200 or not isinstance(features, list):
            return frozenset()
        return frozenset(each for each in features[:100] if isinstance(each, str))

    def _opened(self) -> None:
        """Note that this home can be reached."""
        current = self._current
        self._opened_at = asyncio.get_running_loop().time()
        self._woken.clear()
        self._credentials.forget()
        self._show(
            connected=True,
            identity=current is not None and current.is_proven,
            turn="turn" in self._features,
        )

    async def _ask_for_credentials(self) -> None:
        current = self._current
        try:
            if current is None or current.session is None:
                return
            async with asyncio.timeout(TURN_TIMEOUT):
                status, answer = await self._get(self._turn, current.session)
                if status == 401:
                    await current.renew_session()
                    status, answer = await self._get(self._turn, current.session)
            if status != 200:
                answer = None
            refused: set[str] = set()
            if current.is_public:
                async with asyncio.timeout(TURN_TIMEOUT):
                    refused = await hosts_inside(answer)
            self._credentials.keep(answer, refused)
        except (ClientError, OSError) as err:
            _LOGGER.debug("%s offers no credentials: %s", self.url, _reason(err))
            self._credentials.put_off()
        except Exception:
            _LOGGER.exception("The credentials of %s could not be handled", self.url)
            self._credentials.put_off()
        finally:
            self._asking = None

    async def _get(self, url: URL, session: str | None = None) -> tuple[int, object]:
        """Return what a GET request is answered with, as `_send` does."""
        return await self._send(hdrs.METH_GET, url, session)

    async def _send(
        self,
        method: str,
        url: URL,
        session: str | None,
        body: dict[str, Any] | None = None,
    ) -> tuple[int, object]:
        """Return the status and the JSON of a response, None if it is not JSON or too long.

        Raises ClientError and OSError.
        """
        assert self._http is not None
        headers = {hdrs.ACCEPT_ENCODING: "identity", hdrs.CONNECTION: "close"}
        if session is not None:
            headers[hdrs.AUTHORIZATION] = f"Bearer {session}"
        response = await self._http.request(
            method,
            url,
            headers=headers,
            json=body,
            allow_redirects=False,
            middlewares=(),
        )
        received = b""
        try:
            async for chunk in response.content.iter_any():
                received += chunk
                if len(received) > MAX_ANSWER:
                    return response.status, None
        finally:
            response.close()
        try:
            return response.status, orjson.loads(received)
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
        """Change the status. What the server supports does not change while it is unreachable."""
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
        """Call a listener, whose errors must not harm the connection."""
        try:
            listener(*news)
        except Exception:
            _LOGGER.exception(
                "A message or a change of %s could not be handled", self.url
            )


def _reason(error: Exception) -> str:
    """Return in plain English why a server could not be reached."""
    match error:
        case RedirectedError():
            return "The server redirects to another address. Enter that one instead."
        case TimeoutError():
            return "The server did not answer in time."
        case WSServerHandshakeError(status=404):
            return "There is no signalling server at this address."
        case WSServerHandshakeError(status=429):
            return "The server wants fewer requests."
        case WSServerHandshakeError():
            return f"The server rejects this home (HTTP status {error.status})."
        case ClientConnectorCertificateError():
            return "The server's certificate is not valid for this address."
        case ClientConnectorSSLError():
            return "An encrypted connection to the server is not possible."
        case ClientConnectorDNSError():
            return "The server's name cannot be resolved, or there is no network."
        case ClientConnectorError(os_error=OSError(errno=int(number))):
            return f"The server cannot be reached: {os.strerror(number)}."
        case _:
            return "The server cannot be reached, or it closed the connection."
