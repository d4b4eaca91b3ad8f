"""The sniffer reads packets as the kernel delivers them."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from support.sniffer import Packet, parse

_TCP = struct.pack("!HHIIBBHHH", 40000, 443, 1, 0, 0x50, 0x02, 0, 0, 0)
_UDP = struct.pack("!HHHH", 40000, 53, 11, 0) + b"abc"


def v4(protocol: int, rest: bytes, fragment: int = 0) -> bytes:
    """Make an IPv4 packet (RFC 791) from 192.0.2.1 to 192.0.2.2."""
    ends = ipaddress.ip_address("192.0.2.1").packed + ipaddress.ip_address("192.0.2.2").packed
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(rest), 0, fragment, 64, protocol, 0) + ends + rest


def v6(protocol: int, rest: bytes) -> bytes:
    """Make an IPv6 packet (RFC 8200) from 2001:db8::1 to 2001:db8::2."""
    ends = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::2").packed
    return struct.pack("!IHBB", 0x60000000, len(rest), protocol, 64) + ends + rest


@pytest.mark.parametrize(
    ("frame", "protocol", "port", "opening", "payload"),
    [
        pytest.param(v4(6, _TCP), "tcp", 443, True, b"", id="TCP SYN"),
        pytest.param(v6(6, _TCP), "tcp", 443, True, b"", id="TCP SYN, IPv6"),
        pytest.param(v4(6, _TCP[:13] + b"\x12" + _TCP[14:]), "tcp", 443, False, b"", id="TCP SYN and ACK"),
        pytest.param(v4(6, _TCP[:13] + b"\x11" + _TCP[14:]), "tcp", 443, False, b"", id="TCP FIN"),
        pytest.param(v4(17, _UDP), "udp", 53, True, b"abc", id="UDP"),
        pytest.param(v6(17, _UDP), "udp", 53, True, b"abc", id="UDP, IPv6"),
        pytest.param(v4(17, _UDP, fragment=100), "17", 0, True, b"", id="later fragment"),
        pytest.param(v4(1, b"\x08\0\0\0"), "1", 0, True, b"", id="ping"),
        pytest.param(v6(58, b"\x80\0\0\0"), "58", 0, True, b"", id="ping, IPv6"),
        pytest.param(v6(58, b"\x87\0\0\0"), "58", 0, False, b"", id="neighbour solicitation"),
        pytest.param(v6(0, b"\x3a\0" + bytes(6)), "0", 0, False, b"", id="multicast report"),
        pytest.param(v4(132, bytes(12)), "132", 0, True, b"", id="SCTP"),
    ],
)
def test_a_packet_is_read(frame: bytes, protocol: str, port: int, opening: bool, payload: bytes) -> None:
    """Protocol, destination port and whether something begins are read from the headers."""
    ends = ("192.0.2.1", "192.0.2.2") if frame[0] >> 4 == 4 else ("2001:db8::1", "2001:db8::2")
    assert parse(frame) == Packet(*ends, protocol, port, opening, payload)


@pytest.mark.parametrize("frame", [b"", b"\x45", v4(6, _TCP)[:19], v6(6, _TCP)[:39], b"\x00" * 60])
def test_what_is_no_ip_packet_is_none(frame: bytes) -> None:
    """Something too short or of another version gives no packet, and no exception."""
    assert parse(frame) is None
