"""Saves what must survive a restart: pairings, blocked homes, and when friends were last met."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
import logging
from pathlib import Path
import time
from typing import Final

from ..core import atomic
from ..core.throttle import TokenBucket
from ..models.codec import DecodeError, decode, encode
from .pairing import Pairing
from .pairings import Pairings

FILE: Final = "peers.json"
MAX_FILE: Final = 4 * 1024 * 1024
SAVE_DELAY: Final = 2.0
"""Seconds between a change and its being saved, and between two attempts to save."""
LOG_INTERVAL: Final = 3600.0
"""Seconds between two log lines about a disk that cannot be written."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A friend as it was when it was met last."""

    home: str
    name: str
    release: str = ""
    last_seen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """The content of the file."""

    home: str = ""
    """The home that these pairings belong to. They mean nothing to another identity."""
    pairings: tuple[Pairing, ...] = ()
    blocked: tuple[str, ...] = ()
    friends: tuple[Seen, ...] = ()


class State:
    """Loads the state, and saves it after each change."""

    def __init__(self, path: Path, home: str, pairings: Pairings) -> None:
        """Prepare to keep the state of a home, with its pairings, in a file."""
        self.seen: dict[str, Seen] = {}
        """Friends as they were when they were met last."""
        self._path = path
        self._home = home
        self._pairings = pairings
        self._dirty = asyncio.Event()
        self._may_log = TokenBucket.every(LOG_INTERVAL)

    async def load(self) -> None:
        """Restore what was saved."""
        stored = await asyncio.to_thread(load, self._path)
        self.seen = {each.home: each for each in stored.friends}
        is_same = stored.home == self._home
        self._pairings.restore(stored.pairings if is_same else (), stored.blocked)

    def changed(self) -> None:
        """Save the state soon."""
        self._dirty.set()

    async def save_changes(self) -> None:
        """Save the state whenever it has changed."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(SAVE_DELAY)
            await self.save()

    async def save(self) -> None:
        """Save the state if it has changed."""
        if not self._dirty.is_set():
            return
        self._dirty.clear()
        stored = StoredState(
            home=self._home,
            pairings=self._pairings.pairings,
            blocked=self._pairings.blocked,
            friends=tuple(self.seen.values()),
        )
        try:
            await asyncio.to_thread(atomic.write, self._path, encode(stored))
        except OSError as err:
            if self._may_log.take():
                _LOGGER.error("Cannot save what is known of other homes: %s", err)
            self._dirty.set()


def load(path: Path) -> StoredState:
    """Return what a file holds. A damaged file is set aside, and counts as none."""
    try:
        with path.open("rb") as file:
            return decode(StoredState, file.read(MAX_FILE))
    except FileNotFoundError:
        return StoredState()
    except (OSError, DecodeError) as err:
        _LOGGER.error("What was known of other homes is lost: %s", err)
        with suppress(OSError):
            path.rename(path.with_name(f"{path.name}.broken-{int(time.time())}"))
        return StoredState()
