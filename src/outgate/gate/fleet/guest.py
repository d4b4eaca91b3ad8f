"""One socket of another gate's that a program here has: a pair of Unix sockets, and a link to the gate that owns it.

The program's end looks like that of any relayed socket. A byte always lies unread in ours: a Unix socket tells its peer
of a reset, and not of an end of file, just if it closes with something unread
(:class:`~outgate.gate.relay.carry.OutWay`).
"""

from __future__ import annotations

import asyncio
import errno
import select
import time
from _socket import AF_UNIX, SHUT_RD, SO_SNDBUF, SOCK_STREAM, SOL_SOCKET, socketpair
from _socket import socket as native
from collections import deque
from typing import TYPE_CHECKING, Any

from outgate.core.fleet import frames
from outgate.core.formats import messages
from outgate.errors import ProtocolError
from outgate.gate.fleet.ends import PIECE, End, Ends
from outgate.gate.fleet.inlet import Inlet
from outgate.gate.kernel import births, queues
from outgate.gate.relay.pair import QUEUE
from outgate.gate.relay.relaying import PROGRAM_QUEUE
from outgate.gate.replies import Reply, refusal
from outgate.gate.travel import underway

if TYPE_CHECKING:
    from collections.abc import Callable

    from outgate.gate.fleet.link import Link
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate


