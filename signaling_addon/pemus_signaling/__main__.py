"""The command line: `python -m pemus_signaling`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from typing import Final

import uvloop

from .cluster.workers import Workers, say_ready, worker_number
from .discovery import TOKEN, announce, describe
from .log import handle_exception, set_up
from .server import Server
from .settings import Settings, SettingsError, read_settings

GC_YOUNG: Final = 10_000
GC_MIDDLE: Final = 20
GC_OLD: Final = 50
"""The thresholds of `gc.set_threshold`."""

_LOGGER = logging.getLogger(__package__)


async def run(settings: Settings, worker: int | None = None) -> None:
    """Run the server until SIGTERM or SIGINT. `worker` is its number if it is one of several. Raises OSError if it cannot start."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handle_exception)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = Server(settings, worker)
    loop.add_signal_handler(signal.SIGHUP, _read_certificate, server)
    try:
        await server.start()
        # Objects from the start, and most of those of connections, live long. Checking them for cycles would delay all clients.
        gc.freeze()
        gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_OLD)
        _LOGGER.info("Listening on port %d", server.port)
        say_ready(os.environ)
        with announcing(settings, server.port):
            await stopped.wait()
        _LOGGER.info("Stopping")
    finally:
        await server.stop()


@contextlib.contextmanager
def announcing(settings: Settings, port: int) -> Iterator[None]:
    """Announce this server to the Supervisor in the background, if it runs as an app of Home Assistant."""
    token = os.environ.get(TOKEN)
    if token is None:
        yield
        return
    location = describe(
        port, settings.path, settings.origins, secure=settings.certificate is not None
    )
    task = asyncio.create_task(announce(location, token), name="discovery")
    try:
        yield
    finally:
        task.cancel()


async def run_workers(settings: Settings) -> None:
    """Run workers until SIGTERM or SIGINT. Raises SettingsError. Exits if they cannot start."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    workers = Workers(settings, sys.argv[1:])
    loop.add_signal_handler(signal.SIGHUP, workers.signal, signal.SIGHUP)
    if not await workers.run(stopped):
        sys.exit(1)


def main() -> None:
    """Run the server."""
    worker = worker_number(os.environ)
    try:
        settings = read_settings(sys.argv[1:], os.environ)
    except SettingsError as error:
        sys.exit(f"pemus_signaling: {error}")
    set_up(settings.log_level)
    _open_many_files()
    try:
        if settings.workers > 1 and worker is None:
            uvloop.run(run_workers(settings))
        else:
            uvloop.run(run(settings, worker))
    except SettingsError as error:
        sys.exit(f"pemus_signaling: {error}")
    except OSError as error:
        sys.exit(f"pemus_signaling: {error.strerror or error}")


def _read_certificate(server: Server) -> None:
    try:
        server.front.load_certificate()
    except OSError as error:
        # The server continues with the former one.
        _LOGGER.error("The certificate could not be read: %s", error.strerror)
    else:
        _LOGGER.info("The certificate was reloaded")


def _open_many_files() -> None:
    """Raise the limit of open files, and so of sockets, to what the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
