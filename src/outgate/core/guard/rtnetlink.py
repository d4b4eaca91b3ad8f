"""Write the requests that make the one interface of a guarded program's network, as rtnetlink(7) has them.

``eth0`` is what the program's datagrams go out by, and :data:`FAR_SIDE` the other end of that cable, where the guard
takes them and puts answers in. Nothing else is at that end, so addresses and routes only say: everything is over there.

Sources: netlink(7), rtnetlink(7), ``include/uapi/linux/if_link.h``, ``veth.h``.
"""

from __future__ import annotations

import struct

from outgate.core.netlink import ATTRIBUTE, HEADER, attributes

NEAR_SIDE, FAR_SIDE = "eth0", "gate0"
#: Hardware addresses of the two, and the largest packet: no datagram is too long for one (65,535 of IPv4's length).
NEAR_HARDWARE, FAR_HARDWARE = b"\x02\0\0\0\0\x02", b"\x02\0\0\0\0\x01"
MTU = 65535
#: The program's own addresses, and its gateway's. 192.0.0.0/29 (RFC 7335) means nothing beyond a host; the other is a
#: unique local one (RFC 4193).
NEAR4, GATEWAY4 = bytes((192, 0, 0, 2)), bytes((192, 0, 0, 1))
NEAR6 = b"\xfdoutgat" + bytes(8) + b"\x02"
GATEWAY6 = b"\xfdoutgat" + bytes(8) + b"\x01"

_NEW_LINK, _GET_LINK, _NEW_ADDRESS, _NEW_ROUTE = 16, 18, 20, 24
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_UP, _NO_ARP = 0x1, 0x80
_INET, _INET6 = 2, 10
# Attributes of links, of what a link is, of addresses and of routes.
_HARDWARE, _NAME, _MTU, _QUEUE, _INFO = 1, 3, 4, 6, 18
_KIND, _DATA, _PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _NO_DAD = 1, 2, 0x02
_GATEWAY, _OUT = 5, 4
_TABLE_MAIN, _BY_BOOT, _UNIVERSE, _UNICAST, _ON_LINK = 254, 3, 0, 1, 4


def make_cable() -> bytes:
    """Return the request that makes both ends, down, and where nobody is asked who has an address."""
    peer = _LINK.pack(0, 0, 0, _NO_ARP, _NO_ARP) + _ends(FAR_SIDE, FAR_HARDWARE)
    info = _attribute(_KIND, b"veth") + _attribute(_DATA, _attribute(_PEER, peer))
    body = _LINK.pack(0, 0, 0, _NO_ARP, _NO_ARP) + _ends(NEAR_SIDE, NEAR_HARDWARE)
    return _message(_NEW_LINK, body + _attribute(_INFO, info))


def raise_link(index: int) -> bytes:
    """Return the request that raises an interface; of a cable's ends each needs the other to be there."""
    return _message(_NEW_LINK, _LINK.pack(0, 0, index, _UP, _UP), 0)


def ask_for_link(index: int) -> bytes:
    """Return the request for what :func:`carries` reads."""
    return HEADER.pack(HEADER.size + _LINK.size, _GET_LINK, _REQUEST, 1, 0) + _LINK.pack(0, 0, index, 0, 0)


def carries(answer: bytes) -> bool:
    """Tell whether an interface sends what it is given; one that was just raised throws it away for a while.

    Of a cable's ends the first one is raised without the other: that it is there now the kernel's link watch has to
    see first, which comes round once a second where many interfaces come and go (dev_activate(), noop_qdisc).

    :raises ValueError: that is no answer about a link.
    """
    if len(answer) < HEADER.size + _LINK.size or HEADER.unpack_from(answer)[1] != _NEW_LINK:
        raise ValueError("not an answer of rtnetlink's about a link")
    for kind, value in attributes(answer, HEADER.size + _LINK.size):
        if kind == _QUEUE:
            return value != b"noop\0"
    raise ValueError("a link without a queue")


def add_address(packed: bytes, index: int) -> bytes:
    """Return the request that gives an interface an address.

    :param index: of the interface.
    """
    family, bits = (_INET, 32) if len(packed) == 4 else (_INET6, 128)
    body = _ADDRESS.pack(family, bits, _NO_DAD, 0, index)
    return _message(_NEW_ADDRESS, body + _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed))


def add_default_route(gateway: bytes, index: int) -> bytes:
    """Return the request that routes everything by a gateway at the end of an interface."""
    family = _INET if len(gateway) == 4 else _INET6
    body = _ROUTE.pack(family, 0, 0, 0, _TABLE_MAIN, _BY_BOOT, _UNIVERSE, _UNICAST, _ON_LINK)
    return _message(_NEW_ROUTE, body + _attribute(_GATEWAY, gateway) + _attribute(_OUT, struct.pack("=I", index)))


def error_of(answer: bytes) -> int:
    """Return the errno in an answer to one request, 0 for none. Raises ``ValueError`` for what is no answer."""
    if len(answer) < HEADER.size + 4 or HEADER.unpack_from(answer)[1] != 2:  # NLMSG_ERROR
        raise ValueError("not an answer of rtnetlink's")
    return -int(struct.unpack_from("=i", answer, HEADER.size)[0])


def _ends(name: str, hardware: bytes) -> bytes:
    return (
        _attribute(_NAME, name.encode() + b"\0")
        + _attribute(_HARDWARE, hardware)
        + _attribute(_MTU, struct.pack("=I", MTU))
    )


def _attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, body: bytes, flags: int = _EXCLUSIVE | _CREATE) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body
