"""Decide whether an app may reach a destination, and say which rule decides.

Three lists, evaluated ``except`` → ``deny`` → ``allow``; the first hit decides and is named. The built-in denials come
first in ``deny`` and only ``except`` takes away from them. A ``deny`` rule in report mode is looked at last, so that
it can never hide one that is enforced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Callable, Final, Literal, NamedTuple

from outgate import errors
from outgate.core import addresses
from outgate.core.addresses import Address, Judged, NetworkSet
from outgate.core.matching import PERMIT, REFUSE, Buckets, RuleIndex, turning_ports
from outgate.core.rules import (
    MAX_PORT,
    TRANSPORT_BIT,
    Entry,
    Mode,
    Rule,
    config_error,
    parse_entry,
    parse_groups,
    parse_rule,
)

__all__ = ["ALLOW", "DENY", "REPORT", "Ask", "Decision", "Policy", "could_allow", "decide"]

Verdict = Literal["allow", "report", "deny"]
ALLOW: Final = "allow"
#: Denied by the rules, let through by ``mode = "report"``.
REPORT: Final = "report"
DENY: Final = "deny"

#: What every policy denies (DESIGN: private and own ranges; port 25, as App Engine did, for both transports).
BUILT_IN_DENIALS: Final = ("non-public", "own", "*:25")
DEFAULT_ALLOW: Final = ("public",)
#: What ``outgate run --dev`` lifts.
DEV_EXCEPT: Final = ("loopback",)

#: What stands for a rule where none of the app's allows a destination that nothing denies.
NO_RULE: Final = "no rule allows it"

#: Addresses a policy remembers the judgement of. A program talks to few; a scanner must not fill the memory.
_REMEMBERED: Final = 4096
_NO_FACTS: Final[Mapping[str, Any]] = {}


class Ask(NamedTuple):
    """One question: may this app connect there?

    :ivar host: what the program asked for, as it wrote it.
    :ivar address: the address that would be dialled.
    :ivar name: the name it was resolved from, if it was.
    :ivar scope: the interface of a link-local address. It is carried along; no rule looks at it.
    """

    app: str
    transport: Literal["tcp", "udp"]
    host: str
    address: Address
    port: int
    name: str | None = None
    scope: int = 0


class Decision(NamedTuple):
    """What was decided, by which rule, why, and what would permit it.

    :ivar rule: text of the rule that decided; :data:`NO_RULE` where none allowed it.
    :ivar place: where that rule was written, ``""`` where there is none.
    :ivar address_class: of the address, embedded ones included.
    :ivar what: the address in words, as in ``db.corp is 10.0.0.5 (private)``.
    :ivar code: row of :data:`outgate.errors.TABLE`; ``""`` on ``allow``.
    :ivar facts: what that row's sentence is made of.
    :ivar policy: number of the policy that decided.
    """

    verdict: Verdict
    rule: str
    place: str
    address_class: str
    what: str
    policy: int
    code: str = ""
    facts: Mapping[str, Any] = _NO_FACTS

    @property
    def denied(self) -> bool:
        """Whether the connect must be refused. A report is let through."""
        return self.verdict == DENY

    @property
    def reason(self) -> str:
        """One sentence that says why, also where it is let through in report mode; ``""`` on ``allow``."""
        return errors.describe(self.code, self.facts)[0] if self.code else ""

    @property
    def cure(self) -> str | None:
        """What would permit it, as a line for the configuration; ``None`` on ``allow``."""
        return errors.describe(self.code, self.facts)[1] if self.code else None

    @property
    def permit(self) -> str:
        """Text of a rule that would permit it; ``""`` on ``allow``."""
        return str(self.facts.get("permit", ""))


class Located(NamedTuple):
    """One address and, for each of the four lists, the port maps of the rules that concern it."""

    judged: Judged
    permits: Buckets
    refusals: Buckets
    allows: Buckets
    reports: Buckets


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one app, ready to decide. Made by :meth:`build`.

    :ivar deny: the built-in denials and then the app's own.
    :ivar mode: ``report`` lets everything through and names what would have been denied.
    :ivar own: the operator's ranges and the host's own addresses.
    :ivar number: counts up with every reload.
    """

    app: str
    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]
    except_: tuple[Rule, ...]
    mode: Mode
    own: NetworkSet
    number: int
    dev: bool
    permits: RuleIndex = field(repr=False, compare=False)
    refusals: RuleIndex = field(repr=False, compare=False)
    allows: RuleIndex = field(repr=False, compare=False)
    reports: RuleIndex = field(repr=False, compare=False)
    #: Judge an address with this policy's ``own`` and find the rules that concern it; remembers the last few thousand.
    locate: Callable[[Address], Located] = field(repr=False, compare=False)

    @classmethod
    def build(
        cls,
        app: str = "default",
        *,
        allow: Sequence[Entry] | None = None,
        deny: Sequence[Entry] = (),
        except_: Sequence[Entry] = (),
        mode: Mode = "enforce",
        own: Iterable[str] = (),
        groups: Mapping[str, Sequence[str]] | None = None,
        number: int = 1,
        dev: bool = False,
        place: str = "",
    ) -> Policy:
        """Make a policy of rule texts.

        :param allow: default ``["public"]``; an empty list allows nothing.
        :param deny: entries may be tables, ``{"rule": "10.0.0.0/8", "mode": "report"}``.
        :param own: ranges and addresses of class ``own``: the host's, and the operator's beside ``groups["own"]``.
        :param groups: the operator's groups, name → addresses and CIDRs.
        :param dev: the policy of ``outgate run --dev``: loopback may be connected to.
        :param place: prefix of the places in errors and decisions; default ``apps.`` and the app.
        :raises ConfigError: for the first entry that is no rule, with its place and a hint.
        """
        place = place or f"apps.{app}"
        if mode not in ("enforce", "report"):
            raise config_error(f"{place}.mode", f"{mode!r} is not known", 'it is "enforce" or "report"')
        known = parse_groups(groups or {})
        own_texts = (*own, *(groups or {}).get("own", ()))
        try:
            own_set = NetworkSet(own_texts)
        except ValueError as error:
            raise config_error("own", str(error)) from None
        known.pop("own", None)  # as a rule it is the address class

        def rules(key: str, entries: Sequence[Entry], may_report: bool = False) -> tuple[Rule, ...]:
            if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
                raise config_error(f"{place}.{key}", "rules are a list", f'write {key} = ["…"]')
            return tuple(
                parse_entry(entry, f"{place}.{key}[{index}]", known, may_report=may_report)
                for index, entry in enumerate(entries)
            )

        allow_rules = (
            tuple(parse_rule(text, "default") for text in DEFAULT_ALLOW) if allow is None else rules("allow", allow)
        )
        built_in = tuple(parse_rule(text, "built-in") for text in BUILT_IN_DENIALS)
        deny_rules = built_in + rules("deny", deny, may_report=True)
        except_rules = rules("except", except_)
        if dev:
            except_rules = tuple(parse_rule(text, "--dev") for text in DEV_EXCEPT) + except_rules

        permits = RuleIndex(except_rules, PERMIT)
        refusals = RuleIndex((rule for rule in deny_rules if rule.mode == "enforce"), REFUSE)
        allows = RuleIndex(allow_rules, PERMIT)
        reports = RuleIndex((rule for rule in deny_rules if rule.mode == "report"), REFUSE)

        @lru_cache(maxsize=_REMEMBERED)
        def locate(address: Address) -> Located:
            judged = addresses.judge(address, own_set)
            return Located(judged, *(index.matching(judged) for index in (permits, refusals, allows, reports)))

        return cls(
            app,
            allow_rules,
            deny_rules,
            except_rules,
            mode,
            own_set,
            number,
            dev,
            permits,
            refusals,
            allows,
            reports,
            locate,
        )


