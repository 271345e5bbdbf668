"""The engine's log: one JSON object per line on stderr, which the supervisor hands on to Home Assistant's log.

    {"level": "INFO", "logger": "p2p.library.scan", "message": "...", "exception": "Traceback ..."}

On a terminal the same lines are written for people. Also in here: what becomes of warnings and of exceptions that
nothing caught, so that these are lines like all others.
"""

from __future__ import annotations

import asyncio
import faulthandler
from io import TextIOWrapper
import logging
import sys
import time
from types import TracebackType
from typing import Any, TextIO

import orjson

MAX_LINE = 8192
"""Bytes of one line, its end included. What does not fit is cut in the middle of message and exception."""

LEVELS = ("debug", "info", "warning", "error")

_ELLIPSIS = " [...] "
_LOGGER = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON of at most MAX_LINE bytes."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Line ends and control characters inside the texts are escaped by JSON."""
        line = {
            "level": record.levelname,
            "logger": record.name,
            "message": _clean(_message(record)),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = _clean(self.formatException(record.exc_info))
        encoded = orjson.dumps(line)
        # Escapes make a text longer by an amount that is only known afterwards: shorten until it fits.
        budget = MAX_LINE
        while len(encoded) >= MAX_LINE:
            budget //= 2
            shortened = {key: _shorten(text, budget) for key, text in line.items()}
            encoded = orjson.dumps(shortened)
        return encoded.decode()


class PlainFormatter(logging.Formatter):
    """Formats a record for a terminal."""

    def __init__(self) -> None:
        """Prepare the format."""
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self.converter = time.localtime

    def format(self, record: logging.LogRecord) -> str:
        """Return the text, with control characters in names of files made harmless."""
        text = super().format(record)
        return "".join(
            char if char.isprintable() or char in "\n\t" else "�" for char in text
        )


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send everything that is logged, warned of or not caught to `stream` (stderr).

    `level` is one of LEVELS and is meant for the engine's own loggers; libraries speak from "warning" on.
    """
    stream = stream or sys.stderr
    if isinstance(stream, TextIOWrapper):
        # Whatever the locale is: the supervisor reads UTF-8.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter() if stream.isatty() else JsonFormatter())
    # A log that cannot be written (Home Assistant died) must not lead to more log lines.
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(__package__.partition(".")[0]).setLevel(level.upper())
    sys.excepthook = _uncaught
    # A crash in native code leaves its stack on stderr, as plain lines.
    if stream is sys.stderr:
        faulthandler.enable()


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Log what goes wrong in tasks and callbacks that nobody waits for."""
    loop.set_exception_handler(_uncaught_in_loop)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # The arguments do not fit the text: half of the news is better than none.
        return f"{record.msg} {record.args!r}"


def _clean(text: str) -> str:
    """Make a text encodable: names of files may hold bytes that are no UTF-8, which Python keeps as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shorten(text: str, budget: int) -> str:
    """Keep both ends: a traceback says most in its last lines."""
    if len(text) <= budget:
        return text
    half = max(0, budget - len(_ELLIPSIS)) // 2
    return text[:half] + _ELLIPSIS + text[len(text) - half :]


def _uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    _LOGGER.critical("The engine failed", exc_info=(kind, error, trace))


def _uncaught_in_loop(
    _loop: asyncio.AbstractEventLoop, context: dict[str, Any]
) -> None:
    error = context.get("exception")
    _LOGGER.error(
        "%s", context.get("message", "an error in the event loop"), exc_info=error
    )
