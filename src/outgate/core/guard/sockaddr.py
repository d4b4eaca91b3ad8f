"""Read socket addresses as the kernel has them in memory: ``struct sockaddr_in``, ``sockaddr_in6``, ``sockaddr_un``.

Sources: ip(7), ipv6(7), unix(7).
"""

from __future__ import annotations

from typing import NamedTuple

UNSPECIFIED, UNIX, INET, INET6 = 0, 1, 2, 10
#: ``struct sockaddr_storage``; the kernel takes no longer one.
LARGEST = 128
#: The shortest ``sockaddr_in`` and ``sockaddr_in6`` that the kernel takes (SIN6_LEN_RFC2133).
_INET_SIZE, _INET6_SIZE = 16, 24


class Inet(NamedTuple):
    """An address of a network.

    :ivar packed: 4 or 16 bytes.
    :ivar flow: IPv6 flow label, 0 without one.
    :ivar scope: IPv6 scope id, 0 without one.
    """

    packed: bytes
    port: int
    flow: int = 0
    scope: int = 0


class Unix(NamedTuple):
    """An address of a Unix socket.

    :ivar path: as it is written; ``b""`` where there is none.
    :ivar abstract: the name behind the zero byte, ``None`` for a path; ``b""`` has the kernel choose one.
    """

    path: bytes
    abstract: bytes | None = None


class Short(ValueError):
    """There are fewer bytes than the family's address has; the kernel says EINVAL."""


def family_of(raw: bytes) -> int:
    """Return the family that an address says it has. Raises :class:`Short`."""
    if len(raw) < 2:
        raise Short
    return int.from_bytes(raw[:2], "little")


def inet(raw: bytes) -> Inet:
    """Return what is in a ``sockaddr_in``. Raises :class:`Short`."""
    if len(raw) < _INET_SIZE:
        raise Short
    return Inet(raw[4:8], int.from_bytes(raw[2:4], "big"))


def inet6(raw: bytes) -> Inet:
    """Return what is in a ``sockaddr_in6``, whose scope may be missing. Raises :class:`Short`."""
    if len(raw) < _INET6_SIZE:
        raise Short
    flow = int.from_bytes(raw[4:8], "big") & 0xFFFFF
    scope = int.from_bytes(raw[24:28].ljust(4, b"\0"), "little")
    return Inet(raw[8:24], int.from_bytes(raw[2:4], "big"), flow, scope)


def unix(raw: bytes) -> Unix:
    """Return what is in a ``sockaddr_un``. Raises :class:`Short`."""
    if len(raw) < 2:
        raise Short
    name = raw[2:]
    if not name or name[0] == 0:
        return Unix(b"", name[1:])
    return Unix(name.partition(b"\0")[0])


def may_bind(address: Inet) -> bool:
    """Tell whether a program may bind to an address: the wildcard or loopback, at a port of the kernel's choice."""
    if address.port:
        return False
    return is_local(unmapped(address.packed))


def unmapped(packed: bytes) -> bytes:
    """Return the IPv4 address that an IPv6 one stands for to the kernel (``::ffff:a.b.c.d``), else the address."""
    return packed[12:] if packed[:12] == _MAPPED else packed


def is_local(packed: bytes) -> bool:
    """Tell whether an address means the host itself, of whichever network: loopback, or the wildcard."""
    return not any(packed) or packed == _LOOPBACK6 or (len(packed) == 4 and packed[0] == 127)


_MAPPED = bytes(10) + b"\xff\xff"
_LOOPBACK6 = bytes(15) + b"\1"
