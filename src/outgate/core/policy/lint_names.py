"""Warn about rules by name, and about names that limit look-ups, that do nothing or something else than was meant."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from outgate.core.address.address_table import PUBLIC
from outgate.core.address.addresses import CLASS_BIT
from outgate.core.name import suffixes
from outgate.core.name.names import Pattern
from outgate.core.policy.cover import Cover
from outgate.core.policy.lists import Policy
from outgate.core.policy.rules import ALL_PORTS, TCP, UDP, Rule
from outgate.core.policy.warning import LintWarning, warn

__all__ = [
    "ALLOWED_CLASSES",
    "allow_names",
    "broad_denial",
    "dead_name",
    "deny_names",
    "except_names",
    "limiting",
    "look_ups",
    "odd_name",
]

#: The classes of the addresses that an ``allow`` by name can come to decide about: denials have all others before it.
ALLOWED_CLASSES: Final = CLASS_BIT[PUBLIC]
_ONE_LABEL_MORE: Final = 'name at least one label more, as in "*.example.{name}"'


def odd_name(rule: Rule) -> Iterator[LintWarning]:
    """Find a name in more than one script: the reader sees one name, and the look-up is for another."""
    if rule.pattern is None or rule.text.isascii():
        return
    for label in rule.text.split("."):
        scripts = _scripts(label)
        if len(scripts) > 1:
            together = " and ".join(sorted(scripts))
            yield warn(rule, f"mixes {together} letters, and means {rule.pattern}", "write that, if it is the one")
            return


def _scripts(label: str) -> set[str]:
    """Return the scripts of the letters of a label, those that are written together as one."""
    found = {unicodedata.name(letter, "UNKNOWN").partition(" ")[0] for letter in label if letter.isalpha()}
    if found & {"HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL"} and found <= _EAST_ASIAN:
        return {"EAST ASIAN"}
    return found


_EAST_ASIAN: Final = {"HIRAGANA", "KATAKANA", "CJK", "HANGUL", "BOPOMOFO", "LATIN", "IDEOGRAPHIC"}


def allow_names(rule: Rule) -> Iterator[LintWarning]:
    """Find an allow for names that anybody can have."""
    if _is_anybodys(rule.pattern):
        assert rule.pattern is not None, "nothing is nobody's"
        text = f"allows every name that anybody has below {rule.pattern.name}"
        yield warn(rule, text, _ONE_LABEL_MORE.format(name=rule.pattern.name))


def _is_anybodys(pattern: Pattern | None) -> bool:
    return pattern is not None and pattern.is_suffix and suffixes.is_public(pattern.name)


def dead_name(rule: Rule, denied: Cover, policy: Policy) -> Rule | None:
    """Return the denial that an allow by name never gets past: of the name, or of its ports for every address."""
    by_name = denied.of(rule)
    if by_name is not None:
        return by_name
    first: Rule | None = None
    for transport in (TCP, UDP):
        if not rule.transports & transport:
            continue
        ports = {low for low, _ in rule.ports}
        ports |= {port for port in policy.reach.turns[transport] for low, high in rule.ports if low <= port <= high}
        for port in sorted(ports):
            denial = policy.reach.denial(transport, port)
            if denial is None:
                return None
            first = first or denial
    return first


def deny_names(policy: Policy, rules: Sequence[Rule]) -> Iterator[LintWarning]:
    """Find denials by name that people will take for blocks of addresses, and those an exception lifts whole."""
    named = [rule for rule in rules if rule.pattern is not None]
    lifting = Cover((rule for rule in policy.except_ if rule.pattern is not None), policy.own)
    for rule in named:
        lifted = lifting.of(rule)
        if lifted is not None:
            yield warn(
                rule,
                f'can never match: "{lifted.text}" ({lifted.place}) lifts all of it first',
                "drop it, or narrow the exception",
            )
    opener = _opener(policy)
    if named and opener is not None:
        more = f" (as {len(named) - 1} more by name)" if len(named) > 1 else ""
        yield warn(
            named[0],
            f'denies the name and not its addresses{more}, which "{opener.text}" ({opener.place}) could allow',
            "deny the addresses too, or have names alone in allow",
        )


def _opener(policy: Policy) -> Rule | None:
    """Return a rule about addresses that keeps look-ups open, preferably an allow."""
    for transport in (TCP, UDP):
        for port in (443, *sorted(policy.reach.turns[transport])):
            rule = policy.reach.opener(transport, port)
            if rule is not None:
                return rule
    return None


def broad_denial(policy: Policy) -> Rule | None:
    """Return a denial that exceptions by name are hardly meant to lift: of addresses that are public otherwise.

    Denials of ports are lifted on purpose, and lifting what is not public is what exceptions are for.
    """
    for rule in policy.deny:
        if rule.mode == "enforce" and rule.ports == ALL_PORTS and (rule.networks or rule.classes & CLASS_BIT[PUBLIC]):
            return rule
    return None


def except_names(rule: Rule, denial: Rule | None) -> Iterator[LintWarning]:
    """Find an exception by name that lifts more than its author may think.

    :param denial: the policy's :func:`broad_denial`.
    """
    if rule.pattern is None:
        return
    if _is_anybodys(rule.pattern):
        text = f"lifts denials for every name that anybody has below {rule.pattern.name}"
        yield warn(rule, text, _ONE_LABEL_MORE.format(name=rule.pattern.name))
    elif rule.pattern.is_suffix and rule.ports == ALL_PORTS:
        yield warn(
            rule,
            f"lifts, for every name below {rule.pattern.name}, the denials of private addresses and of port 25",
            f"name the ports that are needed, as in {rule.text}:443",
        )
    if denial is not None:
        yield warn(
            rule,
            f'also lifts "{denial.text}" ({denial.place}) wherever the name leads there',
            "where the name leads to public addresses, allow it instead: an allow lifts nothing",
        )


def look_ups(policy: Policy, limits: Sequence[Rule]) -> Iterator[LintWarning]:
    """Find look-ups that are more open than the rules look, and ``names`` that limit or open nothing.

    :param limits: what :func:`limiting` returned.
    """
    opener = _opener(policy)
    if policy.names is None:
        by_name_alone = bool(policy.allow) and all(rule.pattern is not None for rule in policy.allow)
        if by_name_alone and opener is not None and opener.place != "--dev":
            yield warn(
                opener,
                "keeps look-ups of every name open, as it is about addresses, though allow has names alone",
                "names = [] limits look-ups to the names of allow and except",
            )
        return
    denied = Cover((rule for rule in policy.deny if rule.mode == "enforce" and rule.pattern is not None), policy.own)
    for rule in limits:
        never = denied.of(rule)
        if never is not None:
            yield warn(rule, f'is never looked up: "{never.text}" ({never.place}) denies it', "drop it")
        elif opener is None:
            yield warn(
                rule,
                "opens nothing: no rule about addresses could allow what it leads to",
                f'rules by name open their own look-ups; to connect there, allow = ["{rule.text}"]',
            )
        elif _is_anybodys(rule.pattern):
            assert rule.pattern is not None, "nothing is nobody's"
            name = rule.pattern.name
            yield warn(
                rule,
                f"lets programs tell whoever has a name below {name} what they know, by asking for it",
                _ONE_LABEL_MORE.format(name=name),
            )


def limiting(policy: Policy) -> tuple[Rule, ...]:
    """Return the policy's ``names`` as rules for every port, to compare them like rules."""
    return tuple(
        Rule(str(pattern), f"{policy.place}.names[{index}]", TCP | UDP, 0, (), ALL_PORTS, "enforce", pattern)
        for index, pattern in enumerate(policy.names or ())
    )
