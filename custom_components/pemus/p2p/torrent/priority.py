"""How urgent a piece of a file is, or the hashes of a file."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """How urgent something is."""

    LATER = 1
    """After everything else, in order."""
    SOON = 2
    """Before LATER. Nobody waits for it yet."""
    NOW = 3
    """Somebody waits for it."""
