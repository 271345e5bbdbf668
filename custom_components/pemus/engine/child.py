"""The engine's child process: starting it, stopping it, and describing how it ended."""

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
import logging
import os
from pathlib import Path
import signal
from typing import Final

from .log import MAX_LINE
from .provision import ENGINE_MAIN, clean_environ

TERMINATE_TIMEOUT: Final = 5
"""How long to wait for a clean stop before the process is killed, in seconds."""

_LOGGER = logging.getLogger(__name__)


async def start_child(
    python: Path, *, data: Path, cache: Path, socket: Path
) -> Process:
    """Start the engine under an interpreter. Raises OSError."""
    return await asyncio.create_subprocess_exec(
        *(str(python), "-I", str(ENGINE_MAIN)),
        *("run", "--watch-stdin", "--await-config"),
        *("--data", str(data), "--cache", str(cache)),
        *("--socket", str(socket), "--log-level", log_level()),
        # Nothing is written. When it closes, the engine knows that Home Assistant has ended.
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=PIPE,
        env=clean_environ(),
        limit=MAX_LINE,
        # Ctrl-C in a terminal must reach only Home Assistant, which then stops the engine.
        start_new_session=True,
    )


async def stop_child(process: Process) -> None:
    """Terminate a process and its children, and kill them after TERMINATE_TIMEOUT."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(TERMINATE_TIMEOUT):
            await process.wait()
    except TimeoutError:
        _LOGGER.warning("The PeMuS engine did not stop, and was killed")
    finally:
        # Its process group may contain surviving children.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def describe_exit(returncode: int) -> str:
    """Describe how a process ended."""
    if returncode >= 0:
        return f"ended with status {returncode}"
    return f"ended by signal {-returncode} ({signal.strsignal(-returncode)})"


def log_level() -> str:
    """Return the log level for the engine's command line."""
    level = logging.getLogger(
        f"{__package__.rpartition('.')[0]}.p2p"
    ).getEffectiveLevel()
    for name in ("debug", "info", "warning"):
        if level <= logging.getLevelNamesMapping()[name.upper()]:
            return name
    return "error"
