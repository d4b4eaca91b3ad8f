"""A network with a delay."""

from __future__ import annotations

import socket

from bench import away


def test_exchanging_addresses_leaves_the_checksum_valid():
    """Source and destination change places, and the checksum of the header still holds."""
    packet = bytearray(20)
    packet[0] = 0x45
    packet[12:16], packet[16:20] = socket.inet_aton(away.HERE), socket.inet_aton(away.AWAY)
    packet[10:12] = _checksum(packet).to_bytes(2, "big")
    back = away.exchanged(bytes(packet) + b"data")
    assert (back[12:16], back[16:20]) == (packet[16:20], packet[12:16])
    assert back[20:] == b"data"
    assert _checksum(back[:20]) == 0


def _checksum(header: bytes) -> int:
    """Return the checksum of RFC 1071."""
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
