"""All rooms of this home: makes and ends them as the configuration says, and lets their guests in."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
import logging
from pathlib import Path
import time
from typing import Any, Final

from yarl import URL

from ..core.backoff import Backoff
from ..core.errors import EngineError, NotFound, Unavailable
from ..core.news import News
from ..core.tasks import Tasks
from ..core.throttle import Throttle, TokenBucket, TokenBuckets
from ..friends.servers import Servers
from ..library import Library
from ..models import EngineConfig
from ..models.codec import DecodeError, from_plain
from ..models.rooms import SECRET_SIZE, GuestStatus, RoomConfig, RoomStatus
from ..net.link.factory import LinkFactory
from ..net.link.frames import Hello, Reasons
from ..net.link.guest_proof import GuestProof, guest_transcript
from ..net.link.handshake import NONCE_SIZE, Offer, make_answer
from ..net.link.link import VERSIONS
from ..net.messages import BadEnvelope, from_base64url
from ..net.signaling.client import SignalingServer
from ..serving.requests import Serving
from . import registration
from .guest import MAX_ID, Guest
from .registration import RoomIsGone
from .room import MAX_GUESTS, Room
from .state import Registration, RoomRecord, RoomsRecord, load, save

TEND_INTERVAL: Final = 1.0
"""Seconds between two looks at all rooms."""
SAVE_INTERVAL: Final = 10.0
"""Seconds between a change of what is kept and its being saved. New links are saved sooner."""
SAVED_TOGETHER: Final = 50
"""Rooms whose new links are saved together."""
MAX_PENDING: Final = 12
"""Guests who connect and have not proven yet that they have the link."""
MAX_TOTAL_GUESTS: Final = 300
OFFER_RATE: Final = 2.0
"""Offers to one room per second that are answered, on average. Each costs some 30 ms of processor time."""
OFFER_BURST: Final = 20.0
REFUSAL_RATE: Final = 10.0
"""Refusals per second, of all rooms together."""
DESCRIBE_TIMEOUT: Final = 8.0
"""Seconds to describe a connection, most of which this home's addresses are gathered."""
MAX_ANSWERS: Final = 64
"""Answers that are kept, because a guest repeats an offer until it has the answer."""
FIRST_RETRY: Final = 2.0
MAX_RETRY: Final = 300.0
"""Seconds until a failed registration is tried again."""
MAX_CLOSED: Final = 2000
"""Rooms that are over and still to be closed at their server."""

_MAX_CONNECTION: Final = 64

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestOffer:
    """What a guest sends to come in."""

    guest: int
    """The version of the protocol."""
    room: str
    connection: str
    nonce: str
    sdp: str