def decide(policy: Policy, ask: Ask) -> Decision:
    """Return the decision on one connect. Raises ``ValueError`` for an address or a transport that is none."""
    transport = TRANSPORT_BIT.get(ask.transport)
    if transport is None:
        raise ValueError(f"transport {ask.transport!r} is neither tcp nor udp")
    located = policy.locate(ask.address)
    verdict, rule = _evaluate(policy, located, transport, ask.port)
    judged = located.judged
    what = _what(judged, ask.name or ask.host)
    if verdict == ALLOW and rule is not None:
        return Decision(ALLOW, rule.text, rule.place, judged.address_class, what, policy.number)
    facts = {
        "app": ask.app,
        "host": f"[{ask.host}]" if ":" in ask.host else ask.host,
        "port": ask.port,
        "transport": ask.transport,
        "what": what,
        "rule": rule.text if rule else NO_RULE,
        "permit": _permit(judged, ask.transport, ask.port),
    }
    return _refusal(policy, verdict, rule, judged, what, "policy-denied" if rule else "policy-no-rule", facts)


def could_allow(
    policy: Policy,
    transport: Literal["tcp", "udp"] | None,
    address: Address,
    *,
    host: str = "",
) -> Decision:
    """Return whether some port of an address could be connected to: the decision on an answer to a look-up.

    :param transport: ``None`` for any.
    :param host: the name that was looked up, for the sentence. The refusal is the row ``policy-name``.
    """
    located = policy.locate(address)
    judged = located.judged
    bits = TRANSPORT_BIT.values() if transport is None else (TRANSPORT_BIT[transport],)
    first: tuple[Verdict, Rule | None] | None = None
    reported: tuple[Verdict, Rule | None] | None = None
    for bit in bits:
        # 443 first: where a rule decides for the whole address it does so there as well, and most look-ups end here.
        for port in (443, *sorted(_turning_ports(located, bit))):
            verdict, rule = _evaluate(policy, located, bit, port)
            if verdict == ALLOW and rule is not None:
                return Decision(ALLOW, rule.text, rule.place, judged.address_class, judged.what, policy.number)
            if verdict == REPORT and reported is None:
                reported = verdict, rule
            first = first or (verdict, rule)
    assert first is not None, "there is at least one transport"
    verdict, rule = reported or first
    what = _what(judged, host)
    facts = {
        "app": policy.app,
        "host": host or judged.text,
        "what": what,
        "rule": rule.text if rule else NO_RULE,
        "permit": _permit(judged, transport or "tcp", None),
    }
    return _refusal(policy, verdict, rule, judged, what, "policy-name", facts)


