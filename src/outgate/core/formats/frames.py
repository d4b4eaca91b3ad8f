"""Put a header on every datagram between a program and the gate: whom it goes to or comes from.

A UDP socket of a program is one end of a Unix ``SOCK_SEQPACKET`` pair, so each datagram is one packet with a boundary
of its own, and an end that closes is noticed by the other. A packet is a header of :data:`SIZE` bytes and the payload::

    kind  version  port  flow  scope  address
      1      1       2     4     4      16      bytes, big-endian; an IPv4 address is followed by zeros

A destination has exactly one header, which is therefore its name in the tables of both sides. Standard library only,
Python 3.9+, and no import at all: the client uses it.
"""

from __future__ import annotations

__all__ = ["DATA", "FAILED", "MAX_FRAME", "REFUSED", "SIZE", "largest", "pack", "unpack"]

#: Bytes of a header.
SIZE = 28
#: What a packet is: a datagram; word that the gate refuses its address (ask, and it says why); or the number of an
#: error that the network reported, in the place of the flow.
DATA, REFUSED, FAILED = range(3)

#: The longest payloads: 65,535 bytes of an IPv4 packet (RFC 791) less its header and UDP's, or of an IPv6 payload (RFC
#: 8200) less UDP's.
_LARGEST_4 = 65507
_LARGEST_6 = 65527
#: Room for every packet.
MAX_FRAME = SIZE + _LARGEST_6

_LENGTH = {4: 4, 6: 16}
_MAPPED = bytes(10) + b"\xff\xff"


def pack(kind: int, address: bytes, port: int, flow: int = 0, scope: int = 0) -> bytes:
    """Return a header.

    :param kind: :data:`DATA`, :data:`REFUSED` or :data:`FAILED`.
    :param address: as ``inet_pton`` gives it, 4 or 16 bytes.
    :param flow: the IPv6 flow information; of :data:`FAILED` the error's number.
    :raises ValueError, OverflowError: an address of another length, a number out of range.
    """
    version = 4 if len(address) == 4 else 6
    if len(address) != _LENGTH[version]:
        raise ValueError(f"an address of {len(address)} bytes")
    return b"".join(
        (
            bytes((kind, version)),
            port.to_bytes(2, "big"),
            flow.to_bytes(4, "big"),
            scope.to_bytes(4, "big"),
            address.ljust(16, b"\0"),
        )
    )


def unpack(header: bytes) -> tuple[int, bytes, int, int, int]:
    """Return (kind, address, port, flow, scope).

    :raises ValueError: for what :func:`pack` does not make, so that no destination has two headers.
    """
    if len(header) != SIZE:
        raise ValueError(f"a header of {len(header)} bytes")
    kind, version = header[0], header[1]
    length = _LENGTH.get(version)
    if kind > FAILED or length is None or any(header[12 + length :]):
        raise ValueError("not a header")
    number = int.from_bytes
    return (
        kind,
        header[12 : 12 + length],
        number(header[2:4], "big"),
        number(header[4:8], "big"),
        number(header[8:12], "big"),
    )


def largest(header: bytes) -> int:
    """Return how many bytes a datagram with this header may carry; the kernel says EMSGSIZE beyond."""
    return _LARGEST_4 if header[1] == 4 or header[12:24] == _MAPPED else _LARGEST_6
