"""Hold the rules of one app: three lists read from their texts, indexed so that a decision is quick."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Callable, Final, NamedTuple

from outgate.core.address import addresses
from outgate.core.address.addresses import Address, Judged, NetworkSet
from outgate.core.name import suffixes
from outgate.core.name.names import NameSet, Pattern
from outgate.core.policy.decision import LIFTABLE
from outgate.core.policy.matching import PERMIT, REFUSE, Buckets, RuleIndex
from outgate.core.policy.reach import Reach
from outgate.core.policy.rules import (
    Entry,
    Mode,
    Rule,
    config_error,
    parse_entry,
    parse_groups,
    parse_names,
    parse_rule,
)

__all__ = ["BUILT_IN", "BUILT_IN_DENIALS", "NO_MATCHES", "Located", "Matches", "Policy", "Unkept"]

#: The place of rules that nobody wrote.
BUILT_IN: Final = "built-in"
#: What every policy denies (DESIGN: private and own ranges; port 25, as App Engine did, for both transports).
BUILT_IN_DENIALS: Final = ("non-public", "own", "*:25")
DEFAULT_ALLOW: Final = ("public",)
#: What ``outgate run --dev`` lifts.
DEV_EXCEPT: Final = ("loopback",)

#: Addresses, and names, a policy remembers the rules of. A program talks to few; a scanner must not fill the memory.
_REMEMBERED: Final = 4096


class Matches(NamedTuple):
    """For each of the four lists, the port maps of the rules that concern one address, or one name."""

    permits: Buckets
    refusals: Buckets
    allows: Buckets
    reports: Buckets


class Located(NamedTuple):
    """One address and the rules that concern it."""

    judged: Judged
    matches: Matches


#: What concerns a name that no rule is about.
NO_MATCHES: Final = Matches((), (), (), ())


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one app, ready to decide. Made by :meth:`build`.

    :ivar deny: the built-in denials and then the app's own.
    :ivar mode: ``report`` lets everything through and names what would have been denied.
    :ivar own: the operator's ranges and the host's own addresses.
    :ivar number: counts up with every reload.
    :ivar names: the patterns that limit look-ups; ``None`` where nothing does.
    :ivar exact_names: names, without suffixes, that an ``allow`` or ``except`` rule permits: worth looking up again
        when an address that none is bound to is asked for.
    :ivar has_name_permits: whether any ``allow`` or ``except`` rule is by name.
    :ivar groups: names of the operator's groups.
    :ivar place: where its lists were written, as in ``apps.blog``.
    :ivar digest: of all that it was made of, but its number: two with the same one decide alike.
    """

    app: str
    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]
    except_: tuple[Rule, ...]
    mode: Mode
    own: NetworkSet
    number: int
    dev: bool
    names: tuple[Pattern, ...] | None
    exact_names: tuple[str, ...]
    has_name_permits: bool
    groups: frozenset[str]
    place: str
    digest: bytes = field(repr=False, compare=False)
    permits: RuleIndex = field(repr=False, compare=False)
    refusals: RuleIndex = field(repr=False, compare=False)
    allows: RuleIndex = field(repr=False, compare=False)
    reports: RuleIndex = field(repr=False, compare=False)
    #: Judge an address with this policy's ``own`` and find the rules that concern it; remembers the last few thousand.
    locate: Callable[[Address], Located] = field(repr=False, compare=False)
    #: Find the rules that concern a canonical name (:data:`NO_MATCHES` for none); remembers as many.
    naming: Callable[[str], Matches] = field(repr=False, compare=False)
    #: Do both, for an address that a name given to connect leads to, and for one that an app's look-ups bound to names.
    meet: Callable[[Address, str], Located] = field(repr=False, compare=False)
    meet_bound: Callable[[Address, tuple[str, ...]], Located] = field(repr=False, compare=False)
    reach: Reach = field(repr=False, compare=False)
    limits: NameSet | None = field(repr=False, compare=False)
    #: Question → decision, as far as they are remembered; each policy, and so each number of one, begins anew.
    decided: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        names: Sequence[str] | None = None,
        built_in: Sequence[str] = BUILT_IN_DENIALS,
        exempt: Sequence[str] = (),
    ) -> Policy:
        """Make a policy of rule texts.

        :param allow: default ``["public"]``; an empty list allows nothing.
        :param deny: entries may be tables, ``{"rule": "10.0.0.0/8", "mode": "report"}``.
        :param own: ranges and addresses of class ``own``: the host's, and the operator's beside ``groups["own"]``.
        :param groups: the operator's groups, name → addresses and CIDRs.
        :param dev: the policy of ``outgate run --dev``: loopback may be connected to.
        :param place: prefix of the places in errors and decisions; default ``apps.`` and the app.
        :param names: patterns of the names that may be looked up, beside those of ``allow`` and ``except`` rules.
        :param built_in: denials that come before the app's own; none for what only ever narrows another policy.
        :param exempt: exceptions that come before the app's own.
        :raises ConfigError: for the first entry that is no rule, with its place and a hint.
        """
        place = place or f"apps.{app}"
        if mode not in ("enforce", "report"):
            raise config_error(f"{place}.mode", f"{mode!r} is not known", 'it is "enforce" or "report"')
        known = parse_groups(groups or {})
        own_texts = (*own, *(groups or {}).get("own", ()))
        try:
            own_set = _network_set(own_texts)
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
        always = tuple(parse_rule(text, BUILT_IN, known) for text in built_in)
        deny_rules = always + rules("deny", deny, may_report=True)
        except_rules = tuple(parse_rule(text, BUILT_IN, known) for text in exempt) + rules("except", except_)
        for rule in except_rules:
            _refuse_anybody(rule)
        if dev:
            except_rules = tuple(parse_rule(text, "--dev") for text in DEV_EXCEPT) + except_rules

        permits = RuleIndex(except_rules, PERMIT)
        refusals = RuleIndex((rule for rule in deny_rules if rule.mode == "enforce"), REFUSE)
        allows = RuleIndex(allow_rules, PERMIT)
        reports = RuleIndex((rule for rule in deny_rules if rule.mode == "report"), REFUSE)

        indexes = (permits, refusals, allows, reports)
        limiting = None if names is None else parse_names(names, f"{place}.names")
        patterns = [rule.pattern for rule in (*allow_rules, *except_rules) if rule.pattern is not None]

        @lru_cache(maxsize=_REMEMBERED)
        def locate(address: Address) -> Located:
            judged = _judge(address, own_set)
            return Located(judged, Matches(*(index.matching(judged) for index in indexes)))

        @lru_cache(maxsize=_REMEMBERED)
        def naming(name: str) -> Matches:
            found = Matches(*(index.naming(name) for index in indexes))
            return found if any(found) else NO_MATCHES

        @lru_cache(maxsize=_REMEMBERED)
        def meet(address: Address, name: str) -> Located:
            return _join(locate(address), naming(name))

        @lru_cache(maxsize=_REMEMBERED)
        def meet_bound(address: Address, names: tuple[str, ...]) -> Located:
            found = [naming(name) for name in names]
            permits = tuple(bucket for each in found for bucket in each.permits)
            return _join(locate(address), Matches(permits, (), tuple(b for each in found for b in each.allows), ()))

        has_names = any(index.has_names for index in indexes)  # without, there is nothing to remember of names
        return cls(
            app=app,
            allow=allow_rules,
            deny=deny_rules,
            except_=except_rules,
            mode=mode,
            own=own_set,
            number=number,
            dev=dev,
            names=limiting,
            exact_names=tuple(dict.fromkeys(pattern.name for pattern in patterns if not pattern.is_suffix)),
            has_name_permits=bool(patterns),
            groups=frozenset(known),
            place=place,
            digest=_digest(app, allow, deny, except_, mode, own_texts, groups, dev, place, names, built_in, exempt),
            permits=permits,
            refusals=refusals,
            allows=allows,
            reports=reports,
            locate=locate,
            naming=naming if has_names else lambda name: NO_MATCHES,
            meet=meet if has_names else lambda address, name: locate(address),
            meet_bound=meet_bound if has_names else lambda address, names: locate(address),
            reach=Reach(permits, refusals, allows, own_set),
            limits=None if limiting is None else NameSet(limiting),
        )


