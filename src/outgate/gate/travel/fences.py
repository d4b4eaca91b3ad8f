"""Remember which sockets were taken from which processes, by one that has them for itself alone since."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outgate.gate.registry import Process

#: How many are remembered; beyond that the oldest are told that they know no such socket, and not why.
REMEMBERED = 10_000


class Fences:
    """What processes have lost to others."""

    def __init__(self) -> None:
        #: (uid, token, id), the latest last.
        self._lost: dict[tuple[int, str, int], None] = {}

    def note(self, process: Process, id: int) -> None:
        """Note that a socket has been taken from a process."""
        process.adopted.discard(id)
        self._lost[process.uid, process.token, id] = None
        while len(self._lost) > REMEMBERED:
            del self._lost[next(iter(self._lost))]

    def lift(self, process: Process, id: int) -> None:
        """Note that a process has come by a socket again."""
        self._lost.pop((process.uid, process.token, id), None)

    def keep_out(self, process: Process, id: int) -> bool:
        """Tell whether a socket was taken from this process, or from those that it was forked from."""
        if not self._lost or id in process.adopted or id in process.leases:
            return False
        return any((process.uid, token, id) in self._lost for token in (process.token, *process.parents))
