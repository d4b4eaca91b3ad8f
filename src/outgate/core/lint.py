"""Warn at load about rules that do nothing, do more than they seem to, or say something else than was meant.

What cannot be used at all is a :class:`~outgate.errors.ConfigError` when the policy is built; what is found here works
and is probably not what its author wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network
from typing import Final, NamedTuple

from outgate.core import address_table
from outgate.core.address_table import CLASSES, LINK_LOCAL, LOOPBACK, METADATA, MULTICAST, OWN, PUBLIC, SHARED
from outgate.core.addresses import BELOW_OWN, BITS, CLASS_BIT, NON_PUBLIC, Network, parse_network, range_class
from outgate.core.policy import BUILT_IN_DENIALS, Policy
from outgate.core.rules import ALL_PORTS, Rule

__all__ = ["LintWarning", "lint"]

#: Rules of one target that are compared with another rule, the broadest first. A lint may miss a warning; it must not
#: take minutes over a policy of ten thousand rules for one address.
_COMPARED: Final = 32
#: An except below these prefix lengths lifts more than one organisation's network.
_BROAD: Final = {4: 8, 6: 16}
#: Ranges that are one address class as a whole.
_WHOLE: Final = tuple(
    (parse_network(row.network), row)
    for row in address_table.TABLE
    if row.address_class in (LOOPBACK, LINK_LOCAL, SHARED, MULTICAST) and ip_network(row.network).num_addresses > 1
)
_METADATA: Final = tuple(
    (parse_network(row.network), row) for row in address_table.TABLE if row.address_class == METADATA
)
#: Last groups of an IPv6 address that were probably meant as a port.
_LIKELY_PORTS: Final = frozenset(
    map(str, (22, 25, 53, 80, 110, 143, 443, 465, 563, 587, 853, 993, 995, 3306, 5432, 6379, 8080, 8443))
)


class LintWarning(NamedTuple):
    """One finding: where, what, and what to write instead."""

    place: str
    text: str
    hint: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" + (f"; {self.hint}" if self.hint else "")


def lint(policy: Policy) -> list[LintWarning]:
    """Return what is probably not meant in a policy, in the order of its lists: allow, deny, except."""
    enforced = [rule for rule in policy.deny if rule.mode == "enforce"]
    reported = [rule for rule in policy.deny if rule.mode == "report"]
    denied = _Cover(enforced, policy)
    found: list[LintWarning] = []
    for rule in policy.allow:
        found += _odd_texts(rule)
        found += _dead_allow(rule, denied)
        if rule.is_any or any(length == 0 for _, _, length in rule.networks):
            found.append(_warn(rule, "allows no more than public addresses: denials come first", 'write "public"'))
    found += _redundant(policy.allow, policy)
    for rule in policy.deny[len(BUILT_IN_DENIALS) :]:
        found += _odd_texts(rule)
    found += _redundant(enforced, policy)
    found += _redundant(reported, policy, beside=denied)
    for rule in policy.except_:
        found += _odd_texts(rule)
        if rule.place != "--dev":
            found += _wide_except(rule)
    found += _redundant(policy.except_, policy)
    return found


def _warn(rule: Rule, text: str, hint: str = "") -> LintWarning:
    return LintWarning(rule.place, f'"{rule.text}" {text}', hint)


def _odd_texts(rule: Rule) -> Iterator[LintWarning]:
    """Find what one rule says that its author may not have meant."""
    if not rule.classes and not rule.networks:
        yield _warn(rule, "matches nothing: the group is empty", "add addresses to the group, or drop the rule")
    if rule.ports != ALL_PORTS and rule.ports[0][0] == 0:
        yield _warn(rule, "names port 0, which nothing listens on", "leave the ports out for all of them")
    bare = rule.text.rpartition("://")[2]
    if not bare.startswith("[") and bare.count(":") > 1:
        if bare.rpartition(":")[2] in _LIKELY_PORTS:
            head, _, port = bare.rpartition(":")
            yield _warn(rule, "is one IPv6 address and no port", f'with a port it is "[{head}]:{port}"')
        if rule.networks and rule.networks[0][0] == 4:
            yield _warn(rule, "is IPv4 in an IPv6 spelling", "it is read as the IPv4 block it maps; write that")


def _dead_allow(rule: Rule, denied: _Cover) -> Iterator[LintWarning]:
    """Find an allow that a denial always comes before."""
    denial = denied.of(rule, union=True)
    if denial is not None:
        yield _warn(
            rule,
            f'can never match: "{denial.text}" ({denial.place}) denies all of it first',
            f'to permit it: except = ["{rule.text}"]',
        )


def _redundant(rules: Sequence[Rule], policy: Policy, beside: _Cover | None = None) -> Iterator[LintWarning]:
    """Find rules that another one of the list makes useless: the same again, or a broader one."""
    cover = _Cover(rules, policy)
    order = {id(rule): number for number, rule in enumerate(rules)}
    for rule in rules:
        if rule.place in ("built-in", "default", "--dev"):
            continue
        other = cover.of(rule) or (beside.of(rule) if beside else None)
        if other is None:
            continue
        if _same(rule, other):
            if id(other) in order and order[id(other)] > order[id(rule)]:
                continue  # said once, at the later of the two
            yield _warn(rule, f'says the same as "{other.text}" ({other.place})', "drop one of them")
        else:
            yield _warn(rule, f'adds nothing to "{other.text}" ({other.place})', "drop it, or narrow the other")


def _same(one: Rule, other: Rule) -> bool:
    return (one.transports, one.classes, set(one.networks), one.ports) == (
        other.transports,
        other.classes,
        set(other.networks),
        other.ports,
    )


def _wide_except(rule: Rule) -> Iterator[LintWarning]:
    """Find an exception that lifts more than its author may think."""
    narrower = "name the addresses and ports that are needed, as in 10.2.0.0/16:5432"
    if rule.classes & NON_PUBLIC == NON_PUBLIC:
        hint = narrower
        if rule.is_any and rule.ports != ALL_PORTS:
            hint = f'for public addresses alone write "{rule.text.replace("*", "public", 1)}"'
        yield _warn(rule, "lifts every denial, of loopback and of metadata services too", hint)
    elif rule.classes == CLASS_BIT[PUBLIC]:
        if rule.ports == ALL_PORTS:
            yield _warn(rule, "lifts port 25 and every deny rule for all public addresses", narrower)
    elif rule.classes and rule.ports == ALL_PORTS:
        names = ", ".join(name for name in CLASSES if rule.classes & CLASS_BIT[name])
        yield _warn(rule, f"lifts the denial of a whole group: {names}", narrower)
    for network in rule.networks:
        version, _, length = network
        metadata = [row for inner, row in _METADATA if inner != network and _contains(network, inner)]
        if length < _BROAD[version]:
            yield _warn(rule, "is a very broad exception, which lifts private and local ranges in it too", narrower)
        elif rule.ports == ALL_PORTS:
            for whole, row in _WHOLE:
                if _contains(network, whole):
                    yield _warn(rule, f"lifts the denial of a whole group: {row.address_class}", narrower)
        if metadata:
            addresses = ", ".join(row.network.partition("/")[0] for row in metadata)
            yield _warn(rule, f"lifts the denial of metadata services: {addresses}", narrower)


def _contains(outer: Network, inner: Network) -> bool:
    version, value, length = outer
    shift = BITS[version] - length
    return version == inner[0] and length <= inner[2] and value >> shift == inner[1] >> shift


class _Cover:
    """A list of rules that can be asked which of them covers another rule whole."""

    def __init__(self, rules: Iterable[Rule], policy: Policy) -> None:
        self._own = policy.own
        self._classes: list[Rule] = []
        self._networks: dict[Network, list[Rule]] = {}
        self._lengths: dict[int, set[int]] = {4: set(), 6: set()}
        for rule in sorted(rules, key=_breadth, reverse=True):
            if rule.classes:
                self._classes.append(rule)
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

    def of(self, rule: Rule, *, union: bool = False) -> Rule | None:
        """Return a rule other than this one that matches whatever it matches, or ``None``.

        :param union: several rules of classes may do it together; then the first of them is named.
        """
        if not rule.classes and not rule.networks:
            return None
        wanted = rule.classes or self._classes_of(rule.networks)
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
        if rule.classes:
            return None
        covers = [set(map(id, self._around(network, rule))) for network in rule.networks]
        common = set.intersection(*covers)
        for other in self._around(rule.networks[0], rule):
            if id(other) in common:
                return other
        return None

    def _classes_of(self, networks: Iterable[Network]) -> int:
        mask = 0
        for network in networks:
            classes = range_class(network)
            if self._own.covers(network):
                classes = classes & ~BELOW_OWN | (CLASS_BIT[OWN] if classes & BELOW_OWN else 0)
            elif self._own.touches(network):
                classes |= CLASS_BIT[OWN]
            mask |= classes
        return mask

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
