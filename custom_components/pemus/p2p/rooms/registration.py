"""Registers rooms at signalling servers, says there again and again that they are wanted, and closes them."""

from __future__ import annotations

import random
import time
from typing import Any, Final

from ..core.errors import BadRequest, Unavailable
from ..models.rooms import RoomConfig
from ..net.signaling.client import SignalingServer
from .state import Registration

RENEW_INTERVAL: Final = 86400.0
"""Seconds after which a server is told again that a room is wanted. It forgets a room after 14 days."""
RENEW_JITTER: Final = 0.25
"""How much earlier that may be, as a share: rooms that were made together are not renewed together."""
MAX_EXPIRY: Final = 365 * 86400
"""Seconds from now on that a server keeps a room. One that lasts longer is renewed in time."""
MAX_SLUG: Final = 64

_GONE: Final = (404, 410)


class RoomIsGone(Exception):
    """The server does not have the room any more."""


async def register(server: SignalingServer, config: RoomConfig) -> Registration:
    """Register a room, and return its link. Raises Unavailable, BadRequest."""
    body = _body(config)
    status, answer = await server.request("POST", "room", body)
    if status != 201:
        raise _failure(status, answer)
    slug = answer.get("slug") if isinstance(answer, dict) else None
    if not isinstance(slug, str) or not _is_slug(slug):
        raise Unavailable("the signalling server's answer is not a room")
    return Registration(server=server.url, slug=slug, renew_at=_renewal(), **body)


async def renew(
    server: SignalingServer, registration: Registration, config: RoomConfig
) -> Registration:
    """Tell the server what is true of a room now. Raises RoomIsGone, Unavailable, BadRequest."""
    body = _body(config)
    path = f"room/{registration.slug}"
    status, answer = await server.request("PATCH", path, body)
    if status in _GONE:
        raise RoomIsGone
    if status != 200:
        raise _failure(status, answer)
    return Registration(
        server=server.url, slug=registration.slug, renew_at=_renewal(), **body
    )


async def close(server: SignalingServer, registration: Registration) -> None:
    """Close a room for good. Raises Unavailable, BadRequest."""
    status, answer = await server.request("DELETE", f"room/{registration.slug}")
    if status != 204 and status not in _GONE:
        raise _failure(status, answer)


def is_due(registration: Registration, config: RoomConfig) -> bool:
    """Tell whether the server has to be told something of a room."""
    body = _body(config)
    is_true = (
        registration.password == body["password"]
        and abs(registration.expires - body["expires"]) < RENEW_INTERVAL
        and (
            registration.expires == body["expires"]
            or body["expires"] < int(config.expires)
        )
    )
    return not is_true or registration.renew_at <= time.time()


def _body(config: RoomConfig) -> dict[str, Any]:
    latest = int(time.time()) + MAX_EXPIRY
    return {
        "password": config.password is not None,
        "expires": min(int(config.expires), latest),
    }


def _renewal() -> float:
    return time.time() + RENEW_INTERVAL * (1 - RENEW_JITTER * random.random())


def _is_slug(text: str) -> bool:
    return len(text) <= MAX_SLUG and text.replace("-", "").isalnum() and text.isascii()


def _failure(status: int, answer: object) -> Unavailable | BadRequest:
    """Return why a server did not do what it was asked for."""
    said = answer.get("message") if isinstance(answer, dict) else None
    message = said[:200] if isinstance(said, str) and said.isprintable() else ""
    kind = BadRequest if 400 <= status < 500 and status != 429 else Unavailable
    return kind(message or f"the signalling server answered with status {status}")
