"""Take datagrams out of IP packets and put them in, and say in ICMP what became of one.

Only what a program's own kernel sends over the cable of its network (:mod:`.rtnetlink`) comes here: whole packets,
since none is too long for it, without options that lead elsewhere, since nobody reads them.

Sources: RFC 768, 791, 792, 1071, 4443, 8200.
"""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

_UDP, _ICMP, _ICMP6 = 17, 1, 58
_IP4 = struct.Struct("!BBHHHBBH4s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_PORTS = struct.Struct("!HHHH")
_HOPS = 64
#: errno → ICMP's code under "destination unreachable", and ICMPv6's. What policy refused is "administratively
#: prohibited" in both; IPv6 gives the program EACCES for it, IPv4 EHOSTUNREACH.
_CODES = {
    errno.ENETUNREACH: (0, 0),
    errno.EHOSTUNREACH: (1, 3),
    errno.ECONNREFUSED: (3, 4),
    errno.EACCES: (13, 1),
}


class Datagram(NamedTuple):
    """A UDP datagram and its way; addresses are packed, 4 or 16 bytes."""

    source: bytes
    source_port: int
    target: bytes
    target_port: int
    payload: bytes


def parse(packet: bytes) -> Datagram | None:
    """Return the datagram in an IP packet, ``None`` for one that has none: other protocols, fragments, rubbish."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 28:
        start, fragment, protocol = (packet[0] & 15) * 4, packet[6:8], packet[9]
        end, source, target = int.from_bytes(packet[2:4], "big"), packet[12:16], packet[16:20]
        if start < 20 or fragment[0] & 0x3F or fragment[1]:
            return None
    elif version == 6 and len(packet) >= 48:
        start, protocol = 40, packet[6]
        end, source, target = 40 + int.from_bytes(packet[4:6], "big"), packet[8:24], packet[24:40]
    else:
        return None
    if protocol != _UDP or not start + 8 <= end <= len(packet):
        return None
    source_port, target_port, size, _ = _PORTS.unpack_from(packet, start)
    if not 8 <= size <= end - start:
        return None
    return Datagram(source, source_port, target, target_port, packet[start + 8 : start + size])


def build(datagram: Datagram) -> bytes:
    """Return the IP packet of a datagram, with its checksums."""
    source, source_port, target, target_port, payload = datagram
    size = 8 + len(payload)
    udp = _PORTS.pack(source_port, target_port, size, 0) + payload
    total = checksum(source + target + struct.pack("!II", size, _UDP) + udp) or 0xFFFF
    return _ip(source, target, _UDP, udp[:6] + total.to_bytes(2, "big") + payload)


def unreachable(datagram: Datagram, number: int) -> bytes:
    """Return the ICMP packet that tells a datagram's sender of an error.

    :param datagram: of which the payload does not matter.
    :param number: the errno; one that ICMP has no word for is "host unreachable".
    """
    source, source_port, target, target_port, payload = datagram
    start = _ip(source, target, _UDP, _PORTS.pack(source_port, target_port, 8 + len(payload), 0))
    code4, code6 = _CODES.get(number, _CODES[errno.EHOSTUNREACH])
    if len(source) == 4:
        body = struct.pack("!BBHI", 3, code4, 0, 0) + start
        return _ip(target, source, _ICMP, body[:2] + checksum(body).to_bytes(2, "big") + body[4:])
    body = struct.pack("!BBHI", 1, code6, 0, 0) + start
    total = checksum(target + source + struct.pack("!II", len(body), _ICMP6) + body)
    return _ip(target, source, _ICMP6, body[:2] + total.to_bytes(2, "big") + body[4:])


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071): as a number in the ring of one's complement, the whole is one remainder.

    >>> hex(checksum(bytes.fromhex("45000073000040004011 0000 c0a80001c0a800c7")))
    '0xb861'
    """
    whole = int.from_bytes(data + b"\0" if len(data) % 2 else data, "big")
    remainder = whole % 0xFFFF
    return 0xFFFF - (remainder or (0xFFFF if whole else 0))


def _ip(source: bytes, target: bytes, protocol: int, body: bytes) -> bytes:
    if len(source) == 16:
        return _IP6.pack(6 << 28, len(body), protocol, _HOPS, source, target) + body
    head = _IP4.pack(0x45, 0, 20 + len(body), 0, 0x4000, _HOPS, protocol, 0, source, target)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body
