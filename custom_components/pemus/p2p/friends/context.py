"""What every friend uses of this home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.news import News
from ..library import Library
from ..transfers.downloads import Downloads
from .artwork import Pictures
from .connections import Connections
from .pairings import Pairings
from .state import State

if TYPE_CHECKING:
    # It loads libtorrent, which may be missing.
    from ..access.swarm import Swarm


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
    swarm: Callable[[], Swarm | None]
    """Returns the swarm, if it runs."""
    downloads: Callable[[], Downloads | None]
    """Returns the downloads, if they run."""
    news: News
