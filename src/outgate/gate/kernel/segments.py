"""Estimate what a TCP connection has put on the wire, from the kernel's count of its segments.

Bytes with every retransmission, and for each segment (those without data, too) the headers of IP and TCP. Frames of
the link are not counted, nor is what a tunnel adds.
"""

from __future__ import annotations

import struct
from _socket import IPPROTO_TCP
from _socket import socket as native

_TCP_INFO = 11
#: ``struct tcp_info`` (linux/tcp.h): options at 5, bytes received at 128, segments out and in at 136, bytes sent at 200
#: (with those sent again, since 4.19).
_FIELDS = struct.Struct("=5xB122xQII56xQ")
_TIMESTAMPS = 1
_TCP, _STAMPS = 20, 12
_IP = {4: 20, 6: 40}
#: Headers of a datagram (RFC 768).
_UDP = 8


def read(sock: native, family: int) -> tuple[int, int]:
    """Return the bytes sent and received on the wire. Raises ``OSError`` where the socket is gone.

    :param family: 4 or 6.
    """
    return parse(sock.getsockopt(IPPROTO_TCP, _TCP_INFO, _FIELDS.size), family)


def parse(info: bytes, family: int) -> tuple[int, int]:
    """Return the same from a ``struct tcp_info``. Pure."""
    options, received, segments_out, segments_in, sent = _FIELDS.unpack_from(info)
    header = _IP[family] + _TCP + (_STAMPS if options & _TIMESTAMPS else 0)
    return sent + segments_out * header, received + segments_in * header


def datagrams(count: int, size: int, family: int) -> int:
    """Return the bytes on the wire of datagrams.

    :param size: of all of them together.
    """
    return size + count * (_IP[family] + _UDP)
