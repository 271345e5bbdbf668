"""What all routers need: reading a request, time limits, and errors as JSON.

Every error is an ApiError in JSON. An unforeseen one is logged with its traceback and answered without details.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
import logging
from typing import Final

from aiohttp import web

from ..components import Components
from ..core.errors import BadRequest, Busy, EngineError
from ..home import Home
from ..models import ApiError, Done, ErrorKey
from ..models.codec import DecodeError, decode, encode

MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of a request's body."""
QUICK_TIMEOUT = 20.0
"""Seconds for an answer out of the index or the file system, which may be a slow disk that has to wake up."""
SLOW_TIMEOUT = 60.0
"""Seconds for an answer that reads a media file, or waits for bytes of one that trickles in."""

HOME: Final = web.AppKey("home", Home)
COMPONENTS: Final = web.AppKey("components", Components)

_STATUS: Final = {
    ErrorKey.BAD_REQUEST: 400,
    ErrorKey.NOT_FOUND: 404,
    ErrorKey.NO_PICTURE: 404,
    ErrorKey.UNAVAILABLE: 503,
    ErrorKey.BUSY: 503,
    ErrorKey.GONE: 410,
    ErrorKey.REPLACED: 409,
    ErrorKey.DISK_FULL: 507,
    ErrorKey.PASSWORD: 403,
    ErrorKey.RATE_LIMITED: 429,
    ErrorKey.INTERNAL: 500,
}
_LOGGER = logging.getLogger(__name__)

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def quick(handler: Handler) -> Handler:
    """Give a handler QUICK_TIMEOUT seconds to answer."""
    return _bounded(handler, lambda: QUICK_TIMEOUT)


def slow(handler: Handler) -> Handler:
    """Give a handler SLOW_TIMEOUT seconds to answer."""
    return _bounded(handler, lambda: SLOW_TIMEOUT)


def _bounded(handler: Handler, limit: Callable[[], float]) -> Handler:
    async def bounded(request: web.Request) -> web.StreamResponse:
        seconds = limit()
        try:
            async with asyncio.timeout(seconds) as bound:
                return await handler(request)
        except TimeoutError:
            if not bound.expired():
                raise
            _LOGGER.warning(
                "%s %s took more than %s s", request.method, request.path, seconds
            )
            raise Busy(f"there was no answer within {seconds} s") from None

    return bounded


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with an ApiError."""
    try:
        return await handler(request)
    except EngineError as err:
        return _refusal(_STATUS[err.key], err.key, str(err))
    except web.HTTPException as err:
        # aiohttp's own: no such route, a method that it does not have, a body that is too large.
        key = ErrorKey.NOT_FOUND if err.status == 404 else ErrorKey.BAD_REQUEST
        return _refusal(
            err.status, key, f"{request.method} {request.path}: {err.reason}"
        )
    except Exception:
        _LOGGER.exception("%s %s failed", request.method, request.path)
        return _refusal(500, ErrorKey.INTERNAL, "the engine failed; its log says why")


def answer(value: object, *, status: int = 200) -> web.Response:
    """Return a dataclass as the JSON body of an answer."""
    return web.Response(
        body=encode(value), status=status, content_type="application/json"
    )


def done() -> web.Response:
    """Return the answer where there is nothing to say."""
    return answer(Done())


def _refusal(status: int, key: ErrorKey, message: str) -> web.Response:
    return answer(ApiError(error=key, message=message), status=status)


async def payload(request: web.Request) -> bytes:
    """Return the body of a request. Raises BadRequest."""
    try:
        return await request.read()
    except (OSError, web.RequestPayloadError):
        # Nobody may be left to read this.
        raise BadRequest("the request did not arrive whole") from None


async def body[T](request: web.Request, kind: type[T]) -> T:
    """Return the JSON body of a request as an instance of `kind`. Raises BadRequest."""
    try:
        return decode(kind, await payload(request))
    except DecodeError as err:
        raise BadRequest(str(err)) from None


def number(request: web.Request, name: str) -> int:
    """Return a part of the path that is a number. Raises BadRequest."""
    try:
        # Longer numbers are refused by int() itself, with a ValueError.
        return int(request.match_info[name])
    except ValueError:
        raise BadRequest(f"the {name} is not a number") from None
