"""Attributes of netlink messages."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from outgate.core import netlink


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


@given(st.binary(max_size=40), st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=300))))
def test_each_is_given_without_its_padding(head: bytes, told: list[tuple[int, bytes]]) -> None:
    """Type and value of each come in their order, wherever the first one begins."""
    message = head + b"".join(_attribute(*each) for each in told)
    assert list(netlink.attributes(message, len(head))) == told


def test_one_without_a_length_is_the_end() -> None:
    """What says less than its own head is long leads nowhere; what is cut short gives what there is of it."""
    good = _attribute(1, b"one")
    assert list(netlink.attributes(good + struct.pack("=HH", 3, 2) + good, 0)) == [(1, b"one")]
    assert list(netlink.attributes(good + struct.pack("=HH", 9, 2) + b"two", 0)) == [(1, b"one"), (2, b"two")]
    assert list(netlink.attributes(good + b"\0\0\0", 0)) == [(1, b"one")]
