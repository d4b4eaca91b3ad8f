"""Look an app's names up again, where a connect to an address was denied that one of them may have by now.

A program may come by an address without a look-up of this gate's, or long after it: from a cache of its own, a
service directory, a DNS library. So before such a connect is refused, the names that could permit it are asked once
more, through the app's own threads and what its resolver remembers.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from outgate.core.policy.decide import Transport, could_resolve
from outgate.core.policy.rules import TRANSPORT_BIT

if TYPE_CHECKING:
    from outgate.core.policy.decide import Policy
    from outgate.gate.registry import App
    from outgate.gate.server import Gate

#: Names asked at one time: the app's own latest, and then those that its rules name.
NAMES = 64
RECENT = 32
#: Of the resolver's threads (:data:`outgate.gate.names.resolver.THREADS`), so that the program's own look-ups go on.
AT_ONCE = 2
#: Seconds that a connect waits for this, and in which new look-ups are begun.
LIMIT = 5.0
#: Seconds from the end of one time to the next, whatever address misses: a scan must not become a storm of look-ups,
#: and the resolver remembers its answers for longer than that.
PAUSE = 5.0


class Relearning:
    """When an app's names were looked up again, or that they are just now."""

    __slots__ = ("begun", "not_before", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.begun = 0.0
        self.not_before = 0.0


async def names_by_now(gate: Gate, app: App, address: str, port: int, transport: Transport = "tcp") -> tuple[str, ...]:
    """Return the names that are bound to an address, after another look-up of those that could permit a connect to it.

    One goes on at a time for an app, and the next begins :data:`PAUSE` later at the earliest; until then this returns
    at once.
    """
    state = app.relearning
    now = time.monotonic()
    if state.task is None and now >= state.not_before:
        names = names_to_ask(app, port, transport)
        if names:
            state.begun = now
            state.task = gate.loop.create_task(_look_up(app, names))
            gate.tasks.add(state.task)
            state.task.add_done_callback(gate.tasks.discard)
    left = state.begun + LIMIT - now
    if state.task is not None and left > 0:  # else it has been going on for long: nobody waits for a dead name server
        await asyncio.wait((state.task,), timeout=left)
    return app.bindings.names_for(address, time.monotonic())


def names_to_ask(app: App, port: int, transport: Transport = "tcp") -> list[str]:
    """Return the names of an app that could permit a connect to this port, at most :data:`NAMES`. Pure.

    :param app: its policy names some, its bindings know others, which patterns such as ``*.corp`` may stand for.
    """
    policy = app.settings.policy
    found: dict[str, None] = {}
    for name in (*app.bindings.recent(RECENT), *_exact(policy, port, transport)):
        if name not in found and not could_resolve(policy, name, transport, port).denied:
            found[name] = None
            if len(found) == NAMES:
                break
    return list(found)


def _exact(policy: Policy, port: int, transport: Transport) -> Iterator[str]:
    """Give the names that stand as such in ``except`` and ``allow`` rules for this port."""
    for rule in (*policy.except_, *policy.allow):
        pattern = rule.pattern
        if pattern is None or pattern.is_suffix or not rule.transports & TRANSPORT_BIT[transport]:
            continue
        if any(low <= port <= high for low, high in rule.ports):
            yield pattern.name


async def _look_up(app: App, names: list[str]) -> None:
    """Ask for all these names, a few at a time, and bind what comes; the rest is left after :data:`LIMIT`."""
    state = app.relearning
    waiting = iter(names)

    async def ask_on() -> None:
        for name in waiting:
            if time.monotonic() > state.begun + LIMIT:
                return
            try:
                answer = await app.resolver.call("getaddrinfo", name, name, None, 0, socket.SOCK_STREAM)
            except (OSError, UnicodeError):  # one name fewer
                continue
            app.bindings.bind(name, {str(item[4][0]).partition("%")[0] for item in answer}, time.monotonic())

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(ask_on())
    finally:
        state.task = None
        state.not_before = time.monotonic() + PAUSE