class Rooms:
    """The rooms of this home."""

    def __init__(
        self,
        home: str,
        *,
        data: Path,
        library: Library,
        serving: Serving,
        servers: Servers,
        factory: LinkFactory,
        total_rate: Throttle,
        news: News,
    ) -> None:
        """Prepare to have guests at the home with this PeMuS ID, without rooms.

        `data` is the folder for what must not get lost. `total_rate` limits what is sent to everybody together.
        """
        self._home = home
        self._data = data
        self._library = library
        self._serving = serving
        self._servers = servers
        self._factory = factory
        self._total_rate = total_rate
        self._news = news
        self._name = ""
        self._rooms: dict[str, Room] = {}
        self._records: dict[str, RoomRecord] = {}
        self._closed: list[Registration] = []
        """Registrations that are still to be closed."""
        self._backoffs: dict[str, tuple[Backoff, float]] = {}
        """Of each room whose registration failed: its backoff, and when to try again."""
        self._is_dirty = False
        self._library_changed = False
        self._wake = asyncio.Event()
        self._answers: OrderedDict[str, dict[str, Any] | None] = OrderedDict()
        """The answers to offers by connection, None while one is being made."""
        self._offers = TokenBuckets(OFFER_RATE, OFFER_BURST, max_keys=1000)
        self._refusals = TokenBucket(REFUSAL_RATE, REFUSAL_RATE)
        self._parts = AsyncExitStack()
        self._tasks = Tasks()

    async def start(self, config: EngineConfig) -> None:
        """Restore what was kept, and open all rooms."""
        record = await load(self._data)
        if record.home == self._home:
            self._records = {each.id: each for each in record.rooms}
            self._closed = list(record.closed)
        await self.apply(config)
        self._servers.guest_host = self
        self._tasks.keep(self._register_all, "register rooms")
        self._tasks.keep(self._tend, "rooms")
        self._tasks.keep(self._save_changes, "save rooms")

    async def stop(self) -> None:
        """Send all guests away, and save what is kept. May be called at any time."""
        self._servers.guest_host = None
        await self._tasks.end()
        await self._close_all(list(self._rooms.values()), Reasons.STOPPING)
        await self._save()

    async def apply(self, config: EngineConfig) -> None:
        """Apply the differences between a configuration and what runs. Guests of removed rooms are gone when it returns."""
        self._name = config.home_name
        wanted = {each.id: each for each in config.rooms if _is_valid(each)}
        removed = [
            self._rooms.pop(each) for each in [*self._rooms] if each not in wanted
        ]
        await self._close_all(removed, Reasons.GONE)
        for room in removed:
            self._forget(self._records.pop(room.config.id))
        for room_config in wanted.values():
            room = await self._apply(room_config)
            room.rate.is_lan_exempt = config.swarm.lan_exempt
        if wanted:
            self._factory.prepare()
        self._wake.set()
        self._news.status_changed()

    async def _apply(self, config: RoomConfig) -> Room:
        if (room := self._rooms.pop(config.id, None)) is not None:
            await room.apply(config)
        else:
            record = self._records.setdefault(config.id, RoomRecord(id=config.id))
            room = Room(
                config,
                record,
                library=self._library,
                serving=self._serving,
                home_name=lambda: self._name,
                on_event=self._news.happened,
                on_change=self._changed,
            )
        # In the order of the configuration.
        self._rooms[config.id] = room
        return room

    def forget_former(self) -> None:
        """Close rooms that are none by the present configuration: they were removed while no engine ran."""
        for each in [*self._records]:
            if each not in self._rooms:
                self._forget(self._records.pop(each))

    def _forget(self, record: RoomRecord) -> None:
        if record.registration is not None:
            self._closed = [*self._closed, record.registration][-MAX_CLOSED:]
        self._is_dirty = True
        self._backoffs.pop(record.id, None)

    # State.

    def statuses(self) -> tuple[RoomStatus, ...]:
        """Return the states of all rooms, in the order of the configuration."""
        connected = {each.url for each in self._servers.all if each.status.connected}
        return tuple(
            room.status(_link(room.record), is_connected=_server(room) in connected)
            for room in self._rooms.values()
        )

    def library_changed(self) -> None:
        """Tell guests soon that the library has changed."""
        self._library_changed = True

    def guests(self, room: str) -> tuple[GuestStatus, ...]:
        """Return the guests of a room who have proven that they have the link. Raises NotFound."""
        return tuple(guest.status() for guest in self._room(room).present)

    def disconnect(self, room: str, guest: str) -> None:
        """Send a guest away. Its page does not come back by itself. Raises NotFound."""
        found = [each for each in self._room(room).present if each.id[:MAX_ID] == guest]
        if not found:
            raise NotFound("there is no such guest")
        for each in found:
            self._tasks.spawn(each.close(Reasons.DISCONNECTED), "send guest away")

    def _room(self, room: str) -> Room:
        if (found := self._rooms.get(room)) is None:
            raise NotFound("there is no such room")
        return found

    def _changed(self) -> None:
        self._is_dirty = True
        self._news.status_changed()

    async def _tend(self) -> None:
        while True:
            for room in tuple(self._rooms.values()):
                reason, guests = room.overdue()
                for guest in guests:
                    # Nobody waits for a connection that does not close.
                    self._tasks.spawn(guest.close(reason), "send guest away")
                room.measure()
            if self._library_changed:
                self._library_changed = False
                for room in self._rooms.values():
                    room.tell_changed()
            await asyncio.sleep(TEND_INTERVAL)

    async def _close_all(self, rooms: list[Room], reason: str) -> None:
        await asyncio.gather(*(room.close(reason) for room in rooms))

    async def _save_changes(self) -> None:
        while True:
            await asyncio.sleep(SAVE_INTERVAL)
            await self._save()

    async def _save(self) -> None:
        if not self._is_dirty:
            return
        self._is_dirty = False
        record = RoomsRecord(
            home=self._home,
            rooms=tuple(replace(each) for each in self._records.values()),
            closed=tuple(self._closed),
        )
        try:
            await save(self._data, record)
        except OSError as err:
            self._is_dirty = True
            _LOGGER.error("The links of rooms cannot be saved: %s", err)

    # Links at signalling servers.

    def connected(self) -> None:
        """Register at once what waits for a server."""
        self._backoffs.clear()
        self._wake.set()

    async def _register_all(self) -> None:
        """Register, renew and close rooms when it is time to."""
        while True:
            self._wake.clear()
            for number, room in enumerate(tuple(self._rooms.values())):
                await self._register(room)
                if number % SAVED_TOGETHER == 0:
                    await self._save()
            await self._close_former()
            await self._save()
            try:
                async with asyncio.timeout(FIRST_RETRY):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _register(self, room: Room) -> None:
        """Make the link of a room true, if it is not and it is time to."""
        known, key = room.record.registration, room.config.id
        backoff, retry_at = self._backoffs.get(key, (None, 0.0))
        if time.monotonic() < retry_at or room.has_expired:
            return
        server = self._server_for(known)
        if server is None or (
            known is not None
            and known.server == server.url
            and not registration.is_due(known, room.config)
        ):
            return
        try:
            room.record.registration = await _registered(server, known, room)
        except EngineError as err:
            message: str | None = str(err)
            backoff = backoff or Backoff(FIRST_RETRY, MAX_RETRY)
            self._backoffs[key] = backoff, time.monotonic() + backoff.failed()
        else:
            message = None
            self._backoffs.pop(key, None)
            self._is_dirty = True
        if self._rooms.get(key) is not room:
            # It was removed meanwhile, with the registration that it had before.
            self._forget(room.record)
        room.message = message
        self._news.status_changed()

    def _server_for(self, known: Registration | None) -> SignalingServer | None:
        """Return the server that a room is at, or else the first that takes rooms; None if it has to wait."""
        servers = self._servers.all
        if known is not None:
            for server in servers:
                if server.url == known.server:
                    return server if server.keeps_rooms else None
        return next((server for server in servers if server.keeps_rooms), None)

    async def _close_former(self) -> None:
        for each in tuple(self._closed):
            for server in self._servers.all:
                if server.url == each.server and server.keeps_rooms:
                    try:
                        await registration.close(server, each)
                    except Unavailable:
                        continue
                    except EngineError as err:
                        _LOGGER.debug("A room cannot be closed: %s", err)
                    self._closed.remove(each)
                    self._is_dirty = True
            if time.time() > each.expires and each in self._closed:
                self._closed.remove(each)

    # Guests.

    def called(
        self, server: SignalingServer, guest: str, payload: dict[str, Any]
    ) -> None:
        """Answer a guest that wants to come in."""
        try:
            offer = from_plain(GuestOffer, payload)
            is_good = (
                len(offer.connection) <= _MAX_CONNECTION
                and len(from_base64url(offer.nonce)) == NONCE_SIZE
            )
        except (DecodeError, BadEnvelope):
            return
        if not is_good:
            return
        if offer.connection in self._answers:
            if (answer := self._answers[offer.connection]) is not None:
                server.send(guest, answer, reply=True)
            return
        room = self._room_at(server, offer.room)
        if room is None or room.has_expired or room.is_used_up:
            self._refuse(server, guest, offer, "not_found" if room is None else "gone")
        elif self._is_full(room) or not self._offers.take(room.config.id):
            self._refuse(server, guest, offer, "busy")
        else:
            self._answers[offer.connection] = None
            if len(self._answers) > MAX_ANSWERS:
                self._answers.popitem(last=False)
            self._tasks.spawn(self._let_in(server, guest, room, offer), "guest")

    def _is_full(self, room: Room) -> bool:
        guests = [guest for each in self._rooms.values() for guest in each.guests]
        pending = sum(not guest.is_ready for guest in guests)
        return (
            len(room.guests) >= MAX_GUESTS
            or len(guests) >= MAX_TOTAL_GUESTS
            or pending >= MAX_PENDING
        )

    def _refuse(
        self, server: SignalingServer, guest: str, offer: GuestOffer, reason: str
    ) -> None:
        if self._refusals.take():
            refusal = {"connection": offer.connection, "refused": reason}
            server.send(guest, refusal, reply=True)

    def _room_at(self, server: SignalingServer, slug: str) -> Room | None:
        for room in self._rooms.values():
            known = room.record.registration
            if known is not None and (known.server, known.slug) == (server.url, slug):
                return room
        return None

    async def _let_in(
        self, server: SignalingServer, name: str, room: Room, sent: GuestOffer
    ) -> None:
        """Connect a guest, which has to prove then that it has the link."""
        offer = Offer(connection=sent.connection, nonce=sent.nonce, sdp=sent.sdp)
        guest = Guest(room, name)
        # Counts from here on.
        room.guests.add(guest)
        try:
            hello = Hello(
                versions=VERSIONS, release="", name="", instance="", signature=""
            )
            link = await self._factory.make(
                guest,
                guest,
                hello,
                await server.ice_servers(),
                offering=False,
                rates=(self._total_rate, room.rate),
            )
            guest.link = link
            async with asyncio.timeout(DESCRIBE_TIMEOUT):
                answer = make_answer(offer, await link.connection.answer(offer.sdp))
            guest.proof = GuestProof(
                secret=from_base64url(room.config.secret),
                transcript=guest_transcript(sent.room, self._home, offer, answer),
                allows_spoken=room.config.password is not None,
            )
        except (ValueError, TimeoutError, EngineError) as err:
            _LOGGER.debug("A guest cannot be let in: %s", err)
            self._answers.pop(sent.connection, None)
            room.left(guest)
            await guest.close(Reasons.LOST)
            return
        except BaseException:
            room.left(guest)
            await guest.close(Reasons.LOST)
            raise
        if self._rooms.get(room.config.id) is not room:
            room.left(guest)
            await guest.close(Reasons.GONE)
            return
        link.bind(guest.proof)
        reply = {
            "connection": answer.connection,
            "nonce": answer.nonce,
            "sdp": answer.sdp,
        }
        self._answers[sent.connection] = reply
        server.send(name, reply, reply=True)


async def _registered(
    server: SignalingServer, known: Registration | None, room: Room
) -> Registration:
    """Return the registration of a room at a server, new or renewed. Raises EngineError."""
    if known is not None and known.server == server.url:
        try:
            return await registration.renew(server, known, room.config)
        except RoomIsGone:
            _LOGGER.warning("%s has a new link: the server lost it", room.config.name)
    return await registration.register(server, room.config)


def _is_valid(config: RoomConfig) -> bool:
    try:
        return len(from_base64url(config.secret)) == SECRET_SIZE
    except BadEnvelope:
        _LOGGER.error("The secret of %s cannot be read", config.name)
        return False


def _server(room: Room) -> str:
    known = room.record.registration
    return "" if known is None else known.server


def _link(record: RoomRecord) -> str | None:
    """Return the address of a room's page, without its secret."""
    known = record.registration
    return None if known is None else str(URL(known.server) / "r" / known.slug)
