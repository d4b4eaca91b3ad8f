"""Take a socket that travels for one process alone, where that can be done in truth.

Of a relayed socket the gate has the connection: it gives the one process a new pair, joined to what the old one was,
and ends the old one for all others. A direct socket is one open file of the kernel that nobody can take from whoever
has it, so there the gate looks whether anybody does (:mod:`outgate.gate.kernel.holders`); if not, nobody can come by it
any more but by a descriptor, and those are void from then on.
"""

from __future__ import annotations

import os
import time
from _socket import socket as native
from functools import partial
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.kernel import births, holders
from outgate.gate.onloop import call_on
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from outgate.gate.registry import Lease, Process
    from outgate.gate.server import Gate
    from outgate.gate.travel.sharing import Loan

_RELAYED = 'have the gate carry its bytes: path = "relay" under [apps.{app}]; or close it where it is not needed'
_LATER = "adopt it again when that has ended"


async def take(gate: Gate, process: Process, loan: Loan, serial: int) -> Reply | None:
    """Have a process be the only one with a socket, or return why it cannot be.

    :param serial: of the descriptor that it redeems.
    """
    item = loan.item
    theirs = None
    try:
        if isinstance(item, Datagrams):
            if loan.handed is None:
                return refusal("unknown-descriptor")
            theirs = gate.udp.change_hands(item, loan.handed)
        elif item.side is not None:
            if item.state == life.DIALLED:
                gate.settle(item)
            if item.state == life.DIALLED:
                return refusal("exclusive", why="it is being connected", cure=_LATER)
            if loan.handed is None or item.side.relayed.is_over:
                return refusal("unknown-descriptor")
            theirs = gate.relaying.change_hands(item, item.side, loan.handed)
        else:
            refused = await _look_for_others(gate, process, item, loan)
            if refused is not None:
                return refused
    except OSError as e:
        return refusal("gate-sockets", errno=e.errno)
    _fence(gate, process, loan, serial, theirs)
    if isinstance(item, Datagrams):
        item.process = process
    else:
        held = item.sock if theirs is None else theirs
        gate.registry.change_hands(item, process, births.cookie_of(held), births.inode_of(held))
        gate.ending.taken_back(process)
    return None


def _fence(gate: Gate, process: Process, loan: Loan, serial: int, theirs: native | None) -> None:
    """Have a process be the only one that has a socket, and by no descriptor but those that it will make.

    :param theirs: the program's end of a relayed one, which is a new one.
    """
    item = loan.item
    for other in {item.process, *loan.holders, *loan.taking} - {process}:
        gate.sharing.fences.note(other, item.id)
    loan.generation += 1
    loan.made = loan.owed = 0
    loan.taking = loan.holders = ()
    loan.claim, loan.is_claimed = (process, serial), True
    if theirs is not None:
        assert loan.handed is not None, "else nobody could have taken it over"
        loan.app.closer.put(loan.handed)
        loan.handed = theirs
    gate.keeping.lent(loan)


async def _look_for_others(gate: Gate, process: Process, lease: Lease, loan: Loan) -> Reply | None:
    """Return the refusal of a direct socket that somebody else has, or may have."""
    cure = _RELAYED.format(app=process.app.name)
    began = time.monotonic()
    found: Future[set[int]] = gate.loop.create_future()
    gate.looker.put(partial(_look, gate.loop, lease.inode, lease.process.uid, found), hurry=True)
    others = await found - {process.pid}
    if gate.sharing.loans.get(lease.id) is not loan:
        return refusal("unknown-descriptor")  # ended meanwhile
    if others:
        one = min(others)
        return refusal("exclusive", why=f"process {one} has it too, and holds the kernel's own socket", cure=cure)
    if loan.taken >= began or any(other is not process for other in loan.taking):
        return refusal("exclusive", why="it is on its way to another process", cure=_LATER)
    unseen = [other for other in {lease.process, *loan.holders} - {process} if _is_hidden(other)]
    if unseen or not (gate.is_root or process.uid == os.geteuid()):
        return refusal("exclusive", why="the gate may not see what other processes have open", cure=cure)
    return None


def _is_hidden(process: Process) -> bool:
    return bool(process.channels) and not holders.can_read(process.pid)


def _look(loop: AbstractEventLoop, inode: int, uid: int, found: Future[set[int]]) -> None:
    call_on(loop, _tell, found, holders.find((inode,), owners={inode: uid})[inode])


def _tell(found: Future[set[int]], pids: set[int]) -> None:
    if not found.done():
        found.set_result(pids)
