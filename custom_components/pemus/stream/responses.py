"""The response to a request for a file.

As in aiohttp's FileResponse, everything happens in `prepare`, after the middlewares have added their headers. An error
before the first byte becomes a status. An error after it resets the connection, so that the client sees an incomplete
transfer and not a complete file with wrong content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
import logging
import socket
import struct
import time
from typing import Final

from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web import BaseRequest, StreamResponse

from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.p2p.models import ErrorKey, LocalFile
from custom_components.pemus.p2p.models.items import Wanted

from . import dlna
from .arrival import Arrival, NeverArrived
from .disk import FileChanged, OpenFile
from .locations import Locations
from .plan import Plan, make_plan
from .ranges import Span
from .senders import FIRST_WINDOW_SIZE, ReadingSender, SendfileSender
from .workers import DiskStalled, DiskWorkers

OPEN_ATTEMPTS: Final = 3
"""How often to locate and open a file that keeps changing."""
RETRY_AFTER: Final = 5
"""Value of the Retry-After header, in seconds."""

_STATUS: Final = {
    ErrorKey.BAD_REQUEST: HTTPStatus.NOT_FOUND,
    ErrorKey.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorKey.NO_PICTURE: HTTPStatus.NOT_FOUND,
    ErrorKey.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKey.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKey.GONE: HTTPStatus.GONE,
    ErrorKey.REPLACED: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKey.DISK_FULL: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKey.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_READ_HEADERS: Final = (
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
    hdrs.IF_RANGE,
    hdrs.RANGE,
    dlna.TRANSFER_MODE,
    dlna.GET_CONTENT_FEATURES,
    dlna.TIME_SEEK,
    dlna.PLAY_SPEED,
)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: queued bytes are dropped, and the client sees a reset."""

_CUT_BY: Final = (DiskStalled, FileChanged, NeverArrived, OSError)
"""Errors that end a transfer, besides EngineError."""

_LOGGER = logging.getLogger(__name__)


