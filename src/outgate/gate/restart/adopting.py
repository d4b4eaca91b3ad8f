"""Make leases of orphans again: look whether an fd is the socket that was written down, and hold it as before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.core import tenure
from outgate.gate.kernel import meter, patient
from outgate.gate.registry import Lease, Process

if TYPE_CHECKING:
    from outgate.gate.restart.orphans import Orphan
    from outgate.gate.server import Gate


def is_verified(fd: int, orphan: Orphan) -> bool:
    """Tell whether an fd is the socket of an orphan.

    Nothing is asked that a file of somebody else's making, or who holds the socket, could answer slowly.
    """
    return patient.cookie(fd) == orphan.cookie and patient.is_tcp(fd, orphan.family)


def adopt(gate: Gate, orphan: Orphan, fd: int, process: Process) -> Lease:
    """Make a lease of an orphan: we have a duplicate again.

    :param fd: of which :func:`is_verified` is true, or which was stored under its cookie; the lease's from now on.
    """
    state = meter.ESTABLISHED if orphan.connect_ms is not None else meter.SYN_SENT
    sock = gate.aside.take(fd, orphan.family, process.app, state, (orphan.noted_sent, orphan.noted_received))
    lease = Lease(orphan.id, process, sock, orphan.cookie, orphan.family)
    lease.number, lease.begun, lease.connect_ms = orphan.number, orphan.begun, orphan.connect_ms
    lease.asked, lease.address, lease.decision = orphan.asked, orphan.address, orphan.decision
    lease.noted_sent, lease.noted_received = orphan.noted_sent, orphan.noted_received
    gate.registry.enter(lease)
    gate.orphans.remove(orphan)
    if (process.uid, process.token) not in gate.registry.processes:
        gate.registry.join(process)
    if lease.decision is not None:
        lease.bind(lease.decision.name)
    lease.state = life.DIALLED if meter.state(sock) in meter.PENDING else life.OPEN
    if lease.state == life.DIALLED:
        gate.settle_later(lease)
    else:
        gate.aside.first(lease, gate.settle_unless_ended, lease)  # reset meanwhile, perhaps
    lent = orphan.lent
    if lent is not None and lease.state != life.FAILED and lent.tenure in (tenure.HELD, tenure.LENT, tenure.PARKED):
        made, owed, generation = lent.made, lent.owed, lent.generation
        gate.sharing.restore(lease, lent.tenure, made, owed, time.monotonic(), (), None, generation)
    return lease
