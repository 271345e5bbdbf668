"""The engine's command line. Home Assistant starts `run`; the other commands are for people."""

from __future__ import annotations

import argparse
import asyncio
from base64 import b32encode
from collections.abc import Callable
from contextlib import AsyncExitStack
from hashlib import sha256
import logging
import os
from pathlib import Path
import signal
import socket
import stat
import sys
import tempfile
from typing import TextIO

from . import ask
from .api import SocketError
from .capabilities import loadable
from .core import descriptors, landlock, log
from .core.sqlite import StoreError
from .engine import Engine, FolderInUseError
from .models import EngineConfig, Kind, ShareConfig
from .models.version import VERSION

STOP_TIMEOUT = 4
"""Seconds for a clean stop, after which the system ends the process. Together the engine is gone within 5 s."""

_LOGGER = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit status."""
    options = _parser().parse_args(arguments)
    command = options.command
    try:
        if command == "run":
            return _run(options)
        if command == "check":
            return _check()
        for line in asyncio.run(_question(options)):
            print(line)  # noqa: T201
    except ask.AskError as err:
        print(f"pemus: {err}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _question(options: argparse.Namespace) -> list[str]:
    """Return the answer of a running engine to a command. Raises AskError."""
    socket_path: Path = options.socket
    match options.command:
        case "status":
            return await ask.status(socket_path)
        case "browse":
            return await ask.browse(socket_path, options.node)
        case "search":
            return await ask.search(socket_path, options.text)
        case _:
            return await ask.transfers(socket_path)


def _parser() -> argparse.ArgumentParser:
    data = _home("XDG_DATA_HOME", ".local/share")
    parser = argparse.ArgumentParser(
        prog="pemus",
        description="The PeMuS engine: keeps the library of shared folders and answers questions about it.",
    )
    parser.add_argument("--version", action="version", version=f"pemus {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the engine until it is told to stop")
    run.add_argument(
        "--data",
        type=Path,
        default=data,
        metavar="DIR",
        help="folder of the index, which is kept (%(default)s)",
    )
    run.add_argument(
        "--cache",
        type=Path,
        default=_home("XDG_CACHE_HOME", ".cache"),
        metavar="DIR",
        help="folder of thumbnails, which can be made anew (%(default)s)",
    )
    run.add_argument(
        "--share",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="share this folder, without Home Assistant; may be given several times",
    )
    run.add_argument(
        "--watch-stdin",
        action="store_true",
        help="stop when standard input ends, as when the parent process dies",
    )
    run.add_argument(
        "--await-config",
        action="store_true",
        help="make an identity only once the home is configured: a home with friends needs its former one",
    )
    run.add_argument(
        "--log-level", choices=log.LEVELS, default="info", help="(%(default)s)"
    )
    commands.add_parser(
        "check", help="list the optional libraries, and fail if one is missing"
    )
    status = commands.add_parser("status", help="show the state of a running engine")
    browse = commands.add_parser(
        "browse", help="list what lies in a place of the library"
    )
    browse.add_argument(
        "node", nargs="?", default="", metavar="NODE", help="id of the place (the root)"
    )
    search = commands.add_parser("search", help="search the library")
    search.add_argument("text", metavar="TEXT")
    transfers = commands.add_parser(
        "transfers", help="show how far friends' items have arrived"
    )
    for command in (run, status, browse, search, transfers):
        command.add_argument(
            "--socket",
            type=Path,
            default=data / "engine.sock",
            metavar="PATH",
            help="the engine's unix socket (%(default)s)",
        )
    return parser


def _home(variable: str, otherwise: str) -> Path:
    """Return the folder for PeMuS below one of the XDG base directories."""
    base = os.environ.get(variable, "")
    # The specification has relative paths ignored.
    return (Path(base) if base.startswith("/") else Path.home() / otherwise) / "pemus"


def _run(options: argparse.Namespace) -> int:
    log.configure(options.log_level)
    try:
        descriptors.raise_limit()
        _protect(options.data, options.cache, options.socket.parent)
        engine = Engine(
            data=options.data.absolute(),
            cache=options.cache.absolute(),
            socket=options.socket.absolute(),
            awaits_config=options.await_config,
        )
        config = _config(options.share) if options.share else None
        asyncio.run(_serve(engine, config, watch_stdin=options.watch_stdin))
    except (OSError, SocketError, FolderInUseError, StoreError) as err:
        _LOGGER.error("The engine cannot start: %s", err)
        return 1
    return 0


def _protect(data: Path, cache: Path, run: Path) -> None:
    """Make files private to this user, and writing possible in the engine's own folders only. Raises OSError."""
    os.umask(0o077)
    for folder in (data, cache):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A former release, or a restored backup, may have left it readable for others.
        folder.chmod(0o700)
    # The system's temporary folder cannot be written to any more.
    tempfile.tempdir = os.environ["TMPDIR"] = str(cache.absolute())
    os.environ["SQLITE_TMPDIR"] = tempfile.tempdir
    # Without a folder for the socket, the API reports the fault.
    protection = landlock.restrict((data, cache, *([run] if run.is_dir() else ())))
    if protection.state is not landlock.State.ON:
        _LOGGER.info(
            "The kernel does not fully protect shared folders from being written to: %s",
            protection.reason,
        )


def _config(folders: list[Path]) -> EngineConfig:
    """Return the configuration that shares these folders with all kinds of media."""
    shares = []
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder")
        digest = sha256(os.fsencode(folder)).digest()
        shares.append(
            ShareConfig(
                # The same folder gets the same id each time.
                id=b32encode(digest).decode().lower()[:26],
                path=str(folder),
                name=folder.name or str(folder),
                kinds=tuple(Kind),
            )
        )
    return EngineConfig(home_name=socket.gethostname(), shares=tuple(shares))


async def _serve(
    engine: Engine, config: EngineConfig | None, *, watch_stdin: bool
) -> None:
    """Run the engine until a signal, or the end of standard input."""
    loop = asyncio.get_running_loop()
    log.watch_loop(loop)
    serving = asyncio.current_task()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        # Only once: a second cancellation would interrupt the clean-up.
        if stopping or serving is None:
            return
        stopping = True
        # Python leaves this signal to the system, which ends the process even if it hangs in native code.
        signal.alarm(STOP_TIMEOUT)
        serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        async with AsyncExitStack() as parts:
            if watch_stdin:
                pipe, _ = await loop.connect_read_pipe(
                    lambda: _EndOfInput(stop), _standard_input()
                )
                parts.callback(pipe.close)
            await parts.enter_async_context(engine.running(config))
            await loop.create_future()
    except asyncio.CancelledError:
        if not stopping:
            raise


class _EndOfInput(asyncio.Protocol):
    """Calls a function when the pipe ends. What is written into it is ignored."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def connection_lost(self, _exc: Exception | None) -> None:
        self._ended()


def _standard_input() -> TextIO:
    if sys.stdin is not None:
        mode = os.fstat(sys.stdin.fileno()).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return sys.stdin
    raise OSError("--watch-stdin needs a pipe as standard input")


def _check() -> int:
    found = loadable()
    for module, version in found.items():
        print(f"{module:12} {version or 'missing'}")  # noqa: T201
    missing = [module for module, version in found.items() if version is None]
    print(f"missing: {', '.join(missing)}" if missing else "complete")  # noqa: T201
    return 1 if missing else 0
