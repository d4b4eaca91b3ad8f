"""The address table itself: well formed, sourced, and complete against the registries' special ranges."""

from ipaddress import ip_network

import pytest

from outgate.core.address.address_table import CLASSES, TABLE, Row
from support.examples import words

# Ranges of the two IANA special-purpose registries that are not globally reachable, and the multicast ones.
SPECIAL = words("""
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29 192.0.0.8/32
192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
224.0.0.0/4 240.0.0.0/4 255.255.255.255/32
::1/128 ::/128 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001:2::/48 2001:10::/28 2001:db8::/32 3fff::/20
5f00::/16 fc00::/7 fe80::/10 ff00::/8
""")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.network)
def test_row(row: Row) -> None:
    """A row is a canonical network, a known class, and a source in words."""
    # From Python 3.13 on mapped addresses are written with a dotted quad.
    assert str(ip_network(row.network)).replace("::ffff:0.0.0.0/", "::ffff:0:0/") == row.network
    assert row.address_class in CLASSES
    assert len(row.source) >= len("RFC 791")


def test_no_network_twice() -> None:
    """No network has two rows."""
    networks = [row.network for row in TABLE]
    assert len(set(networks)) == len(networks)


def test_both_versions_are_covered() -> None:
    """Every IPv4 and every IPv6 address has a row."""
    assert {"0.0.0.0/0", "::/0"} <= {row.network for row in TABLE}


@pytest.mark.parametrize("special", SPECIAL)
def test_no_special_range_is_public(special: str) -> None:
    """The row that holds for a special range of the registries, and every row inside it, is not public."""
    network = ip_network(special)
    rows = [(ip_network(row.network), row) for row in TABLE]
    around = [(net, row) for net, row in rows if net.version == network.version and network.subnet_of(net)]
    inside = [(net, row) for net, row in rows if net.version == network.version and net.subnet_of(network)]
    assert max(around, key=lambda pair: pair[0].prefixlen)[1].address_class != "public"
    assert all(row.address_class != "public" for _, row in inside)
