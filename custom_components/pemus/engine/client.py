"""Typed access to the engine's API.

Home Assistant's shared HTTP session cannot use unix sockets, so the client opens its own when it is first needed, and
the supervisor closes it.
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
"""Seconds for an answer from the index, a little more than the engine takes at most."""
WORK_TIMEOUT: Final = 65
"""Seconds for an answer that reads media files, a little more than the engine takes at most."""
MAX_WORK: Final = 16
"""Requests that read media files at a time. A folder full of pictures must not hold up a stream."""
SILENCE_TIMEOUT: Final = 15
"""Seconds without an event or a ping, which the engine sends every 10 s, after which it counts as dead."""
MAX_EVENT: Final = 4 * 1024 * 1024
"""Bytes of one event."""

_BASE: Final = URL("http://engine/v1")


class EngineUnavailable(Exception):
    """The engine does not answer, or something else answers. A later request may succeed."""


class EngineOutdated(EngineUnavailable):
    """The engine on disk belongs to another release than the running integration: it cannot start before Home Assistant restarts."""


class EngineError(Exception):
    """The engine refused a request."""

    def __init__(self, key: ErrorKey, message: str) -> None:
        """Keep the reason: a key that programs tell apart, and a message in plain English."""
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
        """Return the next event. Raises EngineUnavailable for an invalid one, and after SILENCE_TIMEOUT."""
        while True:
            try:
                message = await anext(self._socket)
            except TimeoutError as err:
                raise EngineUnavailable("it fell silent") from err
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                # Events that this release does not know are ignored.
                if kind := _EVENTS.get(decode(_AnyEvent, message.data).type):
                    return decode(kind, message.data)
            except DecodeError as err:
                raise EngineUnavailable(
                    f"what answers is not this engine: {err}"
                ) from err


class EngineClient:
    """Asks the engine. Every method raises EngineError or EngineUnavailable, and nothing else."""

    def __init__(self, socket: str) -> None:
        """Prepare to ask the engine that listens at this path."""
        self._socket = socket
        self.outdated = False
        """Whether the engine on disk belongs to another release."""
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
        """Apply the differences between `config` and the engine's present configuration."""
        # New folders on a slow disk take long.
        return await self._ask(
            Status, hdrs.METH_PUT, _BASE / "config", config, seconds=WORK_TIMEOUT
        )

    async def rescan(self, share: str | None = None) -> Status:
        """Begin to scan a share, or all of them."""
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
        """Return what lies in a node."""
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
        """Report that bytes of something that is played have just left."""
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
        """Load this home's key again, if it is back; return the PeMuS ID."""
        return (await self._ask(Home, hdrs.METH_PUT, _BASE / "identity")).id

    async def new_identity(self) -> str:
        """Become another home, which no friend knows; return its PeMuS ID."""
        return (await self._ask(Home, hdrs.METH_POST, _BASE / "identity")).id

    async def request_pairing(self, query: PairingQuery) -> PairingStatus:
        """Ask another home to become a friend."""
        return await self._ask(PairingStatus, hdrs.METH_POST, _BASE / "pairings", query)

    async def answer_pairing(self, home: str, answer: PairingAnswer) -> None:
        """Accept or refuse a pairing."""
        url = _pairing_url(home) / "answer"
        await self._ask(Done, hdrs.METH_PUT, url, answer)

    async def forget_pairing(self, home: str) -> None:
        """Take a request back, or forget how a pairing ended."""
        await self._ask(Done, hdrs.METH_DELETE, _pairing_url(home))

    async def unblock(self, home: str) -> None:
        """Show a home's requests again."""
        await self._ask(Done, hdrs.METH_DELETE, _BASE / "blocked" / _home(home))

    async def lan_homes(self, homes: LanHomes) -> None:
        """Report all homes that the local network shows now."""
        await self._ask(Done, hdrs.METH_PUT, _BASE / "lan", homes)

    async def network_changed(self) -> None:
        """Retry everything that waits for a connection at once."""
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
    """Return a home's id. Raises EngineError if it is none: it may come from anywhere, and must not become another path."""
    if not is_home(home):
        raise EngineError(ErrorKey.NOT_FOUND, "there is no such home")
    return home


def _reason(err: Exception) -> str:
    # A time-out has no message.
    return str(err) or "it did not answer in time"
