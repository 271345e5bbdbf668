"""Runs what may block forever, as everything that touches a network disk does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import contextlib
from functools import partial
import os
import threading


async def in_daemon[**P, T](
    function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function in a thread of its own, which never keeps the process from ending, and return its result.

    Who waits may be cancelled; the function then goes on by itself, and what becomes of it is ignored.
    """
    return await _call(partial(function, *args, **kwargs), function.__qualname__)


async def open_in_daemon[**P](
    function: Callable[P, int], *args: P.args, **kwargs: P.kwargs
) -> int:
    """Call a function that opens something, as `in_daemon` does, and return its descriptor.

    What is opened when nobody waits for it any more is closed.
    """
    return await _call(
        partial(function, *args, **kwargs), function.__qualname__, close_in_daemon
    )


def close_in_daemon(descriptor: int) -> None:
    """Close a descriptor without waiting for it: on a network disk even that may hang."""
    thread = threading.Thread(
        target=os.close, args=(descriptor,), name="close", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:
        # There cannot be one more thread at present.
        os.close(descriptor)


async def _call[T](
    function: Callable[[], T],
    name: str,
    unwanted: Callable[[T], None] = lambda _: None,
) -> T:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def succeed(result: T) -> None:
        if answer.done():
            unwanted(result)
        else:
            answer.set_result(result)

    def fail(error: BaseException) -> None:
        if not answer.done():
            answer.set_exception(error)

    def work() -> None:
        # A loop that is closed meanwhile wants no answer.
        with contextlib.suppress(RuntimeError):
            try:
                result = function()
            except BaseException as err:  # noqa: BLE001 - it is raised where the result is awaited
                loop.call_soon_threadsafe(fail, err)
            else:
                loop.call_soon_threadsafe(succeed, result)

    threading.Thread(target=work, name=name, daemon=True).start()
    try:
        return await answer
    except asyncio.CancelledError:
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            unwanted(answer.result())
        raise
