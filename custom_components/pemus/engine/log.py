"""Forwards the engine's log to Home Assistant's, with the original loggers and levels."""

import asyncio
from collections import deque
import logging
from typing import Final

import orjson

KEPT_LINES: Final = 50
"""Number of recent lines to show when the engine crashes."""
MAX_LINE: Final = 64 * 1024
"""Maximum length of a line, in bytes. Longer lines, which only native code writes, are dropped."""

_LOGGER_NAME: Final = f"{__package__.rpartition('.')[0]}.p2p"
_ENGINE_NAME: Final = "p2p"
_LEVELS: Final = logging.getLevelNamesMapping()


class EngineLog:
    """Forwards what one run of the engine writes to its standard error."""

    def __init__(self) -> None:
        """Start without lines."""
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def lines(self) -> tuple[str, ...]:
        """The most recent lines, oldest first."""
        return tuple(self._lines)

    @property
    def last(self) -> str:
        """The last line, or "" if there is none."""
        return self._lines[-1] if self._lines else ""

    async def follow(self, stream: asyncio.StreamReader) -> None:
        """Forward every line until the stream ends."""
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                # The line exceeds the stream's limit, and the stream has dropped it.
                continue
            if not line:
                return
            self.add(line)

    def add(self, line: bytes) -> None:
        """Forward a line: JSON from `p2p.core.log`, or plain text from native code."""
        text = line.decode("utf-8", "replace").rstrip()
        if not text:
            return
        name, level, message = _LOGGER_NAME, logging.WARNING, text
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError:
            record = None
        if isinstance(record, dict):
            name = _logger_name(record.get("logger"))
            level = _LEVELS.get(str(record.get("level")), logging.WARNING)
            message = str(record.get("message", text))
            if exception := record.get("exception"):
                message = f"{message}\n{exception}"
        self._lines.append(message)
        logging.getLogger(name).log(level, "%s", message)


def _logger_name(name: object) -> str:
    """Return the full name of an engine logger, such as `custom_components.pemus.p2p.library` for `p2p.library`."""
    if not isinstance(name, str) or not name or name == _ENGINE_NAME:
        return _LOGGER_NAME
    return f"{_LOGGER_NAME}.{name.removeprefix(f'{_ENGINE_NAME}.')}"
