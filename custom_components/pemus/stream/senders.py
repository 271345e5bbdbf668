"""Two ways to send a file: sendfile if possible, otherwise reading and writing.

Both send the file in windows, prepare the next window in a worker while the current one is sent, and check repeatedly
that the file has not changed. A slow client holds at most one ready window and one in preparation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
import os
from typing import ClassVar, Final

from custom_components.pemus.engine.client import EngineError

from .arrival import Arrival, NeverArrived
from .disk import FileChanged, OpenFile
from .ranges import Span
from .workers import DiskStalled, DiskWorkers

FIRST_WINDOW_SIZE: Final = 1024 * 1024
"""Bytes to make resident before the response starts. Small, so that playback starts soon."""
WINDOW_SIZE: Final = 4 * 1024 * 1024
TURN_SIZE: Final = 2 * 1024 * 1024
"""Bytes that all clients together can take in one turn of the event loop."""
BURST_SIZE_MIN: Final = 128 * 1024
"""Minimum bytes per client and turn, whatever the number of clients."""
TURN_TIME: Final = 0.002
"""How long all clients together can take bursts in one turn of the event loop, in seconds."""
CHUNK_SIZE: Final = 256 * 1024
"""Bytes to read at once without sendfile."""


class SendfileSender:
    """Sends a file on a local disk to a plain socket with sendfile, so that no bytes pass through this process.

    It writes to a duplicate of the connection's socket, because the event loop does not accept a writer for a
    descriptor that belongs to a transport. `loop.sendfile` is not suitable, because it calls fstat in the event loop.
    """

    _count: ClassVar[int] = 0
    """Number of active senders."""

    def __init__(
        self,
        transport: asyncio.Transport,
        file: OpenFile,
        workers: DiskWorkers,
        resident: Span,
        arrival: Arrival | None = None,
    ) -> None:
        """Create a sender for a file whose bytes `resident` are in the page cache.

        `arrival`: waits for the bytes of a file that is still being fetched.

        Raises OSError if too many files are open.
        """
        self._loop = asyncio.get_running_loop()
        self._socket = os.dup(transport.get_extra_info("socket").fileno())
        SendfileSender._count += 1
        self._file = file
        self._workers = workers
        self._resident: Span | None = resident
        self._arrival = arrival
        self._upcoming: asyncio.Task[Span] | None = None
        self._position = 0
        self.moved: Callable[[], None] = lambda: None
        """Called whenever the client has taken some bytes."""

    async def write(self, data: bytes) -> None:
        """Send literal bytes."""
        view = memoryview(data)
        await self._push(
            lambda start, stop: os.write(self._socket, view[start:stop]),
            iter((Span(0, len(data)),)),
        )

    async def send(self, span: Span) -> None:
        """Send bytes of the file."""
        window, self._resident = self._resident, None
        if window is None or window.start != span.start:
            window = await self._prepare(span.start, span.stop)
        while True:
            await self._push(self._sendfile, self._resident_windows(window, span.stop))
            if self._upcoming is None:
                return
            try:
                window = await self._upcoming
            except EngineError, NeverArrived, DiskStalled:
                if self._arrival is None:
                    raise
                # The window was prepared when the previous one started, which may be long ago.
                window = await self._prepare(self._position, span.stop)
            self._upcoming = None

    def close(self) -> None:
        """Close the duplicate socket."""
        SendfileSender._count -= 1
        if self._upcoming is not None:
            self._upcoming.cancel()
            # Retrieve the exception of the abandoned task, so that it is not logged.
            self._upcoming.add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )
        os.close(self._socket)

    async def _prepare(self, start: int, stop: int) -> Span:
        """Wait until the window at `start` is on disk and in the page cache. Return it."""
        if self._arrival is not None:
            stop = await self._arrival.until(start, stop)
        window = Span(start, min(start + WINDOW_SIZE, stop))
        await self._workers.start(
            self._file.location.device, partial(self._file.make_resident, window)
        )
        return window

    def _resident_windows(self, window: Span, stop: int) -> Iterator[Span]:
        """Yield this window and the following ones that are in the page cache. Start to prepare the first that is not."""
        while True:
            following = Span(window.stop, self._end(window.stop, stop))
            if window.stop < stop and not (
                len(following) and self._file.is_resident(following)
            ):
                self._upcoming = self._loop.create_task(
                    self._prepare(window.stop, stop), name="pemus next window"
                )
            yield window
            self._file.check()
            self._position = window.stop
            if self._upcoming is not None or window.stop == stop:
                return
            window = following

    def _end(self, start: int, stop: int) -> int:
        stop = min(start + WINDOW_SIZE, stop)
        return stop if self._arrival is None else self._arrival.end(start, stop)

    def _sendfile(self, start: int, stop: int) -> int:
        return os.sendfile(self._socket, self._file.fd, start, stop - start)

    async def _push(
        self, attempt: Callable[[int, int], int], spans: Iterator[Span]
    ) -> None:
        """Call `attempt` whenever the socket is writable, until all spans are sent."""
        future: asyncio.Future[None] = self._loop.create_future()
        span = next(spans)
        start = span.start

        def pump() -> None:
            until = self._loop.time() + TURN_TIME / SendfileSender._count
            try:
                while not future.done():
                    step()
                    if self._loop.time() > until:
                        break
            except BlockingIOError:
                pass
            except (OSError, FileChanged) as err:
                future.set_exception(err)

        def step() -> None:
            nonlocal span, start
            alone = SendfileSender._count == 1
            burst = (
                WINDOW_SIZE
                if alone
                else max(TURN_SIZE // SendfileSender._count, BURST_SIZE_MIN)
            )
            count = attempt(start, min(start + burst, span.stop))
            if not count:
                raise FileChanged
            start += count
            self.moved()
            if start < span.stop:
                return
            if following := next(spans, None):
                span, start = following, following.start
            else:
                future.set_result(None)

        pump()
        if not future.done():
            self._loop.add_writer(self._socket, pump)
            try:
                await future
            finally:
                self._loop.remove_writer(self._socket)
        future.result()


class ReadingSender:
    """Sends a file by reading and writing: over TLS, or from a file system on which sendfile can block."""

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        file: OpenFile,
        workers: DiskWorkers,
        arrival: Arrival | None = None,
    ) -> None:
        """Create a sender. `write` waits while the client is slow."""
        self._write = write
        self._file = file
        self._workers = workers
        self._arrival = arrival
        self._start = 0
        self._reading: asyncio.Task[bytes] | None = None
        self.moved: Callable[[], None] = lambda: None
        """Called whenever the client has taken some bytes."""

    async def ready(self, first: Span) -> None:
        """Read the first bytes, so that a hanging disk is detected before the status is sent."""
        await asyncio.shield(self._read(first))

    async def write(self, data: bytes) -> None:
        """Send literal bytes."""
        await self._write(data)

    async def send(self, span: Span) -> None:
        """Send bytes of the file."""
        if self._reading is None or self._start != span.start:
            self._read(span)
        while self._reading is not None:
            try:
                data = await self._reading
            except EngineError, NeverArrived, DiskStalled:
                if self._arrival is None or self._start == span.start:
                    raise
                # The chunk was read when the previous one started, which may be long ago.
                data = await self._read_chunk(self._start, span.stop)
            self._reading = None
            if (position := self._start + len(data)) < span.stop:
                self._read(Span(position, span.stop))
            await self._write(data)
            self.moved()

    def close(self) -> None:
        """Cancel the pending read."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading.add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )

    def _read(self, span: Span) -> asyncio.Task[bytes]:
        """Start to read the next chunk of these bytes."""
        self._start = span.start
        self._reading = asyncio.create_task(
            self._read_chunk(span.start, span.stop), name="pemus next chunk"
        )
        return self._reading

    async def _read_chunk(self, start: int, stop: int) -> bytes:
        if self._arrival is not None:
            stop = await self._arrival.until(start, stop)
        chunk = Span(start, min(start + CHUNK_SIZE, stop))
        return await self._workers.start(
            self._file.location.device, partial(self._file.read, chunk)
        )
