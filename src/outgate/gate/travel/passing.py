"""Pass leases on: descriptors of sockets, made for one process and redeemed by another of the same app.

:func:`share`, :func:`redeem` and :func:`have` are the whole story; :mod:`outgate.gate.travel.sharing` keeps what they
leave.
"""

from __future__ import annotations

import time
from _socket import AF_UNIX, SOCK_STREAM
from _socket import socket as native
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.core.name.names import canonical
from outgate.core.policy.decide import Ask
from outgate.core.policy.narrow import refusal as refusal_of
from outgate.gate import wire
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.judging import may_have_sockets
from outgate.gate.kernel import patient
from outgate.gate.names.resolver import is_numeric
from outgate.gate.registry import Lease, Process
from outgate.gate.replies import Reply, denied, refusal
from outgate.gate.travel import exclusive

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.server import Gate
    from outgate.gate.travel.sharing import Shared


def _find(gate: Gate, process: Process, id: int) -> Shared | None:
    return gate.registry.find(process, id) or gate.udp.find(process, id)


async def share(gate: Gate, channel: Channel, process: Process, request: wire.Share) -> Reply:
    """Make a descriptor of a socket; of a relayed one when its holder has handed over its end."""
    refused = may_have_sockets(process)
    if refused is not None:
        return refused
    item = _find(gate, process, request.sock)
    if item is None:
        return gate.ending.missing(process, request.sock)
    if isinstance(item, Lease) and item.side is None:
        refused = await gate.aside.look(item)
        return refused or {"descriptor": gate.sharing.lend(item, process)}
    loan = gate.sharing.loans.get(item.id)
    if loan is not None and loan.handed is not None:
        return {"descriptor": gate.sharing.lend(item, process)}
    channel.expect_fd()
    return {"hand": True}


async def hand(gate: Gate, channel: Channel, process: Process, request: wire.Hand) -> Reply:
    """Take over the program's end of a relayed socket, and make the descriptor."""
    handed = channel.take_handed()
    item = _find(gate, process, request.sock)
    if not handed:
        return refusal("unknown-descriptor")
    (fd,) = handed  # one was asked for
    if item is None or (isinstance(item, Lease) and item.side is None) or patient.cookie(fd) != item.cookie:
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


async def redeem(gate: Gate, channel: Channel, process: Process, request: wire.Redeem) -> tuple[Reply, list[int]]:
    """Give a process of the same app the socket of a descriptor."""
    refused = may_have_sockets(process)
    if refused is not None:
        return refused, []
    found = gate.sharing.find(process, request.descriptor)
    if found is None or found[1].app is not process.app:
        return refusal("unknown-descriptor"), []
    item, loan, serial = found
    refused = _narrowed(gate, process, item)
    if refused is not None:
        return refused, []
    if request.exclusive:
        refused = await exclusive.take(gate, process, loan, serial)
        if refused is not None:
            return refused, []
    reply: Reply = {"sock": item.id, "cookie": item.cookie, "family": item.family}
    if isinstance(item, Datagrams):
        reply["kind"] = "udp"
    else:
        refused = await gate.aside.look(item)
        if refused is not None:
            return refused, []
        if item.state == life.DIALLED:
            gate.settle(item)
        reply["kind"] = "tcp" if item.side is None else "relay"
        reply["state"] = item.state if item.state in (life.DIALLED, life.OPEN) else life.BORN
        if item.state in (life.DIALLED, life.OPEN):
            reply["addr"] = _peer(item)
    fd = None if channel.closed else gate.sharing.fd_for(loan, process)
    if fd is None:
        return refusal("unknown-descriptor"), []
    gate.underway.add(channel, loan, process, serial)
    return reply, [fd]


def _narrowed(gate: Gate, process: Process, item: Shared) -> Reply | None:
    """Return the refusal of a socket whose peer the process could not connect to itself, having narrowed itself.

    A UDP socket is narrowed with the process, for all that have it: who of them sends a datagram is not known.
    """
    if not process.narrowed:
        return None
    policy = process.app.settings.policy
    if isinstance(item, Datagrams):
        peer = next((each for each in item.destinations if each.header == item.peer), None)
        if peer is not None:
            host, port = peer.host, peer.target[1]
            decision = gate.udp.decide(process.app, host, peer.target[0], port, peer.name, 0, process.narrowed)
            if decision.denied:
                return denied(gate, process, host, port, peer.target[0], decision, "udp", "relay")
        gate.udp.share(item, process)
        return None
    if item.state not in (life.DIALLED, life.OPEN):
        return None  # judged when it connects
    host, port = item.asked
    name = None if is_numeric(host) else canonical(host)
    bound = () if name is not None else process.app.bindings.names_for(item.address, time.monotonic())
    ask = Ask(process.app.name, "tcp", host, item.address, port, name, bound=bound)
    refused = refusal_of(ask, process.narrowed, policy.number)
    return None if refused is None else denied(gate, process, host, port, item.address, refused)


async def have(gate: Gate, channel: Channel, process: Process, request: wire.Have) -> Reply:
    """Take note that the socket of a descriptor has come, or has not, before it is seen (:mod:`.underway`)."""
    note_taken(gate, process, request)
    return {}


def note_taken(gate: Gate, process: Process, request: wire.Have) -> None:
    """Take note that the socket of a descriptor has come, or has not; one-way packets end here."""
    found = gate.sharing.find(process, request.descriptor, redeems=False)
    if found is not None:
        _, loan, serial = found
        gate.underway.cancel(loan, process, serial)
        if request.came:
            gate.sharing.taken(loan, process, serial)
        else:
            gate.sharing.not_taken(loan, process, serial)


def _peer(lease: Lease) -> list[object]:
    if lease.family == 4:
        return [lease.address, lease.asked[1], 0, 0]
    try:
        peer = lease.sock.getpeername()
    except OSError:  # not connected yet, or reset meanwhile
        peer = (lease.address, lease.asked[1])
    return [*peer, 0, 0][:4]
