"""What is remembered of other homes from one start of the engine to the next: pairings, blocked homes, when friends were seen."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
import logging
from pathlib import Path
import time
from typing import Final

from ..core import atomic
from ..models.codec import DecodeError, decode, encode
from ..models.homes import PairingState

FILE: Final = "peers.json"
MAX_FILE: Final = 4 * 1024 * 1024

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """A pairing with all that it takes to go on with it. Bytes are hexadecimal."""

    home: str
    incoming: bool
    request: str
    """Random name of this attempt, of the making of the home that asks."""
    name: str = ""
    origin: str = ""
    lan: bool = False
    state: PairingState = PairingState.WAITING
    asked: bool = False
    """Whether this home's user asked, whichever home's request counts."""
    refused: bool = False
    """Whether the other home's request was refused here, and is to be refused again."""
    trusted: bool = False
    confirmed: bool = False
    confirmed_there: bool = False
    settled: bool = False
    """Whether the other home knows that both said yes."""
    key: str = ""
    """Public key of the other home, once it was heard of."""
    nonce: str = ""
    """This home's number."""
    commitment: str = ""
    """Of the other home, if it asks."""
    their_nonce: str = ""
    words: tuple[str, ...] = ()
    created: float
    expires: float
    ended: float = 0.0
    """When it came to its end: paired, denied or expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A friend as it was when it was met last."""

    home: str
    name: str
    release: str = ""
    last_seen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """All of it."""

    home: str = ""
    """Whose pairings these are: another identity has nothing to do with them."""
    pairings: tuple[Pairing, ...] = ()
    blocked: tuple[str, ...] = ()
    friends: tuple[Seen, ...] = field(default=())


def recall(path: Path) -> StoredState:
    """Return what was kept in a file; nothing if there is none, or if it is damaged: then it is set aside."""
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


def keep(path: Path, memory: StoredState) -> None:
    """Keep it in a file that only its owner may read. Raises OSError."""
    atomic.write(path, encode(memory))
