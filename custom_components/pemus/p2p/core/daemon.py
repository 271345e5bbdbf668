"""Opens and closes files in threads that never keep the process from ending: on a network disk both may hang."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import contextlib
import os
import threading


async def open_in_daemon[T](function: Callable[[], T], close: Callable[[T], None]) -> T:
    """Call a function that opens something in a thread of its own, and return what it returns. Raises what it raises.

    Who waits may be cancelled; what is opened when nobody waits any more is closed by `close`.
    """
    return await call_in_daemon(function, "open", close)


def close_in_daemon(descriptor: int) -> None:
    """Close a descriptor without waiting for it."""
    thread = threading.Thread(
        target=os.close, args=(descriptor,), name="close", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:
        # There cannot be one more thread at present.
        os.close(descriptor)


async def call_in_daemon[T](
    function: Callable[[], T],
    name: str,
    unwanted: Callable[[T], None] = lambda _: None,
) -> T:
    """Call a function in a thread of that name; a result that nobody waits for any more is given to `unwanted`."""
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
