"""Saves what a room must not lose in a restart: its link, and what its guests got."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
import logging
from pathlib import Path
import time
from typing import Final

from ..core import atomic
from ..models.codec import DecodeError, decode, encode

FILE: Final = "rooms.json"
MAX_FILE: Final = 16 * 1024 * 1024

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Registration:
    """What a signalling server knows of a room."""

    server: str
    slug: str
    password: bool
    expires: int
    renew_at: float
    """When this home has to say again that it wants the room, in seconds since the Unix epoch."""


@dataclass(slots=True, kw_only=True)
class RoomRecord:
    """What is kept of a room."""

    id: str
    registration: Registration | None = None
    uploaded: int = 0
    downloads: int = 0


@dataclass(slots=True, kw_only=True)
class RoomsRecord:
    """The content of the file."""

    home: str = ""
    """The home that registered these rooms."""
    rooms: tuple[RoomRecord, ...] = ()
    closed: tuple[Registration, ...] = ()
    """Rooms that are over, and that their server was not told of yet."""


async def load(folder: Path) -> RoomsRecord:
    """Return what was saved. A damaged file is set aside, and counts as none."""
    return await asyncio.to_thread(_load, folder / FILE)


async def save(folder: Path, record: RoomsRecord) -> None:
    """Save it. Raises OSError."""
    await asyncio.to_thread(atomic.write, folder / FILE, encode(record))


def _load(path: Path) -> RoomsRecord:
    try:
        with path.open("rb") as file:
            return decode(RoomsRecord, file.read(MAX_FILE))
    except FileNotFoundError:
        return RoomsRecord()
    except (OSError, DecodeError) as err:
        _LOGGER.error("The links of rooms are lost: %s", err)
        with suppress(OSError):
            path.rename(path.with_name(f"{path.name}.broken-{int(time.time())}"))
        return RoomsRecord()
