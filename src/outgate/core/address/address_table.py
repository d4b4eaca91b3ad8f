"""Which class each special address range has, and who says so.

Made from the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), the IPv6 address space
registry (RFC 4291), and the documentation of cloud providers for the addresses of their metadata services. It is our
own because the standard library's answers (``is_private`` and the like) differ between patch releases of one Python.

The most specific row holds. Where the registry says "globally reachable", the row is public, save the anycast
addresses that the nearest router answers: those are the local network's, not the internet's. Tunnels and translators
(6to4, Teredo, NAT64) are public here, because :mod:`outgate.core.address.addresses` judges what is embedded in them as
well.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PUBLIC: Final = "public"
SHARED: Final = "shared"
PRIVATE: Final = "private"
OWN: Final = "own"
RESERVED: Final = "reserved"
BROADCAST: Final = "broadcast"
MULTICAST: Final = "multicast"
LINK_LOCAL: Final = "link-local"
LOOPBACK: Final = "loopback"
METADATA: Final = "metadata"

#: Every address class, the least restrictive first. Where an address has several (one embedded in another), the last
#: one counts. ``own`` outranks only what it may be made of: the operator's ranges and the host's own addresses are
#: public, shared or private ones; a loopback address stays loopback whoever calls it his own.
CLASSES: Final = (PUBLIC, SHARED, PRIVATE, OWN, RESERVED, BROADCAST, MULTICAST, LINK_LOCAL, LOOPBACK, METADATA)


class Row(NamedTuple):
    """One range: the network in CIDR form, its address class, and the source of that."""

    network: str
    address_class: str
    source: str


_IANA4 = "IANA IPv4 special-purpose registry"
_IANA6 = "IANA IPv6 special-purpose registry"

TABLE: Final = (
    # IPv4. What no row covers is public.
    Row("0.0.0.0/0", PUBLIC, "RFC 791"),
    Row("0.0.0.0/8", RESERVED, f"RFC 791, {_IANA4}: this network"),
    # Linux and others deliver a connect to the unspecified address to the host itself.
    Row("0.0.0.0/32", LOOPBACK, "RFC 1122 section 3.2.1.3: this host"),
    Row("10.0.0.0/8", PRIVATE, "RFC 1918"),
    Row("100.64.0.0/10", SHARED, "RFC 6598: carrier-grade NAT"),
    Row("100.96.0.96/32", METADATA, "Volcano Engine: instance metadata"),
    Row("100.100.100.200/32", METADATA, "Alibaba Cloud: instance metadata"),
    Row("127.0.0.0/8", LOOPBACK, "RFC 1122 section 3.2.1.3"),
    Row("168.63.129.16/32", METADATA, "Azure: WireServer, answers on a public address from inside the host"),
    Row("169.254.0.0/16", LINK_LOCAL, "RFC 3927"),
    Row("169.254.0.23/32", METADATA, "Tencent Cloud: instance metadata"),
    Row("169.254.10.10/32", METADATA, "Tencent Cloud: instance metadata"),
    Row("169.254.42.42/32", METADATA, "Scaleway: instance metadata"),
    Row("169.254.169.254/32", METADATA, "AWS, Google Cloud, Azure, OpenStack and others: instance metadata"),
    Row("169.254.170.2/32", METADATA, "AWS: credentials of an ECS task"),
    Row("169.254.170.23/32", METADATA, "AWS: EKS Pod Identity agent"),
    Row("172.16.0.0/12", PRIVATE, "RFC 1918"),
    # The whole /24 is protocol assignments: DS-Lite, the dummy address, PCP and TURN anycast (192.0.0.9 and .10, which
    # the nearest router answers), DNS64 discovery.
    Row("192.0.0.0/24", RESERVED, f"RFC 6890, {_IANA4}: IETF protocol assignments"),
    Row("192.0.0.192/32", METADATA, "Oracle Cloud Classic: instance metadata"),
    Row("192.0.2.0/24", RESERVED, "RFC 5737: documentation"),
    Row("192.31.196.0/24", PUBLIC, f"RFC 7535, {_IANA4}: AS112-v4, globally reachable"),
    Row("192.52.193.0/24", PUBLIC, f"RFC 7450, {_IANA4}: AMT, globally reachable"),
    Row("192.88.99.0/24", RESERVED, "RFC 7526: deprecated 6to4 relay anycast"),
    Row("192.168.0.0/16", PRIVATE, "RFC 1918"),
    Row("192.175.48.0/24", PUBLIC, f"RFC 7534, {_IANA4}: AS112 service, globally reachable"),
    Row("198.18.0.0/15", RESERVED, "RFC 2544: benchmarking"),
    Row("198.51.100.0/24", RESERVED, "RFC 5737: documentation"),
    Row("203.0.113.0/24", RESERVED, "RFC 5737: documentation"),
    Row("224.0.0.0/4", MULTICAST, "RFC 5771"),
    Row("240.0.0.0/4", RESERVED, "RFC 1112 section 4"),
    Row("255.255.255.255/32", BROADCAST, "RFC 919, RFC 8190"),
    # IPv6. Only 2000::/3 is global unicast; the rest is reserved until IANA says otherwise.
    Row("::/0", RESERVED, "IANA IPv6 address space: reserved by IETF"),
    Row("2000::/3", PUBLIC, "RFC 4291, IANA IPv6 address space: global unicast"),
    Row("::/128", LOOPBACK, "RFC 4291 section 2.5.2; a connect to it reaches the host itself"),
    Row("::1/128", LOOPBACK, "RFC 4291 section 2.5.3"),
    # ::/96 (v4-compatible) and ::ffff:0:0:0/96 (v4-translated) stay reserved, and what they embed is judged too.
    # The kernel dials IPv4 for a v4-mapped address, so this row never decides: the address in it does.
    Row("::ffff:0:0/96", PUBLIC, "RFC 4291 section 2.5.5.2: IPv4-mapped"),
    Row("64:ff9b::/96", PUBLIC, f"RFC 6052, {_IANA6}: NAT64, globally reachable"),
    Row("64:ff9b:1::/48", PRIVATE, "RFC 8215: NAT64 for local use"),
    Row("100::/64", RESERVED, "RFC 6666: discard-only"),
    Row("100:0:0:1::/64", RESERVED, "RFC 9780: dummy prefix"),
    Row("2001::/23", RESERVED, f"RFC 2928, {_IANA6}: IETF protocol assignments"),
    Row("2001::/32", PUBLIC, f"RFC 4380, {_IANA6}: Teredo"),
    # PCP, TURN and DNS-SD SRP anycast (2001:1::1 to ::3) stay reserved: the nearest router answers them.
    Row("2001:3::/32", PUBLIC, f"RFC 7450, {_IANA6}: AMT, globally reachable"),
    Row("2001:4:112::/48", PUBLIC, f"RFC 7535, {_IANA6}: AS112-v6, globally reachable"),
    Row("2001:20::/28", PUBLIC, f"RFC 7343, {_IANA6}: ORCHIDv2, globally reachable"),
    Row("2001:30::/28", PUBLIC, f"RFC 9374, {_IANA6}: drone remote ID, globally reachable"),
    Row("2001:db8::/32", RESERVED, "RFC 3849: documentation"),
    Row("2002::/16", PUBLIC, f"RFC 3056, {_IANA6}: 6to4"),
    Row("2620:4f:8000::/48", PUBLIC, f"RFC 7534, {_IANA6}: AS112 service, globally reachable"),
    Row("3fff::/20", RESERVED, "RFC 9637: documentation"),
    Row("5f00::/16", RESERVED, "RFC 9602: segment routing identifiers"),
    Row("fc00::/7", PRIVATE, "RFC 4193: unique local"),
    Row("fd00:42::42/128", METADATA, "Scaleway: instance metadata"),
    Row("fd00:100::100:200/128", METADATA, "Alibaba Cloud: instance metadata"),
    Row("fd00:a9fe:a9fe::1/128", METADATA, "Akamai (Linode): instance metadata"),
    Row("fd00:c1::a9fe:a9fe/128", METADATA, "Oracle Cloud: instance metadata"),
    Row("fd00:ec2::23/128", METADATA, "AWS: EKS Pod Identity agent"),
    Row("fd00:ec2::254/128", METADATA, "AWS: instance metadata"),
    Row("fd20:ce::254/128", METADATA, "Google Cloud: instance metadata"),
    Row("fe80::/10", LINK_LOCAL, "RFC 4291 section 2.5.6"),
    Row("fe80::a9fe:a9fe/128", METADATA, "OpenStack: instance metadata"),
    Row("fec0::/10", PRIVATE, "RFC 3879: deprecated site-local"),
    Row("ff00::/8", MULTICAST, "RFC 4291 section 2.7"),
)