def _turning_ports(located: Located, transport: int) -> set[int]:
    ports = set().union(*(turning_ports(buckets, transport) for buckets in located[1:]))
    ports.discard(MAX_PORT + 1)  # the end of a rule for all ports
    return ports


def _evaluate(policy: Policy, located: Located, transport: int, port: int) -> tuple[Verdict, Rule | None]:
    """Go through the lists: except, deny, allow, and what is only reported last."""
    _, permits, refusals, allows, reports = located
    rule = policy.permits.first(permits, transport, port)
    if rule is not None:
        return ALLOW, rule
    against: Verdict = REPORT if policy.mode == "report" else DENY
    rule = policy.refusals.first(refusals, transport, port)
    if rule is not None:
        return against, rule
    allowing = policy.allows.first(allows, transport, port)
    if allowing is None:
        return against, None
    rule = policy.reports.first(reports, transport, port)
    return (ALLOW, allowing) if rule is None else (REPORT, rule)


def _refusal(
    policy: Policy, verdict: Verdict, rule: Rule | None, judged: Judged, what: str, code: str, facts: Mapping[str, Any]
) -> Decision:
    text, place = (rule.text, rule.place) if rule else (NO_RULE, "")
    return Decision(verdict, text, place, judged.address_class, what, policy.number, code, facts)


def _what(judged: Judged, asked: str) -> str:
    """Return the address in words, with the name or the numeric spelling it came from."""
    if not asked or asked == judged.text or ":" in asked:  # IPv6 is written in many ways, but always as an address
        return judged.what
    return f"{asked} is {judged.apposition}"


def _permit(judged: Judged, transport: str, port: int | None) -> str:
    """Return the text of a rule that permits the address that is really dialled."""
    scheme = "udp://" if transport == "udp" else ""
    host = judged.target
    if ":" in host and (scheme or port is not None):
        host = f"[{host}]"
    return scheme + host + ("" if port is None else f":{port}")
