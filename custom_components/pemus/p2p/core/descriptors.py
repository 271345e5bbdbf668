"""How many files this process may have open (getrlimit(2)), and how many of them what is shared may take."""

from __future__ import annotations

from contextlib import suppress
import resource
from typing import Final

RESERVE: Final = 512
"""Descriptors that are kept for connections, databases, and everything else that is not shared."""


def raise_limit() -> None:
    """Allow this process as many open files as the system lets it have. Each file that is shared stays open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems say that there is no limit, and have one.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def for_sharing() -> int:
    """Return how many files can be shared at a time."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - min(RESERVE, limit // 2)
