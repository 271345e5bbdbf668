"""The engine's log becomes part of Home Assistant's: each line under the logger and with the level that it came with."""

import asyncio
from collections import deque
import logging
from typing import Final

import orjson

KEPT_LINES: Final = 50
"""How many of the last lines are kept, to be shown when the engine crashes."""
MAX_LINE: Final = 64 * 1024
"""Bytes. The engine's own lines are far shorter; longer ones, from native code, are dropped."""

_LOGGER_NAME: Final = f"{__package__.rpartition('.')[0]}.p2p"
_ENGINE_NAME: Final = "p2p"
_LEVELS: Final = logging.getLevelNamesMapping()


class EngineLog:
    """Hands on what one run of the engine writes to its standard error."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._lines)

    @property
    def last(self) -> str:
        """The last words: empty if nothing was said."""
        return self._lines[-1] if self._lines else ""

    async def follow(self, stream: asyncio.StreamReader) -> None:
        """Hand on every line until the stream ends."""
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                # Longer than the stream's limit; the stream has dropped what it had of it.
                continue
            if not line:
                return
            self.add(line)

    def add(self, line: bytes) -> None:
        """Hand on one line: JSON as `p2p.core.log` makes it, or whatever native code wrote."""
        text = line.decode("utf-8", "replace").rstrip()
        if not text:
            return
        name, level, message = _LOGGER_NAME, logging.WARNING, text
        try:
            said = orjson.loads(text)
        except orjson.JSONDecodeError:
            said = None
        if isinstance(said, dict):
            name = _logger_name(said.get("logger"))
            level = _LEVELS.get(str(said.get("level")), logging.WARNING)
            message = str(said.get("message", text))
            if exception := said.get("exception"):
                message = f"{message}\n{exception}"
        self._lines.append(message)
        logging.getLogger(name).log(level, "%s", message)


def _logger_name(name: object) -> str:
    """Return where a logger of the engine has its place: `p2p.library` is `custom_components.pemus.p2p.library`."""
    if not isinstance(name, str) or not name or name == _ENGINE_NAME:
        return _LOGGER_NAME
    return f"{_LOGGER_NAME}.{name.removeprefix(f'{_ENGINE_NAME}.')}"
