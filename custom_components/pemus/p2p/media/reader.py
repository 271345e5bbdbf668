"""Reading media files from the engine: a queue, and one child process that does the work.

The files are made by strangers and the libraries that read them are large. So they run in a process of their own
(`worker`), and here stand the rules about it: how long a file may take, what happens when it ends the child, that
somebody who waits for a picture comes before the background, and that nothing is left behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
import contextlib
from dataclasses import dataclass, field
from itertools import count
import json
import logging
import os
from pathlib import Path
import signal
import socket
import sys
from typing import Any

from ..core import tasks
from ..core.daemon import close_in_daemon, open_in_daemon
from ..core.errors import Unavailable
from ..models import Kind
from ..models.codec import DecodeError, from_plain
from .facts import MediaError, MediaFacts
from .source import Opened, Source
from .worker import LIBRARIES

READ_TIMEOUT = 20
"""Seconds that reading a file may take."""
PICTURE_TIMEOUT = 30
"""Seconds that making a picture or converting subtitles may take."""
IDLE_TIMEOUT = 60
"""Seconds without work after which the child is ended, to give its memory back."""
JOBS_PER_CHILD = 2000
"""A child is replaced after so many jobs, before what the libraries leak adds up."""
ATTEMPTS = 2
"""How often a file is tried that ends the child: the first time something else may have killed it."""
PICTURE_SIZE = 512
"""Pixels of the longer side of a picture."""
PARTIAL = ".partial"
"""What the name of a file ends with that is being written."""
READING_LEVEL = 1
"""Raised when files should be read again because this package understands more of them."""

_GRACE = 10
"""Seconds beyond its time-out after which a child whose engine is gone ends itself."""
_END_TIMEOUT = 5
"""Seconds that a child may take to end. One that is stuck in a dead disk takes forever, even when it is killed."""
_MAX_STUCK = 3
_MAX_ANSWER = 1024 * 1024
_STDERR_LINES = 20
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_PROGRAM = Path(__file__).with_name("worker_main.py")
_READING_LIBRARIES = ("av", "mutagen", "PIL", "pillow_heif")

_LOGGER = logging.getLogger(__name__)


class _Unopened(Exception):
    """The file cannot be opened. The message says why."""


class _Lost(Exception):
    """The child ended, or had to be ended, without an answer. The message is about the file."""


@dataclass(order=True, slots=True)
class _Job:
    """A request that waits or is being worked on. Those of the lowest rank come first, in their order."""

    rank: int
    number: int
    request: dict[str, Any] = field(compare=False)
    limit: int = field(compare=False)
    answer: asyncio.Future[dict[str, Any]] = field(compare=False)
    source: Source | None = field(compare=False, default=None)
    partial: Path | None = field(compare=False, default=None)
    """Where the child's work is written to."""


