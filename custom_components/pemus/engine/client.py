"""The client of the engine's API.

Home Assistant's shared HTTP session cannot use unix sockets, so the client opens its own on first use. The supervisor
closes it.
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
from custom_components.pemus.p2p.models.rooms import (
    Guests,
    GuestStatus,
    RoomEvent,
    RoomFolder,
)
from custom_components.pemus.p2p.models.transfers import Transfers, TransferStatus

CONNECT_TIMEOUT: Final = 5
QUICK_TIMEOUT: Final = 25
"""Timeout of requests that use the index only, in seconds. Slightly more than the engine's own."""
WORK_TIMEOUT: Final = 65
"""Timeout of requests that read media files or other homes, in seconds. Slightly more than the engine's own."""
MAX_WORK: Final = 16
"""Concurrent requests for pictures and subtitles. A folder full of pictures must not delay a stream."""
SILENCE_TIMEOUT: Final = 15
"""How long the event stream can be silent, in seconds. The engine sends a ping every 10 s."""
MAX_EVENT: Final = 4 * 1024 * 1024
"""Maximum size of an event, in bytes."""

_BASE: Final = URL("http://engine/v1")


class EngineUnavailable(Exception):
    """The engine does not answer, or the answer is invalid. A later request may succeed."""


class EngineOutdated(EngineUnavailable):
    """The engine on disk belongs to a different release. It cannot start until Home Assistant restarts."""


class EngineError(Exception):
    """The engine refused a request."""

    def __init__(self, key: ErrorKey, message: str) -> None:
        """Store the reason: a key for programs, and a message in plain English."""
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
    "room": RoomEvent,
}

type _Body = (
    EngineConfig | LanHomes | PairingAnswer | PairingQuery | SearchQuery | WaitQuery
)


class EventStream:
    """Iterates over the engine's events. Ends when the engine closes the stream."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        """Read events from an open WebSocket."""
        self._socket = socket

    def __aiter__(self) -> Self:
        """Return the iterator."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event. Raises EngineUnavailable for an invalid one, and after SILENCE_TIMEOUT."""
        while True:
            try:
                message = await anext(self._socket)
            except TimeoutError as err:
                raise EngineUnavailable("the event stream is silent") from err
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                # Ignore unknown events.
                if kind := _EVENTS.get(decode(_AnyEvent, message.data).type):
                    return decode(kind, message.data)
            except DecodeError as err:
                raise EngineUnavailable(
                    f"what answers is not this engine: {err}"
                ) from err


