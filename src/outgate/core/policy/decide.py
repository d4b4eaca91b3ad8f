"""Decide whether an app may reach a destination, and say which rule decides.

Three lists, evaluated ``except`` → ``deny`` → ``allow``; the first hit decides and is named, whether it is a rule about
the address or about the name. The built-in denials come first in ``deny`` and only ``except`` takes away from them. A
``deny`` rule in report mode is looked at last, so that it can never hide one that is enforced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from outgate.core.address.addresses import Address, Judged
from outgate.core.policy.decision import (
    ALLOW,
    DENY,
    NO_FACTS,
    NO_RULE,
    REPORT,
    Decision,
    Verdict,
    kind_of,
    permit,
    what,
)
from outgate.core.policy.lists import BUILT_IN_DENIALS, Located, Matches, Policy, Unkept
from outgate.core.policy.matching import turning_ports
from outgate.core.policy.rules import MAX_PORT, TRANSPORT_BIT, Rule

__all__ = [
    "ALLOW",
    "BUILT_IN_DENIALS",
    "DENY",
    "REPORT",
    "Ask",
    "Decision",
    "Policy",
    "could_allow",
    "could_resolve",
    "decide",
    "lets_through",
]

Transport = Literal["tcp", "udp"]

#: Decisions a policy remembers, at half a kilobyte each. A program asks the same of few destinations.
_REMEMBERED = 1024


class Ask(NamedTuple):
    """One question: may this app connect there?

    :ivar host: what the program asked for, as it wrote it.
    :ivar address: the address that would be dialled.
    :ivar name: the canonical name that was given to connect, if one was: it is judged as that name, by every rule.
    :ivar scope: the interface of a link-local address. It is carried along; no rule looks at it.
    :ivar bound: canonical names that the app's own look-ups bound to this address, where it connects by address. Only
        ``allow`` and ``except`` rules by name apply to them: a denied name must not poison the neighbours on a CDN.
    """

    app: str
    transport: Transport
    host: str
    address: Address
    port: int
    name: str | None = None
    scope: int = 0
    bound: tuple[str, ...] = ()


def decide(policy: Policy, ask: Ask) -> Decision:
    """Return the decision on one connect. Raises ``ValueError`` for an address or a transport that is none."""
    decision: Decision | None = policy.decided.get(ask)
    if decision is None:
        decision = _decide(policy, ask)
        if len(policy.decided) >= _REMEMBERED:
            policy.decided.clear()  # a scan; what a program connects to all the time is soon there again
        policy.decided[ask] = decision
    return decision


def lets_through(policy: Policy, ask: Ask) -> bool:
    """Tell whether :func:`decide` would allow a connect without a word, for who asks of thousands once each.

    Nothing is said and nothing of the decision is kept, which is most of what a new one costs.
    """
    if ask.name or ask.bound:
        return _weigh(policy, ask)[1] == ALLOW
    return _evaluate(policy, Unkept(policy, ask.address), _bit(ask.transport), ask.port)[0] == ALLOW


def _bit(transport: str) -> int:
    bit = TRANSPORT_BIT.get(transport)
    if bit is None:
        raise ValueError(f"transport {transport!r} is neither tcp nor udp")
    return bit


def _weigh(policy: Policy, ask: Ask) -> tuple[Located, Verdict, Rule | None]:
    """Return what is known of the address, the verdict, and the rule that decides."""
    transport = _bit(ask.transport)
    if ask.name:
        located = policy.meet(ask.address, ask.name)
    elif ask.bound:
        located = policy.meet_bound(ask.address, ask.bound)
    else:
        located = policy.locate(ask.address)
    return located, *_evaluate(policy, located.matches, transport, ask.port)


def _decide(policy: Policy, ask: Ask) -> Decision:
    (judged, _), verdict, rule = _weigh(policy, ask)
    bound = ask.bound
    name = ask.name or (bound[0] if bound else "")
    if bound and not ask.name and rule is not None and rule.pattern is not None:
        name = next(each for each in bound if rule.pattern.matches(each))
    said = what(judged, name or ask.host)
    if verdict == ALLOW and rule is not None:
        return _allowed(policy, rule, judged, said, name)
    text, hint = permit(judged, name, ask.transport, ask.port, policy.groups, in_except=rule is not None)
    facts = {
        "app": ask.app,
        "host": f"[{ask.host}]" if ":" in ask.host else ask.host,
        "port": ask.port,
        "transport": ask.transport,
        "what": said,
        "rule": rule.text if rule else NO_RULE,
        "permit": text,
        "hint": hint,
    }
    code = "policy-denied" if rule else "policy-no-rule"
    return _refusal(policy, verdict, rule, judged.address_class, said, code, facts, name)


def could_allow(
    policy: Policy,
    transport: Transport | None,
    address: Address,
    *,
    host: str = "",
    name: str | None = None,
    port: int | None = None,
) -> Decision:
    """Return whether some port of an address could be connected to: the decision on an answer to a look-up.

    :param transport: ``None`` for any.
    :param host: what was looked up, for the sentence. The refusal is the row ``policy-name``.
    :param name: the same in canonical form, where it is a name: rules by name apply.
    :param port: what the program will probably ask for; it is put into the cure, and decides nothing.
    """
    judged, matches = policy.meet(address, name) if name else policy.locate(address)
    bits = TRANSPORT_BIT.values() if transport is None else (TRANSPORT_BIT[transport],)
    first: tuple[Verdict, Rule | None] | None = None
    reported: tuple[Verdict, Rule | None] | None = None
    for bit in bits:
        # 443 first: where a rule decides for the whole address it does so there as well, and most look-ups end here.
        for tried in (443, *sorted(_turning_ports(matches, bit))):
            verdict, rule = _evaluate(policy, matches, bit, tried)
            if verdict == ALLOW and rule is not None:
                return _allowed(policy, rule, judged, judged.what, name or "")
            if verdict == REPORT and reported is None:
                reported = verdict, rule
            first = first or (verdict, rule)
    assert first is not None, "there is at least one transport"
    verdict, rule = reported or first
    said = what(judged, name or host)
    text, hint = permit(judged, name or "", transport or "tcp", port, policy.groups, in_except=rule is not None)
    facts = {
        "app": policy.app,
        "host": host or name or judged.text,
        "what": said,
        "rule": rule.text if rule else NO_RULE,
        "permit": text,
        "hint": hint,
    }
    code = "policy-name" if rule else "policy-name-no-rule"
    return _refusal(policy, verdict, rule, judged.address_class, said, code, facts, name or "")


def could_resolve(policy: Policy, name: str, transport: Transport | None = None, port: int | None = None) -> Decision:
    """Return whether a name may be looked up: the decision before anybody is asked, which could leak what was asked.

    It may if some rule could allow a connect to what it leads to: a rule by name, or one about addresses (see
    :class:`~outgate.core.policy.reach.Reach`) where the policy's ``names`` do not leave the name out. A name that is
    denied may not, unless an exception by name comes before; which address an exception lifts is not known yet.

    :param name: canonical.
    :param transport: ``None`` for any; with a port it is a connect by name.
    :param port: ``None`` for any.
    """
    matches = policy.naming(name)
    limited = policy.limits is not None and name not in policy.limits
    worst: tuple[int, Rule | None] = -1, None
    reported: Rule | None = None
    for bit in TRANSPORT_BIT.values() if transport is None else (TRANSPORT_BIT[transport],):
        ports = (443, *sorted(policy.reach.turns[bit] | _turning_ports(matches, bit))) if port is None else (port,)
        for tried in ports:
            rank, rule = _open(policy, matches, limited, bit, tried)
            if rank == _OPEN:
                report = policy.reports.first(matches.reports, bit, tried)
                if report is None:
                    assert rule is not None, "a rule opens it"
                    return _allowed(policy, rule, None, "", name)
                reported = reported or report
            elif rank > worst[0]:
                worst = rank, rule
    if reported is not None:
        worst = _BY_RULE, reported
    return _closed(policy, name, transport, port, *worst, REPORT if reported or policy.mode == "report" else DENY)


#: Why a name may not be looked up, the more telling the higher, and that it may.
_PORT_DENIED, _NO_PERMIT, _LIMITED, _BY_RULE, _OPEN = range(5)


def _open(policy: Policy, matches: Matches, limited: bool, transport: int, port: int) -> tuple[int, Rule | None]:
    """Return why a name may or may not be looked up for one port, and the rule that says so if there is one."""
    rule = policy.permits.first(matches.permits, transport, port)
    if rule is not None:
        return _OPEN, rule
    rule = policy.refusals.first(matches.refusals, transport, port)
    if rule is not None:
        return _BY_RULE, rule
    rule = policy.allows.first(matches.allows, transport, port)
    denial = policy.reach.denial(transport, port)
    if rule is not None and denial is None:
        return _OPEN, rule
    opener = policy.reach.opener(transport, port)
    if opener is not None and (rule is not None or not limited):
        return _OPEN, opener
    if rule is not None:
        return _BY_RULE, denial
    if opener is not None and denial is None:
        return _LIMITED, None
    return (_NO_PERMIT, None) if denial is None else (_PORT_DENIED, denial)


def _closed(
    policy: Policy,
    name: str,
    transport: Transport | None,
    port: int | None,
    rank: int,
    rule: Rule | None,
    verdict: Verdict,
) -> Decision:
    """Return the refusal to look a name up: as one of a connect where the port is known."""
    said = f"{name} is not looked up"
    text, hint = permit(None, name, transport or "tcp", port, policy.groups, in_except=rule is not None)
    facts: dict[str, Any] = {
        "app": policy.app,
        "host": name,
        "rule": rule.text if rule else NO_RULE,
        "permit": text,
        "hint": hint,
    }
    if rank == _LIMITED:
        code = "policy-names"
    elif transport is not None and port is not None:
        code = "policy-denied" if rule else "policy-no-rule"
        facts |= {"port": port, "transport": transport, "what": said}
    else:
        code = "policy-name-denied" if rule else "policy-name-no-rule"
    refusal = _refusal(policy, verdict, rule, "", said, code, facts, name)
    return refusal._replace(rule="names", kind="names") if rank == _LIMITED else refusal


def _turning_ports(matches: Matches, transport: int) -> set[int]:
    ports = set().union(*(turning_ports(buckets, transport) for buckets in matches))
    ports.discard(MAX_PORT + 1)  # the end of a rule for all ports
    return ports


def _evaluate(policy: Policy, matches: Matches | Unkept, transport: int, port: int) -> tuple[Verdict, Rule | None]:
    """Go through the lists: except, deny, allow, and what is only reported last."""
    rule = policy.permits.first(matches.permits, transport, port)
    if rule is not None:
        return ALLOW, rule
    against: Verdict = REPORT if policy.mode == "report" else DENY
    rule = policy.refusals.first(matches.refusals, transport, port)
    if rule is not None:
        return against, rule
    allowing = policy.allows.first(matches.allows, transport, port)
    if allowing is None:
        return against, None
    rule = policy.reports.first(matches.reports, transport, port)
    return (ALLOW, allowing) if rule is None else (REPORT, rule)


def _allowed(policy: Policy, rule: Rule, judged: Judged | None, said: str, name: str) -> Decision:
    address_class = "" if judged is None else judged.address_class
    return Decision(ALLOW, rule.text, rule.place, address_class, said, policy.number, "", NO_FACTS, name, kind_of(rule))


def _refusal(
    policy: Policy,
    verdict: Verdict,
    rule: Rule | None,
    address_class: str,
    said: str,
    code: str,
    facts: Mapping[str, Any],
    name: str,
) -> Decision:
    text, place = (rule.text, rule.place) if rule else (NO_RULE, "")
    kind = kind_of(rule)
    return Decision(verdict, text, place, address_class, said, policy.number, code, facts, name, kind)
