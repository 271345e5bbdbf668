"""What can be asked of the engine, and how its errors become answers.

Every error is an ApiError in JSON. What nobody foresaw is logged with its traceback and answered without details.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
import logging

from aiohttp import hdrs, web

from ..core.errors import BadRequest, Busy, EngineError
from ..models import (
    ApiError,
    Arrived,
    Done,
    EngineConfig,
    ErrorKey,
    Home,
    SearchQuery,
    TicketQuery,
    WaitQuery,
)
from ..models.codec import DecodeError, decode, encode
from ..models.homes import LanHomes, PairingAnswer, PairingQuery
from .backend import Backend

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a request's body. The longest by far is a ticket for a very large file."""
QUICK_TIMEOUT = 20
"""Seconds for an answer out of the index or the file system, which may be a slow disk that has to wake up."""
WORK_TIMEOUT = 60
"""Seconds for an answer that reads a media file, or waits for bytes of one that trickles in."""

_STATUS = {
    ErrorKey.BAD_REQUEST: 400,
    ErrorKey.NOT_FOUND: 404,
    ErrorKey.NO_PICTURE: 404,
    ErrorKey.UNAVAILABLE: 503,
    ErrorKey.BUSY: 503,
    ErrorKey.GONE: 410,
    ErrorKey.REPLACED: 409,
    ErrorKey.DISK_FULL: 507,
    ErrorKey.INTERNAL: 500,
}
_REMOTE = "/v1/remote/{owner}/{item}"
_LOGGER = logging.getLogger(__name__)

