"""Which address ranges are Google's own, for the profile of App Engine: what it blocked beside private ones (S12).

Google publishes what it announces (``goog.json``), its cloud customers' addresses among them, and those separately
(``cloud.json``). App Engine did not count its customers' as Google's. :data:`RANGES` is the first less the large blocks
of the second, as of :data:`DATE`; ``outgate ranges`` makes newer ones of newer files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Any, Final, Union

__all__ = ["CUSTOMERS", "DATE", "RANGES", "SOURCE", "own_ranges", "prefixes"]

Network = Union[IPv4Network, IPv6Network]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SOURCE: Final = "https://www.gstatic.com/ipranges/goog.json"
#: When Google made the list that :data:`RANGES` come from (its ``creationTime``).
DATE: Final = "2023-02-16"

#: The large blocks of Google's cloud customers, taken out where there is no ``cloud.json`` that says it exactly.
CUSTOMERS: Final = _words(
    """
    34.0.0.0/8 35.184.0.0/13 35.192.0.0/10 104.154.0.0/15 104.196.0.0/14 107.178.192.0/18 130.211.0.0/16
    136.112.0.0/12 146.148.0.0/17 2600:1900::/28
    """
)

RANGES: Final = _words(
    """
    8.8.4.0/24 8.8.8.0/24 8.34.208.0/20 8.35.192.0/20 23.236.48.0/20 23.251.128.0/19 64.15.112.0/20 64.233.160.0/19
    66.22.228.0/23 66.102.0.0/20 66.249.64.0/19 70.32.128.0/19 72.14.192.0/18 74.114.24.0/21 74.125.0.0/16
    104.237.160.0/19 107.167.160.0/19 108.59.80.0/20 108.170.192.0/18 108.177.0.0/17 142.250.0.0/15 162.216.148.0/22
    162.222.176.0/21 172.110.32.0/21 172.217.0.0/16 172.253.0.0/16 173.194.0.0/16 173.255.112.0/20 192.158.28.0/22
    192.178.0.0/15 193.186.4.0/24 199.36.154.0/23 199.36.156.0/24 199.192.112.0/22 199.223.232.0/21 207.223.160.0/20
    208.65.152.0/22 208.68.108.0/22 208.81.188.0/22 208.117.224.0/19 209.85.128.0/17 216.58.192.0/19 216.73.80.0/20
    216.239.32.0/19 2001:4860::/32 2404:6800::/32 2404:f340::/32 2606:73c0::/32 2607:f8b0::/32 2620:11a:a000::/40
    2620:120:e000::/40 2800:3f0::/32 2a00:1450::/32 2c0f:fb50::/32
    """
)


def prefixes(published: object) -> list[str]:
    """Return the ranges in a decoded file of the form that Google publishes.

    :raises ValueError: it has another form, or an entry is no range; the text says which.
    """
    entries = published.get("prefixes") if isinstance(published, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError('has no list "prefixes"; is it goog.json or cloud.json?')
    found = []
    for index, entry in enumerate(entries):
        text: Any = None
        if isinstance(entry, Mapping):
            text = entry.get("ipv4Prefix") or entry.get("ipv6Prefix")
        if not isinstance(text, str):
            raise ValueError(f"prefixes[{index}] has neither ipv4Prefix nor ipv6Prefix")
        try:
            found.append(str(ip_network(text)))
        except ValueError as error:
            raise ValueError(f"prefixes[{index}]: {error}") from None
    return found


def own_ranges(announced: Iterable[str], customers: Iterable[str] = CUSTOMERS) -> tuple[str, ...]:
    """Return the ranges of one list less those of the other, joined where they adjoin, IPv4 first, in order.

    >>> own_ranges(["8.8.8.0/24", "34.64.0.0/10", "2001:4860::/32"])
    ('8.8.8.0/24', '2001:4860::/32')
    >>> own_ranges(["192.0.2.0/24"], ["192.0.2.0/26"])
    ('192.0.2.64/26', '192.0.2.128/25')
    """
    left: list[Network] = [ip_network(each) for each in announced]
    for text in customers:
        customer = ip_network(text)
        left = [piece for network in left for piece in _without(network, customer)]
    four = collapse_addresses(each for each in left if isinstance(each, IPv4Network))
    six = collapse_addresses(each for each in left if isinstance(each, IPv6Network))
    return (*map(str, four), *map(str, six))


def _without(network: Any, taken: Any) -> list[Network]:
    if network.version != taken.version or not network.overlaps(taken):
        return [network]
    return [] if network.subnet_of(taken) else list(network.address_exclude(taken))