class EngineClient:
    """Sends requests to the engine. Every method raises only EngineError and EngineUnavailable."""

    def __init__(self, socket: str) -> None:
        """Create a client for the engine that listens on this socket."""
        self._socket = socket
        self.outdated = False
        """Whether the engine on disk belongs to a different release."""
        self._session: ClientSession | None = None
        self._own_work = asyncio.Semaphore(MAX_WORK)
        # Separate, so that a slow friend does not delay the pictures of this home.
        self._remote_work = asyncio.Semaphore(MAX_WORK)

    async def close(self) -> None:
        """Close all connections. The next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def status(self) -> Status:
        """Return the engine's status."""
        return await self._ask(Status, hdrs.METH_GET, _BASE / "status")

    async def configure(self, config: EngineConfig) -> Status:
        """Change the engine's configuration to `config`."""
        # New folders on a slow disk take time.
        return await self._ask(
            Status, hdrs.METH_PUT, _BASE / "config", config, seconds=WORK_TIMEOUT
        )

    async def rescan(self, share: str | None = None) -> Status:
        """Start to scan a share, or all shares."""
        url = _BASE / "rescan"
        if share is not None:
            url = url.with_query(share=share)
        return await self._ask(Status, hdrs.METH_POST, url)

    async def item(self, ref: ItemRef) -> Item:
        """Return an item."""
        return await self._ask(Item, hdrs.METH_GET, _item_url(ref))

    async def locate(self, wanted: Wanted) -> LocalFile:
        """Return the location and properties of a file. The engine may have to create or fetch it first."""
        url = _item_url(wanted.item).joinpath(*wanted.part)
        if wanted.is_media:
            return await self._ask(LocalFile, hdrs.METH_GET, url)
        bound = self._own_work if wanted.item.owner is None else self._remote_work
        async with bound:
            return await self._ask(LocalFile, hdrs.METH_GET, url, seconds=WORK_TIMEOUT)

    async def browse(self, node: str) -> Listing:
        """Return the content of a node."""
        url = (_BASE / "browse").with_query(node=node)
        return await self._ask(Listing, hdrs.METH_GET, url)

    async def folder(self, node: str) -> RoomFolder:
        """Return the folder of this home that a node shows."""
        url = (_BASE / "folder").with_query(node=node)
        return await self._ask(RoomFolder, hdrs.METH_GET, url)

    async def guests(self, room: str) -> tuple[GuestStatus, ...]:
        """Return the guests of a room who are connected."""
        url = _BASE / "rooms" / room / "guests"
        return (await self._ask(Guests, hdrs.METH_GET, url)).guests

    async def disconnect_guest(self, room: str, guest: str) -> None:
        """Send a guest away."""
        url = _BASE / "rooms" / room / "guests" / guest
        await self._ask(Done, hdrs.METH_DELETE, url)

    async def search(self, query: SearchQuery) -> SearchResult:
        """Return the matching items and nodes."""
        return await self._ask(SearchResult, hdrs.METH_POST, _BASE / "search", query)

    async def transfers(self) -> Transfers:
        """Return the transfers of friends' items."""
        return await self._ask(Transfers, hdrs.METH_GET, _BASE / "transfers")

    async def pin(self, ref: ItemRef) -> TransferStatus:
        """Fetch a friend's item completely, and keep it."""
        url = _item_url(ref) / "pin"
        # The engine may have to contact the owner first.
        return await self._ask(TransferStatus, hdrs.METH_PUT, url, seconds=WORK_TIMEOUT)

    async def unpin(self, ref: ItemRef) -> TransferStatus:
        """Stop keeping a friend's item. It is removed when its space is needed."""
        url = _item_url(ref) / "pin"
        return await self._ask(TransferStatus, hdrs.METH_DELETE, url)

    async def streaming(self) -> None:
        """Report that media is being played."""
        await self._ask(Done, hdrs.METH_PUT, _BASE / "streaming")

    async def wait(self, ref: ItemRef, query: WaitQuery) -> int:
        """Wait until the first bytes of a range of a friend's item are on disk. Return the end of the available bytes."""
        url = _item_url(ref) / "wait"
        # The engine waits while any bytes arrive.
        arrived = await self._ask(
            Arrived, hdrs.METH_POST, url, query, seconds=WORK_TIMEOUT
        )
        return arrived.stop

    async def release(self, ref: ItemRef, reader: str) -> None:
        """Report that a reader of a friend's item has finished."""
        url = _item_url(ref) / "readers" / reader
        await self._ask(Done, hdrs.METH_DELETE, url)

    async def restore_identity(self) -> str:
        """Load the restored key of this home. Return the PeMuS ID."""
        return (await self._ask(Home, hdrs.METH_PUT, _BASE / "identity")).id

    async def new_identity(self) -> str:
        """Create a new identity. Return the new PeMuS ID."""
        return (await self._ask(Home, hdrs.METH_POST, _BASE / "identity")).id

    async def request_pairing(self, query: PairingQuery) -> PairingStatus:
        """Send a friend request."""
        return await self._ask(PairingStatus, hdrs.METH_POST, _BASE / "pairings", query)

    async def answer_pairing(self, home: str, answer: PairingAnswer) -> None:
        """Confirm or decline a pairing."""
        url = _pairing_url(home) / "answer"
        await self._ask(Done, hdrs.METH_PUT, url, answer)

    async def forget_pairing(self, home: str) -> None:
        """Withdraw a request, or delete a pairing that has ended."""
        await self._ask(Done, hdrs.METH_DELETE, _pairing_url(home))

    async def unblock(self, home: str) -> None:
        """Unblock a home."""
        await self._ask(Done, hdrs.METH_DELETE, _BASE / "blocked" / _home(home))

    async def lan_homes(self, homes: LanHomes) -> None:
        """Report all homes that are in the local network now."""
        await self._ask(Done, hdrs.METH_PUT, _BASE / "lan", homes)

    async def network_changed(self) -> None:
        """Report a network change, so that the engine retries its connections immediately."""
        await self._ask(Done, hdrs.METH_PUT, _BASE / "network")

    @asynccontextmanager
    async def events(self) -> AsyncGenerator[EventStream]:
        """Connect to the event stream. Its first event is a Hello."""
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
        """Send a request and decode the answer as `kind`. `seconds`: the timeout, QUICK_TIMEOUT by default."""
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
    """Return the URL of an item. Raises EngineError if `ref` is invalid: it may contain any text."""
    if not ref.is_valid:
        raise EngineError(ErrorKey.NOT_FOUND, "there is no such item")
    return _BASE / "items" / (ref.owner or SELF) / ref.id


def _pairing_url(home: str) -> URL:
    """Return the URL of the pairing with a home."""
    return _BASE / "pairings" / _home(home)


def _home(home: str) -> str:
    """Return the id of a home. Raises EngineError if it is invalid: it may contain any text."""
    if not is_home(home):
        raise EngineError(ErrorKey.NOT_FOUND, "there is no such home")
    return home


def _reason(err: Exception) -> str:
    # A TimeoutError has no message.
    return str(err) or "it did not answer in time"
