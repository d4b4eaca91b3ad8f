"""Carry the datagrams of a program's UDP socket: judge, count and pass on each one, both ways, without a queue.

The program holds one end of a ``SOCK_SEQPACKET`` pair, the gate the other ("inside") and the kernel's UDP socket
("outside"). Each packet of the pair is a header (:mod:`outgate.core.formats.frames`) and a payload. What one side does
not take stays where the kernel has it: in the pair, so that the program's next send waits, or in the buffer of the UDP
socket, which drops what comes when it is full, as natively. The gate itself holds at most one datagram each way.

:meth:`Datagrams.on_inside` is the one to read first: it is what happens to a datagram that a program sends.
"""

from __future__ import annotations

import contextlib
import errno
from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from _socket import socket as native
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from outgate.core.formats import frames
from outgate.core.policy.decide import Ask
from outgate.gate.datagram import waiting
from outgate.gate.datagram.counted import Counted
from outgate.gate.datagram.destination import Destination, Destinations, is_loopback
from outgate.gate.kernel import births

if TYPE_CHECKING:
    from outgate.core.policy.decide import Decision
    from outgate.gate.datagram.udp import Udp
    from outgate.gate.quota.app import DatagramLimit
    from outgate.gate.registry import Process

#: Datagrams, and bytes of them, that one socket may pass on in one turn of the loop: then it is the others' turn.
BATCH = 32
BATCH_BYTES = 512 * 1024
#: How many datagrams a judgement counts for in that.
JUDGEMENT = 8
_SIZE = frames.SIZE
#: Room for any packet, and one byte that tells a longer one.
_ROOM = frames.MAX_FRAME + 1
#: Up to here a copy costs less than a view.
_SHORT = 4096


