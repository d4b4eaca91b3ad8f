"""Notice sockets that nobody holds any more, though nobody said so.

A program may close an fd where the client does not see it: in C, by a file object on the number, by ``closerange`` of
somebody else's. Without us the far end would know at once; with our duplicate open it would never. And a reply with
born sockets may be lost with its channel.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.gate.kernel import holders
from outgate.gate.onloop import call_on
from outgate.gate.registry import Lease

if TYPE_CHECKING:
    from outgate.gate.server import Gate

#: Seconds between sweeps. A socket ends when two in a row have found nobody: in between it may have been under way.
INTERVAL = 5.0
#: Leases looked at, and ended, in one turn of the loop: at some 1 and 12 µs each.
SLICE = 500
ENDED = 100


class Sweep:
    """Goes through the leases now and then."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._suspects: set[int] = set()
        self._timer: asyncio.Handle = gate.loop.call_later(INTERVAL, self.begin)

    def begin(self) -> None:
        """Look for the holders of every socket that should have one, on the looker's thread."""
        self._gather(iter(tuple(self._gate.registry.leases.values())), [])

    def _gather(self, leases: Iterator[Lease], due: list[Lease]) -> None:
        slice_ = tuple(islice(leases, SLICE))
        # What has sent since the last round of the meters but one has a holder, or had: to find whom costs more than to
        # read its meter. So one that is closed right after it has sent ends up to three seconds later.
        since = self._gate.meters.since
        due += [lease for lease in slice_ if lease.sent_at < since and self._is_due(lease)]
        loop = self._gate.loop
        if len(slice_) == SLICE:
            self._timer = loop.call_soon(self._gather, leases, due)
            return
        began = time.monotonic()

        def find() -> None:
            owners = {lease.inode: lease.process.uid for lease in due}
            unheld = find_unheld({lease.inode: lease.process.pid for lease in due}, owners)
            suspects = {lease.id for lease in due if lease.inode in unheld}
            call_on(loop, self._found, due, suspects, began)

        if due:
            self._gate.looker.put(find)
        else:
            self._found([], set(), began)

    def _is_due(self, lease: Lease) -> bool:
        if lease.side is not None or lease.state == life.DIALLED or self._gate.ending.is_let_go(lease):
            return False
        if self._gate.sharing.is_parked(lease):
            return False
        return lease.born_on is None or not lease.born_on.has_unread()

    def _found(self, leases: list[Lease], suspects: set[int], began: float) -> None:
        again = [lease for lease in leases if lease.id in suspects and lease.id in self._suspects]
        self._suspects = suspects
        self._end(iter(again), began)

    def _end(self, leases: Iterator[Lease], began: float) -> None:
        slice_ = tuple(islice(leases, ENDED))
        sharing = self._gate.sharing
        for lease in slice_:
            if lease.state == life.ENDED or not self._is_due(lease) or sharing.is_unclear(lease, began):
                continue
            if not sharing.keeps(lease):
                self._gate.ending.end(lease, "closed")
        loop = self._gate.loop
        if len(slice_) == ENDED:
            self._timer = loop.call_soon(self._end, leases, began)
            return
        self._timer = loop.call_later(INTERVAL, self.begin)

    def stop(self) -> None:
        """Sweep no more."""
        self._timer.cancel()


def find_unheld(opener: dict[int, int], owners: dict[int, int] | None = None) -> set[int]:
    """Return the inodes that no process holds.

    :param opener: inode → pid of the process that opened it. Where that one lives and its files may not be read nothing
        is known, and its sockets count as held.
    :param owners: as of :func:`.holders.find`.
    """
    readable = {pid for pid in set(opener.values()) if holders.can_read(pid) or not os.path.exists(f"/proc/{pid}")}
    known = {inode for inode, pid in opener.items() if pid in readable}
    near = holders.find(known, pids=readable, owners=owners)
    missing = {inode for inode, pids in near.items() if not pids}
    return {inode for inode, pids in holders.find(missing, owners=owners).items() if not pids}
