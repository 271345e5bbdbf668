"""The log: one line of JSON per event, without addresses and messages of clients.

Arguments in log messages of libraries may contain these, so they are left out. Exceptions are logged with their type and
their location, but without their text.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from datetime import UTC, datetime
import logging
from pathlib import Path
import sys
from traceback import extract_tb
from typing import Any, Final, TextIO

import orjson

from . import __name__ as PACKAGE

FRAMES: Final = 8
"""Innermost frames of a traceback that are logged."""

_LOGGER = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Formats records as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line of JSON."""
        own = record.name == PACKAGE or record.name.startswith(f"{PACKAGE}.")
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix(f"{PACKAGE}."),
            "message": record.getMessage() if own else str(record.msg),
        }
        if record.exc_info is not None and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            line["from"] = [
                f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
                for frame in extract_tb(error.__traceback__)[-FRAMES:]
            ]
        return orjson.dumps(line).decode()


def set_up(level: str, stream: TextIO = sys.stderr) -> None:
    """Start to log from a level: "debug", "info", "warning" or "error"."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(PACKAGE).setLevel(level.upper())


def handle_exception(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an unhandled exception. The default handler of the loop would describe the connection."""
    error = context.get("exception")
    _LOGGER.error(
        "Unhandled exception",
        exc_info=error if isinstance(error, BaseException) else None,
    )
