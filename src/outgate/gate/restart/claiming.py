"""Take back what programs hold of a gate that died: they say which sockets they have, and hand over those we miss.

:func:`offer` and :func:`give` are the whole story; a program asks with the first as soon as it has joined again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outgate.gate import wire
from outgate.gate.kernel import patient
from outgate.gate.registry import Lease, Process
from outgate.gate.replies import Reply
from outgate.gate.restart.adopting import adopt, is_verified
from outgate.gate.restart.orphans import Orphan

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.server import Gate


async def offer(gate: Gate, channel: Channel, process: Process, request: wire.Offer) -> Reply:
    """Say which of a program's sockets the gate has no duplicate of, and take as many fds with its next packet.

    Only cookies that the gate before this one wrote down for that app and user are wanted; the others it says nothing
    of, whosever they are. Of a socket that another process had opened nobody wrote down who else has it.
    """
    for cookie in request.cookies:
        lease = gate.registry.by_cookie.get(cookie)
        if lease is not None and lease.process is not process and _may_have(process, lease):
            gate.sharing.adopted(lease, process)
    wanted = [cookie for cookie in dict.fromkeys(request.cookies) if _orphan(gate, process, cookie) is not None]
    if wanted:
        channel.expect_fd(len(wanted))
    return {"wanted": wanted}


async def give(gate: Gate, channel: Channel, process: Process, request: wire.Give) -> Reply:
    """Make leases of the sockets that have come, and close what is none that was wanted."""
    taken = []
    for fd in channel.take_handed():
        cookie = patient.cookie(fd)
        orphan = _orphan(gate, process, cookie) if cookie else None
        if orphan is None or not is_verified(fd, orphan):
            process.app.closer.put(fd)  # some other file: it may be slow to close
            continue
        adopt(gate, orphan, fd, process)
        taken.append(cookie)
    return {"taken": taken}


def _orphan(gate: Gate, process: Process, cookie: int) -> Orphan | None:
    orphan = gate.orphans.known.get(cookie)
    return orphan if orphan is not None and _may_have(process, orphan) else None


def _may_have(process: Process, lease: Lease) -> bool:
    """Tell whether a lease is of the app and user of a process, which may then say that it has it."""
    return lease.process.app is process.app and lease.process.uid == process.uid