type _Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """The handlers of all requests but the event stream."""

    def __init__(self, backend: Backend) -> None:
        """Answer on behalf of `backend`."""
        self._backend = backend

    def add_to(self, app: web.Application) -> None:
        """Add the routes to an application."""
        quick, work = QUICK_TIMEOUT, WORK_TIMEOUT
        for method, path, handler, seconds in (
            (hdrs.METH_GET, "/v1/status", self._status, quick),
            (hdrs.METH_PUT, "/v1/config", self._configure, work),
            (hdrs.METH_POST, "/v1/rescan", self._rescan, quick),
            (hdrs.METH_GET, "/v1/items/{item}", self._item, quick),
            (hdrs.METH_GET, "/v1/items/{item}/file", self._file, quick),
            (hdrs.METH_GET, "/v1/items/{item}/thumbnail", self._thumbnail, work),
            (
                hdrs.METH_GET,
                "/v1/items/{item}/subtitles/{index}",
                self._subtitles,
                work,
            ),
            (hdrs.METH_GET, "/v1/browse", self._browse, quick),
            (hdrs.METH_POST, "/v1/search", self._search, quick),
            (hdrs.METH_PUT, "/v1/streaming", self._streaming, quick),
            (hdrs.METH_GET, "/v1/home", self._home, quick),
            (hdrs.METH_POST, "/v1/tickets", self._issue, quick),
            (hdrs.METH_DELETE, "/v1/tickets/{receiver}", self._revoke, quick),
            (hdrs.METH_DELETE, "/v1/tickets/{receiver}/{item}", self._revoke, quick),
            (hdrs.METH_GET, "/v1/remote", self._transfers, quick),
            (hdrs.METH_POST, "/v1/remote", self._accept, quick),
            (hdrs.METH_GET, _REMOTE, self._remote_item, quick),
            (hdrs.METH_GET, f"{_REMOTE}/file", self._remote_file, quick),
            (hdrs.METH_POST, f"{_REMOTE}/wait", self._wait, work),
            (hdrs.METH_DELETE, f"{_REMOTE}/readers/{{reader}}", self._release, quick),
            (hdrs.METH_GET, f"{_REMOTE}/thumbnail", self._remote_thumbnail, work),
            (
                hdrs.METH_GET,
                f"{_REMOTE}/subtitles/{{index}}",
                self._remote_subtitles,
                work,
            ),
            (hdrs.METH_PUT, f"{_REMOTE}/pin", self._pin, quick),
            (hdrs.METH_DELETE, f"{_REMOTE}/pin", self._unpin, quick),
            (hdrs.METH_PUT, "/v1/identity", self._restore_identity, quick),
            (hdrs.METH_POST, "/v1/identity", self._new_identity, quick),
            (hdrs.METH_POST, "/v1/pairings", self._request_pairing, quick),
            (hdrs.METH_PUT, "/v1/pairings/{home}/answer", self._answer_pairing, quick),
            (hdrs.METH_DELETE, "/v1/pairings/{home}", self._forget_pairing, quick),
            (hdrs.METH_DELETE, "/v1/blocked/{home}", self._unblock, quick),
            (hdrs.METH_PUT, "/v1/lan", self._lan, quick),
            (hdrs.METH_PUT, "/v1/network", self._network, quick),
        ):
            app.router.add_route(method, path, _within(seconds, handler))

    async def _status(self, _request: web.Request) -> web.Response:
        return answer(self._backend.status())

    async def _configure(self, request: web.Request) -> web.Response:
        await self._backend.configure(await _body(request, EngineConfig))
        return answer(self._backend.status())

    async def _rescan(self, request: web.Request) -> web.Response:
        self._backend.rescan(request.query.get("share"))
        return answer(self._backend.status(), status=202)

    async def _item(self, request: web.Request) -> web.Response:
        return answer(await self._backend.item(request.match_info["item"]))

    async def _file(self, request: web.Request) -> web.Response:
        return answer(await self._backend.file(request.match_info["item"]))

    async def _thumbnail(self, request: web.Request) -> web.Response:
        return answer(await self._backend.thumbnail(request.match_info["item"]))

    async def _subtitles(self, request: web.Request) -> web.Response:
        return answer(
            await self._backend.subtitles(request.match_info["item"], _index(request))
        )

    async def _browse(self, request: web.Request) -> web.Response:
        return answer(await self._backend.browse(request.query.get("node", "")))

    async def _search(self, request: web.Request) -> web.Response:
        return answer(await self._backend.search(await _body(request, SearchQuery)))

    async def _streaming(self, _request: web.Request) -> web.Response:
        self._backend.streaming()
        return answer(Done())

    async def _home(self, _request: web.Request) -> web.Response:
        return answer(Home(id=self._backend.home()))

    async def _issue(self, request: web.Request) -> web.Response:
        ticket = await self._backend.issue(await _body(request, TicketQuery))
        return web.Response(body=ticket, content_type="application/json")

    async def _revoke(self, request: web.Request) -> web.Response:
        parts = request.match_info
        await self._backend.revoke(parts["receiver"], parts.get("item"))
        return answer(Done())

    async def _transfers(self, _request: web.Request) -> web.Response:
        return answer(self._backend.transfers())

    async def _accept(self, request: web.Request) -> web.Response:
        return answer(await self._backend.accept(await _payload(request)))

    async def _remote_item(self, request: web.Request) -> web.Response:
        return answer(await self._backend.remote_item(*_remote(request)))

    async def _remote_file(self, request: web.Request) -> web.Response:
        return answer(await self._backend.remote_file(*_remote(request)))

    async def _wait(self, request: web.Request) -> web.Response:
        query = await _body(request, WaitQuery)
        return answer(Arrived(stop=await self._backend.wait(*_remote(request), query)))

    async def _release(self, request: web.Request) -> web.Response:
        self._backend.release(*_remote(request), request.match_info["reader"])
        return answer(Done())

    async def _pin(self, request: web.Request) -> web.Response:
        return answer(await self._backend.pin(*_remote(request), pinned=True))

    async def _unpin(self, request: web.Request) -> web.Response:
        return answer(await self._backend.pin(*_remote(request), pinned=False))

    async def _remote_thumbnail(self, request: web.Request) -> web.Response:
        return answer(await self._backend.remote_thumbnail(*_remote(request)))

    async def _remote_subtitles(self, request: web.Request) -> web.Response:
        return answer(
            await self._backend.remote_subtitles(*_remote(request), _index(request))
        )

    async def _restore_identity(self, _request: web.Request) -> web.Response:
        return answer(Home(id=await self._backend.restore_identity()))

    async def _new_identity(self, _request: web.Request) -> web.Response:
        return answer(Home(id=await self._backend.new_identity()))

    async def _request_pairing(self, request: web.Request) -> web.Response:
        query = await _body(request, PairingQuery)
        return answer(await self._backend.request_pairing(query), status=201)

    async def _answer_pairing(self, request: web.Request) -> web.Response:
        said = await _body(request, PairingAnswer)
        await self._backend.answer_pairing(request.match_info["home"], said)
        return answer(Done())

    async def _forget_pairing(self, request: web.Request) -> web.Response:
        await self._backend.forget_pairing(request.match_info["home"])
        return answer(Done())

    async def _unblock(self, request: web.Request) -> web.Response:
        await self._backend.unblock(request.match_info["home"])
        return answer(Done())

    async def _lan(self, request: web.Request) -> web.Response:
        self._backend.lan_homes(await _body(request, LanHomes))
        return answer(Done())

    async def _network(self, _request: web.Request) -> web.Response:
        self._backend.network_changed()
        return answer(Done())


@web.middleware
async def errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn every error into an ApiError."""
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


def _refusal(status: int, key: ErrorKey, message: str) -> web.Response:
    return answer(ApiError(error=key, message=message), status=status)


def _within(seconds: float, handler: _Handler) -> _Handler:
    """Bound the time that a handler may take."""

    async def bounded(request: web.Request) -> web.StreamResponse:
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


def _remote(request: web.Request) -> tuple[str, str]:
    return request.match_info["owner"], request.match_info["item"]


def _index(request: web.Request) -> int:
    try:
        # Longer numbers are refused by int() itself, with a ValueError.
        return int(request.match_info["index"])
    except ValueError:
        raise BadRequest("the subtitles' index is not a number") from None


async def _payload(request: web.Request) -> bytes:
    try:
        return await request.read()
    except (OSError, web.RequestPayloadError):
        # Nobody may be left to read this.
        raise BadRequest("the request did not arrive whole") from None


async def _body[T](request: web.Request, kind: type[T]) -> T:
    payload = await _payload(request)
    try:
        return decode(kind, payload)
    except DecodeError as err:
        raise BadRequest(str(err)) from None
