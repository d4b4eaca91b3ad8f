"""Decide for a process that has narrowed itself: what its app may do, and of that only what it has left itself.

A narrowing is a list of rules that a program gives up everything else for (``outgate.narrow``), as Casper's limits of
cap_net(3) on FreeBSD: it can be made at any time, again and again, and never taken back. The app's policy decides
first; what it allows is allowed if every narrowing allows it as well. So the order of narrowings is of no matter, one
that is repeated changes nothing, and a rule for what the app may not reach is pointless and does no harm.

Rules are those of :mod:`outgate.core.policy.rules`. There is no ``except``, and nothing is denied that no rule denies:
that is the app's policy to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from outgate.core.address.addresses import Address
from outgate.core.policy import decide as app_policy
from outgate.core.policy.decide import ALLOW, Ask, Decision, Policy, Transport
from outgate.core.policy.decision import NO_RULE

__all__ = [
    "CLOSED",
    "NOT_NARROWED",
    "Narrowed",
    "Narrowing",
    "build",
    "could_allow",
    "could_resolve",
    "decide",
    "refusal",
]

#: What a narrowing without an ``allow`` leaves: everything that no rule of its ``deny`` takes.
EVERYTHING: Final = ("*",)
_PLACE: Final = "narrow"


class Narrowing(NamedTuple):
    """What a program said.

    :ivar allow: the rules it leaves itself, ``None`` for everything.
    :ivar deny: the rules it gives up; they come before ``allow``.
    :ivar names: patterns of the names it may still look up beside those that ``allow`` names, ``None`` for any.
    """

    allow: tuple[str, ...] | None
    deny: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None


#: Leaves nothing: what stands for a narrowing that cannot be read any more.
CLOSED: Final = Narrowing(())


class Narrowed:
    """All that a process, and those that started it, have narrowed themselves to. Immutable.

    :ivar policies: what each narrowing says → the same as a policy.
    """

    __slots__ = ("policies",)

    def __init__(self, policies: Mapping[Narrowing, Policy]) -> None:
        self.policies = dict(policies)

    def __bool__(self) -> bool:
        return bool(self.policies)

    def __repr__(self) -> str:
        return f"<Narrowed {list(self.policies)}>"

    @property
    def has_name_permits(self) -> bool:
        """Whether any rule that leaves something is by name."""
        return any(policy.has_name_permits for policy in self.policies.values())

    def also(self, other: Narrowed) -> Narrowed:
        """Return what is left where both hold."""
        if other.policies.keys() <= self.policies.keys():
            return self
        return Narrowed(self.policies | other.policies)


NOT_NARROWED: Final = Narrowed({})


def build(
    app: str, narrowing: Narrowing, own: Iterable[str] = (), groups: Mapping[str, Sequence[str]] | None = None
) -> Policy:
    """Return a narrowing as a policy that decides.

    :param own: the host's own addresses, as for :meth:`Policy.build`; so are ``groups``.
    :raises ConfigError: for the first rule that is none, with its place (``narrow.allow[0]``) and a hint.
    """
    allow = EVERYTHING if narrowing.allow is None else narrowing.allow
    return Policy.build(
        app,
        allow=allow,
        deny=narrowing.deny,
        names=narrowing.names,
        own=own,
        groups=groups,
        place=_PLACE,
        built_in=(),
    )


def decide(policy: Policy, ask: Ask, narrowed: Narrowed = NOT_NARROWED) -> Decision:
    """Return the decision on one connect: the app's, or the refusal of the first narrowing that does not allow it.

    :raises ValueError: as :func:`outgate.core.policy.decide.decide`.
    """
    decision = app_policy.decide(policy, ask)
    if narrowed and not decision.denied:
        return refusal(ask, narrowed, policy.number) or decision
    return decision


def refusal(ask: Ask, narrowed: Narrowed, number: int) -> Decision | None:
    """Return the refusal of the first narrowing that does not allow a connect, or ``None``.

    :param number: of the app's policy, for the log.
    """
    for policy in narrowed.policies.values():
        decision = app_policy.decide(policy, ask)
        if decision.verdict != ALLOW:
            return _narrowed(decision, policy, number)
    return None


def could_allow(
    policy: Policy,
    transport: Transport | None,
    address: Address,
    narrowed: Narrowed = NOT_NARROWED,
    *,
    host: str = "",
    name: str | None = None,
    port: int | None = None,
) -> Decision:
    """Return whether some port of an address could be connected to; parameters as those of the app's alone.

    Where app and narrowing allow different ports it says yes, as what is connected to is judged by itself.
    """
    first = app_policy.could_allow(policy, transport, address, host=host, name=name, port=port)
    if not first.denied:
        for each in narrowed.policies.values():
            decision = app_policy.could_allow(each, transport, address, host=host, name=name, port=port)
            if decision.verdict != ALLOW:
                return _narrowed(decision, each, policy.number)
    return first


def could_resolve(
    policy: Policy,
    name: str,
    transport: Transport | None = None,
    port: int | None = None,
    narrowed: Narrowed = NOT_NARROWED,
) -> Decision:
    """Return whether a name may be looked up; parameters as those of the app's alone."""
    first = app_policy.could_resolve(policy, name, transport, port)
    if not first.denied:
        for each in narrowed.policies.values():
            decision = app_policy.could_resolve(each, name, transport, port)
            if decision.verdict != ALLOW:
                return _narrowed(decision, each, policy.number)
    return first


def _narrowed(decision: Decision, policy: Policy, number: int) -> Decision:
    """Return a refusal in the words of one that the program has made itself."""
    facts = dict(decision.facts)
    if decision.code == "policy-names":
        limit, change = "it is not among the names that it left itself", f'add "{decision.name}" to names'
    elif decision.rule == NO_RULE:
        limit, change = "none of the rules that it left itself allows it", f'add "{facts.get("permit", "")}" to allow'
    else:
        limit, change = f'rule "{decision.rule}" ({decision.place})', f'leave out "{decision.rule}"'
    facts |= {"limit": limit, "change": change, "app": policy.app}
    code = "narrowed" if decision.code in ("policy-denied", "policy-no-rule") else "narrowed-name"
    return decision._replace(code=code, facts=facts, place=decision.place or _PLACE, policy=number)
