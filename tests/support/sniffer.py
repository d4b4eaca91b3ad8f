"""See every IP packet that arrives on an interface, and prove at the end that none was missed.

"No packet was sent" can be shown without waiting: :meth:`Watch.flush` sends a marked datagram down the same wire and
reads until it arrives, so whatever was sent before it has been read too, and the kernel's count of dropped packets
(packet(7), ``PACKET_STATISTICS``) must be zero.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
from typing import Callable, NamedTuple

_ETH_P_ALL = 0x0003
_ETH_P_IP = 0x0800
_ETH_P_IPV6 = 0x86DD
# From <linux/if_packet.h>; the socket module has only the packet types.
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_SO_RCVBUFFORCE = 33
_BUFFER = 32 << 20
#: Bytes of a packet that are kept: both headers and the mark of a flush.
_SNAP = 256


class Packet(NamedTuple):
    """What the sniffer keeps of one packet."""

    source: str
    destination: str
    protocol: str  # "tcp", "udp", or the number of another one
    port: int  # the destination's
    opening: bool  # begins something: all but later TCP segments and what IPv6 does of its own accord
    payload: bytes  # of a datagram, cut off


def parse(frame: bytes) -> Packet | None:
    """Read an IPv4 or IPv6 packet without its link header; ``None`` for what is neither or cut short."""
    if len(frame) >= 20 and frame[0] >> 4 == 4:
        protocol, rest = frame[9], frame[(frame[0] & 15) * 4 :]
        source, destination = frame[12:16], frame[16:20]
        # A later fragment has no header of its own protocol.
        if struct.unpack_from("!H", frame, 6)[0] & 0x1FFF:
            rest = b""
    elif len(frame) >= 40 and frame[0] >> 4 == 6:
        protocol, rest = frame[6], frame[40:]
        source, destination = frame[8:24], frame[24:40]
    else:
        return None
    port, opening, payload, name = 0, True, b"", str(protocol)
    if protocol == socket.IPPROTO_TCP and len(rest) >= 14:
        name, port = "tcp", struct.unpack_from("!H", rest, 2)[0]
        opening = rest[13] & 0x12 == 0x02  # SYN without ACK
    elif protocol == socket.IPPROTO_UDP and len(rest) >= 8:
        name, port, payload = "udp", struct.unpack_from("!H", rest, 2)[0], rest[8:]
    elif protocol == socket.IPPROTO_ICMPV6:
        opening = not rest or rest[0] < 130  # 130 to 161: multicast and neighbour discovery (RFC 4443, RFC 4861)
    elif protocol == socket.IPPROTO_HOPOPTS and frame[0] >> 4 == 6:
        opening = False  # multicast listener reports (RFC 3810) are the only packets here that have hop-by-hop options
    of, to = str(ipaddress.ip_address(source)), str(ipaddress.ip_address(destination))
    return Packet(of, to, name, port, opening, payload)


class Watch:
    """The packets that arrive on one interface while this is open; a context manager.

    :param make: makes a socket in the namespace of the interface.
    :param interface: its name.
    :param mark: sends one datagram with the given payload so that it arrives on the interface.
    """

    def __init__(
        self, make: Callable[[int, int, int], socket.socket], interface: str, mark: Callable[[bytes], None]
    ) -> None:
        self._mark = mark
        self._packets: list[Packet] = []
        self._socket = make(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # protocol 0: nothing until it is bound
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.settimeout(10)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def flush(self) -> list[Packet]:
        """Return every packet that arrived so far. Raises ``AssertionError`` if the kernel had to drop one."""
        token = b"outgate-mark " + secrets.token_bytes(16)
        self._mark(token)
        while True:
            frame, (_, protocol, kind, *_) = self._socket.recvfrom(_SNAP)
            if kind == socket.PACKET_OUTGOING or protocol not in (_ETH_P_IP, _ETH_P_IPV6):
                continue
            packet = parse(frame)
            if packet is None:
                continue
            if packet.payload == token:
                break
            if not packet.payload.startswith(b"outgate-mark "):
                self._packets.append(packet)
        dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        assert dropped == 0, f"the sniffer lost {dropped} packets"
        return list(self._packets)

    def to(self, *addresses: str) -> list[Packet]:
        """Return what so far began something with one of these addresses; the end of an older connection is not it."""
        return [packet for packet in self.openings() if packet.destination in addresses]

    def openings(self) -> list[Packet]:
        """Return what so far began something, wherever it went: TCP SYNs, datagrams and anything stranger."""
        return [packet for packet in self.flush() if packet.opening]
