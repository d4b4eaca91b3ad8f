"""Pass leases on: descriptors of sockets, made for one process and redeemed by another of the same app.

:func:`share`, :func:`redeem` and :func:`have` are the whole story; :mod:`outgate.gate.sharing` keeps what they leave.
"""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_STREAM
from _socket import socket as native
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.gate import wire
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.judging import may_have_sockets
from outgate.gate.kernel import births
from outgate.gate.registry import Lease, Process
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.server import Gate
    from outgate.gate.sharing import Shared


def _find(gate: Gate, process: Process, id: int) -> Shared | None:
    return gate.registry.find(process, id) or gate.udp.find(process, id)


async def share(gate: Gate, channel: Channel, process: Process, request: wire.Share) -> Reply:
    """Make a descriptor of a socket; of a relayed one when its holder has handed over its end."""
    refused = may_have_sockets(process)
    if refused is not None:
        return refused
    item = _find(gate, process, request.sock)
    if item is None:
        return refusal("unknown-descriptor")
    if isinstance(item, Lease) and item.side is None:
        return {"descriptor": gate.sharing.lend(item, process)}
    loan = gate.sharing.loans.get(item.id)
    if loan is not None and loan.handed is not None:
        return {"descriptor": gate.sharing.lend(item, process)}
    channel.expect_fd()
    return {"hand": True}


async def hand(gate: Gate, channel: Channel, process: Process, request: wire.Hand) -> Reply:
    """Take over the program's end of a relayed socket, and make the descriptor."""
    fd = channel.take_handed()
    item = _find(gate, process, request.sock)
    if fd is None:
        return refusal("unknown-descriptor")
    if item is None or (isinstance(item, Lease) and item.side is None) or _cookie(fd) != item.cookie:
        process.app.closer.put(fd)  # some other file: it may be slow to close
        return refusal("unknown-descriptor")
    end = native(AF_UNIX, SOCK_STREAM, 0, fd)
    text = gate.sharing.lend(item, process)
    loan = gate.sharing.loans[item.id]
    if loan.handed is None:
        loan.handed = end
    else:
        process.app.closer.put(end)  # by another thread at the same time
    return {"descriptor": text}


def _cookie(fd: int) -> int:
    """Return the cookie of a socket, and 0 of any other file."""
    try:
        sock = native(AF_UNIX, SOCK_STREAM, 0, fd)
    except OSError:
        return 0
    try:
        return births.cookie_of(sock)
    except OSError:
        return 0
    finally:
        sock.detach()


async def redeem(gate: Gate, channel: Channel, process: Process, request: wire.Redeem) -> tuple[Reply, list[int]]:
    """Give a process of the same app the socket of a descriptor."""
    refused = may_have_sockets(process)
    if refused is not None:
        return refused, []
    found = gate.sharing.find(process.app, request.descriptor)
    if found is None or found[1].app is not process.app:
        return refusal("unknown-descriptor"), []
    item, loan, _ = found
    if request.exclusive:
        return refusal("exclusive"), []
    reply: Reply = {"sock": item.id, "cookie": item.cookie, "family": item.family}
    if isinstance(item, Datagrams):
        reply["kind"] = "udp"
    else:
        if item.state == life.DIALLED:
            gate.settle(item)
        reply["kind"] = "tcp" if item.side is None else "relay"
        reply["state"] = item.state if item.state in (life.DIALLED, life.OPEN) else life.BORN
        if item.state in (life.DIALLED, life.OPEN):
            reply["addr"] = _peer(item)
    fd = gate.sharing.fd_for(loan, process)
    return (refusal("unknown-descriptor"), []) if fd is None else (reply, [fd])


async def have(gate: Gate, channel: Channel, process: Process, request: wire.Have) -> Reply:
    """Take note that the socket of a descriptor has come; until then it may have been lost on its way."""
    note_taken(gate, process, request)
    return {}


def note_taken(gate: Gate, process: Process, request: wire.Have) -> None:
    """Take note that the socket of a descriptor has come; one-way packets end here."""
    found = gate.sharing.find(process.app, request.descriptor)
    if found is not None:
        _, loan, serial = found
        gate.sharing.taken(loan, process, serial)


def _peer(lease: Lease) -> list[object]:
    try:
        peer = lease.sock.getpeername()
    except OSError:  # not connected yet, or reset meanwhile
        peer = (lease.address, lease.asked[1])
    return [*peer, 0, 0][:4]
