"""Find the first of many rules that matches an address or name and a port, without looking at each.

Rules are kept by prefix length and network or by name and suffix, and the ports of one target as a sorted line of
segments; so a look-up costs one dict access for each prefix length in use or label of the name, and one bisection for
each target that matches, whether there are ten rules or ten thousand.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from outgate.core.address.addresses import BITS, Judged
from outgate.core.name.names import parents
from outgate.core.policy.rules import ALL_PORTS, TCP, UDP, Ports, Rule

__all__ = ["PERMIT", "REFUSE", "Buckets", "PortMap", "RuleIndex", "port_map", "turning_ports"]

#: How a rule matches: every class of the address must be in the rule's, and only the address dialled counts …
PERMIT: Final = "permit"
#: … or one class of it is enough, and so is any address embedded in it.
REFUSE: Final = "refuse"

_Entry = tuple[int, Rule]


class PortMap(NamedTuple):
    """Port → number of the first rule that has it: ``firsts[i]`` holds from ``starts[i]`` on."""

    starts: tuple[int, ...]
    firsts: tuple[int, ...]


def port_map(entries: Sequence[tuple[int, Ports]], none: int) -> PortMap:
    """Lay the ranges of each (number, ports) out on one line; the lowest number wins where they overlap."""
    if len(entries) == 1 and entries[0][1] == ALL_PORTS:  # nearly every rule: no need to sort anything
        return PortMap((0,), (entries[0][0],))
    spans = sorted((low, high, number) for number, ports in entries for low, high in ports)
    edges = sorted({0}.union(*((low, high + 1) for low, high, _ in spans)))
    starts: list[int] = []
    firsts: list[int] = []
    open_spans: list[tuple[int, int]] = []
    at = 0
    for edge in edges:
        while at < len(spans) and spans[at][0] <= edge:
            heapq.heappush(open_spans, (spans[at][2], spans[at][1]))
            at += 1
        while open_spans and open_spans[0][1] < edge:
            heapq.heappop(open_spans)
        first = open_spans[0][0] if open_spans else none
        if not firsts or firsts[-1] != first:
            starts.append(edge)
            firsts.append(first)
    return PortMap(tuple(starts), tuple(firsts))


#: The ports of one target, by transport (index :data:`~outgate.core.policy.rules.TCP` or UDP; 0 is not used).
_Bucket = tuple[PortMap, PortMap, PortMap]
Buckets = tuple[_Bucket, ...]


def _bucket(entries: Sequence[_Entry], none: int) -> _Bucket:
    tcp = [(number, rule.ports) for number, rule in entries if rule.transports & TCP]
    udp = [(number, rule.ports) for number, rule in entries if rule.transports & UDP]
    tcp_map = port_map(tcp, none)
    return tcp_map, tcp_map, tcp_map if tcp == udp else port_map(udp, none)


class RuleIndex:
    """An ordered list of rules that can be asked which of them matches first.

    :param rules: in the order of evaluation.
    :param way: :data:`PERMIT` or :data:`REFUSE`.
    """

    __slots__ = ("_by_class", "_by_name", "_by_network", "_by_suffix", "_refuses", "rules")

    def __init__(self, rules: Iterable[Rule], way: str) -> None:
        self.rules = tuple(rules)
        self._refuses = way == REFUSE
        none = len(self.rules)
        by_class: dict[int, list[_Entry]] = {}
        by_network: dict[int, dict[int, dict[int, list[_Entry]]]] = {4: {}, 6: {}}
        by_name: tuple[dict[str, list[_Entry]], dict[str, list[_Entry]]] = {}, {}
        for number, rule in enumerate(self.rules):
            if rule.pattern is not None:
                by_name[rule.pattern.is_suffix].setdefault(rule.pattern.name, []).append((number, rule))
            if rule.classes:
                by_class.setdefault(rule.classes, []).append((number, rule))
            for version, value, length in set(rule.networks):
                shift = BITS[version] - length
                by_network[version].setdefault(shift, {}).setdefault(value >> shift, []).append((number, rule))
        self._by_class = tuple((classes, _bucket(entries, none)) for classes, entries in by_class.items())
        self._by_network = {
            version: tuple(
                (shift, {prefix: _bucket(entries, none) for prefix, entries in networks.items()})
                for shift, networks in sorted(tables.items())
            )
            for version, tables in by_network.items()
        }
        self._by_name, self._by_suffix = (
            {name: _bucket(entries, none) for name, entries in table.items()} for table in by_name
        )

    @property
    def has_names(self) -> bool:
        """Whether any of the rules is by name."""
        return bool(self._by_name or self._by_suffix)

    def naming(self, name: str) -> Buckets:
        """Return the port maps of every pattern that a canonical name matches; they go with those of an address."""
        found = [self._by_name[name]] if name in self._by_name else []
        if self._by_suffix:
            found += [self._by_suffix[parent] for parent in parents(name) if parent in self._by_suffix]
        return tuple(found)

    def matching(self, judged: Judged) -> Buckets:
        """Return the port maps of every target that the address is part of: the half of the work that can be kept."""
        if not self.rules:
            return ()
        mask = judged.mask
        if self._refuses:
            found = self.refusing(mask)
            keys = judged.all_keys
        else:
            found = [bucket for classes, bucket in self._by_class if not mask & ~classes]
            keys = judged.target_keys
        for version, value in keys:
            for shift, networks in self._by_network[version]:
                bucket = networks.get(value >> shift)
                if bucket is not None:
                    found.append(bucket)
        return tuple(found)

    def refusing(self, classes: int) -> list[_Bucket]:
        """Return the port maps of every rule of classes that has one of these."""
        return [bucket for mask, bucket in self._by_class if mask & classes]

    def first(self, buckets: Sequence[_Bucket], transport: int, port: int) -> Rule | None:
        """Return the first rule that matches, or ``None``.

        :param buckets: what :meth:`matching` returned for the address, :meth:`naming` for a name, or both.
        :param transport: :data:`outgate.core.policy.rules.TCP` or :data:`~outgate.core.policy.rules.UDP`.
        """
        if not buckets:
            return None
        best = none = len(self.rules)
        for bucket in buckets:
            starts, firsts = bucket[transport]
            number = firsts[bisect_right(starts, port) - 1]
            if number < best:
                best = number
        return None if best == none else self.rules[best]


def turning_ports(buckets: Buckets, transport: int) -> set[int]:
    """Return every port at which the answer of :meth:`RuleIndex.first` for these buckets may change."""
    return set().union(*(bucket[transport].starts for bucket in buckets))
