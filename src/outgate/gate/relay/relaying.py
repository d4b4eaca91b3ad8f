"""Give programs relayed TCP sockets: make their pairs, join them to their dials, and say how those ended."""

from __future__ import annotations

import asyncio
import errno
from _socket import AF_UNIX, IPPROTO_TCP, SHUT_WR, SO_ERROR, SO_SNDBUF, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY, socketpair
from _socket import socket as native
from collections.abc import Callable
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.core.formats import messages
from outgate.errors import number_of
from outgate.gate import wire
from outgate.gate.kernel import births, dial, meter
from outgate.gate.kernel.closer import Closer
from outgate.gate.relay.bridge import Take
from outgate.gate.relay.relays import Relays
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import Lease, Process
    from outgate.gate.relay.pair import Relayed
    from outgate.gate.server import Gate
    from outgate.gate.takeover.state import RelayedState
    from outgate.gate.tls.secured import Secured

#: Seconds that a process has between its claim and its connect, which follows at once unless it is stopped.
CLAIM_LIMIT = 1.0
#: Of a program's end, which the kernel doubles. The byte that the relay leaves unread holds the whole piece it came in,
#: 65 KiB where sendfile(2) made it, and the end is writable only while what is in flight is a quarter of the buffer.
PROGRAM_QUEUE = 160 * 1024


class Side:
    """What the gate keeps of a relayed lease beside its TCP socket.

    :ivar relayed: the pump.
    :ivar cookie: of the TCP socket that leads out; the lease's is that of what programs hold.
    :ivar filled: bytes with which the client has filled its end, so that it is not writable while the dial goes on.
    :ivar errno: how the last dial ended, until the program has been told; 0 if it succeeded.
    :ivar claimant: the process that is about to fill its end and connect it, where several have the socket.
    :ivar connects: set when it does; there only while somebody has claimed it.
    :ivar nagle: whether the program has set TCP_NODELAY to off itself. Else the relay sets it: it writes what comes in
        one piece, and a second Nagle would hold back what the program sent without.
    :ivar why: the refusal that the last dial came to by itself, code and facts; ``None`` where the network said no.
    :ivar told: called with "" when a dial has ended, and with how when all is over, where the gate itself waits for it.
    """

    __slots__ = ("claimant", "connects", "cookie", "errno", "filled", "lease", "nagle", "relayed", "told", "why")

    def __init__(self, lease: Lease, relayed: Relayed, cookie: int) -> None:
        self.lease = lease
        self.relayed = relayed
        self.cookie = cookie
        self.filled = 0
        self.errno = 0
        self.claimant: Process | None = None
        self.connects: asyncio.Event | None = None
        self.nagle = False
        self.told: Callable[[str], None] | None = None
        self.why: Reply | None = None

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.lease.family

    @property
    def outside(self) -> native:
        """The TCP socket that leads out."""
        return self.lease.sock

    def open(self) -> native:
        """Return the TCP socket, to set an option or bind."""
        return self.lease.sock

    async def claim(self, process: Process) -> bool:
        """Give a process the right to fill the pair and connect it, or return ``False``: another has, or has begun.

        Waits while another has the right and has not come to its connect.
        """
        while self._is_free and self.connects is not None and self.claimant is not process:
            if self.connects.is_set():
                return False
            timer = asyncio.get_running_loop().call_later(CLAIM_LIMIT, self.unclaim)  # it was stopped, or has ended
            await self.connects.wait()
            timer.cancel()
        if not self._is_free:
            return False
        self.claimant = process
        self.connects = asyncio.Event()
        return True

    def unclaim(self) -> None:
        """Let others that have the socket connect it."""
        self.claimant = None
        self.note_connect()
        self.connects = None

    def note_connect(self) -> None:
        """Wake those that wait for the claimant's connect."""
        if self.connects is not None:
            self.connects.set()

    @property
    def _is_free(self) -> bool:
        return not self.filled and self.lease.state in (life.BORN, life.FAILED)

    def note_option(self, level: int, number: int, value: int | str) -> None:
        """Note what the program has set that the relay would set otherwise."""
        if (level, number) == (IPPROTO_TCP, TCP_NODELAY):
            self.nagle = value == 0


