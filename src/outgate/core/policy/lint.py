"""Warn at load about rules that do nothing, do more than they seem to, or say something else than was meant.

What cannot be used at all is a :class:`~outgate.errors.ConfigError` when the policy is built; what is found here works
and is probably not what its author wants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Final

from outgate.core.address import address_table
from outgate.core.address.address_table import CLASSES, LINK_LOCAL, LOOPBACK, METADATA, MULTICAST, PUBLIC, SHARED
from outgate.core.address.addresses import CLASS_BIT, NON_PUBLIC, parse_network
from outgate.core.policy import lint_names
from outgate.core.policy.cover import Cover, contains
from outgate.core.policy.lists import BUILT_IN, Policy
from outgate.core.policy.rules import ALL_PORTS, Rule
from outgate.core.policy.warning import LintWarning, warn

__all__ = ["LintWarning", "lint"]

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


def lint(policy: Policy) -> list[LintWarning]:
    """Return what is probably not meant in a policy, in the order of its lists: allow, deny, except, names."""
    enforced = [rule for rule in policy.deny if rule.mode == "enforce"]
    reported = [rule for rule in policy.deny if rule.mode == "report"]
    denied = Cover(enforced, policy.own)
    found: list[LintWarning] = []
    for rule in policy.allow:
        found += _odd_texts(rule)
        found += _dead_allow(rule, denied, policy)
        found += lint_names.allow_names(rule)
        if rule.is_any or any(length == 0 for _, _, length in rule.networks):
            found.append(warn(rule, "allows no more than public addresses: denials come first", 'write "public"'))
    # With names, a rule by name opens its look-up too, which one about addresses does not.
    found += _redundant(policy.allow, policy, reaches=0 if policy.names is not None else lint_names.ALLOWED_CLASSES)
    for rule in policy.deny:
        if rule.place != BUILT_IN:
            found += _odd_texts(rule)
    found += lint_names.deny_names(policy, enforced)
    found += _redundant(enforced, policy)
    found += _redundant(reported, policy, beside=denied)
    broad = lint_names.broad_denial(policy)
    for rule in policy.except_:
        found += _odd_texts(rule)
        if rule.place not in (BUILT_IN, "--dev"):
            found += _wide_except(rule)
            found += lint_names.except_names(rule, broad)
    found += _redundant(policy.except_, policy)
    limits = lint_names.limiting(policy)
    found += lint_names.look_ups(policy, limits)
    found += _redundant(limits, policy)
    return found


def _odd_texts(rule: Rule) -> Iterator[LintWarning]:
    """Find what one rule says that its author may not have meant."""
    yield from lint_names.odd_name(rule)
    if not rule.classes and not rule.networks and rule.pattern is None:
        yield warn(rule, "matches nothing: the group is empty", "add addresses to the group, or drop the rule")
    if rule.ports != ALL_PORTS and rule.ports[0][0] == 0:
        yield warn(rule, "names port 0, which nothing listens on", "leave the ports out for all of them")
    bare = rule.text.rpartition("://")[2]
    if not bare.startswith("[") and bare.count(":") > 1:
        if bare.rpartition(":")[2] in _LIKELY_PORTS:
            head, _, port = bare.rpartition(":")
            yield warn(rule, "is one IPv6 address and no port", f'with a port it is "[{head}]:{port}"')
        if rule.networks and rule.networks[0][0] == 4:
            yield warn(rule, "is IPv4 in an IPv6 spelling", "it is read as the IPv4 block it maps; write that")


def _dead_allow(rule: Rule, denied: Cover, policy: Policy) -> Iterator[LintWarning]:
    """Find an allow that a denial always comes before."""
    is_named = rule.pattern is not None
    denial = lint_names.dead_name(rule, denied, policy) if is_named else denied.of(rule, union=True)
    if denial is not None:
        yield warn(
            rule,
            f'can never match: "{denial.text}" ({denial.place}) denies all of it first',
            f'to permit it: except = ["{rule.text}"]',
        )


def _redundant(
    rules: Sequence[Rule], policy: Policy, beside: Cover | None = None, reaches: int = 0
) -> Iterator[LintWarning]:
    """Find rules that another one of the list makes useless: the same again, or a broader one.

    :param reaches: the address classes that a rule by name can decide about, 0 where none about addresses replaces it.
    """
    cover = Cover(rules, policy.own)
    order = {id(rule): number for number, rule in enumerate(rules)}
    for rule in rules:
        if rule.place in (BUILT_IN, "default", "--dev"):
            continue
        other = cover.of(rule, reaches=reaches) or (beside.of(rule) if beside else None)
        if other is None:
            continue
        if _same(rule, other):
            if id(other) in order and order[id(other)] > order[id(rule)]:
                continue  # said once, at the later of the two
            yield warn(rule, f'says the same as "{other.text}" ({other.place})', "drop one of them")
        else:
            yield warn(rule, f'adds nothing to "{other.text}" ({other.place})', "drop it, or narrow the other")


def _same(one: Rule, other: Rule) -> bool:
    return (one.transports, one.classes, set(one.networks), one.pattern, one.ports) == (
        other.transports,
        other.classes,
        set(other.networks),
        other.pattern,
        other.ports,
    )


def _wide_except(rule: Rule) -> Iterator[LintWarning]:
    """Find an exception that lifts more than its author may think."""
    narrower = "name the addresses and ports that are needed, as in 10.2.0.0/16:5432"
    if rule.classes & NON_PUBLIC == NON_PUBLIC:
        hint = narrower
        if rule.is_any and rule.ports != ALL_PORTS:
            hint = f'for public addresses alone write "{rule.text.replace("*", "public", 1)}"'
        yield warn(rule, "lifts every denial, of loopback and of metadata services too", hint)
    elif rule.classes == CLASS_BIT[PUBLIC]:
        if rule.ports == ALL_PORTS:
            yield warn(rule, "lifts port 25 and every deny rule for all public addresses", narrower)
    elif rule.classes and rule.ports == ALL_PORTS:
        names = ", ".join(name for name in CLASSES if rule.classes & CLASS_BIT[name])
        yield warn(rule, f"lifts the denial of a whole group: {names}", narrower)
    for network in rule.networks:
        version, _, length = network
        metadata = [row for inner, row in _METADATA if inner != network and contains(network, inner)]
        if length < _BROAD[version]:
            yield warn(rule, "is a very broad exception, which lifts private and local ranges in it too", narrower)
        elif rule.ports == ALL_PORTS:
            for whole, row in _WHOLE:
                if contains(network, whole):
                    yield warn(rule, f"lifts the denial of a whole group: {row.address_class}", narrower)
        if metadata:
            addresses = ", ".join(row.network.partition("/")[0] for row in metadata)
            yield warn(rule, f"lifts the denial of metadata services: {addresses}", narrower)
