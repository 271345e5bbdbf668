"""Requests and answers of the REST API. Both are JSON. Errors have a code for programs and a message for people."""

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
"""Maximum size of a request's body, in bytes."""
BODY_TIMEOUT: Final = 10.0
"""Time limit for receiving a body, in seconds."""
PROVEN_COST: Final = 0.05
"""What a request of a home with a proven identity costs its address. Twenty busy homes cost as much as one stranger."""
MAX_BEARER: Final = 8192
"""Maximum length of a token, in characters."""
AWAY_RETRY: Final = 5
"""`Retry-After` while the store of rooms does not work, in seconds."""

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Failure(Exception):
    """A request fails."""

    def __init__(
        self,
        status: HTTPStatus,
        error: str,
        message: str,
        retry_after: float | None = None,
    ) -> None:
        """Give the reason: `error` for programs, `message` for people. `retry_after` is in seconds."""
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.retry_after = retry_after


def bad_request(message: str) -> Failure:
    """Return the failure of an invalid request."""
    return Failure(HTTPStatus.BAD_REQUEST, "bad_request", message)


def unauthorized() -> Failure:
    """Return the failure of a request without a valid bearer token."""
    message = "This needs a session, or a valid token."
    return Failure(HTTPStatus.UNAUTHORIZED, "unauthorized", message)


def forbidden(message: str) -> Failure:
    """Return the failure of a client that may not do what it asks for."""
    return Failure(HTTPStatus.FORBIDDEN, "forbidden", message)


def not_found(message: str) -> Failure:
    """Return the failure of a request for what does not exist."""
    return Failure(HTTPStatus.NOT_FOUND, "not_found", message)


def too_many(message: str, retry_after: float) -> Failure:
    """Return the failure of a request that exceeds a number of things. `retry_after` is in seconds."""
    return Failure(HTTPStatus.TOO_MANY_REQUESTS, "too_many", message, retry_after)


def unavailable(message: str, retry_after: float) -> Failure:
    """Return the failure of a request that works again later. `retry_after` is in seconds."""
    return Failure(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message, retry_after)


def take_proven(limit: Rates, address: str, identity: str) -> None:
    """Count a request of a home with a proven identity. Raises Failure if it exceeds the limit.

    Many homes may share an address, and one client may have many identities. So the request counts fully for the home, and
    as `PROVEN_COST` for its address.
    """
    take(limit, identity)
    take(limit, household(address), PROVEN_COST)


def take(limit: Rates, key: str, cost: float = 1) -> None:
    """Count a request. Raises Failure if it exceeds the limit."""
    wait = limit.allow(key, cost)
    if wait > 0:
        raise Failure(
            HTTPStatus.TOO_MANY_REQUESTS,
            "rate_limited",
            "Too many requests. Try again later.",
            wait,
        )


def answering(handler: Handler) -> Handler:
    """Wrap a handler so that a Failure, or a store that does not work, becomes an answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Failure as error:
            failure = error
        except StoreAwayError:
            failure = unavailable(
                "The rooms cannot be read or changed at the moment.", AWAY_RETRY
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
    """Return an answer that no cache may keep."""
    return web.Response(
        status=status,
        body=orjson.dumps(value),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def failed(status: HTTPStatus, error: str, message: str) -> web.Response:
    """Return the answer to a failed request: `error` is for programs, `message` for people."""
    return json({"error": error, "message": message}, status)


def bearer(request: web.Request) -> str:
    """Return the token of `Authorization: Bearer` (RFC 6750), or an empty string."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and len(token) <= MAX_BEARER else ""


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request. Raises Failure."""
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