class Relaying:
    """The relayed TCP sockets of a gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        one, other = socketpair(AF_UNIX, SOCK_STREAM)
        self._refuses_fds = births.take_no_fds(one)
        one.close()
        other.close()
        #: Closes fds that programs send where the kernel does not refuse them.
        self._strays = Closer("relay-strays")
        self.relays = Relays(gate.loop, None if self._refuses_fds else self._strays.put)

    def make(self, process: Process, family: int, channel: Channel) -> births.Born:
        """Make a lease whose bytes the gate carries; the program's end is not kept when it has gone out.

        :param family: 4 or 6.
        :param channel: whose reply carries it.
        :raises OSError: the gate has no descriptor left.
        """
        lease, theirs = self.make_pair(process, family, channel)
        channel.after_reply(theirs.close)
        return births.Born(lease.id, lease.cookie, theirs.fileno())

    def make_pair(self, process: Process, family: int, channel: Channel | None = None) -> tuple[Lease, native]:
        """Make a lease whose bytes the gate carries, and return it with the end that sends and receives them.

        Parameters and errors as :meth:`make`.
        """
        gate = self._gate
        outside, cookie = births.make(family, gate.owner(process))
        try:
            inside, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        except BaseException:
            outside.close()
            raise
        if self._refuses_fds:
            births.take_no_fds(inside)
        theirs.setsockopt(SOL_SOCKET, SO_SNDBUF, PROGRAM_QUEUE)
        theirs.setsockopt(SOL_SOCKET, messages.RELAY_MARK, 1)
        lease = gate.registry.add(process, outside, births.cookie_of(theirs), family, channel)
        lease.inode = births.inode_of(theirs)  # what programs hold of it
        relayed = self.relays.adopt(inside, lambda _, how: self._over(lease, how), process.app.closer.put)
        lease.side = Side(lease, relayed, cookie)
        relayed.limit = gate.quotas.limit(lease)
        return lease, theirs

    def make_bridge(self, process: Process, family: int, client: native, take: Take) -> Lease:
        """Make a lease for a client of a door, whose own connection takes the place of a pair.

        :param take: as for :class:`outgate.gate.relay.bridge.Bridge`; the rest as :meth:`make`.
        """
        gate = self._gate
        outside, cookie = births.make_own(family, gate.owner(process))
        lease = gate.registry.add(process, outside, cookie, family)
        relayed = self.relays.bridge(client, take, lambda _, how: self._over(lease, how), native.close)
        lease.side = Side(lease, relayed, cookie)
        relayed.limit = gate.quotas.limit(lease)
        return lease

    def restore(self, lease: Lease, inside: native, saved: RelayedState) -> None:
        """Go on with a relayed socket of the gate whose place this one takes."""
        relayed: Relayed
        if saved.is_door:
            relayed = self.relays.bridge(inside, None, lambda _, how: self._over(lease, how), native.close)
        else:
            if self._refuses_fds:
                births.take_no_fds(inside)
            dispose = lease.process.app.closer.put
            relayed = self.relays.adopt(inside, lambda _, how: self._over(lease, how), dispose)
        side = lease.side = Side(lease, relayed, births.cookie_of(lease.sock))
        side.filled, side.errno, side.nagle = saved.filled, saved.errno, saved.nagle
        outside = lease.sock if saved.has_begun else None
        relayed.restore(outside, saved.sent, saved.received, saved.held, saved.rest_out, saved.rest_back, saved.counted)
        relayed.active, relayed.errno = saved.active, saved.failed
        relayed.limit = self._gate.quotas.limit(lease)

    def change_hands(self, lease: Lease, side: Side, handed: native) -> native:
        """Give a lease another pair, which nobody has yet, and return the program's end of it.

        :param handed: the program's end of its pair, which others have as well.
        :raises OSError: the gate has no descriptor left.
        """
        inside, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        if self._refuses_fds:
            births.take_no_fds(inside)
        births.copy_options(handed, theirs)
        theirs.setsockopt(SOL_SOCKET, SO_SNDBUF, PROGRAM_QUEUE)
        theirs.setsockopt(SOL_SOCKET, messages.RELAY_MARK, 1)
        theirs.send(b"\0")  # so that it can be told of a reset, before it has sent anything
        ends = births.has_ended_sending(side.relayed.inside)
        if ends:
            theirs.shutdown(SHUT_WR)
        side.unclaim()
        side.relayed.change_hands(inside, births.take_out(handed), ends)
        return theirs

    def find(self, process: Process, id: int) -> Side | None:
        """Return what is kept of a relayed socket that this process has."""
        lease = self._gate.registry.find(process, id)
        return None if lease is None else lease.side

    def dial_ended(self, lease: Lease, side: Side, secured: Secured | None = None) -> None:
        """Begin to carry bytes, or let the program's end be writable again; either way it is writable now.

        :param secured: what speaks TLS on the way out, where there is any.
        """
        relayed = side.relayed
        filled, side.filled = side.filled, 0
        side.errno, side.why = 0, None
        if lease.state == life.OPEN:
            # Its error is not looked at here: a reset that has come since is for whoever carries, and told once.
            relayed.begin(lease.sock, filled, side.nagle, secured)
        else:
            side.errno = lease.sock.getsockopt(SOL_SOCKET, SO_ERROR)
            if side.errno:
                # Taken by SO_ERROR it leaves the socket half-way: the next connect would only say ECONNABORTED.
                dial.begin(lease.sock, (lease.address, lease.asked[1]))
            relayed.release(filled, failed=True)
        if side.told is not None:
            side.told("")

    def dial_failed(self, side: Side, said: Reply) -> None:
        """Let the program's end be writable again: its way out has come to nothing.

        :param said: the refusal, or the errno of the far end.
        """
        filled, side.filled = side.filled, 0
        side.why = said.get("error")
        side.errno = int(said["errno"]) if side.why is None else number_of(side.why["code"], side.why["facts"])
        side.relayed.release(filled, failed=True)
        if side.told is not None:
            side.told("")

    def note_fill(self, lease: Lease, side: Side) -> None:
        """Note what lies in the pair of a socket that is to be connected: it is there to be thrown away.

        The client has filled its end, so that it is not writable while the dial goes on. How much is not its to say.
        """
        if lease.state in (life.BORN, life.FAILED):
            side.filled = side.relayed.waiting
            side.note_connect()

    def release_unless_dialled(self, lease: Lease, side: Side) -> None:
        """Make the program's end writable again after a connect that came to no dial."""
        side.unclaim()
        if lease.state not in (life.DIALLED, life.OPEN):
            filled, side.filled = side.filled, 0
            side.relayed.release(filled)

    def _over(self, lease: Lease, how: str) -> None:
        side = lease.side
        if lease.state != life.ENDED:
            self._gate.ending.end(lease, how)
        if side is not None and side.told is not None:
            side.told(how)
        if lease.process.door:
            lease.side = None  # no request asks for it any more, and the two would wait for the garbage collector

    def cut_secured(self) -> None:
        """Reset those that lead out by TLS: its keys are this process's, and no other could go on with them."""
        why = refusal("cut", by="the gate", why="another takes its place, which has not the keys of TLS to the proxy")
        for lease in tuple(self._gate.registry.leases.values()):
            if lease.side is not None and lease.side.relayed.secured is not None:
                self._gate.ending.cut(lease, "handed-over", why)

    def stop(self) -> None:
        """Reset all of them: the gate ends, and nobody carries their bytes on."""
        self.relays.close("gate-ended")
        self._strays.stop()


