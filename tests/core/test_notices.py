"""Notices of sockets that are no more, as the kernel writes them."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from outgate.core import notices

_HEADER = struct.Struct("=IHHII")
COOKIES, PORTS = st.integers(0, 2**64 - 1), st.integers(0, 65535)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _packet(cookie: int, port: int, *attributes: tuple[int, bytes], kind: int = 20) -> bytes:
    body = struct.pack(">BBBBH", 2, 7, 0, 0, port).ljust(44, b"\0") + struct.pack("=Q", cookie)
    body = body.ljust(72, b"\0") + b"".join(_attribute(*each) for each in attributes)
    return _HEADER.pack(_HEADER.size + len(body), kind, 0, 0, 0) + body


@given(COOKIES, PORTS, st.binary(max_size=300))
def test_a_notice_is_read(cookie: int, port: int, info: bytes) -> None:
    """Cookie, port and counters come out, whatever attributes stand before and behind."""
    packet = _packet(cookie, port, (10, b"\x06"), (2, info), (99, b"later"))
    assert notices.parse(packet) == notices.Notice(cookie, port, info)
    assert notices.cookie_of(packet) == cookie
    assert len(packet) < notices.ROOM


def test_a_notice_of_udp() -> None:
    """It has no counters."""
    assert notices.parse(_packet(7, 53, (10, b"\x11"))) == notices.Notice(7, 53, b"")


def test_what_is_no_notice() -> None:
    """Another type of message, and one that is too short, are none."""
    assert notices.parse(_packet(7, 53, kind=2)) is None
    assert notices.parse(_packet(7, 53)[:-1]) is None
    assert notices.cookie_of(_packet(7, 53)[:-1]) == 0


@given(st.binary(max_size=500), st.binary(max_size=100))
def test_any_bytes(packet: bytes, rest: bytes) -> None:
    """Whatever comes is a notice or none, and no error."""
    for each in (packet, _packet(1, 1) + rest):
        notices.cookie_of(each)
        notices.parse(each)
