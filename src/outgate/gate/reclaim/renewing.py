"""Hear from programs that sockets are in use though no byte moves, and tell them of those that were reclaimed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from outgate.gate import wire
from outgate.gate.replies import Reply

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate


async def touch(gate: Gate, channel: Channel, process: Process, request: wire.Touch) -> Reply:
    """Note that these sockets are in use; the answer says why where one is the process's no more."""
    gone = note(gate, process, request)
    if gone:
        return gate.ending.missing(process, gone[0])
    found = (gate.registry.find(process, id) for id in request.socks)
    reasons = (gate.ending.was_cut(lease) for lease in found if lease is not None)
    return next((why for why in reasons if why is not None), {})


def note(gate: Gate, process: Process, request: wire.Touch) -> list[int]:
    """Note that these sockets are in use and return those that are not there; one-way packets end here."""
    now = time.monotonic()
    gone = []
    for id in request.socks:
        item = gate.registry.find(process, id) or gate.udp.find(process, id)
        if item is None:
            gone.append(id)
        else:
            item.renewed = now
            if request.wait:
                gate.waits.note(process, id, request.wait)
    return gone


class Waits:
    """Calls in progress that processes have told of: as long as one lasts, its socket is in use."""

    def __init__(self) -> None:
        self._by_socket: dict[int, dict[Process, int]] = {}

    def note(self, process: Process, id: int, change: int) -> None:
        """Note that a call has begun or ended; several threads of a process may wait for one socket."""
        of_processes = self._by_socket.setdefault(id, {})
        of_processes[process] = of_processes.get(process, 0) + change
        if of_processes[process] <= 0:
            del of_processes[process]
            if not of_processes:
                del self._by_socket[id]

    def has(self, id: int) -> bool:
        """Tell whether a process that lives waits for a socket."""
        return any(process.channels for process in self._by_socket.get(id, ()))

    def forget(self, id: int) -> None:
        """Strike out a socket that has ended."""
        self._by_socket.pop(id, None)

    def all(self) -> Iterator[tuple[int, Process, int]]:
        """Give (id, process, how many calls)."""
        for id, of_processes in self._by_socket.items():
            for process, count in of_processes.items():
                yield id, process, count
