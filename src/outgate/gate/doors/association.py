"""Carry datagrams for a client of a SOCKS5 door (UDP ASSOCIATE, RFC 1928 §7), as long as its connection lasts.

The client sends to a UDP socket of the door's, and the door does what the client library does in a program: it holds
the other end of a UDP socket of the gate's (:mod:`outgate.gate.datagram`), asks to REACH each destination at its first
use, and puts one header in the place of the other. So what is judged, counted and logged is what it is for any program.
"""

from __future__ import annotations

import contextlib
import os
import time
from _socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    inet_ntop,
    inet_pton,
)
from _socket import socket as native
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from outgate.core.doors import socks
from outgate.core.formats import frames
from outgate.gate import wire
from outgate.gate.asking import NoChannel, ask
from outgate.gate.judging import may_hold
from outgate.gate.kernel import eager
from outgate.gate.names.resolver import numbers

if TYPE_CHECKING:
    from outgate.gate.doors.doors import Doors
    from outgate.gate.registry import Process

__all__ = ["Association"]

#: Datagrams that go one way in one turn of the loop.
BATCH: Final = 32
#: Datagrams that wait for a first judgement of where they go, and destinations that are remembered.
WAITING: Final = 16
ROUTES: Final = 1024
#: Seconds for which a destination that was refused is not asked about again.
REFUSED_FOR: Final = 1.0
#: Bytes that a client may say on its connection, where nothing is to be said.
MOST_SAID: Final = 1024
_ROOM: Final = frames.MAX_FRAME + 1
_SEND: Final = MSG_DONTWAIT | MSG_NOSIGNAL


class _Route:
    """Where datagrams go that name one destination.

    :ivar end: that they go to, with this header; ``None`` where they may not, until a time (monotonic seconds).
    :ivar is_asked: whether it is being asked about, and which datagrams came meanwhile.
    """

    __slots__ = ("end", "header", "is_asked", "until", "waiting")

    def __init__(self) -> None:
        self.end: native | None = None
        self.header = b""
        self.until = 0.0
        self.is_asked = False
        self.waiting: list[bytes] = []


