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
from .discovery import TOKEN, announce, whereabouts
from .log import handle_exception, set_up
from .server import Server
from .settings import Settings, SettingsError, read_settings

GC_YOUNG: Final = 10_000
GC_MIDDLE: Final = 20
GC_OLD: Final = 50
"""Objects that are made between two collections of the youngest, and so on; see `gc.set_threshold`."""

_LOGGER = logging.getLogger(__package__)


async def run(settings: Settings, worker: int | None = None) -> None:
    """Serve until somebody says to stop, maybe as one of several workers. Raises OSError if that cannot begin."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handle_exception)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = Server(settings, worker)
    loop.add_signal_handler(signal.SIGHUP, _read_certificate, server)
    try:
        await server.start()
        # What was made until now stays, and so does most of what a connection makes. Looking for cycles in it takes time
        # that everybody waits for.
        gc.freeze()
        gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_OLD)
        _LOGGER.info("Listening on port %d", server.port)
        say_ready(os.environ)
        with telling_home_assistant(settings, server.port):
            await stopped.wait()
        _LOGGER.info("Stopping")
    finally:
        await server.stop()


@contextlib.contextmanager
def telling_home_assistant(settings: Settings, port: int) -> Iterator[None]:
    """Meanwhile tell the Supervisor where this server is, if this is an app of Home Assistant's."""
    token = os.environ.get(TOKEN)
    if token is None:
        yield
        return
    found = whereabouts(
        port, settings.path, settings.origins, secure=settings.certificate is not None
    )
    telling = asyncio.create_task(announce(found, token), name="discovery")
    try:
        yield
    finally:
        telling.cancel()


async def run_workers(settings: Settings) -> None:
    """Have workers serve until somebody says to stop. Raises SettingsError. Exits if they cannot serve."""
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
        # The former one goes on.
        _LOGGER.error("The certificate could not be read: %s", error.strerror)
    else:
        _LOGGER.info("The certificate was read again")


def _open_many_files() -> None:
    """Let there be as many sockets as the system allows; usually it has to be asked."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
