"""The REST API of rooms, a home's links for guests.

A home with a proven identity creates, changes and closes rooms. A guest who has the link learns which home to call, and
whether a password is needed. The home checks the password over the guest's own channel; the server knows neither the
password nor anything derived from it. GET requests change nothing, so previews of links have no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
from dataclasses import replace
from http import HTTPStatus
import re
import time
from typing import Any, Final

from aiohttp import web

from pemus_signaling.identity.sessions import Session, Sessions
from pemus_signaling.net.addresses import household, network_of
from pemus_signaling.net.answers import (
    Failure,
    answering,
    bad_request,
    bearer,
    forbidden,
    json,
    not_found,
    read_object,
    take,
    take_proven,
    too_many,
    unauthorized,
    unavailable,
)
from pemus_signaling.net.limits import Rates
from pemus_signaling.settings import Settings
from pemus_signaling.turn.host import TurnHost

from .slugs import new_slug, read_slug
from .store import Created, Published, Room, RoomStore, close_room, without_old
from .tokens import REMEMBERED, Revocations, TooManyRevocationsError

LONGEST: Final = 366 * 86400
"""Longest time until a room expires, in seconds."""
MAX_NAME: Final = 255
"""Maximum length of a published name, in characters."""
MAX_SIZE: Final = 2**53 - 1
"""Maximum size of a published file, in bytes: the largest integer that JavaScript represents exactly."""
MAX_REVOKED: Final = 64
"""Revoked tokens of a room. A home that needs to revoke more closes the room."""
FULL_RETRY: Final = 3600
"""`Retry-After` while a limit of rooms or revocations is reached, in seconds."""

_TYPE: Final = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", re.IGNORECASE
)
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, including those that change the writing direction: they can make an .exe look like an .mp4."""
_TOKEN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ATTEMPTS: Final = 5


class Rooms:
    """Answers requests of homes and guests."""

    def __init__(
        self,
        store: RoomStore,
        sessions: Sessions,
        revocations: Revocations,
        settings: Settings,
        turn_host: TurnHost | None = None,
    ) -> None:
        """Keep rooms in `store`, and revoke their tokens. `turn_host` is None if there is no TURN."""
        self._store = store
        self._sessions = sessions
        self._revocations = revocations
        self._turn_host = turn_host
        self._rooms_per_home = settings.rooms_per_home
        self._rooms_per_network = settings.rooms_per_network
        self._renewal = int(settings.room_renewal)
        self._lookups = Rates.per_minute(settings.lookups_per_minute)
        self._visits = Rates.per_minute(settings.visits_per_minute)
        self._changes = Rates.per_minute(settings.changes_per_minute)

    async def start(self) -> None:
        """Open the store, and restore the revocations from before this process started."""
        await self._revocations.start()
        now = time.time()
        for room in await self._store.start():
            if room.forgotten <= now:
                continue
            with contextlib.suppress(TooManyRevocationsError):
                if room.closed is not None:
                    self._revocations.revoke_room(room.key, room.slug)
                for token, _ in without_old(room.revoked, now):
                    self._revocations.revoke_token(room.key, token)

    async def close(self) -> None:
        """Close the store, after pending writes."""
        await self._store.close()

    def routes(self, prefix: str = "/") -> list[web.RouteDef]:
        """Return the routes. `prefix` begins and ends with a slash."""
        rooms, room = f"{prefix}room", f"{prefix}room/{{slug}}"
        return [
            web.post(rooms, answering(self._create)),
            web.get(rooms, answering(self._list)),
            web.get(room, answering(self._look_up)),
            web.get(room + "/fileType", answering(self._file_type)),
            web.patch(room, answering(self._change)),
            web.delete(room, answering(self._delete)),
            web.delete(room + "/token/{token}", answering(self._revoke)),
        ]

    async def is_open(self, key: bytes, slug: str) -> bool:
        """Return whether the home with a key has an open room with a slug."""
        room = await self._store.get(slug)
        return room is not None and room.key == key and not room.is_gone(time.time())

    async def _create(self, request: web.Request) -> web.Response:
        home = self._home(request)
        take(self._changes, home.id)
        given = await read_object(request)
        if "expires" not in given:
            raise bad_request("expires: is missing.")
        now = time.time()
        fields = _read(given, now)
        for _ in range(_ATTEMPTS):
            room = replace(
                Room(new_slug(), home.id, home.key, password=False, expires=0),
                network=network_of(request.remote or ""),
                renew_by=int(now) + self._renewal,
                **fields,
            )
            match await self._store.create(
                room, self._rooms_per_home, self._rooms_per_network
            ):
                case Created.DONE:
                    return json(_shown_to_home(room), HTTPStatus.CREATED)
                case Created.TOO_MANY:
                    raise too_many(
                        f"You have {self._rooms_per_home} rooms. Close one first.",
                        FULL_RETRY,
                    )
                case Created.CROWDED:
                    raise too_many("Your network has too many rooms.", FULL_RETRY)
                case Created.FULL:
                    break
        raise Failure(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "too_many",
            "This server has no space for another room.",
            FULL_RETRY,
        )

    async def _list(self, request: web.Request) -> web.Response:
        home = self._home(request)
        now = time.time()
        rooms = [
            room
            for room in await self._store.rooms_of(home.id)
            if not room.is_gone(now)
        ]
        rooms.sort(key=lambda room: (room.expires, room.slug))
        return json({"rooms": [_shown_to_home(room) for room in rooms]})

    async def _look_up(self, request: web.Request) -> web.Response:
        shown = _shown(await self._visited(request))
        if self._turn_host is not None:
            shown["stun"] = self._turn_host.stun(request)
        return json(shown)

    async def _file_type(self, request: web.Request) -> web.Response:
        room = await self._visited(request)
        if room.published is None or room.published.type is None:
            raise not_found("The home does not publish the type.")
        return json({"type": room.published.type})

    async def _change(self, request: web.Request) -> web.Response:
        home = self._home(request)
        take(self._changes, home.id)
        fields = _read(await read_object(request), time.time())

        def change(room: Room, now: float) -> Room:
            return replace(room, renew_by=int(now) + self._renewal, **fields)

        return json(_shown_to_home(await self._replace(request, home, change)))

    async def _delete(self, request: web.Request) -> web.Response:
        home = self._home(request)
        take(self._changes, home.id)

        def close(room: Room, now: float) -> Room:
            with _revoking():
                self._revocations.revoke_room(room.key, room.slug)
            return close_room(room, now)

        await self._replace(request, home, close)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _revoke(self, request: web.Request) -> web.Response:
        home = self._home(request)
        take(self._changes, home.id)
        token = request.match_info["token"]
        if not _TOKEN_ID.fullmatch(token):
            raise bad_request("This is not the id of a token.")

        def revoke(room: Room, now: float) -> Room:
            others = tuple(
                entry for entry in without_old(room.revoked, now) if entry[0] != token
            )
            if len(others) >= MAX_REVOKED:
                raise too_many(
                    f"{MAX_REVOKED} tokens of this room are revoked. Close it.",
                    min(until for _, until in others) - now,
                )
            with _revoking():
                self._revocations.revoke_token(room.key, token)
            return replace(room, revoked=(*others, (token, int(now) + REMEMBERED)))

        await self._replace(request, home, revoke)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _home(self, request: web.Request) -> Session:
        """Return the home that sent a request. Raises Failure."""
        address = request.remote or ""
        session = self._sessions.read(bearer(request))
        if session is None:
            take(self._lookups, household(address))
            raise unauthorized()
        take_proven(self._lookups, address, session.id)
        return session

    async def _visited(self, request: web.Request) -> Room:
        """Return the room of a guest's request. Raises Failure."""
        take(self._lookups, household(request.remote or ""))
        room = await self._find(request)
        take(self._visits, room.slug)
        if room.is_gone(time.time()):
            raise _gone()
        return room

    async def _find(self, request: web.Request) -> Room:
        slug = read_slug(request.match_info["slug"])
        room = None if slug is None else await self._store.get(slug)
        if room is None:
            raise not_found("There is no such room.")
        return room

    async def _replace(
        self, request: web.Request, home: Session, change: Callable[[Room, float], Room]
    ) -> Room:
        """Change a room of a home, and return the changed room. Raises Failure."""
        for _ in range(_ATTEMPTS):
            old = await self._find(request)
            if old.host != home.id:
                raise forbidden("This room belongs to another home.")
            now = time.time()
            if old.is_gone(now):
                raise _gone()
            new = change(old, now)
            # All nodes, and those that start later, know of revocations before the room shows them.
            await self._revocations.save()
            if await self._store.replace(old, new):
                return new
        raise unavailable("The room changes too often.", 1)


