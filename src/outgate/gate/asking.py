"""Ask the gate's own handlers what a program would ask, for those that the gate itself speaks for.

So what they get is judged, charged, dialled, metered, logged, cut and ended by the very functions that see to a
program's requests.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from outgate.errors import GateError, ProtocolError
from outgate.gate import wire
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate

__all__ = ["NoChannel", "ask"]


class NoChannel:
    """Stands where the channel of a request is: what waits for its reply is done when the request has been answered."""

    def __init__(self) -> None:
        self._after: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def after_reply(self, function: Callable[..., None], *args: Any) -> None:
        """Have something done when :meth:`settle` is called."""
        self._after.append((function, args))

    def settle(self) -> None:
        """Do it."""
        for function, args in self._after:
            function(*args)


async def ask(gate: Gate, process: Process, request: wire.Request, asked: str = "") -> Reply:
    """Return what the gate answers to a request of a process, a refusal among that.

    :param asked: of a CONNECT to a number that a look-up gave: the name, which the log and ``ps`` show.
    """
    instead = NoChannel()
    try:
        reply: Reply = await gate.handlers[type(request)](gate, instead, process, request)
    except GateError as e:
        reply = refusal(e.code, **e.facts)
    except ProtocolError:  # a name that the C library's own codec refuses
        reply = {"errno": errno.EINVAL}
    if asked and isinstance(request, wire.Connect) and "error" not in reply:
        lease = gate.registry.leases.get(request.sock)
        if lease is not None:
            lease.asked = (sys.intern(asked), request.port)
    instead.settle()
    return reply
