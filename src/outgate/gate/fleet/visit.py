"""One socket of ours that a program on another host has: what that program's gate asks and says is done here.

To everything else in this gate the other host is one more process of the app, which holds the socket and nobody can
look into: it has a share in the connection, the meter counts here what goes over it, and it leaves when the link ends.
"""

from __future__ import annotations

import asyncio
import errno
from _socket import MSG_DONTWAIT
from _socket import socket as native
from typing import TYPE_CHECKING, Any

from outgate.core import options
from outgate.core.fleet import frames
from outgate.errors import ProtocolError
from outgate.gate import wire
from outgate.gate.fleet.ends import PIECE, End, Ends
from outgate.gate.reclaim import renewing
from outgate.gate.registry import Lease, Process
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from outgate.gate.fleet.link import Link
    from outgate.gate.server import Gate
    from outgate.gate.travel.sharing import Loan

#: Seconds within which the other gate gives a connection back.
RECALL = 4.0


class Visit(End):
    """A lease in the hands of another gate's program.

    :param sock: a further fd of the socket; of a relayed one, of the program's end.
    :param process: what stands for that program here.
    :param at: the other gate.
    :param serial: of the descriptor that it has redeemed.
    :param ahead: bytes that have been taken out of the connection already, and that nobody has read.
    :param left: called when it is over.
    :ivar shared: whether the program has passed it on: who redeems that descriptor has it recalled.
    """

    def __init__(
        self,
        gate: Gate,
        ends: Ends,
        sock: native,
        link: Link,
        process: Process,
        at: str,
        loan: Loan,
        serial: int,
        ahead: bytes,
        left: Callable[[Visit], object],
    ) -> None:
        assert isinstance(loan.item, Lease)
        self._gate = gate
        self.process = process
        self.at = at
        self.loan = loan
        self.lease = loan.item
        self.shared = False
        self._serial = serial
        self._left = left
        #: Bytes that have gone to the other gate; and all of them that its program had, when it passed the socket on.
        self._gone = 0
        self._had = -1
        self._is_closed = False
        #: Set with what the program had not read when it is recalled; what has come of that, and whether it is all.
        self._recalled: asyncio.Future[bytes] | None = None
        self._returned: list[bytes] = []
        self._is_given_back = False
        super().__init__(ends, sock, link, process.app.closer.put)
        for start in range(0, len(ahead), PIECE):
            self._gone += len(ahead[start : start + PIECE])
            link.send_data(frames.write(frames.DATA, ahead[start : start + PIECE]))

    # --- bytes --------------------------------------------------------------------------------------------------------

    def take(self, most: int) -> int:
        """Take what has come from outside."""
        count = self.sock.recv_into(self._ends.piece[frames.HEAD :], most, MSG_DONTWAIT)
        self._gone += count
        if count < most and not self._looks:
            self._readable = False
        return count

    def ended(self) -> None:
        """The far end has ended its sending."""
        self.link.send(frames.write(frames.END))

    def failed(self, error: OSError) -> None:
        """The connection was reset, or cut here: say why."""
        known = self._gate.ending.was_cut(self.lease) or self._gate.ending.why_taken(self.process, self.lease.id)
        self.link.send(frames.say(frames.RESET, known or {"errno": error.errno or errno.ECONNRESET}))
        self.leave()

    def flushed(self) -> None:
        """What the program had sent before its close is on its way."""
        if self._is_closed:
            self.leave()
        elif self._recalled is not None and self._is_given_back:
            self._recalled.set_result(b"".join(self._returned))
            self._recalled = None
            self.leave()

    # --- what the other gate says -------------------------------------------------------------------------------------

    def told(self, kind: int, payload: bytes) -> None:
        """Take a frame that is not about bytes."""
        if kind == frames.TAKEN:
            self._gate.sharing.taken(self.loan, self.process, self._serial)
        elif kind == frames.ASK:
            self.link.send(frames.say(frames.ANSWER, self._answer(frames.said(payload))))
        elif kind == frames.CLOSE:
            self._is_closed = True
            self.flush()
        elif kind == frames.ABORT:
            self.leave()
        elif kind == frames.RETURNED and self._recalled is not None:
            if payload:
                self._returned.append(payload)
            else:
                self._is_given_back = True
                self.flush()
        else:
            raise ProtocolError("a frame out of order")

    def _answer(self, asked: dict[str, Any]) -> Reply:
        if self.is_over:
            return refusal("unknown-descriptor")
        op = asked.get("op")
        if op == "share":
            text = self._gate.sharing.lend(self.lease, self.process)
            self.shared = True
            # What was on its way, or unread, would be lost with the other gate.
            self._had = self._gone if (asked.get("got"), asked.get("unread")) == (self._gone, 0) else -1
            return {"descriptor": text}
        if op == "option":
            return self._option(asked)
        if op == "touch":
            wait = asked.get("wait")
            renewing.note(self._gate, self.process, wire.Touch([self.lease.id], wait if wait in (-1, 1) else 0))
            return {}
        raise ProtocolError("a question of no kind")

    def _option(self, asked: dict[str, Any]) -> Reply:
        """Set or read an option of the kernel's socket, judged as any program's."""
        level, number, size, value = (asked.get(key) for key in ("level", "number", "size", "value"))
        if type(level) is not int or type(number) is not int or type(size) is not int or not 0 <= size <= 1024:
            raise ProtocolError("an option of no kind")
        may = options.may_get if value is None else options.may_set
        refused = may(level, number, False)
        if refused is not None:
            return refusal(refused.code, **refused.facts)
        sock = self.lease.sock
        try:
            if value is None:
                found = sock.getsockopt(level, number, size) if size else sock.getsockopt(level, number)
                return {"value": found if isinstance(found, int) else found.hex()}
            sock.setsockopt(level, number, bytes.fromhex(value) if isinstance(value, str) else int(value))
        except (ValueError, TypeError, OverflowError):
            return {"errno": errno.EINVAL}
        except OSError as e:
            return {"errno": e.errno or errno.EIO}
        return {}

    # --- its end ------------------------------------------------------------------------------------------------------

    async def recall(self) -> bytes:
        """Have the connection back, and return what its program had not read.

        What that program had written goes out first.

        :raises TimeoutError: the other gate does not give it back in time, or is gone; the visit is over.
        """
        if self._recalled is None:
            self._is_paused = True
            self._recalled = self._ends.loop.create_future()
            self.link.send(frames.write(frames.RECALL))
        recalled = self._recalled
        timer = self._ends.loop.call_later(RECALL, self.lost, f"it did not give it back within {RECALL:g} s")
        try:
            return await recalled
        finally:
            timer.cancel()

    def lost(self, why: str) -> None:
        """The other gate is gone, or its program's close has come before and is under way."""
        if self._is_closed or self.is_over:
            return
        is_torn = self.shared and self._had != self._gone
        self.leave()
        if is_torn:
            # Who goes on with it would find a hole in what it reads.
            why = f"the gate that had it is gone, and with it what was not read: {why}"
            self._gate.ending.cut(self.lease, "fleet", refusal("cut", by="the fleet", why=why))
            self._gate.sharing.forget(self.lease)
            self._gate.ending.look((self.lease,))

    def dismiss(self) -> None:
        """Take it from a gate that has left the fleet, which hears why."""
        log, name, why = self._gate.log, self._gate.sharing.fleet_name, "fleet.gates does not list it any more"
        log.event("fleet-lost", app=self.process.app.name, gate=self.at, reason=why)
        self.link.send(frames.say(frames.RESET, refusal("fleet-refused", gate=name, why=why)))
        self.lost(why)

    def leave(self) -> None:
        """End the visit: whoever else has the socket keeps it."""
        if self.is_over:
            return
        self.let_go()
        self.link.close()
        if self._recalled is not None and not self._recalled.done():
            recalled, self._recalled = self._recalled, None
            recalled.set_exception(TimeoutError("it is gone"))
            recalled.exception()  # nobody may be waiting any more
        gate, process = self._gate, self.process
        process.channels = 0
        gate.sharing.left(process)
        if process.leases:
            gate.ending.look(list(process.leases.values()))
        else:
            gate.registry.forget(process)
        self._left(self)
        gate.reception.released()
