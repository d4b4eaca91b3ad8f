"""Make leases of orphans again: look whether an fd is the socket that was written down, and hold it as before."""

from __future__ import annotations

import time
from _socket import AF_INET, AF_INET6, SO_TYPE, SOCK_STREAM, SOL_SOCKET
from _socket import socket as native
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.core import tenure
from outgate.gate.kernel import births, meter
from outgate.gate.registry import Lease, Process

if TYPE_CHECKING:
    from outgate.gate.restart.orphans import Orphan
    from outgate.gate.server import Gate

_SO_DOMAIN = 39
FAMILIES = {4: AF_INET, 6: AF_INET6}


def verified(fd: int, orphan: Orphan) -> native | None:
    """Return an fd as the socket of an orphan, or ``None`` if it is anything else; it is the caller's still then.

    Nothing is asked that a file of somebody else's making could answer slowly: sockets answer in the kernel.
    """
    family = FAMILIES[orphan.family]
    try:
        sock = native(family, SOCK_STREAM, 0, fd)
    except OSError:
        return None
    try:
        is_it = (
            births.cookie_of(sock) == orphan.cookie
            and sock.getsockopt(SOL_SOCKET, _SO_DOMAIN) == family
            and sock.getsockopt(SOL_SOCKET, SO_TYPE) == SOCK_STREAM
        )
    except OSError:
        is_it = False
    if is_it:
        return sock
    sock.detach()
    return None


def adopt(gate: Gate, orphan: Orphan, sock: native, process: Process) -> Lease:
    """Make a lease of an orphan: we have a duplicate again.

    :param sock: which :func:`verified` has seen, or which was stored under its cookie.
    """
    lease = Lease(orphan.id, process, sock, orphan.cookie, orphan.family)
    lease.number, lease.begun, lease.connect_ms = orphan.number, orphan.begun, orphan.connect_ms
    lease.asked, lease.address, lease.decision = orphan.asked, orphan.address, orphan.decision
    lease.via, lease.before = orphan.via, orphan.before
    lease.noted_sent, lease.noted_received = orphan.noted_sent, orphan.noted_received
    gate.registry.enter(lease)
    gate.rejudging.doubt(lease.process.app)  # another gate decided on it
    gate.orphans.remove(orphan)
    if (process.uid, process.token) not in gate.registry.processes:
        gate.registry.join(process)
    if lease.decision is not None:
        lease.bind(lease.decision.name)
    lease.state = life.DIALLED if meter.state(sock) in meter.PENDING else life.OPEN
    if lease.state == life.DIALLED:
        gate.settle_later(lease)
    else:
        gate.settle(lease)  # reset meanwhile, perhaps
    lent = orphan.lent
    if lent is not None and lease.state != life.FAILED and lent.tenure in (tenure.HELD, tenure.LENT, tenure.PARKED):
        made, owed, generation = lent.made, lent.owed, lent.generation
        gate.sharing.restore(lease, lent.tenure, made, owed, time.monotonic(), (), None, generation)
    return lease
