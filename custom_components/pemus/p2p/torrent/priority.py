"""How soon a piece of a file is wanted."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """How soon something is wanted."""

    LATER = 1
    """In the order of the file, after what is wanted sooner."""
    SOON = 2
    NOW = 3
    """Somebody waits for it."""
