"""Carry the datagrams of guarded programs between the cable of their network and the gate.

A program's UDP sockets are native, of its own network, whose only way out is a cable
(:mod:`outgate.core.guard.rtnetlink`) with the guard at the other end. Each port that sends something is a UDP socket of
the gate's, one end of a pair of Unix sockets (:mod:`outgate.core.formats.frames`): the gate judges, counts and carries
every datagram as it does a client's, and answers itself at port 53 of the host's name servers. What it refuses, or the
network, comes back as ICMP.

:meth:`Udp.on_packets` is the one to read first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from _socket import AF_INET, AF_INET6, MSG_DONTWAIT, inet_ntop, inet_pton
from _socket import socket as native
from collections.abc import Callable, Sequence
from functools import partial

from outgate.core import notices
from outgate.core.formats import frames, messages
from outgate.core.guard import datagram, rtnetlink, sockaddr
from outgate.core.guard.datagram import Datagram
from outgate.guard.supervision import tasks
from outgate.guard.supervision.loop import Loop, seconds_until
from outgate.guard.supervision.member import Member, Refused
from outgate.guard.supervision.network import Network
from outgate.guard.supervision.tree import Tree

#: Packets that are taken in one turn of the loop.
_BATCH = 64
#: Seconds between looks which ports are still somebody's: where nothing has told of a close yet, so that perhaps
#: nothing does; and where the kernel tells of each, but when it lacks memory to.
_LOOK, _RARE = 1.0, 30.0
#: Seconds from a notice to the look: what was sent before the close has come out of the cable by then.
_GRACE = 0.02
_ROOM = rtnetlink.MTU + 1
_ETH_P = {4: 0x0800, 6: 0x86DD}
_DNS = 53


class Flow:
    """One port of the program's network, as a socket of the gate's.

    :ivar end: our end of its pair.
    :ivar inodes: the program's sockets at that port; one may be closed, and another open at the same port.
    :ivar source: the address and port that its datagrams come from.
    :ivar deliver: what takes an answer: a datagram to the source.
    """

    __slots__ = ("deliver", "end", "id", "inodes", "member", "source")

    def __init__(self, member: Member, id: int, end: native, inodes: set[int]) -> None:
        self.member = member
        self.id = id
        self.end = end
        self.inodes = inodes
        self.source = b"", 0
        self.deliver: Callable[[bytes], None] = _nowhere


def _nowhere(packet: bytes) -> None:
    pass


class Udp:
    """The UDP sockets of one tree.

    :param ends: of the cable, IPv4's and IPv6's.
    :param closes: what tells of sockets of that network that are no more, if the kernel does.
    :param servers: sockets at loopback addresses of the program's network, where the host has name servers.
    """

    def __init__(
        self,
        loop: Loop,
        tree: Tree,
        network: Network,
        ends: Sequence[native],
        closes: Sequence[native],
        servers: Sequence[native],
    ) -> None:
        self._loop = loop
        self._tree = tree
        self._network = network
        self._ends = dict(zip((4, 6), ends, strict=True))
        self._flows: dict[tuple[int, int], Flow] = {}
        self._next = 0.0
        self._pause = _LOOK
        for each in closes:
            loop.watch(each.fileno(), select.EPOLLIN, partial(self._on_notices, each))
        for version, end in self._ends.items():
            loop.watch(end.fileno(), select.EPOLLIN, partial(self.on_packets, version))
        for server in servers:
            loop.watch(server.fileno(), select.EPOLLIN, partial(self._on_question, server))
        loop.look(self._look)

    # --- from the program ---------------------------------------------------------------------------------------------

    def on_packets(self, version: int) -> None:
        """Take packets from the cable, and have the gate carry the datagrams in them; at most a batch."""
        end = self._ends[version]
        for _ in range(_BATCH):
            try:
                packet = end.recv(_ROOM, MSG_DONTWAIT)
            except OSError:
                return
            found = datagram.parse(packet)
            if found is None or _is_multicast(found.target):
                continue  # neighbours are looked for, groups joined: there is nobody
            flow = self._flow_of(version, found)
            if flow is not None:
                self._send(flow, found)

    def _flow_of(self, version: int, found: Datagram) -> Flow | None:
        key = version, found.source_port
        flow = self._flows.get(key)
        if flow is None:
            holder = self._network.holder(found.source_port)
            if holder is None:
                return None  # closed by now
            try:
                flow = self._make(self._tree.member(holder.process), version, holder.inodes)
            except (Refused, OSError) as e:
                number = e.number if isinstance(e, Refused) else errno.EACCES
                self._put(version, datagram.unreachable(found, number))
                return None
            self._begin(key, flow)
        if flow.source[0] != found.source:
            flow.source = found.source, found.source_port
        return flow

    def _send(self, flow: Flow, found: Datagram) -> None:
        with contextlib.suppress(OSError):  # no room: lost, as in any network; ended: its next look says so
            flow.end.send(frames.pack(frames.DATA, found.target, found.target_port) + found.payload, MSG_DONTWAIT)

    def _on_question(self, server: native) -> None:
        """Take a question to a name server at a loopback address."""
        try:
            payload, source = server.recvfrom(_ROOM, MSG_DONTWAIT)
        except OSError:
            return
        version = 4 if server.family == AF_INET else 6
        address = server.getsockname()[0]
        key = -version, source[1]
        flow = self._flows.get(key)
        if flow is None:
            holder = self._network.holder(source[1])
            if holder is None:
                return
            try:
                flow = self._make(self._tree.member(holder.process), version, holder.inodes)
            except (Refused, OSError):
                return
            self._begin(key, flow)
        flow.deliver = partial(_answer, server, source)
        packed = inet_pton(server.family, address)
        self._send(flow, Datagram(b"", 0, packed, _DNS, payload))

    # --- to the program -----------------------------------------------------------------------------------------------

    def _on_frames(self, key: tuple[int, int], flow: Flow) -> None:
        version = abs(key[0])
        for _ in range(_BATCH):
            try:
                packet = flow.end.recv(frames.MAX_FRAME, MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:  # the gate has ended it, or has ended
                self._end(key, flow)
                return
            kind, address, port, number, _ = frames.unpack(packet[: frames.SIZE])
            if kind == frames.DATA:
                payload = packet[frames.SIZE :]
                if key[0] < 0:
                    flow.deliver(payload)
                else:
                    self._put(version, datagram.build(Datagram(address, port, *flow.source, payload)))
            elif key[0] > 0:
                told = Datagram(*flow.source, address, port, b"")
                self._put(version, datagram.unreachable(told, number if kind == frames.FAILED else errno.EACCES))

    def _put(self, version: int, packet: bytes) -> None:
        to = (rtnetlink.FAR_SIDE, _ETH_P[version], 0, 0, rtnetlink.NEAR_HARDWARE)
        with contextlib.suppress(OSError):  # no room
            self._ends[version].sendto(packet, MSG_DONTWAIT, to)

    # --- connect ------------------------------------------------------------------------------------------------------

    def connect(self, process: int, sock: native, raw: bytes) -> int:
        """Connect a program's UDP socket, if the gate lets it reach that, and return the answer.

        :param sock: a duplicate, of the program's network.
        :param raw: the address.
        :raises Refused: what the gate says.
        """
        family = sockaddr.family_of(raw)
        if family in (AF_INET, AF_INET6) and not (sock.family == AF_INET and family == AF_INET6):
            target = sockaddr.inet(raw) if family == AF_INET else sockaddr.inet6(raw)
            packed = sockaddr.unmapped(target.packed)
            if not sockaddr.is_local(packed) and not _is_multicast(packed):
                return self._connect(process, sock, raw, target._replace(packed=packed))
        return tasks.connect(sock.fileno(), raw)

    def _connect(self, process: int, sock: native, raw: bytes, target: sockaddr.Inet) -> int:
        member = self._tree.member(process)
        version = 4 if len(target.packed) == 4 else 6
        port = sock.getsockname()[1]
        flow = self._flows.get((version, port)) if port else None
        fresh = flow is None
        if flow is None:
            flow = self._make(member, version, set())
        flow.inodes.add(os.fstat(sock.fileno()).st_ino)
        host = inet_ntop(AF_INET if version == 4 else AF_INET6, target.packed)
        try:
            reply = flow.member.request(
                {"op": messages.REACH, "sock": flow.id, "host": host, "port": target.port, "connect": True}
            )
        except Refused:
            if fresh:
                flow.end.close()
            raise
        number = -int(reply["errno"]) if "errno" in reply else tasks.connect(sock.fileno(), raw)
        if fresh and number:
            flow.end.close()
        elif fresh:
            self._begin((version, sock.getsockname()[1]), flow)
        return number

    # --- flows --------------------------------------------------------------------------------------------------------

    def _make(self, member: Member, version: int, inodes: set[int]) -> Flow:
        id, fd = member.make_udp(version)
        return Flow(member, id, native(fileno=fd), inodes)

    def _begin(self, key: tuple[int, int], flow: Flow) -> None:
        before = self._flows.get(key)
        if before is not None:
            self._end(key, before)
        self._flows[key] = flow
        self._loop.watch(flow.end.fileno(), select.EPOLLIN, partial(self._on_frames, key, flow))
        if len(self._flows) == 1:
            self._loop.hurry()

    def _end(self, key: tuple[int, int], flow: Flow) -> None:
        if self._flows.get(key) is flow:
            del self._flows[key]
        if flow.end.fileno() >= 0:
            self._loop.forget(flow.end.fileno())
            flow.end.close()

    def _on_notices(self, closes: native) -> None:
        """Look soon if a port is told of that has a flow, or what was told has been lost."""
        ports = {port for _, port in self._flows}
        is_due = False
        for _ in range(_BATCH):
            try:
                told = notices.parse(closes.recv(notices.ROOM, MSG_DONTWAIT))
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: more than there was room for
                is_due = True
                continue
            self._pause = _RARE
            is_due = is_due or (told is not None and told.port in ports)
        if is_due:
            self._next = min(self._next, time.monotonic() + _GRACE)

    def _look(self) -> float | None:
        """End the flows whose sockets are no more."""
        if not self._flows:
            return None
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._pause
            inodes = self._network.inodes()
            for key, flow in list(self._flows.items()):
                if not flow.inodes & inodes:
                    self._end(key, flow)
        return seconds_until(self._next)


def _answer(server: native, to: tuple[object, ...], payload: bytes) -> None:
    with contextlib.suppress(OSError):
        server.sendto(payload, MSG_DONTWAIT, to)


def _is_multicast(packed: bytes) -> bool:
    return packed[0] == 0xFF if len(packed) == 16 else packed[0] & 0xF0 == 0xE0