#: What an address is follows from it and from ``own``, whoever asks; so a policy that is read again finds it known, as
#: long as it has the same set.
_judge = lru_cache(maxsize=_REMEMBERED)(addresses.judge)
_network_set = lru_cache(maxsize=8)(NetworkSet)


def _digest(*texts: object) -> bytes:
    """Return a digest of what a policy is made of: strings, numbers, and lists and tables of them."""
    return hashlib.blake2b(repr(texts).encode(errors="surrogatepass"), digest_size=16).digest()


class Unkept:
    """The rules that concern an address, each list looked through when it is asked for, and nothing remembered.

    For who asks once about more addresses than a policy remembers.
    """

    __slots__ = ("_judged", "_policy")

    def __init__(self, policy: Policy, address: Address) -> None:
        self._policy = policy
        self._judged = addresses.judge(address, policy.own)

    @property
    def permits(self) -> Buckets:
        """As of :class:`Matches`, and so are the others."""
        return self._policy.permits.matching(self._judged)

    @property
    def refusals(self) -> Buckets:
        """As above."""
        return self._policy.refusals.matching(self._judged)

    @property
    def allows(self) -> Buckets:
        """As above."""
        return self._policy.allows.matching(self._judged)

    @property
    def reports(self) -> Buckets:
        """As above."""
        return self._policy.reports.matching(self._judged)


def _join(located: Located, by_name: Matches) -> Located:
    """Put the rules about an address and those about its name together, for one look in the order of each list."""
    judged, matches = located
    if by_name is NO_MATCHES:
        return located
    lifts = by_name.permits if not judged.mask & ~LIFTABLE else ()
    return Located(
        judged,
        Matches(
            matches.permits + lifts,
            matches.refusals + by_name.refusals,
            matches.allows + by_name.allows,
            matches.reports + by_name.reports,
        ),
    )


def _refuse_anybody(rule: Rule) -> None:
    """Refuse an exception for a suffix under which anybody can have a name, and point it at private addresses."""
    if rule.pattern is not None and rule.pattern.is_suffix and suffixes.is_top(rule.pattern.name):
        name = rule.pattern.name
        raise config_error(
            rule.place,
            f'"{rule.text}": anybody can register a name below {name}, and have it lead to a private address',
            f'name at least one label more, as in "{rule.text.replace("*.", "*.example.", 1)}"',
        )
