"""Run a coroutine at once, and make a task of what is left only if it has to wait.

Most requests are answered without waiting for anything; a task and a turn of the loop for each would cost more than
the answer. (Python 3.12 has eager tasks; this is the same for 3.11.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class _Rest:
    """The remainder of a coroutine that has already run to its first wait."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        # An awaited future marks itself so until a task has taken it, and can be awaited by nobody else meanwhile. We
        # take it in the name of the task that comes later, so that other coroutines may wait for it too.
        self._is_future = asyncio.isfuture(waits_for)
        if self._is_future:
            waits_for._asyncio_future_blocking = False

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        if self._is_future:
            waits_for._asyncio_future_blocking = True
        while True:
            failure: BaseException | None = None
            value = None
            try:
                value = yield waits_for
            except BaseException as error:
                failure = error
            try:
                waits_for = self._coroutine.send(value) if failure is None else self._coroutine.throw(failure)
            except StopIteration as stop:
                return stop.value


async def _finish(rest: _Rest) -> Any:
    return await rest


def run(
    coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Any]]
) -> asyncio.Task[Any] | None:
    """Run the coroutine until it ends or waits. Returns the task of the rest, kept in ``tasks``, or ``None``.

    Until its first wait the coroutine has no current task, so it must not begin with :func:`asyncio.timeout`.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    task = loop.create_task(_finish(_Rest(coroutine, waits_for)))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
