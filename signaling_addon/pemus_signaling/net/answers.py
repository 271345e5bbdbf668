"""How requests of the REST API are read and answered: JSON in and out, errors with a word for programs and one for people."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
import math
from typing import Any, Final

from aiohttp import web
import orjson

from pemus_signaling.cluster.cluster import StoreAwayError

from .addresses import household
from .limits import Rates

MAX_BODY: Final = 4096
"""Bytes of a request's body."""
BODY_TIMEOUT: Final = 10.0
"""Seconds in which a body must arrive."""
PROVEN_COST: Final = 0.05
"""What a request of a home that proved its identity counts for its address: twenty busy homes count as one stranger."""
MAX_BEARER: Final = 8192
"""Characters of a token."""
AWAY_RETRY: Final = 5
"""Seconds after which to try again when what keeps the rooms does not answer, or cannot write."""

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Failure(Exception):
    """A request is not granted."""

    def __init__(
        self,
        status: HTTPStatus,
        error: str,
        message: str,
        retry_after: float | None = None,
    ) -> None:
        """Say why: `error` for programs, `message` for people. `retry_after` is in seconds."""
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.retry_after = retry_after


def bad_request(message: str) -> Failure:
    """Return the failure of a request that makes no sense."""
    return Failure(HTTPStatus.BAD_REQUEST, "bad_request", message)


def unauthorized() -> Failure:
    """Return the failure of a request without a bearer token that is good."""
    return Failure(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        "This takes a session, or a token that is still good.",
    )


def take_proven(limit: Rates, address: str, identity: str) -> None:
    """Count a request of a home that proved its identity. Raises Failure if it is one too many.

    Many homes may share an address, and one client may have many identities. So the request counts in full for the home,
    and for its address as a part of one.
    """
    take(limit, identity)
    take(limit, household(address), PROVEN_COST)


def take(limit: Rates, key: str, cost: float = 1) -> None:
    """Count a request. Raises Failure if it is one too many."""
    wait = limit.allow(key, cost)
    if wait > 0:
        raise Failure(
            HTTPStatus.TOO_MANY_REQUESTS,
            "rate_limited",
            "Too many requests. Try again later.",
            wait,
        )


def answering(handler: Handler) -> Handler:
    """Return a handler that answers with what a `Failure` says, and says that a room is gone only if that is known."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Failure as error:
            failure = error
        except StoreAwayError:
            failure = Failure(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "unavailable",
                "The rooms cannot be looked up or changed at present.",
                AWAY_RETRY,
            )
        response = failed(failure.status, failure.error, failure.message)
        if failure.retry_after is not None:
            response.headers["Retry-After"] = str(
                max(1, math.ceil(failure.retry_after))
            )
        if failure.status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    return answer


def json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """Return an answer that is kept nowhere on its way."""
    return web.Response(
        status=status,
        body=orjson.dumps(value),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def failed(status: HTTPStatus, error: str, message: str) -> web.Response:
    """Return the answer to a request that is not granted: `error` is for programs, `message` for people."""
    return json({"error": error, "message": message}, status)


def bearer(request: web.Request) -> str:
    """Return the token of `Authorization: Bearer` (RFC 6750), or an empty text."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and len(token) <= MAX_BEARER else ""


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the JSON object that is a request's body. Raises Failure."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for part in request.content.iter_any():
                body += part
                if len(body) > MAX_BODY:
                    raise Failure(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        "bad_request",
                        "The body is too big.",
                    )
    except TimeoutError:
        raise Failure(
            HTTPStatus.REQUEST_TIMEOUT, "bad_request", "The body did not arrive."
        ) from None
    except (ConnectionError, web.RequestPayloadError):
        raise bad_request("The body is cut off or malformed.") from None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_request("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise bad_request("The body is not a JSON object.")
    return value
