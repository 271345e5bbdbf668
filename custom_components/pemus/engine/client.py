"""Typed access to the engine's API.

Home Assistant's shared HTTP session cannot speak to unix sockets, so the client has one of its own, made when it is
first needed and closed by the supervisor.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    UnixConnector,
    WSMsgType,
    hdrs,
)
from yarl import URL

from custom_components.pemus.p2p.models import (
    ApiError,
    Arrived,
    Done,
    EngineConfig,
    ErrorKey,
    Event,
    Hello,
    Home,
    Item,
    ItemsChanged,
    Listing,
    LocalFile,
    NewMedia,
    SearchQuery,
    SearchResult,
    Status,
    StatusChanged,
    WaitQuery,
)
from custom_components.pemus.p2p.models.codec import DecodeError, decode, encode
from custom_components.pemus.p2p.models.homes import (
    LanHomes,
    PairingAnswer,
    PairingQuery,
    PairingStatus,
    is_home,
)
from custom_components.pemus.p2p.models.items import SELF, ItemRef, Wanted
from custom_components.pemus.p2p.models.transfers import Transfers, TransferStatus

CONNECT_TIMEOUT: Final = 5
QUICK_TIMEOUT: Final = 25
"""Seconds for an answer out of the index; a little more than the engine allows itself."""
WORK_TIMEOUT: Final = 65
"""Seconds for an answer that reads media files; likewise."""
MAX_WORK: Final = 16
"""Requests that read media files, at once. A folder full of pictures must not keep a stream's look-up waiting."""
SILENCE_TIMEOUT: Final = 15
"""Seconds without an event or a ping, of which the engine sends one every 10 s, after which it does not live any more."""
MAX_EVENT: Final = 4 * 1024 * 1024
"""Bytes of one event."""

_BASE: Final = URL("http://engine/v1")


class EngineUnavailable(Exception):
    """The engine does not answer, or what answers is not this engine. Asking again later may work."""


class EngineOutdated(EngineUnavailable):
    """The engine on disk is of another release than runs here: it does not run before Home Assistant is restarted."""


class EngineError(Exception):
    """The engine refused a request."""

    def __init__(self, key: ErrorKey, message: str) -> None:
        """Keep the reason: a key to tell refusals apart, and a message in plain English."""
        super().__init__(message)
        self.key = key
        self.message = message


@dataclass(frozen=True, slots=True)
class _AnyEvent:
    type: str


_EVENTS: Final[dict[str, type[Event]]] = {
    "hello": Hello,
    "status": StatusChanged,
    "items": ItemsChanged,
    "new_media": NewMedia,
}

type _Body = (
    EngineConfig | LanHomes | PairingAnswer | PairingQuery | SearchQuery | WaitQuery
)


class EventStream:
    """The engine's events as they come. Ends when the engine closes the stream."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        """Take the events from an open WebSocket."""
        self._socket = socket

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event. Raises EngineUnavailable for something that is none, and for silence."""
        while True:
            try:
                message = await anext(self._socket)
            except TimeoutError as err:
                raise EngineUnavailable("it fell silent") from err
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                # An event that this release does not know is none of its business.
                if kind := _EVENTS.get(decode(_AnyEvent, message.data).type):
                    return decode(kind, message.data)
            except DecodeError as err:
                raise EngineUnavailable(
                    f"what answers is not this engine: {err}"
                ) from err


