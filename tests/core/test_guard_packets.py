"""Addresses and packets as the kernel has them: read, made, and never taken for something else."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.guard import datagram, rtnetlink, sockaddr
from outgate.core.guard.datagram import Datagram
from outgate.core.guard.sockaddr import Inet, Short, Unix

PORTS = st.integers(0, 65535)
FOURS, SIXES = st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)
PAYLOADS = st.binary(max_size=2000)


def _pair(addresses: st.SearchStrategy[bytes]) -> st.SearchStrategy[Datagram]:
    return st.builds(Datagram, addresses, PORTS, addresses, PORTS, PAYLOADS)


DATAGRAMS = _pair(FOURS) | _pair(SIXES)


@given(DATAGRAMS)
def test_a_packet_has_its_datagram(one: Datagram) -> None:
    """What is put into a packet comes out of it."""
    assert datagram.parse(datagram.build(one)) == one


@given(DATAGRAMS)
def test_checksums_add_up(one: Datagram) -> None:
    """By the rule of RFC 1071, said word by word: the sum over what a checksum covers is all ones."""
    packet = datagram.build(one)
    start = 20 if len(one.source) == 4 else 40
    if start == 20:
        assert _sum(packet[:20]) == 0xFFFF
    pseudo = one.source + one.target + struct.pack("!II", len(packet) - start, 17)
    assert _sum(pseudo + packet[start:]) == 0xFFFF
    assert packet[start + 6 : start + 8] != bytes(2)


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(DATAGRAMS, st.sampled_from([errno.EACCES, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EIO]))
def test_an_error_quotes_the_datagram(one: Datagram, number: int) -> None:
    """An ICMP packet comes from where the datagram went, with its addresses and ports, and no bad checksum."""
    packet = datagram.unreachable(one, number)
    start = 20 if len(one.source) == 4 else 40
    assert datagram.parse(packet) is None
    assert packet[start - 2 * len(one.source) : start] == one.target + one.source
    quoted = packet[start + 8 :]
    ports = struct.unpack_from("!HH", quoted, start)
    assert (quoted[start - 2 * len(one.source) : start], ports) == (
        one.source + one.target,
        (one.source_port, one.target_port),
    )
    pseudo = one.target + one.source + struct.pack("!II", len(packet) - start, 58) if start == 40 else b""
    assert _sum(pseudo + packet[start:]) == 0xFFFF


@given(st.binary(max_size=100))
def test_rubbish_is_no_datagram(packet: bytes) -> None:
    """Whatever bytes arrive, there is a datagram in them or none, and never an error."""
    found = datagram.parse(packet)
    assert found is None or len(found.payload) <= len(packet)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(9, 6), (9, 1), (6, 0x20), (7, 1), (0, 0x44), (0, 0x55), (2, 0xFF), (25, 7), (24, 0xFF)],
    ids=["tcp", "icmp", "more fragments", "a fragment", "header", "version", "length", "short udp", "long udp"],
)
def test_what_is_not_a_whole_datagram(offset: int, value: int) -> None:
    """Other protocols, pieces, and lengths that do not agree are nothing."""
    packet = bytearray(datagram.build(Datagram(bytes(4), 1, bytes(4), 2, b"payload")))
    packet[offset] = value
    assert datagram.parse(bytes(packet)) is None


def test_a_routed_packet_is_nothing() -> None:
    """IPv6 with another header before UDP's, such as one that routes, is not read: it goes nowhere."""
    packet = bytearray(datagram.build(Datagram(bytes(16), 1, bytes(16), 2, b"payload")))
    packet[6] = 43
    assert datagram.parse(bytes(packet)) is None