class MediaReader:
    """Reads media files, one at a time, in a child process that is started when there is something to do.

    Files are opened here, when their turn comes, and the child is handed the descriptors: it opens nothing itself.
    """

    def __init__(self, *, python: str = sys.executable) -> None:
        """Prepare a reader whose child runs under the interpreter `python`."""
        self.capabilities: dict[str, str | None] = dict.fromkeys(LIBRARIES)
        self._python = python
        self._queue: asyncio.PriorityQueue[_Job] = asyncio.PriorityQueue()
        self._numbers = count()
        self._child: _Child | None = None
        self._stuck: list[_Child] = []
        self._runner: asyncio.Task[None] | None = None

    @property
    def level(self) -> str:
        """How well files are read: what was read at another level is worth reading again."""
        present = (name for name in _READING_LIBRARIES if self.capabilities[name])
        return f"{READING_LEVEL}:{'+'.join(present)}"

    async def start(self) -> None:
        """Begin to work, and learn which libraries there are. If that fails, every file will have a fault."""
        self._runner = tasks.keep(self._run, "media reader")
        try:
            answer = await self._ask({"job": "versions"}, READ_TIMEOUT, priority=True)
            found = answer["versions"]
            self.capabilities = {name: found[name] for name in LIBRARIES}
        except (_Lost, OSError, KeyError) as err:
            _LOGGER.error("Media files cannot be read: %s", err)

    async def stop(self) -> None:
        """End the child and all work. Who still waits for an answer gets `Unavailable`."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        await tasks.end(runner)
        while not self._queue.empty():
            _fail(self._queue.get_nowait(), Unavailable("The reader is stopped."))

    async def read(
        self, source: Source, kind: Kind, *, priority: bool = False
    ) -> MediaFacts:
        """Return what a file says about itself. Its name makes it a `kind`; its content has the last word.

        Whatever is wrong with the file is told by `MediaFacts.fault`. With `priority` it comes before the background.

        Raises:
            Unavailable: the reader is stopped.

        """
        request = {"job": "read", "kind": kind}
        try:
            answer = await self._ask(request, READ_TIMEOUT, source, priority=priority)
            if "error" in answer:
                return MediaFacts(fault=f"The file cannot be read: {answer['error']}.")
            return from_plain(MediaFacts, answer.get("facts"))
        except _Unopened as err:
            return MediaFacts(fault=f"The file cannot be read: {err}.")
        except (_Lost, DecodeError) as err:
            _LOGGER.warning("Reading %r failed: %s", source.path, err)
            return MediaFacts(fault=str(err))

    async def picture(
        self,
        source: Source,
        kind: Kind,
        target: Path,
        size: int = PICTURE_SIZE,
        *,
        priority: bool = False,
    ) -> bool:
        """Write the picture of a file as JPEG to `target`, no larger than `size` pixels on either side.

        Returns whether there is one: the poster of a film, the cover of a song, or the photo itself.

        Raises:
            OSError: the target cannot be written.
            Unavailable: the reader is stopped.

        """
        request = {"job": "picture", "kind": kind, "size": size}
        try:
            answer = await self._make(request, source, target, priority=priority)
        except _Unopened:
            return False
        except _Lost as err:
            _LOGGER.warning("Making a picture of %r failed: %s", source.path, err)
            return False
        return answer.get("made") is True

    async def subtitles(self, source: Source, target: Path) -> None:
        """Write a subtitle file as WebVTT to `target`.

        Raises:
            MediaError: it cannot be converted.
            OSError: the target cannot be written.
            Unavailable: the reader is stopped.

        """
        try:
            answer = await self._make(
                {"job": "subtitles"}, source, target, priority=True
            )
        except _Unopened as err:
            raise MediaError(f"The subtitle file cannot be read: {err}.") from None
        except _Lost as err:
            raise MediaError(str(err)) from None
        if answer.get("made") is not True:
            raise MediaError(str(answer.get("error")))

    async def _make(
        self, request: dict[str, Any], source: Source, target: Path, *, priority: bool
    ) -> dict[str, Any]:
        """Have a file written, which has another name until it is complete. Raises OSError, _Lost and _Unopened."""
        # Of two who have the same made, neither may write into what is the other's.
        partial = target.with_name(f".{target.name}.{next(self._numbers)}{PARTIAL}")
        made = False
        try:
            answer = await self._ask(
                request, PICTURE_TIMEOUT, source, partial, priority=priority
            )
            if isinstance(number := answer.get("errno"), int):
                raise OSError(number, str(answer["error"]), str(target))
            if answer.get("made") is True:
                partial.replace(target)
                made = True
        finally:
            if not made:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
        return answer

    async def _ask(
        self,
        request: dict[str, Any],
        limit: int,
        source: Source | None = None,
        partial: Path | None = None,
        *,
        priority: bool,
    ) -> dict[str, Any]:
        """Put a request in the queue and wait for its answer. Raises _Lost, _Unopened, OSError and Unavailable."""
        if self._runner is None or self._runner.done():
            raise Unavailable("The reader is stopped.")
        number = next(self._numbers)
        job = _Job(
            rank=0 if priority else 1,
            number=number,
            request={**request, "id": number, "limit": limit + _GRACE},
            limit=limit,
            answer=asyncio.get_running_loop().create_future(),
            source=source,
            partial=partial,
        )
        self._queue.put_nowait(job)
        return await job.answer

    async def _run(self) -> None:
        """Work through the queue until cancelled."""
        job = None
        try:
            while True:
                job = await self._next_job()
                # Who asked for it may have given up meanwhile.
                if job.answer.done():
                    continue
                try:
                    answer = await self._work(job)
                except Exception as err:  # noqa: BLE001 - it is raised where the answer is awaited
                    _fail(job, err)
                else:
                    if not job.answer.done():
                        job.answer.set_result(answer)
        finally:
            if job is not None:
                _fail(job, Unavailable("The reader is stopped."))
            await self._drop_child(kill=True)

    async def _next_job(self) -> _Job:
        """Wait for a job, without a child if that takes long."""
        if self._child is not None:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    return await self._queue.get()
            except TimeoutError:
                await self._drop_child(kill=False)
        return await self._queue.get()

    async def _work(self, job: _Job) -> dict[str, Any]:
        """Have the child do a job. Raises _Lost, _Unopened, and OSError for a target that cannot be written."""
        files = await self._opened(job)
        try:
            if job.answer.done():
                # Who asked for it gave up while the disk took its time, and takes no file away any more.
                return {}
            if job.partial is not None:
                files["target"] = os.open(job.partial, _WRITE, 0o600)
            return await self._hand_over(job, files)
        finally:
            for each in files.values():
                close_in_daemon(each)

    @staticmethod
    async def _opened(job: _Job) -> dict[str, int]:
        """Open what a job is about, by the names that the child knows. Raises _Lost and _Unopened."""
        if job.source is None:
            return {}
        try:
            async with asyncio.timeout(job.limit):
                opened = await open_in_daemon(job.source.open, _close)
        except TimeoutError:
            raise _Lost("The disk does not answer.") from None
        except OSError as err:
            raise _Unopened(err.strerror or str(err)) from None
        files = {"file": opened.file}
        if opened.cover is not None:
            files["cover"] = opened.cover
        return files

    async def _hand_over(self, job: _Job, files: dict[str, int]) -> dict[str, Any]:
        """Have the child work on open files. Raises _Lost."""
        if self._child is not None and self._child.jobs >= JOBS_PER_CHILD:
            await self._drop_child(kill=False)
        ending = ""
        for _ in range(ATTEMPTS):
            child = self._child = self._child or await self._start_child()
            try:
                async with asyncio.timeout(job.limit):
                    answer = await child.ask(job.request, files)
            except TimeoutError:
                await self._drop_child(kill=True)
                raise _Lost(
                    f"Reading the file took longer than {job.limit} seconds."
                ) from None
            except (OSError, EOFError, ValueError):
                await self._drop_child(kill=True)
                ending = child.ending
                _LOGGER.debug("The reader %s", ending)
            except asyncio.CancelledError:
                await self._drop_child(kill=True)
                raise
            else:
                return answer
        raise _Lost(f"Reading the file ended the reader, which {ending}.")

    async def _start_child(self) -> _Child:
        """Start a child, unless too many are already stuck. Raises _Lost."""
        self._stuck = [each for each in self._stuck if each.runs]
        if len(self._stuck) >= _MAX_STUCK:
            raise _Lost("The disk does not answer.")
        try:
            return await _Child.start(self._python)
        except OSError as err:
            raise _Lost(f"The reader cannot be started: {err}") from None

    async def _drop_child(self, *, kill: bool) -> None:
        child, self._child = self._child, None
        if child is not None and not await child.end(kill=kill):
            _LOGGER.error("The reader is stuck in a disk that does not answer")
            self._stuck.append(child)


class _Child:
    """A running worker."""

    def __init__(
        self, process: asyncio.subprocess.Process, requests: socket.socket
    ) -> None:
        self._process = process
        self._requests = requests
        self._said: deque[str] = deque(maxlen=_STDERR_LINES)
        self._listener = asyncio.create_task(self._listen(), name="media reader log")
        self.jobs = 0

    @classmethod
    async def start(cls, python: str) -> _Child:
        """Start a worker under an interpreter. Raises OSError."""
        # Each message is a request, with the descriptors of what it is about.
        requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        requests.setblocking(False)
        try:
            process = await asyncio.create_subprocess_exec(
                *(python, "-I", "-X", "utf8", str(_PROGRAM)),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_MAX_ANSWER,
                # Ctrl-C in a terminal is for the engine, which then ends its child.
                start_new_session=True,
            )
        except BaseException:
            requests.close()
            raise
        finally:
            theirs.close()
        return cls(process, requests)

    @property
    def runs(self) -> bool:
        """Whether the process is still there."""
        return self._process.returncode is None

    @property
    def ending(self) -> str:
        """How the process ended, as the end of a sentence."""
        code = self._process.returncode
        if code is None:
            return "did not end"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
        return f"ended with {code}" + (f" ({self._said[-1]})" if self._said else "")

    async def ask(
        self, request: dict[str, Any], files: dict[str, int]
    ) -> dict[str, Any]:
        """Send a request and return its answer. Raises OSError, EOFError or ValueError when the child fails."""
        stdout = self._process.stdout
        assert stdout is not None
        self.jobs += 1
        message = json.dumps({**request, "files": list(files)}).encode()
        # There is one request at a time, so this never has to wait for room.
        socket.send_fds(self._requests, [message], list(files.values()))
        line = await stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        if not isinstance(answer, dict) or answer.get("id") != request["id"]:
            raise ValueError("not an answer to the request")
        return answer

    async def end(self, *, kill: bool) -> bool:
        """End the process, by force or once it sees that nothing more comes; return whether it is gone."""
        self._requests.close()
        for force in (True,) if kill else (False, True):
            if force:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_TIMEOUT):
                    await self._process.wait()
                    await self._listener
                    return True
        self._listener.cancel()
        return False

    async def _listen(self) -> None:
        """Keep the last lines that the libraries print, in case the child ends with them."""
        stderr = self._process.stderr
        assert stderr is not None
        while block := await stderr.read(4096):
            for line in block.decode(errors="replace").splitlines():
                self._said.append(line[:500])
                _LOGGER.debug("%s", line[:500])


def _close(opened: Opened) -> None:
    for each in opened.all:
        close_in_daemon(each)


def _fail(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
