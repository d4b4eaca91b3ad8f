"""Know which sockets may be passed on: descriptors that are out, who has come by a socket, and what nobody has.

What processes ask for is :mod:`outgate.gate.travel.passing`. Of a direct socket the gate has a duplicate anyway,
and gives out further ones. Of a relayed one it has only the other end, so the process that shares it hands its own end
over; the gate keeps that as long as a descriptor is out or a process is known to have it, and lets go of it then, so
that the close of the last holder is again what ends it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from _socket import socket as native
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Union

from outgate.core import descriptor as descriptors
from outgate.core import lease as life
from outgate.core import tenure
from outgate.core.descriptor import Descriptor
from outgate.core.transitions import follow
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.kernel import births, holders, meter
from outgate.gate.onloop import call_on
from outgate.gate.registry import App, Lease, Process
from outgate.gate.relay.relaying import reading
from outgate.gate.travel.fences import Fences

if TYPE_CHECKING:
    from outgate.gate.server import Gate

    Shared = Union[Lease, Datagrams]

#: Seconds between looks at what is parked: an idle limit is kept to within this.
INTERVAL = 5.0


#: Loans looked at in one turn of the loop, at some 1 µs each.
SLICE = 500
#: How many descriptors of one lease are told apart.
_SERIALS = 256


class Loan:
    """What the gate keeps of a socket of which a descriptor has been made.

    :ivar made: how many descriptors there have been.
    :ivar owed: a bit for each that nobody has taken the socket for, by their serials.
    :ivar taking: the processes that it is on its way to, once for each time.
    :ivar holders: processes that are known to have it: who has shared it, or come by it. A fork is not.
    :ivar since: when something was last done with it (monotonic seconds).
    :ivar taken: when it last came to a process (monotonic seconds).
    :ivar handed: the program's end of a relayed socket.
    :ivar generation: how often a process has taken it for itself alone; descriptors of an earlier one are void.
    :ivar claim: the process that did so last, and the serial of the descriptor by which it did.
    :ivar is_claimed: whether that process may ask for it again: it may have been lost on its way.
    """

    __slots__ = (
        *("claim", "generation", "handed", "holders", "is_claimed", "item", "made", "owed", "since", "taken", "taking"),
        "tenure",
    )

    def __init__(self, item: Shared) -> None:
        self.item = item
        self.tenure = tenure.HELD
        self.made = self.owed = 0
        self.since = self.taken = 0.0
        self.taking: tuple[Process, ...] = ()
        self.holders: tuple[Process, ...] = ()  # mostly one or two: a set is 200 bytes
        self.handed: native | None = None
        self.generation = 0
        self.claim: tuple[Process, int] | None = None
        self.is_claimed = False

    def see(self, event: str) -> None:
        """Go to the state that follows."""
        self.tenure = follow(tenure.TRANSITIONS, self.tenure, event)
        self.since = time.monotonic()

    @property
    def is_out(self) -> bool:
        """Whether somebody may still come by it."""
        return bool(self.owed or self.taking or self.is_claimed)

    @property
    def app(self) -> App:
        """Whose it is."""
        return self.item.process.app

    @property
    def active(self) -> float:
        """When something was last done with it, as far as is known without a look at the kernel."""
        item = self.item
        if isinstance(item, Datagrams) or item.side is None:
            return self.since
        return max(self.since, item.side.relayed.active)

    @property
    def is_idle(self) -> bool:
        """Whether nothing has been done with it for as long as its app may leave a socket to nobody."""
        return time.monotonic() - self.active >= self.app.settings.idle_timeout


class Sharing:
    """The descriptors of a gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        #: What its descriptors are sealed with.
        self.key = secrets.token_bytes(descriptors.KEY_SIZE)
        self.loans: dict[int, Loan] = {}
        #: What this gate is called in its fleet, "" where it is alone.
        self.fleet_name = ""
        #: Who has lost which socket to a process that took it for itself alone.
        self.fences = Fences()
        self._timer: asyncio.Handle = gate.loop.call_later(INTERVAL, self.begin)

    def lend(self, item: Shared, process: Process) -> str:
        """Return a new descriptor of a socket that a process has."""
        loan = self.loans.get(item.id)
        if loan is None:
            loan = self.loans[item.id] = Loan(item)
        serial = loan.made % _SERIALS
        loan.made += 1
        loan.owed |= 1 << serial
        loan.see(tenure.SHARE)
        self._note_holder(loan, process)
        self._gate.keeping.lent(loan)
        sent, received = _counts(item)
        serial += loan.generation * _SERIALS
        gate = f"{self.fleet_name}-{self._gate.boot}" if self.fleet_name else self._gate.boot
        name = Descriptor(gate, item.id - self._gate.registry.first, serial, sent, received)
        return descriptors.seal(self.key, item.process.app.name, name)

    def find(self, process: Process, text: str, redeems: bool = True) -> tuple[Shared, Loan, int] | None:
        """Return the socket of a descriptor, and which one it is; ``None`` for each reason why it may not be had.

        :param redeems: whether it is to be had, or only spoken of by who has had it.
        """
        said = descriptors.unseal(self.key, process.app.name, text)
        if said is None or said.gate.rpartition("-")[2] != self._gate.boot:
            return None
        loan = self.loans.get(said.lease + self._gate.registry.first)
        if loan is None:
            return None
        is_claim = loan.claim == (process, said.serial) and (loan.is_claimed or not redeems)
        if said.serial // _SERIALS != loan.generation and not is_claim:
            return None
        return loan.item, loan, said.serial

    def fd_for(self, loan: Loan, process: Process) -> int | None:
        """Return the fd to send to a process that redeems, or ``None`` where the gate has none to give any more."""
        item = loan.item
        if loan.handed is not None:
            sock = loan.handed
        elif isinstance(item, Datagrams) or item.side is not None:
            return None
        else:
            sock = item.sock
        loan.see(tenure.REDEEM)
        loan.taking += (process,)
        process.adopted.add(item.id)
        self.fences.lift(process, item.id)
        return sock.fileno()

    def taken(self, loan: Loan, process: Process, serial: int) -> None:
        """Note that a socket has come to a process that has redeemed a descriptor of it."""
        if process not in loan.taking or self.loans.get(loan.item.id) is not loan:
            return
        at = loan.taking.index(process)
        loan.taking = loan.taking[:at] + loan.taking[at + 1 :]
        if loan.claim == (process, serial):
            loan.is_claimed = False  # what is owed are descriptors of its own making
        else:
            loan.owed &= ~(1 << serial % _SERIALS)
        self._note_holder(loan, process)
        self._found_holder(loan)
        self._gate.keeping.lent(loan)

    def not_taken(self, loan: Loan, process: Process, serial: int) -> None:
        """Note that a process has read the answer to a descriptor and could not keep the socket: it is still out."""
        if process in loan.taking:
            at = loan.taking.index(process)
            loan.taking = loan.taking[:at] + loan.taking[at + 1 :]
        elif process in loan.holders:
            if loan.claim == (process, serial):
                loan.is_claimed = True
            else:
                loan.owed |= 1 << serial % _SERIALS
            loan.see(tenure.SHARE)
            self._lost_holder(loan, process)
        if process not in loan.taking and process not in loan.holders:
            process.adopted.discard(loan.item.id)

    def adopted(self, item: Shared, process: Process) -> None:
        """Note that a process has come by a socket in a way that we did not see."""
        process.adopted.add(item.id)
        loan = self.loans.get(item.id)
        if loan is not None:
            self._note_holder(loan, process)
            self._found_holder(loan)

    def _note_holder(self, loan: Loan, process: Process) -> None:
        if process not in loan.holders:
            loan.holders += (process,)
        process.adopted.add(loan.item.id)

    def _found_holder(self, loan: Loan) -> None:
        """Somebody has it, and if it was parked: again."""
        was_parked = loan.tenure == tenure.PARKED
        loan.see(tenure.TAKE if loan.is_out else tenure.SETTLE)
        loan.taken = loan.since
        self._gate.store.drop(loan.item.cookie)
        if was_parked and loan.handed is None and isinstance(loan.item, Lease):
            self._gate.ending.look((loan.item,))  # nobody else watches who has it

    # --- who has it no more -------------------------------------------------------------------------------------------

    def closed(self, process: Process, id: int) -> bool:
        """Note that a process says that it has closed a socket, and tell whether the gate had the same end of it."""
        if self.fences.keep_out(process, id):
            return True  # what it has closed is nothing any more
        loan = self.loans.get(id)
        if loan is None:
            return False
        self._gate.underway.look(process)  # what it closes has come to it
        has_end = loan.handed is not None
        self._lost_holder(loan, process)
        return has_end

    def left(self, process: Process) -> None:
        """Note that a process has lost its last channel: it has ended, or will join again."""
        self._leave(process, iter(tuple(process.adopted)))

    def _leave(self, process: Process, ids: Iterator[int]) -> None:
        slice_ = tuple(islice(ids, SLICE))
        for id in slice_:
            loan = self.loans.get(id)
            if loan is None or process.channels:
                continue
            loan.taking = tuple(other for other in loan.taking if other is not process)
            if loan.claim is not None and loan.claim[0] is process:
                loan.is_claimed = False
            self._lost_holder(loan, process)
        if len(slice_) == SLICE:
            self._gate.loop.call_soon(self._leave, process, ids)
        elif slice_:
            self._gate.ending.look_now()  # it may have been the last that had what another opened

    def _lost_holder(self, loan: Loan, process: Process) -> None:
        loan.holders = tuple(other for other in loan.holders if other is not process)
        if process not in loan.taking:
            process.adopted.discard(loan.item.id)
        if not loan.is_out:
            self._nothing_is_out(loan)
        elif not loan.holders and loan.handed is not None and loan.tenure == tenure.LENT:
            loan.see(tenure.LEAVE)

    def _nothing_is_out(self, loan: Loan) -> None:
        """Nobody comes by it any more: it lives on with those who have it."""
        if loan.handed is not None:
            if not loan.holders:
                loan.app.closer.put(loan.handed)  # its end follows, if nobody has it whom we do not know
                loan.handed = None
        elif loan.tenure == tenure.PARKED and isinstance(loan.item, Lease) and loan.item.side is None:
            self._gate.ending.end(loan.item, "process-ended")
            return
        if loan.tenure != tenure.HELD:
            loan.see(tenure.SETTLE)

    def keeps(self, lease: Lease) -> bool:
        """Tell whether a socket that no process has stays, because descriptors of it are out, or it is on its way."""
        loan = self.loans.get(lease.id)
        if loan is None:
            return False
        if loan.tenure == tenure.LENT:
            loan.see(tenure.LEAVE)
            self._gate.keeping.lent(loan)
            self._gate.store.keep(loan)
        return loan.tenure == tenure.PARKED

    def is_parked(self, item: Shared) -> bool:
        """Tell whether nobody has a socket, and nobody need look."""
        loan = self.loans.get(item.id)
        return loan is not None and loan.tenure == tenure.PARKED

    def is_unclear(self, lease: Lease, began: float) -> bool:
        """Tell whether a look that has found nobody says nothing of this socket.

        :param began: when the look began (monotonic seconds).
        """
        loan = self.loans.get(lease.id)
        return loan is not None and (loan.taken >= began or _is_hidden(loan))

    def forget(self, item: Shared) -> None:
        """Strike out a socket that has ended."""
        loan = self.loans.pop(item.id, None)
        if loan is None:
            return
        self._gate.store.drop(item.cookie)
        for process in (*loan.holders, *loan.taking):
            process.adopted.discard(item.id)
        if loan.handed is not None:
            loan.app.closer.put(loan.handed)
            loan.handed = None

    def restore(
        self,
        item: Shared,
        tenure: str,
        made: int,
        owed: int,
        since: float,
        holders: tuple[Process, ...],
        handed: native | None,
        generation: int = 0,
        claim: tuple[Process, int] | None = None,
    ) -> None:
        """Go on with a loan of the gate whose place this one takes; what was under way is asked for again."""
        loan = self.loans[item.id] = Loan(item)
        loan.tenure, loan.made, loan.owed, loan.since, loan.handed = tenure, made, owed, since, handed
        loan.generation, loan.claim, loan.is_claimed = generation, claim, claim is not None
        for process in holders:
            self._note_holder(loan, process)

    # --- what nobody redeems ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Look for sockets that nobody has, and that nobody has redeemed in time."""
        self._sift(iter(tuple(self.loans.values())), {})

    def _sift(self, loans: Iterator[Loan], handed: dict[int, Loan]) -> None:
        slice_ = tuple(islice(loans, SLICE))
        for loan in slice_:
            if loan.handed is not None:
                if not loan.is_out or loan.is_idle:
                    handed[births.inode_of(loan.handed)] = loan
            elif loan.tenure == tenure.PARKED and isinstance(loan.item, Lease) and loan.is_idle:
                self._gate.ending.end(loan.item, "idle")
        loop = self._gate.loop
        if len(slice_) == SLICE:
            self._timer = loop.call_soon(self._sift, loans, handed)
            return
        self._timer = loop.call_later(INTERVAL, self.begin)
        if handed:
            self._gate.looker.put(partial(self._look, handed, time.monotonic()))

    def _look(self, handed: dict[int, Loan], began: float) -> None:
        owners = {inode: loan.item.process.uid for inode, loan in handed.items()}
        found = holders.find(handed.keys(), owners=owners)
        unheld = [loan for inode, loan in handed.items() if not found[inode]]
        call_on(self._gate.loop, self._void, unheld, began)

    def _void(self, unheld: list[Loan], began: float) -> None:
        """End, or let go of, relayed sockets that nobody was seen to have."""
        for loan in unheld:
            if loan.handed is None or loan.taken >= began or _is_hidden(loan):
                continue
            for process in loan.holders:
                process.adopted.discard(loan.item.id)
            loan.holders = ()
            if not loan.is_out:
                self._nothing_is_out(loan)
            elif not loan.is_idle:
                continue
            elif isinstance(loan.item, Datagrams):
                loan.item.end("idle")
            elif loan.item.side is not None:
                loan.item.side.relayed.close("idle")

    def stop(self) -> None:
        """Let go of everything."""
        self._timer.cancel()
        for loan in tuple(self.loans.values()):
            self.forget(loan.item)


def _is_hidden(loan: Loan) -> bool:
    """Tell whether a process has a socket whose files may not be read: another user's, of a gate that is not root's."""
    return any(process.channels and not holders.can_read(process.pid) for process in loan.holders)


def _counts(item: Shared) -> tuple[int, int]:
    """Return the application bytes sent and received so far."""
    if isinstance(item, Datagrams):
        return item.sent, item.received
    if item.side is not None:
        counted = reading(item.side)
    elif item.state == life.OPEN:
        counted = item.own(meter.read(item.sock))
    else:
        return 0, 0
    return counted.sent, counted.received