class _Refusal(Exception):
    """The file cannot be sent."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class MediaResponse(StreamResponse):
    """Sends a file of an item, or the requested ranges of it."""

    def __init__(
        self,
        wanted: Wanted,
        locations: Locations,
        workers: DiskWorkers,
        *,
        headers: Mapping[str, str],
        cache_control: str,
        for_renderers: bool = False,
    ) -> None:
        """Create the response. `headers` are part of the response with any status."""
        super().__init__(headers=headers)
        self._wanted = wanted
        self._locations = locations
        self._workers = workers
        self._cache_control = cache_control
        self._for_renderers = for_renderers
        self._arrival: Arrival | None = None

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Send the response."""
        if self.prepared:
            return await super().prepare(request)
        try:
            plan, file = await self._open(request)
            try:
                return await self._answer(request, plan, file)
            finally:
                self._workers.submit(file.location.device, file.close)
        except _Refusal as refusal:
            return await self._refuse(request, refusal.status)
        finally:
            if self._arrival is not None:
                await self._arrival.close()

    async def _refuse(
        self, request: BaseRequest, status: HTTPStatus
    ) -> AbstractStreamWriter | None:
        self.set_status(status)
        self.content_length = 0
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER)
        self.headers[hdrs.CACHE_CONTROL] = "no-store"
        return await super().prepare(request)

    async def _open(self, request: BaseRequest) -> tuple[Plan, OpenFile]:
        """Locate and open the file, and plan the response. Raises _Refusal."""
        wanted_headers = {
            name: ", ".join(request.headers.getall(name))
            for name in _READ_HEADERS
            if name in request.headers
        }
        try:
            location = await self._locations.get(self._wanted)
            for _ in range(OPEN_ATTEMPTS):
                plan = make_plan(
                    request.method,
                    wanted_headers,
                    location,
                    now=time.time(),
                    cache_control=self._cache_control,
                    for_renderers=self._for_renderers,
                )
                self._follow(location)
                resident = None
                try:
                    if plan.first is not None and _is_plain(request):
                        resident = await self._first_window(plan.first)
                    file = await self._workers.run(
                        location.device,
                        partial(OpenFile.open, location, resident),
                        OpenFile.close,
                    )
                except FileChanged:
                    location = await self._locations.fresh(self._wanted, location)
                else:
                    return plan, file
        except EngineError as err:
            raise _Refusal(_STATUS[err.key]) from err
        except (EngineUnavailable, DiskStalled, NeverArrived) as err:
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE) from err
        except PermissionError as err:
            raise _Refusal(HTTPStatus.FORBIDDEN) from err
        except OSError as err:
            _LOGGER.debug("Failed to open a file: %s", err)
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE) from err
        # The file changes too fast, or only the engine can see it.
        raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE)

    async def _answer(
        self, request: BaseRequest, plan: Plan, file: OpenFile
    ) -> AbstractStreamWriter | None:
        """Send the response. Raises _Refusal if nothing has been sent yet."""
        if (first := plan.first) is None:
            return await self._send_head(request, plan)
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has disconnected")

        sender: SendfileSender | ReadingSender
        try:
            if file.is_local and _is_plain(request):
                resident = await self._first_window(first)
                sender = SendfileSender(
                    transport, file, self._workers, resident, self._arrival
                )
            else:
                sender = ReadingSender(self.write, file, self._workers, self._arrival)
        except OSError as err:
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE) from err

        # A client that has closed its sending side may still read. aiohttp would close the connection.
        was_reading = transport.is_reading()
        transport.pause_reading()
        try:
            if isinstance(sender, ReadingSender):
                try:
                    await sender.ready(first)
                except EngineError as err:
                    raise _Refusal(_STATUS[err.key]) from err
                except _CUT_BY as err:
                    raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE) from err
            writer = await self._send_head(request, plan, transport)
            if self._wanted.is_media:
                sender.moved = self._locations.played
            try:
                await self._send_body(plan, sender)
            except (EngineError, *_CUT_BY) as err:
                if not isinstance(err, ConnectionError):
                    _LOGGER.info(
                        "A transfer was aborted: %s", err or "the file changed"
                    )
                _cut(transport)
                raise ConnectionResetError("the transfer was aborted") from err
            return writer
        finally:
            sender.close()
            if was_reading and not transport.is_closing():
                transport.resume_reading()

    async def _send_head(
        self,
        request: BaseRequest,
        plan: Plan,
        transport: asyncio.Transport | None = None,
    ) -> AbstractStreamWriter | None:
        """Send status and headers. If `transport` is given, flush it as well."""
        self.set_status(plan.status)
        self.headers.update(plan.headers)
        if transport is None:
            return await super().prepare(request)
        # The body bypasses the transport, and must not overtake bytes in its buffer.
        transport.set_write_buffer_limits(high=0)
        writer = await super().prepare(request)
        assert writer is not None
        await writer.drain()
        transport.set_write_buffer_limits()
        return writer

    def _follow(self, location: LocalFile) -> None:
        """Use an Arrival for this file if it is still being fetched."""
        if location.arriving and self._arrival is None:
            self._arrival = Arrival(self._locations.source, self._wanted.item)
        if self._arrival is not None:
            self._arrival.follow(location.path)

    async def _first_window(self, span: Span) -> Span:
        """Return the bytes to make resident before the response starts: few, and only those on disk.

        Raises FileChanged if the file in which they arrive was replaced.
        """
        stop = span.stop
        if self._arrival is not None:
            stop = await self._arrival.until(span.start, stop)
        return Span(span.start, min(span.start + FIRST_WINDOW_SIZE, stop))

    async def _send_body(
        self, plan: Plan, sender: SendfileSender | ReadingSender
    ) -> None:
        for piece in plan.body:
            if isinstance(piece, Span):
                await sender.send(piece)
            else:
                await sender.write(piece)


def _is_plain(request: BaseRequest) -> bool:
    """Return whether the connection is a plain TCP socket without TLS."""
    transport = request.transport
    return (
        transport is not None
        and transport.get_extra_info("sslcontext") is None
        and transport.get_extra_info("socket") is not None
    )


def _cut(transport: asyncio.Transport) -> None:
    """Reset a connection without sending queued bytes."""
    if not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
        )
        transport.abort()
