"""The requests that travel over a link, in both directions, several at a time.

Short frames use the connection's control channel, the parts of answers and of long requests its bulk channel. An answer
is sent at most `WINDOW` bytes ahead of what the asking end has processed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
import logging
from typing import TYPE_CHECKING, Final

from ...core import sanitize
from ...core.errors import Busy, EngineError, Unavailable, error_of
from ...core.tasks import Tasks
from ...core.throttle import Throttle
from ...models.codec import DecodeError, encode
from ...models.homes import MAX_NAME, PathKind
from .frames import (
    MAX_PAYLOAD,
    MAX_REQUEST,
    Ask,
    Frame,
    FrameType,
    Refusal,
    pack,
    pack_count,
    pack_request,
    unpack_count,
    unpack_json,
)
from .keepalive import Keepalive

if TYPE_CHECKING:
    from ..webrtc.connection import Connection

ANSWER_TIMEOUT: Final = 12.0
"""Seconds without a byte of an answer after which the request fails."""
MAX_REQUESTS: Final = 64
"""Requests that one end answers at a time."""
WINDOW: Final = 4 * 1024 * 1024
"""Bytes of an answer that are sent ahead of what the asking end has processed."""
MAX_UNREAD: Final = 2 * WINDOW
"""Bytes of an answer that may wait here. An end that respects the window never sends so many."""

_MAX_MESSAGE: Final = 1000
"""Characters of an error's message."""

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Incoming:
    """An answer that is being received."""

    limit: int
    parts: asyncio.Queue[bytes | EngineError | None] = field(
        default_factory=asyncio.Queue
    )
    received: int = 0
    waiting: int = 0
    is_complete: bool = False

    def put(self, part: bytes) -> None:
        """Add a part. Raises DecodeError if there is more than was asked for, or than may wait."""
        self.received += len(part)
        self.waiting += len(part)
        if self.received > self.limit or self.waiting > MAX_UNREAD:
            raise DecodeError("an answer is longer than it may be")
        self.parts.put_nowait(part)

    def end(self, error: EngineError | None = None) -> None:
        """Expect nothing more, because the answer is whole or for a reason."""
        self.is_complete = True
        self.parts.put_nowait(error)

    async def take(self) -> bytes | None:
        """Return the next part, None after the last one. Raises EngineError."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                part = await self.parts.get()
        except TimeoutError:
            raise Unavailable("the other home does not answer") from None
        if isinstance(part, EngineError):
            raise part
        self.waiting -= len(part or b"")
        return part


class OwnRequests:
    """Requests of this home."""

    def __init__(self, connection: Connection, keepalive: Keepalive) -> None:
        """Prepare to ask over a connection."""
        self._connection = connection
        self._keepalive = keepalive
        self._last = 0
        self._answers: dict[int, _Incoming] = {}
        self._long = asyncio.Lock()

    async def ask(self, ask: Ask, limit: int) -> AsyncGenerator[bytes]:
        """Send a request and yield its answer in parts, of at most `limit` bytes together. Raises EngineError."""
        self._last = number = (self._last + 1) % 2**32
        frames = pack_request(number, ask)
        answer = self._answers[number] = _Incoming(limit)
        self._keepalive.begin()
        acknowledged = 0
        try:
            await self._send(frames)
            while (part := await answer.take()) is not None:
                yield part
                taken = answer.received - answer.waiting
                if taken - acknowledged >= WINDOW // 4:
                    acknowledged = taken
                    self._connection.send(pack_count(number, taken))
        except ConnectionError:
            raise Unavailable("the link to the other home ended") from None
        finally:
            del self._answers[number]
            self._keepalive.end()
            if not answer.is_complete:
                self._cancel(number, is_long=len(frames) > 1)

    def receive(self, frame: Frame) -> None:
        """Handle a part of an answer, or its end. Raises DecodeError."""
        if (answer := self._answers.get(frame.number)) is None:
            # It was cancelled a moment ago.
            return
        if frame.type == FrameType.DATA:
            answer.put(frame.payload)
        elif frame.type == FrameType.END:
            answer.end()
        else:
            refusal = unpack_json(Refusal, frame.payload)
            answer.end(
                error_of(refusal.error, sanitize.shown(refusal.message, MAX_NAME))
            )

    def close(self) -> None:
        """Fail all requests, because the link has ended."""
        for answer in self._answers.values():
            answer.end(Unavailable("the link to the other home ended"))

    async def _send(self, frames: list[bytes]) -> None:
        """Send a request: a long one after other long ones, and when there is room. Raises ConnectionError."""
        if len(frames) == 1:
            self._connection.send(frames[0])
            return
        async with self._long:
            for frame in frames:
                await self._connection.send_bulk(frame)

    def _cancel(self, number: int, *, is_long: bool) -> None:
        cancel = pack(FrameType.CANCEL, number)
        with suppress(ConnectionError):
            if is_long:
                # It must not overtake the request.
                self._connection.send_after_bulk(cancel)
            else:
                self._connection.send(cancel)


@dataclass(slots=True, eq=False)
class _Outgoing:
    """An answer that is being sent."""

    task: asyncio.Task[None] | None = None
    sent: int = 0
    taken: int = 0
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    def acknowledge(self, taken: int) -> None:
        """Note how many bytes the other end has processed."""
        self.taken = taken
        self.progress.set()

    async def window(self) -> None:
        """Wait until the window allows more."""
        while self.sent - self.taken >= WINDOW:
            self.progress.clear()
            await self.progress.wait()


class TheirRequests:
    """Requests of the other home."""

    def __init__(
        self,
        connection: Connection,
        keepalive: Keepalive,
        tasks: Tasks,
        answer: Callable[[Ask], AsyncGenerator[bytes]],
        throttles: tuple[Throttle, ...],
    ) -> None:
        """Answer with what `answer` yields, within the rates of `throttles`."""
        self._connection = connection
        self._keepalive = keepalive
        self._tasks = tasks
        self._answer = answer
        self._throttles = throttles
        self._answers: dict[int, _Outgoing] = {}
        self._partial: dict[int, bytearray] = {}
        """Requests whose last part has not arrived yet."""

    def receive(self, frame: Frame) -> None:
        """Handle a part of a request, a request, or what the other end says of an answer. Raises DecodeError."""
        number = frame.number
        if frame.type == FrameType.MORE:
            self._collect(number, frame.payload)
        elif frame.type == FrameType.ASK:
            request = bytes(self._partial.pop(number, b"")) + frame.payload
            self._begin(number, unpack_json(Ask, request, MAX_REQUEST))
        elif frame.type == FrameType.TAKEN:
            count = unpack_count(frame.payload)
            if (answer := self._answers.get(number)) is not None:
                answer.acknowledge(count)
        else:
            self._cancel(number)

    def _collect(self, number: int, payload: bytes) -> None:
        is_new = number not in self._partial
        if not payload or (is_new and len(self._partial) >= MAX_REQUESTS):
            raise DecodeError("requests are begun and not ended")
        self._partial.setdefault(number, bytearray()).extend(payload)
        if sum(map(len, self._partial.values())) > MAX_REQUEST:
            raise DecodeError("a request is too long")

    def _begin(self, number: int, ask: Ask) -> None:
        if number in self._answers:
            raise DecodeError("two requests have one number")
        if len(self._answers) >= MAX_REQUESTS:
            self._refuse(number, Busy("too many requests at a time"))
            return
        self._keepalive.begin()
        self._answers[number] = answer = _Outgoing()
        work = self._send(number, ask, answer)
        answer.task = self._tasks.spawn(work, f"answer {ask.do[:16]}")
        answer.task.add_done_callback(lambda _: self._end(number))

    def _end(self, number: int) -> None:
        del self._answers[number]
        self._keepalive.end()

    def _cancel(self, number: int) -> None:
        self._partial.pop(number, None)
        answer = self._answers.get(number)
        if answer is not None and answer.task is not None:
            answer.task.cancel()

    async def _send(self, number: int, ask: Ask, answer: _Outgoing) -> None:
        try:
            async with aclosing(self._answer(ask)) as parts:
                async for part in parts:
                    await self._send_part(number, part, answer)
            await self._connection.send_bulk(pack(FrameType.END, number))
        except EngineError as err:
            self._refuse(number, err)
        except ConnectionError:
            pass
        except Exception:
            _LOGGER.exception("A request could not be answered")
            self._refuse(number, Unavailable("the other home failed"))

    async def _send_part(self, number: int, part: bytes, answer: _Outgoing) -> None:
        """Send a part of an answer as the window and the rates allow. Raises ConnectionError."""
        start = 0
        while start < len(part):
            is_lan = self._connection.path() is PathKind.LAN
            throttles = [
                each for each in self._throttles if not (is_lan and each.is_lan_exempt)
            ]
            size = min(
                [MAX_PAYLOAD, *(each.portion(MAX_PAYLOAD) for each in throttles)]
            )
            chunk = part[start : start + size]
            await answer.window()
            for throttle in throttles:
                await throttle.take(len(chunk))
            await self._connection.send_bulk(pack(FrameType.DATA, number, chunk))
            answer.sent += len(chunk)
            start += len(chunk)

    def _refuse(self, number: int, error: EngineError) -> None:
        refusal = Refusal(error=error.key, message=str(error)[:_MAX_MESSAGE])
        with suppress(ConnectionError):
            self._connection.send(pack(FrameType.REFUSE, number, encode(refusal)))
