"""Make a policy of what was observed: rules that permit what was seen and no more than was asked for, and their TOML.

A rule names one host and its ports. A name stands for its addresses where a name can permit them; what a built-in
denial stands before goes to ``except``, by address where no name lifts it (DESIGN, 5). What was refused is written as
comments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final, NamedTuple

from outgate.core.address import addresses
from outgate.core.address.address_table import OWN
from outgate.core.learn.observations import AppSeen, Evidence, Observations, Target
from outgate.core.name import names
from outgate.core.policy.decide import DENY, Ask, Policy, decide
from outgate.core.policy.rules import writable

__all__ = ["Entry", "Learned", "Wishes", "learn", "learn_all", "to_toml"]

#: Characters of a text of the log that a comment shows, and texts of one kind.
_SHOWN_LENGTH: Final = 60
_SHOWN: Final = 3


class Wishes(NamedTuple):
    """How wide the rules may be; without one they are as narrow as what was seen.

    :ivar suffixes: canonical names; what is below one is permitted as ``*.NAME``.
    :ivar prefixes: 4 or 6 → prefix length; an address without a name is permitted with its network.
    :ivar include_denied: permit what was refused as well.
    :ivar limit_lookups: write ``names = [...]``, so that no other name is looked up.
    """

    suffixes: tuple[str, ...] = ()
    prefixes: Mapping[int, int] = {}
    include_denied: bool = False
    limit_lookups: bool = False


NO_WISHES: Final = Wishes()


class Entry(NamedTuple):
    """One rule and why it is there.

    :ivar list: ``allow`` or ``except``.
    :ivar rule: its text; ``""`` where no rule can say it.
    :ivar host: name, suffix, address or network that it is about.
    :ivar permitted: whether it is part of the policy, or a comment.
    :ivar remark: what a reader should notice, as the class of an address; ``""`` for nothing.
    """

    list: str
    rule: str
    host: str
    permitted: bool
    remark: str
    evidence: Evidence


class Learned(NamedTuple):
    """The policy of one app.

    :ivar entries: first those of ``allow``, then those of ``except``; in each what is permitted comes first.
    :ivar names: what look-ups are limited to beside the names in rules; ``None`` for no limit.
    :ivar destinations: how many different ones are permitted; ``reported`` of them the policy in force would deny.
    :ivar refused: how many different ones were refused and stay so.
    """

    app: str
    uids: tuple[int, ...]
    entries: tuple[Entry, ...]
    names: tuple[str, ...] | None
    lookups: tuple[tuple[str, Evidence], ...]
    destinations: int
    reported: int
    refused: int

    def rules(self, key: str) -> list[str]:
        """Return the rules of ``allow`` or ``except``."""
        return [entry.rule for entry in self.entries if entry.permitted and entry.list == key]


def learn_all(seen: Observations, wishes: Wishes = NO_WISHES) -> list[Learned]:
    """Return the policy of every app, in the order of their names."""
    return [learn(name, app, wishes) for name, app in sorted(seen.apps.items())]


def learn(name: str, seen: AppSeen, wishes: Wishes = NO_WISHES) -> Learned:
    """Return the policy of one app."""
    permitted: dict[Target, Evidence] = {}
    refused: dict[Target, Evidence] = {}
    for target, evidence in seen.targets.items():
        is_refused = evidence.verdict == DENY and not wishes.include_denied
        (refused if is_refused or not _can_be_written(target) else permitted)[target] = evidence
    wide: dict[Target, Evidence] = {}
    for target, evidence in permitted.items():
        wide.setdefault(_widened(target, evidence, wishes), Evidence()).merge(evidence)
    for target in [each for each in wide if each.list == "allow"]:
        exception = wide.get(target._replace(list="except"))
        if exception is not None:  # comes before every denial, and so permits the rest as well
            exception.merge(wide.pop(target))
    entries = list(_entries(wide, True))
    covered = _covered(refused, entries)
    for rule in sorted(set(covered.values())):
        below = {target: refused.pop(target) for target in covered if covered[target] == rule}
        remark = f'refused once, and permitted now by "{rule}"'
        entries += (entry._replace(remark=remark) for entry in _entries(below, False))
    entries += _entries(refused, False)
    entries.sort(key=lambda entry: (entry.list, not entry.permitted))
    return Learned(
        app=name,
        uids=tuple(sorted(seen.uids)),
        entries=tuple(entries),
        names=_names(wide) if wishes.limit_lookups else None,
        lookups=tuple(sorted(seen.lookups.items())),
        destinations=len(permitted),
        reported=sum(evidence.verdict == "report" for evidence in permitted.values()),
        refused=len(refused) + len(seen.lookups),
    )


def _can_be_written(target: Target) -> bool:
    return not target.is_name or bool(writable(target.host))


def _widened(target: Target, evidence: Evidence, wishes: Wishes) -> Target:
    """Return the destination with the suffix or network in place of its host that somebody asked for."""
    if target.is_name:
        above = [each for each in wishes.suffixes if names.Pattern(each, True).matches(target.host)]
        return target._replace(host=f"*.{max(above, key=len)}") if above else target
    version = addresses.parse_address(target.host)[0]
    length = wishes.prefixes.get(version)
    if length is None:
        return target
    text = str(ip_network(f"{target.host}/{length}", strict=False))
    if target.list == "except":
        # An exception lifts a denial for all of the network, so it must not hold addresses of another class.
        classes = addresses.range_class(addresses.parse_network(text))
        if classes & classes - 1 or OWN in evidence.classes.kept or evidence.classes.more:
            return target
    return target._replace(host=text)


def _entries(targets: Mapping[Target, Evidence], permitted: bool) -> Iterator[Entry]:
    """Give one rule for each host and set of ports."""
    hosts: dict[tuple[str, bool, str], dict[str, dict[int, Evidence]]] = {}
    for target, found in targets.items():
        of_host = hosts.setdefault((target.list, target.is_name, target.host), {"tcp": {}, "udp": {}})
        of_host[target.transport][target.port] = found
    for key, by_transport in sorted(hosts.items(), key=lambda item: _order(*item[0])):
        tcp, udp = by_transport["tcp"], by_transport["udp"]
        both = tcp.keys() & udp.keys()
        list_, is_name, host = key
        for scheme, ports in (("", both), ("tcp://", tcp.keys() - both), ("udp://", udp.keys() - both)):
            if not ports:
                continue
            evidence = Evidence()
            for side in (tcp, udp):
                for port in sorted(ports & side.keys()):
                    evidence.merge(side[port])
            remark = _remark(list_, ports, evidence)
            yield Entry(list_, _rule(scheme, host, is_name, ports), host, permitted, remark, evidence)


def _order(list_: str, is_name: bool, host: str) -> tuple[Any, ...]:
    return list_, not is_name, host if is_name else addresses.parse_network(host)


def _rule(scheme: str, host: str, is_name: bool, ports: Iterable[int]) -> str:
    if is_name and not host.startswith("*."):
        host = writable(host)  # a name that reads like a group has a dot at its end
        if not host:
            return ""
    return scheme + (f"[{host}]" if ":" in host else host) + f":{_port_list(sorted(ports))}"


def _port_list(ports: Sequence[int]) -> str:
    """Return ports as a rule has them.

    >>> _port_list([80, 443, 8000, 8001, 8002])
    '80,443,8000-8002'
    """
    parts = []
    start = 0
    for end in range(1, len(ports) + 1):
        if end == len(ports) or ports[end] != ports[end - 1] + 1:
            run = ports[start:end]
            parts.append(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)))
            start = end
    return ",".join(parts)


def _remark(key: str, ports: Iterable[int], evidence: Evidence) -> str:
    """Return what stands before a destination that is permitted only as an exception."""
    remarks = []
    if key == "except":
        classes = [name for name in evidence.classes.kept if name != "public"]
        if classes:
            remarks.append(" and ".join(classes))
        if 25 in ports:
            remarks.append("port 25")
    elif evidence.verdict == "report":
        remarks.append(f"would have been denied: {_shown(evidence.rule) or 'the log does not say why'}")
    return ", ".join(remarks)


def _covered(refused: Mapping[Target, Evidence], entries: Iterable[Entry]) -> dict[Target, str]:
    """Return what was refused and is permitted now all the same, by a wider rule, and the text of that rule.

    A comment must not claim that it stays refused.
    """
    if not refused:
        return {}
    rules: dict[str, list[str]] = {"allow": [], "except": []}
    for entry in entries:
        rules[entry.list].append(entry.rule)
    policy = Policy.build(allow=rules["allow"], except_=rules["except"])
    covered = {}
    for target, evidence in refused.items():
        for address in evidence.addresses.kept:
            name = target.host if target.is_name else None
            ask = Ask("", target.transport, name or address, address, target.port, name=name)  # type: ignore[arg-type]
            decision = decide(policy, ask)
            if not decision.denied:
                covered[target] = decision.rule
                break
    return covered


def _names(targets: Mapping[Target, Evidence]) -> tuple[str, ...]:
    """Return the names that may be looked up beside those of the rules, which open their own look-ups."""
    opened = names.NameSet(names.parse_pattern(target.host) for target in targets if target.is_name)
    asked = sorted({name for evidence in targets.values() for name in evidence.asked})
    return tuple(name for name in asked if name not in opened and _is_pattern(name))


def _is_pattern(name: str) -> bool:
    try:
        return names.parse_pattern(name).name == name
    except ValueError:  # as one that ends in a number
        return False


# --- the text ---------------------------------------------------------------------------------------------------------


def to_toml(policies: Sequence[Learned], head: Sequence[str] = (), *, with_comments: bool = True) -> str:
    """Return a configuration with these apps.

    :param head: lines of the comment at its beginning; may hold any text.
    :param with_comments: say of each rule where it comes from, and what was refused.
    """
    lines = [_comment(line) for line in head]
    lines += ["version = 1"]
    owners: dict[int, int] = {}
    for policy in policies:
        for uid in policy.uids:
            owners[uid] = owners.get(uid, 0) + 1
    for policy in policies:
        lines += _app(policy, {uid for uid, count in owners.items() if count > 1}, with_comments)
    return "\n".join(lines) + "\n"


def _app(policy: Learned, shared: set[int], with_comments: bool) -> Iterator[str]:
    name = policy.app if re.fullmatch(r"[a-z0-9_-]+", policy.app) else json.dumps(policy.app)
    yield ""
    yield f"[apps.{name}]"
    yield f"uid = {[uid for uid in policy.uids if uid not in shared]}"
    for uid in policy.uids:
        if uid in shared:
            yield _comment(f"uid {uid} was seen as several apps; it can be one")
    yield "billing = true"
    yield "trusted = true  # it was given sockets, and so had both"
    for key in ("allow", "except"):
        entries = [entry for entry in policy.entries if entry.list == key]
        if not with_comments:
            entries = [entry for entry in entries if entry.permitted]
        if not entries:
            if key == "allow":
                yield "allow = []"
            continue
        yield f"{key} = ["
        for entry in entries:
            if with_comments:
                yield f"    {_comment(_told(entry))}"
            if entry.rule:
                yield f"    {'' if entry.permitted else '# '}{json.dumps(entry.rule)},"
        yield "]"
    if policy.names is not None:
        yield "names = [" + ", ".join(map(json.dumps, policy.names)) + "]"
    if with_comments:
        for looked_up, evidence in policy.lookups:
            yield _comment(f"look-up refused: {looked_up}, {_evidence(evidence)}")


def _told(entry: Entry) -> str:
    """Return one line about a rule: what is particular about it, how often, when last, by which programs."""
    evidence = entry.evidence
    parts = [entry.remark] if entry.remark else []
    if entry.list == "except" and entry.host not in evidence.addresses.kept and evidence.addresses.kept:
        parts = [f"{entry.remark} ({_some(list(evidence.addresses.kept), evidence.addresses.more)})"]
    if not entry.permitted and not entry.remark.startswith("refused"):
        parts.insert(0, f"refused, {_shown(evidence.rule) or 'the log does not say why'}")
    if not entry.rule:
        parts.insert(0, f"no rule can name {_shown(entry.host)}")
    if evidence.asked:
        parts.append("asked for as " + _some(list(evidence.asked), False))
    parts.append(_evidence(evidence))
    if evidence.ended and not evidence.connected:
        parts.append("never established")
    return "; ".join(parts)


def _evidence(evidence: Evidence) -> str:
    parts = ["once" if evidence.count == 1 else f"{evidence.count} times"]
    if evidence.last:
        parts.append(f"last {evidence.last.partition('.')[0]}Z")
    if evidence.programs.kept:
        parts.append("by " + _some(list(evidence.programs.kept), evidence.programs.more))
    return ", ".join(parts)


def _some(texts: Sequence[str], more: bool) -> str:
    """Return the first of some texts that stand in a log."""
    return ", ".join(map(_shown, texts[:_SHOWN])) + (" and others" if more or len(texts) > _SHOWN else "")


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"


def _comment(text: str) -> str:
    """Return a comment that stays one, whatever it is made of: a line's end would end it, and TOML has no controls."""
    return "# " + "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