def reading(side: Side) -> meter.Reading:
    """Return the bytes that were carried."""
    return meter.Reading(meter.CLOSE, side.relayed.sent, side.relayed.received)


async def harvest(gate: Gate, channel: Channel, process: Process, request: wire.Harvest) -> Reply:
    """Say how the dial of a relayed socket has ended: its own address, or the error, once."""
    side = gate.relaying.find(process, request.sock)
    if side is None:
        return gate.ending.missing(process, request.sock)
    lease = side.lease
    if lease.state == life.DIALLED:
        gate.settle(lease)
    if lease.state == life.DIALLED:
        return {"errno": errno.EINPROGRESS}
    if lease.state == life.OPEN:
        try:
            peer = (lease.address, lease.asked[1]) if lease.via else lease.sock.getpeername()
        except OSError:  # reset meanwhile
            peer = (lease.address, lease.asked[1])
        return {"own": [*lease.sock.getsockname(), 0, 0][:4], "peer": [*peer, 0, 0][:4]}
    if request.claim and not await side.claim(process):
        return {"errno": errno.EINPROGRESS}  # by another process that has the socket too
    number, side.errno = side.errno, 0
    why, side.why = side.why, None
    return {"errno": number or errno.ENOTCONN, **({} if why is None else {"why": why})}