class Guest(End):
    """A socket of another gate's in the hands of a program here.

    :param facts: what the owner has said of it: family, own and peer address.
    :param text: the descriptor that it was redeemed by.
    :param left: called when it is over.
    :ivar id: what program and gate call it; unique among all sockets of this gate.
    :ivar theirs: the program's end, until it has gone out.
    :ivar handed: the same, given back because the program passes it on.
    :ivar begun: when it came here (monotonic seconds); ``active`` when bytes last went over it.
    :ivar sent: bytes of the program that have gone to the owner; ``received``, those that have come from there.
    """

    def __init__(
        self,
        gate: Gate,
        ends: Ends,
        link: Link,
        process: Process,
        owner: str,
        text: str,
        facts: dict[str, Any],
        left: Callable[[Guest], object],
    ) -> None:
        inside, self.theirs = socketpair(AF_UNIX, SOCK_STREAM)
        births.take_no_fds(inside)
        inside.setsockopt(SOL_SOCKET, SO_SNDBUF, QUEUE)
        self.theirs.setsockopt(SOL_SOCKET, SO_SNDBUF, PROGRAM_QUEUE)
        self.theirs.setsockopt(SOL_SOCKET, messages.RELAY_MARK, 1)
        self.theirs.send(b"\0")
        self._way = Inlet(gate.relaying.relays.tools, inside)
        self._way.hold(1)
        self._gate = gate
        self.id = gate.registry.number()
        self.process = process
        self.owner = owner
        self.text = text
        self.facts = facts
        self.cookie = births.cookie_of(self.theirs)
        self.inode = births.inode_of(self.theirs)
        self.family: int = facts["family"]
        self.handed: native | None = None
        #: Whether the program is known to have it: the reply that brought it may be lost on its way.
        self._is_taken = False
        self._is_waited_for = False
        self.begun = self.active = time.monotonic()
        self._left = left
        self._asked: deque[asyncio.Future[Reply]] = deque()
        self.sent = self.received = 0
        #: Whether the program has closed its end, and whether it reads no more.
        self._is_gone = self._is_deaf = False
        #: Whether the connection has failed, and what has come before is on its way to the program.
        self._is_reset = False
        process.app.held += 1
        process.app.open += 1
        super().__init__(ends, inside, link, process.app.closer.put)

    # --- bytes --------------------------------------------------------------------------------------------------------

    def take(self, most: int) -> int:
        """Take what the program has sent."""
        count = self._way.take(self._ends.piece[frames.HEAD - 1 :], most)
        if count:
            if self._way.is_dry and not self._looks:
                self._readable = False
            self.sent += count
            self.active = time.monotonic()
            self.taken()
        return count

    def ended(self) -> None:
        """The program has ended its sending, or closed, which then follows."""
        if not self._has_gone():
            self.link.send(frames.write(frames.END))

    def failed(self, error: OSError) -> None:
        """The program reads no more; or it has closed with something unread, which is a reset natively."""
        if error.errno == errno.EPIPE:
            self._is_deaf = True
            self._give_credit(0)
        else:
            self.give_up()

    def note(self, events: int) -> None:
        """Remember also that the program has closed."""
        super().note(events)
        if events & select.EPOLLHUP:
            self._is_gone = True

    def turn(self) -> None:
        """Move a share, and end it where the program has closed and all that it had sent is on its way."""
        if self._is_reset and not self.is_over:
            # Who writes and does not read can be told of a reset by the end alone.
            if self.flush() or self._way.unsent or self._has_gone():
                self.finish()
            return
        super().turn()
        if self._is_gone and self._is_read and not self.is_over:
            if not self._is_taken and not self._is_waited_for:
                # Its end has closed: by the program that had it, or with a reply that nobody has read. The channel's
                # own end says which (gate/travel/underway.py).
                self._is_waited_for = True
                self._ends.loop.call_later(2 * underway.INTERVAL, self._ends.queue, self)
                return
            self.link.send(frames.write(frames.CLOSE))
            self.finish()

    def _has_gone(self) -> bool:
        waiting = select.poll()
        waiting.register(self.sock, 0)
        self._is_gone = self._is_gone or bool(waiting.poll(0))
        return self._is_gone

    def _give_credit(self, count: int) -> None:
        """Say that bytes that nobody will read are out of the way."""
        count += self._owed
        self._owed = 0
        if count:
            self.link.send(frames.credit(count))

    # --- what the owner says ------------------------------------------------------------------------------------------

    def got(self, kind: int, payload: frames.Payload) -> None:
        """Take a frame, or of DATA a part."""
        if kind == frames.DATA:
            self.received += len(payload)
            self.active = time.monotonic()
            if self._is_deaf:
                self._give_credit(len(payload))
                return
        super().got(kind, payload)

    def told(self, kind: int, payload: bytes) -> None:
        """Take a frame that is not about bytes."""
        if kind == frames.ANSWER and self._asked:
            waiting = self._asked.popleft()
            if not waiting.done():
                waiting.set_result(frames.said(payload))
        elif kind == frames.RESET:
            said = frames.said(payload)
            if "error" in said:
                self._gate.ending.remember(self, 0, said)
            self._is_reset = True
            self._ends.queue(self)  # what has come before is still delivered
        elif kind == frames.RECALL:
            self._give_back()
        else:
            raise ProtocolError("a frame out of order")

    def lost(self, why: str) -> None:
        """The owner is gone, and the connection with it as far as can be known here."""
        if not self.is_over and not self._is_reset:
            self._gate.log.event("fleet-lost", app=self.process.app.name, gate=self.owner, reason=why)
            why = f"gate {self.owner}, whose it is, is gone: {why}"
            self._cut(refusal("cut", by="the fleet", why=why))

    def end(self, how: str) -> None:
        """Reset what the program has of it, for the operator of this gate."""
        self._gate.log.event("fleet-lost", app=self.process.app.name, gate=self.owner, reason=how)
        self._cut(refusal("cut", by="the operator", why=f"outgate kill at gate {self._gate.sharing.fleet_name}"))

    def _cut(self, why: Reply) -> None:
        """Reset what the program has of it; whoever has the connection elsewhere goes on.

        :param why: the refusal that the program's next call of ours gets.
        """
        if not self.is_over:
            self._gate.ending.remember(self, 0, why)
            self.finish()

    def _give_back(self) -> None:
        """Give the connection back: what the program has written, then what it has not read."""
        try:
            self.sock.shutdown(SHUT_RD)  # from here on it can write nothing
            while count := self.take(PIECE):
                self._send(count)
        except OSError:
            pass
        unread = births.take_out(self.handed) if self.handed is not None else b""
        unread += b"".join(self._waiting)
        for start in range(0, len(unread), PIECE):
            self.link.send(frames.write(frames.RETURNED, unread[start : start + PIECE]))
        self.link.send(frames.write(frames.RETURNED))
        self._gate.sharing.fences.note(self.process, self.id)
        self._waiting.clear()
        self.finish()

    # --- what the program asks ----------------------------------------------------------------------------------------

    def may_use(self, process: Process) -> bool:
        """Tell whether a process has this socket: it, or one that was forked from it, or sent it."""
        own = self.process
        return process.uid == own.uid and (
            own.token == process.token or own.token in process.parents or self.id in process.adopted
        )

    async def ask(self, asked: dict[str, Any]) -> Reply:
        """Ask the owner about the socket, and return its reply."""
        if self.is_over:
            return self._gate.ending.missing(self.process, self.id)
        waiting: asyncio.Future[Reply] = self._ends.loop.create_future()
        self._asked.append(waiting)
        self.link.send(frames.say(frames.ASK, asked))
        return await waiting

    def touch(self, wait: int) -> None:
        """Tell the owner that the socket is in use; nobody waits for its answer."""
        if not self.is_over:
            self.active = time.monotonic()
            self._asked.append(self._ends.loop.create_future())
            self.link.send(frames.say(frames.ASK, {"op": "touch", "wait": wait}))

    async def share(self) -> Reply:
        """Return a further descriptor, which is the owner's to make; the program's end is here."""
        assert self.handed is not None
        self.flush()
        unread = queues.unread(self.handed.fileno()) + self._size
        return await self.ask({"op": "share", "got": self.received, "unread": unread})

    def taken(self) -> None:
        """Note that the program has the socket."""
        if not self._is_taken:
            self._is_taken = True
            self._gate.underway.cancel(self)
            self.link.send(frames.write(frames.TAKEN))

    def arrived(self, read: bool) -> None:
        """Hear whether the reply that brought the socket was read; if not, its descriptor is as good as before."""
        if read:
            self.taken()
        elif not self._is_taken:
            self.give_up()

    def give_up(self) -> None:
        """End a socket that nobody here has any more."""
        if not self.is_over:
            self.link.send(frames.write(frames.ABORT))
            self.finish()

    # --- its end ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """End it: the program reads what lies in its queue, and then of a reset."""
        if self.is_over:
            return
        self.let_go()
        self._gate.underway.cancel(self)
        self.link.close()
        if self.handed is not None:
            self._dispose(self.handed)
            self.handed = None
        for waiting in self._asked:
            if not waiting.done():
                waiting.set_result(self._gate.ending.missing(self.process, self.id))
        app = self.process.app
        app.held -= 1
        app.open -= 1
        self._left(self)
        self._gate.reception.released()
