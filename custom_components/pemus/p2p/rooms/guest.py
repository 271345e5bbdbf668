"""One guest: its link, what it may ask, and what it got."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
import logging
import time
from typing import TYPE_CHECKING, Final

from ..core.errors import BadRequest, Gone, NotFound, PasswordNeeded
from ..models.codec import encode
from ..models.homes import ConnectionStats
from ..models.rooms import GuestStatus, RoomEventKind
from ..net.link.frames import Ask, Note
from ..net.link.guest_proof import GuestProof
from ..net.link.link import Link
from .admission import Place, Purpose

if TYPE_CHECKING:
    from .room import Room

ABOUT_ROOM: Final = "room"
"""The note that tells a guest that its room has changed."""

MAX_ID: Final = 64
"""Characters of a guest's name that are shown."""

_LOGGER = logging.getLogger(__name__)


class Guest:
    """A guest of a room: owner and host of its link."""

    def __init__(self, room: Room, name: str) -> None:
        """Begin without a link. `name` is the guest's at the signalling server."""
        self.home = name
        self.link: Link | None = None
        self.proof: GuestProof | None = None
        self.is_ready = False
        """Whether it has proven that it has the link."""
        self.has_joined = False
        """Whether it may see what is in the room."""
        self.since = time.time()
        """When it came, in seconds since the Unix epoch."""
        self.uploaded = 0
        """Bytes of files that it got."""
        self._room = room

    @property
    def id(self) -> str:
        """The random name that the guest's browser keeps for this room, or else the guest's at the signalling server."""
        return (self.link.instance if self.link is not None else "") or self.home

    @property
    def network(self) -> str:
        """The network that the guest is in, as far as this end sees it."""
        return self.link.connection.remote_network if self.link is not None else ""

    def status(self) -> GuestStatus:
        """Return the present state."""
        link = self.link
        stats = link.stats if link is not None else ConnectionStats()
        return GuestStatus(
            id=self.id[:MAX_ID],
            since=self.since,
            network=self.network,
            path=link.path if link is not None else None,
            has_joined=self.has_joined,
            served=self._room.admission.is_served(self.id),
            uploaded=self.uploaded,
            rtt=stats.rtt,
            lost=stats.repeated / stats.chunks if stats.chunks else None,
        )

    @property
    def idle(self) -> float:
        """Seconds since the guest asked for something last; 0 while it does."""
        if self.link is None or not self.link.is_ready or self.link.is_busy:
            return 0.0
        return self.link.keepalive.idle

    async def close(self, reason: str) -> None:
        """Send the guest away."""
        if self.link is not None:
            await self.link.close(reason)

    def tell_changed(self) -> None:
        """Tell the guest that the room has changed."""
        if self.has_joined and self.link is not None:
            self.link.note(Note(about=ABOUT_ROOM))

    # The owner of the link.

    def ready(self, link: Link) -> None:
        """Let the guest in."""
        self.is_ready = True
        self._room.entered(self)

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        """Forget the guest."""
        _LOGGER.debug("A guest of %s left: %s", self._room.config.name, reason)
        self._room.left(self)

    # The host of the link.

    async def answer(self, link: Link, ask: Ask) -> AsyncGenerator[bytes]:
        """Answer a request. Raises EngineError."""
        room = self._room
        room.check_open()
        if ask.do == "room":
            await room.check_password(self, ask.password)
            if not self.has_joined:
                self.has_joined = True
                room.happened(RoomEventKind.JOINED)
            yield await room.manifest()
            return
        if not self.has_joined:
            raise PasswordNeeded("needed")
        match ask.do:
            case "lease":
                if ask.item not in tuple(Purpose):
                    raise BadRequest("there are leases for downloads and streams")
                async with aclosing(self._lease(Purpose(ask.item))) as places:
                    async for place in places:
                        yield encode(place)
            case "range":
                async with aclosing(self._range(ask)) as parts:
                    async for part in parts:
                        yield part
            case "thumbnail" | "subtitles":
                async with aclosing(room.serving.answer(room.config.id, ask)) as parts:
                    async for part in parts:
                        yield part
            case _:
                raise BadRequest("this home does not know such a request")

    async def _lease(self, purpose: Purpose) -> AsyncGenerator[Place]:
        known: int | None = None
        try:
            places = self._room.admission.lease(self.id, purpose)
            async with aclosing(places):
                async for place in places:
                    if place.position != known:
                        known = place.position
                        self._room.leases_changed()
                    yield place
        finally:
            self._room.leases_changed()

    async def _range(self, ask: Ask) -> AsyncGenerator[bytes]:
        room = self._room
        room.admission.used(self.id)
        at = ask.start
        try:
            async with aclosing(room.serving.answer(room.config.id, ask)) as parts:
                async for part in parts:
                    yield part
                    # It goes on when the part was handed over.
                    room.sent(self, ask.item, at, at + len(part))
                    at += len(part)
        except NotFound:
            raise Gone("the file is not in the room any more") from None

    def noted(self, link: Link, note: Note) -> None:
        """Do nothing: guests have nothing to note."""

    def introduced(self, link: Link, message: bytes) -> None:
        """Do nothing: guests' torrents meet at the tracker."""
