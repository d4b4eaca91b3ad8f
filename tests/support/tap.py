"""Count the bytes of TCP connections on a wire, packet by packet as the wire has them, beside whoever else counts."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct
import subprocess
from collections.abc import Iterator

from support.namespaces import Namespace

_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
_SOL_PACKET, _PACKET_STATISTICS, _SO_RCVBUFFORCE = 263, 6, 33
_BUFFER = 64 << 20
_SNAP = 128
#: From <linux/sockios.h> and <linux/ethtool.h>: switch TCP segmentation offload, and its generic form. A veth puts
#: nothing together that comes in.
_SIOCETHTOOL, _OFFLOADS = 0x8946, (0x1F, 0x24)


class Tap:
    """What passes an interface, from the moment that it is made; a context manager.

    :param interface: its name in the namespace.
    :param port: of the server, whose connections are counted.
    """

    def __init__(self, where: Namespace, interface: str, port: int) -> None:
        self._port = port
        self._socket = where.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # protocol 0: nothing until it is bound
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.bind((interface, 3))  # ETH_P_ALL
        self._socket.setblocking(False)
        self._sizes = {True: 0, False: 0}
        #: How many times each piece of data went out and came in, by its place and whose it is.
        self._data: dict[tuple[bool, int, int], int] = {}

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wire(self) -> tuple[int, int]:
        """Return the bytes that went out and came in so far, with the headers of IP and TCP.

        :raises AssertionError: the kernel had to drop a packet before it was seen.
        """
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, (_, protocol, kind, *_) = self._socket.recvfrom(_SNAP)
                if protocol in (_ETH_P_IP, _ETH_P_IPV6):
                    self._take(frame, kind == socket.PACKET_OUTGOING)
        dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        assert dropped == 0, f"the tap lost {dropped} packets"
        return self._sizes[True], self._sizes[False]

    @property
    def repeated(self) -> int:
        """How many segments have been there more than once."""
        return sum(count - 1 for count in self._data.values())

    def _take(self, frame: bytes, is_out: bool) -> None:
        if frame[0] >> 4 == 4:
            size, following, ip = struct.unpack_from("!H", frame, 2)[0], frame[9], (frame[0] & 15) * 4
        else:
            size, following, ip = 40 + struct.unpack_from("!H", frame, 4)[0], frame[6], 40
        if following != socket.IPPROTO_TCP:
            return
        source, destination, sequence = struct.unpack_from("!HHI", frame, ip)
        if self._port not in (source, destination):
            return
        self._sizes[is_out] += size
        if size > ip + (frame[ip + 12] >> 4) * 4:
            key = is_out, source + destination, sequence
            self._data[key] = self._data.get(key, 0) + 1


@contextlib.contextmanager
def cut_up(*places: tuple[Namespace, str]) -> Iterator[None]:
    """Have every segment pass interfaces by itself, as on a wire, and not many in one piece.

    :param places: namespaces, and the interfaces in them.
    """
    _switch(places, on=False)
    try:
        yield
    finally:
        _switch(places, on=True)


def _switch(places: tuple[tuple[Namespace, str], ...], *, on: bool) -> None:
    for where, interface in places:
        with where.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for command in _OFFLOADS:
                value = ctypes.create_string_buffer(struct.pack("II", command, on), 8)
                fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP", interface.encode(), ctypes.addressof(value)))


@contextlib.contextmanager
def losing(where: Namespace, port: int, every: int) -> Iterator[None]:
    """Lose every so manieth segment that arrives for a port."""
    rule = ("INPUT", "-p", "tcp", "--dport", str(port), "-m", "statistic", "--mode", "nth")
    rule += ("--every", str(every), "--packet", str(every - 1), "-j", "DROP")
    subprocess.run(where.command("iptables", "-A", *rule), check=True)
    try:
        yield
    finally:
        subprocess.run(where.command("iptables", "-D", *rule), check=True)