class Datagrams(Counted):
    """One UDP socket of a program.

    :param carrier: decides, counts and logs; what all of them share.
    :param id: its number, by which the client names it.
    :param inside: the gate's end of the pair.
    :param family: 4 or 6.
    :param cookie: of the program's end, by which a process knows it that came to it in another way.
    """

    __slots__ = (
        *("_carrier", "_held_in", "_held_out", "_receive", "active", "begun", "cookie", "destinations", "dropped"),
        *("family", "first", "id", "inode", "inside", "is_charged", "is_ended", "limit", "name", "outside", "peer"),
        *("process", "renewed", "shared_with", "strangers", "takes_strangers"),
    )

    def __init__(self, carrier: Udp, id: int, process: Process, inside: native, family: int, cookie: int) -> None:
        super().__init__()
        self._carrier = carrier
        self.id = id
        self.cookie = cookie
        self.process = process
        self.inside = inside
        self.family = family
        #: Further processes whose narrowings hold for it: which of those that have it has sent a datagram is not known.
        self.shared_with: tuple[Process, ...] = ()
        #: The kernel's UDP socket, from the first use on.
        self.outside: native | None = None
        self.destinations = Destinations()
        #: A datagram that the network, or the program, does not take just now.
        self._held_out: tuple[bytes, Destination] | None = None
        self._held_in: tuple[bytes, Destination] | None = None
        #: The first destination that was allowed, for the log; until then it is no lease and costs nothing.
        self.first: Destination | None = None
        self.name = ""
        self.begun = 0.0
        #: Header of the address that the socket outside is connected to.
        self.peer = b""
        self.takes_strangers = False
        #: Whether the quotas have counted it, and what they say before each datagram.
        self.is_charged = False
        self.limit: DatagramLimit | None = None
        self.is_ended = False
        #: Of the program's end: what the lists of open files in /proc call it.
        self.inode = 0
        #: When a datagram last moved, and when it was last in use otherwise (monotonic seconds).
        self.active = self.renewed = 0.0
        #: Datagrams of the program that went nowhere, and those that came from where it never sent to.
        self.dropped = self.strangers = 0
        inside.setblocking(False)
        self._receive: Callable[[int], bytes] = births.receiver(inside, process.app.closer.put)
        carrier.loop.add_reader(inside.fileno(), self.on_inside)

    def __repr__(self) -> str:
        return f"<Datagrams {self.id} {self.process.app.name} destinations={len(self.destinations)}>"

    # --- from the program to the network ------------------------------------------------------------------------------

    def on_inside(self) -> None:
        """Take datagrams from the program: judge, send, count; at most a batch."""
        receive, find = self._receive, self.destinations.find
        self.active = monotonic()
        policy = self.process.app.settings.policy
        turns, volume = BATCH, BATCH_BYTES
        while turns > 0 and volume > 0:
            turns -= 1
            try:
                packet = receive(_ROOM)
            except BlockingIOError:
                return
            except OSError:  # it closed with datagrams unread; what it sent before comes after this error
                self._go_on(self.inside, self.on_inside)
                continue
            if not packet:
                self.end("closed")
                return
            header = packet[:_SIZE]
            destination = find(header)
            if destination is None or destination.policy is not policy:
                turns -= JUDGEMENT
                destination = self.judge(header, destination)
                if destination is None:
                    continue
            if destination.is_denied:
                self._refuse(destination)
            elif self.limit is not None and not self.limit.may_send(len(packet) - _SIZE):
                if self.limit.is_short:
                    self._receive = waiting.out(self, self._carrier.loop, receive, packet)
                    return
                self.dropped += 1
                if self.limit.tells():
                    self._tell(frames.REFUSED, destination)
            elif destination.server is not None:
                destination.server(self, destination, packet[_SIZE:])
            elif not self._send(packet, destination):
                return
            volume -= len(packet)

    def _send(self, packet: bytes, destination: Destination) -> bool:
        """Send one datagram, and tell whether there may be a next; what the network has no room for is held."""
        outside = self.outside
        assert outside is not None, "a destination that was let in has opened it"
        payload = packet[_SIZE:] if len(packet) < _SHORT else memoryview(packet)[_SIZE:]
        for _ in range(2):
            try:
                if destination.header == self.peer:
                    outside.send(payload)  # half the price: the kernel has the route
                else:
                    outside.sendto(payload, destination.target)
            except BlockingIOError:
                self._held_out = (packet, destination)
                loop = self._carrier.loop
                loop.remove_reader(self.inside.fileno())
                loop.add_writer(outside.fileno(), self._on_outside_writable)
                return False
            except OSError as e:
                self._tell(frames.FAILED, destination, e.errno or errno.EIO)
                if e.errno != errno.ECONNREFUSED:
                    break
                continue  # an earlier datagram's answer (ICMP): this one has not been sent
            self.count_sent(destination, len(payload))
            return True
        self.dropped += 1
        return True

    def _on_outside_writable(self) -> None:
        assert self.outside is not None
        assert self._held_out is not None
        loop = self._carrier.loop
        loop.remove_writer(self.outside.fileno())
        (packet, destination), self._held_out = self._held_out, None
        if self._send(packet, destination):
            loop.add_reader(self.inside.fileno(), self.on_inside)

    def judge(self, header: bytes, known: Destination | None) -> Destination | None:
        """Decide on a header that is new, or was judged by a policy that is gone; ``None`` for what is no header."""
        try:
            kind, address, port, _, scope = frames.unpack(header)
        except ValueError:
            kind, address = -1, b""
        if kind != frames.DATA or len(address) != (4 if self.family == 4 else 16):
            self.dropped += 1
            return None
        carrier, app = self._carrier, self.process.app
        if self.first is None and not carrier.may_begin(self):
            self.dropped += 1
            return None
        text = inet_ntop(AF_INET if self.family == 4 else AF_INET6, address)
        host, name = (text, None) if known is None else (known.host, known.name)
        decision = carrier.judge(self, known, Ask(app.name, "udp", host, text, port, name, scope))
        try:
            return self.enter(header, host, name, decision)
        except OSError:  # no descriptor is left
            self.dropped += 1
            return None

    def _refuse(self, destination: Destination) -> None:
        self.dropped += 1
        if not destination.is_told:
            destination.is_told = True
            self._tell(frames.REFUSED, destination)

    def _tell(self, kind: int, destination: Destination, number: int = 0) -> None:
        """Say something about a destination, if there is room: a program that does not read cannot be told."""
        _, address, port, _, scope = frames.unpack(destination.header)
        with contextlib.suppress(OSError):
            self.inside.send(frames.pack(kind, address, port, number, scope))

    # --- from the network to the program ------------------------------------------------------------------------------

    def on_outside(self) -> None:
        """Take datagrams from the network: those that answer something, at most a batch."""
        outside, inside = self.outside, self.inside
        assert outside is not None
        find = self.destinations.find_source
        self.active = monotonic()
        policy = self.process.app.settings.policy
        turns, volume = BATCH, BATCH_BYTES
        while turns > 0 and volume > 0:
            turns -= 1
            try:
                payload, source = outside.recvfrom(_ROOM)
            except BlockingIOError:
                return
            except OSError as e:  # an answer by ICMP to what a connected socket sent
                self._go_on(outside, self.on_outside)
                if self.first is not None:
                    self._tell(frames.FAILED, self.first, e.errno or errno.EIO)
                continue
            destination = find(source)
            if destination is None or destination.policy is not policy:
                turns -= JUDGEMENT
                destination = self._known_again(source, destination)
                if destination is None:
                    self.strangers += 1
                    continue
            if self.limit is not None and not self.limit.may_receive(len(payload)):
                if self.limit.is_short:
                    waiting.back(self, self._carrier.loop, destination, payload)
                    return
                continue  # lost, as in a full buffer; the quota's line in the log says so
            try:
                inside.send(destination.reply + payload)
            except BlockingIOError:
                self._hold_in(destination.reply + payload, destination)
                return
            except OSError:  # the program has closed, or wants no more (shutdown)
                continue
            self.count_received(destination, len(payload))
            volume -= len(payload)

    def _go_on(self, sock: native, callback: Callable[[], None]) -> None:
        """Watch a socket again that had an error: libuv stops watching it there and then."""
        loop = self._carrier.loop
        loop.remove_reader(sock.fileno())
        loop.add_reader(sock.fileno(), callback)

    def _hold_in(self, frame: bytes, destination: Destination) -> None:
        assert self.outside is not None
        self._held_in = frame, destination
        loop = self._carrier.loop
        loop.remove_reader(self.outside.fileno())
        loop.add_writer(self.inside.fileno(), self._on_inside_writable)

    def _on_inside_writable(self) -> None:
        assert self.outside is not None
        assert self._held_in is not None
        frame, destination = self._held_in
        try:
            self.inside.send(frame)
        except BlockingIOError:
            return
        except OSError:
            pass
        else:
            self.count_received(destination, len(frame) - _SIZE)
        self._held_in = None
        loop = self._carrier.loop
        loop.remove_writer(self.inside.fileno())
        loop.add_reader(self.outside.fileno(), self.on_outside)

    def _known_again(self, source: Any, known: Destination | None) -> Destination | None:
        """Return where a datagram comes from, judged by the policy in force, or ``None`` for a stranger."""
        if known is None and not (self.takes_strangers and is_loopback(source[0])):
            return None
        if known is not None:
            destination = self.judge(known.header, known)
        else:
            address = inet_pton(AF_INET if self.family == 4 else AF_INET6, source[0])
            destination = self.judge(frames.pack(frames.DATA, address, source[1], 0, (*source, 0, 0)[3]), None)
        return None if destination is None or destination.is_denied else destination

    # --- what the name servers' part does -----------------------------------------------------------------------------

    def deliver(self, destination: Destination, payload: bytes) -> None:
        """Give the program a datagram from a destination; without room it is lost, as in a full buffer."""
        if self.is_ended or (self.limit is not None and not self.limit.may_receive(len(payload))):
            return
        try:
            self.inside.send(destination.reply + payload)
        except OSError:
            return
        self.count_received(destination, len(payload))

    def fail(self, destination: Destination, error: OSError) -> None:
        """Tell the program what the network said of a datagram."""
        self.dropped += 1
        self._tell(frames.FAILED, destination, error.errno or errno.EIO)

    # --- what requests do ---------------------------------------------------------------------------------------------

    def enter(self, header: bytes, host: str, name: str | None, decision: Decision) -> Destination:
        """Enter a destination that was judged, log the decision if it is news, and open the socket for it.

        :raises OSError: the gate has no descriptor left.
        """
        carrier = self._carrier
        known = self.destinations.find(header)
        destination = Destination(header, host, name, decision, self.process.app.settings.policy)
        if known is None:
            self.destinations.make_room(carrier.most_destinations(self.process.app))
        elif known.decision.denied == decision.denied:
            destination.is_told = known.is_told
            destination.server = known.server
        if not decision.denied:
            self.open()
            if self.first is None:
                self.first = destination
                carrier.begin(self)
        self.destinations.put(destination)
        if known is None or known.decision.denied != decision.denied:
            carrier.decided(self, destination)
        return destination

    def carry(self, outside: native) -> None:
        """Carry what comes to a socket of the kernel's."""
        outside.setblocking(False)
        self._carrier.loop.add_reader(outside.fileno(), self.on_outside)
        self.outside = outside

    def has_been_told(self, header: bytes) -> bool:
        """Tell whether a frame has said that this destination is refused, and nobody asked about it since."""
        known = self.destinations.find(header)
        if known is None or not known.is_told:
            return False
        known.is_told = False
        return True

    def open(self) -> native:
        """Return the kernel's socket, made if need be. Raises ``OSError``: no descriptor is left."""
        if self.outside is not None:
            return self.outside
        outside = self._carrier.make_outside(self)
        try:
            self.carry(outside)
        except BaseException:
            outside.close()
            raise
        return outside

    def change_pair(self, inside: native, cookie: int, inode: int) -> None:
        """Go on with another pair.

        :param inside: the gate's end of it; cookie and inode are those of the program's.
        """
        loop = self._carrier.loop
        loop.remove_reader(self.inside.fileno())
        loop.remove_writer(self.inside.fileno())
        inside.setblocking(False)
        self.inside, self.cookie, self.inode = inside, cookie, inode
        self._receive = births.receiver(inside, self.process.app.closer.put)
        if self._held_out is None:
            loop.add_reader(inside.fileno(), self.on_inside)
        if self._held_in is not None:
            loop.add_writer(inside.fileno(), self._on_inside_writable)

    def book(self) -> None:
        self._carrier.note(self)

    def end(self, how: str) -> None:
        """End it: nobody holds the other end any more, or the gate goes."""
        if self.is_ended:
            return
        self.is_ended = True
        loop = self._carrier.loop
        for sock in (self.inside, self.outside):
            if sock is not None:
                loop.remove_reader(sock.fileno())
                loop.remove_writer(sock.fileno())
        self._carrier.ended(self, how)
        if self.outside is not None:
            self.outside.close()
        self.process.app.closer.put(self.inside)  # with packets unread, and whatever a program put into them
        self.destinations.clear()