def test_inet() -> None:
    """Addresses are read as the kernel's own functions write them."""
    raw = struct.pack("=H", socket.AF_INET) + b"\x00\x50" + bytes((192, 0, 2, 1)) + bytes(8)
    assert sockaddr.family_of(raw) == socket.AF_INET
    assert sockaddr.inet(raw) == Inet(bytes((192, 0, 2, 1)), 80)
    raw = struct.pack("=H", socket.AF_INET6) + b"\x01\xbb" + b"\xff\xf1\x23\x45" + bytes(15) + b"\x01"
    assert sockaddr.inet6(raw) == Inet(bytes(15) + b"\x01", 443, 0x12345, 0)
    assert sockaddr.inet6(raw + struct.pack("=I", 7)).scope == 7


@pytest.mark.parametrize("size", range(28))
def test_a_short_address(size: int) -> None:
    """What the kernel finds too short is too short."""
    for read, least in ((sockaddr.inet, 16), (sockaddr.inet6, 24), (sockaddr.family_of, 2), (sockaddr.unix, 2)):
        if size < least:
            with pytest.raises(Short):
                read(bytes(size))
        else:
            read(bytes(size))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"/run/a.sock\0rest", Unix(b"/run/a.sock")),
        (b"relative", Unix(b"relative")),
        (b"\0abstract\0name", Unix(b"", b"abstract\0name")),
        (b"", Unix(b"", b"")),
    ],
)
def test_unix(name: bytes, expected: Unix) -> None:
    """A path ends at its first zero byte; an abstract name begins with one and may have more."""
    assert sockaddr.unix(b"\1\0" + name) == expected


@pytest.mark.parametrize(
    ("host", "port", "may"),
    [
        ("0.0.0.0", 0, True),
        ("127.0.0.1", 0, True),
        ("::", 0, True),
        ("::1", 0, True),
        ("::ffff:127.0.0.1", 0, True),
        ("0.0.0.0", 80, False),
        ("127.0.0.1", 80, False),
        ("192.0.2.1", 0, False),
        ("::ffff:192.0.2.1", 0, False),
        ("fe80::1", 0, False),
    ],
)
def test_may_bind(host: str, port: int, may: bool) -> None:
    """The wildcard and loopback, at a port of the kernel's choice."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    assert sockaddr.may_bind(Inet(packed, port)) == may


def test_answers_of_rtnetlink() -> None:
    """The errno in an answer is told, 0 for none; anything else is no answer."""
    assert rtnetlink.error_of(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)) == 1
    assert rtnetlink.error_of(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, 0)) == 0
    for rubbish in (b"", bytes(16), struct.pack("=IHHIIi", 20, 3, 0, 1, 0, 0)):
        with pytest.raises(ValueError, match="not an answer"):
            rtnetlink.error_of(rubbish)


def test_a_link_that_was_just_raised_carries_nothing() -> None:
    """Until the kernel has given it a queue, which stands among other attributes."""
    head = struct.pack("=IHHII", 0, 16, 0, 1, 0) + bytes(16)
    name = struct.pack("=HH6s2x", 10, 3, b"gate0\0")
    for queue, carries in ((b"noop\0", False), (b"noqueue\0", True)):
        answer = head + name + struct.pack("=HH", 4 + len(queue), 6) + queue
        assert rtnetlink.carries(answer) is carries
    for rubbish in (b"", head, head + name, head + bytes(3), struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1) + bytes(20)):
        with pytest.raises(ValueError, match="link"):
            rtnetlink.carries(rubbish)


def test_requests_of_rtnetlink_say_their_length() -> None:
    """Each request begins with its own length, and is padded to four bytes."""
    for request in (
        rtnetlink.make_cable(),
        rtnetlink.raise_link(2),
        rtnetlink.ask_for_link(2),
        rtnetlink.add_address(rtnetlink.NEAR4, 2),
        rtnetlink.add_address(rtnetlink.NEAR6, 2),
        rtnetlink.add_default_route(rtnetlink.GATEWAY6, 2),
    ):
        assert struct.unpack_from("=I", request) == (len(request),)
        assert len(request) % 4 == 0
    assert (len(rtnetlink.NEAR6), len(rtnetlink.GATEWAY6)) == (16, 16)
