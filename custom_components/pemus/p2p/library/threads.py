"""Runs what may block forever, as everything that touches a network disk does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import contextlib
import threading


async def in_daemon[**P, T](
    function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function in a thread of its own, which never keeps the process from ending, and return its result.

    Who waits may be cancelled; the function then goes on by itself, and what becomes of it is ignored.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def succeed(result: T) -> None:
        if not answer.done():
            answer.set_result(result)

    def fail(error: BaseException) -> None:
        if not answer.done():
            answer.set_exception(error)

    def work() -> None:
        # A loop that is closed meanwhile wants no answer.
        with contextlib.suppress(RuntimeError):
            try:
                result = function(*args, **kwargs)
            except BaseException as err:  # noqa: BLE001 - it is raised where the result is awaited
                loop.call_soon_threadsafe(fail, err)
            else:
                loop.call_soon_threadsafe(succeed, result)

    threading.Thread(target=work, name=function.__qualname__, daemon=True).start()
    return await answer
