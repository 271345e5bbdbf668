"""Runs what may block forever, as everything that touches a network disk does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .daemon import call_in_daemon


async def in_daemon[**P, T](
    function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function in a thread of its own, which never keeps the process from ending, and return its result.

    Who waits may be cancelled; the function then goes on by itself, and what becomes of it is ignored.
    """
    return await call_in_daemon(
        partial(function, *args, **kwargs), function.__qualname__
    )
