"""Two ways to send a file: sendfile where that is possible, reading and writing where it is not.

Both take the file a window at a time, have the next window prepared in a worker while this one is being sent, and look
again and again whether the file is still the same. A client that takes its time holds at most one window that is ready
and one that is being prepared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
import os
from typing import ClassVar, Final

from .disk import FileChanged, OpenFile
from .ranges import Span
from .workers import DiskWorkers

FIRST_WINDOW: Final = 1024 * 1024
"""Bytes that are made resident before the first one is sent: few, so that a film starts soon."""
WINDOW: Final = 4 * 1024 * 1024
TURN: Final = 2 * 1024 * 1024
"""Bytes that several clients together may take before the event loop turns to other things."""
MIN_BURST: Final = 128 * 1024
"""Bytes that each client may take then, however many there are."""
CHUNK: Final = 256 * 1024
"""Bytes that are read at once where sendfile is not possible."""


class SendfileSender:
    """Sends a file on a local disk to a plain socket, without the bytes passing through this process.

    It writes to a duplicate of the connection's socket: the event loop does not let others wait for a descriptor that
    belongs to a transport. `loop.sendfile` is no way out, it calls fstat on every file it is given.
    """

    _count: ClassVar[int] = 0
    """How many there are now."""

    def __init__(
        self,
        transport: asyncio.Transport,
        file: OpenFile,
        workers: DiskWorkers,
        resident: Span,
    ) -> None:
        """Prepare to send a file of which the bytes `resident` are known to be in memory already.

        Raises OSError when this process has too many files open.
        """
        self._loop = asyncio.get_running_loop()
        self._socket = os.dup(transport.get_extra_info("socket").fileno())
        SendfileSender._count += 1
        self._file = file
        self._workers = workers
        self._resident: Span | None = resident
        self._upcoming: asyncio.Future[None] | None = None
        self._position = 0

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
            window = self._window(span.start, span.stop)
            await self._prepare(window)
        while True:
            await self._push(self._sendfile, self._resident_windows(window, span.stop))
            if self._upcoming is None:
                return
            await self._upcoming
            self._upcoming = None
            window = self._window(self._position, span.stop)

    def close(self) -> None:
        """Close the duplicate."""
        SendfileSender._count -= 1
        if self._upcoming is not None:
            self._upcoming.cancel()
        os.close(self._socket)

    def _prepare(self, window: Span) -> asyncio.Future[None]:
        return self._workers.start(
            self._file.facts.device, partial(self._file.make_resident, window)
        )

    @staticmethod
    def _window(start: int, stop: int) -> Span:
        return Span(start, min(start + WINDOW, stop))

    def _resident_windows(self, window: Span, stop: int) -> Iterator[Span]:
        """Yield this window and those after it that are in memory, and have the first that is not brought there."""
        while True:
            following = self._window(window.stop, stop)
            if len(following) and not self._file.is_resident(following):
                self._upcoming = self._prepare(following)
            yield window
            self._file.check()
            self._position = window.stop
            if self._upcoming is not None or not len(following):
                return
            window = following

    def _sendfile(self, start: int, stop: int) -> int:
        return os.sendfile(self._socket, self._file.fd, start, stop - start)

    async def _push(
        self, attempt: Callable[[int, int], int], spans: Iterator[Span]
    ) -> None:
        """Call `attempt` whenever the socket takes bytes, until it has taken all spans."""
        future: asyncio.Future[None] = self._loop.create_future()
        span = next(spans)
        start = span.start

        def pump() -> None:
            if future.done():
                return
            try:
                step()
            except BlockingIOError:
                pass
            except (OSError, FileChanged) as err:
                future.set_exception(err)

        def step() -> None:
            nonlocal span, start
            alone = SendfileSender._count == 1
            burst = WINDOW if alone else max(TURN // SendfileSender._count, MIN_BURST)
            count = attempt(start, min(start + burst, span.stop))
            if not count:
                raise FileChanged
            start += count
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
    """Sends a file through this process: over TLS, or from a file system that sendfile might wait for."""

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        file: OpenFile,
        workers: DiskWorkers,
    ) -> None:
        """Prepare to send by `write`, which waits while the client is slow."""
        self._write = write
        self._file = file
        self._workers = workers
        self._chunk = Span(0, 0)
        self._reading: asyncio.Future[bytes] | None = None

    async def ready(self, first: Span) -> None:
        """Read the first bytes, so that a disk which hangs is noticed while there is still a status to say so."""
        await asyncio.shield(self._read(first))

    async def write(self, data: bytes) -> None:
        """Send literal bytes."""
        await self._write(data)

    async def send(self, span: Span) -> None:
        """Send bytes of the file."""
        if self._reading is None or self._chunk.start != span.start:
            self._read(span)
        while self._reading is not None:
            data = await self._reading
            self._reading = None
            if self._chunk.stop < span.stop:
                self._read(Span(self._chunk.stop, span.stop))
            await self._write(data)

    def close(self) -> None:
        """Give up what is being read."""
        if self._reading is not None:
            self._reading.cancel()

    def _read(self, span: Span) -> asyncio.Future[bytes]:
        """Have the beginning of these bytes read."""
        self._chunk = Span(span.start, min(span.start + CHUNK, span.stop))
        self._reading = self._workers.start(
            self._file.facts.device, partial(self._file.read, self._chunk)
        )
        return self._reading
