"""Find, among many rules, one that matches whatever another rule matches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from outgate.core.address.address_table import OWN
from outgate.core.address.addresses import BELOW_OWN, BITS, CLASS_BIT, Network, NetworkSet, range_class
from outgate.core.name.names import Pattern, parents
from outgate.core.policy.rules import Rule

__all__ = ["Cover", "classes_of", "contains"]

#: Rules of one target that are compared with another rule, the broadest first. A lint may miss a warning; it must not
#: take minutes over a policy of ten thousand rules for one address.
_COMPARED: Final = 32


def contains(outer: Network, inner: Network) -> bool:
    """Say whether a network has every address of another."""
    version, value, length = outer
    shift = BITS[version] - length
    return version == inner[0] and length <= inner[2] and value >> shift == inner[1] >> shift


def classes_of(rule: Rule, own: NetworkSet) -> int:
    """Return, as bits, every address class that a rule of addresses reaches into."""
    mask = rule.classes
    for network in rule.networks:
        classes = range_class(network)
        if own.covers(network):
            classes = classes & ~BELOW_OWN | (CLASS_BIT[OWN] if classes & BELOW_OWN else 0)
        elif own.touches(network):
            classes |= CLASS_BIT[OWN]
        mask |= classes
    return mask


class Cover:
    """A list of rules that can be asked which of them covers another rule whole."""

    def __init__(self, rules: Iterable[Rule], own: NetworkSet) -> None:
        self._own = own
        self._classes: list[Rule] = []
        self._networks: dict[Network, list[Rule]] = {}
        self._lengths: dict[int, set[int]] = {4: set(), 6: set()}
        self._names: dict[Pattern, list[Rule]] = {}
        for rule in sorted(rules, key=_breadth, reverse=True):
            if rule.classes:
                self._classes.append(rule)
            if rule.pattern is not None:
                self._names.setdefault(rule.pattern, []).append(rule)
            for network in set(rule.networks):
                self._networks.setdefault(network, []).append(rule)
                self._lengths[network[0]].add(network[2])
        self._by_mask = self._few_by_mask()

    def _few_by_mask(self) -> list[Rule]:
        """Return the broadest rules of each distinct set of classes."""
        kept: dict[int, list[Rule]] = {}
        for rule in self._classes:
            same = kept.setdefault(rule.classes, [])
            if len(same) < _COMPARED:
                same.append(rule)
        return [rule for same in kept.values() for rule in same]

    def of(self, rule: Rule, *, union: bool = False, reaches: int = 0) -> Rule | None:
        """Return a rule other than this one that matches whatever it matches, or ``None``.

        :param union: several rules of classes may do it together; then the first of them is named.
        :param reaches: for a rule by name, the classes of the addresses it may be about; 0 to compare names alone.
        """
        if not rule.classes and not rule.networks and rule.pattern is None:
            return None
        if rule.pattern is not None:
            for other in self._naming(rule.pattern):
                if other is not rule and other.covers_ports(rule):
                    return other
            if not reaches:
                return None
        wanted = reaches or classes_of(rule, self._own)
        together, first = 0, None
        for other in self._by_mask:
            if other is rule or not other.covers_ports(rule):
                continue
            if not wanted & ~other.classes:
                return other
            if other.classes & wanted:
                together |= other.classes
                first = first or other
        if union and first is not None and not wanted & ~together:
            return first
        if not rule.networks:
            return None
        covers = [set(map(id, self._around(network, rule))) for network in rule.networks]
        common = set.intersection(*covers)
        for other in self._around(rule.networks[0], rule):
            if id(other) in common:
                return other
        return None

    def _naming(self, pattern: Pattern) -> Iterator[Rule]:
        """Go through the rules whose pattern has every name of this one."""
        yield from self._names.get(pattern, ())[:_COMPARED]
        for parent in parents(pattern.name):
            yield from self._names.get(Pattern(parent, True), ())[:_COMPARED]

    def _around(self, network: Network, rule: Rule) -> Iterator[Rule]:
        """Go through the rules of networks that contain this one and have all ports of the rule."""
        version, value, length = network
        for outer in sorted(self._lengths[version]):
            if outer > length:
                return
            shift = BITS[version] - outer
            around = self._networks.get((version, value >> shift << shift, outer), ())
            for other in around[:_COMPARED]:
                if other is not rule and other.covers_ports(rule):
                    yield other


def _breadth(rule: Rule) -> tuple[int, int]:
    return rule.transports.bit_count(), sum(high - low + 1 for low, high in rule.ports)
