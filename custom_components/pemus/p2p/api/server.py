"""The API's unix socket: who may connect, what becomes of a socket that a dead engine left behind, and a bounded end."""

from __future__ import annotations

from contextlib import suppress
import errno
import logging
import os
from pathlib import Path
import socket
import stat

from aiohttp import web

from ..home import Home
from . import control, friends, media, rooms, transfers
from .events import EventStream
from .requests import COMPONENTS, HOME, MAX_BODY, errors_as_json

MAX_PATH = 107
"""Bytes of a unix socket's path: what the system's structure holds, without the zero at its end."""
PROBE_TIMEOUT = 2
"""Seconds for finding out whether somebody listens on a socket that exists."""
SHUTDOWN_TIMEOUT = 1
"""Seconds for requests under way when the engine stops."""


class SocketError(Exception):
    """The API cannot be offered at this path. The message says why."""


class ApiServer:
    """Serves the API on a unix socket that only this user may use."""

    def __init__(self, home: Home, path: Path) -> None:
        """Prepare the API of a home; nothing listens yet."""
        self._events = EventStream(home.components.news, home.status)
        self._path = path
        self._identity: tuple[int, int] | None = None
        app = web.Application(middlewares=[errors_as_json], client_max_size=MAX_BODY)
        app[HOME], app[COMPONENTS] = home, home.components
        for router in (control, media, transfers, friends, rooms):
            app.add_routes(router.routes)
        app.router.add_get("/v1/events", self._events.handle)
        app.on_shutdown.append(self._close_events)
        # aiohttp only logs that somebody sent garbage. What goes wrong in here is logged by `errors_as_json`.
        http_log = logging.getLogger(f"{__name__}.http")
        http_log.setLevel(logging.CRITICAL)
        self._runner = web.AppRunner(
            app, access_log=None, logger=http_log, shutdown_timeout=SHUTDOWN_TIMEOUT
        )

    async def start(self) -> None:
        """Listen. Raises SocketError."""
        bound = _bind(self._path)
        try:
            facts = self._path.lstat()
            self._identity = (facts.st_dev, facts.st_ino)
            await self._runner.setup()
            await web.SockSite(self._runner, bound).start()
        except BaseException:
            bound.close()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening, end what is under way, and remove the socket. May be called at any time."""
        await self._runner.cleanup()
        # Another engine may have taken the place; its socket is not ours to remove.
        with suppress(OSError):
            facts = self._path.lstat()
            if (facts.st_dev, facts.st_ino) == self._identity:
                self._path.unlink()
        self._identity = None

    async def _close_events(self, _app: web.Application) -> None:
        await self._events.close()


def _bind(path: Path) -> socket.socket:
    length = len(os.fsencode(path))
    if length > MAX_PATH:
        raise SocketError(
            f"the socket's path is {length} bytes long, at most {MAX_PATH} are possible: {path}"
        )
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        bound.bind(os.fspath(path))
        # In time: nobody can connect before it listens.
        path.chmod(0o600)
    except OSError as err:
        bound.close()
        raise SocketError(f"cannot listen at {path}: {err.strerror or err}") from err
    except SocketError:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path) -> None:
    """Remove a socket on which nobody listens any more. Anything else at this path is left alone."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketError(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        try:
            probe.connect(os.fspath(path))
        except OSError as err:
            if err.errno == errno.ECONNREFUSED:
                path.unlink()
                return
            # A full queue, a time-out: somebody listens, if badly.
    raise SocketError(f"another engine listens at {path}")