class Association:
    """One client's way for datagrams; ends with its connection.

    :param control: the connection.
    :param address: where it comes from. Datagrams from elsewhere are dropped.
    :param port: that it says it sends from; 0 for that of its first datagram.
    :raises OSError: no descriptor is left.
    :ivar address: where it is to send to.
    """

    def __init__(self, doors: Doors, process: Process, control: native, address: str, port: int) -> None:
        self._doors = doors
        self._gate = doors.gate
        self.process = process
        self.control = control
        own = control.getsockname()
        self.outer = native(AF_INET6 if len(own) == 4 else AF_INET, SOCK_DGRAM)
        try:
            self.outer.bind((own[0], 0, *own[2:]))
            self.outer.setblocking(False)
            self.address = self.outer.getsockname()[:2]
            self._ends: dict[int, tuple[int, native]] = {}
            self._make(4)  # what an association costs counts from its beginning
        except BaseException:
            self.outer.close()
            raise
        self._host = address
        self._port = port
        self._client: Any = None
        self._routes: dict[bytes, _Route] = {}
        self._heads: dict[bytes, bytes] = {}
        self._said = 0
        self.is_over = False

    def begin(self) -> None:
        """Carry, from now on."""
        loop = self._gate.loop
        self._doors.associations[self] = None
        self.process.channels += 1  # it is there as long as this is, with or without sockets
        self.control.setblocking(False)
        loop.add_reader(self.control.fileno(), self._on_control)
        loop.add_reader(self.outer.fileno(), self._on_client)
        for family, (_, end) in self._ends.items():
            loop.add_reader(end.fileno(), self._on_gate, family)

    def _make(self, family: int) -> tuple[int, native]:
        """Return the id of a UDP socket of the gate's, and the end that a program would have. Raises ``OSError``."""
        instead: Any = NoChannel()
        try:
            born = self._gate.udp.make(self.process, family, instead)
            end = native(AF_UNIX, SOCK_SEQPACKET, 0, os.dup(born.fd))
        finally:
            instead.settle()
        end.setblocking(False)
        self._ends[family] = born.id, end
        return born.id, end

    def _on_control(self) -> None:
        try:
            said = len(self.control.recv(MOST_SAID, MSG_DONTWAIT))
        except BlockingIOError:
            return
        except OSError:
            said = 0
        self._said += said
        if not said or self._said > MOST_SAID:
            self.end()

    # --- from the client ----------------------------------------------------------------------------------------------

    def _on_client(self) -> None:
        for _ in range(BATCH):
            try:
                packet, source = self.outer.recvfrom(_ROOM)
            except BlockingIOError:
                return
            except OSError:  # an answer by ICMP: it does not listen there any more
                self._go_on(self.outer, self._on_client)
                return
            if source[0] != self._host or (self._port and source[1] != self._port):
                continue
            said = socks.datagram(packet)
            if said is None:
                continue
            self._port, self._client = source[1], source
            self._send(said, packet[said.start :])
            if self.is_over:
                return

    def _send(self, said: socks.Datagram, payload: bytes) -> None:
        route = self._routes.get(said.target)
        if route is None:
            while len(self._routes) >= ROUTES:
                del self._routes[next(iter(self._routes))]
            route = self._routes[said.target] = _Route()
        if route.is_asked:
            if len(route.waiting) < WAITING:
                route.waiting.append(payload)
        elif route.end is not None:
            with contextlib.suppress(OSError):  # no room: lost, as in a full buffer
                route.end.send(route.header + payload, _SEND)
        elif time.monotonic() >= route.until:
            route.is_asked = True
            route.waiting.append(payload)
            eager.run(self._reach(said, route), self._gate.loop, self._gate.tasks)

    async def _reach(self, said: socks.Datagram, route: _Route) -> None:
        try:
            route.end, route.header = await self._way(said.host, said.port)
        except Exception as e:
            self._gate.fault(e, said)
        waiting, route.waiting = route.waiting, []
        route.is_asked = False
        route.until = time.monotonic() + REFUSED_FOR
        for payload in waiting:
            if route.end is not None and not self.is_over:
                with contextlib.suppress(OSError):
                    route.end.send(route.header + payload, _SEND)

    async def _way(self, host: str, port: int) -> tuple[native | None, bytes]:
        """Return by which end, and with which header, datagrams go there; ``None`` and b"" where they may not."""
        known = numbers(host)
        for family in (6 if ":" in each else 4 for each in known) if known else (4, 6):
            if self.is_over:
                break
            id, end = self._ends.get(family) or (0, None)
            if end is None:
                if may_hold(self._gate, self.process, 1) is not None:
                    break
                try:
                    id, end = self._make(family)
                except OSError:
                    break
                self._gate.loop.add_reader(end.fileno(), self._on_gate, family)
            reply = await ask(self._gate, self.process, wire.Reach(id, host, port))
            if "addr" in reply:
                address, number, flow, scope = reply["addr"]
                packed = inet_pton(AF_INET if family == 4 else AF_INET6, address)
                return end, frames.pack(frames.DATA, packed, number, flow, scope)
            if "kind" not in reply:  # refused, or unreachable; where there was no such address the other kind may be
                break
        return None, b""

    # --- to the client ------------------------------------------------------------------------------------------------

    def _on_gate(self, family: int) -> None:
        _, end = self._ends[family]
        for _ in range(BATCH):
            try:
                frame = end.recv(_ROOM, MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                frame = b""
            if not frame:  # killed, or reclaimed
                self.end()
                return
            header = frame[: frames.SIZE]
            if header[0] != frames.DATA:
                self._forget(header)
            elif self._client is not None:
                with contextlib.suppress(OSError):  # no room, or nobody there any more
                    self.outer.sendto(self._head(header) + frame[frames.SIZE :], _SEND, self._client)

    def _head(self, header: bytes) -> bytes:
        head = self._heads.get(header)
        if head is None:
            if len(self._heads) >= ROUTES:
                self._heads.clear()
            _, address, port, _, _ = frames.unpack(header)
            text = inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)
            head = self._heads[header] = socks.header(text, port)
        return head

    def _forget(self, header: bytes) -> None:
        """Ask again about a destination of which the gate says that it is refused by now."""
        if header[0] != frames.REFUSED:
            return
        same = bytes((frames.DATA,)) + header[1:]
        for route in self._routes.values():
            if route.header == same:
                route.end, route.until = None, time.monotonic() + REFUSED_FOR

    def _go_on(self, sock: native, callback: Callable[[], None]) -> None:
        """Watch a socket again that had an error: libuv stops watching it there and then."""
        loop = self._gate.loop
        loop.remove_reader(sock.fileno())
        loop.add_reader(sock.fileno(), callback)

    def end(self) -> None:
        """End it: the client has closed its connection, or the gate has ended its sockets, or goes."""
        if self.is_over:
            return
        self.is_over = True
        gate = self._gate
        self._doors.associations.pop(self, None)
        for sock in (self.control, self.outer, *(end for _, end in self._ends.values())):
            gate.loop.remove_reader(sock.fileno())
            sock.close()
        self.process.channels -= 1
        gate.registry.forget(self.process)