@contextlib.contextmanager
def _revoking() -> Iterator[None]:
    """Raise Failure if there are too many revocations, before the room changes: a closed room has no valid tokens."""
    try:
        yield
    except TooManyRevocationsError:
        raise too_many(
            "You revoked too much in the last days. Nothing was changed.", FULL_RETRY
        ) from None


def _gone() -> Failure:
    return Failure(HTTPStatus.GONE, "gone", "This room was closed or has expired.")


def _shown(room: Room) -> dict[str, Any]:
    """Return what everyone with the link may know."""
    published = room.published
    return {
        "slug": room.slug,
        "host": room.host,
        "password": room.password,
        "expires": room.expires,
        "published": None
        if published is None
        else {"name": published.name, "type": published.type, "size": published.size},
    }


def _shown_to_home(room: Room) -> dict[str, Any]:
    return {**_shown(room), "renew_by": room.ends}


def _read(given: dict[str, Any], now: float) -> dict[str, Any]:
    """Return the fields of a room in a request. Raises Failure."""
    fields: dict[str, Any] = {}
    if "password" in given:
        if not isinstance(given["password"], bool):
            raise bad_request(
                "password: must be true or false. Never send the password itself to the server."
            )
        fields["password"] = given["password"]
    if "expires" in given:
        expires = given["expires"]
        if not _is_whole(expires) or not now < expires <= now + LONGEST:
            raise bad_request(
                f"expires: must be a time within the next {LONGEST // 86400} days, in whole seconds since 1970."
            )
        fields["expires"] = expires
    if "published" in given:
        fields["published"] = _read_published(given["published"])
    return fields


def _read_published(given: Any) -> Published | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise bad_request("published: must be an object or null.")
    name, media_type, size = given.get("name"), given.get("type"), given.get("size")
    if name is not None and not (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME
        and not _UNPRINTABLE.search(name)
    ):
        raise bad_request(
            f"published.name: must be 1 to {MAX_NAME} printable characters."
        )
    if media_type is not None and not (
        isinstance(media_type, str) and _TYPE.fullmatch(media_type)
    ):
        raise bad_request("published.type: must be a media type like video/mp4.")
    if size is not None and not (_is_whole(size) and 0 <= size <= MAX_SIZE):
        raise bad_request("published.size: must be a number of bytes.")
    return Published(name, media_type, size)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
