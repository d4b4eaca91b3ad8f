"""The header between a program and the gate: what goes in comes out, and a destination has one header only."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.formats import frames

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
WORDS = st.integers(0, 0xFFFFFFFF)
HEADERS = st.builds(
    lambda kind, address, port, flow, scope: (kind, address.packed, port, flow, scope),
    st.sampled_from((frames.DATA, frames.REFUSED, frames.FAILED)),
    ADDRESSES,
    st.integers(0, 0xFFFF),
    WORDS,
    WORDS,
)


@given(HEADERS)
def test_what_is_packed_is_unpacked(fields: tuple[int, bytes, int, int, int]) -> None:
    """A header gives back every field that it was made from, and has its fixed length."""
    header = frames.pack(*fields)
    assert len(header) == frames.SIZE
    assert frames.unpack(header) == fields


@given(HEADERS, HEADERS)
def test_two_destinations_have_two_headers(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    """Headers are equal exactly if all their fields are."""
    assert (frames.pack(*one) == frames.pack(*other)) == (one == other)  # type: ignore[arg-type]


@given(st.binary(max_size=40))
def test_what_is_no_header_is_refused(packet: bytes) -> None:
    """Any bytes either raise ValueError or are the very bytes that their fields pack to."""
    try:
        fields = frames.unpack(packet)
    except ValueError:
        return
    assert frames.pack(*fields) == packet


@pytest.mark.parametrize(
    ("at", "value"), [(0, 3), (0, 255), (1, 0), (1, 5), (16, 1), (27, 1)], ids=lambda number: str(number)
)
def test_a_byte_out_of_place_is_refused(at: int, value: int) -> None:
    """An unknown kind, an unknown version and anything behind an IPv4 address make a header invalid."""
    header = bytearray(frames.pack(frames.DATA, bytes((10, 0, 0, 5)), 53))
    header[at] = value
    with pytest.raises(ValueError, match="header"):
        frames.unpack(bytes(header))


@pytest.mark.parametrize("length", [0, 3, 5, 15, 17])
def test_an_address_has_4_or_16_bytes(length: int) -> None:
    """An address of any other length is refused."""
    with pytest.raises(ValueError, match="address"):
        frames.pack(frames.DATA, bytes(length), 53)


@pytest.mark.parametrize("field", ["port", "flow", "scope"])
@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_a_number_out_of_range_is_refused(field: str, value: int) -> None:
    """A number that the header has no room for raises, and is not cut."""
    with pytest.raises(OverflowError):
        frames.pack(frames.DATA, bytes(4), **{"port": 53, field: value})


@pytest.mark.parametrize(
    ("address", "most"),
    [("192.0.2.1", 65507), ("2001:db8::1", 65527), ("::ffff:192.0.2.1", 65507), ("::192.0.2.1", 65527)],
)
def test_the_largest_datagram(address: str, most: int) -> None:
    """IPv4 carries 65,507 bytes in a datagram, in whatever form the address is written, and IPv6 65,527."""
    parsed: IPv4Address | IPv6Address = ip_address(address)
    assert frames.largest(frames.pack(frames.DATA, parsed.packed, 1)) == most
    assert most + frames.SIZE <= frames.MAX_FRAME