class EngineClient:
    """Asks the engine. Every method raises EngineError or EngineUnavailable, and nothing else."""

    def __init__(self, socket: str) -> None:
        """Prepare to ask the engine that listens at this path, now or later."""
        self._socket = socket
        self.outdated = False
        """Whether there is no engine of this release any more."""
        self._session: ClientSession | None = None
        self._own_work = asyncio.Semaphore(MAX_WORK)
        # A friend that does not answer must not hold up the pictures of this home.
        self._remote_work = asyncio.Semaphore(MAX_WORK)

    async def close(self) -> None:
        """Close all connections. The next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def status(self) -> Status:
        """Return the engine's state."""
        return await self._ask(Status, hdrs.METH_GET, _BASE / "status")

    async def configure(self, config: EngineConfig) -> Status:
        """Have the engine apply the differences between `config` and what it runs with."""
        # New folders on a slow disk take their time.
        return await self._ask(
            Status, hdrs.METH_PUT, _BASE / "config", config, seconds=WORK_TIMEOUT
        )

    async def rescan(self, share: str | None = None) -> Status:
        """Have a share scanned, or all of them."""
        url = _BASE / "rescan"
        if share is not None:
            url = url.with_query(share=share)
        return await self._ask(Status, hdrs.METH_POST, url)

    async def item(self, ref: ItemRef) -> Item:
        """Return an item."""
        return await self._ask(Item, hdrs.METH_GET, _item_url(ref))

    async def locate(self, wanted: Wanted) -> LocalFile:
        """Return a file: as it is on disk now, or where it arrives. A picture or subtitles may have to be made or fetched first."""
        url = _item_url(wanted.item).joinpath(*wanted.part)
        if wanted.is_media:
            return await self._ask(LocalFile, hdrs.METH_GET, url)
        bound = self._own_work if wanted.item.owner is None else self._remote_work
        async with bound:
            return await self._ask(LocalFile, hdrs.METH_GET, url, seconds=WORK_TIMEOUT)

    async def browse(self, node: str) -> Listing:
        """Return what lies in a node of the library."""
        url = (_BASE / "browse").with_query(node=node)
        return await self._ask(Listing, hdrs.METH_GET, url)

    async def search(self, query: SearchQuery) -> SearchResult:
        """Return what matches."""
        return await self._ask(SearchResult, hdrs.METH_POST, _BASE / "search", query)

    async def transfers(self) -> Transfers:
        """Return how far friends' items have arrived."""
        return await self._ask(Transfers, hdrs.METH_GET, _BASE / "transfers")

    async def pin(self, ref: ItemRef) -> TransferStatus:
        """Fetch a friend's item whole and keep it."""
        url = _item_url(ref) / "pin"
        # Its owner may have to be asked first.
        return await self._ask(TransferStatus, hdrs.METH_PUT, url, seconds=WORK_TIMEOUT)

    async def unpin(self, ref: ItemRef) -> TransferStatus:
        """Let a friend's item go when room is needed."""
        url = _item_url(ref) / "pin"
        return await self._ask(TransferStatus, hdrs.METH_DELETE, url)

    async def streaming(self) -> None:
        """Tell that bytes of something that is played have just left."""
        await self._ask(Done, hdrs.METH_PUT, _BASE / "streaming")

    async def wait(self, ref: ItemRef, query: WaitQuery) -> int:
        """Wait until the first of these bytes of a friend's item are there; return the end of those that are."""
        url = _item_url(ref) / "wait"
        # As long as something trickles in, the engine waits on.
        arrived = await self._ask(
            Arrived, hdrs.METH_POST, url, query, seconds=WORK_TIMEOUT
        )
        return arrived.stop

    async def release(self, ref: ItemRef, reader: str) -> None:
        """Report that somebody does not read a friend's item any more."""
        url = _item_url(ref) / "readers" / reader
        await self._ask(Done, hdrs.METH_DELETE, url)

    async def restore_identity(self) -> str:
        """Have this home be who it was, if its key is back; return its PeMuS ID."""
        return (await self._ask(Home, hdrs.METH_PUT, _BASE / "identity")).id

    async def new_identity(self) -> str:
        """Have this home become another one, which no friend knows; return its PeMuS ID."""
        return (await self._ask(Home, hdrs.METH_POST, _BASE / "identity")).id

    async def request_pairing(self, query: PairingQuery) -> PairingStatus:
        """Ask another home to become a friend."""
        return await self._ask(PairingStatus, hdrs.METH_POST, _BASE / "pairings", query)

    async def answer_pairing(self, home: str, answer: PairingAnswer) -> None:
        """Say yes or no to a pairing."""
        url = _pairing_url(home) / "answer"
        await self._ask(Done, hdrs.METH_PUT, url, answer)

    async def forget_pairing(self, home: str) -> None:
        """Take a request back, or forget how a pairing ended."""
        await self._ask(Done, hdrs.METH_DELETE, _pairing_url(home))

    async def unblock(self, home: str) -> None:
        """Show a home's requests again."""
        await self._ask(Done, hdrs.METH_DELETE, _BASE / "blocked" / _home(home))

    async def lan_homes(self, homes: LanHomes) -> None:
        """Tell which homes the local network shows now, all of them."""
        await self._ask(Done, hdrs.METH_PUT, _BASE / "lan", homes)

    async def network_changed(self) -> None:
        """Have everything that waits for a connection tried again at once."""
        await self._ask(Done, hdrs.METH_PUT, _BASE / "network")

    @asynccontextmanager
    async def events(self) -> AsyncGenerator[EventStream]:
        """Connect to the event stream, whose first event is a Hello."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                socket = await self._open().ws_connect(
                    _BASE / "events",
                    max_msg_size=MAX_EVENT,
                    timeout=ClientWSTimeout(ws_receive=SILENCE_TIMEOUT, ws_close=1),
                )
        except (ClientError, OSError) as err:
            raise self._unavailable(err) from err
        try:
            yield EventStream(socket)
        finally:
            await socket.close()

    def _open(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=UnixConnector(self._socket, limit=0)
            )
        return self._session

    def _unavailable(self, err: Exception) -> EngineUnavailable:
        kind = EngineOutdated if self.outdated else EngineUnavailable
        return kind(_reason(err))

    async def _ask[T](
        self,
        kind: type[T],
        method: str,
        url: URL,
        body: _Body | None = None,
        *,
        seconds: float | None = None,
    ) -> T:
        """Send a request and return its answer as an instance of `kind`, within `seconds` (QUICK_TIMEOUT)."""
        try:
            async with self._open().request(
                method,
                url,
                data=None if body is None else encode(body),
                timeout=ClientTimeout(
                    total=seconds or QUICK_TIMEOUT, connect=CONNECT_TIMEOUT
                ),
            ) as response:
                payload = await response.read()
                refused = response.status >= 400
        except (ClientError, OSError) as err:
            raise self._unavailable(err) from err
        try:
            if not refused:
                return decode(kind, payload)
            error = decode(ApiError, payload)
        except DecodeError as err:
            raise EngineUnavailable(f"what answers is not this engine: {err}") from err
        raise EngineError(error.error, error.message)


def _item_url(ref: ItemRef) -> URL:
    """Return the URL of an item. Raises EngineError: what names it may come from anywhere, and must not become another path."""
    if not ref.is_valid:
        raise EngineError(ErrorKey.NOT_FOUND, "there is no such item")
    return _BASE / "items" / (ref.owner or SELF) / ref.id


def _pairing_url(home: str) -> URL:
    """Return the URL of the pairing with a home."""
    return _BASE / "pairings" / _home(home)


def _home(home: str) -> str:
    """Return a home's id if it is one: it may come from anywhere, and must not become another path."""
    if not is_home(home):
        raise EngineError(ErrorKey.NOT_FOUND, "there is no such home")
    return home


def _reason(err: Exception) -> str:
    # A time-out has no words of its own.
    return str(err) or "it did not answer in time"
