"""What every friend uses of this home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..access.transfers import Transfers
from ..core.news import News
from ..library import Library
from .artwork import Pictures
from .connections import Connections
from .pairings import Pairings
from .state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every friend uses of this home."""

    library: Library
    connections: Connections
    pairings: Pairings
    pictures: Pictures
    state: State
    cache: Path
    """Folder with the friends' lists."""
    transfers: Callable[[], Transfers | None]
    """Returns the transfers, if they run."""
    news: News
