"""Read what the kernel tells of sockets that are no more: the destroy notices of sock_diag(7), since Linux 4.3.

A notice comes when the *last* reference to a socket is gone: every fd that any process has of it, and, for TCP, what
the kernel itself still had to carry to an end. So it says nothing of a socket of which somebody keeps a duplicate. It
has the cookie, the own port, and a TCP socket's last counters.

Whoever is in the network namespace may listen, without any right (``NL_CFG_F_NONROOT_RECV`` of
net/core/sock_diag.c), and hears of all sockets there. It asks nobody, and waits for nobody's lock: there is no holder
any more who could keep one.

Source: linux/inet_diag.h; net/ipv4/inet_diag.c, ``inet_diag_handler_get_info()``.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from outgate.core import netlink

__all__ = ["ROOM", "TCP", "UDP", "Notice", "cookie_of", "parse"]

#: Groups of ``enum sknetlink_groups``, over IPv4 and IPv6.
TCP: Final = (1, 3)
UDP: Final = (2, 4)
#: Bytes that a notice has at most; those of today have 380.
ROOM: Final = 4096

#: In ``struct inet_diag_msg``, behind the header: the own port (in network order) and the cookie.
_PORT_AT, _COOKIE_AT = netlink.HEADER.size + 4, netlink.HEADER.size + 44
_COOKIE = struct.Struct("=Q")
_ATTRIBUTES_AT = netlink.HEADER.size + 72


class Notice(NamedTuple):
    """What is told of a socket that is no more.

    :ivar cookie: SO_COOKIE of it.
    :ivar port: that it was bound to; 0 where it never was.
    :ivar info: the ``struct tcp_info`` of a TCP socket, ``b""`` where none was told.
    """

    cookie: int
    port: int
    info: bytes


def cookie_of(packet: bytes) -> int:
    """Return the cookie in a notice, 0 where it is none; for who hears of many, and wants few."""
    if len(packet) < _ATTRIBUTES_AT:
        return 0
    cookie: int = _COOKIE.unpack_from(packet, _COOKIE_AT)[0]
    return cookie


def parse(packet: bytes) -> Notice | None:
    """Return the notice in a packet of the kernel's, ``None`` where it is none.

    :param packet: as it was received: one message.
    """
    if len(packet) < _ATTRIBUTES_AT or netlink.HEADER.unpack_from(packet)[1] != netlink.BY_FAMILY:
        return None
    port = int.from_bytes(packet[_PORT_AT : _PORT_AT + 2], "big")
    told = dict(netlink.attributes(packet, _ATTRIBUTES_AT))
    return Notice(cookie_of(packet), port, told.get(netlink.INFO, b""))
