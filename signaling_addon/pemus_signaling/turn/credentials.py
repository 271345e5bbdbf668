"""TURN credentials: who gets them, and how long they are valid.

They follow coturn's "TURN REST API": the user name is the time when they expire and a name, and the password is the base64
of an HMAC-SHA1 of the user name with a secret that coturn shares. So neither side stores them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
import hmac
import time
from typing import Any, Final

from aiohttp import web

from pemus_signaling.identity.sessions import Sessions
from pemus_signaling.net.addresses import household
from pemus_signaling.net.answers import (
    answering,
    bearer,
    forbidden,
    json,
    take,
    take_proven,
    unauthorized,
    unavailable,
)
from pemus_signaling.net.limits import Rates
from pemus_signaling.rooms.tokens import TURN, Revocations, RoomToken, TokenError, read
from pemus_signaling.settings import Settings

from .coturn import Coturn
from .host import TurnHost

LIFE: Final = 3600
"""How long credentials can create allocations, in seconds. An allocation lasts as long as the client refreshes it."""
RETRY_AFTER: Final = 10
"""`Retry-After` while coturn is not running, in seconds."""

_USER_LENGTH: Final = 16


class Turn:
    """Issues credentials to homes with a proven identity, and to guests of a room that is open on this server."""

    def __init__(
        self,
        sessions: Sessions,
        revocations: Revocations,
        is_open: Callable[[bytes, str], Awaitable[bool]],
        settings: Settings,
        host: TurnHost,
        *,
        secret: str,
        coturn: Coturn | None,
    ) -> None:
        """Issue credentials that coturn accepts, which has the same secret. `coturn` is None if it runs elsewhere.

        `is_open` returns whether the home with a key has an open room with a slug.
        """
        self._sessions = sessions
        self._revocations = revocations
        self._is_open = is_open
        self._secret = secret.encode()
        self._host = host
        self._coturn = coturn
        self._lookups = Rates.per_minute(settings.lookups_per_minute)
        self._grants = Rates.per_minute(settings.grants_per_minute)
        self.granted = 0
        """How many credentials were issued."""

    def routes(self, prefix: str = "/") -> list[web.RouteDef]:
        """Return the route. `prefix` begins and ends with a slash."""
        return [web.get(f"{prefix}turn", answering(self._answer), allow_head=False)]

    def credentials(self, who: bytes, place: str, expires: float) -> dict[str, Any]:
        """Return the configuration for an `RTCPeerConnection` with coturn at `place`, valid until `expires`.

        `who` identifies the user, whose allocations coturn counts. The user name does not reveal it.
        """
        user = hmac.digest(self._secret, b"pemus turn user 1" + who, sha256).hex()[
            :_USER_LENGTH
        ]
        name = f"{int(expires)}:{user}"
        # coturn computes it with SHA-1.
        password = b64encode(hmac.digest(self._secret, name.encode(), "sha1")).decode()
        return {
            "iceServers": [
                {"urls": [f"stun:{place}"]},
                {
                    "urls": [
                        f"turn:{place}?transport=udp",
                        f"turn:{place}?transport=tcp",
                    ],
                    "username": name,
                    "credential": password,
                },
            ],
            "expires": int(expires),
        }

    async def _answer(self, request: web.Request) -> web.Response:
        address, token, now = request.remote or "", bearer(request), time.time()
        session = self._sessions.read(token)
        if session is not None:
            take_proven(self._lookups, address, session.id)
            # The home could renew its session, so its credentials may outlive this one.
            key, who, expires = session.key, b"home" + session.key, now + LIFE
        else:
            take(self._lookups, household(address))
            guest = await self._read_guest(token, now)
            key, expires = guest.key, guest.expires
            who = b"guest" + guest.key + guest.id.encode()
        take(self._grants, key.hex())
        if self._coturn is not None and not self._coturn.is_ready:
            raise unavailable("TURN is not running at the moment.", RETRY_AFTER)
        self.granted += 1
        return json(
            self.credentials(who, self._host.place(request), min(expires, now + LIFE))
        )

    async def _read_guest(self, token: str, now: float) -> RoomToken:
        """Return a guest's token if it allows TURN. Raises Failure."""
        try:
            guest = read(token, now)
        except TokenError:
            raise unauthorized() from None
        if self._revocations.is_revoked(guest):
            raise unauthorized()
        # Anyone can create a key and sign a token. So only rooms of this server count.
        if TURN not in guest.may or not await self._is_open(guest.key, guest.room):
            raise forbidden("This token does not allow TURN.")
        return guest
